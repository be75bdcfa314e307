"""Snakemake itself killed, and two at once: a plain restart resumes, and nothing finished is repeated."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT, made_once, merge, read, said, snakemake, snakemake_command, start_snakemake

CONFIG = {
    "recipes": {"adam10": {"epochs": 20}},
    "experiments": {
        "comparison": {"datasets": ["cifar10"]},
        "curves": None,
        "data_efficiency": None,
    },
}
TWO_RUNS = merge(CONFIG, {"seeds": [0]})  # of four
TARGET = "results/collected/comparison/runs.csv"


STARTED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def nothing_goes_on():
    yield
    while STARTED:
        with suppress(ProcessLookupError):
            os.killpg(STARTED.pop().pid, signal.SIGKILL)


def start(folder: Path, config: dict, target: str = TARGET) -> subprocess.Popen:
    """Start the workflow in `folder`, in a process group of its own."""
    command = snakemake_command(folder, target, config=config)
    process = start_snakemake(*command, cwd=folder, out=folder / "out.txt")
    STARTED.append(process)
    return process


def ends_well(folder: Path, config: dict, *arguments: str) -> str:
    """Run the workflow to its end and return what it said."""
    done = snakemake(folder, TARGET, *arguments, config=config)
    assert done.returncode == 0, done.stderr
    return said(done)


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None
        time.sleep(0.05)


def finished(folder: Path) -> dict[Path, tuple]:
    """Return the finished runs, each with what changes when its files are written again."""
    records = (folder / "results").glob("runs/**/provenance.json")
    runs = [record.with_name("metrics.json") for record in records if read(record)["outputs"]]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in runs}


def in_training(folder: Path) -> bool:
    return any("epoch 3 of" in log for log in logs_of(folder))


def epochs_done(folder: Path) -> int:
    """Return how many epochs all attempts at all runs have trained so far."""
    return sum(log.count(" of 20: loss") for log in logs_of(folder))


def logs_of(folder: Path) -> list[str]:
    """Return the log of all attempts of each run."""
    return [path.read_text() for path in (folder / "logs").glob("runs/**/*.history.log")]


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """The folder of the study of four runs, not interrupted; `said.txt` is what it said with --quiet."""

    def make(folder: Path) -> None:
        (folder / "said.txt").write_text(ends_well(folder, CONFIG, "--quiet"))

    return made_once(tmp_path_factory, "whole", make)


@pytest.fixture
def with_data(whole, tmp_path) -> Path:
    """A folder in which the data are there, and nothing else."""
    shutil.copytree(whole / "resources", tmp_path / "resources")
    return tmp_path


def assert_same(folder: Path, whole: Path, runs: int) -> None:
    assert len(finished(folder)) == runs
    for metrics in finished(folder):
        run = metrics.parent.relative_to(folder)
        for name in ("metrics.json", "model.safetensors", "predictions.npz"):
            assert (folder / run / name).read_bytes() == (whole / run / name).read_bytes(), run
    left = [path for kind in ("*.lock", "*.part*", "checkpoint") for path in (folder / "results").rglob(kind)]
    assert not left


def at_random() -> list[int]:
    """Return after how many epochs ten attempts are killed; with the fifth the first run or two are finished."""
    chance = random.Random(1)
    early, two_runs, one_run = (0, 10), (42, 50), (20, 30)
    limits = [*[early] * 4, two_runs, *[early] * 2, one_run, *[early] * 2]
    return [chance.randint(*between) for between in limits]


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param([3, 44], id="twice"),
        pytest.param(at_random(), id="ten times", marks=pytest.mark.exhaustive),
    ],
)
def test_all_killed_a_plain_restart_goes_on(kills, whole, with_data):
    before, stop = {}, signal.SIGTERM  # of which a job leaves a checkpoint; then those of which it cannot
    for epochs in kills:  # of eighty, on each attempt
        process = start(with_data, CONFIG)
        until = epochs_done(with_data) + epochs
        while epochs_done(with_data) < until and process.poll() is None:
            time.sleep(0.05)
        assert process.poll() in (None, 0), (with_data / "out.txt").read_text()
        with suppress(ProcessLookupError):  # where it was faster than this test
            os.killpg(process.pid, stop)
        process.wait()
        stop = signal.SIGKILL
        now = finished(with_data)
        assert before.items() <= now.items()
        before = now
    assert before
    words = ends_well(with_data, CONFIG)
    assert before.items() <= finished(with_data).items()
    assert_same(with_data, whole, runs=4)
    assert words.count(" is trained: ") == 4 - len(before)
    assert "\033" not in words  # a line that is replaced is for a terminal
    assert " is trained: " not in (whole / "said.txt").read_text()
    assert any("attempt 1" in log and "attempt 2" in log for log in logs_of(with_data))
    assert any(read(path)["resumed_epochs"] >= 1 for path in (with_data / "results").rglob("runtime.json"))


def test_snakemake_alone_is_killed_and_its_jobs_go_on(whole, with_data):
    process = start(with_data, TWO_RUNS)
    wait_for(lambda: in_training(with_data), process)
    process.kill()
    process.wait()
    ends_well(with_data, TWO_RUNS)
    assert_same(with_data, whole, runs=2)
    assert [log.count("epoch 20 of 20") for log in logs_of(with_data)] == [1] * 2  # waited for, not repeated


def test_a_run_that_ends_after_snakemake_was_killed_is_not_repeated(whole, with_data):
    """Snakemake's own note says that it is incomplete; its record says that it is whole."""
    process = start(with_data, TWO_RUNS)
    wait_for(lambda: in_training(with_data), process)
    process.kill()
    process.wait()
    while list((with_data / "results").glob("runs/*/*/*/*/*/provenance.lock")):
        time.sleep(0.1)
    before = finished(with_data)
    assert before
    ends_well(with_data, TWO_RUNS)
    assert before.items() <= finished(with_data).items()
    assert_same(with_data, whole, runs=2)


def test_the_second_of_two_says_so_and_stops(with_data):
    endless = merge(TWO_RUNS, {"recipes": {"adam10": {"epochs": 10_000}}})
    first = start(with_data, endless)
    wait_for(lambda: sum("epoch 3 of" in log for log in logs_of(with_data)) == 2, first)
    second = snakemake(with_data, config=CONFIG)
    assert second.returncode == 1
    assert f"process {first.pid} on" in second.stderr
    assert "is working in this folder; wait until it ends, or stop it" in second.stderr
    dry = snakemake(with_data, "--dry-run", config=CONFIG)
    assert dry.returncode == 0, dry.stderr
    beside = snakemake(with_data, "status", config=CONFIG)
    assert beside.returncode == 0, beside.stderr
    assert "0 of 2 runs done, 2 running" in beside.stdout
    assert len(re.findall(r"epoch \d+ of 10000, loss \S+, \S+ %", beside.stdout)) == 2  # not CONFIG's 20
    assert read(with_data / "logs/config.json")["recipes"]["adam10"]["epochs"] == 10_000
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGINT)
    assert first.wait() == 1
    assert list((with_data / "results").rglob("checkpoint.pt"))
    assert not list((with_data / "results").rglob("metrics.json"))
    command = [sys.executable, ROOT / "workflow/scripts/status.py"]
    width = os.environ | {"COLUMNS": "80"}
    after = subprocess.run(command, cwd=with_data, env=width, capture_output=True, text=True, check=True)
    assert after.stdout.startswith("0 of 2 runs done, 2 waiting\n")
    assert after.stdout.endswith(" and 1 more\n      interrupted, resumes from its checkpoint\n")


def test_what_only_reads_works_beside_a_running_study(whole, tmp_path):
    study = shutil.copytree(whole, tmp_path / "study")
    endless = {
        "recipes": {"adam10": {"epochs": 20}, "adamw20": {"epochs": 10_000}},
        "experiments": {"curves": {"datasets": ["cifar10"]}, "data_efficiency": None},
    }
    config = merge(CONFIG, endless)
    running = start(study, config, "results/collected/curves/runs.csv")
    wait_for(lambda: any("epoch 3 of 10000" in log for log in logs_of(study)), running)
    asked = {
        "partial": snakemake(study, "partial", config=config),
        "dry run": snakemake(study, "--dry-run", config=config),
        "report": snakemake(study, TARGET, "--report", "report.zip", config=config),
        "--nolock": snakemake(study, "results/tables/comparison.md", "--nolock", config=config),
    }
    for name, done in asked.items():
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    assert (study / "results/partial/tables/comparison.csv").exists()
    assert (study / "results/tables/comparison.md").exists()
    assert (study / "report.zip").exists()
    audit = snakemake(study, "audit", config=config)
    assert audit.returncode == 1  # something is missing
    assert "missing (not made yet)" in audit.stdout
    assert running.poll() is None


def test_a_job_that_comes_late_on_a_cluster_leaves_the_copy_of_the_data(with_data):
    """Called as an executor of a cluster calls it, when another has long made the same."""
    copied = with_data / "resources/cifar10/tree/copied.json"
    before = [path.stat().st_ino for path in (copied, copied.parent)]
    late = ["--mode", "remote", "--force", "--nolock", "--allowed-rules", "copy_dataset"]
    done = snakemake(with_data, *late, "--target-jobs", "copy_dataset:dataset=cifar10", config=CONFIG)
    assert done.returncode == 0, done.stderr
    assert "up to date" in (with_data / "logs/cifar10/copy.log").read_text()
    assert [path.stat().st_ino for path in (copied, copied.parent)] == before
