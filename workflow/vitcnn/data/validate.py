"""Every image of a dataset read once, by the reader of its layout."""

from importlib import import_module
from pathlib import Path
from typing import Any

from vitcnn.data.decoded import SPLITS
from vitcnn.data.sources import READERS
from vitcnn.files import file_digest


def validate_images(
    dataset: str, layout: str, tree: Path, target: Path, workers: int, **reading: Any
) -> dict[str, Any]:
    """Read every image of a dataset into arrays below `target`; return the report of what was found.

    `reading` is what sources.reading_settings() gives for the dataset.
    """
    reader = import_module(f"vitcnn.data.{READERS[layout]}")
    decoded = reader.decode(tree, target, layout, workers, **reading)
    names = [f"{split}_{what}.npy" for split in SPLITS for what in ("images", "labels")]
    arrays = {name: file_digest(target / name) for name in names}
    return {"dataset": dataset, "classes": decoded.classes, "splits": decoded.splits, "sha256": arrays}
