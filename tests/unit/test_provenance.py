"""Records: code by definition, package versions, and files that are no valid record."""

import ast
import shutil
import textwrap
from pathlib import Path

import pytest
from conftest import ROOT, read, reword

from vitcnn import audit
from vitcnn.errors import StudyError
from vitcnn.files import write_json, write_text
from vitcnn.provenance import code, environment, record
from vitcnn.provenance.freshness import Job, Verdict
from vitcnn.provenance.record import (
    JobFiles,
    accept,
    chosen,
    differences,
    fingerprint,
    is_up_to_date,
    read_record,
    recording,
    write_record,
)

# audit makes nothing, and imports Snakemake.
SCRIPTS = sorted(path.stem for path in (ROOT / "workflow/scripts").glob("*.py") if path.stem != "audit")
TRAIN = {"spec": {"model": {"builder": "vit"}}}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the workflow whose code is digested in place of the project's."""
    copy = shutil.copytree(
        ROOT / "workflow", tmp_path / "workflow", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr(code, "PACKAGE", copy / "vitcnn")
    monkeypatch.setattr(code, "SCRIPTS", copy / "scripts")
    forget()
    yield copy
    forget()


def forget():
    code.code_of.cache_clear()
    code._read.cache_clear()


def code_of(script, settings=TRAIN):
    forget()
    return code.code_of(script, chosen(script, settings)).definitions


def changed(package, script, path, old, new):
    """The definitions behind `script` that differ after an edit."""
    before = code_of(script)
    file = package / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    after = code_of(script)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_the_definition_that_changed_is_named(package):
    assert changed(
        package, "train", "vitcnn/training/trainer.py", "loss.backward()", "(2 * loss).backward()"
    ) == {"training/trainer.py: Trainer._train_step"}


def test_a_constant_is_followed_through_the_modules_that_use_it(package):
    edit = ("vitcnn/training/optimizers.py", "(0.9, 0.999), 1e-8", "(0.9, 0.99), 1e-8")
    assert changed(package, "train", *edit) == {
        "training/optimizers.py: BETAS",
        "training/optimizers.py: EPSILON",
    }


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("vitcnn/models/resnet.py", "F.relu(", "F.gelu("),  # another model
        ("vitcnn/data/images.py", "CHUNK = 100", "CHUNK = 1"),  # training reads packed arrays
        ("vitcnn/results/figures/style.py", '"font.size": 11', '"font.size": 9'),
        ("vitcnn/config.py", "is no YAML", "cannot be read"),  # beside what training takes from this module
        ("vitcnn/models/registry.py", "from scratch", "from nothing"),
        ("vitcnn/plan.py", "lower it in", "change it in"),
        ("vitcnn/training/devices.py", 'Path("/dev")', 'Path("/tmp")'),
        ("scripts/train.py", 'help="default: config.yaml"', 'help="which"'),
    ],
)
def test_what_training_does_not_use_leaves_it_alone(package, path, old, new):
    assert changed(package, "train", path, old, new) == set()


def test_what_runs_on_import_counts(package):
    settings = {"figure": "summary"}
    before = code_of("draw_figure", settings)
    file = package / "vitcnn/results/figures/style.py"
    file.write_text(file.read_text().replace('mpl.use("Agg")', 'mpl.use("SVG")'))
    after = code_of("draw_figure", settings)
    assert {n for n in before if before[n] != after[n]} == {"results/figures/style.py: module level"}


def test_a_data_file_that_code_names_counts(package):
    assert "results/reported.csv" in code_of("tabulate_experiment")
    assert changed(package, "tabulate_experiment", "vitcnn/results/reported.csv", "62.92", "62.93") == {
        "results/reported.csv"
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_comments_docstrings_and_formatting_do_not_count(script, package):
    settings = TRAIN | {"figure": "summary", "layout": "tiny_imagenet"}
    before = code_of(script, settings)
    for path in package.rglob("*.py"):
        reword(path)
    assert code_of(script, settings) == before


def test_an_unused_argument_of_a_function_counts(package):
    edit = (
        "vitcnn/training/trainer.py",
        "def stream_seed(seed: int, purpose: str)",
        "def stream_seed(seed: int, purpose: str, x=1)",
    )
    assert changed(package, "train", *edit) == {"training/trainer.py: stream_seed"}


def test_digests_do_not_follow_the_version_of_python():
    """Empty fields come and go between versions; the digests of a text are fixed here, for all of them."""
    text = textwrap.dedent(
        '''
        @decorated(1, *a, **b)
        def f(x: int, /, y=2, *, z: str = "s") -> list[int]:
            """Doc."""
            with open(f"{x!r:>{y}}{{}}") as file, other():
                return [*map(lambda q: q**2, file)] if (n := x) else {**b, 1.0: b"b", None: ...}
        class C(B, metaclass=M):
            a: int = 1
            async def g(self): await x; yield {i async for i in self if i not in ()}
        '''
    )
    assert code._digest(ast.parse(text).body, "vitcnn.errors") == "7296470cfda254f2"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from hashlib import sha256", "from hashlib import sha3_256 as sha256"),
        ("import torch.nn.functional as F", "import torch.functional as F"),
        (
            "import Parameters, augment, draw_parameters, normalize",
            "import Parameters, augment as normalize, draw_parameters, normalize as augment",
        ),
    ],
)
def test_what_an_imported_name_stands_for_counts(old, new, package):
    assert changed(package, "train", "vitcnn/training/trainer.py", old, new)


def test_the_order_of_imports_does_not_count(package):
    old = "import Parameters, augment, draw_parameters, normalize"
    new = "import normalize, augment, draw_parameters, Parameters"
    assert not changed(package, "train", "vitcnn/training/trainer.py", old, new)


# What a reader of code can miss: each form is added to the trainer, and then what it leads to is changed.
FORMS = {
    "a condition": ("if True:\n    K = 1\nelse:\n    K = 2\n", "K"),
    "a try": ("try:\n    from vitcnn.extra import value as K\nexcept ImportError:\n    K = 1\n", "K"),
    "not for types": ("if TYPE_CHECKING:\n    pass\nelse:\n    K = 1\n", "K"),
    "a table": (
        "R = {}\ndef register(f):\n    R[f.__name__] = f\n@register\ndef K():\n    return 1\n",
        'R["K"]()',
    ),
    "an assignment elsewhere": ('import os\nos.environ["K"] = "1"\n', "0"),
    "a side effect": ("import vitcnn.extra as _\n", "0"),
    "a relative import": ("from ..extra import value\n", "value()"),
    "a local import": ("def value():\n    return 0\n", "from vitcnn.extra import value; value()"),
    "a file": ("", "'numbers.csv'"),
    "__getattr__": ("from vitcnn.extra import anything\n", "anything"),
    "inheritance": ("from vitcnn.extra import Base\nclass K(Base):\n    pass\n", "K()"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_are_followed(form, package):
    extra = package / "vitcnn/extra.py"
    extra.write_text(
        "import torch\ntorch.set_flush_denormal(bool(1))\ndef value():\n    return 1\n"
        "def __getattr__(name):\n    return 1\nclass Base:\n    def f(self):\n        return 1\n"
    )
    (package / "vitcnn/training/numbers.csv").write_text("1")
    code._data_files.cache_clear()
    trainer = package / "vitcnn/training/trainer.py"
    definitions, use = FORMS[form]
    text = trainer.read_text().replace(
        "    return int.from_bytes(sha256", f"    {use}\n    return int.from_bytes(sha256"
    )
    trainer.write_text(text.replace("AHEAD_BYTES =", f"{definitions}AHEAD_BYTES ="))
    before = code_of("train")
    for file in (extra, package / "vitcnn/training/numbers.csv", trainer):
        text = file.read_text()
        if file == trainer:
            text = text.replace(definitions, definitions.replace("1", "7"))
        else:
            text = text.replace("1", "7")
        file.write_text(text)
    code._data_files.cache_clear()
    assert code_of("train") != before
    code._data_files.cache_clear()


@pytest.mark.parametrize(
    "line",
    ["from vitcnn.data.augmentation import *", "import vitcnn.data.augmentation", "from einops import *"],
)
def test_imports_that_hide_what_is_used_are_refused(line, package):
    file = package / "vitcnn/training/trainer.py"
    file.write_text(f"{line}\n{file.read_text()}")
    with pytest.raises(StudyError, match=r"trainer\.py: line 1: .* hides which code is used"):
        code_of("train")


def test_all_dynamic_imports_are_known_to_the_record():
    """What is imported by a computed name is not seen by reading code: record.chosen() must name it."""
    found = [
        path.relative_to(ROOT / "workflow").as_posix()
        for path in (ROOT / "workflow").rglob("*.py")
        if "import_module(" in path.read_text() or "__import__(" in path.read_text()
    ]
    assert sorted(found) == [
        "scripts/draw_figure.py",
        "scripts/draw_representation.py",
        "vitcnn/data/trees.py",
        "vitcnn/data/validate.py",
        "vitcnn/models/__init__.py",
        "vitcnn/representations/layers.py",
        "vitcnn/training/trainer.py",
    ]


def test_an_import_is_found_in_the_lock_by_its_package():
    assert "python-dateutil" in environment.locked_versions(["dateutil"])
    environment.refuse_unlocked(["PIL", "dateutil"], "a file")


def test_a_package_that_the_lock_does_not_name(package):
    model = package / "vitcnn" / "models" / "vit.py"
    model.write_text(f"import einops\n{model.read_text()}".replace("copy.deepcopy", "einops.rearrange"))
    forget()
    with pytest.raises(
        StudyError, match=r"vitcnn\.models\.vit: imports einops, which envs/lock\.txt does not"
    ):
        fingerprint("train", TRAIN)
    for script in SCRIPTS:
        environment.refuse_unlocked(code_packages(script), script)


def code_packages(script):
    forget()
    return code.code_of(script, ()).packages


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_only_runs_with_a_librarys_model_depend_on_it(library):
    made = fingerprint("train", {"spec": {"model": {"builder": f"{library}:resnet18"}}})
    assert library in made["environment"]
    assert f"models/from_{library}.py: build" in made["code"]
    assert library not in fingerprint("train", TRAIN)["environment"]


def test_what_a_model_is_declared_equal_to_counts_in_its_description():
    equal = [{"spec": {"model": {"builder": "resnet"}}}]
    assert chosen("describe_model", TRAIN | {"equal": equal}) == (
        ("vitcnn.models.vit", "build"),
        ("vitcnn.models.resnet", "build"),
    )


def test_only_runs_with_a_policy_depend_on_torchvision():
    spec = {"model": {"builder": "vit"}, "recipe": {"augmentation": {"auto_augment": "none"}}}
    plain = fingerprint("train", {"spec": spec})
    assert "torchvision" not in plain["environment"]
    spec["recipe"]["augmentation"]["auto_augment"] = "RandAugment"
    made = fingerprint("train", {"spec": spec})
    assert "torchvision" in made["environment"]
    assert "data/policies.py: apply_policy" in made["code"].keys() - plain["code"].keys()


def test_every_package_imported_is_in_the_lock():
    imports = set()
    for script in SCRIPTS:
        for settings in (
            {"figure": "summary", "layout": name} | TRAIN for name in ("cifar10", "tiny_imagenet")
        ):
            imports |= code.code_of(script, chosen(script, settings)).packages
    computing = {"torch", "numpy", "pandas", "matplotlib", "PIL", "scipy", "safetensors", "tabulate"}
    not_computing = {"filelock", "jsonschema", "kagglehub", "requests", "tqdm", "yaml"}
    assert not_computing == environment.NOT_COMPUTING
    assert computing <= imports
    for name in imports - not_computing:
        assert environment.locked_versions([name]), name


def test_versions_are_those_of_the_lock_with_what_packages_need():
    versions = environment.locked_versions(["matplotlib"])
    assert {"matplotlib", "numpy", "pillow", "contourpy"} <= versions.keys()
    assert "torch" not in versions and "pytest" not in versions
    assert f"matplotlib=={versions['matplotlib']} " in (ROOT / "envs/lock.txt").read_text()
    assert "jinja2" in environment.locked_versions(["pandas"])  # to_latex


def test_what_is_installed_at_another_version(monkeypatch):
    monkeypatch.setattr(environment, "version", {"torch": "2.11.0+cu128", "numpy": "2.5.5"}.__getitem__)
    monkeypatch.setattr(environment, "installed_version", environment.installed_version.__wrapped__)
    locked = {"torch": "2.15.0", "numpy": "2.4.6, 2.5.5"}
    assert environment.installed_otherwise(locked) == {"torch": "2.11.0"}


# Records -----------------------------------------------------------------------------------------


def test_an_output_may_be_of_the_locks_versions_or_of_those_installed_here(tmp_path, monkeypatch):
    """One made with a cluster's own pandas is up to date there, and nowhere else unless that is accepted."""
    path, output = tmp_path / "r.json", tmp_path / "o"
    locked = fingerprint("write_findings", {"a": 1})["environment"]["pandas"]

    def is_up_to_date_where(installed, **accept):
        monkeypatch.setattr(record, "installed_version", {"pandas": installed}.get)
        return is_up_to_date(path, "write_findings", {"a": 1}, **accept)

    monkeypatch.setattr(record, "installed_otherwise", lambda names: {"pandas": "1.0"})
    make(path, output)
    assert read_record(path)["imported"] == {"pandas": "1.0"}
    assert is_up_to_date_where("1.0")
    assert not is_up_to_date_where(locked)
    assert not is_up_to_date_where("2.0")
    assert is_up_to_date_where(locked, accept_environment=True)
    changed = differences(read_record(path), fingerprint("write_findings", {"a": 1}))
    assert list(changed) == [f"pandas: 1.0 → {locked}"]
    accept(path, "the same numbers")
    assert is_up_to_date_where(locked)
    assert read_record(path)["accepted"][0]["before"]["environment"] == {"pandas": "1.0"}
    monkeypatch.setattr(record, "installed_otherwise", lambda names: {})
    make(path, output)
    assert is_up_to_date_where("1.0")  # what was made with the lock's is up to date anywhere


def make(path, output, text="made", script="write_findings"):
    with recording(path, script, {"a": 1}) as made:
        assert read_record(path)["outputs"] is None  # begun
        output.write_text(text)
        made.append(JobFiles([], [output]))


@pytest.mark.parametrize("changes", ["input", "output"])
def test_an_output_is_stale_once_its_input_or_itself_changes(changes, tmp_path):
    path, *files = (tmp_path / name for name in ("r.json", "input", "output"))
    with recording(path, "write_findings", {"a": 1}) as made:
        for file in files:
            file.write_text("as recorded")
        made.append(JobFiles(files[:1], files[1:]))
    assert is_up_to_date(path, "write_findings", {"a": 1})
    (tmp_path / changes).write_text("another")
    assert not is_up_to_date(path, "write_findings", {"a": 1})


def test_a_record_says_what_was_made(tmp_path):
    make(tmp_path / "r.json", tmp_path / "o")
    record = read_record(tmp_path / "r.json")
    assert record["settings"] == {"a": 1}
    assert record["outputs"][str(tmp_path / "o")]["bytes"] == 4
    assert list(differences(record, fingerprint("write_findings", {"a": 1}))) == []
    make(tmp_path / "again.json", tmp_path / "o")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "r.json").read_bytes()


def test_a_job_that_fails_leaves_the_former_record(tmp_path):
    make(tmp_path / "r.json", tmp_path / "o")
    former = (tmp_path / "r.json").read_bytes()
    with pytest.raises(RuntimeError), recording(tmp_path / "r.json", "write_findings", {"a": 2}):
        raise RuntimeError
    assert (tmp_path / "r.json").read_bytes() == former
    with pytest.raises(RuntimeError), recording(tmp_path / "new.json", "write_findings", {"a": 2}):
        raise RuntimeError
    assert not (tmp_path / "new.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"a": 2}}, "was edited by hand"),
        ({"version": 7}, "unknown version 7"),
        ({"version": None}, "unknown version None"),
    ],
)
def test_what_is_no_record_of_ours(change, message, tmp_path):
    path = tmp_path / "r.json"
    make(path, tmp_path / "o")
    write_json(path, read(path) | change)
    with pytest.raises(StudyError, match=message):
        read_record(path)


def test_a_record_of_an_unknown_version_stays_unknown_if_it_is_whole(tmp_path):
    path = tmp_path / "r.json"
    make(path, tmp_path / "o")
    write_record(path, read_record(path) | {"version": 2})
    with pytest.raises(StudyError, match="unknown version 2"):
        read_record(path)


def test_differences_in_words():
    old = {
        "settings": {"spec": {"recipe": {"lr": 0.001}}},
        "code": {"a.py: f": "1", "a.py: g": "2"},
        "environment": {"torch": "1", "b": "1"},
    }
    new = {
        "settings": {"spec": {"recipe": {"lr": 0.0003}}},
        "code": {"a.py: f": "3", "a.py: h": "2"},
        "environment": {"torch": "2"},
    }
    assert list(differences(old, new)) == [
        "recipe.lr: 0.001 → 0.0003",
        "a.py: f changed",
        "a.py: g is gone",
        "a.py: h is new",
        "b: 1 → not used",
        "torch: 1 → 2",
    ]


def test_what_is_removed_takes_nothing_in_use_with_it(tmp_path, monkeypatch):
    """Whether it is named twice, with the run that it is of, or is a copy of what is in use."""
    monkeypatch.chdir(tmp_path)
    run, other = (Path(f"results/runs/cifar10/vit/adam10/nall/seed{seed}") for seed in (0, 1))
    for folder in (run, other):
        for name in ("metrics.json", "representations.npz"):
            write_text(folder / name, "made")
        for kind, output in (("", "metrics.json"), ("representations.", "representations.npz")):
            made = {"version": 1, "settings": {}, "outputs": {str(folder / output): {}}}
            write_record(folder / f"{kind}provenance.json", made)
    shutil.copytree(run, "results/a copy")
    jobs = [Job("train", str(run / "provenance.json"), (str(run / "metrics.json"),), {}, {}, ())]
    monkeypatch.setattr(
        audit, "judge", lambda *_, **__: {jobs[0].record: Verdict({"accepted": [{"because": ""}]})}
    )
    with pytest.raises(StudyError, match="is not among the unused"):
        audit.remove_unused(jobs, [str(run / "metrics.json")])
    audit.remove_unused(jobs, [str(run / "representations.npz")] * 2)
    assert {path.name for path in run.iterdir()} == {"metrics.json", "provenance.json"}
    audit.remove_unused(jobs, [str(other), str(other / "representations.npz")])
    assert not other.exists() and run.exists()


def test_the_audit_finds_runs_where_their_folder_is_a_link(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(Path("scratch/cifar10/mine/notes.txt"), "mine")
    Path("results").mkdir()
    Path("results/runs").symlink_to(tmp_path / "scratch")
    found = audit.audit([], accept_environment=False)
    assert found["unknown"] == {"results/runs/cifar10/mine": "it has no provenance.json"}


def test_the_audit_names_packages_of_another_version():
    locked = environment.locked_versions(["torch", "numpy"])
    made = {"environment": locked, "imported": {"torch": "1.0"}}
    assert audit._other_versions(made) == f"computed with torch 1.0 instead of {locked['torch']}"
    assert audit._other_versions({"environment": locked}) == ""
