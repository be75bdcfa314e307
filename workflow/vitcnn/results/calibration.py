"""How far a model's probabilities can be believed: NLL, Brier score and ECE, before and after temperature scaling."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15
_LOG_TEMPERATURES = (-3.0, 3.0)


class Scores(NamedTuple):
    """Of probabilities against labels: mean negative log likelihood (nats), Brier score (0 to 2), ECE (points)."""

    nll: float
    brier: float
    ece: float


class Calibration(NamedTuple):
    """Scores before and after temperature scaling, the temperature, and the ECE of a perfect classifier."""

    before: Scores
    after: Scores
    temperature: float
    floor: float


def score(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Return the scores of `logits (N, classes)` against `labels (N,)`."""
    log_p = log_softmax(np.asarray(logits, float), axis=1)
    p, rows = np.exp(log_p), np.arange(len(labels))
    brier = (p**2).sum(1) - 2 * p[rows, labels] + 1
    confidence = p.max(1)
    return Scores(
        float(-log_p[rows, labels].mean()),
        float(brier.mean()),
        expected_calibration_error(confidence, p.argmax(1) == labels),
    )


def expected_calibration_error(confidence: np.ndarray, is_right: np.ndarray) -> float:
    """Return the ECE in points: mean distance of confidence and accuracy over 15 bins of equal width.

    Naeini et al. 2015 (AAAI), as in Guo et al. 2017 (arXiv 1706.04599); a confidence of 1 is in the last bin.
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    excess = np.bincount(bins, weights=confidence - is_right, minlength=BINS)
    return float(100 * np.abs(excess).sum() / len(confidence))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that logits are divided by for the least NLL on these images (arXiv 1706.04599)."""
    logits = np.asarray(logits, float)
    found = minimize_scalar(
        lambda log_t: score(logits / np.exp(log_t), labels).nll, bounds=_LOG_TEMPERATURES, method="bounded"
    )
    return float(np.exp(found.x))


def calibrate(
    logits: np.ndarray,
    labels: np.ndarray,
    val_logits: np.ndarray | None = None,
    val_labels: np.ndarray | None = None,
) -> Calibration:
    """Return how well test images' `logits (N, classes)` are calibrated, and how well once they are scaled.

    The temperature is fitted on held-out training images, or without any by crossing over: each half of the test
    images, even and odd places, is scaled by what fits the other. No image is scored by a temperature it helped
    to fit.
    """
    logits = np.asarray(logits, float)
    if val_logits is not None and val_labels is not None:
        temperature = fit_temperature(val_logits, val_labels)
        scaled = logits / temperature
    else:
        halves = [np.arange(start, len(labels), 2) for start in (0, 1)]
        temperatures = [fit_temperature(logits[half], labels[half]) for half in halves]
        scaled = np.empty_like(logits)
        for half, other in zip(halves, reversed(temperatures), strict=True):
            scaled[half] = logits[half] / other
        temperature = float(np.mean(temperatures))
    return Calibration(score(logits, labels), score(scaled, labels), temperature, floor(scaled))


def floor(logits: np.ndarray, draws: int = 300) -> float:
    """Return the ECE in points that chance alone gives, were these the true probabilities: over as many images."""
    confidence = np.exp(log_softmax(logits, axis=1)).max(1)
    right = np.random.default_rng(0).random((draws, len(confidence))) < confidence
    return float(np.mean([expected_calibration_error(confidence, is_right) for is_right in right]))
