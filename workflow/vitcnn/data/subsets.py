"""Subsets of the training images: nested, stratified, and the same on every machine."""

import numpy as np

from vitcnn.errors import StudyError


def stratified_order(labels: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return an order of the images `(N,) int64` of which every beginning is stratified.

    Within a class the images come by their `keys` `(N,)`. Between classes each image stands at its
    share of its own class, (rank + ½) / class size: Sainte-Laguë's method of dividing seats, which
    stays nested. The first n images hold classes of equal size to within one image of each other, and
    k classes with shares p of the whole to within (1 + k·p) / 2 images of p·n.
    """
    by_class = np.lexsort((keys, labels))
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    sorted_labels = labels[by_class]
    rank = np.arange(len(labels)) - starts[sorted_labels]
    share = (rank + 0.5) / sizes[sorted_labels]
    return by_class[np.lexsort((keys[by_class], share))]


def choose_subset(labels: np.ndarray, size: int | str, seed: int, available: np.ndarray) -> np.ndarray:
    """Return the indices `(size,) int64`, ascending, of the training images that a run sees.

    `available` `(N,) bool` says which may be used; size "all" takes them all. For one seed, a smaller
    subset lies within every larger one. Philox's raw words are the keys: their stream is fixed for
    all versions of NumPy. Raises StudyError if there are fewer images than `size`.
    """
    candidates = np.flatnonzero(available)
    if size == "all":
        return candidates
    if size > len(candidates):
        raise StudyError(f"train_size {size} is over the {len(candidates)} training images there are")
    keys = np.random.Philox(key=seed).random_raw(len(labels))[candidates]
    return np.sort(candidates[stratified_order(labels[candidates], keys)[:size]])
