"""Fetching a dataset from the first of its sources that can deliver it."""

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from vitcnn.data.content import content_of, signature_of
from vitcnn.data.sources import Source
from vitcnn.data.trees import DAMAGE, MAX_UNPACKED_GB, refuse_larger
from vitcnn.errors import StudyError
from vitcnn.files import file_digest

log = logging.getLogger(__name__)

ATTEMPTS = 6
TIMEOUT = (10, 60)  # seconds to connect, and between two blocks of data
_BLOCK = 1 << 18
_T = TypeVar("_T")


class Fetched(NamedTuple):
    """`what` was fetched, whatever its source, and its `origin`: which source, where it is now, when."""

    what: dict[str, Any]
    origin: dict[str, Any]


def fetch(
    dataset: str, places: list[str], downloads: Path, max_unpacked_gb: float = MAX_UNPACKED_GB
) -> Fetched:
    """Fetch `dataset` from the first place of the list that delivers, and return what came from where.

    `path` of the origin is the archive or the folder, which stays as it is. Downloads go below
    `downloads`. What kagglehub unpacks may take `max_unpacked_gb`. Raises StudyError with the reason for
    each place when none delivers.
    """
    failures = []
    for text in places:
        log.info("%s: trying %s", dataset, text)
        try:
            source = Source.parse(text)
            path = _FETCHERS[source.kind](source, downloads, max_unpacked_gb)
            try:
                if source.checksum:
                    _verify(path, source.checksum)
            except StudyError:
                if source.kind == "url":
                    path.unlink()  # a download of our own; what the user owns stays
                raise
            signature, content = signature_of(path), content_of(path)
        except (StudyError, ValueError, OSError) as error:
            log.warning("%s: %s: %s", dataset, text, error)
            failures.append((text, str(error)))
            continue
        return Fetched(
            {"dataset": dataset, **content},
            {
                "source": text,
                "path": str(path),
                "signature": signature,
                "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "failed": [{"source": place, "reason": reason} for place, reason in failures],
            },
        )
    reasons = "\n".join(f"  - {place}: {reason}" for place, reason in failures)
    raise StudyError(
        f"{dataset}: no source delivered:\n{reasons}\n"
        f"Fix one of these sources or set another: --config 'datasets={{{dataset}: {{source: [PATH]}}}}'"
    )


def _verify(path: Path, checksum: tuple[str, str]) -> None:
    if path.is_dir():
        raise StudyError(f"{path} is a folder, which has no checksum; leave out #{checksum[0]}=…")
    algorithm, expected = checksum
    actual = file_digest(path, algorithm)
    if actual != expected:
        raise StudyError(f"{path}: its {algorithm} is {actual}, not {expected}; the file is not used")


def _from_path(source: Source, downloads: Path, max_unpacked_gb: float) -> Path:
    path = Path(source.location)
    if not path.exists():
        raise StudyError("there is nothing at this path")
    return path.resolve()


def _from_embedded(source: Source, downloads: Path, max_unpacked_gb: float) -> Path:
    from vitcnn.data import embedded  # NumPy and Pillow, which nothing else here needs

    return embedded.generate(source.location, downloads)


def _from_torchvision(source: Source, downloads: Path, max_unpacked_gb: float) -> Path:
    from vitcnn.data import torchvision_sets

    former = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT[1])  # it sets none of its own
    try:
        return torchvision_sets.download(source.location, downloads / "torchvision" / source.location)
    finally:
        socket.setdefaulttimeout(former)


def _from_kaggle(source: Source, downloads: Path, max_unpacked_gb: float) -> Path:
    import kagglehub
    from kagglehub.config import get_cache_folder
    from requests import RequestException

    if not _is_writable(Path(get_cache_folder())):
        os.environ["KAGGLEHUB_CACHE"] = str(downloads.absolute() / "kagglehub")

    def attempt() -> Path:
        try:
            with _default_timeout(), _limited_extraction(max_unpacked_gb):
                return Path(kagglehub.dataset_download(source.location))
        except (RequestException, kagglehub.exceptions.DataCorruptionError) as error:
            status = getattr(error.response, "status_code", 0) if isinstance(error, RequestException) else 0
            if status in (401, 403):
                raise StudyError(
                    "Kaggle refused. Make an API token in your Kaggle account's settings and put it where "
                    "kagglehub looks for it: ~/.kaggle/kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY"
                ) from error
            if status and status != 429 and status < 500:
                raise StudyError(f"Kaggle did not deliver: {error}") from error
            raise _PassingFault(f"Kaggle did not deliver: {error}") from error
        except DAMAGE as error:
            owner, name = source.location.split("/")[:2]
            for archive in Path(get_cache_folder(), "datasets", owner, name).glob("*.archive"):
                archive.unlink()  # kagglehub would take it for complete
            raise _PassingFault(f"what Kaggle delivered is damaged: {error}") from error
        except OSError as error:
            raise StudyError(f"what Kaggle delivered could not be written: {error}") from error
        except (
            kagglehub.exceptions.BackendError,
            kagglehub.exceptions.CredentialError,
            kagglehub.exceptions.NotFoundError,
            kagglehub.exceptions.UnauthenticatedError,
        ) as error:
            raise StudyError(f"Kaggle did not deliver: {error}") from error

    return _persist(source.location, attempt)


def _is_writable(folder: Path) -> bool:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK)


@contextmanager
def _default_timeout() -> Iterator[None]:
    """Let no request of a client that sets no timeout, such as Kaggle's, wait forever."""
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    def impatient(self, request, stream=False, timeout=None, **rest):
        return send(self, request, stream=stream, timeout=timeout or TIMEOUT, **rest)

    HTTPAdapter.send = impatient
    try:
        yield
    finally:
        HTTPAdapter.send = send


@contextmanager
def _limited_extraction(max_unpacked_gb: float) -> Iterator[None]:
    """Let kagglehub unpack no archive that would be larger than that; it has no limit of its own."""
    from kagglehub import http_resolver

    extract = http_resolver._extract_archive

    def bounded(archive: str, target: str) -> None:
        refuse_larger(Path(archive), max_unpacked_gb)
        extract(archive, target)

    http_resolver._extract_archive = bounded
    try:
        yield
    finally:
        http_resolver._extract_archive = extract


def _from_url(source: Source, downloads: Path, max_unpacked_gb: float) -> Path:
    # One folder per URL: another URL with the same file name is another file.
    name = unquote(urlsplit(source.location).path).rsplit("/", 1)[-1]
    target = downloads / sha256(source.location.encode()).hexdigest()[:12] / name
    if target.exists():
        try:
            if source.checksum:
                _verify(target, source.checksum)
        except StudyError:
            target.unlink()
        else:
            log.info("already downloaded: %s", target)
            return target
    download(source.location, target)
    return target


_FETCHERS: dict[str, Callable[[Source, Path, float], Path]] = {
    "path": _from_path,
    "embedded": _from_embedded,
    "kaggle": _from_kaggle,
    "torchvision": _from_torchvision,
    "url": _from_url,
}


class _PassingFault(Exception):
    """A fault that may pass, such as a broken connection."""


def _persist(name: str, attempt: Callable[[], _T], wait: float = 1.0) -> _T:
    """Return what `attempt` returns; after a passing fault try again, first after `wait` seconds, then after twice that…"""
    for number in range(ATTEMPTS):
        try:
            return attempt()
        except _PassingFault as fault:
            if number == ATTEMPTS - 1:
                raise StudyError(f"{fault}, {ATTEMPTS} times") from fault
            log.warning("%s: %s; again in %g s", name, fault, wait * 2**number)
            time.sleep(wait * 2**number)
    raise AssertionError


def download(url: str, target: Path) -> None:
    """Download `url` to `target`, resuming where a former attempt stopped.

    A broken connection, a stall, 429 and 5xx are tried again, later each time; a part that the server has
    since replaced is dropped (If-Range, RFC 9110 13.1.5). Raises StudyError when all attempts
    failed, the server refuses, or the file cannot be written.
    """
    import requests

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")

    def attempt() -> None:
        try:
            status = _download_part(url, part)
        except requests.RequestException as error:
            raise _PassingFault(f"the connection failed: {error}") from error
        except OSError as error:
            raise StudyError(f"{part}: could not be written: {error.strerror}") from error
        if status in (200, 206):
            part.replace(target)
            _validator_file(part).unlink(missing_ok=True)
            return
        if status == 416:  # the part is no beginning of what the server has
            part.unlink(missing_ok=True)
        elif status in (401, 403):
            raise StudyError(
                f"the server answered {status}: it wants credentials; those for its host are read from ~/.netrc"
            )
        elif status != 429 and status < 500:
            raise StudyError(f"the server answered {status}")
        raise _PassingFault(f"the server answered {status}")

    _persist(url, attempt)


def _download_part(url: str, part: Path) -> int:
    """Append to `part` what is missing; return the HTTP status. Raises requests' errors on a break."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    validator = _read_validator(part)
    headers = {"Accept-Encoding": "identity"}
    if have and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code not in (200, 206):
            return answer.status_code
        resumed = answer.status_code == 206
        rest = answer.headers.get("Content-Length")
        start = have if resumed else 0
        if not resumed:
            strong = answer.headers.get("ETag", "")
            stamp = (
                answer.headers.get("Last-Modified", "") if not strong or strong.startswith("W/") else strong
            )
            _validator_file(part).write_text(json.dumps(stamp), encoding="utf-8")
        total = start + int(rest) if rest else None
        with part.open("ab" if resumed else "wb") as file, _progress(part.stem, start, total) as advance:
            for block in answer.iter_content(_BLOCK):
                file.write(block)
                advance(len(block))
        if total is not None and part.stat().st_size != total:
            raise requests.ConnectionError(f"broke off at {part.stat().st_size} of {total} bytes")
        return answer.status_code


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".validator")


def _read_validator(part: Path) -> str:
    try:
        return json.loads(_validator_file(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""


@contextmanager
def _progress(name: str, start: int, total: int | None) -> Iterator[Callable[[int], Any]]:
    """Yield a function to call with each block's size: a bar on a terminal, a line per 10 % in the log."""
    from tqdm import tqdm

    done, said = start, 10 * start // total if total else 0
    with tqdm(initial=start, total=total, unit="B", unit_scale=True, desc=name, disable=None) as bar:

        def advance(size: int) -> None:
            nonlocal done, said
            bar.update(size)
            done += size
            if total and 10 * done // total > said:
                said = 10 * done // total
                log.info("%s: %d of %d bytes (%d %%)", name, done, total, 10 * said)

        yield advance
