"""How long a recipe trains, when it evaluates, and its learning rate at each update.

An update is one step of the optimizer, and a pass goes once over the training images in batches. A recipe
with `epochs` evaluates after each pass; one with `updates` as many times as `evaluations` says, evenly.
"""

import math
from collections.abc import Mapping
from typing import Any


def evaluations(recipe: Mapping[str, Any]) -> int:
    """Return how many times a recipe evaluates its model."""
    return recipe["epochs"] if "epochs" in recipe else recipe["evaluations"]


def updates_until(recipe: Mapping[str, Any], train_images: int, evaluation: int) -> int:
    """Return the number of updates before an evaluation, which are counted from 1."""
    if "epochs" in recipe:
        return evaluation * math.ceil(train_images / recipe["batch_size"])
    return round(evaluation * recipe["updates"] / recipe["evaluations"])


def images_in(updates: int, train_images: int, batch_size: int) -> int:
    """Return how many images the first `updates` batches hold; the last batch of a pass may be smaller."""
    passes, rest = divmod(updates, math.ceil(train_images / batch_size))
    return passes * train_images + rest * batch_size


def learning_rate(recipe: Mapping[str, Any], update: int, updates: int) -> float:
    """Return the learning rate of an update, which are counted from 0, of a training of `updates`.

    It rises linearly over the share `warmup` of the updates, and then is constant, or falls along half a
    cosine (arXiv 1608.03983) to `min_lr`: torch's LinearLR and CosineAnnealingLR one after the other.
    """
    peak, last = float(recipe["lr"]), recipe["min_lr"]
    warmup = min(round(recipe["warmup"] * updates), updates - 1)
    if update < warmup:
        return peak * (update + 1) / (warmup + 1)
    if recipe["lr_scheduler"] == "constant":
        return peak
    done = min(1.0, (update - warmup) / (updates - warmup))
    return last + (peak - last) * (1 + math.cos(math.pi * done)) / 2
