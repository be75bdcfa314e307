"""Signals that end a job: Ctrl-C, a cancelled or preempted job, Slurm's warning before a time limit."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(BaseException):
    """Somebody wants this process to end. No Exception, so that nothing takes it for a failure of its own."""


def raise_on_signals() -> None:
    """Let a signal raise Interrupted wherever the process is, so that what is under way is cleared up."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}")

    for number in SIGNALS:
        signal.signal(number, interrupt)


@contextmanager
def held_back() -> Iterator[list[str]]:
    """Hold signals back; the names of those that came are in the list that is yielded."""
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
