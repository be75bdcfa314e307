"""One run from spec to files: metrics, runtime, weights, predictions."""

import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from vitcnn import plan
from vitcnn.data.packed import Packed, load_packed
from vitcnn.errors import StudyError
from vitcnn.files import canonical_json, digest, file_digest, replacing, write_json
from vitcnn.interrupts import held_back
from vitcnn.models import count_parameters
from vitcnn.training import devices
from vitcnn.training.checkpoints import EVERY, Checkpoints
from vitcnn.training.loop import Trained, split_rows, train
from vitcnn.training.schedule import images_in, updates_until

log = logging.getLogger(__name__)

VERSION = 1
FILES = ("metrics.json", "runtime.json", "model.safetensors", "predictions.npz")


def train_run(
    spec: dict[str, Any],
    data: Path,
    folder: Path,
    device_name: str,
    threads: int,
    fingerprint: str = "",
    checkpoint_seconds: float | None = None,
    graphs: str = "auto",
) -> list[Path]:
    """Train the run of `spec` on the packed dataset in `data` and write its four files to `folder`.

    `graphs` is "auto" or "off". An interrupted run resumes from its checkpoint in `folder`/checkpoint, if that is
    of the same spec, data, kind of device, threads and `fingerprint`, a digest of code and packages. The caller removes that folder.

    Returns the paths. `metrics.json`, which marks the run as finished, is written last. Raises StudyError if the
    device is absent or its memory is not enough, the spec does not fit the data, or the training diverges;
    Interrupted after a signal.
    """
    spec = json.loads(canonical_json(spec))  # in one order of keys, wherever it came from
    device = devices.select_device(device_name)
    precision = devices.select_precision(spec["precision"], device)
    torch.set_num_threads(threads)
    packed = load_packed(data)
    data_digest = file_digest(data / "manifest.json")
    identity = digest([spec, data_digest, fingerprint, precision, devices.identify(device), threads])
    every = EVERY if checkpoint_seconds is None else checkpoint_seconds
    with held_back() as signals:
        checkpoints = Checkpoints(folder / "checkpoint", identity, every, signals)
        attempt, started = checkpoints.count_attempt()
        log.info(
            "%s on %s, %s, %d threads, attempt %d",
            plan.spec_run(spec).name,
            device,
            precision,
            threads,
            attempt,
        )
        try:
            trained = train(spec, packed, device, precision, checkpoints, graphs)
        except RuntimeError as error:
            if not devices.is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
            raise StudyError(
                f"device: the memory of the GPU is not enough: {reason} Lower jobs_per_gpu, or the recipe's batch_size"
            ) from error
        (folder / "metrics.json").unlink(missing_ok=True)
        with replacing(folder / "model.safetensors") as temporary:
            state = {name: value.cpu().contiguous() for name, value in trained.model.state_dict().items()}
            temporary.write_bytes(safetensors.torch.save(state))
        with replacing(folder / "predictions.npz") as temporary:
            np.savez(temporary, **describe_predictions(trained, spec, packed))
        runtime = describe_runtime(spec, trained, device, threads, attempt, started)
        write_json(folder / "runtime.json", runtime, "runtime.schema.json")
        metrics = describe_metrics(spec, packed, data_digest, trained, precision)
        write_json(folder / "metrics.json", metrics, "metrics.schema.json")
    return [folder / name for name in FILES]


def describe_predictions(trained: Trained, spec: Mapping[str, Any], packed: Packed) -> dict[str, np.ndarray]:
    """Return what goes into predictions.npz.

    `logits (N, classes) float32` and `labels (N,)` of the test images after the last epoch; `correct
    (epochs, ceil(N / 8)) uint8`, as bits of numpy.packbits, whether each was right after each epoch; and
    where images are held out their `val_logits` and `val_labels`, after the last epoch too.
    """
    predictions = {
        "logits": trained.logits.numpy(),
        "labels": packed.test.labels,
        "correct": torch.stack(trained.correct).numpy(),
    }
    if trained.val_logits is not None:
        _, held = split_rows(spec, packed)
        predictions |= {"val_logits": trained.val_logits.numpy(), "val_labels": packed.train.labels[held]}
    return predictions


def describe_metrics(
    spec: Mapping[str, Any], packed: Packed, data_digest: str, trained: Trained, precision: str
) -> dict[str, Any]:
    """Return what goes into metrics.json: all that the seed determines, nothing of the machine."""
    history = trained.history
    tested = [epoch["test_accuracy"] for epoch in history]
    counts = packed.manifest["counts"]
    selected = max(history, key=lambda epoch: epoch["val_accuracy"]) if trained.val_images else None
    return {
        "version": VERSION,
        "spec": dict(spec),
        "spec_digest": digest(spec),
        "data_digest": data_digest,
        "precision": precision,
        "train_images": trained.train_images,
        "val_images": trained.val_images,
        "test_images": counts["test"]["images"],
        "test_images_in_train": counts["test"]["in_train"],
        "damaged_images": {split: counts[split]["damaged"] for split in ("train", "test")},
        "num_parameters": count_parameters(trained.model),
        "history": history,
        "accuracy": {
            "final": tested[-1],
            "best": max(tested),
            "selected": selected["test_accuracy"] if selected else None,
        },
    }


def describe_runtime(
    spec: Mapping[str, Any], trained: Trained, device: torch.device, threads: int, attempts: int, started: str
) -> dict[str, Any]:
    """Return what goes into runtime.json: all that the machine determines, in seconds and bytes.

    `train_seconds` is the training of all epochs, without evaluation and set-up; where the run was
    interrupted, of the work that is in the result, each step once. `started` is when the first of the
    `attempts` began.
    `inference_ms_per_image` is the first notebook's: the wall time of the last pass over the test
    images in batches of the recipe's size, divided by their number.
    """
    cuda = device.type == "cuda"
    train_seconds = sum(trained.epoch_seconds)
    recipe = spec["recipe"]
    updates = updates_until(recipe, trained.train_images, len(trained.epoch_seconds))
    images = images_in(updates, trained.train_images, recipe["batch_size"])
    return {
        "version": VERSION,
        "train_seconds": train_seconds,
        "epoch_seconds": trained.epoch_seconds,
        "evaluation_seconds": trained.evaluation_seconds,
        "setup_seconds": trained.setup_seconds,
        "compile_seconds": trained.capture_seconds,
        "images_per_second": images / train_seconds,
        "inference_ms_per_image": 1000 * trained.evaluation_seconds[-1] / len(trained.logits),
        "peak_memory_bytes": devices.peak_memory(),
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated(device) if cuda else None,
        "device": {"type": device.type, "name": devices.device_name(device)},
        "graphs": trained.graphs,
        "threads": threads,
        "host": platform.node(),
        "platform": platform.platform(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "cuda": torch.version.cuda if cuda else None,
        },
        "git": git_state(),
        "command": [sys.executable, *sys.argv],
        "started_at": started,
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "attempts": attempts,
        "resumed_epochs": trained.resumed_epochs,
    }


def git_state() -> dict[str, Any]:
    """Return the commit of this checkout and whether it has changes; nulls outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent)]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}

    def ask(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(
                [*command, *arguments], capture_output=True, text=True, env=environment, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    commit, changes = ask("rev-parse", "HEAD"), ask("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}
