"""Images in Parquet files, as the Hugging Face Hub has them (https://huggingface.co/docs/hub/datasets-image).

A file is of the split that its name begins with, as in `train-00000-of-00002.parquet`, or that its folder
is named after. One column has the image files, as bytes or in a struct, another one their classes.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vitcnn.data.decoded import Decoded
from vitcnn.data.images import Labelled, by_class, decode_images, is_left_behind, split_of, split_up
from vitcnn.errors import StudyError

log = logging.getLogger(__name__)

ROOT = {"parquet": "a Parquet file (.parquet), or folders of them named train and test"}
IMAGE_COLUMNS = ("image", "img", "images")
LABEL_COLUMNS = ("label", "labels", "class", "target", "category", "fine_label")


def is_root(folder: Path, layout: str) -> bool:
    """Return whether a folder is the dataset's: it has Parquet files, or folders for splits that have."""
    return bool(_files(folder))


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
    """Decode every image of the Parquet files of a tree, with `workers` processes, into arrays below `target`.

    Images without a label, as in a test split whose labels are secret, are left out. Raises StudyError,
    naming the file, for one that cannot be read, without a column of images or labels, or with a row
    without an image.
    """
    whole, splits, titles = Labelled([], [], []), [], []
    for path, split in _files(tree):
        images, classes = _read(path)
        rows = [row for row, title in enumerate(classes) if title is not None]
        if len(rows) < len(classes):
            log.warning("%s: %d images without a label are left out", path, len(classes) - len(rows))
        name = path.relative_to(tree).as_posix()
        whole.names.extend(f"{name}: row {row + 1}" for row in rows)
        whole.contents.extend(images[row] for row in rows)
        titles += [classes[row] for row in rows]
        splits += [split] * len(rows)
    labels = by_class(titles)
    whole.labels.extend(labels[title] for title in titles)
    chosen = split_up(whole, splits, test_share, tree)
    return decode_images(list(labels), chosen, target, image_size, resize, workers)


def _files(folder: Path) -> list[tuple[Path, str | None]]:
    """Return the Parquet files of a dataset, each with its split where its name or its folder says one."""
    found = [(path, split_of(re.split(r"[-_.]", path.name)[0])) for path in _parquet_in(folder)]
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if split := split_of(inner.name):
            found += [(path, split) for path in _parquet_in(inner)]
    return found


def _parquet_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.parquet") if not is_left_behind(path))


def _read(path: Path) -> tuple[list[bytes], list[str | None]]:
    """Return the image files of a Parquet file, and the class of each; None for one without."""
    try:
        schema = pq.read_schema(path)
        fitting = [field.name for field in schema if _holds_images(field.type)]
        image = next((name for name in (*IMAGE_COLUMNS, *fitting[:1]) if name in fitting), None)
        label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
        if image is None:
            raise StudyError(f"{path}: has no column of image files, as bytes or as a struct that has them")
        if label is None:
            raise StudyError(
                f"{path}: has no column for the class; it may be named {', '.join(LABEL_COLUMNS)}"
            )
        table = pq.read_table(path, columns=[image, label])
    except (pa.ArrowException, OSError) as error:
        raise StudyError(
            f"{path}: cannot be read as Parquet ({error}); if the dataset was downloaded, "
            "delete the download and run again"
        ) from error
    images = [value["bytes"] if isinstance(value, dict) else value for value in table[image].to_pylist()]
    absent = next((row for row, content in enumerate(images, start=1) if content is None), None)
    if absent:
        raise StudyError(f"{path}: row {absent} has no image in its column {image}")
    names = _class_names(schema.metadata or {}, label)
    if names and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise StudyError(f"{path}: two of its classes are named {twice}; rename one")
    kind = schema.field(label).type
    is_number = pa.types.is_integer(kind)
    if not (is_number or (not names and (_is_text(kind) or pa.types.is_boolean(kind)))):
        raise StudyError(
            f"{path}: its column {label} holds {kind}, which is no class; write whole numbers or names"
        )
    labels = [None if value == -1 else value for value in table[label].to_pylist()]  # -1 is a secret one
    wrong = [value for value in labels if names and value is not None and not 0 <= value < len(names)]
    if wrong:
        raise StudyError(f"{path}: label {wrong[0]} is none of its {len(names)} classes")
    return images, [None if v is None else names[v] if names else str(v) for v in labels]


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _class_names(metadata: Mapping[bytes, bytes], label: str) -> list[str] | None:
    """Return the names of classes that the file has for its numbers; None where it has none."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None
