"""Every image of a dataset read once, by the reader of its layout."""

from importlib import import_module
from pathlib import Path
from typing import Any

from vitcnn.data.decoded import SPLITS
from vitcnn.data.sources import READERS
from vitcnn.data.tiny_imagenet import SORTED
from vitcnn.data.trees import COPIED, refuse_edited
from vitcnn.errors import StudyError
from vitcnn.files import file_digest


def validate_images(
    dataset: str, layout: str, tree: Path, target: Path, workers: int, **reading: Any
) -> dict[str, Any]:
    """Read every image of a dataset into arrays below `target`; return the report of what was found.

    `reading` is what sources.reading_settings() gives for the dataset. Raises StudyError if the tree is no longer what
    was copied, or is no such dataset.
    """
    reader = import_module(f"vitcnn.data.{READERS[layout]}")
    if (tree / COPIED).exists():
        refuse_edited(tree, [SORTED])
    try:
        decoded = reader.decode(tree, target, layout, workers, **reading)
    except StudyError as error:
        raise StudyError(f"{error} ({tree} is a copy: edit the source, datasets.{dataset}.source)") from error
    names = [f"{split}_{what}.npy" for split in SPLITS for what in ("images", "labels")]
    arrays = {name: file_digest(target / name) for name in names}
    return {"dataset": dataset, "classes": decoded.classes, "splits": decoded.splits, "sha256": arrays}
