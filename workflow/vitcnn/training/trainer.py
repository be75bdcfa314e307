"""A model in training: what one update does, and the random streams that it draws from.

Images stay packed uint8 on the device and are augmented there in batches.
"""

import contextlib
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitcnn.data import augmentation
from vitcnn.data.augmentation import Parameters, augment, draw_parameters, normalize
from vitcnn.data.mixing import Mixing, draw_mixing, mix, mix_labels
from vitcnn.models import create_model
from vitcnn.models.dropout import Masks, use_masks
from vitcnn.models.head import compute_head_in_fp32
from vitcnn.training.devices import synchronize, use_deterministic_algorithms
from vitcnn.training.graphs import Graphed, Step
from vitcnn.training.optimizers import LossScale, create_optimizer
from vitcnn.training.precision import CastWeights, mixed_precision
from vitcnn.training.schedule import evaluations, learning_rate, updates_until

AHEAD_BYTES = 2 << 30  # what the images of an augmented pass may take
AHEAD_CHUNK = 1024  # images augmented together


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
        if not np.array_equal(rows, np.arange(len(pixels))):  # else a copy of a gigabyte for nothing
            pixels, labels = pixels[rows], labels[rows]
        chosen = (torch.from_numpy(pixels), torch.from_numpy(labels), torch.arange(len(rows)))
        return cls(*(tensor.to(device) for tensor in chosen))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixels and labels of the images at `index`, counted among the rows."""
        rows = self.rows[index]
        return self.pixels[rows], self.labels[rows]

    def take_labels(self, index: Tensor | slice) -> Tensor:
        """Return the labels alone."""
        return self.labels[self.rows[index]]


class Trainer:
    """A model in training: its optimizer, its images, and the random streams that belong to its seed.

    `images` are the `train` images and those to predict, by name.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        images: Mapping[str, Images],
        device: torch.device,
        precision: str,
        graphs: str = "auto",
    ) -> None:
        self.recipe = spec["recipe"]
        self.num_classes = spec["dataset"]["num_classes"]
        self.images = images
        self.device = device
        self.precision = precision
        use_deterministic_algorithms(device)
        torch.manual_seed(spec["seed"])  # initial weights
        self.generator = torch.Generator().manual_seed(stream_seed(spec["seed"], "order and augmentation"))
        self.masks = Masks(stream_seed(spec["seed"], "dropout"), device)
        model = create_model(spec).to(device)
        self.model = model.to(memory_format=safe_memory_format(model, device))
        use_masks(self.model, self.masks)
        if precision != "fp32":
            compute_head_in_fp32(self.model, self.num_classes)
        self.casts: CastWeights | None = None
        if precision != "fp32" and device.type == "cuda":  # where each cast is a kernel to launch
            example = torch.zeros((2, *images["train"].pixels.shape[1:]), device=device)
            self.casts = CastWeights(self.model, example, precision)
        self.optimizer = create_optimizer(self.model, self.recipe)
        self.scale = {
            key: torch.tensor(self.recipe["normalization"][key], device=device).view(3, 1, 1)
            for key in ("mean", "std")
        }
        self.values = None if device.type == "cpu" else augmentation.normalized_values(**self.scale)
        self.loss_scale = LossScale(device) if precision == "fp16" else None
        self.last_update = updates_until(self.recipe, len(images["train"]), evaluations(self.recipe))
        self.updates = 0  # so far
        self.figures: list[Tensor] = []  # loss and hits of each update since the last evaluation
        self.pass_began_with = self.generator.get_state()
        self.order: Tensor | None = None
        self.parameters: Parameters | None = None
        self.mixing: Mixing | None = None
        self.policy_seeds: Tensor | None = None
        self.prepared: Tensor | None = None  # a batch that was augmented by a policy
        # A GPU augments a pass at its start, in chunks: a step of 128 images would launch as many kernels.
        is_large = images["train"].pixels[0].nbytes * len(images["train"]) > AHEAD_BYTES
        self.augments_ahead = device.type == "cuda" and not is_large
        self.augmented: Tensor | None = None  # the pass, in its order
        self.steps: dict[str, Step] = {
            "train": self._train_step,
            **{name: partial(self._predict_step, images[name]) for name in images if name != "train"},
        }
        self.stream = contextlib.nullcontext()
        if device.type == "cuda" and graphs == "auto":
            size, failures = self.recipe["batch_size"], []
            self.steps = {
                name: Graphed(step, min(size, len(images[name])), [self.masks.generator], failures)
                for name, step in self.steps.items()
            }
        if device.type == "cuda":
            # Nothing can be captured on the default stream.
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            self.stream = torch.cuda.stream(stream)

    def train(self, updates: int, between: Callable[[], None] = lambda: None) -> tuple[float, int]:
        """Train up to the next evaluation; return the mean of the batches' losses and the number of hits.

        `updates` is their number since the last one; those that a checkpoint holds are not done again.
        `between` is called after every update.
        """
        self.model.train()
        with self.stream:
            batches = self._batches("train")
            while len(self.figures) < updates:
                place = self.updates % len(batches)
                if place == 0:
                    self._draw_pass()
                self.optimizer.lr.fill_(learning_rate(self.recipe, self.updates, self.last_update))
                if self.policy_seeds is not None:
                    self._prepare(batches[place])
                # Kept on the device: fetching a number at each step would make it wait for the GPU.
                self.figures.append(self.steps["train"](batches[place]))
                self.updates += 1
                between()
            loss, correct = torch.stack(self.figures).cpu().double().unbind(1)
        self.figures = []
        return loss.mean().item(), int(correct.sum())

    def train_epoch(self, between: Callable[[], None] = lambda: None) -> tuple[float, int]:
        """Train on every image once, as train() does."""
        return self.train(len(self._batches("train")), between)

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
        """Return everything that the rest of the training depends on."""
        under_way = self.updates % len(self._batches("train")) > 0
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.get_state(),
            "updates": self.updates,  # with the recipe, all of the schedule's state
            "dropout": self.masks.get_state(),
            "loss_scale": self.loss_scale.get_state() if self.loss_scale else None,
            "torch": torch.get_rng_state(),  # what models of other libraries draw from
            "device": None if self.device.type == "cpu" else getattr(torch, self.device.type).get_rng_state(),
            "order": self.pass_began_with if under_way else self.generator.get_state(),
            "figures": torch.stack(self.figures) if self.figures else None,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Resume from a state of the same run on the same kind of device."""
        self.model.load_state_dict(state["model"])
        self.optimizer.set_state(state["optimizer"])
        self.updates = state["updates"]
        self.masks.set_state(state["dropout"])
        if self.loss_scale:
            self.loss_scale.set_state(state["loss_scale"])
        if self.casts:
            self.casts.update()
        self.generator.set_state(state["order"])
        if self.updates % len(self._batches("train")):
            self._draw_pass()
        if state["figures"] is not None:
            self.figures = list(state["figures"].to(self.device))
        torch.set_rng_state(state["torch"])
        if state["device"] is not None:
            getattr(torch, self.device.type).set_rng_state(state["device"])
        synchronize(self.device)  # the steps run on another stream

    def warm_up(self) -> None:
        """Do a step of each kind and undo it, so that no epoch's time holds the loading of libraries."""
        before = copy.deepcopy(self.get_state())
        synchronize(self.device)  # the step below runs on another stream
        self.model.train()
        with self.stream:
            batch = self._batches("train")[0]
            self._draw_pass()
            if self.policy_seeds is not None:
                self._prepare(batch)
            self._train_step(batch)
            self.model.eval()
            with torch.no_grad():
                self._predict_step(self.images["test"], self._batches("test")[0])
        synchronize(self.device)
        self.set_state(before)

    @property
    def graphs(self) -> str | None:
        """Return how steps are launched: "captured", "off", why none is captured, or None without CUDA."""
        if self.device.type != "cuda":
            return None
        graphed = [step for step in self.steps.values() if isinstance(step, Graphed)]
        if not graphed:
            return "off"
        if graphed[0].failures:
            return graphed[0].failures[0]
        return "captured" if any(step.replay for step in graphed) else "too few batches to capture one"

    @property
    def capture_seconds(self) -> float:
        """Return the time spent so far on capturing graphs."""
        return sum(step.capture_seconds for step in self.steps.values() if isinstance(step, Graphed))

    def _train_step(self, batch: Tensor) -> Tensor:
        if self.augmented is not None:
            pixels, labels = self.augmented[batch], self.images["train"].take_labels(self.order[batch])
        elif self.prepared is None:
            pixels, labels = self._augmented(batch)
        else:
            pixels, labels = self.prepared[: len(batch)], self.images["train"].take_labels(self.order[batch])
        mixing = self.mixing.take(batch)
        targets = mix_labels(labels, mixing, self.num_classes)
        with mixed_precision(self.precision, self.device):
            logits = (self.casts or self.model)(mix(self._normalized(pixels), mixing))
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=self.recipe["label_smoothing"])
        self.optimizer.zero_grad()
        if self.casts:
            self.casts.zero_grad()
        if self.loss_scale is None:
            loss.backward()
        else:
            (loss * self.loss_scale.scale).backward()
        if self.casts:
            self.casts.collect_gradients()
        overflow = self.loss_scale.unscale(self.optimizer.parameters) if self.loss_scale else None
        if self.recipe["clip_grad_norm"]:
            nn.utils.clip_grad_norm_(self.optimizer.parameters, self.recipe["clip_grad_norm"])
        self.optimizer.step(overflow)
        if self.casts:
            self.casts.update()
        likeliest = labels if targets is labels else targets.argmax(1)
        return torch.stack([loss.detach(), (logits.argmax(1) == likeliest).sum()])

    def _predict_step(self, images: Images, batch: Tensor) -> Tensor:
        pixels, _ = images.take(batch)
        with mixed_precision(self.precision, self.device):
            return (self.casts or self.model)(self._normalized(pixels)).float()

    def _normalized(self, pixels: Tensor) -> Tensor:
        return (
            normalize(pixels, **self.scale)
            if self.values is None
            else augmentation.look_up(self.values, pixels)
        )

    def _augmented(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        pixels, labels = self.images["train"].take(self.order[batch])
        padding = int(self.recipe["augmentation"]["crop_padding"])
        return augment(pixels, self.parameters.take(batch), padding), labels

    def _prepare(self, batch: Tensor) -> None:
        """Augment a batch by the recipe's policy, on the CPU, to where the step reads it from."""
        # By its name and here, so that only runs with a policy depend on torchvision.
        policies = import_module("vitcnn.data.policies")
        pixels = self._augmented(batch)[0].cpu()
        seeds = self.policy_seeds[batch.cpu()]
        pixels = policies.apply_policy(self.recipe["augmentation"]["auto_augment"], pixels, seeds)
        if self.prepared is None:
            size = min(self.recipe["batch_size"], len(self.images["train"]))
            self.prepared = torch.empty((size, *pixels.shape[1:]), dtype=pixels.dtype, device=self.device)
        self.prepared[: len(pixels)].copy_(pixels)

    def _batches(self, name: str) -> tuple[Tensor, ...]:
        return torch.arange(len(self.images[name]), device=self.device).split(self.recipe["batch_size"])

    def _draw_pass(self) -> None:
        # On the CPU, so that a seed means the same order and the same images on every device.
        self.pass_began_with = self.generator.get_state()
        count, size = len(self.images["train"]), self.images["train"].pixels.shape[-1]
        order = torch.randperm(count, generator=self.generator)
        parameters = draw_parameters(count, size, self.recipe["augmentation"], self.generator)
        mixing = draw_mixing(count, size, self.recipe, self.generator)
        if self.recipe["augmentation"]["auto_augment"] != "none":
            self.policy_seeds = torch.randint(2**63 - 1, (count,), generator=self.generator)
        if self.order is None or self.parameters is None or self.mixing is None:
            self.order, self.parameters = order.to(self.device), parameters.to(self.device)
            self.mixing = mixing.to(self.device)
        else:
            # Into the same memory, from which a graph reads.
            kept_values = (self.order, *self.parameters, *self.mixing)
            for kept, drawn in zip(kept_values, (order, *parameters, *mixing), strict=True):
                if kept is not None:
                    kept.copy_(drawn)
        if self.augments_ahead and self.policy_seeds is None:
            if self.augmented is None:
                shape = self.images["train"].pixels.shape[1:]
                self.augmented = torch.empty((count, *shape), dtype=torch.uint8, device=self.device)
            chunks = torch.arange(count, device=self.device).split(AHEAD_CHUNK)
            for kept, rows in zip(self.augmented.split(AHEAD_CHUNK), chunks, strict=True):
                kept.copy_(self._augmented(rows)[0])


def safe_memory_format(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Return channels-last, 1.35 times as fast for the CNN on a CPU, where it can be trusted.

    On Apple's MPS the backward pass of BatchNorm is wrong in it, and that of MaxPool2d fails (pytorch#175189,
    #175190).

    The CPU's backward pass of a strided 1×1 convolution of 8 channels writes outside its memory in
    this format (torch 2.15); widths that are multiples of 16 take other kernels.
    """
    widths = [w for m in model.modules() if isinstance(m, nn.Conv2d) for w in (m.in_channels, m.out_channels)]
    trusted = all(width % 16 == 0 or width == 3 for width in widths)
    return torch.channels_last if trusted and device.type != "mps" else torch.contiguous_format


def stream_seed(seed: int, purpose: str) -> int:
    """Return a seed for one purpose, so that no two streams of a run are the same numbers."""
    return int.from_bytes(sha256(f"{purpose}:{seed}".encode()).digest()[:7], "big")
