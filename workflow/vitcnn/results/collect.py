"""The runs of a study as two tables, one row per run and one row per epoch, each run checked first."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from vitcnn import plan
from vitcnn.errors import StudyError
from vitcnn.files import digest, file_digest, read_json
from vitcnn.provenance.record import read_record, versions_of
from vitcnn.training.schedule import evaluations

log = logging.getLogger(__name__)

_TITLES = ("dataset_title", "model_title")
_IDENTITY = ("experiment", *plan.Run._fields, *_TITLES, "num_classes", "family", "generated")
_EPOCH_COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_accuracy", "test_accuracy", "seconds")


class Collected(NamedTuple):
    """`runs`: one row per experiment and run; `gap` says why a row has no numbers. `epochs`: per epoch.

    `read` are the files behind both.
    """

    runs: pd.DataFrame
    epochs: pd.DataFrame
    read: list[Path]


def collect_runs(settings: Mapping[str, Any], root: Path, partial: bool = False) -> Collected:
    """Return the numbers of every run that an experiment of the settings' `study` asks for, in that order.

    `families` of the settings says which family a model is of, `generated` which datasets are no
    published ones, `environments` the versions that a model's runs are computed with today, and `code`, if
    given, the digest of the code that trains it today. `root` is the folder above `results`. Raises StudyError, with a line for each run that is missing,
    damaged, not a number, of another spec than asked or trained on other data; with
    `partial` such a run is a row with its reason in the column `gap`.
    """
    study = settings["study"]
    rows, epochs, problems = [], [], []
    read = []
    data = {name: _packed_digest(root, name) for name in study["datasets"]}
    for experiment in plan.active_experiments(study):
        for run in plan.experiment_runs(study, experiment):
            identity = {
                "experiment": experiment,
                **run._asdict(),
                "dataset_title": study["datasets"][run.dataset]["title"],
                "model_title": study["models"][run.model]["title"],
                "num_classes": study["datasets"][run.dataset]["num_classes"],
                "family": settings["families"][run.model],
                "generated": run.dataset in settings["generated"],
            }
            folder = root / run.folder
            try:
                metrics, runtime = read_run(folder, plan.run_spec(study, run))
                record = _record_of(folder, settings.get("code", {}).get(run.model))
                # Where the packed data are gone, the first run says which they were.
                data[run.dataset] = data[run.dataset] or metrics["data_digest"]
                if metrics["data_digest"] != data[run.dataset]:
                    raise StudyError(
                        f"{folder / 'metrics.json'}: was trained on other data than {run.dataset} is now; "
                        "delete it to train again"
                    )
            except StudyError as error:
                problems.append(str(error))
                rows.append(identity | {"gap": str(error)})
                continue
            read += [folder / name for name in ("metrics.json", "runtime.json", "provenance.json")]
            reasons = dict.fromkeys(change["because"] for change in record.get("accepted", []))
            rows.append(
                identity
                | _figures(metrics, runtime)
                | {
                    "other_versions": _other_versions(record, settings["environments"][run.model]),
                    "accepted": "; ".join(reasons) or None,
                }
            )
            epochs += [
                identity | epoch | {"seconds": seconds}
                for epoch, seconds in zip(metrics["history"], runtime["epoch_seconds"], strict=True)
            ]
    if problems and not partial:
        raise StudyError("These runs cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    for problem in problems:
        log.warning("gap: %s", problem)
    return Collected(
        pd.DataFrame(rows, columns=[*_IDENTITY, *_FIGURES, "other_versions", "accepted", "gap"]),
        pd.DataFrame(epochs, columns=[*_IDENTITY, *_EPOCH_COLUMNS]),
        read,
    )


def read_tables(paths: Sequence[Path]) -> pd.DataFrame:
    """Return tables that collect_runs() made, one below the other; empty ones leave no trace."""
    tables = [pd.read_csv(path) for path in paths]
    return pd.concat([t for t in tables if len(t)] or tables[:1], ignore_index=True)


def places(rows: pd.DataFrame) -> list[str]:
    """Return the columns that say where models are compared: `recipe` is one if a model was trained by several."""
    several = len(rows) and rows.groupby("model")["recipe"].nunique().max() > 1
    return ["dataset", "train_size", *(["recipe"] if several else [])]


def marked(title: str, runs: pd.DataFrame) -> str:
    """Return a title that says which of the runs behind it are on generated images."""
    if datasets := generated(runs):
        return f"{title} (generated images{'' if runs['generated'].all() else ': ' + datasets})"
    return title


def generated(runs: pd.DataFrame) -> str:
    """Return the titles of the datasets whose images were generated, "" for none."""
    return ", ".join(runs.loc[runs["generated"], "dataset_title"].unique())


def changes(runs: pd.DataFrame) -> list[str]:
    """Return how many of these runs other packages computed than the lock names, how many were accepted, and why."""
    said = {
        "other_versions": "were computed with other packages than envs/lock.txt names",
        "accepted": "stand although code or packages changed, accepted because",
    }
    found = {words: runs[column].dropna() for column, words in said.items()}
    return [
        f"{len(those)} of {len(runs)} runs {words}: {'; '.join(sorted(set(those)))}"
        for words, those in found.items()
        if len(those)
    ]


def recipes_of(runs: pd.DataFrame) -> str:
    """Return which model was trained by which recipe, where they differ; "" where a model has several, too."""
    if runs["recipe"].nunique() < 2 or "recipe" in places(runs):
        return ""
    models = runs.drop_duplicates("model").itertuples()
    return f"Recipes: {', '.join(f'{one.model_title} by {one.recipe}' for one in models)}"


def leaks(runs: pd.DataFrame) -> list[str]:
    """Return of each dataset how many of its test images are training images too, in words, where there are any."""
    most = runs.groupby("dataset_title", sort=False)["test_images_in_train"].max()
    return [
        f"{int(n):,} test images of {title} are training images too" for title, n in most.items() if n > 0
    ]


def read_run(folder: Path, spec: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return metrics and runtime of the run in `folder`, which must be that of `spec`.

    Raises StudyError for a file that is missing, damaged, invalid, inconsistent, or of another spec.
    """
    path, again = folder / "metrics.json", f"; delete {folder} to train the run again"
    metrics = read_json(path, "metrics.schema.json")
    runtime = read_json(folder / "runtime.json", "runtime.schema.json")
    if metrics["spec_digest"] != digest(metrics["spec"]):
        raise StudyError(f"{path}: its spec was changed by hand; delete the file to train the run again")
    if metrics["spec"] != spec:
        differing = ", ".join(_differences(metrics["spec"], spec)) or "the version"
        raise StudyError(f"{path}: is of another spec than asked, in {differing}; delete it to train again")
    history, accuracy = metrics["history"], metrics["accuracy"]
    tested = [epoch["test_accuracy"] for epoch in history]
    epochs = evaluations(spec["recipe"])
    if [epoch["epoch"] for epoch in history] != list(range(1, epochs + 1)):
        raise StudyError(f"{path}: its history is not one entry for each of {epochs} epochs{again}")
    if len(runtime["epoch_seconds"]) != len(history):
        raise StudyError(
            f"{folder / 'runtime.json'}: its seconds are not those of {len(history)} epochs{again}"
        )
    if not math.isclose(accuracy["final"], tested[-1]) or not math.isclose(accuracy["best"], max(tested)):
        raise StudyError(f"{path}: its final or best accuracy is not that of its history{again}")
    validated = [epoch for epoch in history if epoch["val_accuracy"] is not None]
    selected = max(validated, key=lambda e: e["val_accuracy"])["test_accuracy"] if validated else None
    if accuracy["selected"] != selected or bool(validated) != spec["recipe"]["hold_out"]:
        raise StudyError(
            f"{path}: its selected accuracy is not that of its best epoch on held-out images{again}"
        )
    if spec["train_size"] not in (plan.ALL, metrics["train_images"]):
        raise StudyError(
            f"{path}: says {metrics['train_images']} training images, not {spec['train_size']}{again}"
        )
    return metrics, runtime


def _packed_digest(root: Path, dataset: str) -> str | None:
    manifest = root / "resources" / dataset / "packed" / "manifest.json"
    return file_digest(manifest) if manifest.exists() else None


def _record_of(folder: Path, code: str | None) -> dict[str, Any]:
    """Return the record of the run in `folder`.

    Raises StudyError if it has none, or was trained by other code than that of the digest `code`.
    """
    record = read_record(folder / "provenance.json")
    if record is None:
        raise StudyError(f"{folder}: has no provenance.json; delete the folder to train the run again")
    if code is not None and digest(record["code"]) != code:
        raise StudyError(f"{folder}: was trained by other code than there is now")
    return record


def _other_versions(record: Mapping[str, Any], environment: Mapping[str, str]) -> str | None:
    """Return which packages a run was computed with at another version than today's, in words."""
    used = versions_of(record)
    other = [
        f"{n} {v} instead of {environment.get(n, 'none')}" for n, v in used.items() if environment.get(n) != v
    ]
    return ", ".join(other) or None


def _differences(found: Any, asked: Any, place: str = "") -> list[str]:
    if isinstance(found, Mapping) and isinstance(asked, Mapping):
        keys = sorted(found.keys() | asked.keys())
        inner = [(k, _differences(found.get(k), asked.get(k), f"{place}.{k}".lstrip("."))) for k in keys]
        return [line for _, lines in inner for line in lines]
    return [] if found == asked else [f"{place}: {found} instead of {asked}"]


_FIGURES = (
    "train_images",
    "test_images",
    "test_images_in_train",
    "damaged_images",
    "num_parameters",
    "final",
    "best",
    "selected",
    "held_out",
    "lr",
    "epochs",
    "train_seconds",
    "inference_ms_per_image",
    "images_per_second",
    "peak_memory_bytes",
    "precision",
    "device",
    "threads",
    "host",
    "started_at",
)


def _figures(metrics: Mapping[str, Any], runtime: Mapping[str, Any]) -> dict[str, Any]:
    merged = {
        **runtime,
        **metrics,
        **metrics["accuracy"],
        "held_out": max(
            (e["val_accuracy"] for e in metrics["history"] if e["val_accuracy"] is not None), default=None
        ),
        "lr": metrics["spec"]["recipe"]["lr"],
        "epochs": metrics["spec"]["recipe"].get("epochs"),  # none where it counts updates
        "device": runtime["device"]["name"],
        "peak_memory_bytes": runtime["peak_gpu_memory_bytes"] or runtime["peak_memory_bytes"],
        "damaged_images": sum(metrics["damaged_images"].values()),
    }
    return {name: merged[name] for name in _FIGURES}
