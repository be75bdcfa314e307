"""What a model costs to run on a device: seconds of a forward pass, memory of a training step, energy of an image.

Weights are as initialised: what is learned changes none of it.
"""

import ctypes
import gc
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from vitcnn.models.sizes import measure_size
from vitcnn.training import devices
from vitcnn.training.precision import mixed_precision
from vitcnn.training.trainer import Images, Trainer

log = logging.getLogger(__name__)

VERSION = 1
BATCHES = (1, 32, 128, 512)
TRAINED = 128  # images of the training step whose memory is measured
STEPS = 2  # the optimizer's state is there from the second on
ENERGY_SECONDS = 2.0  # a GPU's counter moves every tenth of a second
POWERCAP = Path("/sys/class/powercap")
# Adam, whose state is twice the parameters as in most recipes, and no augmentation.
RECIPE = {
    "optimizer": "adam",
    "lr": 0.001,
    "weight_decay": 0,
    "no_decay": [],
    "lr_scheduler": "constant",
    "warmup": 0,
    "min_lr": 0,
    "label_smoothing": 0,
    "clip_grad_norm": 0,
    "mixup": 0,
    "cutmix": 0,
    "epochs": STEPS,
    "augmentation": {
        "crop_padding": 0,
        "horizontal_flip": 0,
        "rotation": 0,
        "translation": 0,
        "auto_augment": "none",
        "random_erasing": 0,
    },
    "normalization": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


def measure_cost(spec: Mapping[str, Any], device_name: str, threads: int) -> dict[str, Any]:
    """Return what the model of `spec` costs: a model spec, and the `precision` asked for.

    Sizes are counted, FLOPs of one image as measure_size() counts them. `passes` are forward passes of each of
    BATCHES, in evaluation mode, images on the device, each pass waited for; batches that do not fit are left out.
    `training` is the memory at most of training steps: on CUDA what torch allocated, on a CPU what the process grew
    by, so that it must be a fresh one; None elsewhere. `joules_per_image` is of the largest batch, None where no
    counter can be read. Raises StudyError if the device is absent.
    """
    device = devices.select_device(device_name)
    precision = devices.select_precision(spec["precision"], device)
    torch.set_num_threads(threads)
    model, training = _train_largest(spec, device, precision)
    passes, joules = _time_passes(model.eval(), spec["dataset"]["image_size"], device, precision)
    state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    return {
        "version": VERSION,
        "spec": dict(spec),
        **measure_size(spec)._asdict(),
        "bytes_on_disk": len(safetensors.torch.save(state)),
        "passes": passes,
        "training": training,
        "joules_per_image": joules,
        "device": {"type": device.type, "name": devices.device_name(device)},
        "precision": precision,
        "threads": threads,
        "torch": torch.__version__,
    }


def _train_largest(
    spec: Mapping[str, Any], device: torch.device, precision: str
) -> tuple[nn.Module, dict[str, Any]]:
    """Train TRAINED images, or the most that fit; return the model, the size of the batch and its peak memory."""
    batch = TRAINED
    while True:
        try:
            model, peak = _train(spec, batch, device, precision)
            return model, {"batch": batch, "peak_memory_bytes": peak}
        except RuntimeError as error:
            if batch == 1 or not devices.is_out_of_memory(error):
                raise
            batch //= 2
        gc.collect()  # a trainer refers to itself
        torch.cuda.empty_cache()


def _train(
    spec: Mapping[str, Any], batch: int, device: torch.device, precision: str
) -> tuple[nn.Module, int | None]:
    """Do STEPS steps as the training does them, and return the model and the memory that they took at most."""
    size, classes = spec["dataset"]["image_size"], spec["dataset"]["num_classes"]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = _peak_memory(device)
    pixels = torch.randint(256, (batch, 3, size, size), dtype=torch.uint8)
    images = Images(*(t.to(device) for t in (pixels, torch.arange(batch) % classes, torch.arange(batch))))
    asked = {**spec, "seed": 0, "recipe": RECIPE | {"batch_size": batch}}
    trainer = Trainer(asked, {"train": images}, device, precision, graphs="off")
    trainer.train(STEPS)
    peak = _peak_memory(device)
    return trainer.model, None if peak is None else peak - before


def _peak_memory(device: torch.device) -> int | None:
    """Return the bytes that were in use at most so far: torch's on a GPU, this process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return devices.peak_memory() if device.type == "cpu" else None


def _time_passes(
    model: nn.Module, size: int, device: torch.device, precision: str
) -> tuple[list[dict[str, Any]], float | None]:
    """Return the seconds of forward passes, an entry for each of BATCHES, and the joules of an image of the last."""

    @torch.inference_mode()
    def forward(images: Tensor) -> None:
        with mixed_precision(precision, device):
            model(images)
        devices.synchronize(device)

    found, joules = [], None
    for batch in BATCHES:
        try:
            call = partial(forward, torch.rand(batch, 3, size, size, device=device))
            seconds = _time(call)
            joules = _measure_energy(call, device, batch)
        except RuntimeError as error:
            if not devices.is_out_of_memory(error):
                raise
            log.info("no batch of %d: %s", batch, error)
            break
        first, median, third = np.percentile(seconds, [25, 50, 75]).tolist()
        found.append(
            {
                "batch": batch,
                "repetitions": len(seconds),
                "median_seconds": median,
                "quartiles_seconds": [first, third],
                "images_per_second": batch / median,
            }
        )
    return found, joules


def _time(call: Callable[[], None]) -> list[float]:
    """Return the seconds of each of some calls, after others that warm up.

    At least 30 in half a second; of calls that take long as many as 1.5 s hold, at least 5. torch.utils.benchmark
    would time blocks of calls, whose quartiles are not those of a pass, or one call where it takes long.
    """
    _repeat(call, least=1, most=10, seconds=0.3)
    return _repeat(call, least=5, most=30, seconds=0.5, longest=1.5)


def _repeat(
    call: Callable[[], None], least: int, most: int, seconds: float, longest: float = 0.0
) -> list[float]:
    """Return the seconds of each of at least `least` calls.

    There are `most`, and more for `seconds`, unless these take longer than `longest`.
    """
    taken: list[float] = []
    while len(taken) < least or sum(taken) < seconds or (len(taken) < most and sum(taken) < longest):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return taken


def _measure_energy(call: Callable[[], None], device: torch.device, images: int) -> float | None:
    """Return the joules of each of the `images` of a call, or None where no counter can be read."""
    before = _read_energy(device)
    if before is None:
        return None
    taken = _repeat(call, least=1, most=1, seconds=ENERGY_SECONDS)
    after = _read_energy(device)
    if after is None or after <= before:  # the counter began again
        return None
    return (after - before) / (len(taken) * images)


def _read_energy(device: torch.device) -> float | None:
    """Return the joules that a device's own counter has so far, idling and other work included; None without one.

    Of an NVIDIA GPU that of NVML, of a CPU that of its packages (RAPL, docs.kernel.org/power/powercap).
    """
    if device.type == "cuda":
        with suppress(OSError, AttributeError):
            nvml = ctypes.CDLL("libnvidia-ml.so.1")
            name = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
            handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
            failed = (
                nvml.nvmlInit_v2()
                or nvml.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle))
                or nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
            )
            return None if failed else millijoules.value / 1000
    if device.type == "cpu":
        with suppress(OSError):
            zones = [
                z for z in POWERCAP.glob("intel-rapl:*") if (z / "name").read_text().startswith("package")
            ]
            return sum(int((zone / "energy_uj").read_text()) for zone in zones) / 1e6 if zones else None
    return None
