"""All that has to be seen on a GPU, on a machine that need not have more than torch, torchvision and safetensors.

  python tests/speed/gpu.py specs SPECS                        where the project is installed: the runs as JSON
  python tests/speed/gpu.py correctness SPECS --out FILE       on the GPU: the same bytes, each way
  python tests/speed/gpu.py speed SPECS --out FILE [--resources FOLDER] [--seeds 5] [--seconds 480]

`correctness` compares steps replayed from a graph with eager ones, a resumed training with an uninterrupted one,
several seeds in one process with each alone, and the first step in fp32 with the CPU's. `speed` measures whole runs
with the start of their processes, one after the other, together, and with several seeds together; each model beside the
notebooks' plain way; and several seeds in one process. The runs train on what is packed in FOLDER/{dataset}/packed, else on
drawn images. The file is written after each part, with the traceback of one that failed; after so many seconds no
further part is begun, and whole runs that are under way are ended. The same command again measures the parts that the
file does not have yet.
"""

import argparse
import copy
import json
import math
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from machine import write_figures
from training import EPOCH, RECIPES, compare, draw

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

STEPS = 12  # past the capture
IN_TURN = 10_000  # images of each of several trainers in one process
FIRST_LOSS = 1e-5  # the relative difference to the CPU's that passes
# Rounding moves some inputs of ReLUs across 0: between two of a CPU's own kernels the CNN's gradients differ by 1 %,
# those of a model without ReLUs by 0.0002 %. A wrong backward pass is off by about as much as there is.
FIRST_GRADIENTS = 0.05


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
    """Return the largest difference of two trainers' weights, relative to the largest weight.

    0 for the same bytes, infinity where a difference is no number.
    """
    import torch

    found = 0.0
    for name, value in trainer.model.state_dict().items():
        there = other.model.state_dict()[name].to(value.device)
        if not torch.equal(value, there):
            scale = value.abs().max().item() or 1.0
            apart = (value.double() - there.double()).abs().max().item() / scale
            found = max(found, apart if math.isfinite(apart) else math.inf)
    return found


def in_turn(trainers, steps):
    """Train each of the trainers so many steps, a step of one after a step of the other, each on its stream."""
    from vitcnn.training.devices import synchronize

    batches = trainers[0]._batches("train")
    for trainer in trainers:
        trainer.model.train()
        synchronize(trainer.device)  # the batches were made on another stream
    for _ in range(steps):
        for trainer in trainers:
            with trainer.stream:
                place = trainer.updates % len(batches)
                if place == 0:
                    trainer._draw_pass()
                trainer.figures.append(trainer.steps["train"](batches[place]))
                trainer.updates += 1
    synchronize(trainers[0].device)


def correctness(spec, device, precision, count):
    """Return how far apart ways to train a model are that should give the same bytes, and whether all `holds`.

    Gradients are compared by parameter, the norm of the difference beside that of the CPU's; the largest counts.
    """
    import torch

    captured, eager, resumed = (
        create(spec, device, precision, count, graphs) for graphs in ("auto", "off", "auto")
    )
    captured.train(STEPS)
    eager.train(STEPS)
    resumed.train(STEPS // 2)
    state, again = copy.deepcopy(resumed.get_state()), create(spec, device, precision, count)
    again.set_state(state)
    again.train(STEPS - STEPS // 2)
    several = [create(spec, device, precision, count, seed=seed) for seed in range(3)]
    in_turn(several, STEPS)
    alone = create(spec, device, precision, count, seed=2)
    in_turn([alone], STEPS)
    predicted = [trainer.predict("test") for trainer in (captured, eager)]
    row = {
        "graph_against_eager": differences(captured, eager),
        "predicted_by_graph_as_eagerly": torch.equal(*predicted),
        "captured": [name for name, step in captured.steps.items() if getattr(step, "replay", None)],
        "graphs": captured.graphs,
        "resumed_against_uninterrupted": differences(captured, again),
        "several_seeds_against_alone": differences(several[2], alone),
    }
    if precision == "fp32":
        # Without dropout, whose masks a GPU draws from another generator.
        dropout = {key: 0.0 for key in spec["model"] if "dropout" in key}
        without = spec | {"model": spec["model"] | dropout}
        steps = [create(without, d, "fp32", count, "off") for d in (device, torch.device("cpu"))]
        losses = [trainer.train(1)[0] for trainer in steps]
        row["first_loss_against_cpu"] = abs(losses[0] - losses[1]) / abs(losses[1])
        gradients = [[p.grad.cpu().double() for p in trainer.model.parameters()] for trainer in steps]
        apart = [(ours - cpus).norm() / cpus.norm() for ours, cpus in zip(*gradients, strict=True)]
        row["first_gradients_against_cpu"] = torch.stack(apart).max().item()
    same_bytes = ("graph_against_eager", "resumed_against_uninterrupted", "several_seeds_against_alone")
    row["holds"] = (
        not any(row[name] for name in same_bytes)
        and row["predicted_by_graph_as_eagerly"]
        and row["graphs"] in ("captured", None)  # a CPU has none
        and row.get("first_loss_against_cpu", 0) < FIRST_LOSS
        and row.get("first_gradients_against_cpu", 0) < FIRST_GRADIENTS
    )
    return row


def together(spec, device, count):
    """Return images a second of so many seeds trained in turn in one process, all of them counted.

    `replays` are those of one seed's graph alone, launched again and again: what the launches allow.
    """
    found = {}
    for trainers in (1, 2, 5):
        made = [create(spec, device, spec["precision"], count, seed=seed) for seed in range(trainers)]
        steps = len(made[0]._batches("train"))
        in_turn(made, steps)
        started = time.perf_counter()
        in_turn(made, steps)
        found[trainers] = trainers * count / (time.perf_counter() - started)
    step = made[0].steps["train"]
    if getattr(step, "replay", None):
        started = time.perf_counter()
        with made[0].stream:
            for _ in range(steps):
                step.replay()
            made[0].optimizer.lr.item()  # waits for them
        found["replays"] = steps * step.size / (time.perf_counter() - started)
    return found


def packed(folder, spec, count):
    """Write a packed dataset of `count` drawn training images, twice as many of 64 pixels, as Tiny ImageNet has."""
    classes, large = spec["dataset"]["num_classes"], spec["dataset"]["image_size"] == 64
    counts, files = {}, {}
    folder.mkdir(parents=True)
    for split, images in (("train", count * (1 + large)), ("test", max(count // 5, classes))):
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


def data_of(spec, resources, count, out):
    """Return the packed dataset of a run: from the folder `resources` where it is there, else of drawn images."""
    name = spec["dataset"]["name"]
    there = resources / name / "packed" if resources else None
    if there and (there / "manifest.json").exists():
        return there
    drawn = out / "data" / name
    return drawn if drawn.exists() else packed(drawn, spec, count)


def whole_runs(runs, device, data, out, at_once, end):
    """Return the seconds of runs, starts included, `at_once` of them at a time, and what each left by the time `end`."""
    out.mkdir()

    def train(number):
        spec, folder = runs[number], out / str(number)
        command = [
            sys.executable,
            ROOT / "workflow/scripts/train.py",
            "--settings",
            json.dumps({"spec": spec}),
        ]
        command += ["--data", data[spec["dataset"]["name"]], "--out", folder, "--device", device.type]
        command += ["--jobs-per-gpu", at_once, "--log", out / f"{number}.log"]
        left = end - time.perf_counter()
        try:
            done = subprocess.run(
                [str(word) for word in command], capture_output=True, text=True, timeout=left
            )
        except subprocess.TimeoutExpired:
            return {"failed": "not finished in time"}
        if done.returncode:
            return {"failed": done.stderr[-2000:]}
        return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "runtime")}

    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        left = list(pool.map(train, range(len(runs))))
    images = {name: "packed" if folder.name == "packed" else "drawn" for name, folder in data.items()}
    return {"seconds": time.perf_counter() - started, "images": images, "runs": left}


def places(device):
    """Return how many runs the device has memory for at a time: one on Tiny ImageNet takes 3 GB and its context."""
    import torch

    return max(1, torch.cuda.mem_get_info()[1] // 2**32) if device.type == "cuda" else sys.maxsize


def parts_of_correctness(specs, device, count):
    """Yield each part's name and the function that measures it: every model in both precisions."""
    for name, spec in specs["models"].items():
        for precision in ("fp32", "bf16"):
            yield f"{name}, {precision}", partial(correctness, spec, device, precision, count)


def parts_of_speed(specs, device, args, out):
    """Yield each part's name and the function that measures it, what matters most first."""
    from vitcnn.training.devices import select_precision

    end = time.perf_counter() + args.seconds
    data = {
        spec["dataset"]["name"]: data_of(spec, args.resources, args.images, out) for spec in specs["runs"]
    }
    runs = [spec | {"seed": seed} for seed in range(args.seeds) for spec in specs["runs"]]
    six = len(specs["runs"])
    yield "in sequence", partial(whole_runs, runs[:six], device, data, out / "in_sequence", 1, end)
    yield "together", partial(whole_runs, runs[:six], device, data, out / "together", six, end)
    precision = select_precision("auto", device)
    models = {name: spec | {"precision": precision} for name, spec in specs["models"].items()}
    for name, spec in models.items():
        yield f"{name} beside the plain way", partial(compare, spec, device.type, 3, args.images)
    for name, spec in models.items():
        yield f"{name}, seeds in one process", partial(together, spec, device, min(args.images, IN_TURN))
    if args.seeds > 1:
        at_once = min(len(runs), places(device))
        yield (
            f"{args.seeds} seeds together",
            partial(whole_runs, runs, device, data, out / "seeds", at_once, end),
        )


def has_failed(figures):
    """Return whether a part, or a run of it, failed, or ways that should agree do not."""
    return "failed" in json.dumps(figures) or figures.get("holds") is False


def measure(parts, out, device, seconds):
    """Measure part after part, and write what there is after each; return the names of those that failed.

    Parts that the file has already are not measured again. Those that failed come last: one that takes all the time
    keeps no other from being measured.
    """
    started, parts, failed = time.perf_counter(), list(parts), []
    before = json.loads(out.read_text())["parts"] if out.exists() else {}
    figures = {name: before[name] for name, _ in parts if name in before}
    for name, part in sorted(parts, key=lambda part: has_failed(figures.get(part[0], {}))):
        if name in figures and not has_failed(figures[name]) and "left_out" not in figures[name]:
            continue
        if time.perf_counter() - started > seconds:
            figures.setdefault(name, {"left_out": f"after {seconds} s"})
        else:
            try:
                # JSON has no infinity, which a failed comparison may be.
                figures[name] = json.loads(json.dumps(part()), parse_constant=str)
            except Exception:  # of one part, where the others still tell something
                figures[name] = {"failed": traceback.format_exc()}
        failed += [name] * has_failed(figures[name])
        print(name, {key: value for key, value in figures[name].items() if key != "runs"}, flush=True)
        write_figures(out, {"parts": figures}, device)
    return failed


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
    parser.add_argument("--seeds", type=int, default=1, help="of the runs trained together")
    parser.add_argument("--seconds", type=int, default=480, help="after which no part is begun")
    args = parser.parse_args()
    if args.what == "specs":
        write_specs(args.specs)
        return
    if not args.out:
        parser.error(f"{args.what} needs --out")
    if args.resources and not args.resources.is_dir():
        parser.error(f"--resources {args.resources}: there is no such folder")

    from vitcnn.training.devices import select_device

    device, specs = select_device(args.device), json.loads(args.specs.read_text())
    with tempfile.TemporaryDirectory() as out:
        if args.what == "correctness":
            parts = parts_of_correctness(specs, device, min(args.images, 1000))
        else:
            parts = parts_of_speed(specs, device, args, Path(out))
        failed = measure(parts, args.out, args.device, args.seconds)
    sys.exit(f"failed: {'; '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
