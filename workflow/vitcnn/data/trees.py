"""A writable copy of what was fetched: an archive is extracted, a folder is copied.

The copy is complete, in names and sizes, or it does not exist.
"""

import gzip
import logging
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from vitcnn.data.sources import READERS
from vitcnn.errors import StudyError
from vitcnn.files import read_json, write_json

log = logging.getLogger(__name__)

COPIED = "copied.json"
MAX_UNPACKED_GB = 20  # that an archive may take unpacked, by default
# What reading a damaged archive raises.
DAMAGE = (
    EOFError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
)
_DEPTH = 4  # how many folders deep a root may lie in what a source delivers
_BLOCK = 4096  # what a file takes at least, so that many empty ones count too


def copy_tree(
    origin: Path, layout: str, tree: Path, max_unpacked_gb: float = MAX_UNPACKED_GB
) -> dict[str, Any]:
    """Make `tree` a writable copy of the dataset in `origin`, an archive or a folder; return what was copied.

    The root of the dataset is found by its layout's own files, so it does not matter in which folder
    an archive packs it. An existing `tree` is replaced at the end, in one rename. `origin` is only read.
    Raises StudyError if it is no dataset of that layout, damaged, has members that leave its folder, or
    would take more than `max_unpacked_gb` unpacked; in that case nothing is written.
    """
    work = tree.with_name(tree.name + ".part")
    copy = work / "all"
    _remove(work)
    work.mkdir(parents=True)
    try:
        if not origin.exists():
            raise StudyError(f"{origin}: what was fetched is gone; fetch it again")
        if origin.is_dir():
            expected = _copy_folder(find_root(origin, layout), copy)
        else:
            expected = _extract(origin, copy, max_unpacked_gb)
        if (present := list_files(copy)) != expected:
            missing = sorted(expected.items() - present.items())[:5]
            raise StudyError(f"{origin}: the copy is not complete; first differences: {missing}")
        root = find_root(copy, layout, origin)
        present = list_files(root)
        listing = "".join(f"{name}\t{size}\n" for name, size in sorted(present.items()))
        copied = {
            "layout": layout,
            "files": len(present),
            "bytes": sum(present.values()),
            "listing_sha256": sha256(listing.encode()).hexdigest(),
        }
        write_json(root / COPIED, copied)
        _remove(tree)
        root.rename(tree)
    except StudyError as error:  # which may name a place in the copy, gone by the time it is read
        raise StudyError(str(error).replace(str(copy), str(origin))) from error
    finally:
        _remove(work)
    return copied


def find_root(folder: Path, layout: str, origin: Path | None = None) -> Path:
    """Return the shallowest folder, at most four down, that is the root of a dataset of that layout.

    Raises StudyError, with `origin` (default: `folder`) as the place, if there is none, or if there are several.
    """
    roots = _search(folder, layout)
    if len(roots) > 1:
        first, second = (root.relative_to(folder) for root in roots[:2])
        raise StudyError(
            f"{origin or folder}: {first} and {second} in it could each be the {layout} dataset; unpack it and name "
            "one as the source, or put them into one folder as train and test"
        )
    if roots:
        if layout == "image_folder" and roots[0] != folder:
            _reader(layout).refuse_others(roots[0])
        return roots[0]
    other = [name for name in READERS if name != layout and _search(folder, name)]
    looks = f"; it looks like {other[0]}" if other else ""
    raise StudyError(
        f"{origin or folder}: is no {layout} dataset: no folder in it has {_reader(layout).ROOT[layout]}{looks}"
    )


def refuse_edited(tree: Path, made_later: Collection[str] = ()) -> None:
    """Raise StudyError if a copy has other files, or as many of another size together, than when it was made.

    `made_later` are files of a later step. To move files inside the copy, as that step may, is no edit.
    """
    copied = read_json(tree / COPIED)
    found = [size for name, size in list_files(tree).items() if name not in (COPIED, *made_later)]
    if (len(found), sum(found)) != (copied["files"], copied["bytes"]):
        raise StudyError(
            f"{tree}: is a copy, and was edited: it has {len(found):,} files of {sum(found):,} bytes, and had "
            f"{copied['files']:,} of {copied['bytes']:,}. Delete it, and edit the source instead"
        )


def list_files(folder: Path) -> dict[str, int]:
    """Return the size of each file below `folder`, by its path from there."""
    sizes = {}

    def visit(path: str, prefix: str) -> None:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir():
                    visit(entry.path, f"{prefix}{entry.name}/")
                else:
                    sizes[prefix + entry.name] = entry.stat().st_size

    visit(str(folder), "")
    for name in sizes:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise StudyError(
                f"{folder}: the name of a file in it, {name!a}, is not in UTF-8; rename it"
            ) from error
    return sizes


def _reader(layout: str) -> ModuleType:
    return import_module(f"vitcnn.data.{READERS[layout]}")


def _search(folder: Path, layout: str) -> list[Path]:
    """Return the shallowest folders that could be the root; one that tools have left there is none."""
    reader, level = _reader(layout), [folder]
    for _ in range(_DEPTH + 1):
        if found := [candidate for candidate in level if reader.is_root(candidate, layout)]:
            return found
        inner = (path for outer in level for path in sorted(outer.iterdir()) if path.is_dir())
        level = [path for path in inner if not path.name.startswith((".", "__MACOSX"))][:1000]
    return []


def _copy_folder(source: Path, target: Path) -> dict[str, int]:
    """Copy contents alone: the source's permissions may forbid writing, the copy must not."""
    expected = list_files(source)
    # Empty folders too: a class without images is a mistake, and is to be seen.
    for folder, _, _ in os.walk(source, followlinks=True):
        (target / Path(folder).relative_to(source)).mkdir(parents=True, exist_ok=True)
    names = list(expected)
    parts = [names[start : start + 500] for start in range(0, len(names), 500)]

    def copy(part: list[str]) -> None:
        for name in part:
            # A hundred thousand small files feel each call that shutil.copyfile makes, and a buffer that is
            # larger than they are: memory of a megabyte comes from the kernel each time.
            with (source / name).open("rb", 0) as original, (target / name).open("wb", 0) as copied:
                shutil.copyfileobj(original, copied, min(expected[name] + 1, 1 << 20))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(copy, parts):
            pass
    return expected


class _Limit:
    """Counts what an archive says its members take, and stops before too much is written."""

    def __init__(self, archive: Path, gigabytes: float) -> None:
        self.archive = archive
        self.gigabytes = gigabytes
        self.left = gigabytes * 1e9

    def count(self, size: int) -> None:
        self.left -= size + _BLOCK
        if self.left < 0:
            raise StudyError(
                f"{self.archive}: is more than {self.gigabytes:g} GB when it is unpacked, and not unpacked; "
                "if it is to be trusted, set max_unpacked_gb higher"
            )


def refuse_larger(archive: Path, max_unpacked_gb: float) -> None:
    """Raise StudyError if a zip or tar archive says that its members take more than that.

    Raises one of DAMAGE if it cannot be read.
    """
    limit = _Limit(archive, max_unpacked_gb)
    if tarfile.is_tarfile(archive):  # first: a plain tar that ends in a zip passes for a zip
        with tarfile.open(archive) as file:
            for entry in file:
                limit.count(entry.size)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                limit.count(member.file_size)
    else:
        raise tarfile.ReadError("it is neither a zip nor a tar archive")


def _extract(archive: Path, target: Path, max_unpacked_gb: float) -> dict[str, int]:
    """Extract an archive whose members all stay inside; return the size of each file by its name."""
    target.mkdir()
    limit = _Limit(archive, max_unpacked_gb)
    try:
        if tarfile.is_tarfile(archive):  # first, as above
            return _extract_tar(archive, target, limit)
        if zipfile.is_zipfile(archive):
            return _extract_zip(archive, target, limit)
    except DAMAGE as error:
        raise StudyError(
            f"{archive}: is truncated or damaged ({error}); if it was downloaded, delete it and run again"
        ) from error
    except (NotImplementedError, RuntimeError) as error:  # a zip's compression, or its password
        raise StudyError(
            f"{archive}: cannot be unpacked here ({error}); unpack it and name the folder as the source"
        ) from error
    raise StudyError(
        f"{archive}: is neither a zip nor a tar archive, or is truncated; if it was downloaded, delete it and run again, or name "
        "a folder as the source"
    )


def _extract_zip(archive: Path, target: Path, limit: _Limit) -> dict[str, int]:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            _refuse_unless_inside(archive, member.filename, plain)
            limit.count(member.file_size)  # more than it says is never written of a member
        for member in members:
            file.extract(member, target)
        return {_normal(m.filename): m.file_size for m in members if not m.is_dir()}


def _extract_tar(archive: Path, target: Path, limit: _Limit) -> dict[str, int]:
    sizes = {}
    with tarfile.open(archive) as file:
        for member in file:  # read once, front to back: a compressed tar has no index
            _refuse_unless_inside(archive, member.name, member.isfile() or member.isdir())
            limit.count(member.size)
            file.extract(member, target, filter="data")
            if member.isfile():
                sizes[_normal(member.name)] = member.size
        while rest := file.fileobj.read(1 << 20):  # so that a checksum at the end is seen
            limit.count(len(rest))
    return sizes


def _normal(name: str) -> str:
    return str(PurePosixPath(name))


def _refuse_unless_inside(archive: Path, name: str, plain: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise StudyError(f"{archive}: member {name!r} would be written outside the folder; not extracted")
    if not plain:
        raise StudyError(f"{archive}: member {name!r} is a link or a device; not extracted")


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
