"""How accurate the model of one run is on corrupted test images."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitcnn.data.augmentation import normalize
from vitcnn.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from vitcnn.data.packed import load_packed
from vitcnn.models.weights import load_model
from vitcnn.training.devices import select_device, use_deterministic_algorithms
from vitcnn.training.trainer import safe_memory_format

log = logging.getLogger(__name__)

CORRUPTED = 500  # images corrupted together
BATCH = 100  # images in one forward pass: on a CPU the ViT takes half as long again with 500


def corrupt_run(
    spec: Mapping[str, Any], weights: Path, data: Path, device_name: str, threads: int
) -> dict[str, Any]:
    """Return the accuracy in % of the run of `spec`, in fp32, on the test images and on corrupted ones.

    - `clean`: of the images as they are
    - `corrupted`: by corruption, a list with one for each severity
    - `mean_of_11`: over corruptions and severities; `relative`: the same in % of `clean`, None where that is 0

    `weights` is the run's model.safetensors, `data` its packed dataset. Raises StudyError if either is missing or
    damaged, does not fit the spec, or has images of a size without published severities.
    """
    device = select_device(device_name)
    use_deterministic_algorithms(device)
    torch.set_num_threads(threads)
    images, labels = load_packed(data).test
    model = load_model(spec, weights).to(device).eval()
    model = model.to(memory_format=safe_memory_format(model, device))
    scale = {
        key: torch.tensor(spec["recipe"]["normalization"][key], device=device).view(3, 1, 1)
        for key in ("mean", "std")
    }
    correct = np.zeros(1 + len(CORRUPTIONS) * len(SEVERITIES), int)
    changes = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
    for start in range(0, len(images), CORRUPTED):
        pixels, answers = images[start : start + CORRUPTED], labels[start : start + CORRUPTED]
        for place, change in enumerate([None, *changes]):
            changed = torch.from_numpy(corrupt(pixels, *change) if change else pixels).to(device)
            with torch.inference_mode():
                found = [model(normalize(batch, **scale)).argmax(1) for batch in changed.split(BATCH)]
            correct[place] += (torch.cat(found).cpu().numpy() == answers).sum()
        log.info("%d of %d images", start + len(pixels), len(images))
    clean, *accuracies = (100 * correct / len(images)).tolist()
    by_name = np.reshape(accuracies, (len(CORRUPTIONS), len(SEVERITIES))).tolist()
    mean = float(np.mean(accuracies))
    return {
        "clean": clean,
        "corrupted": dict(zip(CORRUPTIONS, by_name, strict=True)),
        "mean_of_11": mean,
        "relative": 100 * mean / clean if clean else None,
    }
