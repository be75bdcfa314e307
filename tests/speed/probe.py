"""How long it takes to measure what a model learned, beside 30 passes over the test images.

  python tests/speed/probe.py PACKED [--models simple_cnn simple_vit cnn vit] [--out tests/speed/probe.json]

PACKED is the folder of a packed CIFAR-10. Weights are untrained: time does not depend on them. A pass is timed
before and after each probe. Seconds are CPU time of the process, in fp32 on one thread, so that other work on the
machine counts little.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from machine import write_figures

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

from vitcnn import plan
from vitcnn.config import load_config
from vitcnn.data.augmentation import normalize
from vitcnn.data.packed import load_packed
from vitcnn.models import create_model
from vitcnn.representations.probe import probe

PASSES = 30
RECIPES = {"vit": "adam10", "cnn": "adam10", "simple_vit": "adamw20", "simple_cnn": "adamw20"}


@torch.inference_mode()
def one_pass(model, spec, images):
    """Return the CPU seconds of a pass over the images, in batches of 128."""
    scale = {k: torch.tensor(v).view(3, 1, 1) for k, v in spec["recipe"]["normalization"].items()}
    started = time.process_time()
    for batch in images.split(128):
        model(normalize(batch, **scale))
    return time.process_time() - started


def measure(model_name, packed):
    """Return the seconds of a probe and of 30 passes, and their ratio."""
    run = plan.Run("cifar10", model_name, RECIPES[model_name], plan.ALL, 0)
    spec = plan.run_spec(load_config(ROOT / "config.yaml"), run)
    torch.manual_seed(0)
    model, images = create_model(spec).eval(), torch.from_numpy(packed.test.images)
    before = one_pass(model, spec, images)
    started = time.process_time()
    probe(spec, model, packed, torch.device("cpu"))
    probed = time.process_time() - started
    passes = PASSES * (before + one_pass(model, spec, images)) / 2
    return {"probe_seconds": probed, "passes_seconds": passes, "ratio": probed / passes}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packed", type=Path)
    parser.add_argument("--models", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--out", type=Path, default=ROOT / "tests/speed/probe.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    packed, figures = load_packed(args.packed), {}
    for name in args.models:
        figures[name] = measure(name, packed)
        print(name, figures[name], flush=True)
        images = len(packed.test.images)
        write_figures(args.out, {"test_images": images, "passes": PASSES, "models": figures})


if __name__ == "__main__":
    main()
