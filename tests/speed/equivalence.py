"""Whether bf16 trains as well as fp32: two one-sided tests of the final accuracies over seeds, ±1 point.

  python tests/speed/equivalence.py PACKED [--models simple_vit simple_cnn] [--seeds 8] [--train-size 5000] [--out FILE]

PACKED is a packed dataset of real images (`resources/cifar10/packed`). Each seed is trained in both
precisions by the project's own entry point: the same initial weights, order, augmentation and dropout masks, so
the tests are paired. The precisions are equivalent where both one-sided t tests of the differences (Schuirmann
1987, doi 10.1007/BF01068419) reject one of a point or more at 5 %. The small models are the default: at 5,000
images the last epoch of the first pair's constant learning rate goes up and down by five points and more.
What is there from an interrupted start is not trained again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from machine import write_figures
from scipy import stats

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

from vitcnn.config import load_config
from vitcnn.files import read_json
from vitcnn.plan import Run, run_spec

MARGIN = 1.0  # points of accuracy
RECIPES = {"vit": "adam10", "cnn": "adam10", "simple_vit": "adamw10", "simple_cnn": "adamw10"}


def train(data, folder, model, precision, seed, train_size):
    """Train one run with one thread, unless it is there, of these settings and this code; return its metrics."""
    out = folder / f"{model}-{precision}-{seed}"
    config = load_config(ROOT / "config.yaml") | {"precision": precision}
    dataset = read_json(data / "manifest.json")["dataset"]
    spec = run_spec(config, Run(dataset, model, RECIPES[model], train_size, seed))
    command = [sys.executable, ROOT / "workflow/scripts/train.py", "--settings", json.dumps({"spec": spec})]
    command += ["--data", data, "--out", out, "--threads", "1", "--log", folder / f"{out.name}.log"]
    subprocess.run(command, check=True)
    return read_json(out / "metrics.json")


def compare(fp32, bf16):
    """Return the figures of two samples of accuracies, in pairs by seed."""
    differences = [fast - plain for fast, plain in zip(bf16, fp32, strict=True)]
    low = stats.ttest_1samp(differences, -MARGIN, alternative="greater").pvalue
    high = stats.ttest_1samp(differences, MARGIN, alternative="less").pvalue
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.90)
    return {
        "fp32": fp32,
        "bf16": bf16,
        "difference": statistics.mean(differences),
        "interval_90": [interval.low, interval.high],
        "p": max(low, high),
        "equivalent": bool(max(low, high) < 0.05),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a packed dataset")
    parser.add_argument("--models", nargs="+", choices=list(RECIPES), default=["simple_vit", "simple_cnn"])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--train-size", type=int, default=5000)
    parser.add_argument("--work", type=Path, default=Path("equivalence"), help="where the runs are kept")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    jobs = [
        (args.data, args.work, model, precision, seed, args.train_size)
        for model in args.models
        for seed in range(args.seeds)
        for precision in ("bf16", "fp32")
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        trained = list(pool.map(lambda job: train(*job), jobs))
    results = []
    for model in args.models:
        final = {
            precision: [
                metrics["accuracy"]["final"]
                for job, metrics in zip(jobs, trained, strict=True)
                if job[2:4] == (model, precision)
            ]
            for precision in ("fp32", "bf16")
        }
        found = {"model": model, "train_size": args.train_size, **compare(final["fp32"], final["bf16"])}
        results.append(found)
        low, high = found["interval_90"]
        print(
            f"{model}: bf16 minus fp32 {found['difference']:+.2f} points (90 % interval {low:+.2f} to {high:+.2f}), "
            f"{args.seeds} seeds, p = {found['p']:.4f}: {'' if found['equivalent'] else 'not '}equivalent within ±1",
            flush=True,
        )
    if args.out:
        figures = {
            "dataset": read_json(args.data / "manifest.json")["dataset"],
            "results": results,
        }
        write_figures(args.out, figures)


if __name__ == "__main__":
    main()
