"""How much of the first notebook's inference time is its data pipeline.

  python tests/speed/inference.py [--models vit cnn] [--repetitions 5] [--out FILE]

The notebook's clock runs through a DataLoader without workers: PIL images, ToTensor, Normalize, batches of 128, and
the model in fp32. Here the loader alone, the model alone on batches that are ready, and the whole pass take turns on the
same images of CIFAR-10's size, so that a busy moment of the machine falls on all. All on one thread.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

from machine import write_figures
from plain import Plain
from training import draw, spec_of

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

IMAGES = 1280


def measure(model, repetitions):
    """Return the milliseconds of an image, turn by turn, and which share of a pass its pipeline is."""
    import torch

    spec = spec_of(model, "cifar10", "fp32")
    images, labels = draw(spec, IMAGES)
    plain = Plain(spec, images, labels, torch.device("cpu"))
    plain.model.eval()
    loader = plain.load(images, labels, plain.scale, shuffle=False)
    ready = [batch for batch, _ in loader]

    def pipeline():
        for _ in loader:
            pass

    def predict(batches):
        for batch in batches:
            plain.model(batch).argmax(1)

    turns = {
        "pipeline": pipeline,
        "model": lambda: predict(ready),
        "pass": lambda: predict(batch for batch, _ in loader),
    }
    seconds = {name: [] for name in turns}
    with torch.no_grad():
        for _ in range(1 + repetitions):
            for name, turn in turns.items():
                start = time.perf_counter()
                turn()
                seconds[name].append(time.perf_counter() - start)
    times = {name: [1000 * one / IMAGES for one in taken[1:]] for name, taken in seconds.items()}
    shares = [one / whole for one, whole in zip(times["pipeline"], times["pass"], strict=True)]
    share = {"median": statistics.median(shares), "min": min(shares), "max": max(shares)}
    print(model, {name: f"{statistics.median(taken):.3f} ms" for name, taken in times.items()}, share)
    return {"model": model, "ms_per_image": times, "pipeline_share": share}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["vit", "cnn"])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    write_figures(args.out, {"results": [measure(model, args.repetitions) for model in args.models]})


if __name__ == "__main__":
    main()
