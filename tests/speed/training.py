"""Training side by side: the notebooks' plain way, and this project's, of the same model and recipe.

  python tests/speed/training.py [--models vit cnn …] [--precision fp32 bf16] [--repetitions 5] [--out FILE]

The plain way is PIL transforms by torchvision, a DataLoader as the notebooks call it, fp32 modules of
torch.nn, torch.optim. Each side is a process of its own, with all cores; they take turns, a pass over the
same number of images each, so that a busy moment of the machine falls on both. Peak memory is that of the
process. The floor is the time that this project's matrix products alone take at this machine's rate for one
large product, measured after each pass, dropout and all else left out.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
from machine import write_figures
from plain import Plain

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests/unit")]

IMAGES = {"vit": 1280, "simple_vit": 1280, "cnn": 5120, "simple_cnn": 5120}  # in one pass
EPOCH = 50_000  # on a GPU: drawing an epoch would dominate a shorter pass
PLAIN = 5120  # at most of the plain way, whose rate does not depend on it
RECIPES = {"vit": "adam10", "cnn": "adam10", "simple_vit": "adamw10", "simple_cnn": "adamw10"}


def spec_of(model, dataset, precision):
    """Return the spec of one of the study's runs."""
    from vitcnn import plan
    from vitcnn.config import load_config

    config = load_config(ROOT / "config.yaml") | {"precision": precision}
    return plan.run_spec(config, plan.Run(dataset, model, RECIPES[model], "all", 0))


def draw(spec, count):
    """Return `count` images of gratings, `(N, S, S, 3) uint8`, the first thousand again and again, and their labels."""
    return _draw(spec["dataset"]["num_classes"], spec["dataset"]["image_size"], count)


@cache
def _draw(classes, size, count):
    from vitcnn.data.embedded import draw_images

    each = -(-min(count, 1000) // classes)
    images, labels = draw_images(classes, each, size, noise=0.1, tint=0.3, seed=0)
    rows = np.arange(count) % len(labels)
    return images[rows], labels[rows]


class Ours:
    """This project's way."""

    def __init__(self, spec, images, labels, device):
        import numpy as np

        from vitcnn.training.devices import select_precision
        from vitcnn.training.trainer import Images, Trainer

        pixels, rows = images.transpose(0, 3, 1, 2).copy(), np.arange(len(images))
        self.trainer = Trainer(
            spec,
            {"train": Images.load(pixels, labels, rows, device)},
            device,
            select_precision(spec["precision"], device),
        )

    def train(self):
        """One pass over the images."""
        return self.trainer.train_epoch()[0]


def serve(side, spec, device_name, count):
    """Be one side: answer each line of standard input with the seconds of one pass."""
    import torch

    from vitcnn.training import devices

    device = devices.select_device(device_name)
    torch.set_num_threads(os.cpu_count())
    start = time.perf_counter()
    made = {"plain": Plain, "ours": Ours}[side](spec, *draw(spec, count), device)
    print(json.dumps({"setup_seconds": time.perf_counter() - start}), flush=True)
    for _ in sys.stdin:
        if device.type == "cuda":  # not of the large product that follows a pass
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        made.train()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # What torch holds: a replayed graph's memory does not count as allocated.
        gpu = torch.cuda.max_memory_reserved() if device.type == "cuda" else None
        rate = matrix_flop_per_second(spec["precision"], device) if side == "ours" else None
        figures = {"seconds": seconds, "peak_bytes": peak, "peak_gpu_bytes": gpu, "matrix_rate": rate}
        print(json.dumps(figures), flush=True)


def flop_per_image(spec):
    """Return the FLOPs of the matrix products of one image's training step, as the project takes it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from vitcnn.models import create_model
    from vitcnn.models.dropout import Masks, use_masks

    size, trained = spec["dataset"]["image_size"], create_model(spec).train()
    use_masks(trained, Masks(0, torch.device("cpu")))
    with FlopCounterMode(display=False) as count:
        trained(torch.randn(2, 3, size, size)).sum().backward()
    return count.get_total_flops() / 2


def matrix_flop_per_second(precision, device):
    """Return the rate of a large product, in FLOP/s: on a CPU one of the size of a batch's, in the cache."""
    import torch

    on_gpu = device.type == "cuda"
    rows, inner, columns, each, turns = (8192, 8192, 8192, 4, 5) if on_gpu else (8320, 128, 512, 1, 50)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(rows, inner, device=device, dtype=dtype)
    b = torch.randn(inner, columns, device=device, dtype=dtype)
    times = []
    for _ in range(turns):
        start = time.perf_counter()
        for _ in range(each):
            a @ b
        if on_gpu:
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / each)
    if on_gpu:
        del a, b
        torch.cuda.empty_cache()  # else it counts as held by what is measured next
    return 2 * rows * inner * columns / statistics.median(times[len(times) // 5 :])


def compare(spec, device, repetitions, count):
    """Return the figures of both sides of one run's model."""
    model, dataset, precision = spec["model"]["name"], spec["dataset"]["name"], spec["precision"]
    command = [sys.executable, __file__, "--serve"]
    counts = {"plain": min(count, PLAIN), "ours": count}
    # No pipes, which would fill up unread. They are gone with their last reference.
    said = {side: tempfile.TemporaryFile("w+") for side in counts}  # noqa: SIM115
    sides = {
        side: subprocess.Popen(
            [*command, side, json.dumps(spec), device, str(images)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said[side],
            text=True,
        )
        for side, images in counts.items()
    }

    def answer(side):
        if line := sides[side].stdout.readline():
            return json.loads(line)
        status = sides[side].wait()
        for process in sides.values():  # the other one waits for its turn
            process.kill()
        said[side].seek(0)
        raise RuntimeError(f"{side} ended with status {status}: {said[side].read()[-2000:]}")

    def one_pass(side):
        sides[side].stdin.write("go\n")
        sides[side].stdin.flush()
        return answer(side)

    setup = {side: answer(side)["setup_seconds"] for side in sides}
    first = {side: one_pass(side)["seconds"] for side in sides}  # with whatever is compiled or loaded lazily
    passes = [{side: one_pass(side) for side in sides} for _ in range(repetitions)]
    for process in sides.values():
        process.stdin.close()
        process.wait()
    speeds = {side: [counts[side] / turn[side]["seconds"] for turn in passes] for side in sides}
    ratios = [ours / plain for ours, plain in zip(speeds["ours"], speeds["plain"], strict=True)]
    flops = flop_per_image(spec)
    rates = [turn["ours"]["matrix_rate"] for turn in passes]
    fractions = [speed * flops / rate for speed, rate in zip(speeds["ours"], rates, strict=True)]
    figures = {
        "model": model,
        "dataset": dataset,
        "precision": precision,
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "images_per_second": {side: [round(s, 1) for s in speed] for side, speed in speeds.items()},
        "setup_seconds": setup,
        "first_pass_extra_seconds": {
            side: first[side] - counts[side] / statistics.median(speeds[side]) for side in sides
        },
        "peak_bytes": {side: passes[-1][side]["peak_bytes"] for side in sides},
        "peak_gpu_bytes": {side: passes[-1][side]["peak_gpu_bytes"] for side in sides},
        "flop_per_image": flops,
        "matrix_flop_per_second": [round(rate) for rate in rates],
        "fraction_of_floor": statistics.median(fractions),
    }
    print(
        f"{model:10s} {dataset:11s} {precision}: plain {statistics.median(speeds['plain']):7.1f}, "
        f"ours {statistics.median(speeds['ours']):7.1f} images/s, "
        f"{figures['ratio']['median']:.2f}x ({min(ratios):.2f} to {max(ratios):.2f}); "
        f"{100 * min(fractions):.0f} to {100 * max(fractions):.0f} % of the floor "
        f"({statistics.median(rates) / 1e9:.0f} GFLOP/s)",
        flush=True,
    )
    return figures


def main():
    if sys.argv[1:2] == ["--serve"]:
        side, spec, device, count = sys.argv[2:]
        serve(side, json.loads(spec), device, int(count))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=list(IMAGES), default=list(IMAGES))
    parser.add_argument("--datasets", nargs="+", default=["cifar10"])
    parser.add_argument("--precision", nargs="+", choices=["fp32", "bf16"], default=["bf16", "fp32"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--images", type=int, help="in one pass (default: by model)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    from vitcnn.training.devices import select_device

    on_gpu = select_device(args.device).type == "cuda"
    counts = {model: args.images or (EPOCH if on_gpu else IMAGES[model]) for model in args.models}
    results = [
        compare(spec_of(model, dataset, precision), args.device, args.repetitions, counts[model])
        for dataset in args.datasets
        for model in args.models
        for precision in args.precision
    ]
    if args.out:
        write_figures(args.out, {"results": results}, args.device)


if __name__ == "__main__":
    main()
