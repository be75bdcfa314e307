"""The record beside each output of what went into it, written by the job that made it.

A record holds the fingerprint (settings, digests of code, versions that the lock file pins), the packages that were
`imported` at another version, and the digests of inputs and outputs: nothing about the machine or the time, so the
same work leaves the same record. A job writes it twice: unfinished at its start, so that a partial output is never
taken for a complete one, and with its outputs at its end.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from vitcnn.data.sources import READERS
from vitcnn.errors import StudyError
from vitcnn.files import digest, file_digest, read_json, write_json, write_text
from vitcnn.interrupts import held_back
from vitcnn.models.registry import resolve_builder
from vitcnn.provenance.code import code_of
from vitcnn.provenance.environment import (
    installed_otherwise,
    installed_version,
    locked_versions,
    refuse_unlocked,
)

VERSION = 1


class JobFiles(NamedTuple):
    """What a job read and what it wrote; a script's main() returns it.

    `digests` are of large files, where the job knows them already; `scratch` is a folder that is removed
    once the record is complete.
    """

    read: list[Path]
    wrote: list[Path]
    digests: Mapping[Path, str] = MappingProxyType({})
    scratch: Path | None = None


def chosen(script: str, settings: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return what a job loads by names in its settings: modules, and a function of each."""
    if script in ("train", "describe_model", "measure_cost"):
        spec = settings["spec"]
        built = [spec, *(entry["spec"] for entry in settings.get("equal", ()))]
        used = tuple((resolve_builder(one["model"]["builder"]).module, "build") for one in built)
        if spec.get("recipe", {}).get("augmentation", {}).get("auto_augment", "none") != "none":
            used += (("vitcnn.data.policies", "apply_policy"),)
        return used
    if script == "corrupt_run":
        return ((resolve_builder(settings["spec"]["model"]["builder"]).module, "build"),)
    if script == "probe_run":
        model_file = resolve_builder(settings["spec"]["model"]["builder"]).module
        return tuple((model_file, name) for name in ("build", "named_layers", "cam_layer"))
    if script in ("draw_figure", "draw_representation"):
        return ((f"vitcnn.results.figures.{settings['figure']}", "draw"),)
    if script == "copy_dataset":
        return ((f"vitcnn.data.{READERS[settings['layout']]}", "is_root"),)
    if script == "validate_images":
        return ((f"vitcnn.data.{READERS[settings['layout']]}", "decode"),)
    return ()


def fingerprint(script: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fingerprint of a job as it is now: its settings, the digests of its code, its packages' versions."""
    used = chosen(script, settings)
    code = code_of(script, used)
    refuse_unlocked(code.packages, " or ".join([f"{script}.py", *(module for module, _ in used)]))
    return {
        "version": VERSION,
        "script": script,
        "settings": settings,
        "code": code.definitions,
        "environment": locked_versions(code.packages),
    }


@contextmanager
def recording(path: Path, script: str, settings: Mapping[str, Any]) -> Iterator[list[JobFiles]]:
    """Write a job's record to `path`: unfinished at first, complete once its files are in the yielded list.

    If the job fails, the former record is restored, or removed if there was none.
    """
    former = path.read_text(encoding="utf-8") if path.exists() else None
    record = fingerprint(script, settings)
    record |= {"imported": installed_otherwise(record["environment"]), "inputs": None, "outputs": None}
    write_record(path, record)
    made: list[JobFiles] = []
    try:
        yield made
    except BaseException:
        write_text(path, former) if former else path.unlink(missing_ok=True)
        raise
    with held_back():  # the work is done: record it even if the job is stopped now
        inputs = {str(file): file_digest(file) for file in made[0].read}
        outputs = {
            str(file): {
                "bytes": file.stat().st_size,
                "sha256": made[0].digests.get(file) or file_digest(file),
            }
            for file in made[0].wrote
        }
        write_record(path, record | {"inputs": inputs, "outputs": outputs})
        if made[0].scratch:
            shutil.rmtree(made[0].scratch, ignore_errors=True)


def is_up_to_date(
    path: Path, script: str, settings: Mapping[str, Any], accept_environment: bool = False
) -> bool:
    """Return whether the record at `path` is complete and matches this job and its files as they are now.

    With `accept_environment`, package versions may differ.
    """
    record = read_record(path)
    if record is None or record["outputs"] is None:
        return False
    if any(differences(record, to_match(record, fingerprint(script, settings), accept_environment))):
        return False
    digests = record["inputs"] | {file: made["sha256"] for file, made in record["outputs"].items()}
    return all(Path(file).exists() and file_digest(Path(file)) == sha256 for file, sha256 in digests.items())


def accept(path: Path, because: str, inputs: Iterable[str] = ()) -> None:
    """Note in the record of a finished job that its output stays valid although code or packages changed.

    The record then has today's digests, and under `accepted` the former ones with the reason `because`.
    `inputs` are files whose new content is accepted as well, such as records that were accepted before.
    """
    record = read_record(path)
    now = fingerprint(record["script"], record["settings"])
    kinds = ("code", "environment")
    made = record | {"environment": versions_of(record)}
    before = {
        kind: {
            name: made[kind].get(name)
            for name in sorted(made[kind].keys() | now[kind].keys())
            if made[kind].get(name) != now[kind].get(name)
        }
        for kind in kinds
    }
    accepted = [*record.get("accepted", []), {"because": because, "before": before}]
    digests = {file: file_digest(Path(file)) for file in inputs if file in record["inputs"]}
    write_record(
        path,
        record
        | {kind: now[kind] for kind in kinds}
        | {"imported": {}, "inputs": record["inputs"] | digests, "accepted": accepted},
    )


def versions_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of the packages that an output was computed with."""
    return {**record["environment"], **record.get("imported", {})}


def to_match(
    record: Mapping[str, Any], now: Mapping[str, Any], accept_environment: bool = False
) -> Mapping[str, Any]:
    """Return the fingerprint that a record has to match: `now`, but for versions that it may have as well.

    A package may have the version that the lock pins, or, where something else was imported, the one that is
    installed here. With `accept_environment` it may have any.
    """
    imported, locked = record.get("imported", {}), now["environment"]
    here = {
        name: imported[name] for name in imported.keys() & locked if imported[name] == installed_version(name)
    }
    allowed = versions_of(record) if accept_environment else locked | here
    return {**now, "environment": allowed}


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record at `path`, or None if there is none.

    Raises StudyError if it is damaged, was edited, or has a version that this code does not know.
    """
    if not path.exists():
        return None
    record = read_json(path)
    version = record.get("version") if isinstance(record, dict) else None
    if version != VERSION:
        raise StudyError(f"{path}: is of the unknown version {version}; this code knows {VERSION}")
    if record.pop("digest", None) != digest(record):
        raise StudyError(f"{path}: was edited by hand")
    return record


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs between two records in settings, code and packages, in words."""
    yield from _changed_settings(old["settings"], new["settings"])
    yield from changed_entries(old["code"], new["code"], "{} changed", "{} is new", "{} is gone")
    versions = versions_of(old), versions_of(new)
    for name in sorted(versions[0].keys() | versions[1].keys()):
        before, after = (made.get(name, "not used") for made in versions)
        if before != after:
            yield f"{name}: {before} → {after}"


def _changed_settings(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Yield what differs between two settings, as `recipe.lr: 0.001 → 0.0003`."""
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{place}.{key}" if place not in ("", "spec", "study") else key
            if key not in old or key not in new:
                whole = new.get(key, old.get(key))
                value = "" if isinstance(whole, Mapping | list) else f": {whole}"
                yield f"{inner} is {'gone' if key in old else 'new'}{value}"
            else:
                yield from _changed_settings(old[key], new[key], inner)
    else:
        yield f"{place}: {old} → {new}"


def changed_entries(
    old: Mapping[str, Any], new: Mapping[str, Any], other: str, added: str, removed: str
) -> Iterator[str]:
    """Yield a line for each key whose value differs, by one of three wordings of it."""
    if old == new:
        return
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield (removed if key not in new else added if key not in old else other).format(key)


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as read_record() returns it, with the digest that shows whether it was edited."""
    write_json(path, {**record, "digest": digest(record)})
