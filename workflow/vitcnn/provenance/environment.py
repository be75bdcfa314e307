"""The packages that an output is computed with: the versions that `envs/lock.txt` pins, and those installed."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from vitcnn.errors import StudyError

LOCK = Path(__file__).parents[3] / "envs" / "lock.txt"

# Imports that check, display or transfer; no number in a result depends on them.
NOT_COMPUTING = frozenset({"filelock", "jsonschema", "kagglehub", "requests", "tqdm", "yaml"})
_WITHOUT_IMPORT = {"pandas": {"jinja2", "tabulate"}}  # pandas loads them for to_latex and to_markdown
_DISTRIBUTIONS = {"PIL": "pillow"}  # imports whose package has another name


def not_as_locked() -> list[str]:
    """Return which packages are installed at another version than the lock file's, in words."""
    pins, _ = _read_lock()
    shown = ("torch", "numpy", "pandas", "matplotlib", "pillow", "scipy")
    locked = {name: pins[name] for name in shown if name in pins}
    return [
        f"{name} {version} is installed, envs/lock.txt has {locked[name]}"
        for name, version in installed_otherwise(locked).items()
    ]


def installed_otherwise(locked: Mapping[str, str]) -> dict[str, str]:
    """Return those of the locked packages that are installed here at another version, with that version."""
    here = {name: installed_version(name) for name in locked}
    return {name: found for name, found in here.items() if found and found not in locked[name].split(", ")}


@cache
def installed_version(name: str) -> str | None:
    """Return the version of a package that is installed here, None for none."""
    with suppress(PackageNotFoundError):
        return version(name).partition("+")[0]
    return None


def refuse_unlocked(imports: Iterable[str], by: str) -> None:
    """Raise StudyError for an import that the lock file does not pin: a new version of it would change nothing."""
    pins, _ = _read_lock()
    for name in sorted(set(imports) - NOT_COMPUTING):
        if _distribution(name, pins) not in pins:
            raise StudyError(
                f"{by}: imports {name}, which envs/lock.txt does not pin, so results would stay as they are "
                "when its version changes; name it in pyproject.toml and make the lock anew (envs/README.md)"
            )


def locked_versions(imports: Iterable[str]) -> dict[str, str]:
    """Return name and version of the packages imported, and of all that the lock file says they need."""
    pins, needs = _read_lock()
    queue = [_distribution(name, pins) for name in set(imports) - NOT_COMPUTING]
    found: dict[str, str] = {}
    while queue:
        name = queue.pop()
        if name in pins and name not in found:
            found[name] = pins[name]
            queue += needs[name] | _WITHOUT_IMPORT.get(name, set())
    return dict(sorted(found.items()))


def _distribution(name: str, pins: Mapping[str, str]) -> str:
    """Return the package that an import is of: by its name, or as the packages say that are installed here."""
    same = _DISTRIBUTIONS.get(name, name.replace("_", "-"))
    if same in pins:
        return same
    return next(
        (found.lower() for found in packages_distributions().get(name, ()) if found.lower() in pins), same
    )


@cache
def _read_lock() -> tuple[dict[str, str], dict[str, set[str]]]:
    """Return each package's version (several where they differ by platform), and what each one needs."""
    pins: dict[str, str] = {}
    needs: dict[str, set[str]] = defaultdict(set)
    package = ""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if pin := re.match(r"([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", line):
            package = pin[1]
            pins[package] = f"{pins[package]}, {pin[2]}" if package in pins else pin[2]
        elif needed_by := re.match(r"\s+#\s+(?:via\s+)?([\w.-]+)$", line):
            needs[needed_by[1]].add(package)
    return pins, needs
