# What the rules share: the checked configuration, the plan, and how entry points are called.
import shlex
import subprocess
import sys

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.resources import Resource

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.errors import StudyError
from vitcnn.results.figures import FIGURES
from vitcnn.training.devices import has_gpu
from vitcnn.training.gpus import visible_gpus

try:
    STUDY = check_config(config)
    RUNS = plan.all_runs(STUDY)
    plan.refuse_oversized(STUDY, Path("resources"))
except StudyError as error:
    raise WorkflowError(str(error)) from None

EXPERIMENTS = plan.active_experiments(STUDY)
ACTIVE_FIGURES = [name for name, needed in FIGURES.items() if set(needed) <= set(EXPERIMENTS)]
PROBED_FIGURES = plan.probed_figures(STUDY)
TINY_IMAGENETS = [
    n for n, dataset in STUDY["datasets"].items() if dataset["layout"] == "tiny_imagenet"
]
PAIRS = list(dict.fromkeys((run.dataset, run.model) for run in RUNS))

# `entry train --log …` in a shell command runs workflow/scripts/train.py. The paths of this machine
# stay out of the rules, where they would count as a change. With conda it is the environment's python.
# Text and names of files are UTF-8 whatever the locale says.
python = "python" if workflow.deployment_settings.deployment_method else sys.executable
scripts = shlex.quote(str(Path(workflow.basedir) / "workflow" / "scripts"))
shell.prefix(
    f'set -euo pipefail; entry() ( script=$1; shift; exec {shlex.quote(python)} -X utf8 {scripts}/$script.py "$@" ); '
)


# Each training takes one slot and each preparation of data takes them all: data come first. Without a
# limit a resource means nothing to Snakemake.
ALL_TRAINING_SLOTS = 100_000
workflow.register_resource("training_slots", Resource("training_slots", ALL_TRAINING_SLOTS))

# As many training jobs at a time as there are places on this machine's GPUs.
GPU_JOBS = max(1, len(visible_gpus())) * STUDY["jobs_per_gpu"]


def limit_gpu_jobs():
    """Let no more training jobs run here than have a place on a GPU; --resources gpu=N overrides it."""
    if workflow.local_exec and "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", Resource("gpu", GPU_JOBS))


def results_below(folder):
    """Return the results that this configuration has, below `folder`."""
    tables = [f"{folder}/tables/comparison.{kind}" for kind in ("csv", "md", "html", "tex")]
    figures = [
        f"{folder}/figures/{f}.{kind}" for f in ACTIVE_FIGURES for kind in ("svg", "png", "pdf")
    ]
    # The figures of what the models learned need every run.
    learned = [
        f"{folder}/figures/{f}.{kind}"
        for f in (PROBED_FIGURES if folder == "results" else ())
        for kind in ("svg", "png", "pdf")
    ]
    findings = [f"{folder}/findings.md"]
    return [
        *(tables if "comparison" in EXPERIMENTS else []),
        *figures,
        *learned,
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


def refuse_absent_device():
    """Stop before the first job where it is certain that no training job can get its device."""
    device = STUDY["device"]
    if workflow.local_exec and device in ("cuda", "mps") and not has_gpu(device):
        raise WorkflowError(f"device: {device} is not available on this machine. Set device: auto")


def say_how_long():
    """Say before the first job how many runs are to be trained, and about how long that takes here."""
    names = [
        str(Path(job.output.metrics).parent)
        for job in workflow.dag.needrun_jobs()
        if job.rule.name == "train"
    ]
    if not names or not workflow.is_main_process:
        return
    if not workflow.local_exec:
        logger.info(f"\nTo be trained: {len(names)} run(s), on the cluster.")
        return
    # In a process of its own: torch stays out of this one, and what fails there stops nothing here.
    jobs = max(1, workflow.cores // STUDY["threads"])
    if has_gpu(STUDY["device"]):
        jobs = min(jobs, GPU_JOBS)
    command = [
        sys.executable,
        f"{workflow.basedir}/workflow/scripts/estimate_time.py",
        *("--config", RESOLVED_CONFIG, "--jobs", str(jobs), "--runs", "-"),
    ]
    said = subprocess.run(command, input="\n".join(names), capture_output=True, text=True)
    logger.info(f"\n{said.stdout or f'To be trained: {len(names)} run(s). {said.stderr}'}")


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
