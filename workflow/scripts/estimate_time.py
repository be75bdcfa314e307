"""Estimate how long training takes on this device, by timing a few steps of each model.

python workflow/scripts/estimate_time.py              every run of config.yaml
python workflow/scripts/estimate_time.py --runs cifar10/vit/adam10/nall/seed0
"""

import os
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn import plan
from vitcnn.cli import argument_parser, run
from vitcnn.config import load_config
from vitcnn.training.devices import has_gpu
from vitcnn.training.workload import image_passes, known_images

RESOURCES = Path("resources")
# Images, trained on and predicted, that take longer than a calibration does: of a GPU they are more.
WORTH_MEASURING = {False: 250_000, True: 2_000_000}

parser = argument_parser(__doc__)
parser.add_argument("--config", type=Path, default=Path("config.yaml"), help="default: config.yaml")
parser.add_argument(
    "--runs", nargs="+", metavar="NAME", help="default: all; - reads names from standard input"
)
parser.add_argument(
    "--jobs",
    type=int,
    help="how many are trained at a time (default: as many as the cores allow; on a GPU, one)",
)


def main(args):
    started = time.perf_counter()
    config = load_config(args.config)
    names = sys.stdin.read().split() if args.runs == ["-"] else args.runs
    runs = [plan.Run.parse(name) for name in names] if names else plan.all_runs(config)
    images = sum(sum(image_passes(config, run, RESOURCES)) for run in runs)
    if images < WORTH_MEASURING[has_gpu(config["device"])]:
        print(f"To be trained: {len(runs)} run(s), {images:,} images in all; this takes minutes.")
        return
    import torch  # only now: it takes longer than the sum above

    from vitcnn.training import devices, estimate

    device = devices.select_device(config["device"])
    torch.set_num_threads(config["threads"])
    torch.zeros((), device=device)  # a GPU wakes up
    start = time.perf_counter() - started  # each job does the same before its first step
    jobs = args.jobs or (max(1, os.cpu_count() // config["threads"]) if device.type == "cpu" else 1)
    seconds = estimate.estimate_seconds(config, runs, RESOURCES, device, start)
    absent = [name for name in plan.datasets_of(runs) if not known_images(config, name, RESOURCES)]
    if absent:
        print(f"Not prepared yet, so their size is assumed: {', '.join(absent)}.")
    print(estimate.in_words(config, seconds, device, jobs, time.perf_counter() - started))


if __name__ == "__main__":
    run(main, parser)
