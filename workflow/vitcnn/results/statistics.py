"""What several seeds and test images say: spread, differences with their intervals, equivalence, adjusted p values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
MARGIN = 1.0  # points within which two accuracies count as equivalent
RESAMPLES = 2000
SAME = 1e-9  # numbers that differ by less are the same, but for the order of additions


class Interval(NamedTuple):
    """The two ends of an interval."""

    low: float
    high: float


UNBOUNDED = Interval(-math.inf, math.inf)


class Difference(NamedTuple):
    """Mean of one group less that of another, with its 95 % interval over seeds; None for one seed.

    Where all seeds give the same, there is no spread to tell chance by: the interval is UNBOUNDED. `images` is the
    interval over test images, of an accuracy whose right answers are at hand; `p` that of the test over seeds.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int
    images: Interval | None = None
    p: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the interval over seeds; both are the mean where there is none."""
        return (self.mean, self.mean) if self.low is None or self.high is None else (self.low, self.high)

    @property
    def sign(self) -> int:
        """1 or -1 where every interval is wholly on one side of 0, else 0; of the mean without interval."""
        signs = {
            1 if low > 0 else -1 if high < 0 else 0 for low, high in (self.ends, self.images or self.ends)
        }
        return signs.pop() if len(signs) == 1 else 0


def compare(ours: Sequence[float], theirs: Sequence[float], *, paired: bool = False) -> Difference:
    """Return how far `ours` is above `theirs`: Welch's t (unequal variances, independent seeds).

    With `paired`, entries at one place belong together, as runs on the same subset do: Student's t of their
    differences.
    """
    a, b = np.asarray(ours, float), np.asarray(theirs, float)
    mean, seeds = float(a.mean() - b.mean()), min(len(a), len(b))
    if seeds < 2:
        return Difference(mean, None, None, seeds)
    if _is_constant(a, b, paired):
        return Difference(mean, *UNBOUNDED, seeds)
    test = stats.ttest_rel(a, b) if paired else stats.ttest_ind(a, b, equal_var=False)
    interval = test.confidence_interval(CONFIDENCE)
    return Difference(mean, float(interval.low), float(interval.high), seeds, p=float(test.pvalue))


def against(values: Sequence[float], fixed: float) -> Difference:
    """Return how far the mean over seeds of `values` is above a fixed value, by Student's t."""
    found = np.asarray(values, float)
    mean, seeds = float(found.mean() - fixed), len(found)
    if seeds < 2:
        return Difference(mean, None, None, seeds)
    if np.ptp(found) < SAME:
        return Difference(mean, *UNBOUNDED, seeds)
    low, high = stats.ttest_1samp(found, fixed).confidence_interval(CONFIDENCE)
    return Difference(mean, float(low - fixed), float(high - fixed), seeds)


def equivalence(
    ours: Sequence[float], theirs: Sequence[float], *, paired: bool = False, margin: float = MARGIN
) -> float | None:
    """Return the p value of "they differ by `margin` or more"; None for one seed, and where all seeds give the same.

    The larger of two one-sided t tests (Schuirmann 1987, doi 10.1007/BF01068419), Welch's or paired.
    """
    a, b = np.asarray(ours, float), np.asarray(theirs, float)
    if min(len(a), len(b)) < 2 or _is_constant(a, b, paired):
        return None
    ends = ((-margin, "greater"), (margin, "less"))
    if paired:
        tests = [stats.ttest_1samp(a - b, end, alternative=side) for end, side in ends]
    else:
        tests = [stats.ttest_ind(a - end, b, equal_var=False, alternative=side) for end, side in ends]
    return max(float(test.pvalue) for test in tests)


def _is_constant(a: np.ndarray, b: np.ndarray, paired: bool) -> bool:
    """Return whether there is no spread that a t test could measure a difference by."""
    return max(np.ptp(values) for values in ([a - b] if paired else [a, b])) < SAME


def over_images(ours: np.ndarray, theirs: np.ndarray) -> Interval:
    """Return the 95 % interval over test images of the difference of two accuracies, in points.

    `ours` and `theirs` `(N,)` are the shares of seeds that classify each image correctly; both models see the same
    images, which are drawn again together: the percentile bootstrap (Efron 1979, doi 10.1214/aos/1176344552), the
    same for the same input.
    """
    found = stats.bootstrap(
        (100 * (ours - theirs),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=50,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return Interval(float(found.confidence_interval.low), float(found.confidence_interval.high))


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the p value of "both err equally often" for two runs, from who was right `(N,) bool` on each image.

    McNemar's test (1947, doi 10.1007/BF02295996), exact: of the images that one alone classifies correctly, half
    should be each one's.
    """
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    if not only_ours + only_theirs:
        return 1.0
    return float(stats.binomtest(only_ours, only_ours + only_theirs).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for there being several (Holm 1979, www.jstor.org/stable/4615733), in their order."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted.tolist()


def mean_and_sd(values: Mapping[str, Sequence[float]] | pd.DataFrame) -> dict[str, float]:
    """Return of each entry or column its mean over seeds, and under its name and ` sd` the standard deviation."""
    found = {}
    for name, of_seeds in values.items():
        series = pd.Series(of_seeds, dtype=float)
        found |= {name: series.mean(), f"{name} sd": series.std(ddof=1)}
    return found


def in_words(value: float, form: str = "+.2f") -> str:
    """Return a number as text by a format of str.format(), with a minus sign in place of the hyphen: "−17.10"."""
    return f"{value:{form}}".replace("-", "−")


def mean_in_words(mean: float | None, sd: float | None, form: str = ".2f") -> str:
    """Return a mean and a standard deviation as text: "62.92 ± 0.31"; "62.92" for one seed, "–" for none."""
    if pd.isna(mean):
        return "–"
    return in_words(mean, form) + ("" if pd.isna(sd) else f" ± {sd:{form}}")


def ends_in_words(low: float | None, high: float | None, form: str = "+.2f") -> str:
    """Return an interval over seeds as text: "[−18.01, −16.19]", "the same in every seed", or "–" for one seed."""
    if low is None or high is None or math.isnan(low):
        return "–"
    if (low, high) == UNBOUNDED:
        return "the same in every seed"
    return f"[{in_words(low, form)}, {in_words(high, form)}]"


def spread_in_words(seeds: Iterable[int]) -> str:
    """Return what stands beside the means of rows of so many seeds each: their spread, or that there is none."""
    return "one seed: no interval" if {*seeds} == {1} else "mean ± standard deviation over seeds"


def p_in_words(p: float) -> str:
    """Return a p value as text: "p = 0.013", or "p < 0.001"."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def half_width(values: Sequence[float], band: str) -> float:
    """Return the half width of a band over seeds: `sd`, or `ci95` of the mean; 0 for a single seed."""
    count = len(values)
    if count < 2:
        return 0.0
    deviation = float(np.std(values, ddof=1))
    if band == "sd":
        return deviation
    return deviation / count**0.5 * float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1))
