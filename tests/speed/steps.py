"""What each step of the way to this speed is worth: training with that step taken back, beside training as it is.

  python tests/speed/steps.py [--repetitions 5] [--out FILE]

All variants of a model are in one process and take turns. A share of 0.8 means that without the step
training reaches 0.8 of its speed.
"""

import argparse
import contextlib
import os
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from machine import write_figures
from training import IMAGES, ROOT, draw, spec_of

sys.path.insert(0, str(ROOT / "workflow"))

from vitcnn.models.dropout import Dropout, use_masks
from vitcnn.models.vit import Block
from vitcnn.training import trainer
from vitcnn.training.devices import select_precision

CPU = torch.device("cpu")
unscaled, block = Dropout.unscaled, Block.forward


def scale_at_once(self, x):
    x, scale = unscaled(self, x)
    return x * scale, 1.0


def all_tokens(self, x, queries=None):
    return block(self, x)[:, :queries]


# What is replaced to take a step back.
STEPS = {
    "dropout from 16-bit words": lambda: mock.patch.object(trainer, "use_masks", lambda model, _: use_masks(model, None)),
    "dropout's factor 1/(1−p) on the smaller tensor": lambda: mock.patch.object(Dropout, "unscaled", scale_at_once),
    "the last block for the class token alone": lambda: mock.patch.object(Block, "forward", all_tokens),
    "channels-last": lambda: mock.patch.object(trainer, "safe_memory_format", lambda *_: torch.contiguous_format),
    "bf16": contextlib.nullcontext,
}  # fmt: skip
OF = {"vit": [step for step in STEPS if step != "channels-last"], "cnn": ["channels-last", "bf16"]}


def make(spec, data, step=None):
    """Make a trainer without `step`; return a function that trains a pass and returns its seconds."""
    without = STEPS.get(step, contextlib.nullcontext)
    precision = "fp32" if step == "bf16" else select_precision("auto", CPU)
    with without():
        training = trainer.Trainer(spec, {"train": data}, CPU, precision)

    def one_pass():
        with without():
            began = time.perf_counter()
            training.train_epoch()
            return time.perf_counter() - began

    one_pass()
    return one_pass


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    results = []
    for model, steps in OF.items():
        spec, count = spec_of(model, "cifar10", "auto"), IMAGES[model]
        images, labels = draw(spec, count)
        data = trainer.Images.load(images.transpose(0, 3, 1, 2).copy(), labels, np.arange(count), CPU)
        variants = {step: make(spec, data, step) for step in (None, *steps)}
        turns = [{step: one_pass() for step, one_pass in variants.items()} for _ in range(args.repetitions)]
        for step in steps:
            shares = [turn[None] / turn[step] for turn in turns]
            share = {"median": statistics.median(shares), "min": min(shares), "max": max(shares)}
            results.append({"model": model, "without": step, "share": share})
            print(
                f"{model} without {step}: {share['median']:.2f} ({share['min']:.2f} to {share['max']:.2f})",
                flush=True,
            )
    if args.out:
        write_figures(args.out, {"results": results})


if __name__ == "__main__":
    main()
