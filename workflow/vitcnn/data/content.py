"""The content of a dataset's source, wherever it lies: of what was fetched, and of what would be now."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vitcnn.data.sources import Source
from vitcnn.data.trees import list_files
from vitcnn.files import digest, file_digest, read_json


def content_of(path: Path) -> dict[str, Any]:
    """Return kind, number of files, bytes and SHA-256 of an archive, or of all files of a folder."""
    if path.is_dir():
        sizes = list_files(path)
        names = sorted(sizes)
        with ThreadPoolExecutor(max_workers=8) as pool:
            digests = list(pool.map(lambda name: file_digest(path / name), names))
        listing = digest(list(zip(names, digests, strict=True)))
        return {"kind": "folder", "files": len(names), "bytes": sum(sizes.values()), "sha256": listing}
    return {"kind": "archive", "files": 1, "bytes": path.stat().st_size, "sha256": file_digest(path)}


def signature_of(path: Path) -> str:
    """Return a digest of names, sizes and times: as long as it is the same, so is the content."""
    files = [path / name for name in sorted(list_files(path))] if path.is_dir() else [path]
    facts = ((str(file), file.stat()) for file in files)
    return digest([[name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for name, s in facts])


def content_now(places: list[str], what: Path) -> str | None:
    """Return the SHA-256 of what fetch() would deliver now, as far as that is known without fetching.

    `what` is the file of what was fetched before, beside that of its origin. A local source is read
    again if the file changed; any other is known if it delivered before, or if it has a checksum. Places that
    failed before are skipped.
    """
    origin_file = what.with_name("fetched_from.json")
    if not origin_file.exists():
        return None
    recorded, origin = read_json(what)["sha256"], read_json(origin_file)
    failed = {failure["source"] for failure in origin["failed"]}
    for text in places:
        source = Source.parse(text)
        path = Path(source.location)
        if text in failed or (source.kind == "path" and not path.exists()):
            continue
        if source.kind == "path":
            same = (
                str(path.resolve()) == origin["path"] and signature_of(path.resolve()) == origin["signature"]
            )
            return recorded if same else content_of(path)["sha256"]
        return recorded if text == origin["source"] or source.checksum == ("sha256", recorded) else None
    return None
