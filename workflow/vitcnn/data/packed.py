"""Reading the packed form of a dataset: arrays that are mapped into memory, and their manifest."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitcnn.data.decoded import SPLITS
from vitcnn.errors import StudyError
from vitcnn.files import read_json

MANIFEST_VERSION = 1


class Split(NamedTuple):
    """Images `(N, 3, H, W) uint8` and labels `(N,) int64`, memory-mapped."""

    images: np.ndarray
    labels: np.ndarray


class Packed(NamedTuple):
    """A packed dataset: its manifest, its splits, and which training images are held out `(N,) bool`."""

    manifest: dict[str, Any]
    train: Split
    test: Split
    hold_out: np.ndarray


def load_packed(folder: Path) -> Packed:
    """Open a packed dataset in milliseconds: nothing is read before it is used.

    Raises StudyError if a file is missing or the arrays do not fit the manifest.
    """
    path = folder / "manifest.json"
    if not path.exists():
        raise StudyError(f"{path}: is missing, so no dataset is packed there; run: snakemake data")
    manifest = read_json(path)
    if manifest.get("version") != MANIFEST_VERSION:
        raise StudyError(
            f"{path}: has version {manifest.get('version')}, this code reads {MANIFEST_VERSION}; "
            "delete the folder and pack again"
        )
    try:
        arrays = {name: np.load(folder / name, mmap_mode="c") for name in manifest["sha256"]}
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{folder}: is no complete packed dataset ({error}); delete it and pack again"
        ) from error
    train, test = (Split(arrays[f"{s}_images.npy"], arrays[f"{s}_labels.npy"]) for s in SPLITS)
    for name, split in (("train", train), ("test", test)):
        if not len(split.images) == len(split.labels) == manifest["counts"][name]["images"]:
            raise StudyError(f"{folder}: its {name} arrays do not fit its manifest; delete it and pack again")
    return Packed(manifest, train, test, arrays["hold_out.npy"])
