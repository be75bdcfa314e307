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
    decode_images,
    entries,
    is_left_behind,
    split_of,
    split_up,
)
from vitcnn.errors import StudyError

log = logging.getLogger(__name__)

ROOT = {"image_folder": "train with a folder for each class, or at least two folders of images"}


def is_root(folder: Path, layout: str) -> bool:
    """Return whether a folder is the dataset's: it has a training split in classes, or classes itself."""
    folders = _folders(folder)
    if any(split_of(inner.name) == "train" and _folders(inner) for inner in folders):
        return True
    return sum(_has_files(inner) for inner in folders if not split_of(inner.name)) >= 2


def refuse_others(root: Path) -> None:
    """Raise StudyError if a folder beside a root without splits holds images too: both may be classes."""
    if any(split_of(inner.name) == "train" for inner in _folders(root)):
        return
    for other in _folders(root.parent):
        if other != root and any(path.suffix.lower() in SUFFIXES for path in _files(other)):
            raise StudyError(
                f"{root} and {other} both hold images: name one as the source, or, if they are classes of one dataset, "
                "move the images of each directly into its folder, without subfolders"
            )


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
    splits = _splits(tree)
    if "train" not in splits:
        if not test_share:
            raise StudyError(
                f"{tree}: has no train and test folder; set test_share, such as 0.2, to test on a share of each class"
            )
        return _decode_share(tree, tree, target, workers, image_size, resize, test_share)
    if test_share:
        for other in (splits[name] for name in ("test", "val") if name in splits):
            if _has_classes(other, splits["train"]):
                raise StudyError(f"{other}: is a test split of its own; leave test_share out")
            log.warning("%s: has no classes and is left out", other)
        return _decode_share(splits["train"], tree, target, workers, image_size, resize, test_share)
    test = _test_folder(tree, splits)
    train_images, test_images = _read_classes(splits["train"]), _read_classes(test)
    differing = sorted(train_images.keys() ^ test_images.keys())
    if differing:
        there, missing = (splits["train"], test) if differing[0] in train_images else (test, splits["train"])
        raise StudyError(
            f"{there / differing[0]}: is a class that {missing} does not have; add it there, or remove it"
        )
    labels = by_class(train_images)
    chosen = {"train": _labelled(train_images, labels, tree), "test": _labelled(test_images, labels, tree)}
    return decode_images(list(labels), chosen, target, image_size, resize, workers)


def _splits(tree: Path) -> dict[str, Path]:
    """Return the folder of each split, of those that the tree has."""
    splits: dict[str, Path] = {}
    folders = [path for path in entries(tree) if path.is_dir()]
    for folder in folders:
        if split := split_of(folder.name):
            if split in splits:
                raise StudyError(f"{folder}: is for {split}, as {splits[split]} is; leave one of them out")
            splits[split] = folder
    for folder in folders if "train" in splits else ():
        if folder not in splits.values():
            log.warning("%s: is no split and left out", folder)
    return splits


def _decode_share(
    folder: Path, tree: Path, target: Path, workers: int, image_size: int, resize: str, test_share: float
) -> Decoded:
    images = _read_classes(folder)
    labels = by_class(images)
    whole = _labelled(images, labels, tree)
    chosen = split_up(whole, [None] * len(whole.names), test_share, folder)
    return decode_images(list(labels), chosen, target, image_size, resize, workers)


def _test_folder(tree: Path, splits: dict) -> Path:
    """Return the folder of the test split: `test` where its images have classes, else `val`."""
    test, val = splits.get("test"), splits.get("val")
    if test and _has_classes(test, splits["train"]):
        if val:
            log.warning("%s: is left out; runs hold out their own share of the training images", val)
        return test
    if val:
        if test:
            log.warning("%s: has no classes and is left out; %s is tested on", test, val)
        return val
    if test:
        raise StudyError(
            f"{test}: its images have no classes, so nothing can be tested on them; set test_share, such as 0.2, to test "
            "on a share of the training images"
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


def _has_classes(folder: Path, train: Path) -> bool:
    """Return whether a split is in classes, those of the training split, and not in one folder of unlabelled images."""
    return bool({path.name for path in _folders(folder)} & {path.name for path in _folders(train)})


def _has_files(folder: Path) -> bool:
    return any(path.is_file() and not is_left_behind(path) for path in folder.iterdir())
