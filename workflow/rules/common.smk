# What the rules share: the checked configuration, the plan, and how a rule calls its script.
import atexit
import os
import re
import shlex
import subprocess
import sys

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.enums import Quietness
from snakemake_interface_executor_plugins.settings import DeploymentMethod

WORKFLOW = Path(workflow.current_basedir).parent
sys.path.insert(0, str(WORKFLOW))

import vitcnn_hooks
from vitcnn import plan, predictions
from vitcnn.config import check_config, refuse_repeated_keys
from vitcnn.contradictions import TABLES
from vitcnn.data.sources import is_generated, reading_settings
from vitcnn.errors import StudyError
from vitcnn.files import canonical_json, digest, file_digest, write_json
from vitcnn.locks import hold, holder
from vitcnn.provenance.environment import not_as_locked
from vitcnn.provenance.record import fingerprint, read_record
from vitcnn.progress import Followed, Progress
from vitcnn.profiles import refuse_absent_profile, refuse_real_data
from vitcnn.status import RESOLVED_CONFIG, TRAINING, WORKING
from vitcnn.training.devices import has_gpu
from vitcnn.training.gpus import visible_gpus

try:
    refuse_absent_profile(sys.argv[1:], Path(workflow.rundir), Path(workflow.main_snakefile).parent)
    for file in [WORKFLOW.parent / "config.yaml", *workflow.overwrite_configfiles]:
        refuse_repeated_keys(Path(file))
    STUDY = check_config(config)
    if PROFILE:
        refuse_real_data(STUDY, Path())
    RUNS = plan.all_runs(STUDY)
except StudyError as error:
    raise WorkflowError(str(error)) from None

# What the report's first page says; it knows the configuration alone. A host's own is left as it is.
config = {
    **config,
    "generated": [d["title"] for d in STUDY["datasets"].values() if is_generated(d["source"])],
    "stale": {},
}

WITH_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
DATASETS, MODELS = STUDY["datasets"], STUDY["models"]
EXPERIMENTS = plan.active_experiments(STUDY, optional=False)
ALL_EXPERIMENTS = plan.active_experiments(STUDY)
for file in [WORKFLOW.parent / "Snakefile", *WORKFLOW.glob("rules/*.smk")]:
    for name in re.findall(r"^rule\s+(\w+):", file.read_text(encoding="utf-8"), re.MULTILINE):
        if name in ALL_EXPERIMENTS:
            raise WorkflowError(f"experiments.{name}: is the name of a rule; choose another")
FIGURES = plan.figures(STUDY)
PROBED = plan.probed_runs(STUDY)
CORRUPTED = plan.probed_runs(STUDY, "corruptions")
PROBED_FIGURES = plan.probed_figures(STUDY)
ALL_FLAW_EXPERIMENTS = plan.flaw_experiments(STUDY)
FLAW_EXPERIMENTS = [name for name in ALL_FLAW_EXPERIMENTS if name in EXPERIMENTS]
COST_EXPERIMENTS = plan.cost_experiments(STUDY)
PAIRS = list(dict.fromkeys(f"{run.dataset}/{run.model}" for run in RUNS))

TABLE_KINDS, FIGURE_KINDS, PAGE_KINDS = ["csv", "md", "html"], ["svg", "png", "pdf"], ["md", "html"]

# What readers predict is scored once one of them has sealed it, and is an input of nothing else. What is wrong
# with it is said where scores are asked for, so that it stops no other invocation.
PREDICTED = (
    predictions.prediction_files() if STUDY["predictions"] and predictions.SEALS.exists() else []
)
PREDICTED_EXPERIMENTS, UNSCORABLE = predictions.predicted_experiments(PREDICTED, STUDY)

ASKED_CONFIG = "logs/asked.json"  # of the last invocation, for audit and status
ASKED_SIZES = "logs/asked_sizes.json"  # by dataset, what its runs in the last invocation need

# A training takes one slot and a preparation of data takes all, so data come first. Snakemake ignores a
# resource without a limit.
ALL_TRAINING_SLOTS = 100_000
vitcnn_hooks.limit_resource(workflow, "training_slots", ALL_TRAINING_SLOTS)

# As many training jobs at a time as this machine's GPUs have places for; --resources gpu=N overrides it.
GPU_JOBS = max(1, len(visible_gpus())) * STUDY["jobs_per_gpu"]


def command(script):
    """Return a params function: the start of the shell command that runs workflow/scripts/{script}.py."""
    # With conda, `python` is that of the environment. Text and file names are UTF-8 whatever the locale.
    python = "python" if WITH_CONDA else sys.executable
    words = [python, "-X", "utf8", str(WORKFLOW / "scripts" / f"{script}.py")]
    words += ["--accept-environment"] if STUDY["accept_environment"] else []

    def with_redo(wildcards, output):
        # A job that is stale itself, or forced, ignores its record. Only the main process has verdicts; in
        # others each job compares its own record.
        verdict = vitcnn_hooks.verdicts_of(workflow).get(getattr(output, "provenance", ""))
        redo = verdict and verdict.reasons and verdict.record
        return shlex.join([*words, *(["--redo"] if redo else [])])

    with_redo.script = script
    return with_redo


def settings(of):
    """Return a params function: as one line of JSON the settings that decide a job's output.

    `of` returns them from the job's wildcards.
    """
    return lambda wildcards: canonical_json(of(wildcards))


def run_of(wildcards):
    """Return the run that a job's wildcards name."""
    size = wildcards.train_size
    size = size if size == plan.ALL else int(size)
    return plan.Run(wildcards.dataset, wildcards.model, wildcards.recipe, size, int(wildcards.seed))


def is_tiny_imagenet(wildcards):
    """Return whether a dataset comes as Tiny ImageNet does, its test images unsorted."""
    return DATASETS[wildcards.dataset]["layout"] == "tiny_imagenet"


def of_runs(pattern):
    """Return an input function: a file of each run of the experiment; none for partial results."""
    return lambda wildcards: (
        []
        if wildcards.get("part")
        else collect(
            pattern, run=[r.name for r in plan.experiment_runs(STUDY, wildcards.experiment)]
        )
    )


def of_figure(pattern):
    """Return an input function: a file of each experiment that the figure shows."""
    return lambda wildcards: collect(
        pattern, part=wildcards.part, experiment=FIGURES[wildcards.figure].experiments
    )


def of_equals(pattern):
    """Return an input function: a file of each model, on each dataset, that the experiment declares equal to another."""

    def files(wildcards):
        asked = STUDY["experiments"][wildcards.experiment]
        models = dict.fromkeys(entry["models"][1] for entry in asked["equal"])
        return [] if wildcards.part else collect(pattern, dataset=asked["datasets"], model=models)

    return files


def of_probed(pattern):
    """Return an input function: a file of each probed run; none for partial results."""
    return lambda wildcards: (
        [] if wildcards.get("part") else collect(pattern, run=[r.name for r in PROBED])
    )


def of_corrupted(wildcards):
    """Return what is measured of each run on corrupted images; without any, a WorkflowError says how to ask for it."""
    if not CORRUPTED:
        raise WorkflowError(
            "corruptions: the configuration asks for no run; set, for instance, "
            "corruptions: {dataset: cifar10, experiments: [comparison]}"
        )
    return collect("results/runs/{run}/corruptions.json", run=[run.name for run in CORRUPTED])


def costs():
    """Return the cost of each model, on each dataset, of the experiments whose cost is measured."""
    runs = (run for name in COST_EXPERIMENTS for run in plan.experiment_runs(STUDY, name))
    return list(dict.fromkeys(f"results/cost/{run.dataset}/{run.model}.json" for run in runs))


def results_of(experiments, part=""):
    """Return the results that show these experiments and no other: collected numbers, tables, figures."""
    figures = [name for name, f in FIGURES.items() if set(f.experiments) <= set(experiments)]
    return [
        *collect(f"results/{part}collected/{{e}}/{{t}}.csv", e=experiments, t=["runs", "epochs"]),
        *collect(f"results/{part}tables/{{e}}.{{kind}}", e=experiments, kind=[*TABLE_KINDS, "tex"]),
        *collect(f"results/{part}figures/{{f}}.{{kind}}", f=figures, kind=FIGURE_KINDS),
        *collect(
            "results/tables/{e}_{table}.{kind}",
            e=[] if part else experiments,
            table=TABLES,
            kind=TABLE_KINDS,
        ),
    ]


def all_results(part=""):
    """Return every result that this configuration has; what the models learned needs every run, and so does cost."""
    learned = [] if part else PROBED_FIGURES
    cost = [] if part or not COST_EXPERIMENTS else ["cost"]
    return [
        *results_of(EXPERIMENTS, part),
        *collect("results/figures/{f}.{kind}", f=learned, kind=FIGURE_KINDS),
        *collect(f"results/{part}findings.{{kind}}", kind=PAGE_KINDS if EXPERIMENTS else []),
        *collect(
            "results/tables/flaws.{kind}",
            kind=TABLE_KINDS if FLAW_EXPERIMENTS and not part else [],
        ),
        *collect("results/tables/{f}.{kind}", f=cost, kind=TABLE_KINDS),
        *collect("results/figures/{f}.{kind}", f=cost, kind=FIGURE_KINDS),
        *collect("results/predictions.{kind}", kind=PAGE_KINDS if PREDICTED and not part else []),
    ]


def one_of(names):
    """Return a wildcard constraint that admits these names alone."""
    return "|".join(names) or "(?!)"


wildcard_constraints:
    dataset=one_of(DATASETS),
    model=one_of(MODELS),
    recipe=one_of(STUDY["recipes"]),
    train_size="all|[1-9][0-9]*",
    seed="0|[1-9][0-9]*",
    experiment=one_of(ALL_EXPERIMENTS),
    figure=one_of(FIGURES),
    part="(partial/)?",
