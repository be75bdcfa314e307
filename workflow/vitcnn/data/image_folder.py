"""Images in a folder for each class, as torchvision's ImageFolder and Hugging Face's imagefolder have them.

Either there is a folder for each split, `train` and `test` (or `val` where there is no labelled test split),
with the same classes; or there are the classes' folders alone, and `test_share` of each class is for testing.
"""

import logging
from pathlib import Path

from vitcnn.data.decoded import Decoded
from vitcnn.data.images import (
    SUFFIXES,
    Labelled,
    by_class,
    choose_test_share,
    decode_images,
    entries,
    is_left_behind,
    split_of,
    take,
)
from vitcnn.errors import StudyError
from vitcnn.files import file_digest

log = logging.getLogger(__name__)

ROOT = {"image_folder": "train with a folder for each class, or at least two folders of images"}


def is_root(folder: Path, layout: str) -> bool:
    """Return whether a folder is the dataset's: it has a training split in classes, or classes itself."""
    folders = _folders(folder)
    if any(split_of(inner.name) == "train" and _folders(inner) for inner in folders):
        return True
    return sum(_has_files(inner) for inner in folders if not split_of(inner.name)) >= 2


def decode(
    tree: Path,
    target: Path,
    layout: str,
    workers: int,
    *,
    image_size: int,
    resize: str,
    test_share: float | None,
) -> Decoded:
    """Decode every image of a tree, with `workers` processes, into arrays below `target`.

    Raises StudyError, naming the folder, for one without images, classes that differ between splits, a
    test split without classes, and a dataset without a test split and without `test_share`.
    """
    splits = {split_of(folder.name): folder for folder in entries(tree) if folder.is_dir()}
    if "train" not in splits:
        if not test_share:
            raise StudyError(
                f"{tree}: has no train and test folder; set test_share, such as 0.2, to test on a share of each class"
            )
        return _decode_share(tree, tree, target, workers, image_size, resize, test_share)
    if test_share:
        if {"test", "val"} & splits.keys():
            raise StudyError(f"{tree}: has a test split of its own; leave test_share out")
        return _decode_share(splits["train"], tree, target, workers, image_size, resize, test_share)
    test = _test_folder(tree, splits)
    train_images, test_images = _read_classes(splits["train"]), _read_classes(test)
    differing = sorted(train_images.keys() ^ test_images.keys())
    if differing:
        there, missing = (splits["train"], test) if differing[0] in train_images else (test, splits["train"])
        raise StudyError(f"{there / differing[0]}: is a class that {missing} does not have")
    labels = by_class(train_images)
    chosen = {"train": _labelled(train_images, labels, tree), "test": _labelled(test_images, labels, tree)}
    return decode_images(list(labels), chosen, target, image_size, resize, workers)


def _decode_share(
    folder: Path, tree: Path, target: Path, workers: int, image_size: int, resize: str, test_share: float
) -> Decoded:
    images = _read_classes(folder)
    labels = by_class(images)
    whole = _labelled(images, labels, tree)
    tested = choose_test_share([file_digest(path) for path in whole.contents], whole.labels, test_share)
    chosen = {split: take(whole, tested == (split == "test")) for split in ("train", "test")}
    return decode_images(list(labels), chosen, target, image_size, resize, workers)


def _test_folder(tree: Path, splits: dict) -> Path:
    """Return the folder of the test split: `test` where its images have classes, else `val`."""
    test, val = splits.get("test"), splits.get("val")
    if test and _folders(test):
        if val:
            log.warning("%s: is left out; runs hold out their own share of the training images", val)
        return test
    if val:
        if test:
            log.warning("%s: has no classes and is left out; %s is tested on", test, val)
        return val
    if test:
        raise StudyError(
            f"{test}: its images have no classes, so nothing can be tested on them; remove the folder and set test_share"
        )
    raise StudyError(
        f"{tree}: has no test split; set test_share, such as 0.2, to test on a share of each class"
    )


def _read_classes(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each class, in its folder or below it. Raises StudyError for a class without any."""
    images = {}
    for inner in entries(folder):
        if inner.suffix.lower() in SUFFIXES and inner.is_file():
            raise StudyError(f"{inner}: lies among the classes' folders; move it into one, or remove it")
        if not inner.is_dir():  # a licence, a read-me
            continue
        images[inner.name] = _files(inner)
        if not images[inner.name]:
            raise StudyError(f"{inner}: is a class without an image; add some, or remove the folder")
    if len(images) < 2:
        raise StudyError(f"{folder}: has {len(images)} folders of classes; two are the least")
    return images


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in entries(folder):
        found += _files(path) if path.is_dir() else [path]
    return found


def _labelled(images: dict[str, list[Path]], labels: dict[str, int], tree: Path) -> Labelled:
    rows = [(path, labels[name]) for name in sorted(images) for path in images[name]]
    names = [path.relative_to(tree).as_posix() for path, _ in rows]
    return Labelled(names, [path for path, _ in rows], [label for _, label in rows])


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not is_left_behind(path)]


def _has_files(folder: Path) -> bool:
    return any(path.is_file() and not is_left_behind(path) for path in folder.iterdir())
