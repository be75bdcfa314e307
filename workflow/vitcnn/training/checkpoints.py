"""Checkpoints: what an interrupted training needs to resume with the same result.

A file is a line with the SHA-256 of the rest, and then what `torch.save` writes. torch reads that back
with `weights_only`, which makes tensors and plain values and runs no code from the file.
"""

import io
import logging
import pickle
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from vitcnn.errors import StudyError
from vitcnn.files import read_json, replacing, write_json, writing
from vitcnn.interrupts import Interrupted

log = logging.getLogger(__name__)

NAME, PREVIOUS, DAMAGED, ATTEMPTS = "checkpoint.pt", "previous.pt", "damaged.pt", "attempts.json"
EVERY = 30.0  # seconds of work, the most that a kill costs; a checkpoint takes 0.05


class Checkpoints:
    """The checkpoints of one run in `folder`: the newest, and the one before it.

    `identity` is a digest of all that decides the result; one of another identity is never used.
    `signals` fills with the names of signals that ask the process to end.
    """

    def __init__(
        self, folder: Path, identity: str, every: float = EVERY, signals: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.identity = identity
        self.every = every
        self.signals = signals
        self.saved_at = time.monotonic()
        self.seconds = 0.0  # of writing so far

    def count_attempt(self) -> tuple[int, str]:
        """Return which attempt at this run this is, from 1, and when the first began (ISO 8601)."""
        path = self.folder / ATTEMPTS
        count, began = 0, datetime.now(UTC).isoformat(timespec="seconds")
        if path.exists():
            try:
                former = read_json(path)
                if former["identity"] == self.identity:
                    count, began = former["attempts"], former["began"]
            except (StudyError, TypeError, KeyError):
                log.warning("%s: is damaged; attempts are counted anew", path)
        with writing(path):
            write_json(path, {"identity": self.identity, "attempts": count + 1, "began": began})
        return count + 1, began

    def offer(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save `state()` if it is time to, or if the process is to end: then raise Interrupted."""
        if self.signals or time.monotonic() - self.saved_at >= self.every:
            self.save(state())
        if self.signals:
            raise Interrupted(f"stopped by {self.signals[0]}; the next attempt resumes here")

    def save(self, state: dict[str, Any]) -> None:
        """Write `state` and keep the one before. Raises StudyError where it fails; the one before stands."""
        began = time.perf_counter()
        path = self.folder / NAME
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "state": state}, buffer)
        with writing(path), replacing(path) as temporary:
            with temporary.open("wb") as file:
                file.write(sha256(buffer.getbuffer()).hexdigest().encode() + b"\n")
                file.write(buffer.getbuffer())
            if path.exists():
                path.replace(self.folder / PREVIOUS)
        self.saved_at = time.monotonic()
        self.seconds += time.perf_counter() - began

    def load(self) -> dict[str, Any] | None:
        """Return the newest state that is whole and of this identity, on the CPU, or None."""
        for path in (self.folder / NAME, self.folder / PREVIOUS):
            if not path.exists():
                continue
            try:
                found = _read(path)
            except (ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
                log.warning("%s: is damaged (%s) and set aside as %s", path, error, DAMAGED)
                path.replace(self.folder / DAMAGED)
                continue
            if found["identity"] == self.identity:
                return found["state"]
            log.info("%s: is of other settings, code, data or hardware, and not used", path)
        return None


def _read(path: Path) -> dict[str, Any]:
    expected, _, content = path.read_bytes().partition(b"\n")
    if sha256(content).hexdigest().encode() != expected:
        raise ValueError("its digest does not fit its content")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
