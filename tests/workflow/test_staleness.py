"""Exactly the stale is made again: each change in a copy of a finished study, by running the workflow.

What a dry run lists is compared with what the change makes stale, where the shell command, the params and the
inputs of each rule changed too, of which Snakemake has its own notes. What a real run makes is compared, without
those other changes, in the tests of MADE, and with `-m exhaustive` in those of MADE_TOO.
"""

import gzip
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import NO_OTHERS, WARM, copy_repository, environment, made_once, merge, reword, said

from vitcnn.data import embedded
from vitcnn.files import write_text
from vitcnn.provenance.record import read_record, write_record

FIGURES = {
    "training_curves": ["curves"],
    "data_efficiency": ["data_efficiency"],
    "summary": ["curves", "data_efficiency"],
    "comparison_curves": ["comparison"],
    "curves_curves": ["curves"],
    "data_efficiency_curves": ["data_efficiency"],
}
RUNS = {
    "comparison": [f"{d}/{m}/adam10/nall/seed0" for d in ("cifar10", "imagenet200") for m in ("vit", "cnn")],
    "curves": [f"cifar10/{m}/adamw20/nall/seed0" for m in ("simple_vit", "simple_cnn")],
    "data_efficiency": [f"cifar10/{m}/adamw10/n20/seed0" for m in ("simple_vit", "simple_cnn")],
}
EVERY_RUN = {run for runs in RUNS.values() for run in runs}
MODELS = {f"{run.split('/')[0]}/{run.split('/')[1]}" for run in EVERY_RUN}


def shown(*experiments):
    """What shows the runs of these experiments: the collected numbers, tables, figures and findings."""
    names = {f"{what} {name}" for name in experiments for what in ("collected", "table")} | {"findings"}
    names |= {f"table {name}_differences" for name in experiments}
    return names | {name for name, needed in FIGURES.items() if set(needed) & set(experiments)}


ALL_SHOWN = shown(*RUNS)


def runs_with(word):
    return {run for run in EVERY_RUN if word in run}


def and_what_shows(runs):
    """These runs, and what shows the experiments that they are of."""
    return set(runs) | shown(*(name for name, asked in RUNS.items() if set(asked) & set(runs)))


def chain(dataset, *steps):
    steps = steps or ("fetch_dataset", "copy_dataset", "validate_images", "pack_dataset")
    if dataset == "imagenet200" and "copy_dataset" in steps:
        steps = (*steps, "sort_validation")
    return {f"{dataset} {step}" for step in steps}


DATA_STEPS = {
    "fetched.json": "fetch_dataset",
    "copied.json": "copy_dataset",
    "sorted.json": "sort_validation",
    "validation.json": "validate_images",
    "manifest.json": "pack_dataset",
}


def name_of(path):
    """The short name of the step whose record or first output this is."""
    parts = Path(path).parts
    if parts[0] == "resources":
        return f"{parts[1]} {DATA_STEPS.get(parts[-1], Path(path).stem)}"
    if parts[1] == "runs":
        run = "/".join(parts[2:-1])
        return f"probe {run}" if parts[-1].startswith("representations") else run
    if parts[1] == "collected":
        return f"collected {parts[2]}"
    if parts[1] == "models":
        return f"model {parts[2]}/{parts[3].split('.')[0]}"
    name = parts[-1].split(".")[0]
    return f"table {name}" if parts[1] == "tables" else name


@dataclass
class Study:
    """A copy of the repository, a folder with results, and the configuration asked for."""

    repository: Path
    folder: Path
    config: dict
    is_real: bool = True

    def snakemake(self, *arguments, profile="none"):
        configfile = self.folder / "config.yaml"
        write_text(configfile, yaml.safe_dump(self.config, sort_keys=False))  # whole, for who reads it now
        command = ["snakemake", "--snakefile", str(self.repository / "Snakefile")]
        command += ["--workflow-profile", profile, "--cores", "2", "--directory", str(self.folder)]
        return WARM.run([*command, *arguments, "--configfile", str(configfile)], self.folder, environment())

    def plans(self, *arguments, **options):
        """What a dry run lists."""
        return {name_of(output) for output, _ in self.jobs("-n", *arguments, **options)}

    def makes(self, *arguments, **options):
        """What a real run makes: its jobs, but for those that ended at once, as their output was up to date."""
        jobs = self.jobs(*arguments, **options)
        return {
            name_of(output)
            for output, log in jobs
            if not (self.folder / log).read_text().endswith("up to date\n")
        }

    def jobs(self, *arguments, **options):
        """The first output and the log of each of our jobs that Snakemake runs, or lists."""
        done = self.snakemake(*arguments, **options)
        assert done.returncode == 0, said(done)
        return re.findall(r"    output: ([^ ,\n]*).*\n    log: (\S+)", said(done))

    def edit(self, path, old, new):
        """Replace a text in a file of the repository."""
        file = self.repository / path
        text = file.read_text()
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new))

    def change(self, config):
        self.config = merge(self.config, config)

    def copied(self, base):
        """Copy its repository and its folder, which are beside each other, to another folder."""
        for name in ("repository", "work"):
            shutil.copytree(self.folder.parent / name, base / name)
        return Study(base / "repository", base / "work", self.config)

    def rebuilds(self, expected, planned=None):
        """Assert what the next dry run lists; where it is really done, what is made, and that all is done then."""
        assert self.plans() == (expected if planned is None else planned)
        if self.is_real:
            assert self.makes() == expected
            if expected:
                assert self.plans() == set()


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    return finished_study(tmp_path_factory)


def finished_study(tmp_path_factory):
    """Return a finished study of 8 runs on 40 to 400 images: CIFAR-10 from an archive, ImageNet-200 from a folder."""
    base = made_once(tmp_path_factory, "staleness", finish)
    return Study(base / "repository", base / "work", yaml.safe_load((base / "work/config.yaml").read_text()))


def finish(base):
    repository = copy_repository(base / "repository")
    with pytest.MonkeyPatch.context() as patch:
        for name, size in embedded.SIZES.items():
            patch.setitem(embedded.SIZES, name, size._replace(train=4 if name == "cifar10" else 2, test=1))
        sources = {name: embedded.generate(name, base / "published") for name in ("cifar10", "imagenet200")}
    small = {"patch_size": {"default": 8, "imagenet200": 16}, "embed_dim": 8, "depth": 1, "num_heads": 2}
    config = {
        "seeds": [0],
        "datasets": {name: {"source": [str(path)]} for name, path in sources.items()},
        "models": {
            "vit": small,
            "cnn": {"channels": [16], "blocks": [1]},
            "simple_vit": small | {"patch_size": 8},
            "simple_cnn": {"channels": [8], "hidden": 8},
        },
        "recipes": {name: {"epochs": 1, "batch_size": 20} for name in ("adam10", "adamw20", "adamw10")},
        "experiments": {
            "comparison": {"datasets": ["cifar10", "imagenet200"]},
            "curves": {"datasets": ["cifar10"]},
            "data_efficiency": {"train_sizes": [20]},
            **NO_OTHERS,
        },
        "report": {"plots": {"dpi": 40}},
        "representations": None,
        "cost": None,
        "flaws": None,
    }
    study = Study(repository, base / "work", config)
    study.folder.mkdir()
    everything = (
        EVERY_RUN | ALL_SHOWN | {f"model {pair}" for pair in MODELS} | chain("cifar10") | chain("imagenet200")
    )
    assert study.plans() == everything
    assert study.makes() == everything


# What is really made beside being planned: one test of each way in which a real run could do otherwise.
MADE = {
    "test_a_second_run",
    "test_a_reader_that_reads_the_same",
    "test_a_constant_of_one_figure",
    "test_an_experiment_that_shares_runs",
    "test_damaged_arrays_are_not_trained_on",
    "test_metrics",
}
MADE_TOO = {
    "test_lr_of_one_recipe",
    "test_two_settings_swapped",
    "test_a_seed_added_and_removed",
    "test_one_byte_in_an_image_of_an_archive",
    "test_one_byte_in_an_image_of_a_folder",
    "test_data_that_were_deleted_after_use",
    "test_a_tree_that_was_deleted_after_use",
    "test_several_changes_at_once",
    "test_what_the_command_line_forces",
    "test_a_failed_step_does_not_hide_what_changed",
    "test_a_package_that_training_uses",
    "test_a_job_that_was_cut_off",
}


def pytest_generate_tests(metafunc):
    if "study" in metafunc.fixturenames:
        name = metafunc.function.__name__
        ways = ["planned beside other changes"]
        ways += ["made"] if name in MADE else []
        ways += [pytest.param("made", marks=pytest.mark.exhaustive)] if name in MADE_TOO else []
        metafunc.parametrize("study", ways, indirect=True)


@pytest.fixture
def study(finished, tmp_path, request):
    """A copy of the finished study; where its data come from is shared."""
    study = finished.copied(tmp_path)
    study.is_real = request.param == "made"
    if not study.is_real:
        change_rules(study.repository / "workflow/rules")
    return study


def change_rules(folder):
    """Give Snakemake a reason of its own to run each of our rules: another command, params and inputs."""
    counts = [0, 0, 0]
    for path in folder.glob("*.smk"):
        text = path.read_text()
        for i, (old, new) in enumerate(
            (
                ('"{params.command} --log', '"{params.command}  --log'),
                ("        command=command(", "        unrelated=1,\n        command=command("),
                (
                    "    input:\n",
                    '    input:\n        unrelated=ancient(str(WORKFLOW / "scripts/train.py")),\n',
                ),
            )
        ):
            counts[i] += text.count(old)
            text = text.replace(old, new)
        path.write_text(text)
    assert min(counts) > 6


RUN = "cifar10/vit/adam10/nall/seed0"

# Nothing -----------------------------------------------------------------------------------------


def test_a_second_run(study):
    study.rebuilds(set())


def test_times_of_files(study):
    for path in (*study.repository.rglob("*"), *study.folder.rglob("*")):
        os.utime(path)
    for path in (study.folder / "resources").rglob("manifest.json"):
        os.utime(path, (2e9, 2e9))
    study.rebuilds(set())


def test_a_fresh_clone_over_the_same_results(study, tmp_path):
    study.repository = study.repository.rename(tmp_path / "a clone elsewhere")
    study.rebuilds(set())


def test_results_copied_elsewhere_without_their_times_and_snakemakes_notes(study, tmp_path):
    elsewhere = tmp_path / "another folder"
    shutil.copytree(
        study.folder, elsewhere, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns(".snakemake")
    )
    study.folder = elsewhere
    study.rebuilds(set())


def test_another_branch_and_back(study):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *arguments], cwd=study.repository, check=True, capture_output=True)

    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "as it is")
    git("checkout", "-b", "other")
    study.edit("workflow/vitcnn/training/trainer.py", "loss.backward()", "(2 * loss).backward()")
    git("commit", "-am", "an experiment")
    git("checkout", "main")
    study.rebuilds(set())


def test_comments_docstrings_and_formatting(study):
    for path in (study.repository / "workflow").rglob("*.py"):
        reword(path)
    study.rebuilds(set())


def test_order_and_anchors_in_the_configuration(study):
    def reversed_keys(value):
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return value

    study.config = reversed_keys(study.config)
    path = study.repository / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["experiments"]["curves"]["models"] = config["experiments"]["data_efficiency"]["models"]
    text = yaml.dump(reversed_keys(config), sort_keys=False)
    assert "&id001" in text
    path.write_text(text)
    study.rebuilds(set())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--cores", "1"),
        ("--resources", "gpu=2"),
        ("--config", "threads=2"),
        ("--config", "device=cpu"),
        ("--verbose",),
    ],
)
def test_how_it_is_run(study, arguments):
    assert study.plans(*arguments) == set()


def test_the_default_profile(study):
    assert study.makes(profile=str(study.repository / "profiles/default")) == set()


def test_another_executor(study):
    assert study.plans(profile=str(study.repository / "profiles/slurm")) == set()


# Code --------------------------------------------------------------------------------------------


def test_a_constant_of_a_model_file(study):
    study.edit("workflow/vitcnn/models/vit.py", "p = self.drop.p if", "p = 0.5 * self.drop.p if")
    vits = runs_with("vit")
    study.rebuilds(and_what_shows(vits) | {f"model {pair}" for pair in MODELS if "vit" in pair})


def test_a_constant_of_the_training_loop(study):
    study.edit("workflow/vitcnn/training/trainer.py", "loss.backward()", "(2 * loss).backward()")
    study.rebuilds(EVERY_RUN | ALL_SHOWN)


def test_a_reader_that_reads_the_same(study):
    study.edit("workflow/vitcnn/data/images.py", "CHUNK = 100", "CHUNK = 50")
    packed = chain("imagenet200", "validate_images", "pack_dataset")
    runs = runs_with("imagenet200")
    study.rebuilds(packed, planned=packed | and_what_shows(runs))


def test_a_reader_that_reads_otherwise(study):
    study.edit(
        "workflow/vitcnn/data/images.py",
        "np.asarray(colour)",
        "(255 - np.asarray(colour))",
    )
    study.rebuilds(
        chain("imagenet200", "validate_images", "pack_dataset") | and_what_shows(runs_with("imagenet200"))
    )


def test_a_constant_of_one_figure(study):
    study.edit("workflow/vitcnn/results/figures/summary.py", "9 * len(datasets)", "8 * len(datasets)")
    study.rebuilds({"summary"})


def test_the_look_of_all_figures(study):
    study.edit("workflow/vitcnn/results/figures/style.py", '"font.size": 11', '"font.size": 12')
    study.rebuilds(set(FIGURES))


def test_the_reported_figures(study):
    study.edit("workflow/vitcnn/results/reported.csv", "62.92", "62.93")
    study.rebuilds({f"table {name}" for name in RUNS})


def test_code_that_checks_or_reports_and_makes_nothing(study):
    study.edit("workflow/vitcnn/schema.py", "unknown key", "no such key")
    study.edit("workflow/vitcnn/cli.py", "an unexpected error", "a defect")
    study.edit("workflow/vitcnn/provenance/freshness.py", "not made yet", "does not exist")
    study.edit("workflow/rules/train.smk", "one training job per run", "a training job per run")
    study.rebuilds(set())


# Configuration -----------------------------------------------------------------------------------


def test_lr_of_one_recipe(study):
    study.change({"recipes": {"adamw20": {"lr": 0.0001}}})
    study.rebuilds(and_what_shows(runs_with("adamw20")))


def test_lr_after_snakemakes_notes_are_lost(study):
    shutil.rmtree(study.folder / ".snakemake")
    study.change({"recipes": {"adamw20": {"lr": 0.0001}}})
    study.rebuilds(and_what_shows(runs_with("adamw20")))


def test_two_settings_swapped(study):
    study.change({"recipes": {"adamw10": {"lr": 0.01, "weight_decay": 0.02}}})
    study.rebuilds(and_what_shows(runs_with("adamw10")))
    if not study.is_real:
        return
    study.change({"recipes": {"adamw10": {"lr": 0.02, "weight_decay": 0.01}}})
    study.rebuilds(and_what_shows(runs_with("adamw10")))


def test_one_models_key(study):
    study.change({"models": {"simple_cnn": {"hidden": 9}}})
    study.rebuilds(and_what_shows(runs_with("simple_cnn")) | {"model cifar10/simple_cnn"})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"report": {"titles": {"comparison": "Another title"}}},
            {"table comparison", "table comparison_differences", "comparison_curves", "findings"},
        ),
        (
            {"experiments": {"curves": {"pairs": [["simple_cnn", "simple_vit"]]}}},
            {"table curves_differences", "findings"},
        ),
        ({"report": {"titles": {"summary": "Another title"}}}, {"summary"}),
        ({"report": {"plots": {"dpi": 50}}}, set(FIGURES)),
        (
            {"models": {"cnn": {"title": "ResNet"}}},
            shown("comparison") | {"model cifar10/cnn", "model imagenet200/cnn"},
        ),
    ],
)
def test_titles_and_plots(study, config, expected):
    study.change(config)
    study.rebuilds(expected)


def test_a_seed_added_and_removed(study):
    study.change({"seeds": [0, 1]})
    study.rebuilds({run.replace("seed0", "seed1") for run in EVERY_RUN} | ALL_SHOWN)
    if not study.is_real:
        return
    study.change({"seeds": [0]})
    study.rebuilds(ALL_SHOWN)


def test_an_experiment_that_shares_runs(study):
    study.change(
        {
            "experiments": {
                "sizes": {
                    "datasets": ["cifar10"],
                    "models": ["vit", "cnn"],
                    "recipe": "adam10",
                    "train_sizes": [10, "all"],
                }
            }
        }
    )
    new = {f"cifar10/{model}/adam10/n10/seed0" for model in ("vit", "cnn")}
    tables = {"table sizes", "table sizes_differences"}
    study.rebuilds(new | tables | {"collected sizes", "sizes_curves", "sizes_data_efficiency", "findings"})


# Data --------------------------------------------------------------------------------------------


def test_one_byte_in_an_image_of_an_archive(study, tmp_path):
    archive = shutil.copy2(
        study.config["datasets"]["cifar10"]["source"][0], tmp_path / "cifar-10-python.tar.gz"
    )
    study.change({"datasets": {"cifar10": {"source": [str(archive)]}}})
    study.rebuilds(set())  # equal content, so far
    content = bytearray(gzip.decompress(archive.read_bytes()))
    place = content.index(b"data_batch_1") + 1000
    content[place] ^= 1
    archive.write_bytes(gzip.compress(bytes(content)))
    expected = chain("cifar10") | and_what_shows(runs_with("cifar10"))
    study.rebuilds(expected)


def test_one_byte_in_an_image_of_a_folder(study, tmp_path):
    folder = shutil.copytree(study.config["datasets"]["imagenet200"]["source"][0], tmp_path / "moved")
    study.change({"datasets": {"imagenet200": {"source": [str(folder)]}}})
    study.rebuilds(set())
    image = next((folder / "train").rglob("*.JPEG"))
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    study.rebuilds(chain("imagenet200") | and_what_shows(runs_with("imagenet200")))


def test_data_that_were_deleted_after_use(study):
    shutil.rmtree(study.folder / "resources")
    study.rebuilds(set())
    study.change({"seeds": [0, 1]})
    new = {run.replace("seed0", "seed1") for run in EVERY_RUN}
    everything = EVERY_RUN | new | ALL_SHOWN | chain("cifar10") | chain("imagenet200")
    study.rebuilds(everything - EVERY_RUN, planned=everything)


def test_a_tree_that_was_deleted_after_use(study, tmp_path):
    for dataset in ("cifar10", "imagenet200"):
        shutil.rmtree(study.folder / "resources" / dataset / "tree")
    moved = shutil.move(
        shutil.copy2(study.config["datasets"]["cifar10"]["source"][0], tmp_path), tmp_path / "moved"
    )
    study.change({"datasets": {"cifar10": {"source": [str(moved)]}}})
    study.rebuilds(set())
    study.edit("workflow/vitcnn/data/cifar.py", "IMAGE_SIZE = 32", "IMAGE_SIZE = 64 // 2")
    planned = chain("cifar10", "copy_dataset", "validate_images", "pack_dataset")
    study.rebuilds(planned, planned=planned | and_what_shows(runs_with("cifar10")))


def test_several_changes_at_once(study, tmp_path):
    """A job that Snakemake runs must not hide another that is stale below it."""
    archive = shutil.copy2(study.config["datasets"]["cifar10"]["source"][0], tmp_path / "moved.tar.gz")
    study.change(
        {"datasets": {"cifar10": {"source": [str(archive)]}}, "recipes": {"adamw20": {"lr": 0.0001}}}
    )
    study.edit("workflow/vitcnn/data/images.py", "CHUNK = 100", "CHUNK = 50")
    study.edit("workflow/vitcnn/data/cifar.py", "IMAGE_SIZE = 32", "IMAGE_SIZE = 64 // 2")
    packed = chain("imagenet200", "validate_images", "pack_dataset") | chain(
        "cifar10", "validate_images", "pack_dataset"
    )
    expected = packed | and_what_shows(runs_with("adamw20"))
    study.rebuilds(expected, planned=packed | EVERY_RUN | ALL_SHOWN)


def test_what_the_command_line_forces(study):
    assert study.plans("--forcerun", "train") == EVERY_RUN | ALL_SHOWN
    if not study.is_real:
        return
    one = {RUN} | shown("comparison")
    assert study.makes("--forcerun", f"results/runs/{RUN}/metrics.json") == one
    steps = ("validate_images", "pack_dataset")
    packed = chain("cifar10", *steps) | chain("imagenet200", *steps)
    assert study.makes("--forcerun", "pack_dataset") == packed
    study.rebuilds(set())


@pytest.mark.parametrize("name", ["runtime.json", "model.safetensors", "predictions.npz"])
def test_a_file_of_a_run_that_is_missing(study, name):
    (study.folder / "results/runs" / RUN / name).unlink()
    assert study.plans() == {RUN} | shown("comparison")


def test_a_failed_step_does_not_hide_what_changed(study):
    """Snakemake deletes the outputs of a failed job; its record stays."""
    reader = "workflow/vitcnn/data/images.py"
    study.edit(reader, "np.asarray(colour)", "(254 + nothing - np.asarray(colour))")
    assert study.snakemake().returncode != 0
    study.edit(reader, "254 + nothing", "255")
    study.rebuilds(
        chain("imagenet200", "validate_images", "pack_dataset") | and_what_shows(runs_with("imagenet200"))
    )


def test_damaged_arrays_are_not_trained_on(study):
    """An array over 1 MB, of which a dry run reads the size alone unless something is to be trained on it."""
    path = study.folder / "resources/imagenet200/packed/train_images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    assert study.plans() == set()
    audited = study.snakemake("audit")
    assert f"{path.relative_to(study.folder)} was edited, cut short or replaced" in audited.stdout
    study.change({"experiments": {"comparison": {"seeds": [0, 1]}}})
    new = {run.replace("seed0", "seed1") for run in RUNS["comparison"]}
    packed = chain("imagenet200", "validate_images", "pack_dataset")
    expected = new | shown("comparison") | packed
    study.rebuilds(expected, planned=expected | runs_with("imagenet200"))


def test_a_title_after_the_data_were_deleted(study):
    shutil.rmtree(study.folder / "resources")
    study.change({"models": {"cnn": {"title": "ResNet"}}})
    study.rebuilds(shown("comparison") | {"model cifar10/cnn", "model imagenet200/cnn"})


# Environment -------------------------------------------------------------------------------------


def test_a_package_that_training_uses(study):
    study.edit("envs/lock.txt", "torch==2.15.0", "torch==2.15.1")
    accept = ("--config", "accept_environment=true")
    described = {f"model {pair}" for pair in MODELS}
    assert study.plans() == EVERY_RUN | ALL_SHOWN | described
    if not study.is_real:
        return
    assert study.makes(*accept) == ALL_SHOWN
    assert "torch 2.15.0 instead of 2.15.1" in (study.folder / "results/tables/comparison.md").read_text()
    assert study.plans(*accept) == set()
    study.rebuilds(EVERY_RUN | ALL_SHOWN | described)
    # Trained with what is installed here, which is not what this lock names.
    assert "torch 2.15.0 instead of 2.15.1" in (study.folder / "results/tables/comparison.md").read_text()


def test_a_package_that_figures_use(study):
    study.edit("envs/lock.txt", "matplotlib==3.11.2", "matplotlib==3.11.3")
    study.rebuilds(set(FIGURES))


def test_a_package_that_nothing_is_computed_with(study):
    for name in ("pytest", "snakemake", "ruff", "jsonschema"):
        study.edit("envs/lock.txt", f"\n{name}==", f"\n{name}==99.")
    study.rebuilds(set())


# Results -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deleted", "edited", "truncated", "replaced by that of another run"])
def test_metrics(study, how):
    path = study.folder / "results/runs" / RUN / "metrics.json"
    former = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "edited":
        path.write_text(path.read_text().replace('"epoch": 1', '"epoch": 2'))
    elif how == "truncated":
        path.write_bytes(former[: len(former) // 2])
    else:
        shutil.copyfile(study.folder / "results/runs" / RUN.replace("vit", "cnn") / "metrics.json", path)
    study.rebuilds({RUN} | shown("comparison"))
    if study.is_real:
        assert path.read_bytes() == former


def test_a_job_that_was_cut_off(study):
    """Killed between its outputs: Snakemake's note of it is lost, and the record says it was begun."""
    path = study.folder / "results/runs" / RUN / "provenance.json"
    write_record(path, read_record(path) | {"inputs": None, "outputs": None})
    study.rebuilds({RUN} | shown("comparison"))


# What the models learned -------------------------------------------------------------------------

PROBED = {f"probe {run}" for run in RUNS["curves"]}
LEARNED = {"similarity", "robustness", "reach", "attention", "findings"}


@pytest.fixture(scope="session")
def probed(finished, tmp_path_factory):
    """The finished study, and what its models learned."""

    def make(base):
        study = finished.copied(base)
        study.change({"representations": {"dataset": "cifar10", "experiments": ["curves"], "also": []}})
        assert study.makes() == PROBED | LEARNED

    base = made_once(tmp_path_factory, "probed", make)
    return Study(base / "repository", base / "work", yaml.safe_load((base / "work/config.yaml").read_text()))


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("representations/robustness.py", "CELLS = 8", "CELLS = 4", PROBED | LEARNED),
        ("results/figures/reach.py", "(13, 8.6)", "(13, 9.6)", {"reach"}),
        ("results/learned.py", "_GLOBAL = 0.9", "_GLOBAL = 0.8", {"findings"}),
        (
            "training/trainer.py",
            "loss.backward()",
            "(2 * loss).backward()",
            EVERY_RUN | ALL_SHOWN | PROBED | LEARNED,
        ),
    ],
)
def test_a_change_of_what_is_probed_or_drawn(probed, file, old, new, expected, tmp_path):
    study = Study(tmp_path / "repository", probed.folder, probed.config)
    shutil.copytree(probed.repository, study.repository)
    assert study.plans() == set()
    study.edit(f"workflow/vitcnn/{file}", old, new)
    assert study.plans() == expected


def test_weights_of_another_run(probed, tmp_path):
    study = Study(probed.repository, tmp_path / "work", probed.config)
    shutil.copytree(probed.folder, study.folder)
    runs = [study.folder / "results/runs" / run for run in RUNS["curves"]]
    shutil.copyfile(*(run / "model.safetensors" for run in runs))
    trained = RUNS["curves"][1]
    assert study.plans() == {trained, f"probe {trained}"} | shown("curves") | LEARNED
