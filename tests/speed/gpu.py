"""All that has to be seen on a GPU, on a machine that need not have more than torch, torchvision and safetensors.

  python tests/speed/gpu.py specs SPECS                        where the project is installed: the runs as JSON
  python tests/speed/gpu.py correctness SPECS --out FILE       on the GPU: the same bytes, each way
  python tests/speed/gpu.py speed SPECS --out FILE [--resources FOLDER] [--seeds 1]

`correctness` compares steps replayed from a graph with eager ones, a resumed training with an uninterrupted one,
several seeds in one process with each alone, and the first step in fp32 with the CPU's. `speed` measures each model
beside the notebooks' plain way, several seeds in one process, and whole runs with the start of their processes, one
after the other and together. The runs train on what is packed in FOLDER/{dataset}/packed, else on drawn images.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from machine import write_figures
from training import EPOCH, RECIPES, compare, draw

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

STEPS = 12  # past the capture


def write_specs(path):
    """Write the specs of each model's run on CIFAR-10 and of the six runs of the comparison."""
    from vitcnn.config import load_config
    from vitcnn.plan import Run, experiment_runs, run_spec

    config = load_config(ROOT / "config.yaml")
    models = {name: run_spec(config, Run("cifar10", name, RECIPES[name], "all", 0)) for name in RECIPES}
    runs = [run_spec(config, run) for run in experiment_runs(config | {"seeds": [0]}, "comparison")]
    path.write_text(json.dumps({"models": models, "runs": runs}))


def create(spec, device, precision, count, graphs="auto", seed=0):
    """Return a trainer of drawn images; those of all seeds are the same."""
    from vitcnn.training.trainer import Images, Trainer

    pixels, labels = draw(spec, count)
    images = Images.load(pixels.transpose(0, 3, 1, 2).copy(), labels, np.arange(count), device)
    return Trainer(spec | {"seed": seed}, {"train": images, "test": images}, device, precision, graphs)


def differences(trainer, other):
    """Return the largest difference of two trainers' weights, relative to the largest weight; 0 for the same bytes."""
    import torch

    found = 0.0
    for name, value in trainer.model.state_dict().items():
        there = other.model.state_dict()[name].to(value.device)
        if not torch.equal(value, there):
            scale = value.abs().max().item() or 1.0
            found = max(found, (value.double() - there.double()).abs().max().item() / scale)
    return found


def in_turn(trainers, steps):
    """Train each of the trainers so many steps, a step of one after a step of the other, each on its stream."""
    import torch

    batches = trainers[0]._batches("train")
    for trainer in trainers:
        trainer.model.train()
    for _ in range(steps):
        for trainer in trainers:
            with trainer.stream:
                place = trainer.updates % len(batches)
                if place == 0:
                    trainer._draw_pass()
                trainer.figures.append(trainer.steps["train"](batches[place]))
                trainer.updates += 1
    if trainers[0].device.type == "cuda":
        torch.cuda.synchronize()


def correctness(specs, device, count):
    """Return for each model and precision how far apart ways are that should give the same bytes."""
    import torch

    found = []
    for (name, spec), precision in ((m, p) for m in specs["models"].items() for p in ("fp32", "bf16")):
        captured, eager, resumed = (
            create(spec, device, precision, count, graphs) for graphs in ("auto", "off", "auto")
        )
        captured.train(STEPS)
        eager.train(STEPS)
        resumed.train(STEPS // 2)
        figures, again = copy.deepcopy(resumed.get_state()), create(spec, device, precision, count)
        again.set_state(figures)
        again.train(STEPS - STEPS // 2)
        several = [create(spec, device, precision, count, seed=seed) for seed in range(3)]
        in_turn(several, STEPS)
        alone = create(spec, device, precision, count, seed=2)
        in_turn([alone], STEPS)
        row = {
            "model": name,
            "precision": precision,
            "graphs": captured.graphs,
            "graph_against_eager": differences(captured, eager),
            "resumed_against_uninterrupted": differences(captured, again),
            "several_seeds_against_alone": differences(several[2], alone),
        }
        if precision == "fp32":
            steps = [create(spec, d, "fp32", count, "off") for d in (device, torch.device("cpu"))]
            losses = [trainer.train(1)[0] for trainer in steps]
            row["first_loss_against_cpu"] = abs(losses[0] - losses[1]) / abs(losses[1])
        found.append(row)
        print(row, flush=True)
    return {"correctness": found}


def together(spec, device, count, trainers):
    """Return images a second of so many seeds trained in turn in one process, all of them counted."""
    made = [create(spec, device, spec["precision"], count, seed=seed) for seed in range(trainers)]
    steps = len(made[0]._batches("train"))
    in_turn(made, steps)
    started = time.perf_counter()
    in_turn(made, steps)
    return trainers * count / (time.perf_counter() - started)


def packed(folder, spec, count):
    """Write a packed dataset of drawn images."""
    classes = spec["dataset"]["num_classes"]
    counts, files = {}, {}
    folder.mkdir(parents=True)
    for split, images in (("train", count), ("test", max(count // 5, classes))):
        pixels, labels = draw(spec, images)
        files |= {
            f"{split}_images.npy": pixels.transpose(0, 3, 1, 2).copy(),
            f"{split}_labels.npy": labels.astype(np.int64),
        }
        counts[split] = {"images": len(labels), "damaged": 0, "in_train": 0}
    files["hold_out.npy"] = np.zeros(len(files["train_labels.npy"]), dtype=bool)
    for name, array in files.items():
        np.save(folder / name, array)
    manifest = {"version": 1, "dataset": spec["dataset"]["name"], "classes": [{}] * classes}
    manifest |= {"counts": counts, "sha256": dict.fromkeys(files, "")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def whole_runs(specs, device, resources, seeds, count, out):
    """Return the seconds of the comparison's runs, starts included, one after the other and together, and metrics."""
    data = {}
    for spec in specs["runs"]:
        name = spec["dataset"]["name"]
        there = resources / name / "packed" if resources else None
        data[name] = there or data.get(name) or packed(out / "data" / name, spec, count)
    runs = [spec | {"seed": seed} for seed in range(seeds) for spec in specs["runs"]]

    def train(place, spec):
        folder = out / place / spec["dataset"]["name"] / spec["model"]["name"] / str(spec["seed"])
        command = [
            sys.executable,
            ROOT / "workflow/scripts/train.py",
            "--settings",
            json.dumps({"spec": spec}),
        ]
        command += ["--data", data[spec["dataset"]["name"]], "--out", folder, "--device", device.type]
        subprocess.run(
            [*map(str, command), "--jobs-per-gpu", str(len(runs)), "--log", f"{folder}.log"], check=True
        )
        return json.loads((folder / "metrics.json").read_text()), json.loads(
            (folder / "runtime.json").read_text()
        )

    seconds = {}
    started = time.perf_counter()
    for spec in specs["runs"]:
        train("in_sequence", spec)
    seconds["six_in_sequence"] = time.perf_counter() - started
    started = time.perf_counter()
    with ThreadPoolExecutor(len(runs)) as pool:
        left = list(pool.map(lambda spec: train("together", spec), runs))
    seconds[f"{len(runs)}_together"] = time.perf_counter() - started
    print(seconds, flush=True)
    figures = [{"metrics": metrics, "runtime": runtime} for metrics, runtime in left]
    return {"seconds": seconds, "real_images": bool(resources), "runs": figures}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["specs", "correctness", "speed"])
    parser.add_argument("specs", type=Path, help="the file of specs")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=EPOCH, help="in an epoch of drawn images")
    parser.add_argument("--resources", type=Path, help="folder of packed datasets")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    if args.what == "specs":
        write_specs(args.specs)
        return

    from vitcnn.training.devices import select_device, select_precision

    device, specs = select_device(args.device), json.loads(args.specs.read_text())
    if args.what == "correctness":
        figures = correctness(specs, device, min(args.images, 1000))
    else:
        precision = select_precision("auto", device)
        models = [spec | {"precision": precision} for spec in specs["models"].values()]
        figures = {"training": [compare(spec, args.device, 3, args.images) for spec in models]}
        figures["seeds_in_one_process"] = {
            spec["model"]["name"]: {n: together(spec, device, args.images, n) for n in (1, 2, 5)}
            for spec in models
        }
        with tempfile.TemporaryDirectory() as out:
            figures |= whole_runs(specs, device, args.resources, args.seeds, args.images, Path(out))
    if args.out:
        write_figures(args.out, figures, args.device)


if __name__ == "__main__":
    main()
