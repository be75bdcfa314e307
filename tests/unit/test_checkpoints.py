"""Interrupted trainings: nothing is lost, nothing is repeated, and no wrong checkpoint is used."""

import copy
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import ROOT, SMALL, environment, merge, read, run_script

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.errors import StudyError
from vitcnn.files import canonical_json
from vitcnn.interrupts import Interrupted
from vitcnn.training import checkpoints, devices, trainer
from vitcnn.training.checkpoints import ATTEMPTS, DAMAGED, NAME, PREVIOUS, Checkpoints
from vitcnn.training.run import train_run

CONFIG = check_config(merge(yaml.safe_load((ROOT / "config.yaml").read_text()), SMALL))
SEEDED = ("metrics.json", "model.safetensors", "predictions.npz")


def spec_of(name="cifar10/vit/adam10/n300/seed1", precision="fp32", **recipe):
    spec = copy.deepcopy(plan.run_spec(CONFIG | {"precision": precision}, plan.Run.parse(name)))
    spec["recipe"] |= {"batch_size": 128, "epochs": 2} | recipe
    return spec


def train(spec, data, folder, **options):
    """Train in this process; return whether it came to its end."""
    try:
        train_run(spec, data, folder, "cpu", 1, **options)
    except Interrupted:
        return False
    return True


def same(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in SEEDED)


@pytest.fixture
def stop_at(monkeypatch):
    """Let a signal come when a training offers a checkpoint for the nth time."""
    offer = Checkpoints.offer

    def set_stop(count):
        offers = 0

        def counting(self, state):
            nonlocal offers
            offers += 1
            if offers == count:
                self.signals.append("SIGTERM")
            offer(self, state)

        monkeypatch.setattr(Checkpoints, "offer", counting)
        return lambda: offers

    return set_stop


@pytest.mark.parametrize(
    ("model", "precision", "places"),
    [
        # In each epoch 3 batches of training, 4 of the test and 1 of the held-out images: in the midst of each,
        # and between two epochs.
        ("vit", "bf16", (2, 9)),
        ("cnn", "fp32", (5, 10)),
        ("simple_vit", "fp32", (8, 11)),
        ("simple_cnn", "bf16", (3, 15)),
        ("cct_2_3x2", "fp32", (2, 9)),
        pytest.param("vit", "bf16", range(1, 17), marks=pytest.mark.exhaustive),
        pytest.param("cnn", "fp32", range(1, 17), marks=pytest.mark.exhaustive),
    ],
    ids=lambda value: "everywhere" if isinstance(value, range) else str(value),
)
def test_stopped_anywhere_it_ends_with_the_same_bytes(model, precision, places, data, tmp_path, stop_at):
    spec = spec_of(f"cifar10/{model}/adamw10/n300/seed1", precision, hold_out=True)
    count = stop_at(0)
    assert train(spec, data, tmp_path / "whole")
    assert count() == 16
    for place in places:
        folder = tmp_path / str(place)
        stop_at(place)
        assert not train(spec, data, folder)
        stop_at(0)
        assert train(spec, data, folder)
        assert same(folder, tmp_path / "whole"), place
        runtime = read(folder / "runtime.json")
        assert (runtime["attempts"], runtime["resumed_epochs"]) == (2, (place - 1) // 8)
        assert len(runtime["epoch_seconds"]) == len(runtime["evaluation_seconds"]) == 2


RECIPE = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "no_decay": ["bias", "norm"],
    "lr_scheduler": "cosine",
    "warmup": 0.3,
    "label_smoothing": 0.1,
    "clip_grad_norm": 1,
    "mixup": 0.8,
    "cutmix": 1,
    "updates": 7,
    "evaluations": 2,
    "hold_out": True,
}


@pytest.mark.parametrize(
    ("policy", "places"),
    [("none", range(1, 18)), ("TrivialAugmentWide", (2, 9))],  # every batch; in both passes
)
def test_a_scheduled_recipe_stopped_anywhere(policy, places, data, tmp_path, stop_at):
    """A recipe with a schedule and mixing, evaluated in the middle of its second pass."""
    spec = spec_of("cifar10/simple_cnn/adamw10/n300/seed1", **RECIPE)
    del spec["recipe"]["epochs"]
    spec["recipe"]["augmentation"] |= {"auto_augment": policy, "random_erasing": 0.5}
    count = stop_at(0)
    assert train(spec, data, tmp_path / "whole")
    assert count() == 7 + 2 * (4 + 1)
    for place in places:
        folder = tmp_path / str(place)
        stop_at(place)
        assert not train(spec, data, folder)
        stop_at(0)
        assert train(spec, data, folder)
        assert same(folder, tmp_path / "whole"), place


def test_a_model_that_draws_from_torch_itself(data, tmp_path, stop_at, monkeypatch):
    """As models of other libraries do: without torch's own state an interruption would show."""
    monkeypatch.setattr(trainer, "use_masks", lambda model, masks: None)  # nn.functional.dropout then
    spec = spec_of("cifar10/vit/adamw10/n300/seed1")
    stop_at(0)
    assert train(spec, data, tmp_path / "whole")
    for place in (2, 9):
        stop_at(place)
        assert not train(spec, data, tmp_path / str(place))
        stop_at(0)
        torch.manual_seed(place)
        assert train(spec, data, tmp_path / str(place))
        assert same(tmp_path / str(place), tmp_path / "whole"), place


def test_stopped_again_and_again(data, tmp_path, stop_at):
    stop_at(0)
    spec = spec_of(epochs=3)
    assert train(spec, data, tmp_path / "whole")
    attempts = 1
    stop_at(6)  # an evaluation is 4 batches long and starts anew, so each attempt gets on
    while not train(spec, data, tmp_path / "pieces"):
        attempts += 1
        stop_at(6)
    assert attempts > 3
    assert same(tmp_path / "pieces", tmp_path / "whole")
    assert read(tmp_path / "pieces" / "runtime.json")["attempts"] == attempts


def test_time_is_that_of_the_work_in_the_result(data, tmp_path, stop_at, monkeypatch):
    """An hour passes between two attempts, and counts for nothing."""
    now = time.perf_counter
    spec = spec_of(epochs=1)
    stop_at(2)
    assert not train(spec, data, tmp_path)
    monkeypatch.setattr(time, "perf_counter", lambda: now() + 3600)
    stop_at(0)
    kept = Checkpoints(tmp_path / "checkpoint", identity_in(tmp_path)).load()["trained"]["epoch_seconds"]
    assert train(spec, data, tmp_path)
    assert 0 < kept[0] < read(tmp_path / "runtime.json")["train_seconds"] < 60


def test_a_kill_costs_30_seconds_at_most(tmp_path, monkeypatch):
    clock = iter([0.0, 29.9, 30.0, 30.0, 59.9, 60.0, 60.0])  # the start; each offer, and after it each save
    stand_in = SimpleNamespace(monotonic=lambda: next(clock), perf_counter=time.perf_counter)
    monkeypatch.setattr(checkpoints, "time", stand_in)
    kept = Checkpoints(tmp_path, "this")
    saved = []
    for offered in range(4):
        kept.offer(lambda offered=offered: {"offered": offered})
        saved.append((kept.load() or {}).get("offered"))
    assert saved == [None, 1, 1, 3]
    assert 0 < kept.seconds < 60


def identity_in(folder):
    return read(folder / "checkpoint" / ATTEMPTS)["identity"]


@pytest.mark.parametrize(
    "other",
    [
        {"spec": spec_of(lr=0.1)},
        {"spec": spec_of("cifar10/vit/adam10/n300/seed2")},
        {"spec": spec_of(precision="bf16")},
        {"fingerprint": "other code"},
        {"threads": 2},
        {"device": ["cuda", "A100", 108]},
        {"data": "other images"},
    ],
)
def test_a_checkpoint_of_something_else_is_not_used(other, data, tmp_path, stop_at, monkeypatch):
    stop_at(4)
    assert not train(spec_of(), data, tmp_path / "a")
    stop_at(0)
    what = {"spec": spec_of(), "threads": 1, "fingerprint": ""} | other
    if "device" in other:
        monkeypatch.setattr(devices, "identify", lambda _: other["device"])
    if "data" in other:
        data = Path(shutil.copytree(data, tmp_path / "other"))
        with (data / "manifest.json").open("a") as manifest:
            manifest.write("\n")
    for folder in ("a", "b"):
        train_run(what["spec"], data, tmp_path / folder, "cpu", what["threads"], what["fingerprint"])
    assert same(tmp_path / "a", tmp_path / "b")
    runtime = read(tmp_path / "a" / "runtime.json")
    assert (runtime["attempts"], runtime["resumed_epochs"]) == (1, 0)


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "empty", "one bit"])
def test_a_damaged_checkpoint_is_set_aside(how, data, tmp_path, stop_at, caplog):
    stop_at(0)
    assert train(spec_of(), data, tmp_path / "whole")
    folder = tmp_path / "run" / "checkpoint"
    stop_at(10)
    assert not train(spec_of(), data, tmp_path / "run", checkpoint_seconds=0)
    stop_at(0)
    damage(folder / NAME, how)
    identity = identity_in(tmp_path / "run")
    found = Checkpoints(folder, identity).load()
    assert len(found["trainer"]["figures"]) == 2  # the one before
    assert "is damaged" in caplog.text
    assert (folder / DAMAGED).exists()
    damage(folder / PREVIOUS, how)
    assert Checkpoints(folder, identity).load() is None
    assert train(spec_of(), data, tmp_path / "run")
    assert same(tmp_path / "run", tmp_path / "whole")


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_no_code_of_the_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keeper = Checkpoints(tmp_path, "mine")
    keeper.save({"trainer": Hostile()})
    assert keeper.load() is None
    assert not Path("pwned").exists()
    assert (tmp_path / DAMAGED).exists()


def test_a_kill_between_the_two_renames_leaves_the_one_before(tmp_path, monkeypatch):
    keeper = Checkpoints(tmp_path, "mine")
    keeper.save({"step": 1})
    monkeypatch.setattr(checkpoints, "replacing", None)
    (tmp_path / NAME).replace(tmp_path / PREVIOUS)
    assert keeper.load() == {"step": 1}


def test_a_full_disk_leaves_the_last_one(tmp_path, monkeypatch):
    keeper = Checkpoints(tmp_path, "mine")
    keeper.save({"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StudyError, match=r"checkpoint.pt: could not be written \(File too large\)"):
            keeper.save({"step": 2, "weights": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert keeper.load() == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_folder_that_cannot_be_written_is_said_at_the_start(data, tmp_path):
    (tmp_path / "checkpoint").write_text("a file where a folder should be")
    with pytest.raises(StudyError, match=rf"{re.escape(str(tmp_path))}/checkpoint.*could not be written"):
        train_run(spec_of(), data, tmp_path, "cpu", 1)


# The same through the script, as its processes are really killed.


def arguments(folder, data, *more, spec=None, log=None):
    settings = canonical_json({"spec": spec or spec_of(epochs=12)})
    log = log or folder.with_suffix(".log")
    return [
        *("--settings", settings, "--data", str(data), "--out", str(folder)),
        *("--device", "cpu", "--log", str(log), *more),
    ]


def command(folder, data, *more, **options):
    script = ROOT / "workflow/scripts/train.py"
    return [sys.executable, str(script), *arguments(folder, data, *more, **options)]


def start(folder, data, *more, spec=None):
    return subprocess.Popen(
        command(folder, data, *more, spec=spec),
        cwd=folder.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def by_script(folder, data, *more, spec=None):
    return run_script("train", *arguments(folder, data, *more, spec=spec), cwd=folder.parent)


def ends_well(folder, data, *more, spec=None):
    done = by_script(folder, data, *more, spec=spec)
    assert done.returncode == 0, done.stderr


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.exhaustive)])
def test_killed_at_random(kills, data, tmp_path):
    """In any epoch, and where it is killed more often, now and then in the import of torch."""
    whole, pieces, spec = tmp_path / "whole", tmp_path / "pieces", spec_of(epochs=100)
    assert train(spec, data, whole)
    log = pieces.with_suffix(".log")
    chance = random.Random(0)
    for attempt in range(1, kills + 1):
        process = start(pieces, data, "--checkpoint-seconds", "0.02", spec=spec)
        if attempt % 4:
            epoch = f"epoch {8 * attempt} of 100"
            wait_for(lambda epoch=epoch: log.exists() and epoch in log.read_text(), process)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert not (pieces / "metrics.json").exists()
    ends_well(pieces, data, spec=spec)
    assert same(pieces, whole)
    runtime = read(pieces / "runtime.json")
    assert kills - 1 <= runtime["attempts"] <= kills + 1
    assert runtime["resumed_epochs"] >= 8 * kills - 1
    epochs = [epoch["epoch"] for epoch in read(pieces / "metrics.json")["history"]]
    assert epochs == list(range(1, 101))
    assert sorted(p.name for p in pieces.iterdir()) == sorted([*SEEDED, "runtime.json", "provenance.json"])


def epochs_after(text, log):
    """Return how many epochs the log says have been trained after that text."""
    return log.exists() and log.read_text().partition(text)[2].count(" of 1000")


def test_each_signal_leaves_a_checkpoint_and_a_message(data, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "run.log"
    spec = spec_of(epochs=1000)
    for attempt, number in enumerate((signal.SIGTERM, signal.SIGUSR1, signal.SIGINT), 1):
        process = start(folder, data, spec=spec)
        wait_for(lambda begin=f"attempt {attempt}": epochs_after(begin, log) >= 2, process)
        process.send_signal(number)
        before = log.read_text().count(" of 1000")
        _, said = process.communicate(timeout=60)
        text = log.read_text()
        assert text.count(" of 1000") <= before + 1, "at the next step, not at the end of the epoch"
        assert process.returncode == 1
        assert f"stopped by {number.name}; the next attempt resumes here" in said
        assert said.strip() in text
        assert f"attempt {attempt}" in text
        assert text.count("resumes in epoch") == attempt - 1
        assert text.count("epoch 1 of") == 1
        assert (folder / "checkpoint" / NAME).exists()
        assert not (folder / "metrics.json").exists()


# In a mount namespace of its own a folder is mounted, and then is not, or may not be written to any more.
MOUNTED = """
mount --bind {store} {place}
{job} & process=$!
until [ -e {run}/checkpoint/previous.pt ]; do kill -0 $process; sleep 0.1; done
{fault}
wait $process
"""


@pytest.mark.parametrize(
    ("store", "place", "fault", "message"),
    [
        (
            *("a/run/checkpoint", "a/run/checkpoint"),
            *("until mount -o remount,bind,ro {place}; do sleep 0.1; done", "Read-only file system"),
        ),
        ("b", "a", "umount --lazy {place}", "No such file or directory"),
    ],
    ids=["read-only", "lost"],
)
def test_a_disk_that_goes_away_leaves_the_last_checkpoint(store, place, fault, message, data, tmp_path):
    namespace = ["unshare", "--mount", "--map-root-user"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here (unshare --mount)")
    paths = {"store": tmp_path / store, "place": tmp_path / place, "run": tmp_path / "a/run"}
    for path in (paths["store"], paths["place"]):
        path.mkdir(parents=True, exist_ok=True)
    spec = spec_of(epochs=40)
    job = command(paths["run"], data, "--checkpoint-seconds", "0", spec=spec, log=tmp_path / "log")
    script = MOUNTED.format(job=shlex.join(job), fault=fault.format(**paths), **paths)
    done = subprocess.run(
        [*namespace, "sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stderr
    assert re.search(rf"checkpoint\.pt: could not be written \({message}\)", done.stderr), done.stderr
    run = paths["run"] if store == place else paths["store"] / "run"
    assert not (run / "metrics.json").exists()
    ends_well(run, data, spec=spec)
    assert train(spec, data, tmp_path / "whole")
    assert same(run, tmp_path / "whole")
    assert read(run / "runtime.json")["attempts"] == 2


def test_the_log_holds_the_traceback_and_the_terminal_the_message(data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoint").write_text("a file where a folder should be")
    done = by_script(tmp_path / "run", data)
    assert done.returncode == 1
    for name in ("run.log", "run.history.log"):
        assert "Traceback" in (tmp_path / name).read_text()
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr


def start_two(folder, data):
    """Return a training that was stopped in its third epoch, and one beside it that waits."""
    log = folder.with_suffix(".log")
    first = start(folder, data, "--checkpoint-seconds", "0")
    wait_for(lambda: log.exists() and "epoch 2 of 12" in log.read_text(), first)
    first.send_signal(signal.SIGSTOP)
    second = start(folder, data)
    wait_for(lambda: f"process {first.pid} on " in log.read_text(), second)
    return first, second


def test_a_duplicate_waits_and_takes_what_was_made(data, tmp_path):
    first, second = start_two(tmp_path / "run", data)
    first.send_signal(signal.SIGCONT)
    assert (first.wait(), second.wait()) == (0, 0)
    log = (tmp_path / "run.log").read_text()
    assert "up to date" in log
    assert log.count("epoch 12 of 12") == 1
    assert not list((tmp_path / "run").glob("*.lock"))


def test_a_run_that_is_up_to_date_is_left_as_it_is(data, tmp_path):
    folder = tmp_path / "run"
    ends_well(folder, data)
    before = (folder / "metrics.json").stat()
    ends_well(folder, data)
    assert (folder / "metrics.json").stat() == before
    (folder / "predictions.npz").write_bytes(b"damaged")
    ends_well(folder, data)
    assert (folder / "metrics.json").stat() != before
    log = (tmp_path / "run.log").read_text()
    assert (log.count("up to date"), log.count("epoch 12 of 12")) == (1, 2)


def test_a_duplicate_goes_on_where_the_first_was_killed(data, tmp_path):
    assert train(spec_of(epochs=12), data, tmp_path / "whole")
    first, second = start_two(tmp_path / "run", data)
    first.kill()
    assert second.wait() == 0
    assert same(tmp_path / "run", tmp_path / "whole")
    assert read(tmp_path / "run" / "runtime.json")["resumed_epochs"] >= 1
