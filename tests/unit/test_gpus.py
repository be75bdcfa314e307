"""GPUs for jobs: one of their own each, however the ones before them ended. The devices are names here."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, run_script

from vitcnn import locks
from vitcnn.config import load_config
from vitcnn.plan import Run, run_spec
from vitcnn.training import gpus
from vitcnn.training.gpus import take_device, take_gpu, visible_gpus

# Takes a slot, claims its GPU by a file that must not be there unless its maker was killed, and works.
JOB = """
import os, pathlib, sys, time
sys.path.insert(0, sys.argv[1])
from vitcnn.training.gpus import take_gpu
lock = take_gpu(int(sys.argv[2]))
mine = pathlib.Path(lock.lock_file).name
assert mine.startswith(os.environ["CUDA_VISIBLE_DEVICES"] + ".")
claim = pathlib.Path(mine)
if claim.exists():
    with open("found", "a") as found:
        found.write(f"{claim.read_text()}\\n")
claim.write_text(str(os.getpid()))
with open("taken", "a") as taken:
    taken.write(f"{mine}\\n")
time.sleep(float(sys.argv[3]))
claim.unlink()
"""


def test_forty_jobs_on_four_gpus_some_of_them_killed(tmp_path):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "TMPDIR": str(tmp_path)}
    for name in locks.JOB_IDS:
        environment.pop(name, None)
    chance = random.Random(1)
    jobs = []
    for _ in range(40):
        work = str(chance.uniform(0, 0.5))
        command = [sys.executable, "-c", JOB, str(ROOT / "workflow"), "1", work]
        jobs.append(subprocess.Popen(command, cwd=tmp_path, env=environment))
    to_kill = chance.sample(jobs, 10)
    for job in to_kill:
        while job.poll() is None and chance.random() < 0.8:
            time.sleep(0.1)
        job.kill()
    for job in jobs:
        job.wait(timeout=120)
    found = (tmp_path / "found").read_text().split() if (tmp_path / "found").exists() else []
    assert {int(pid) for pid in found} <= {job.pid for job in to_kill}
    assert all(job.returncode == 0 for job in jobs if job not in to_kill)
    taken = (tmp_path / "taken").read_text().split()
    assert len(taken) >= 30
    assert set(taken) <= {f"{gpu}.0" for gpu in range(4)}


@pytest.fixture
def alone(monkeypatch, tmp_path):
    for name in (*locks.JOB_IDS, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gpus.tempfile, "gettempdir", lambda: str(tmp_path))
    return monkeypatch


def test_jobs_share_a_gpu_once_each_has_one(alone):
    taken, held = [], []
    for _ in range(4):
        alone.setenv("CUDA_VISIBLE_DEVICES", "5,7")
        held.append(gpus.take_gpu(2))
        taken.append((os.environ["CUDA_VISIBLE_DEVICES"], Path(held[-1].lock_file).name[:3]))
    assert taken == [("5", "5.0"), ("7", "7.0"), ("5", "5.1"), ("7", "7.1")]
    for lock in held:
        lock.release()


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("0", ["0"]),
        ("2, 5", ["2", "5"]),
        ("GPU-8932f937-d72c", ["GPU-8932f937-d72c"]),
        ("", []),
        ("-1", []),
        ("1,-1,0", ["1"]),
        ("NoDevFiles", []),
    ],
)
def test_what_an_outer_setting_leaves_visible(value, names, alone):
    alone.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == names


def test_a_container_that_shows_one_gpu_of_many(alone):
    """Its file keeps the number that it has outside; CUDA counts from 0."""
    alone.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    alone.setattr(gpus.Path, "glob", lambda folder, pattern: iter([folder / "nvidia3"]))
    assert visible_gpus() == ["0"]


def test_only_gpus_of_the_outer_setting_are_taken(alone):
    alone.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    first = take_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    alone.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    second = take_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    first.release()
    second.release()


@pytest.mark.parametrize("job", locks.JOB_IDS)
def test_what_a_scheduler_assigned_is_left_alone(job, alone, tmp_path):
    alone.setenv(job, "17")
    alone.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert take_gpu() is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert not list(tmp_path.iterdir())


def test_several_gpus_of_one_allocation_are_shared_out_within_it(alone, tmp_path):
    alone.setenv("SLURM_JOB_ID", "17")
    alone.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    lock = take_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert "-17/" in lock.lock_file
    lock.release()


@pytest.mark.parametrize("job", [None, "SLURM_JOB_ID"])
def test_a_job_with_a_gpu_trains_on_nothing_else(job, alone):
    if job:
        alone.setenv(job, "17")
    alone.setenv("CUDA_VISIBLE_DEVICES", "3")
    device, slot = take_device("auto")
    assert device == "cuda"
    assert (slot is None) == bool(job)
    if slot:
        slot.release()
    assert take_device("cpu") == ("cpu", None)
    alone.setenv("CUDA_VISIBLE_DEVICES", "")
    assert take_device("auto") == ("auto", None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_with_a_gpu_that_torch_does_not_see_ends_with_the_reason(data, alone, tmp_path):
    alone.setenv("CUDA_VISIBLE_DEVICES", "3")
    alone.setenv("TMPDIR", str(tmp_path))
    config = load_config(ROOT / "config.yaml")
    spec = run_spec(config, Run("cifar10", "simple_cnn", "adamw10", 100, 0))
    done = run_script(
        *("train", "--settings", json.dumps({"spec": spec}), "--data", data, "--out", tmp_path / "run")
    )
    assert done.returncode == 1
    assert "GPU 3 is assigned to this job, but torch sees no CUDA device" in done.stderr
    assert not (tmp_path / "run/metrics.json").exists()


def test_without_a_gpu_nothing_is_taken(alone, tmp_path):
    alone.setenv("CUDA_VISIBLE_DEVICES", "")
    assert take_gpu() is None
    assert not list(tmp_path.iterdir())
