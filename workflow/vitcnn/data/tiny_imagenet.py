"""Tiny ImageNet ("ImageNet-200"): its tree, its validation images sorted by class, its pixels.

The publisher's tree has `wnids.txt` (the 200 classes), `words.txt` (what each WordNet id means),
`train/WNID/images/*.JPEG`, and `val/images/*.JPEG` whose classes stand in `val/val_annotations.txt`.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from vitcnn.data.decoded import Decoded
from vitcnn.data.images import Labelled, decode_images
from vitcnn.errors import StudyError
from vitcnn.files import write_json

IMAGE_SIZE = 64
SORTED = "sorted.json"


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
        raise StudyError(
            f"{path}: cannot be read as text ({error}); if the dataset was downloaded, "
            "delete the download and run again"
        ) from error


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
    """Decode every image of a sorted tree, with `workers` processes, into arrays below `target`."""
    classes, words = read_classes(tree), read_words(tree)
    splits = {}
    for split, folder in (("train", "train/{}/images"), ("test", "val/{}")):
        rows = [
            (Path(path), label)
            for label, wnid in enumerate(classes)
            for path in _images(tree / folder.format(wnid))
        ]
        names = [path.relative_to(tree).as_posix() for path, _ in rows]
        splits[split] = Labelled(names, [path for path, _ in rows], [label for _, label in rows])
    decoded = decode_images(classes, splits, target, IMAGE_SIZE, "error", workers)
    decoded.classes = [{"id": wnid, "words": words.get(wnid, wnid)} for wnid in classes]
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
