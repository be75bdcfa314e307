"""A step as one CUDA graph, launched as a whole and not kernel by kernel.

At the notebooks' batch sizes a GPU waits for Python: a step is a thousand launches of microseconds.
"""

import contextlib
import gc
import logging
import time
from collections.abc import Callable, Iterable
from functools import cache

import torch
from torch import Tensor

from vitcnn.training.devices import synchronize

log = logging.getLogger(__name__)

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
WARM_UP = 3  # calls before the capture, in which libraries choose their kernels and allocate

Step = Callable[[Tensor], Tensor]


def capture(
    step: Step, batch: Tensor, generators: Iterable[torch.Generator]
) -> tuple[Callable[[], None], Tensor]:
    """Capture `step(batch)` without running it; return what replays it, and the output that a replay fills.

    Raises RuntimeError where CUDA refuses; what is drawn from the generators after that is as without the capture.
    """
    graph = torch.cuda.CUDAGraph()
    if TORCH < (2, 15):  # from then on a capture finds the generators by itself, and this call will go
        for generator in generators:
            graph.register_generator_state(generator)
    # A former graph that is collected now would end the capture (pytorch#161037).
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
            output = step(batch)
    except RuntimeError:
        if TORCH < (2, 15):
            for generator in (*generators, torch.cuda.default_generators[batch.device.index]):
                renew(generator)
        raise
    finally:
        if collects:
            gc.enable()
    return graph.replay, output


def renew(generator: torch.Generator) -> None:
    """Give a generator a state of its own again, of the same numbers.

    A capture that fails leaves the former one waiting for its end, and drawing from it is an error (torch 2.11).
    """
    fresh = torch.Generator(generator.device)
    fresh.set_state(generator.get_state())
    generator.graphsafe_set_state(fresh)


@cache  # once for all steps
def _warn(failure: str) -> None:
    log.warning("steps are launched one by one, as their graph was not captured: %s", failure)


class Graphed:
    """A function of a batch's positions, run as it is at first and replayed from a graph after that.

    What it reads beside the batch, and what it writes, must stay in the same memory. The first calls are real
    steps too: each call computes once, whichever way. A batch of another size than `size`, as the last of an
    epoch may be, is never captured. Where a capture fails, the function runs as it is from then on, and so do all
    that share the list `failures`: a graph that was captured before draws from states that renew() replaced.
    """

    def __init__(
        self,
        step: Step,
        size: int,
        generators: Iterable[torch.Generator] = (),
        failures: list[str] | None = None,
        capture=capture,
    ) -> None:
        self.step = step
        self.size = size
        self.generators = tuple(generators)
        self.capture = capture
        self.calls = 0
        self.capture_seconds = 0.0
        self.batch: Tensor | None = None
        self.replay: Callable[[], None] | None = None
        self.output: Tensor | None = None
        self.failures = [] if failures is None else failures  # why captures failed

    def __call__(self, batch: Tensor) -> Tensor:
        """Return what the function returns, in memory of its own."""
        if len(batch) != self.size:
            return self.step(batch)
        self.calls += 1
        if self.failures:
            self.replay = self.output = self.batch = None  # a graph of before holds memory
        if self.calls <= WARM_UP or self.failures:
            return self.step(batch)
        if self.replay is None:
            synchronize(batch.device)  # steps may be queued, which are no part of the capture
            before = time.perf_counter()
            self.batch = batch.clone()
            try:
                self.replay, self.output = self.capture(self.step, self.batch, self.generators)
            except RuntimeError as error:
                error = error.__context__ or error  # CUDA's end of a failed capture fails too
                self.failures.append(str(error).partition("\n")[0])
                _warn(self.failures[0])
            self.capture_seconds = time.perf_counter() - before
        if self.failures:  # not where it is caught: the error holds what the failed step allocated
            with contextlib.suppress(RuntimeError):  # a capture that CUDA did not end
                torch.cuda.empty_cache()
            return self.step(batch)
        self.batch.copy_(batch)
        self.replay()
        return self.output.clone()
