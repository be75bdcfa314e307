"""How long training will take on this device, from timing a few steps of each model."""

import gc
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vitcnn import plan
from vitcnn.durations import duration
from vitcnn.files import canonical_json
from vitcnn.training import devices
from vitcnn.training.trainer import Images, Trainer
from vitcnn.training.workload import image_passes

SECONDS = 0.3  # the least that a model is timed


class Pace(NamedTuple):
    """Seconds of one image, trained on and predicted."""

    train: float
    predict: float


def measure_pace(spec: Mapping[str, Any], device: torch.device, graphs: str = "auto") -> Pace:
    """Return the pace of a run's model in its batches, on noise, after a first epoch that is not counted."""
    size, classes = spec["dataset"]["image_size"], spec["dataset"]["num_classes"]
    # On a GPU as many steps as bring it past the capture of its graph.
    count = spec["recipe"]["batch_size"] * (1 if device.type == "cpu" else 16)
    noise = np.random.default_rng(0)
    pixels = noise.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    images = Images.load(pixels, noise.integers(0, classes, count), np.arange(count), device)
    precision = devices.select_precision(spec["precision"], device)
    trainer = Trainer(spec, {"train": images, "test": images}, device, precision, graphs)

    def seconds(epoch) -> float:
        epoch()
        passes: list[float] = []
        while sum(passes) < SECONDS or len(passes) < 2:
            started = time.perf_counter()
            epoch()
            passes.append(time.perf_counter() - started)
        return min(passes) / count  # whatever else the machine does makes the others longer

    pace = Pace(seconds(trainer.train_epoch), seconds(lambda: trainer.predict("test")))
    # A trainer refers to itself, and its graphs hold memory of the GPU that the next model needs.
    trainer.steps.clear()
    gc.collect()
    return pace


def estimate_seconds(
    config: Mapping[str, Any],
    runs: Iterable[plan.Run],
    resources: Path,
    device: torch.device,
    start: float = 0.0,
) -> dict[plan.Run, float]:
    """Return the seconds that each run takes on `device`: `start`, training and evaluation.

    Models are timed once for all runs that differ in the number of images, in classes or in their seed.
    """
    paces: dict[str, Pace] = {}
    seconds = {}
    for run in runs:
        spec = plan.run_spec(config, run)
        slower = ("batch_size", "augmentation", "optimizer", "clip_grad_norm", "mixup", "cutmix")
        recipe = {key: spec["recipe"][key] for key in slower}
        alike = canonical_json([spec["dataset"]["image_size"], spec["model"], recipe])
        if alike not in paces:
            paces[alike] = measure_pace(spec, device, config["graphs"] or "off")
        trained, predicted = image_passes(config, run, resources)
        seconds[run] = start + trained * paces[alike].train + predicted * paces[alike].predict
    return seconds


def in_words(
    config: Mapping[str, Any],
    seconds: Mapping[plan.Run, float],
    device: torch.device,
    jobs: int,
    spent: float,
) -> str:
    """Return the estimate as text for the user, with shorter alternatives if it is over half an hour."""

    def together(runs: Iterable[plan.Run]) -> float:
        times = [seconds[run] for run in runs if run in seconds]
        return max([sum(times) / jobs, *times], default=0.0)

    whole = together(seconds)
    precision = devices.select_precision(config["precision"], device)
    beside = f", {jobs} at a time" if jobs > 1 else ""
    text = (
        f"To be trained: {len(seconds)} run(s), about {duration(whole)} on {devices.device_name(device)}, "
        f"{precision}{beside} (from {spent:.0f} s of calibration)."
    )
    if whole < 1800:
        return text
    ways = []
    if set(seconds) <= set(plan.all_runs(config)):  # else an optional experiment is asked for by its name
        seed = min(config["seeds"])
        one_seed = set(plan.all_runs({**config, "seeds": [seed]})) & set(seconds)
        if len(one_seed) < len(seconds):
            ways.append(f"one seed: --config 'seeds=[{seed}]', {duration(together(one_seed))}")
        for experiment in plan.active_experiments(config, optional=False):
            runs = plan.experiment_runs(config, experiment)
            if set(runs) & set(seconds) and not set(seconds) <= set(runs):
                ways.append(f"one experiment: {experiment} as the target, {duration(together(runs))}")
    if "VITCNN_PROFILE" not in os.environ:  # which the small studies set
        ways.append("a small study: snakemake --workflow-profile profiles/quick")
    return "\n".join([text, "If that is too long:", *(f"  {way}" for way in ways)])
