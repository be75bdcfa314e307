"""How a training job starts and grows: time to its first step, seconds by images, memory by epochs.

  python tests/speed/growth.py [--repetitions 5] [--out FILE]

The data are noise of CIFAR-10's size. Start-up is the time from the start of the process to the first step
of training, beside that of `python -c "import torch"`, in turns. Growth trains the study's own runs by their
entry point, with more images and then with more epochs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import write_figures

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

from vitcnn.config import load_config
from vitcnn.data.pack import pack_dataset
from vitcnn.files import file_digest, read_json, write_json
from vitcnn.plan import Run, run_spec

TRAIN = ROOT / "workflow/scripts/train.py"
# The training job, which ends where its first step would begin.
TO_FIRST_STEP = f"""
import os, runpy, sys
sys.path.insert(0, {str(ROOT / "workflow")!r})
from vitcnn.training import trainer
trainer.Trainer._train_step = lambda *arguments: os._exit(0)
sys.argv = [{str(TRAIN)!r}, *sys.argv[1:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def pack_noise(folder):
    """Pack 50,000 and 10,000 images of noise as CIFAR-10 is packed; return the folder of the arrays."""
    noise, splits = np.random.default_rng(0), {}
    (folder / "decoded").mkdir()
    for split, count in (("train", 50_000), ("test", 10_000)):
        images = noise.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        np.save(folder / "decoded" / f"{split}_images.npy", images)
        np.save(folder / "decoded" / f"{split}_labels.npy", np.arange(count) % 10)
        splits[split] = {"images": count, "damaged": [], "greyscale": 0}
    classes = [{"id": str(i), "words": str(i)} for i in range(10)]
    sha256 = {path.name: file_digest(path) for path in (folder / "decoded").iterdir()}
    report = {"dataset": "cifar10", "classes": classes, "splits": splits, "sha256": sha256}
    write_json(folder / "report.json", report)
    pack_dataset(
        *(folder / name for name in ("report.json", "decoded", "packed")),
        on_damaged="error",
        image_size=32,
        num_classes=10,
    )
    return folder / "packed"


def arguments(data, out, model, train_size, epochs):
    """Return the arguments of train.py for a run with some recipe changed."""
    spec = run_spec(load_config(ROOT / "config.yaml"), Run("cifar10", model, "adam10", train_size, 0))
    spec["recipe"]["epochs"] = epochs
    return ["--settings", json.dumps({"spec": spec}), "--data", data, "--out", out]


def measure_start(data, folder, repetitions):
    """Return the seconds of both, a pair per repetition, for a ViT."""
    job = [sys.executable, "-c", TO_FIRST_STEP, *arguments(data, folder / "start", "vit", "all", 10)]
    pairs = []
    for _ in range(repetitions + 1):  # the first fills the caches of files
        pair = {}
        for name, command in (("import torch", [sys.executable, "-c", "import torch"]), ("first step", job)):
            before = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            pair[name] = time.perf_counter() - before
        pairs.append(pair)
    return pairs[1:]


def measure_growth(data, folder, model, sizes):
    """Yield figures of one run after another: (images, epochs) in turn."""
    for i, (train_size, epochs) in enumerate(sizes):
        out = folder / f"{model}{i}"
        subprocess.run(
            [sys.executable, TRAIN, *arguments(data, out, model, train_size, epochs)],
            check=True,
            capture_output=True,
        )
        runtime = read_json(out / "runtime.json")
        trained = runtime["train_seconds"]
        yield {
            "model": model,
            "images": train_size,
            "epochs": epochs,
            "train_seconds": trained,
            "milliseconds_per_image": 1000 * trained / (train_size * epochs),
            "evaluation_seconds": sum(runtime["evaluation_seconds"]),
            "peak_bytes": runtime["peak_memory_bytes"],
        }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = pack_noise(folder)
        pairs = measure_start(data, folder, args.repetitions)
        ratios = [pair["first step"] / pair["import torch"] for pair in pairs]
        print(
            f"first step after {statistics.median(p['first step'] for p in pairs):.2f} s, import torch "
            f"{statistics.median(p['import torch'] for p in pairs):.2f} s: {statistics.median(ratios):.2f}x "
            f"({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )
        growth = []
        images = [(5_000, 1), (10_000, 1), (20_000, 1), (40_000, 1)]
        epochs = [(5_000, 2), (5_000, 4), (5_000, 8)]
        for row in measure_growth(data, folder, "cnn", images + epochs):
            growth.append(row)
            print(
                f"{row['model']} {row['images']:6d} images, {row['epochs']} epochs: {row['train_seconds']:6.1f} s, "
                f"{row['milliseconds_per_image']:.2f} ms an image, {row['peak_bytes'] / 2**20:.0f} MiB",
                flush=True,
            )
    if args.out:
        figures = {
            "start_seconds": pairs,
            "start_ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
            "growth": growth,
        }
        write_figures(args.out, figures)


if __name__ == "__main__":
    main()
