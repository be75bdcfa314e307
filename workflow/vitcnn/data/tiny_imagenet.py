"""Tiny ImageNet ("ImageNet-200"): its tree, its validation images sorted by class, its pixels.

The publisher's tree has `wnids.txt` (the 200 classes), `words.txt` (what each WordNet id means),
`train/WNID/images/*.JPEG`, and `val/images/*.JPEG` whose classes stand in `val/val_annotations.txt`.
"""

import io
import logging
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitcnn.data.decoded import Damage, Decoded, array_writer
from vitcnn.data.images import decode_chunk
from vitcnn.errors import StudyError
from vitcnn.files import save_array, write_json

log = logging.getLogger(__name__)

IMAGE_SIZE = 64
SORTED = "sorted.json"
_CHUNK = 500  # images that one process decodes at a time


ROOT = {"tiny_imagenet": "wnids.txt, words.txt, train, val"}


def is_root(folder: Path, layout: str) -> bool:
    """Return whether a folder holds the files and folders that Tiny ImageNet has at its root."""
    return all((folder / name).exists() for name in ROOT[layout].split(", "))


def read_classes(tree: Path) -> list[str]:
    """Return the WordNet ids of `wnids.txt`, sorted: a class's label is its place in this list."""
    wnids = _read_text(tree / "wnids.txt").split()
    twice = [wnid for wnid, count in Counter(wnids).items() if count > 1]
    if twice:
        raise StudyError(f"{tree / 'wnids.txt'}: {twice[0]} is listed twice")
    return sorted(wnids)


def read_words(tree: Path) -> dict[str, str]:
    """Return what each WordNet id of `words.txt` means, in words."""
    lines = _read_text(tree / "words.txt").splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def read_annotations(tree: Path) -> dict[str, str]:
    """Return the class of each validation image by its file name, from `val/val_annotations.txt`.

    Raises StudyError, with the line, for an image listed twice or of a class not in `wnids.txt`.
    """
    path = tree / "val" / "val_annotations.txt"
    known = set(read_classes(tree))
    classes: dict[str, str] = {}
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < 2 or Path(fields[0]).name != fields[0] or fields[0] in (".", ".."):
            raise StudyError(f"{path}: line {number} is not a file name, a tab and a class: {line!r}")
        name, wnid = fields[0], fields[1]
        if name in classes:
            raise StudyError(f"{path}: line {number} lists {name} a second time")
        if wnid not in known:
            raise StudyError(f"{path}: line {number}: {name} is of the class {wnid}, unknown to wnids.txt")
        classes[name] = wnid
    return classes


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as text ({error}); fetch the dataset again") from error


def sort_validation(tree: Path) -> dict[str, Any]:
    """Move each validation image into the folder of its class, `val/WNID/`; return the counts.

    Everything is checked before the first image moves, and a move is one rename, so that stopping
    anywhere and calling again ends in the same tree. Raises StudyError naming the image or class for
    one listed and absent, present and unlisted, in the folder of another class, or if the classes of
    `wnids.txt`, of the training folders and of the annotations are not the same.
    """
    val = tree / "val"
    classes = read_classes(tree)
    wanted = read_annotations(tree)
    _check_classes(tree, classes, wanted)

    places: dict[str, Path] = {}
    folders = [path for path in val.iterdir() if path.is_dir()]
    for folder in folders:
        if folder.name != "images" and folder.name not in classes:
            raise StudyError(f"{folder}: is the folder of no class of wnids.txt")
        for path in folder.iterdir():
            if path.name not in wanted:
                raise StudyError(f"{path}: is not listed in val_annotations.txt")
            if path.name in places:
                raise StudyError(f"{path}: is there twice, also as {places[path.name]}")
            if folder.name not in ("images", wanted[path.name]):
                raise StudyError(f"{path}: is annotated as {wanted[path.name]}")
            places[path.name] = path
    absent = sorted(wanted.keys() - places.keys())
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise StudyError(f"{val / 'images' / absent[0]}{more}: listed in val_annotations.txt, but absent")

    for wnid in classes:
        (val / wnid).mkdir(exist_ok=True)
    for name, path in places.items():
        target = val / wanted[name] / name
        if path != target:
            path.rename(target)
    if (val / "images").exists():
        (val / "images").rmdir()
    counts = {"images": len(wanted), "classes": len(classes)}
    write_json(tree / SORTED, counts)
    return counts


def _check_classes(tree: Path, classes: list[str], wanted: dict[str, str]) -> None:
    trained = {path.name for path in (tree / "train").iterdir() if path.is_dir()}
    for wnid in classes:
        if wnid not in trained:
            raise StudyError(f"{tree / 'train' / wnid}: the folder of a class of wnids.txt is missing")
    unknown = sorted(trained - set(classes))
    if unknown:
        raise StudyError(f"{tree / 'train' / unknown[0]}: is the folder of no class of wnids.txt")
    unseen = sorted(set(classes) - set(wanted.values()))
    if unseen:
        raise StudyError(f"{tree / 'val' / 'val_annotations.txt'}: has no image of the class {unseen[0]}")


def decode(tree: Path, target: Path, layout: str, workers: int) -> Decoded:
    """Decode every image of a sorted tree fully, with `workers` processes, into `target`.

    There is one such `layout`. Greyscale images become RGB. An image that does not decode, or is not 64 by 64, is left black and
    listed with its reason; nothing is raised for it.
    """
    classes, words = read_classes(tree), read_words(tree)
    splits = {
        "train": [
            (Path(path), label)
            for label, wnid in enumerate(classes)
            for path in _images(tree / "train" / wnid / "images")
        ],
        "test": [
            (Path(path), label) for label, wnid in enumerate(classes) for path in _images(tree / "val" / wnid)
        ],
    }
    decoded = Decoded(classes=[{"id": wnid, "words": words.get(wnid, wnid)} for wnid in classes])
    with ProcessPoolExecutor(max_workers=workers) as pool:
        for split, images in splits.items():
            paths = [path for path, _ in images]
            with array_writer(
                target / f"{split}_images.npy", (len(paths), 3, IMAGE_SIZE, IMAGE_SIZE)
            ) as data:
                starts = range(0, len(paths), _CHUNK)
                chunks = [paths[start : start + _CHUNK] for start in starts]
                places = [data.offset + start * 3 * IMAGE_SIZE**2 for start in starts]
                parts = pool.map(
                    decode_chunk, chunks, repeat(decode_image), repeat(IMAGE_SIZE), repeat(data.path), places
                )
                damaged, grey = [], 0
                for start, (reasons, chunk_grey) in zip(starts, parts, strict=True):
                    damaged += [
                        Damage(start + i, paths[start + i].relative_to(tree).as_posix(), reason)
                        for i, reason in reasons
                    ]
                    grey += chunk_grey
            labels = np.array([label for _, label in images], dtype=np.int64)
            save_array(target / f"{split}_labels.npy", labels)
            decoded.add(split, images=len(paths), damaged=damaged, greyscale=grey)
            log.info("%s: %d images, %d damaged, %d greyscale", split, len(paths), len(damaged), grey)
    return decoded


def _images(folder: Path) -> list[str]:
    """Return every file of a class's folder, whatever its name: one that is no image will be reported."""
    if not folder.is_dir():
        raise StudyError(f"{folder}: the folder of a class's images is missing")
    with os.scandir(folder) as entries:
        images = sorted(entries, key=_by_number)
    for entry in images:
        if not entry.is_file():
            raise StudyError(f"{entry.path}: is no file; a class's folder holds images alone")
    return [entry.path for entry in images]


def _by_number(entry: os.DirEntry) -> tuple[int, str]:
    """Sort n01_2 before n01_10."""
    number = Path(entry.name).stem.rpartition("_")[2]
    return (int(number) if number.isdecimal() else -1, entry.name)


def decode_image(data: bytes) -> tuple[np.ndarray, bool]:
    """Return an image's pixels as `(3, 64, 64) uint8`, and whether it was greyscale.

    Raises OSError, SyntaxError or ValueError for an image that is empty, cut short, no image at all,
    or of another size.
    """
    if not data:
        raise ValueError("the file is empty")
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.size != (IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(f"is {image.width} by {image.height} pixels, not {IMAGE_SIZE} by {IMAGE_SIZE}")
        grey = image.mode in ("L", "1", "LA", "I", "I;16")
        colour = image if image.mode == "RGB" else image.convert("RGB")
        return np.asarray(colour).transpose(2, 0, 1), grey
