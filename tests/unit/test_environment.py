"""The lock, pyproject.toml, the conda files and the README agree with each other."""

import ast
import re
import tomllib

import pytest
import yaml
from conftest import ROOT
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DECLARED = [
    Requirement(r) for r in (*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["test"])
]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
PLATFORMS = [
    {"sys_platform": platform, "platform_machine": machine, "python_full_version": f"{version}.0"}
    | {"python_version": version, "platform_system": system}
    for system, platform, machine in (
        ("Linux", "linux", "x86_64"),
        ("Linux", "linux", "aarch64"),
        ("Darwin", "darwin", "arm64"),
    )
    for version in ("3.11", "3.12", "3.13")
]


def entries():
    """Return (requirement, number of hashes) for each entry of the lock."""
    text = re.sub(r"^\s*#.*\n?", "", (ROOT / "envs/lock.txt").read_text(), flags=re.MULTILINE)
    found = []
    for entry in re.split(r"(?<!\\)\n", text):
        if entry.strip():
            requirement, *hashes = re.split(r"\s*\\\n\s*", entry.strip())
            found.append(
                (Requirement(requirement.strip()), sum(h.startswith("--hash=sha256:") for h in hashes))
            )
    return found


LOCK = entries()


def locked(name, environment):
    """Return the version that the lock has for a package where `environment` holds, or None."""
    environment = default_environment() | environment
    versions = [
        next(iter(requirement.specifier)).version
        for requirement, _ in LOCK
        if canonicalize_name(requirement.name) == canonicalize_name(name)
        and (requirement.marker is None or requirement.marker.evaluate(environment))
    ]
    assert len(versions) <= 1, f"{name} is locked twice: {versions}"
    return versions[0] if versions else None


def test_every_entry_is_pinned_and_hashed():
    assert len(LOCK) > 50
    for requirement, hashes in LOCK:
        assert [s.operator for s in requirement.specifier] == ["=="], requirement
        assert hashes > 0, requirement


@pytest.mark.parametrize("environment", PLATFORMS, ids=lambda e: "-".join(list(e.values())[:3]))
def test_the_lock_has_what_pyproject_asks_for(environment):
    for requirement in DECLARED:
        version = locked(requirement.name, environment)
        assert version, f"{requirement.name} is not in envs/lock.txt; see envs/README.md"
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}"


def test_the_lock_has_nothing_that_nobody_asked_for():
    """uv notes who wants what: each package the project itself wants is still in pyproject.toml."""
    text = (ROOT / "envs/lock.txt").read_text()
    named = set(
        re.findall(
            r"^([\w.-]+)==[^#]*?(?:# via\n)?(?:\s+#.*\n)*?\s+#\s+(?:via )?vitcnn \(pyproject", text, re.M
        )
    )
    assert {canonicalize_name(n) for n in named} == {canonicalize_name(r.name) for r in DECLARED}


@pytest.mark.parametrize("name", ["data", "train", "results"])
def test_conda_files_have_the_locks_versions(name):
    dependencies = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"]
    python = next(d for d in dependencies if d.startswith("python=")).removeprefix("python=")
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    for dependency in dependencies:
        package, _, version = dependency.partition("=")
        if package != "python":
            assert version == locked(CONDA_NAMES.get(package, package), environment), dependency


def scripts_by_environment():
    """Return (environment, script) for each rule, read from the rules."""
    pairs = set()
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"^(?:rule|checkpoint) ", path.read_text(), flags=re.M)[1:]:
            environment = re.search(r"envs/(\w+)\.yaml", rule)[1]
            if script := re.search(r"command\(\"(\w+)\"\)", rule):
                pairs.add((environment, script[1]))
    return sorted(pairs)


def imports_of(path, seen):
    """Return the names of all modules that a file imports, itself or through the package."""
    if path in seen or not path.exists():
        return set()
    seen.add(path)
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    for name in list(names):
        if name.startswith("vitcnn"):
            inner = ROOT / "workflow" / name.replace(".", "/")
            names |= imports_of(inner.with_suffix(".py"), seen) | imports_of(inner / "__init__.py", seen)
    return names


@pytest.mark.parametrize(("environment", "script"), scripts_by_environment())
def test_conda_files_have_what_the_scripts_import(environment, script):
    dependencies = yaml.safe_load((ROOT / f"envs/{environment}.yaml").read_text())["dependencies"]
    there = {CONDA_NAMES.get(d.split("=")[0], d.split("=")[0]) for d in dependencies}
    packages = {"yaml": "pyyaml", "PIL": "pillow"}
    imported = {name.split(".")[0] for name in imports_of(ROOT / f"workflow/scripts/{script}.py", set())}
    wanted = {packages.get(name, name) for name in imported}
    known = {canonicalize_name(requirement.name) for requirement, _ in LOCK}
    assert {canonicalize_name(name) for name in wanted} & known <= there


def test_quick_start_holds_two_commands():
    quick_start = (ROOT / "README.md").read_text().split("## Quick start")[1].split("\n## ")[0]
    assert len(re.findall(r"^```sh$", quick_start, re.M)) == 2


def test_the_docs_explain_every_key_of_the_configuration():
    text = (ROOT / "docs/configuration.md").read_text()
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    sections = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())["properties"]
    recipes, datasets, experiments = (
        sections[name]["additionalProperties"]["properties"]
        for name in ("recipes", "datasets", "experiments")
    )
    for key in {*config, *recipes, *recipes["augmentation"]["properties"], *datasets, *experiments}:
        assert f"`{key}" in text, key


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the format asks for
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]
    holder = re.search(r"Copyright \(c\) \d+ (.+)", (ROOT / "LICENSE").read_text())[1]
    assert [author["name"] for author in citation["authors"]] == [holder]
