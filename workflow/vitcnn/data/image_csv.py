"""Images with a table of their labels, such as Hugging Face's `metadata.csv` or Kaggle's `train.csv`.

A table has a column for the image and one for its class, by any of the usual names, and perhaps one for
the split. Either one table holds all, or there is one for each split, named as it or in a folder named as it. Where
nothing says what is for testing, `test_share` of each class is. An example of a submission to a contest, which has
labels that mean nothing, is left out.
"""

import csv
import io
import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vitcnn.data.decoded import Decoded
from vitcnn.data.images import (
    SUFFIXES,
    Labelled,
    by_class,
    decode_images,
    is_left_behind,
    split_of,
    split_up,
)
from vitcnn.errors import StudyError

log = logging.getLogger(__name__)

ROOT = {"image_csv": "a table of labels (.csv)"}
IMAGE_COLUMNS = ("file_name", "filename", "file", "path", "image", "image_id", "id", "name")
LABEL_COLUMNS = ("label", "class", "target", "category", "labels")
SPLIT_COLUMNS = ("split", "set", "subset")


class Row(NamedTuple):
    """One line of a table: where it stands, in which folder, the image it names, its class and its split, where it
    says them."""

    place: str
    folder: Path
    image: str
    label: str | None
    split: str | None


def is_root(folder: Path, layout: str) -> bool:
    """Return whether a folder is the dataset's: it has a table, or folders for splits that have."""
    return bool(_tables(folder))


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
    """Decode every image that the tables of a tree name, with `workers` processes, into arrays below `target`.

    Raises StudyError, naming the table and the line, for an image that is absent, outside the folder or
    listed twice, a line without a label, and an image file that no line names.
    """
    files = _find_images(tree)
    index = _index(files, tree)
    rows = [row for table, split in _tables(tree) for row in _read_table(table, split, index)]
    paths = [_image_of(row, index, tree) for row in rows]
    _refuse_twice(rows, paths)
    unnamed = sorted(set(files) - set(paths))
    if unnamed and all(_split_of_path(path.relative_to(tree)) == "test" for path in unnamed):
        log.warning("%s: has no labels, as %d images; they are left out", unnamed[0], len(unnamed))
    elif unnamed:
        raise StudyError(
            f"{unnamed[0]}: is an image that no table names; {len(unnamed)} in all. Add a line for each, or remove them"
        )
    paths = [path for path, row in zip(paths, rows, strict=True) if row.label is not None]
    rows = [row for row in rows if row.label is not None]
    labels = by_class([row.label for row in rows])
    names = [path.relative_to(tree).as_posix() for path in paths]
    whole = Labelled(names, paths, [labels[row.label] for row in rows])
    chosen = split_up(whole, [row.split for row in rows], test_share, tree)
    return decode_images(list(labels), chosen, target, image_size, resize, workers)


def _tables(folder: Path) -> list[tuple[Path, str | None]]:
    """Return the tables of a dataset, each with its split where its name or its folder says one."""
    found = [(path, split_of(path.stem)) for path in _tables_in(folder)]
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if split := split_of(inner.name):
            found += [(path, split) for path in _tables_in(inner)]
    return found


def _tables_in(folder: Path) -> list[Path]:
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    return [path for path in tables if not is_left_behind(path) and "submission" not in path.stem.lower()]


def _split_of_path(path: PurePosixPath | Path) -> str | None:
    """Return the split that a folder in a path is named as; None where there is none."""
    return next((split for part in path.parts[:-1] if (split := split_of(part))), None)


def _read_table(table: Path, split_here: str | None, index: Mapping[str, list[Path]]) -> list[Row]:
    """Return a table's lines; that of a test split may be without a column of labels, as where they are secret.

    `split_here` is the split that the table is of, if its place says so; `index` the files that there are.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError as error:
        raise StudyError(f"{table}: is not text in UTF-8 ({error}); save it as such") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t|", key=first.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    try:
        lines = [(f"{table}: line {reader.line_num}", line) for line in reader]
    except csv.Error as error:
        raise StudyError(f"{table}: line {reader.line_num}: {error}; is a quote not closed?") from error
    columns = {name.strip().lower(): name for name in reader.fieldnames or [] if name}
    label, split = (
        next((columns[name] for name in names if name in columns), None)
        for names in (LABEL_COLUMNS, SPLIT_COLUMNS)
    )
    image = _image_column(table, [columns[name] for name in IMAGE_COLUMNS if name in columns], lines, index)
    if label is None:
        if split_here == "test":
            log.warning("%s: has no labels; its images are left out", table)
            return [Row(place, table.parent, line[image] or "", None, "test") for place, line in lines]
        raise StudyError(
            f"{table}: has no column for the label; it may be named {', '.join(LABEL_COLUMNS)}, and there are "
            f"{', '.join(columns) or 'none'}"
        )
    rows = []
    for place, line in lines:
        name, value = ((line[column] or "").strip() for column in (image, label))
        if not name and not value:
            continue
        if not name or not value:
            raise StudyError(
                f"{place}: has no {'image' if not name else 'label'}; fill it in, or remove the line"
            )
        said = split_of((line[split] or "").strip()) if split else None
        if split and said is None:
            raise StudyError(f"{place}: {line[split]!r} is no split; train, val and test are")
        said = said or split_here or _split_of_path(PurePosixPath(name))
        rows.append(Row(place, table.parent, name, value, said))
    return rows


def _image_column(
    table: Path, columns: list[str], lines: list[tuple[str, dict[str, str]]], index: Mapping[str, list[Path]]
) -> str:
    """Return which of the columns names the images: one with suffixes, else the first.

    Beside `name`, an `id` may be the number of the line, which another file has for its name.
    """
    if not columns:
        raise StudyError(f"{table}: has no column for the image; it may be named {', '.join(IMAGE_COLUMNS)}")
    named = {column: [(line[column] or "").strip() for _, line in lines] for column in columns}
    with_suffix = [column for column in columns if any(map(_names_file, named[column]))]
    if with_suffix:
        return with_suffix[0]
    first, *others = columns
    for other in others:
        both = [pair for pair in zip(named[first], named[other], strict=True) if any(pair)]
        if all(name in index for pair in both for name in pair) and any(one != two for one, two in both):
            raise StudyError(
                f"{table}: its columns {first} and {other} both name images, and not the same; remove one of them"
            )
    return first


def _names_file(value: str) -> bool:
    return PurePosixPath(value).suffix.lower() in SUFFIXES


def _find_images(tree: Path) -> list[Path]:
    found = sorted(p for p in tree.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return [p for p in found if not any(is_left_behind(part) for part in (p, *p.relative_to(tree).parents))]


def _index(files: list[Path], tree: Path) -> dict[str, list[Path]]:
    """Return the files that each end of a path may mean, with the suffix and without."""
    index: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        parts = file.relative_to(tree).parts
        for first in range(len(parts)):
            end = "/".join(parts[first:])
            index[end].append(file)
            index[end.rpartition(".")[0]].append(file)
    return index


def _image_of(row: Row, index: dict[str, list[Path]], tree: Path) -> Path:
    """Return the file of a line: at its path from the table, or anywhere by its name, with or without a suffix."""
    path = PurePosixPath(row.image.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise StudyError(
            f"{row.place}: {row.image} leads out of the folder; write its path from the table's folder"
        )
    found = index.get(path.as_posix(), [])
    for folder in (row.folder, tree):
        if folder / path in found:
            return folder / path
    if row.split and len(found) > 1:  # train/1.png and test/1.png
        found = [f for f in found if row.split in map(split_of, f.relative_to(tree).parts[:-1])] or found
    if not found:
        raise StudyError(
            f"{row.place}: there is no image {row.image} below {tree}; add it, or remove the line"
        )
    if len(found) > 1:
        raise StudyError(
            f"{row.place}: {row.image} may be {found[0]} or {found[1]}; write its path from {tree}"
        )
    return found[0]


def _refuse_twice(rows: list[Row], paths: list[Path]) -> None:
    seen: dict[Path, Row] = {}
    for row, path in zip(rows, paths, strict=True):
        if path in seen:
            raise StudyError(
                f"{row.place}: names {row.image}, as {seen[path].place} does; remove one of the two"
            )
        seen[path] = row
