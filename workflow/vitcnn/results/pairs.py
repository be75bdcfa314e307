"""Two models on the same images: how far apart they are, and in words."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from vitcnn.plan import ALL
from vitcnn.results.collect import places
from vitcnn.results.statistics import Difference, Interval, compare, ends_in_words, in_words

ImageIntervals = Mapping[tuple[str, ...], Mapping[str, Interval]]


class Measure(NamedTuple):
    """What a column of measured() is called, its unit, its digits; `is_timing`: the machine decides too."""

    words: str
    unit: str
    digits: int
    is_timing: bool = False


MEASURES = {
    "final": Measure("final accuracy", "points", 2),
    "best": Measure("best accuracy", "points", 2),
    "selected": Measure("selected accuracy", "points", 2),
    "parameters_millions": Measure("parameters", "million", 2),
    "train_seconds": Measure("training time", "s", 1, is_timing=True),
    "inference_ms_per_image": Measure("inference time of an image", "ms", 3, is_timing=True),
    "inference_seconds": Measure("inference time of the test images", "s", 2, is_timing=True),
    "peak_memory_mb": Measure("peak memory in training", "MB", 0, is_timing=True),
}


def measured(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the collected runs with a column for each of MEASURES."""
    return runs.assign(
        parameters_millions=runs["num_parameters"] / 1e6,
        inference_seconds=runs["inference_ms_per_image"] * runs["test_images"] / 1000,
        peak_memory_mb=runs["peak_memory_bytes"] / 1e6,
    )


class Pair(NamedTuple):
    """The finished runs of two models, as measured() returns them, each sorted by seed.

    `over_images` has, by measure, the interval over test images of their difference. `by` is the recipe of both
    where each model was trained by several, else "".
    """

    first: pd.DataFrame
    second: pd.DataFrame
    over_images: Mapping[str, Interval] = MappingProxyType({})
    by: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What no other pair of the experiment has: dataset, train_size as text, recipe, first and second model."""
        where = (self.of("dataset", 0), str(self.of("train_size", 0)), self.by)
        return (*where, self.of("model", 0), self.of("model", 1))

    @property
    def turned(self) -> "Pair":
        """The same pair with the second model first."""
        over_images = {name: Interval(-high, -low) for name, (low, high) in self.over_images.items()}
        return Pair(self.second, self.first, over_images, self.by)

    @property
    def names(self) -> tuple[str, str]:
        """The titles of the two models."""
        return self.of("model_title", 0), self.of("model_title", 1)

    @property
    def dataset(self) -> str:
        """The dataset's title."""
        return self.of("dataset_title", 0)

    @property
    def images(self) -> int:
        """The number of training images, of the first model where they differ."""
        return int(self.of("train_images", 0))

    @property
    def place(self) -> str:
        """Where the two are compared: "CIFAR-10, 50,000 images"; with the recipe, where models have several."""
        counts = dict.fromkeys(int(self.of("train_images", side)) for side in (0, 1))  # one may hold some out
        images = " and ".join(f"{count:,}" for count in counts)
        return f"{self.dataset}, {images} images" + (f", {self.by}" if self.by else "")

    def of(self, column: str, side: int) -> Any:
        """Return what all runs of the first (0) or the second (1) model have in `column`."""
        return self[side][column].iloc[0]

    def has(self, column: str) -> bool:
        """Return whether all runs have a value in `column`, as those that held no images out have no selected accuracy."""
        return bool(pd.concat(self[:2])[column].notna().all())

    def compares(self, column: str) -> bool:
        """Return whether `column` can be compared: timings need the same hardware, used in the same way."""
        machines = pd.concat(self[:2])[["device", "threads", "precision"]].drop_duplicates()
        return len(machines) == 1 or not MEASURES[column].is_timing

    @property
    def is_paired(self) -> bool:
        """Whether runs of one seed belong together: they saw the same subset of the training images."""
        return self.of("train_size", 0) != ALL and self.first["seed"].tolist() == self.second["seed"].tolist()

    def gaps(self, column: str) -> pd.Series:
        """Return by seed how far `column` of the first model is above that of the second."""
        first, second = (side.set_index("seed")[column] for side in (self.first, self.second))
        return (first - second).dropna()

    def difference(self, column: str) -> Difference:
        """Return how far the first model's mean of `column` is above the second's."""
        found = compare(self.first[column].tolist(), self.second[column].tolist(), paired=self.is_paired)
        found = found._replace(images=self.over_images.get(column))
        is_counted = column == "parameters_millions"  # chance plays no part in it, be there one seed or more
        return found._replace(low=found.mean, high=found.mean) if is_counted else found

    def log_ratio(self, column: str) -> Difference:
        """Return the difference of the means of the logarithms of `column`."""
        ours, theirs = (side[column].map(math.log).tolist() for side in (self.first, self.second))
        return compare(ours, theirs, paired=self.is_paired)

    def says(self, column: str) -> str:
        """Return, say, "final accuracy, ViT − CNN: −17.10 points [−18.01, −16.19], n = 5"."""
        words, unit, digits, _ = MEASURES[column]
        difference = self.difference(column)
        shown = with_interval(difference, f"+.{digits}f", f" {unit}")
        return f"{words}, {' − '.join(self.names)}: {shown}{_doubt(difference)}"

    def says_ratio(self, column: str) -> str:
        """Return, say, "training time, ViT ÷ CNN: 4.0 [3.9, 4.1], n = 5"."""
        logs = self.log_ratio(column)
        ends = (end if end is None or math.isinf(end) else math.exp(end) for end in logs[1:3])
        ratio = Difference(math.exp(logs.mean), *ends, logs.seeds)
        shown = with_interval(ratio, ".1f")
        return f"{MEASURES[column].words}, {' ÷ '.join(self.names)}: {shown}{_doubt(logs)}"


def _doubt(difference: Difference) -> str:
    is_counted = difference.low is not None and difference.low == difference.high
    return "" if difference.sign or is_counted else " (chance alone could do that)"


def with_interval(difference: Difference, form: str, unit: str = "") -> str:
    """Return, say, "−17.10 points [−18.01, −16.19], over images [−18.20, −16.01], n = 5"."""
    low, high = difference.ends
    interval = ""
    if low != high:  # more than one seed, and no mere count
        interval = f"{', ' if math.isinf(low) else ' '}{ends_in_words(low, high, form)}"
        if difference.images:
            interval += f", over images {ends_in_words(*difference.images, form)}"
    return f"{in_words(difference.mean, form)}{unit}{interval}, n = {difference.seeds}"


def pairs(
    rows: pd.DataFrame,
    asked: Sequence[Sequence[str]] | None = None,
    over_images: ImageIntervals = MappingProxyType({}),
) -> Iterator[Pair]:
    """Yield the pairs of models among the finished ones of an experiment's runs, on each dataset at each size.

    `asked` names them; by default they are every ViT with every CNN. `over_images` has intervals over test images by
    the pair's key() and measure.
    """
    finished = rows[rows["gap"].isna()] if "gap" in rows else rows
    for where, group in finished.groupby(places(rows), sort=False):
        models = {model: of.sort_values("seed") for model, of in group.groupby("model", sort=False)}
        for first, second in asked if asked is not None else _by_family(group):
            if first in models and second in models:
                pair = Pair(models[first], models[second], by=where[2] if len(where) > 2 else "")
                yield pair._replace(over_images=over_images.get(pair.key, {}))


def _by_family(rows: pd.DataFrame) -> list[tuple[str, str]]:
    vits, cnns = (rows.loc[rows["family"] == family, "model"].unique() for family in ("ViT", "CNN"))
    return [(vit, cnn) for vit in vits for cnn in cnns]


def caught_up(sweep: Iterable[Pair], accuracy: str) -> Pair | None:
    """Return the first pair of a sweep in which the first model is level or ahead, by its mean; None for none."""
    return next((pair for pair in sweep if pair.difference(accuracy).mean >= 0), None)


def sweeps(found: Iterable[Pair]) -> list[list[Pair]]:
    """Return pairs, those of one experiment, and of the same models, dataset and recipe, together, by size."""
    together: dict[tuple[str, ...], list[Pair]] = {}
    for pair in found:
        dataset, _, *others = pair.key
        together.setdefault((pair.of("experiment", 0), dataset, *others), []).append(pair)
    return [sorted(sweep, key=lambda pair: pair.images) for sweep in together.values()]
