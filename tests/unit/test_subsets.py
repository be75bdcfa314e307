"""Subsets: nested, stratified, and a matter of the seed alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitcnn.data.pack import choose_hold_out, image_keys
from vitcnn.data.subsets import choose_subset, stratified_order
from vitcnn.errors import StudyError

labels_of = st.lists(st.integers(0, 9), min_size=1, max_size=300).map(lambda x: np.array(x, np.int64))


def everything(labels):
    return np.ones(len(labels), bool)


@settings(deadline=None)
@given(labels_of, st.integers(0, 2**32 - 1), st.data())
def test_subsets_are_nested(labels, seed, data):
    large = data.draw(st.integers(1, len(labels)))
    small = data.draw(st.integers(1, large))
    inner = choose_subset(labels, small, seed, everything(labels))
    outer = choose_subset(labels, large, seed, everything(labels))
    assert len(inner) == small == len(set(inner))
    assert set(inner) <= set(outer)
    assert (np.diff(inner) > 0).all()


@settings(deadline=None, max_examples=300)
@given(labels_of, st.integers(0, 2**32 - 1), st.data())
def test_every_beginning_is_stratified(labels, seed, data):
    size = data.draw(st.integers(0, len(labels)))
    keys = np.random.default_rng(seed).random(len(labels))
    chosen = labels[stratified_order(labels, keys)[:size]]
    share = np.bincount(labels, minlength=10) / len(labels)
    # Each class is rounded to half an image, and takes its part of the others' roundings.
    limit = (1 + len(set(labels.tolist())) * share) / 2
    assert (np.abs(np.bincount(chosen, minlength=10) - share * size) <= limit + 1e-9).all()


def test_balanced_classes_stay_balanced():
    labels = np.repeat(np.arange(10), 5000)
    for size in (1000, 5000, 10000, 25000):
        chosen = choose_subset(labels, size, 7, everything(labels))
        assert (np.bincount(labels[chosen]) == size // 10).all()


def test_a_rare_class_comes_in_its_turn():
    """With 900 and 100 images every beginning has its tenth of the rare class, to half an image."""
    labels = np.repeat([0, 1], [900, 100])
    order = labels[stratified_order(labels, np.arange(1000))]
    assert np.abs(np.cumsum(order) - np.arange(1, 1001) / 10).max() <= 0.51


def test_the_seed_decides():
    labels = np.repeat(np.arange(10), 50)
    first, again, other = (choose_subset(labels, 100, seed, everything(labels)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert set(first) != set(other)
    # A fixed expectation: the choice must not change with a version of NumPy.
    assert first[:6].tolist() == [0, 1, 2, 9, 11, 17]


def test_all_and_too_many():
    labels = np.repeat(np.arange(2), 5)
    available = np.array([True] * 8 + [False] * 2)
    assert choose_subset(labels, "all", 0, available).tolist() == list(range(8))
    assert set(choose_subset(labels, 8, 0, available)) == set(range(8))
    with pytest.raises(StudyError, match="train_size 9 is over the 8 training images"):
        choose_subset(labels, 9, 0, available)


def test_hold_out_is_a_tenth_of_each_class_and_follows_the_image():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (500, 3, 4, 4), dtype=np.uint8)
    labels = np.repeat(np.arange(10), 50)
    held = choose_hold_out(image_keys(images), labels)
    assert (np.bincount(labels[held], minlength=10) == 5).all()
    order = rng.permutation(500)
    assert (choose_hold_out(image_keys(images[order]), labels[order]) == held[order]).all()
    assert choose_hold_out(image_keys(images[:4]), labels[:4]).sum() == 1
