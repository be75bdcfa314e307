"""Whether bf16 trains as well as fp32, and this project's loop as well as the notebooks' plain one, over seeds.

  python tests/speed/equivalence.py PACKED [--arms fp32 bf16] [--models simple_vit simple_cnn] [--seeds 8]
      [--first-seed 0] [--train-size 5000] [--epochs N] [--out FILE]

PACKED is a packed dataset of real images (`resources/cifar10/packed`). The arms are this project's entry point
in `fp32` and `bf16`, and `plain`, the notebooks' loop of plain.py; on a processor without bf16 instructions, bf16
is rounded.py's. Each arm is compared with those named before it: the differences of each epoch's training loss
and of the final test accuracy, with intervals.
Two arms are equivalent where two one-sided t tests of the accuracies (Schuirmann 1987, doi 10.1007/BF01068419)
reject a difference of a point or more at 5 %. The project's own arms share initial weights, order, augmentation
and dropout masks by seed, so their tests are paired; those against `plain` are Welch's. With --out, what has
been measured of the other models stays in the file, and what an interrupted start left is not trained again.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from machine import write_figures
from scipy import stats

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

from vitcnn.config import load_config
from vitcnn.files import read_json
from vitcnn.plan import Run, run_spec
from vitcnn.training.devices import select_device, select_precision

MARGIN = 1.0  # points of accuracy
RECIPES = {"vit": "adam10", "cnn": "adam10", "simple_vit": "adamw10", "simple_cnn": "adamw10"}


def train(data, folder, model, arm, seed, train_size, epochs, rounded):
    """Train one run with one thread, unless it is there; return its history."""
    config = load_config(ROOT / "config.yaml") | {"precision": "fp32" if arm == "plain" else arm}
    dataset = read_json(data / "manifest.json")["dataset"]
    spec = run_spec(config, Run(dataset, model, RECIPES[model], train_size, seed))
    if epochs:
        spec["recipe"]["epochs"] = epochs
    out = folder / f"{dataset}-{model}-{arm}-{train_size}-{spec['recipe']['epochs']}-{seed}"
    if arm == "plain":
        out.mkdir(exist_ok=True)
        command = [ROOT / "tests/speed/plain.py", data, "--spec", json.dumps(spec)]
        command += ["--out", out / "metrics.json"]
    else:
        entry = "tests/speed/rounded.py" if rounded and arm == "bf16" else "workflow/scripts/train.py"
        command = [ROOT / entry, "--settings", json.dumps({"spec": spec})]
        command += ["--data", data, "--out", out, "--threads", "1", "--log", folder / f"{out.name}.log"]
    if arm != "plain" or not (out / "metrics.json").exists():
        subprocess.run([sys.executable, *command], check=True)
    return read_json(out / "metrics.json")["history"]


def compare(before, after, paired):
    """Return the figures of two arms: `after` minus `before`, each losses by epoch and an accuracy for each seed."""
    test = stats.ttest_rel if paired else partial(stats.ttest_ind, equal_var=False)

    def difference(a, b, confidence):
        low, high = test(a, b).confidence_interval(confidence)
        return {"difference": statistics.mean(a) - statistics.mean(b), "interval": [low, high]}

    a, b = after["accuracy"], before["accuracy"]
    sides = ((MARGIN, "greater"), (-MARGIN, "less"))
    p = max(test([x + margin for x in a], b, alternative=side).pvalue for margin, side in sides)
    losses = zip(zip(*after["loss"], strict=True), zip(*before["loss"], strict=True), strict=True)
    return {
        "loss": [difference(*of_epoch, 0.95) for of_epoch in losses],
        "accuracy": difference(a, b, 0.90),
        "paired": paired,
        "p": p,
        "equivalent": bool(p < 0.05),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a packed dataset")
    parser.add_argument(
        "--arms", nargs="+", choices=["plain", "fp32", "bf16", "fp16"], default=["fp32", "bf16"]
    )
    parser.add_argument("--models", nargs="+", choices=list(RECIPES), default=["simple_vit", "simple_cnn"])
    parser.add_argument("--seeds", type=int, default=8, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, help="those before it are taken from --out")
    parser.add_argument("--train-size", type=lambda n: n if n == "all" else int(n), default=5000)
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--work", type=Path, default=Path("equivalence"), help="where the runs are kept")
    parser.add_argument("--out", type=Path, help="JSON file to write or to add to")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    products = "native" if select_precision("auto", select_device("cpu")) == "bf16" else "rounded"
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    jobs = list(itertools.product(args.models, seeds, args.arms))
    given = {"train_size": args.train_size, "epochs": args.epochs, "rounded": products == "rounded"}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        train_job = partial(train, args.data, args.work, **given)
        histories = dict(
            zip(jobs, pool.map(lambda job: train_job(job[0], job[2], job[1]), jobs), strict=True)
        )
    dataset = read_json(args.data / "manifest.json")["dataset"]
    results = read_json(args.out)["results"] if args.out and args.out.exists() else []
    for model in args.models:
        epochs = len(histories[model, seeds[0], args.arms[0]])
        what = {"dataset": dataset, "model": model, "train_size": args.train_size, "epochs": epochs}
        former = next((old for old in results if what.items() <= old.items()), {"arms": {}})
        arms = {}
        for arm in args.arms:
            found = [histories[model, seed, arm] for seed in seeds]
            arms[arm] = {
                "loss": [[epoch["train_loss"] for epoch in history] for history in found],
                "accuracy": [history[-1]["test_accuracy"] for history in found],
                **({"products": [products] * args.seeds} if arm == "bf16" else {}),
            }
            if args.first_seed:
                before = former["arms"][arm]
                arms[arm] = {key: before[key][: args.first_seed] + new for key, new in arms[arm].items()}
        arms = (former["arms"] | arms) if args.first_seed else arms
        compared = {
            f"{after} minus {before}": compare(arms[before], arms[after], paired=before != "plain")
            for before, after in itertools.combinations(arms, 2)
        }
        result = {**what, "arms": arms, "compared": compared}
        results = [old for old in results if old is not former] + [result]
        for name, found in compared.items():
            low, high = found["accuracy"]["interval"]
            print(
                f"{model}: {name} {found['accuracy']['difference']:+.2f} points (90 % interval {low:+.2f} to "
                f"{high:+.2f}), {args.first_seed + args.seeds} seeds, p = {found['p']:.4f}: "
                f"equivalence within ±1 {'' if found['equivalent'] else 'not '}shown",
                flush=True,
            )
    if args.out:
        write_figures(args.out, {"results": results}, "auto")


if __name__ == "__main__":
    main()
