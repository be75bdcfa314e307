# What the rules share: the checked configuration, the plan, and how entry points are called.
import json
import shlex
import sys

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.resources import Resource

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.data.sources import Source
from vitcnn.errors import StudyError
from vitcnn.results.figures import FIGURES
from vitcnn.training.devices import has_gpu

try:
    STUDY = check_config(config)
    RUNS = plan.all_runs(STUDY)
    plan.refuse_oversized(STUDY, Path("resources"))
except StudyError as error:
    raise WorkflowError(str(error)) from None

EXPERIMENTS = plan.active_experiments(STUDY)
ACTIVE_FIGURES = [name for name, needed in FIGURES.items() if set(needed) <= set(EXPERIMENTS)]
TINY_IMAGENETS = [
    n for n, dataset in STUDY["datasets"].items() if dataset["layout"] == "tiny_imagenet"
]
PAIRS = list(dict.fromkeys((run.dataset, run.model) for run in RUNS))

# `entry train --log …` in a shell command runs workflow/scripts/train.py. The paths of this machine
# stay out of the rules, where they would count as a change. With conda it is the environment's python.
python = "python" if workflow.deployment_settings.deployment_method else sys.executable
scripts = shlex.quote(str(Path(workflow.basedir) / "workflow" / "scripts"))
shell.prefix(
    f'set -euo pipefail; entry() ( script=$1; shift; exec {shlex.quote(python)} {scripts}/$script.py "$@" ); '
)


# Each training takes one slot and each preparation of data takes them all: data come first. Without a
# limit a resource means nothing to Snakemake.
ALL_TRAINING_SLOTS = 100_000
workflow.register_resource("training_slots", Resource("training_slots", ALL_TRAINING_SLOTS))


def results_below(folder):
    """Return the results that this configuration has, below `folder`."""
    tables = [f"{folder}/tables/comparison.{kind}" for kind in ("csv", "md", "html", "tex")]
    figures = [
        f"{folder}/figures/{f}.{kind}" for f in ACTIVE_FIGURES for kind in ("svg", "png", "pdf")
    ]
    findings = [f"{folder}/findings.md"]
    return [
        *(tables if "comparison" in EXPERIMENTS else []),
        *figures,
        *(findings if EXPERIMENTS else []),
    ]


TARGETS = [
    *results_below("results"),
    *(f"results/models/{dataset}/{model}.txt" for dataset, model in PAIRS),
    *(run.folder / "metrics.json" for run in RUNS),
]
PARTIAL_TARGETS = results_below("results/partial")


def one_of(names):
    """Return a wildcard constraint that admits these names alone."""
    return "|".join(names) or "(?!)"


def local_sources(wildcards):
    """Return the places of a dataset's source list that are paths, and are there."""
    sources = [Source.parse(text) for text in STUDY["datasets"][wildcards.dataset]["source"]]
    return [s.location for s in sources if s.kind == "path" and Path(s.location).exists()]


def folder_listings(wildcards):
    """Return a digest of the names, sizes and times in each source that is an unpacked folder."""
    folders = [Path(location) for location in local_sources(wildcards) if Path(location).is_dir()]
    return [
        plan.digest(
            sorted((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in folder.rglob("*"))
        )
        for folder in folders
    ]


def dataset_setting(key):
    """Return an input function: a setting of the wildcard's dataset."""
    return lambda wildcards: STUDY["datasets"][wildcards.dataset][key]


def tree_manifest(wildcards):
    """Return the manifest of a dataset's tree when it is ready to be read."""
    name = "sorted" if wildcards.dataset in TINY_IMAGENETS else "copied"
    return f"resources/{wildcards.dataset}/tree/{name}.json"


def wildcards_run(wildcards):
    """Return the run that a job's wildcards name."""
    size = wildcards.train_size if wildcards.train_size == plan.ALL else int(wildcards.train_size)
    return plan.Run(wildcards.dataset, wildcards.model, wildcards.recipe, size, int(wildcards.seed))


def architecture(wildcards):
    """Return dataset and model of a spec as JSON, whatever the recipe."""
    run = plan.Run(wildcards.dataset, wildcards.model, next(iter(STUDY["recipes"])), plan.ALL, 0)
    spec = plan.run_spec(STUDY, run)
    return plan.canonical_json({key: spec[key] for key in ("dataset", "model")})


def architecture_title(wildcards):
    """Return the first line of a model's description."""
    titles = (
        STUDY["models"][wildcards.model]["title"],
        STUDY["datasets"][wildcards.dataset]["title"],
    )
    return " for ".join(titles)


def experiment_files(name):
    """Return an input function: this file of each run of the wildcard's experiment."""
    return lambda wildcards: [
        run.folder / name for run in plan.experiment_runs(STUDY, wildcards.experiment)
    ]


def experiment_data(wildcards):
    """Return the packed data of the wildcard's experiment: runs trained on others do not belong."""
    datasets = STUDY["experiments"][wildcards.experiment]["datasets"]
    return [f"resources/{dataset}/packed/manifest.json" for dataset in datasets]


def figure_tables(name):
    """Return an input function: this table of each experiment that the wildcard's figure shows."""
    return lambda wildcards: [
        f"results/{wildcards.part}collected/{experiment}/{name}.csv"
        for experiment in FIGURES[wildcards.figure]
    ]


def finished_runs(wildcards):
    """Return which runs of an experiment are there, so that a partial rendering follows them."""
    runs = plan.experiment_runs(STUDY, wildcards.experiment)
    paths = [run.folder / "metrics.json" for run in runs] + [
        Path(p) for p in experiment_data(wildcards)
    ]
    return plan.digest([[str(path), path.stat().st_mtime_ns] for path in paths if path.exists()])


def figure_settings(wildcards):
    """Return a figure's title and plot settings as JSON."""
    title = STUDY["report"]["titles"][wildcards.figure]
    return plan.canonical_json(STUDY["report"]["plots"] | {"title": title})


def refuse_absent_device():
    """Stop before the first job where it is certain that no training job can get its device."""
    device = STUDY["device"]
    if workflow.local_exec and device in ("cuda", "mps") and not has_gpu(device):
        raise WorkflowError(f"device: {device} is not available on this machine. Set device: auto")


def say_where_to_look():
    """End a run by naming what it made."""
    made = [path for path in results_below("results") if Path(path).exists()]
    if made and workflow.is_main_process:
        shown = [
            p for p in made if p.endswith((".html", ".svg", ".md")) and "comparison.md" not in p
        ]
        logger.info(
            "\nResults are in:\n" + "\n".join(f"  {Path(path).absolute()}" for path in shown)
        )


def say_what_is_left():
    """End a failed run by naming the way to what did succeed."""
    if workflow.is_main_process:
        logger.info(
            "\n`snakemake partial` shows what the finished runs give, with the gaps marked."
        )


wildcard_constraints:
    dataset=one_of(STUDY["datasets"]),
    model=one_of(STUDY["models"]),
    recipe=one_of(STUDY["recipes"]),
    train_size="all|[1-9][0-9]*",
    seed="0|[1-9][0-9]*",
    experiment=one_of(EXPERIMENTS),
    figure=one_of(ACTIVE_FIGURES),
    part="(partial/)?",
