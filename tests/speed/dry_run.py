"""How long `snakemake --dry-run` takes for studies of many runs, unfinished, finished and stale, and the audit of the
finished one, beside Snakemake's own share: `bare` is a Snakefile of nothing but the same files.

  python tests/speed/dry_run.py [--runs 100 1000 27270] [--out tests/speed/dry_run.json]

The finished study is not trained: its files are stand-ins of the real ones' size with true records,
which is all that a dry run reads. Seconds are of the whole command, Python's start included; the sizes
take turns, so that a busy moment of the machine falls on all of them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import yaml
from machine import write_figures

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

from vitcnn_hooks import study_jobs

from vitcnn.config import check_config
from vitcnn.files import write_json, write_text
from vitcnn.provenance.record import JobFiles, recording

BARE = """
rule all:
    input: "results/runs.csv"
rule collect_runs:
    input: collect("results/seed{{seed}}/{{file}}", seed=range({runs}), file=["metrics", "runtime", "provenance"])
    output: "results/runs.csv", "results/epochs.csv"
    shell: "collect {{output}}"
rule train:
    output: collect("results/seed{{{{seed}}}}/{{file}}", file=["metrics", "runtime", "weights", "predictions", "provenance"])
    shell: "train {{output}}"
"""


def study(runs):
    """Return a configuration of `runs` runs: one model, one size, that many seeds."""
    return {
        "seeds": list(range(runs)),
        "datasets": {"cifar10": {"source": ["embedded:cifar10"]}},
        "experiments": {
            "comparison": {"datasets": ["cifar10"], "models": ["cnn"]},
            "curves": None,
            "data_efficiency": None,
            "data_steps": None,
            "fair": None,
        },
        "representations": None,
        "cost": None,
    }


def finish(folder, config):
    """Write stand-ins for all that the study makes, with true records."""
    os.chdir(folder)
    metrics = "0" * 3000  # bytes of a run of ten epochs
    for job in study_jobs(ROOT / "Snakefile", config):
        outputs = [Path(output) for output in job.outputs]
        with recording(Path(job.record), job.script, job.settings) as made:
            for path in outputs:
                write_text(path, metrics)
            if job.script == "fetch_dataset":
                write_json(outputs[0], {"sha256": "0"})
                write_json(outputs[1], {"source": "embedded:cifar10", "path": "/", "failed": []})
            if job.script == "pack_dataset":
                counts = {"train": {"images": 1000}, "hold_out": {"images": 0}}
                write_json(outputs[0], {"dataset": "cifar10", "counts": counts})
            made.append(JobFiles([Path(path) for path in job.inputs], outputs))
    os.chdir(ROOT)


def measure(folder, command):
    """Return the seconds of a command, its peak memory in MiB, and how many jobs it lists."""
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command], stdout=output, stderr=subprocess.STDOUT, cwd=folder
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read()
    assert process.returncode == 0, said
    totals = [line.split()[1] for line in said.splitlines() if line.startswith("total ")]
    return seconds, usage.ru_maxrss / 1024, int(totals[0]) if totals else 0


def command_of(state, folder, config):
    """Return what is measured in a state of the study."""
    if state == "audit":
        return [ROOT / "workflow/scripts/audit.py", "--configfile", config]
    command = ["-m", "snakemake", "--dry-run", "--cores", "2", "--directory", folder]
    command += ["--snakefile", ROOT / "Snakefile"] if state != "bare" else []
    command += ["--config", 'recipes={"adam10": {"lr": 0.5}}'] if state == "stale" else []
    return command + (["--configfile", config] if state != "bare" else [])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000, 27270])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    base = yaml.safe_load((ROOT / "config.yaml").read_text())
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        folders = {}
        for runs in args.runs:
            for state in ("bare", "unfinished", "finished"):
                folder = Path(scratch, f"{state}{runs}")
                folder.mkdir()
                (folder / "config.yaml").write_text(yaml.safe_dump(study(runs)))
                folders[state, runs] = folder
            (folders["bare", runs] / "Snakefile").write_text(BARE.format(runs=runs))
            merged = base | {k: v for k, v in study(runs).items() if k != "experiments" and k != "datasets"}
            merged["datasets"]["cifar10"] |= study(runs)["datasets"]["cifar10"]
            merged["experiments"]["comparison"] |= study(runs)["experiments"]["comparison"]
            merged["experiments"] |= {n: e for n, e in study(runs)["experiments"].items() if e is None}
            merged["representations"] = merged["cost"] = None
            # In a process of its own: a command that starts from a large one counts that one's memory as its own.
            maker = get_context("spawn").Process(
                target=finish, args=(folders["finished", runs], check_config(merged))
            )
            maker.start()
            maker.join()
            assert maker.exitcode == 0
        states = ("bare", "unfinished", "finished", "stale", "audit")
        cases = [(state, runs) for runs in args.runs for state in states]
        seconds, peaks, jobs = {case: [] for case in cases}, {case: [] for case in cases}, {}
        for _ in range(args.repetitions):
            for state, runs in cases:
                folder = folders["finished" if state in ("stale", "audit") else state, runs]
                command = command_of(state, folder, folder / "config.yaml")
                taken, peak, jobs[state, runs] = measure(folder, map(str, command))
                seconds[state, runs].append(round(taken, 2))
                peaks[state, runs].append(round(peak))
        for state, runs in cases:
            results.append(
                {
                    "state": state,
                    "runs": runs,
                    "jobs": jobs[state, runs],
                    "seconds": seconds[state, runs],
                    "peak_mib": max(peaks[state, runs]),
                }
            )
            print(
                f"{runs:6d} runs, {state:10s} {jobs[state, runs]:6d} jobs  {min(seconds[state, runs]):7.2f} s"
            )
    write_figures(args.out, {"results": results})


if __name__ == "__main__":
    main()
