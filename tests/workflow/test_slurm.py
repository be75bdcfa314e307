"""The study on a real Slurm: jobs cancelled, requeued, their node drained, Snakemake killed; the same results."""

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import slurm
import yaml
from conftest import ROOT, SMALL, merge, read, snakemake, start_snakemake

pytestmark = [pytest.mark.exhaustive, pytest.mark.xdist_group("slurm")]  # one Slurm, so one worker

EPOCHS = 100
LONG = 1800  # seconds after which a study is taken to hang, on any machine
LAST_EPOCH = f"epoch {EPOCHS} of {EPOCHS}"
CONFIG = {
    "device": "cpu",  # the GPUs that Slurm assigns here are none
    "recipes": {"adam10": {"epochs": EPOCHS}},
    "experiments": {"comparison": {"datasets": ["cifar10"]}, "curves": None, "data_efficiency": None},
}
RUNS = [f"cifar10/{model}/adam10/nall/seed{seed}" for model in ("vit", "cnn") for seed in (0, 1)]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory):
    if reason := slurm.missing():
        give_up(reason)
    found = slurm.Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        try:
            found.start()
        except Exception as error:
            give_up(f"Slurm does not start here: {error}")
        yield found
    finally:
        found.stop()


def give_up(reason):
    """Skip these tests; fail where the environment says SLURM_TESTS=required."""
    (pytest.fail if os.environ.get("SLURM_TESTS") == "required" else pytest.skip)(reason)


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """The same study without Slurm."""
    folder = tmp_path_factory.mktemp("local")
    done = snakemake(folder, config=CONFIG)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def start(tmp_path):
    """Start the study with the profile; its output is in out.txt."""
    started = []

    def begin(*arguments: str, epochs: int = EPOCHS) -> subprocess.Popen:
        config = merge(merge(SMALL, CONFIG), {"recipes": {"adam10": {"epochs": epochs}}})
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        command = ["--workflow-profile", "profiles/slurm"]
        command += ["--directory", tmp_path, "--configfile", tmp_path / "config.yaml"]
        command += ["--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "20", *arguments]
        started.append(start_snakemake(*command, cwd=ROOT, out=tmp_path / "out.txt"))
        return started[-1]

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def history(folder: Path, run: str) -> str:
    """Return the log of all attempts at a run."""
    path = folder / "logs/runs" / f"{run}.history.log"
    return path.read_text() if path.exists() else ""


def jobs_of(folder: Path, run: str) -> list[int]:
    """Return the Slurm job of each attempt at a run."""
    return [int(job) for job in re.findall(r"cpu, in job (\d+)", history(folder, run))]


def is_finished(folder: Path, run: str) -> bool:
    return (folder / "results/runs" / run / "metrics.json").exists()


def in_training(folder: Path) -> dict[str, int]:
    """Return the Slurm job of each run that is being trained."""
    found = {}
    for run in RUNS:
        if is_finished(folder, run):
            continue
        started = jobs_of(folder, run)
        if started and f"epoch 2 of {EPOCHS}" in history(folder, run):
            job = started[-1]
            if slurm.ask("squeue", "-h", "-t", "R", "-j", str(job), "-o", "%i").strip():
                found[run] = job
    return found


def wait_for(what, folder: Path, process: subprocess.Popen):
    """Return what `what` returns as soon as that is anything."""
    while not (found := what()):
        assert process.poll() is None, (folder / "out.txt").read_text()[-5000:]
        time.sleep(0.5)
    return found


def two_in_training(folder: Path) -> dict[str, int] | None:
    """Return the Slurm job of a run of either setting, once both are being trained."""
    of_jobs = {job: run for run, job in in_training(folder).items()}
    return {run: job for job, run in of_jobs.items()} if len(of_jobs) == 2 else None


def second_in_training(folder: Path) -> tuple[str, str, int] | None:
    """Return a run that is finished, the one that its Slurm job trains after it, and that job."""
    for run, job in in_training(folder).items():
        for first in RUNS:
            if is_finished(folder, first) and first != run and Path(first).parent == Path(run).parent:
                return first, run, job
    return None


def node_of(job: int) -> str:
    return slurm.ask("squeue", "-h", "-t", "R", "-j", str(job), "-o", "%N").strip()


def assert_same(folder: Path, local: Path) -> None:
    for run in RUNS:
        for name in ("metrics.json", "model.safetensors", "predictions.npz"):
            path = Path("results/runs", run, name)
            assert (folder / path).read_bytes() == (local / path).read_bytes(), path
        assert not (folder / "results/runs" / run / "checkpoint").exists()


def test_cancelled_requeued_and_drained(local, start, tmp_path):
    process = start()
    (requeued, job), _ = wait_for(lambda: two_in_training(tmp_path), tmp_path, process).items()
    node = node_of(job)
    slurm.ask("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    slurm.ask("scontrol", "requeue", str(job))
    try:
        wait_for(
            lambda: "PENDING" in slurm.ask("squeue", "-h", "-j", str(job), "-o", "%T"), tmp_path, process
        )
        slurm.ask("scontrol", "update", f"JobId={job}", "StartTime=now")  # not after two minutes
        assert wait_for(lambda: node_of(job), tmp_path, process) != node
        finished, cancelled, other = wait_for(lambda: second_in_training(tmp_path), tmp_path, process)
        slurm.ask("scancel", str(other))
        assert process.wait(LONG) == 0, (tmp_path / "out.txt").read_text()[-5000:]
    finally:
        slurm.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert_same(tmp_path, local)
    for run in (cancelled, requeued):
        assert read(tmp_path / "results/runs" / run / "runtime.json")["attempts"] == 2
    assert "up to date" in history(tmp_path, finished)
    for run in RUNS:
        assert history(tmp_path, run).count(LAST_EPOCH) == 1
    jobs = {jobs_of(tmp_path, run)[0] for run in RUNS}
    assert len(jobs) == 2, "the seeds of a setting are one job"


def test_snakemake_is_killed_and_a_plain_restart_takes_what_its_jobs_make(local, start, tmp_path):
    first = start()
    jobs = wait_for(lambda: two_in_training(tmp_path), tmp_path, first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert slurm.ask("squeue", "-h").strip(), "Slurm's jobs go on"
    assert start().wait(LONG) == 0, (tmp_path / "out.txt").read_text()[-5000:]
    late_run, late = next(iter(jobs.items()))  # as if it had waited in the queue until now
    slurm.ask("scontrol", "requeue", str(late))
    slurm.ask("scontrol", "update", f"JobId={late}", "StartTime=now")
    while slurm.ask("squeue", "-h", "-t", "PD,CF,R,CG", "-j", str(late)).strip():
        time.sleep(0.5)
    assert_same(tmp_path, local)
    for run in RUNS:
        assert history(tmp_path, run).count(LAST_EPOCH) == 1, run
    assert "up to date" in history(tmp_path, late_run).splitlines()[-1]


def test_a_run_that_fails_costs_the_others_of_its_group_nothing(start, tmp_path):
    broken = [RUNS[0], RUNS[3]]  # of one setting the first seed, of the other the second
    for run in broken:
        folder = tmp_path / "results/runs" / run
        folder.mkdir(parents=True)
        (folder / "checkpoint").write_text("a file where a folder should be")
    process = start("--retries", "1", epochs=2)
    assert process.wait(LONG) == 1
    for run in RUNS:
        assert is_finished(tmp_path, run) == (run not in broken)
        assert history(tmp_path, run).count("epoch 2 of 2") == (run not in broken)
        if run not in broken:
            assert "up to date" in history(tmp_path, run).splitlines()[-1]
