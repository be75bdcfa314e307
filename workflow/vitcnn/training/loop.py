"""The training loop: images stay packed uint8 on the device and are augmented there in batches."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitcnn.data.augmentation import Parameters, augment, draw_parameters, normalize
from vitcnn.data.packed import Packed
from vitcnn.data.subsets import choose_subset
from vitcnn.errors import StudyError
from vitcnn.models import create_model
from vitcnn.models.dropout import Masks, use_masks
from vitcnn.training.checkpoints import Checkpoints
from vitcnn.training.devices import use_deterministic_algorithms
from vitcnn.training.graphs import Graphed, Step
from vitcnn.training.optimizers import create_optimizer

log = logging.getLogger(__name__)


@dataclass
class Images:
    """Some images of a packed array: `pixels (N, 3, H, W) uint8`, `labels (N,)`, and which rows count.

    On the CPU the pixels stay a memory map that all jobs share; on a GPU the chosen rows are copied.
    """

    pixels: Tensor
    labels: Tensor
    rows: Tensor

    @classmethod
    def load(cls, pixels: np.ndarray, labels: np.ndarray, rows: np.ndarray, device: torch.device) -> "Images":
        if device.type == "cpu":
            return cls(torch.from_numpy(pixels), torch.from_numpy(labels), torch.from_numpy(rows))
        chosen = (torch.from_numpy(pixels[rows]), torch.from_numpy(labels[rows]), torch.arange(len(rows)))
        return cls(*(tensor.to(device) for tensor in chosen))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixels and labels of the images at `index`, counted among the rows."""
        rows = self.rows[index]
        return self.pixels[rows], self.labels[rows]


@dataclass
class Trained:
    """What a training leaves: the model, each epoch's figures, the last test logits, the seconds.

    `unevaluated` are the figures of an epoch that was trained and has not been evaluated yet, and
    `resumed_epochs` those that former attempts finished.
    """

    model: nn.Module
    train_images: int
    val_images: int
    history: list[dict[str, Any]] = field(default_factory=list)
    unevaluated: dict[str, float] | None = None
    resumed_epochs: int = 0
    logits: Tensor | None = None
    setup_seconds: float = 0.0
    capture_seconds: float = 0.0
    epoch_seconds: list[float] = field(default_factory=list)
    evaluation_seconds: list[float] = field(default_factory=list)

    def get_state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this."""
        return {name: getattr(self, name) for name in _KEPT}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        for name in _KEPT:
            setattr(self, name, state[name])
        self.resumed_epochs = len(self.history)


_KEPT = ("history", "unevaluated", "epoch_seconds", "evaluation_seconds")


class Trainer:
    """A model in training: its optimizer, its images, and the random streams that belong to its seed.

    `images` are the `train` images and those to predict, by name.
    """

    def __init__(
        self, spec: Mapping[str, Any], images: Mapping[str, Images], device: torch.device, precision: str
    ) -> None:
        self.recipe = spec["recipe"]
        self.images = images
        self.device = device
        self.precision = precision
        use_deterministic_algorithms(device)
        torch.manual_seed(spec["seed"])  # initial weights
        self.generator = torch.Generator().manual_seed(stream_seed(spec["seed"], "order and augmentation"))
        self.masks = Masks(stream_seed(spec["seed"], "dropout"), device)
        model = create_model(spec).to(device)
        self.model = model.to(memory_format=safe_memory_format(model))
        use_masks(self.model, self.masks)
        self.optimizer = create_optimizer(self.model.parameters(), self.recipe)
        self.scale = {
            key: torch.tensor(self.recipe["normalization"][key], device=device).view(3, 1, 1)
            for key in ("mean", "std")
        }
        self.epoch_began_with = self.generator.get_state()
        self.figures: list[Tensor] = []  # loss and hits of each step so far of an epoch under way
        self.order: Tensor | None = None
        self.parameters: Parameters | None = None
        self.steps: dict[str, Step] = {
            "train": self._train_step,
            **{name: partial(self._predict_step, images[name]) for name in images if name != "train"},
        }
        self.stream = contextlib.nullcontext()
        if device.type == "cuda":
            self.steps = {
                name: Graphed(step, min(self.recipe["batch_size"], len(images[name])), [self.masks.generator])
                for name, step in self.steps.items()
            }
            # Nothing can be captured on the default stream.
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            self.stream = torch.cuda.stream(stream)

    def train_epoch(self, between: Callable[[], None] = lambda: None) -> tuple[float, int]:
        """Train on every image once; return the mean of the batches' losses and the number of hits.

        An epoch under way, from a checkpoint, is gone on with. `between` is called after every step.
        """
        self.model.train()
        with self.stream:
            if not self.figures:
                self._draw_epoch()
            for batch in self._batches("train")[len(self.figures) :]:
                # Kept on the device: fetching a number at each step would make it wait for the GPU.
                self.figures.append(self.steps["train"](batch))
                between()
            loss, correct = torch.stack(self.figures).cpu().double().unbind(1)
        self.figures = []
        return loss.mean().item(), int(correct.sum())

    @torch.no_grad()  # inference mode would mark what a graph shares with the training's
    def predict(self, name: str, between: Callable[[], None] = lambda: None) -> Tensor:
        """Return the logits `(N, classes) float32`, on the CPU, of the images of that name as they are."""
        self.model.eval()
        logits = []
        with self.stream:
            for batch in self._batches(name):
                logits.append(self.steps[name](batch))
                between()
            return torch.cat(logits).cpu()

    def get_state(self) -> dict[str, Any]:
        """Return all that decides how the training goes on from here."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.get_state(),
            "dropout": self.masks.get_state(),
            "order": self.epoch_began_with if self.figures else self.generator.get_state(),
            "figures": torch.stack(self.figures) if self.figures else None,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same run on the same kind of device."""
        self.model.load_state_dict(state["model"])
        self.optimizer.set_state(state["optimizer"])
        self.masks.set_state(state["dropout"])
        self.generator.set_state(state["order"])
        if state["figures"] is not None:
            self._draw_epoch()
            self.figures = list(state["figures"].to(self.device))

    @property
    def capture_seconds(self) -> float:
        """Return the time spent so far on capturing graphs."""
        return sum(step.capture_seconds for step in self.steps.values() if isinstance(step, Graphed))

    def _train_step(self, batch: Tensor) -> Tensor:
        pixels, labels = self.images["train"].take(self.order[batch])
        pixels = augment(
            pixels, self.parameters.take(batch), int(self.recipe["augmentation"]["crop_padding"])
        )
        with mixed_precision(self.precision, self.device):
            logits = self.model(normalize(pixels, **self.scale))
        loss = F.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return torch.stack([loss.detach(), (logits.argmax(1) == labels).sum()])

    def _predict_step(self, images: Images, batch: Tensor) -> Tensor:
        pixels, _ = images.take(batch)
        with mixed_precision(self.precision, self.device):
            return self.model(normalize(pixels, **self.scale)).float()

    def _batches(self, name: str) -> tuple[Tensor, ...]:
        return torch.arange(len(self.images[name]), device=self.device).split(self.recipe["batch_size"])

    def _draw_epoch(self) -> None:
        # On the CPU, so that a seed means the same order and the same images on every device.
        self.epoch_began_with = self.generator.get_state()
        count, size = len(self.images["train"]), self.images["train"].pixels.shape[-1]
        order = torch.randperm(count, generator=self.generator)
        parameters = draw_parameters(count, size, self.recipe["augmentation"], self.generator)
        if self.order is None or self.parameters is None:
            self.order, self.parameters = order.to(self.device), parameters.to(self.device)
            return
        # Into the same memory, from which a graph reads.
        for kept, drawn in zip((self.order, *self.parameters), (order, *parameters), strict=True):
            if kept is not None:
                kept.copy_(drawn)


def train(
    spec: Mapping[str, Any],
    packed: Packed,
    device: torch.device,
    precision: str,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Train the run that `spec` describes and evaluate it on the test images after every epoch.

    With `checkpoints` it goes on from the newest that fits. Raises StudyError if the spec does not fit
    the data, or the loss is no longer a number; Interrupted, after a checkpoint, if it is to stop.
    """
    started = time.perf_counter()
    recipe = spec["recipe"]
    train_rows, val_rows = split_rows(spec, packed)
    images = {
        "train": Images.load(*packed.train, train_rows, device),
        "validation": Images.load(*packed.train, val_rows, device),
        "test": Images.load(*packed.test, np.arange(len(packed.test.labels)), device),
    }
    trainer = Trainer(spec, images, device, precision)
    trained = Trained(trainer.model, train_images=len(train_rows), val_images=len(val_rows))
    if checkpoints and (state := checkpoints.load()):
        trainer.set_state(state["trainer"])
        trained.set_state(state["trained"])
        log.info("goes on in epoch %d, after %d steps of it", len(trained.history) + 1, len(trainer.figures))
    at = time.perf_counter()
    trained.setup_seconds = at - started

    def lap() -> float:
        """Return the seconds since the last call, but for those in which graphs were captured."""
        nonlocal at
        before, at = at, time.perf_counter() - trainer.capture_seconds
        return at - before

    def count_time() -> None:
        if trained.unevaluated is None:
            trained.epoch_seconds[-1] += lap()

    def state() -> dict[str, Any]:
        count_time()
        return {"trainer": trainer.get_state(), "trained": trained.get_state()}

    def between() -> None:
        if checkpoints:
            checkpoints.offer(state)

    for epoch in range(len(trained.history) + 1, recipe["epochs"] + 1):
        if trained.unevaluated is None:
            if len(trained.epoch_seconds) < epoch:
                trained.epoch_seconds.append(0.0)
            lap()
            loss, correct = trainer.train_epoch(between)
            count_time()
            if not np.isfinite(loss):
                raise StudyError(f"the training loss became {loss} in epoch {epoch}; a lower lr may help")
            trained.unevaluated = {"train_loss": loss, "train_accuracy": 100 * correct / len(train_rows)}
        lap()
        trained.logits = trainer.predict("test", between)
        test_accuracy = accuracy(trained.logits, images["test"])
        evaluation_seconds = lap()
        val_accuracy = None
        if len(val_rows):
            val_accuracy = accuracy(trainer.predict("validation", between), images["validation"])
        loss = trained.unevaluated["train_loss"]
        trained.history.append(
            {
                "epoch": epoch,
                **trained.unevaluated,
                "val_accuracy": val_accuracy,
                "test_accuracy": test_accuracy,
            }
        )
        trained.evaluation_seconds.append(evaluation_seconds)
        trained.unevaluated = None
        log.info(
            "epoch %d of %d: loss %.4f, test accuracy %.2f %%, %.2f s",
            epoch,
            recipe["epochs"],
            loss,
            test_accuracy,
            trained.epoch_seconds[-1],
        )
    trained.capture_seconds = trainer.capture_seconds
    return trained


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


def safe_memory_format(model: nn.Module) -> torch.memory_format:
    """Return channels-last, 1.35 times as fast for the CNN on a CPU, where it can be trusted.

    The CPU's backward pass of a strided 1×1 convolution of 8 channels writes outside its memory in
    this format (torch 2.15); widths that are multiples of 16 take other kernels.
    """
    widths = [w for m in model.modules() if isinstance(m, nn.Conv2d) for w in (m.in_channels, m.out_channels)]
    trusted = all(width % 16 == 0 or width == 3 for width in widths)
    return torch.channels_last if trusted else torch.contiguous_format


def stream_seed(seed: int, purpose: str) -> int:
    """Return a seed for one purpose, so that no two streams of a run are the same numbers."""
    return int.from_bytes(sha256(f"{purpose}:{seed}".encode()).digest()[:7], "big")


def accuracy(logits: Tensor, images: Images) -> float:
    """Return the share of images whose highest logit is that of their label, in percent."""
    labels = images.labels[images.rows].cpu()
    return 100 * int((logits.argmax(1) == labels).sum()) / len(labels)


def mixed_precision(precision: str, device: torch.device) -> AbstractContextManager:
    """Return the context of a forward pass: bfloat16 autocast for "bf16", nothing for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
