"""What choosing the epoch on the test images is worth, from which images each epoch classifies correctly."""

from typing import NamedTuple

import numpy as np

SPLITS = 50


class Looking(NamedTuple):
    """In points: how far the best epoch's accuracy overstates, and what that epoch gains over the last on other images."""

    overstates: float
    gains: float


def looking(correct: np.ndarray) -> Looking:
    """Return what looking at the test images is worth to a run whose epochs' right answers are `correct (epochs, N)`.

    The epoch that is best on one half of the images is scored on the other half, which did not choose it; over
    `SPLITS` random halves, the same for every run, each in both directions.
    """
    correct = np.asarray(correct, float)
    generator = np.random.default_rng(0)
    found = []
    for _ in range(SPLITS):
        order = generator.permutation(correct.shape[1])
        halves = np.array_split(order, 2)
        accuracies = [100 * correct[:, half].mean(1) for half in halves]
        for chosen_on, scored_on in (accuracies, accuracies[::-1]):
            best = int(chosen_on.argmax())
            found.append((chosen_on[best] - scored_on[best], scored_on[best] - scored_on[-1]))
    return Looking(*(float(value) for value in np.mean(found, axis=0)))
