"""Datasets that torchvision reads, from the files that it downloads: MNIST, SVHN, Flowers102 and others.

See https://docs.pytorch.org/vision/stable/datasets.html. A folder is recognised by the files and folders that
torchvision leaves in it.
"""

import io
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from vitcnn.data.decoded import SPLITS, Decoded
from vitcnn.data.images import Labelled, decode_images
from vitcnn.errors import StudyError


class _Set(NamedTuple):
    """What marks a dataset's folder, and the arguments of its class for the training and the test images."""

    marks: tuple[str, ...]
    train: dict[str, Any]
    test: dict[str, Any]


_TRAIN = ({"train": True}, {"train": False})
_SPLIT = ({"split": "train"}, {"split": "test"})
_TRAINVAL = ({"split": "trainval"}, {"split": "test"})
SETS = {
    "DTD": _Set(("dtd",), *_SPLIT),
    "FGVCAircraft": _Set(("fgvc-aircraft-2013b",), *_TRAINVAL),
    "FashionMNIST": _Set(("FashionMNIST/raw",), *_TRAIN),
    "Flowers102": _Set(("flowers-102",), *_SPLIT),
    "Food101": _Set(("food-101",), *_SPLIT),
    "GTSRB": _Set(("gtsrb",), *_SPLIT),
    "KMNIST": _Set(("KMNIST/raw",), *_TRAIN),
    "MNIST": _Set(("MNIST/raw",), *_TRAIN),
    "OxfordIIITPet": _Set(("oxford-iiit-pet",), *_TRAINVAL),
    "STL10": _Set(("stl10_binary",), *_SPLIT),
    "SVHN": _Set(("train_32x32.mat", "test_32x32.mat"), *_SPLIT),
    "USPS": _Set(("usps.bz2", "usps.t.bz2"), *_TRAIN),
}
ROOT = {"torchvision": f"the files that torchvision downloads, of {', '.join(SETS)}"}


def is_root(folder: Path, layout: str) -> bool:
    """Return whether a folder is the dataset's: it has what torchvision leaves of one."""
    return bool(_sets_in(folder))


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
    """Decode the training and the test images, with `workers` processes, into arrays below `target`.

    Raises StudyError where torchvision finds its files missing or damaged.
    """
    if test_share:
        raise StudyError(f"{tree}: has a test split of its own; leave test_share out")
    name, *others = _sets_in(tree)
    if others:
        raise StudyError(f"{tree}: has files of {name} and of {others[0]}; leave one of them in the source")
    splits, classes = {}, []
    for split in SPLITS:
        opened = open_split(name, tree, split)
        images = [Item(name, tree, split, index) for index in range(len(opened))]
        labels = [int(label) for label in labels_of(opened)]
        splits[split] = Labelled([f"{split} image {image.index + 1}" for image in images], images, labels)
        classes = list(map(str, getattr(opened, "classes", range(max(labels) + 1))))
    return decode_images(classes, splits, target, image_size, resize, workers)


def download(name: str, root: Path) -> Path:
    """Have torchvision download one of SETS into the folder `root`, and return it; what is there stays.

    Raises StudyError with torchvision's reason where it fails.
    """
    root.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        open_split(name, root, split, download=True)
    return root


class Item(NamedTuple):
    """An image of a torchvision dataset, by its place in a split."""

    name: str
    root: Path
    split: str
    index: int

    def read_bytes(self) -> bytes:
        """Return the image as a PNG file, which loses nothing."""
        image, _ = open_split(self.name, self.root, self.split)[self.index]
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=1)
        return file.getvalue()


@cache  # one for each process
def open_split(name: str, root: Path, split: str, download: bool = False) -> Any:
    """Return torchvision's dataset of a split. Raises StudyError where its files are missing or damaged."""
    from torchvision import datasets  # only what decodes depends on torchvision

    try:
        return getattr(datasets, name)(str(root), **getattr(SETS[name], split), download=download)
    except (RuntimeError, OSError, ValueError, EOFError, AssertionError) as error:
        raise StudyError(f"{root}: torchvision cannot read it as {name}: {error}") from error


def labels_of(opened: Any) -> Any:
    """Return the labels of a dataset, without reading its images where the class has the labels alone."""
    names = (name for name in ("targets", "labels", "_labels") if hasattr(opened, name))
    name = next(names, None)
    return getattr(opened, name) if name else [label for _, label in opened]


def _sets_in(folder: Path) -> list[str]:
    return [name for name in SETS if all((folder / mark).exists() for mark in SETS[name].marks)]
