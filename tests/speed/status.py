"""How long a status of many runs takes, beside how many of them are done, running and waiting.

  python tests/speed/status.py [--runs 100 1000 10000] [--out tests/speed/status.json]

The study is a stand-in: records as large as real ones, metrics of ten epochs and logs of real length. A
hundred runs are in training, a tenth of the rest waits with a log of a former attempt. Seconds are of the
whole command, Python's start included, on the clock and of the CPU; the sizes take turns.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

from machine import write_figures

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

from vitcnn import plan
from vitcnn.config import load_config
from vitcnn.files import canonical_json, digest, write_json, write_text
from vitcnn.provenance.record import fingerprint

RUNNING = 100
EPOCHS = 10


def study(runs):
    """Return a checked configuration of that many runs: each of the four models, five sizes, many seeds."""
    config = load_config(ROOT / "config.yaml")
    sizes = [1000, 5000, 10000, 25000, 50000]
    asked = {"datasets": ["cifar10"], "recipe": "adamw10", "train_sizes": sizes}
    asked |= {"models": ["simple_vit", "simple_cnn"], "seeds": list(range(runs // 10))}
    return config | {"experiments": {"data_efficiency": asked}}


def leave(config, folder):
    """Write what the study leaves while it runs."""
    os.chdir(folder)
    write_json(Path("logs/config.json"), config)
    runs = plan.all_runs(config)
    began = datetime.now() - timedelta(seconds=10 * EPOCHS)
    at = [f"{began + timedelta(seconds=10 * n):%Y-%m-%d %H:%M:%S},000" for n in range(EPOCHS)]
    epochs = [
        f"{at[n]} epoch {n} of {EPOCHS}: loss 1.2345, test accuracy 56.78 %, 9.12 s\n"
        for n in range(1, EPOCHS)
    ]
    code = fingerprint("train", {"spec": plan.run_spec(config, runs[0])})
    for number, run in enumerate(runs):
        log = f"{at[0]} {run.name} on cpu, bf16, 1 threads, attempt 1\n" + "".join(epochs)
        if number < RUNNING:
            write_text(run.folder / "provenance.lock", f"process {os.getpid()} on {platform.node()}")
        if number < RUNNING or number % 10 == 0:
            write_text(Path("logs/runs", f"{run.name}.log"), log)
            write_text(Path("logs/runs", f"{run.name}.history.log"), log)
            continue
        spec = plan.run_spec(config, run)
        epoch = {"train_loss": 1.2345678901234567, "train_accuracy": 56.789012, "val_accuracy": None}
        history = [{"epoch": n, **epoch, "test_accuracy": 56.78} for n in range(1, EPOCHS + 1)]
        write_json(run.folder / "metrics.json", {"spec": spec, "history": history})
        seconds = {"epoch_seconds": [9.0] * EPOCHS, "evaluation_seconds": [1.0] * EPOCHS}
        write_json(run.folder / "runtime.json", seconds)
        record = code | {"settings": {"spec": spec}, "inputs": {}}
        record["outputs"] = {str(run.folder / "metrics.json"): {"bytes": 3000, "sha256": digest(spec)}}
        write_json(run.folder / "provenance.json", record | {"digest": digest(canonical_json(record))})
    os.chdir(ROOT)


def children_seconds():
    """Return the CPU time of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for runs in args.runs:
            folder = Path(scratch, str(runs))
            folder.mkdir()
            leave(study(runs), folder)
        seconds, cpu_seconds = ({runs: [] for runs in args.runs} for _ in range(2))
        shown = {}
        for _ in range(args.repetitions):
            for runs in args.runs:
                command = [sys.executable, str(ROOT / "workflow/scripts/status.py")]
                start, cpu_start = time.perf_counter(), children_seconds()
                done = subprocess.run(
                    command, cwd=Path(scratch, str(runs)), capture_output=True, text=True, check=True
                )
                seconds[runs].append(round(time.perf_counter() - start, 2))
                cpu_seconds[runs].append(round(children_seconds() - cpu_start, 2))
                shown[runs] = done.stdout.splitlines()[0]
    results = [
        {"runs": runs, "says": shown[runs], "seconds": seconds[runs], "cpu_seconds": cpu_seconds[runs]}
        for runs in args.runs
    ]
    for row in results:
        wall, cpu = (statistics.median(row[key]) for key in ("seconds", "cpu_seconds"))
        print(f"{row['runs']:6d} runs {wall:6.2f} s, {cpu:5.2f} s of CPU   {row['says']}")
    write_figures(args.out, {"results": results})


if __name__ == "__main__":
    main()
