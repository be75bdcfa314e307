"""The progress of trainings while Snakemake runs them: one line on a terminal, or lines in a file.

Trainings run beside each other and write to their logs alone; a thread reads these, as `status` does.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from vitcnn.plan import Run
from vitcnn.status import RunStatus, Specs, Status, epochs_in_words, read_run, summarize, summary, time_left

EVERY = 1.0  # seconds between two looks
_BETWEEN = 300.0  # seconds between two lines in a file
_NAMED = 4  # runs under way in one of them
_CLEAR = "\r\033[K"


class Followed:
    """Runs that one invocation trains, looked at again and again; a finished one is not read any more.

    Results older than `since`, a file's time, are being rebuilt.
    """

    def __init__(self, config: Mapping[str, Any], runs: Sequence[Run], since: float) -> None:
        self.specs = Specs(config)
        self.runs = runs
        self.since = since
        self.finished: dict[Run, RunStatus] = {}

    def look(self, now: datetime) -> Status:
        """Return the status of all runs."""
        found = {}
        for run in self.runs:
            found[run] = self.finished.get(run) or read_run(run, self.specs[run], now, self.since)
            if found[run].state == "done":
                self.finished[run] = found[run]
        return summarize(found, self.specs, now)


class Line(logging.Handler):
    """A last line on a terminal that stays below what a logger writes there."""

    def __init__(self, stream: TextIO, logger: logging.Logger) -> None:
        super().__init__()
        self.stream = stream
        self.text = ""
        self.writers = 0  # of records, at this moment
        self.logger = logger
        logger.addFilter(self.make_room)  # before any handler writes
        logger.addHandler(self)  # after the others have written

    def show(self, text: str) -> None:
        """Replace the line."""
        with self.lock:
            self.text = text
            self._draw()

    def make_room(self, record: logging.LogRecord) -> bool:
        """Take the line away until the record has been written; let the record pass."""
        with self.lock:
            self.writers += 1
            if self.text:
                self._write(_CLEAR)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Put the line back, below the record; logging holds the lock."""
        self.writers -= 1
        self._draw()

    def close(self) -> None:
        """Take the line away for good."""
        self.logger.removeFilter(self.make_room)
        self.logger.removeHandler(self)
        self.show("")
        super().close()

    def _draw(self) -> None:
        if not self.writers:
            self._write(_CLEAR + self.text)

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


class Progress:
    """Follows runs in a thread until stop() is called, or the process ends."""

    def __init__(self, followed: Followed, logger: logging.Logger, stream: TextIO) -> None:
        self.followed = followed
        self.logger = logger
        is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.line = Line(stream, logger) if is_terminal else None
        self.said: set[Run] = set()
        self.next_line = time.monotonic() + _BETWEEN
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End the thread, say what is not said yet, and leave the terminal clean."""
        if self.ended.is_set():
            return
        self.ended.set()
        self.thread.join()
        if self.line:
            self.line.close()
        else:
            self._say(self.followed.look(datetime.now()))

    def _follow(self) -> None:
        pause = EVERY
        while not self.ended.wait(pause):
            started = time.monotonic()
            status = self.followed.look(datetime.now())
            if self.line:
                self.line.show(terminal_line(status, shutil.get_terminal_size().columns))
            else:
                self._say(status)
            # However many runs there are, looking takes a twentieth of the time.
            pause = max(EVERY, 19 * (time.monotonic() - started))

    def _say(self, status: Status) -> None:
        """Write a line for each run that has just been finished, and one every five minutes."""
        for run, one in self.followed.finished.items():
            if run not in self.said:
                self.said.add(run)
                self.logger.info(finished_line(one, len(self.said), status))
        if time.monotonic() >= self.next_line and status.count()["running"]:
            self.next_line = time.monotonic() + _BETWEEN
            self.logger.info(file_line(status))


def finished_line(one: RunStatus, done: int, status: Status) -> str:
    """Return what a file says of a run that has been finished, the `done`-th of all."""
    left = time_left(status)
    words = f"{one.run.name} is trained: {one.progress.accuracy:.2f} % on the test images"
    return f"{words}; {done:,} of {len(status.runs):,} runs done{f', {left}' if left else ''}"


def file_line(status: Status) -> str:
    """Return what a file says every five minutes, with some of the runs under way."""
    running = [one for one in status.runs.values() if one.state == "running"]
    words = [f"{one.run.name}: {epochs_in_words(one.progress)}" for one in running[:_NAMED]]
    words += [f"{len(running) - _NAMED:,} more"] if running[_NAMED:] else []
    return "; ".join([summary(status), *words])


def terminal_line(status: Status, width: int) -> str:
    """Return one line for a terminal of `width` columns, or "" where no training is under way.

    Each run has its name where there is room for all, else its model; those that find no room are counted.
    """
    running = [one for one in status.runs.values() if one.state == "running"]
    if not running:
        return ""
    counts = status.count()
    left = time_left(status).replace("about ", "").replace("more than ", "over ")
    head = f"{counts['done']:,} of {len(status.runs):,} runs"
    head += f", {counts['failed']:,} failed" if counts["failed"] else ""
    head += f", {left}" if left else ""
    room = width - 1  # in the last column terminals wrap
    whole = " | ".join([head, *(f"{_short_name(one.run)} {_short(one)}" for one in running)])
    if len(whole) <= room:
        return whole
    for shown in range(len(running), -1, -1):
        parts = [head, *(f"{one.run.model} {_short(one)}" for one in running[:shown])]
        parts += [f"+{len(running) - shown}"] if running[shown:] else []
        line = " | ".join(parts)
        if len(line) <= room:
            break
    return line[:room]


def _short_name(run: Run) -> str:
    return f"{run.dataset}/{run.model}/n{run.train_size}/seed{run.seed}"


def _short(one: RunStatus) -> str:
    progress = one.progress
    words = f"{progress.epoch}/{progress.epochs}"
    return words if progress.loss is None else f"{words} {progress.loss:.2f} {progress.accuracy:.1f} %"
