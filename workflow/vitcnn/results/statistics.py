"""What several seeds say: mean and spread, and the difference of two models with its interval."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Difference(NamedTuple):
    """Mean of one group less that of another, with its 95 % interval; None where chance is unknown."""

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the interval; both are the mean where there is none."""
        return (self.mean, self.mean) if self.low is None or self.high is None else (self.low, self.high)

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval is on one side of 0, else 0; of the mean without interval."""
        low, high = self.ends
        return 1 if low > 0 else -1 if high < 0 else 0


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Return how far `ours` is above `theirs`, by Welch's t (unequal variances, independent seeds)."""
    a, b = np.asarray(ours, float), np.asarray(theirs, float)
    mean, seeds = float(a.mean() - b.mean()), min(len(a), len(b))
    if seeds < 2:
        return Difference(mean, None, None, seeds)
    if not np.ptp(a) and not np.ptp(b):
        return Difference(mean, mean, mean, seeds)
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(CONFIDENCE)
    return Difference(mean, float(interval.low), float(interval.high), seeds)


def half_width(values: Sequence[float], band: str) -> float:
    """Return the half width of a band over seeds: `sd`, or `ci95` of the mean; 0 for a single seed."""
    count = len(values)
    if count < 2:
        return 0.0
    deviation = float(np.std(values, ddof=1))
    if band == "sd":
        return deviation
    return deviation / count**0.5 * float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1))
