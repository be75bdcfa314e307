"""What every layout's reader delivers: arrays of pixels and labels on disk, and what was wrong."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitcnn.files import writing

SPLITS = ("train", "test")


class Damage(NamedTuple):
    """An image that cannot be used: its row in the array, its file, and why."""

    index: int
    file: str
    reason: str


@dataclass
class Decoded:
    """The classes, in the order of their labels, and the counts of each split."""

    classes: list[dict[str, str]]
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, split: str, images: int, damaged: list[Damage], greyscale: int) -> None:
        """Note a split that has been read: `images` counts the damaged ones too."""
        self.splits[split] = {
            "images": images,
            "greyscale": greyscale,
            "damaged": [damage._asdict() for damage in damaged],
        }


def create_array(path: Path, shape: tuple[int, ...]) -> int:
    """Create a .npy file of `shape`, uint8, for several processes to fill in place; return where its data begin.

    Plain writes instead of a memory map: on a full disk they raise OSError where a map would kill the
    process with SIGBUS.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a packing that was stopped may have left it a second name
    with writing(path), path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        offset = file.tell()
        file.truncate(offset + int(np.prod(shape)))
    return offset
