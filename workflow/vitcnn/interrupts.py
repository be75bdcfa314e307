"""Signals that end a job: Ctrl-C, a cancelled or preempted job, Slurm's warning before a time limit."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(BaseException):
    """A signal asks this process to end. Not an Exception, so that no handler mistakes it for a failure."""


def raise_on_signals() -> None:
    """Let a signal raise Interrupted wherever the process is, so that its context managers clean up."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}")

    for number in SIGNALS:
        signal.signal(number, interrupt)


@contextmanager
def held_back() -> Iterator[list[str]]:
    """Defer signals; the names of those that arrive are added to the yielded list."""
    came: list[str] = []
    former = {
        number: signal.signal(number, lambda number, frame: came.append(signal.Signals(number).name))
        for number in SIGNALS
    }
    try:
        yield came
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
