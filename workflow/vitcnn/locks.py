"""Locks that the kernel frees when their process dies, however it dies."""

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")


def hold(path: Path, wait: bool = False) -> FileLock | None:
    """Return the lock `path`, held by this process, or None where another one holds it and `wait` is not set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=wait, poll_interval=0.5)
    except Timeout:
        return None
    job = scheduler_job()
    where = f"process {os.getpid()} on {platform.node()}{f', job {job}' if job else ''}"
    path.write_text(where, encoding="utf-8")
    return lock


def scheduler_job() -> str:
    """Return the ID of the scheduler's job that this process belongs to, or ""."""
    return next((os.environ[name] for name in JOB_IDS if name in os.environ), "")


def holder(path: Path) -> str:
    """Return who holds the lock `path`, in words."""
    with suppress(OSError):  # it may end just now
        return path.read_text(encoding="utf-8") or "another process"
    return "another process"


@contextmanager
def one_at_a_time(path: Path) -> Iterator[bool]:
    """Hold the lock `path`; yield whether another process had to be waited for.

    Afterwards the lock is removed, and so are the folders that were created for it, if they are empty.
    """
    new_folders = [folder for folder in path.parents if not folder.exists()]
    lock = hold(path)
    waited = lock is None
    if waited:
        log.warning("%s is doing the same work; waiting for it to finish", holder(path))
        lock = hold(path, wait=True)
    try:
        yield waited
    finally:
        path.unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):
            for folder in new_folders:
                folder.rmdir()
