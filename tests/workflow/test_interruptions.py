"""Snakemake itself killed, and two at once: a plain restart goes on, and nothing finished is done again."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMALL, merge, read, snakemake

CONFIG = {
    "recipes": {"adam10": {"epochs": 20}},
    "experiments": {
        "comparison": {"datasets": ["cifar10"]},
        "curves": None,
        "data_efficiency": None,
    },
}


STARTED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def nothing_goes_on():
    yield
    while STARTED:
        with suppress(ProcessLookupError):
            os.killpg(STARTED.pop().pid, signal.SIGKILL)


def start(folder: Path, epochs: int = 20) -> subprocess.Popen:
    """Start the workflow in `folder`, in a process group of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    config = merge(SMALL, merge(CONFIG, {"recipes": {"adam10": {"epochs": epochs}}}))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--workflow-profile", "none", "--cores", "2", "--directory", str(folder)]
    command += ["--configfile", str(folder / "config.yaml")]
    with (folder / "out.txt").open("w") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, start_new_session=True)
    STARTED.append(process)
    return process


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert start(folder).wait() == 0, (folder / "out.txt").read_text()
    return folder


def assert_same(folder: Path, whole: Path) -> None:
    runs = [path.relative_to(whole) for path in finished(whole)]
    assert len(runs) == len(finished(folder)) == 4
    for run in runs:
        for name in ("metrics.json", "model.safetensors", "predictions.npz"):
            path = run.with_name(name)
            assert (folder / path).read_bytes() == (whole / path).read_bytes(), path
    left = [path for kind in ("*.lock", "*.part*", "checkpoint") for path in (folder / "results").rglob(kind)]
    assert not left


def test_all_killed_at_random_a_plain_restart_goes_on(whole, tmp_path):
    chance = random.Random(1)
    before = {}
    for least, most in ((0, 10), (42, 50), (0, 10), (20, 30), (0, 10)):  # of four runs of 20 epochs
        process = start(tmp_path)
        until = epochs_done(tmp_path) + chance.randint(least, most)
        wait_for(lambda until=until: epochs_done(tmp_path) >= until, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = finished(tmp_path)
        assert before.items() <= now.items()
        before = now
    assert before
    done = snakemake(tmp_path, config=CONFIG)
    assert done.returncode == 0, done.stderr
    assert before.items() <= finished(tmp_path).items()
    assert_same(tmp_path, whole)


def test_snakemake_alone_is_killed_and_its_jobs_go_on(whole, tmp_path):
    process = start(tmp_path)
    wait_for(lambda: in_training(tmp_path), process)
    process.kill()
    process.wait()
    done = snakemake(tmp_path, config=CONFIG)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path, whole)
    assert [log.count("epoch 20 of 20") for log in logs_of(tmp_path)] == [1] * 4  # waited for, not repeated


def test_a_run_that_ends_after_snakemake_was_killed_is_not_repeated(whole, tmp_path):
    """Snakemake's own note says that it is incomplete; its record says that it is whole."""
    process = start(tmp_path)
    wait_for(lambda: in_training(tmp_path), process)
    process.kill()
    process.wait()
    while list((tmp_path / "results").glob("runs/*/*/*/*/*/provenance.lock")):
        time.sleep(0.1)
    before = finished(tmp_path)
    assert before
    done = snakemake(tmp_path, config=CONFIG)
    assert done.returncode == 0, done.stderr
    assert before.items() <= finished(tmp_path).items()
    assert_same(tmp_path, whole)


def test_the_second_of_two_says_so_and_stops(tmp_path):
    first = start(tmp_path, epochs=10_000)
    wait_for(lambda: in_training(tmp_path), first)
    second = snakemake(tmp_path, config=CONFIG)
    assert second.returncode == 1
    assert f"process {first.pid} on" in second.stderr
    assert "works in this folder; wait for its end, or stop it" in second.stderr
    dry = snakemake(tmp_path, "--dry-run", config=CONFIG)
    assert dry.returncode == 0, dry.stderr
    beside = snakemake(tmp_path, "status", config=CONFIG)
    assert beside.returncode == 0, beside.stderr
    assert "0 of 4 runs done, 2 running, 2 waiting" in beside.stdout
    assert len(re.findall(r"epoch \d+ of 10000, loss \S+, \S+ %", beside.stdout)) == 2  # not CONFIG's 20
    assert read(tmp_path / "logs/config.json")["recipes"]["adam10"]["epochs"] == 10_000
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGINT)
    assert first.wait() == 1
    assert list((tmp_path / "results").rglob("checkpoint.pt"))
    assert not list((tmp_path / "results").rglob("metrics.json"))
    command = [sys.executable, ROOT / "workflow/scripts/status.py"]
    width = os.environ | {"COLUMNS": "80"}
    after = subprocess.run(command, cwd=tmp_path, env=width, capture_output=True, text=True, check=True)
    assert after.stdout.startswith("0 of 4 runs done, 4 waiting\n")
    assert after.stdout.endswith(" and 1 more\n      interrupted, resumes from its checkpoint\n")


def test_a_file_has_one_line_of_progress_for_each_run(whole):
    said = [line for line in (whole / "out.txt").read_text().splitlines() if " is trained: " in line]
    assert len(said) == 4
    assert "; 4 of 4 runs done" in said[-1]
    assert "\033" not in (whole / "out.txt").read_text()


def test_a_job_that_comes_late_on_a_cluster_leaves_the_copy_of_the_data(whole):
    """Called as an executor of a cluster calls it, when another has long made the same."""
    copied = whole / "resources/cifar10/tree/copied.json"
    before = [path.stat().st_ino for path in (copied, copied.parent)]
    late = ["--mode", "remote", "--force", "--nolock", "--allowed-rules", "copy_dataset"]
    done = snakemake(whole, *late, "--target-jobs", "copy_dataset:dataset=cifar10", config=CONFIG)
    assert done.returncode == 0, done.stderr
    assert "is made already" in (whole / "logs/cifar10/copy.log").read_text()
    assert [path.stat().st_ino for path in (copied, copied.parent)] == before


def test_the_log_of_every_attempt_is_kept(tmp_path):
    process = start(tmp_path)
    wait_for(lambda: in_training(tmp_path), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = snakemake(tmp_path, "--quiet", config=CONFIG)
    assert done.returncode == 0
    assert "is trained" not in done.stdout + done.stderr
    assert any("attempt 1" in log and "attempt 2" in log for log in logs_of(tmp_path))
    assert any(read(path)["attempts"] == 2 for path in (tmp_path / "results").rglob("runtime.json"))
