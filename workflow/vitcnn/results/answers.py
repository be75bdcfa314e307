"""What follows from each run's answers to the test images: differences of models, selection, calibration."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from vitcnn.errors import StudyError
from vitcnn.plan import Run
from vitcnn.results.calibration import Calibration, calibrate
from vitcnn.results.collect import generated, places
from vitcnn.results.pairs import MEASURES, ImageIntervals, Pair, measured, pairs
from vitcnn.results.selection import looking
from vitcnn.results.statistics import (
    MARGIN,
    Interval,
    ends_in_words,
    equivalence,
    in_words,
    mcnemar,
    mean_and_sd,
    mean_in_words,
    over_images,
    p_in_words,
    spread_in_words,
)

_Key = tuple[str, str, str, str, int]  # dataset, train_size as text, model, recipe, seed

_COLUMNS = ["dataset", "train_size", "recipe", "first", "second", "epoch", "place", "names", "paired"]
_COLUMNS += ["mean", "low", "high", "seeds", "p", "image_low", "image_high"]
_COLUMNS += ["equivalence_p", "mcnemar_p", "verdict"]
EPOCHS = ("final", "best", "selected")  # whose accuracy is compared
VERDICTS = {1: "above", -1: "below", 0: "undecided"}
NOTES = {
    "differences": "A difference is the mean accuracy of the first model less that of the second, in points. Over "
    "seeds: its 95 % interval by Welch's t, or, where both models of a seed saw the same subset, by the t of their "
    "differences. Over images: the 95 % bootstrap interval for other test images like these. Above or below: both "
    "intervals exclude 0. Equivalent: two one-sided t tests over seeds reject a difference of "
    f"{MARGIN:g} point or more at 5 %, and the interval over images is within ±{MARGIN:g} point; p is that of the tests, "
    "over seeds alone.",
    "selection": "Accuracy (%) on the test images after three epochs of each run: the last, the one that is best on "
    "the test images, and the one that is best on held-out training images. Overstates: how far an epoch that half "
    "of the test images chose is above its accuracy on the other half. Gains: how far it is above the last epoch "
    "there.",
    "calibration": "Of the probabilities after the last epoch, on the test images. NLL in nats; the Brier score is 0 "
    "to 2; ECE in points, over 15 bins of equal width. Scaled: logits divided by the temperature that fits held-out "
    "training images, or, without any, the other half of the test images. Floor: the ECE of a perfectly calibrated "
    "model on as many images.",
}
ONE_SEED = (
    " One seed: there is no interval over seeds, and no verdict; McNemar's p tells whether these two runs err equally "
    "often."
)


class Answers(NamedTuple):
    """A run's answers: which test images were right after each epoch, `correct (epochs, N) bool`, and logits."""

    correct: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    val_logits: np.ndarray | None
    val_labels: np.ndarray | None


def read_answers(path: Path) -> Answers:
    """Return what a run's predictions.npz holds; raises StudyError, naming the run, for a damaged file."""
    try:
        with np.load(path) as arrays:
            labels = arrays["labels"]
            correct = np.unpackbits(arrays["correct"], axis=1, count=len(labels)).astype(bool)
            held_out = [arrays.get(name) for name in ("val_logits", "val_labels")]
            return Answers(correct, arrays["logits"], labels, *held_out)
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
        raise StudyError(
            f"{path}: its array `correct` cannot be read ({error}); delete it to train the run again"
        ) from error


class Analysed(NamedTuple):
    """The three tables of an experiment, by the names of NOTES, in full precision."""

    differences: pd.DataFrame
    selection: pd.DataFrame
    calibration: pd.DataFrame


def analyse(
    runs: pd.DataFrame, epochs: pd.DataFrame, answers: Mapping[Path, Answers], asked: Sequence[Any] | None
) -> Analysed:
    """Return the tables of one experiment from its collected runs and epochs, and the answers by run folder.

    `asked` are the pairs to compare, or None for every ViT with every CNN. Raises StudyError for a run whose
    answers are not those that its accuracies were computed from.
    """
    of_run, held_out = {}, _held_out(epochs)
    for row in measured(runs).itertuples():
        run = Run(row.dataset, row.model, row.recipe, row.train_size, row.seed)
        of_run[_key(row)] = answers[run.folder]
        if wrong := _wrong(answers[run.folder], row, held_out.get(_key(row))):
            raise StudyError(
                f"{run.folder / 'predictions.npz'}: {wrong}; delete the folder to train the run again"
            )
    chosen = {key: int(accuracies.argmax()) for key, accuracies in held_out.items()}
    differences = [row for pair in pairs(measured(runs), asked) for row in _differences(pair, of_run, chosen)]
    selection, calibration = [], []
    for where, group in runs.groupby(["model", *places(runs)], sort=False):
        several = [of_run[_key(row)] for row in group.itertuples()]
        place = {
            "Model": ", ".join([group["model_title"].iloc[0], *where[3:]]),
            "Dataset": group["dataset_title"].iloc[0],
            "Images": int(group["train_images"].iloc[0]),
            "Seeds": len(several),
        }
        looks = [looking(one.correct) for one in several]
        values = {name.capitalize(): group[name].tolist() for name in EPOCHS}
        values |= {"Overstates": [o.overstates for o in looks], "Gains": [o.gains for o in looks]}
        selection.append(place | mean_and_sd(values))
        found = [calibrate(one.logits, one.labels, one.val_logits, one.val_labels) for one in several]
        calibration.append(place | mean_and_sd(_calibrations(found)))
    return Analysed(
        pd.DataFrame(differences, columns=_COLUMNS), pd.DataFrame(selection), pd.DataFrame(calibration)
    )


def read_over_images(path: Path) -> ImageIntervals:
    """Return the intervals over test images that a table of differences holds, as pairs() takes them."""
    found: dict[tuple[str, ...], dict[str, Interval]] = {}
    for row in pd.read_csv(path, keep_default_na=False).itertuples():
        key = (row.dataset, str(row.train_size), row.recipe, row.first, row.second)
        found.setdefault(key, {})[row.epoch] = Interval(row.image_low, row.image_high)
    return found


def _key(row: Any) -> _Key:
    """Return what tells a run of the experiment from its others, of a row of a table."""
    return row.dataset, str(row.train_size), row.model, row.recipe, row.seed


def _wrong(found: Answers, row: Any, held_out: np.ndarray | None) -> str:
    """Return in words where a run's answers are not those of its accuracies, or "".

    `held_out` are its accuracies on held-out images, epoch by epoch. A temperature that is fitted on images that were
    not held out would make the model look better than it is.
    """
    accuracy = 100 * found.correct.mean(axis=1)
    if not np.isclose(accuracy[-1], row.final) or not np.isclose(accuracy.max(), row.best):
        return "its array `correct` does not match the accuracies in metrics.json"
    surely, perhaps = _right_by(found.logits, found.labels)
    right = found.correct[-1]
    if right.shape != surely.shape or (surely & ~right).any() or (right & ~perhaps).any():
        return "its `logits` do not match its array `correct`"
    if held_out is not None:
        low, high = (100 * some.mean() for some in _right_by(found.val_logits, found.val_labels))
        if not low - 1e-6 <= held_out[-1] <= high + 1e-6:
            return "its `val_logits` do not match the accuracy on held-out images in metrics.json"
        if _shared(found.val_logits, found.logits) > max(len(found.val_logits) / 2, row.test_images_in_train):
            return "most of its `val_logits` are those of test images"
    elif found.val_logits is not None:
        return "it has `val_logits`, but its recipe holds no images out"
    return ""


def _shared(some: np.ndarray, others: np.ndarray) -> int:
    """Return how many rows are among the others, bit for bit; 0 of a model that says the same of every image."""
    known = {row.tobytes() for row in others}
    return sum(row.tobytes() in known for row in some.astype(others.dtype)) if len(known) > 1 else 0


def _right_by(logits: np.ndarray | None, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return which images the logits surely and perhaps classify correctly, two arrays `(N,) bool`.

    They differ where two logits are the highest. Of arrays that do not fit each other, no image is right.
    """
    if logits is None or labels is None or logits.shape[:-1] != labels.shape or not np.isfinite(logits).all():
        return np.zeros(1, bool), np.zeros(1, bool)
    highest = logits == logits.max(-1, keepdims=True)
    perhaps = highest[np.arange(len(labels)), labels]
    return perhaps & (highest.sum(-1) == 1), perhaps


def _held_out(epochs: pd.DataFrame) -> dict[_Key, np.ndarray]:
    """Return, of each run that held images out, its accuracies on them (%), epoch by epoch."""
    held = epochs.dropna(subset=["val_accuracy"])
    runs = held.groupby(["dataset", "train_size", "model", "recipe", "seed"], as_index=False)
    return {_key(group.iloc[0]): group["val_accuracy"].to_numpy() for _, group in runs}


def _right(
    rows: pd.DataFrame, epoch: str, of_run: Mapping[_Key, Answers], chosen: Mapping[_Key, int]
) -> np.ndarray:
    """Return which test images each run of a model classifies correctly after that epoch, `(seeds, N) bool`."""
    right = []
    for row in rows.itertuples():
        correct = of_run[_key(row)].correct
        place = {"final": -1, "best": int(correct.sum(1).argmax()), "selected": chosen.get(_key(row))}[epoch]
        right.append(correct[place])
    return np.array(right)


def _differences(
    pair: Pair, of_run: Mapping[_Key, Answers], chosen: Mapping[_Key, int]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each kind of epoch whose accuracy the pair has."""
    for epoch in EPOCHS:
        if not pair.has(epoch):
            continue
        ours, theirs = (_right(rows, epoch, of_run, chosen) for rows in pair[:2])
        images = over_images(ours.mean(0), theirs.mean(0))
        found = pair._replace(over_images={epoch: images}).difference(epoch)
        accuracies = (side[epoch].tolist() for side in (pair.first, pair.second))
        yield {
            "dataset": pair.of("dataset", 0),
            "train_size": pair.of("train_size", 0),
            "recipe": pair.by,
            "first": pair.of("model", 0),
            "second": pair.of("model", 1),
            "epoch": epoch,
            "place": pair.place,
            "names": " − ".join(pair.names),
            "paired": pair.is_paired,
            **found._asdict(),
            "image_low": images.low,
            "image_high": images.high,
            "equivalence_p": equivalence(*accuracies, paired=pair.is_paired),
            "mcnemar_p": mcnemar(ours[0], theirs[0]) if len(ours) == len(theirs) == 1 else None,
            "verdict": "one seed" if found.low is None else VERDICTS[found.sign],
        }


def _calibrations(found: Sequence[Calibration]) -> dict[str, list[float]]:
    return {
        "NLL": [c.before.nll for c in found],
        "NLL, scaled": [c.after.nll for c in found],
        "Brier": [c.before.brier for c in found],
        "Brier, scaled": [c.after.brier for c in found],
        "ECE": [c.before.ece for c in found],
        "ECE, scaled": [c.after.ece for c in found],
        "ECE, floor": [c.floor for c in found],
        "Temperature": [c.temperature for c in found],
    }


def for_people(name: str, table: pd.DataFrame, accuracy: str) -> pd.DataFrame:
    """Return a table of analyse() as text; of the differences, those of the epoch that the experiment shows."""
    if name == "differences":
        rows = table[table["epoch"] == accuracy]
        shown = pd.DataFrame(
            {
                "Where": rows["place"],
                "Difference": rows["names"],
                "Points": [in_words(value) for value in rows["mean"]],
                "Over seeds": [ends_in_words(*ends) for ends in zip(rows["low"], rows["high"], strict=True)],
                "Over images": [
                    ends_in_words(*ends) for ends in zip(rows["image_low"], rows["image_high"], strict=True)
                ],
                "Seeds": rows["seeds"].astype(str),
                "Verdict": rows["verdict"],
                f"Equivalent within ±{MARGIN:g}": [_equivalent(row) for row in rows.itertuples()],
            }
        )
        if rows["mcnemar_p"].notna().any():
            shown["McNemar"] = ["–" if pd.isna(value) else p_in_words(value) for value in rows["mcnemar_p"]]
        return shown.astype(str)  # columns of no rows are numbers otherwise
    shown = table[["Model", "Dataset"]].copy()
    shown["Images"] = [f"{images:,}" for images in table["Images"]]
    shown["Seeds"] = table["Seeds"].astype(str)
    for column in table.columns[4::2]:
        form = f".{3 if column.startswith(('NLL', 'Brier')) else 2}f"
        shown[column] = [mean_in_words(*of, form) for of in table[[column, f"{column} sd"]].to_numpy()]
    return shown


def note(name: str, runs: pd.DataFrame, accuracy: str) -> str:
    """Return what a reader must know beside one of the tables."""
    text, seeds = NOTES[name], runs.groupby(["model", *places(runs)])["seed"].nunique()
    if name == "differences":
        text += f" Shown is the {MEASURES[accuracy].words}."
        if seeds.min() < 2:
            text += ONE_SEED
    else:
        spread = spread_in_words(seeds)
        text += f" {spread[0].upper()}{spread[1:]}."
    return f"Generated images, not those published: {made}. {text}" if (made := generated(runs)) else text


def _equivalent(row: Any) -> str:
    if row.seeds < 2:
        return "–"
    p, is_within = row.equivalence_p, max(-row.image_low, row.image_high) < MARGIN
    if pd.isna(p):
        return "not shown"
    return f"{'yes' if is_within and p < 0.05 else 'not shown'}, {p_in_words(p)}"
