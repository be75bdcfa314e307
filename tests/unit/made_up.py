"""A made-up study: the files of its finished runs, and what the results make of them."""

import copy
import html
import json
import re
from importlib import import_module

import pandas as pd
import yaml
from conftest import NO_OTHERS, ROOT

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.files import digest, write_json
from vitcnn.results import findings, tables
from vitcnn.results.claims import Claim
from vitcnn.results.collect import collect_runs
from vitcnn.results.sections import to_html, to_markdown

RAW = yaml.safe_load((ROOT / "config.yaml").read_text())
RAW["experiments"] |= NO_OTHERS
# Means of a made-up study: the ViT behind on CIFAR, ahead on ImageNet-200, catching up at 25,000.
FINAL = {
    ("cifar10", "vit"): 62.0,
    ("cifar10", "cnn"): 80.0,
    ("cifar100", "vit"): 36.0,
    ("cifar100", "cnn"): 42.0,
    ("imagenet200", "vit"): 31.0,
    ("imagenet200", "cnn"): 29.0,
}
PARAMETERS = {
    ("vit", "cifar10"): 1_205_642,
    ("cnn", "cifar10"): 175_258,
    ("vit", "cifar100"): 1_217_252,
    ("cnn", "cifar100"): 181_108,
    ("vit", "imagenet200"): 1_248_584,
    ("cnn", "imagenet200"): 187_608,
}
BY_SIZE = {1000: -20.0, 5000: -10.0, 10000: -5.0, 25000: 1.0, 50000: 3.0}


def study_of(seeds=(0, 1, 2)):
    return check_config(copy.deepcopy(RAW) | {"seeds": list(seeds)})


ENVIRONMENT = {"numpy": "2.5.5", "torch": "2.15.0"}


def mean_of(run):
    if run.recipe == "adam10":
        return FINAL[run.dataset, run.model]
    base = 70.0
    if run.recipe == "adamw10" and run.model == "simple_vit":
        base += BY_SIZE[run.train_size]
    return base + (5 if run.recipe == "adamw20" and run.model == "simple_cnn" else 0)


def write_run(root, study, run):
    """Write the files of a finished run whose accuracy is that of the made-up study.

    On the test images its last epoch but one is the best, on held-out images the third.
    """
    spec = plan.run_spec(study, run)
    epochs, held_out = spec["recipe"]["epochs"], spec["recipe"]["hold_out"]
    accuracy = mean_of(run) + 0.1 * (run.seed - 1) * (1 if "vit" in run.model else -1)
    history = [
        {
            "epoch": epoch,
            "train_loss": 2.0 / epoch,
            "train_accuracy": 50.0,
            "val_accuracy": 50.0 - abs(epoch - 3) if held_out else None,
            "test_accuracy": accuracy - (epochs - epoch) + (0.5 if epoch == epochs - 1 else 0) * 3,
        }
        for epoch in range(1, epochs + 1)
    ]
    tested = [epoch["test_accuracy"] for epoch in history]
    size = {"imagenet200": 100_000}.get(run.dataset, 50_000) if run.train_size == "all" else run.train_size
    seconds = (4.0 if "vit" in run.model else 1.0) * size / 50_000 * (1 + 0.01 * run.seed)
    metrics = {
        "version": 1,
        "spec": spec,
        "spec_digest": digest(spec),
        "data_digest": "0" * 64,
        "precision": "fp32",
        "train_images": size,
        "val_images": 5000 if held_out else 0,
        "test_images": 10_000,
        "test_images_in_train": 9 if run.dataset == "cifar100" else 0,
        "damaged_images": {"train": 0, "test": 0},
        "num_parameters": PARAMETERS["vit" if "vit" in run.model else "cnn", run.dataset],
        "history": history,
        "accuracy": {"final": tested[-1], "best": max(tested), "selected": tested[2] if held_out else None},
    }
    runtime = {
        "version": 1,
        "train_seconds": seconds * epochs,
        "epoch_seconds": [seconds] * epochs,
        "evaluation_seconds": [1.0] * epochs,
        "setup_seconds": 0.1,
        "compile_seconds": 0.0,
        "images_per_second": 1000.0,
        "inference_ms_per_image": (0.4 if "vit" in run.model else 0.3) + 0.001 * run.seed,
        "peak_memory_bytes": 10**9,
        "peak_gpu_memory_bytes": None,
        "device": {"type": "cpu", "name": "Some CPU"},
        "threads": 1,
        "host": "here",
        "platform": "Linux",
        "versions": {"python": "3", "torch": "2", "numpy": "2", "cuda": None},
        "git": {"commit": None, "dirty": None},
        "command": ["train.py"],
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-01T00:01:00+00:00",
        "attempts": 1,
        "resumed_epochs": 0,
    }
    folder = root / run.folder
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "runtime.json").write_text(json.dumps(runtime))
    write_record(folder, ENVIRONMENT)


def write_record(folder, environment):
    record = {"version": 1, "environment": environment}
    write_json(folder / "provenance.json", record | {"digest": digest(record)})


def collect(study, root, generated=(), **options):
    families = {name: model["family"] for name, model in study["models"].items()}
    environments = dict.fromkeys(families, ENVIRONMENT)
    settings = {"study": study, "families": families, "generated": generated, "environments": environments}
    return collect_runs(settings, root, **options)


def finished(root, seeds=(0, 1, 2)):
    study = study_of(seeds)
    for run in plan.all_runs(study):
        write_run(root, study, run)
    return study


def collected(root, study, **options):
    """Collect and go through CSV, as the rules do."""
    result = collect(study, root, **options)
    for name, table in (("runs", result.runs), ("epochs", result.epochs)):
        table.to_csv(root / f"{name}.csv", index=False)
    return pd.read_csv(root / "runs.csv"), pd.read_csv(root / "epochs.csv")


FIGURES = plan.figures(study_of())
NOTEBOOKS = ("training_curves", "data_efficiency", "summary")


def tabulated(runs, experiment="comparison"):
    return tables.tabulate(runs[runs["experiment"] == experiment])


def note_of(runs):
    return tables.note(runs[runs["experiment"] == "comparison"])


def asked_of(study):
    """What the findings are told of each experiment."""
    return {
        name: {"title": plan.title_of(study, name), "pairs": None} | study["experiments"][name]
        for name in plan.active_experiments(study)
    }


def written(runs, study=None):
    """The findings as Markdown; the page says the same in HTML."""
    study = study or study_of()
    found = findings.findings(runs, asked_of(study), study["claims"])
    text = to_markdown(found)
    page = re.sub("</?code>", "`", to_html(found).split("</style>")[1])
    words = re.sub(r"<[^>]+>", " ", page)
    for line in text.splitlines():
        for cell in line.replace("---", "").split("|"):
            assert cell.strip(" -#*") in html.unescape(words), cell
    return text


def first_notebook(runs):
    """The claims of the first notebook, as the findings hold them against the runs."""
    return claims(written(runs), "first")


def verdicts_of(claims):
    """Each verdict by its claim and dataset."""
    return {(claim.claim, claim.shown.partition(",")[0]): claim.verdict for claim in claims}


def second_notebook(runs):
    return claims(written(runs), "second")


def claims(text, notebook):
    table = text.split(f"## What the {notebook} notebook concluded\n\n")[1].split("\n\n")[0]
    return [Claim(*map(str.strip, line.strip("| ").split(" | "))) for line in table.splitlines()[2:]]


def draw(figure, runs, epochs):
    """Draw a figure, or that of a name."""
    figure = FIGURES[figure] if isinstance(figure, str) else figure
    study = study_of()
    settings = {
        "title": "Title",
        "band": "sd",
        "experiments": figure.experiments,
        "accuracy": {e: study["experiments"][e.removeprefix("my_")]["accuracy"] for e in figure.experiments},
        "looks": plan.looks(study),
    }
    return import_module(f"vitcnn.results.figures.{figure.kind}").draw(runs, epochs, settings)
