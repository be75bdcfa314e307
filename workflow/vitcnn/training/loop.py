"""The training loop: epochs, evaluations and checkpoints of one run."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitcnn.data.packed import Packed
from vitcnn.data.subsets import choose_subset
from vitcnn.errors import StudyError
from vitcnn.models.check import check_last_batch
from vitcnn.training.checkpoints import Checkpoints
from vitcnn.training.devices import synchronize
from vitcnn.training.schedule import evaluations, images_in, updates_until
from vitcnn.training.trainer import Images, Trainer

log = logging.getLogger(__name__)


@dataclass
class Trained:
    """What a training leaves: the model, the figures of each epoch, the last logits, the seconds.

    An epoch here is what lies between two evaluations: a pass over the images, or a share of a recipe's
    `updates`. `unevaluated` are the figures of one that was trained and has not been evaluated yet, and
    `resumed_epochs` those that former attempts finished. `correct` has, for each epoch, whether each test
    image was classified correctly, packed as bits `(ceil(N / 8),) uint8`. `graphs` says how steps were launched:
    "captured", "off", or why their capture failed; None where the device has no graphs.
    """

    model: nn.Module
    train_images: int
    val_images: int
    history: list[dict[str, Any]] = field(default_factory=list)
    unevaluated: dict[str, float] | None = None
    resumed_epochs: int = 0
    logits: Tensor | None = None
    val_logits: Tensor | None = None
    correct: list[Tensor] = field(default_factory=list)
    graphs: str | None = None
    setup_seconds: float = 0.0
    capture_seconds: float = 0.0
    epoch_seconds: list[float] = field(default_factory=list)
    evaluation_seconds: list[float] = field(default_factory=list)

    def get_state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this."""
        return {name: getattr(self, name) for name in _KEPT}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Resume from what a checkpoint kept."""
        for name in _KEPT:
            setattr(self, name, state[name])
        self.resumed_epochs = len(self.history)


_KEPT = ("history", "unevaluated", "correct", "epoch_seconds", "evaluation_seconds")


def train(
    spec: Mapping[str, Any],
    packed: Packed,
    device: torch.device,
    precision: str,
    checkpoints: Checkpoints | None = None,
    graphs: str = "auto",
) -> Trained:
    """Train the run that `spec` describes and evaluate it on the test images after every epoch.

    On CUDA, steps are captured as graphs unless `graphs` is "off". With `checkpoints` it resumes from the newest
    that matches. Raises StudyError if the spec does not fit the data or leaves a last batch that cannot be trained on,
    or if the loss is no longer a number; Interrupted, after a checkpoint, if it is to stop.
    """
    started = time.perf_counter()
    training = Training(spec, packed, device, precision, checkpoints, graphs)
    training.trained.setup_seconds = time.perf_counter() - started
    for epoch in range(len(training.trained.history) + 1, evaluations(spec["recipe"]) + 1):
        if training.trained.unevaluated is None:
            training.train(epoch)
        training.evaluate(epoch)
    training.trained.capture_seconds = training.trainer.capture_seconds
    training.trained.graphs = training.trainer.graphs
    return training.trained


class Training:
    """A run under way: what trains it, what it has left so far, its checkpoints and its clock."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        packed: Packed,
        device: torch.device,
        precision: str,
        checkpoints: Checkpoints | None,
        graphs: str = "auto",
    ) -> None:
        train_rows, val_rows = split_rows(spec, packed)
        check_last_batch(spec, len(train_rows))
        self.recipe = spec["recipe"]
        self.images = {
            "train": Images.load(*packed.train, train_rows, device),
            "validation": Images.load(*packed.train, val_rows, device),
            "test": Images.load(*packed.test, np.arange(len(packed.test.labels)), device),
        }
        self.trainer = Trainer(spec, self.images, device, precision, graphs)
        if device.type == "cuda":
            self.trainer.warm_up()
        self.trained = Trained(self.trainer.model, train_images=len(train_rows), val_images=len(val_rows))
        self.checkpoints = checkpoints
        self.lapped_at = time.perf_counter()
        if checkpoints and (state := checkpoints.load()):
            self.trainer.set_state(state["trainer"])
            self.trained.set_state(state["trained"])
            epoch, steps = len(self.trained.history) + 1, len(self.trainer.figures)
            log.info("resumes in epoch %d, after %d of its steps", epoch, steps)

    def train(self, epoch: int) -> None:
        """Train an epoch, or what is left of it, and note its figures. Raises StudyError if the loss is no number."""
        if len(self.trained.epoch_seconds) < epoch:
            self.trained.epoch_seconds.append(0.0)
        first, last = (updates_until(self.recipe, self.trained.train_images, e) for e in (epoch - 1, epoch))
        self._lap()
        loss, correct = self.trainer.train(last - first, self._between)
        self._count_time()
        if not np.isfinite(loss):
            raise StudyError(f"the training loss became {loss} in epoch {epoch}; a lower lr may help")
        images = [images_in(u, self.trained.train_images, self.recipe["batch_size"]) for u in (first, last)]
        train_accuracy = 100 * correct / (images[1] - images[0])
        self.trained.unevaluated = {"train_loss": loss, "train_accuracy": train_accuracy}

    def evaluate(self, epoch: int) -> None:
        """Evaluate the model after an epoch, and add the epoch to the history."""
        trained = self.trained
        self._lap()
        trained.logits = self.trainer.predict("test", self._between)
        correct = is_correct(trained.logits, self.images["test"])
        seconds = self._lap()
        accuracies = {"val_accuracy": None, "test_accuracy": 100 * int(correct.sum()) / len(correct)}
        if trained.val_images:
            trained.val_logits = self.trainer.predict("validation", self._between)
            validated = is_correct(trained.val_logits, self.images["validation"])
            accuracies["val_accuracy"] = 100 * int(validated.sum()) / len(validated)
        # All at once: a checkpoint between two batches holds none of this epoch's evaluation.
        trained.history.append({"epoch": epoch, **trained.unevaluated, **accuracies})
        trained.correct.append(torch.from_numpy(np.packbits(correct.numpy())))
        trained.evaluation_seconds.append(seconds)
        trained.unevaluated = None
        log.info(
            "epoch %d of %d: loss %.4f, test accuracy %.2f %%, %.2f s",
            epoch,
            evaluations(self.recipe),
            trained.history[-1]["train_loss"],
            accuracies["test_accuracy"],
            trained.epoch_seconds[-1],
        )

    def _lap(self) -> float:
        """Return the seconds since the last call, but for those of capturing graphs and of writing checkpoints."""
        synchronize(self.trainer.device)  # steps may be queued whose time has not passed yet
        others = self.trainer.capture_seconds + (self.checkpoints.seconds if self.checkpoints else 0.0)
        before, self.lapped_at = self.lapped_at, time.perf_counter() - others
        return self.lapped_at - before

    def _count_time(self) -> None:
        if self.trained.unevaluated is None:
            self.trained.epoch_seconds[-1] += self._lap()

    def _state(self) -> dict[str, Any]:
        self._count_time()
        return {"trainer": self.trainer.get_state(), "trained": self.trained.get_state()}

    def _between(self) -> None:
        if self.checkpoints:
            self.checkpoints.offer(self._state)


def split_rows(spec: Mapping[str, Any], packed: Packed) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the training array that a run trains on, and those it is validated on.

    Raises StudyError when the run asks for more images than there are, or for another dataset.
    """
    dataset, manifest = spec["dataset"], packed.manifest
    if (dataset["name"], dataset["num_classes"]) != (manifest["dataset"], len(manifest["classes"])):
        raise StudyError(f"the data are {manifest['dataset']}, not the {dataset['name']} of the spec")
    held = packed.hold_out if spec["recipe"]["hold_out"] else np.zeros_like(packed.hold_out)
    try:
        chosen = choose_subset(packed.train.labels, spec["train_size"], spec["seed"], available=~held)
    except StudyError as error:
        raise StudyError(f"{dataset['name']}: {error}") from error
    return chosen, np.flatnonzero(held)


def is_correct(logits: Tensor, images: Images) -> Tensor:
    """Return for each image whether its highest logit is that of its label, `(N,) bool`, on the CPU."""
    return logits.argmax(1) == images.take_labels(slice(None)).cpu()
