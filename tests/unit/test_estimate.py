"""How long it will take: the sums and the words."""

import re
import subprocess
import sys
import weakref

import pytest
import torch
import yaml
from conftest import ROOT, SMALL, merge

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.durations import duration
from vitcnn.files import write_json
from vitcnn.training import estimate
from vitcnn.training.workload import image_passes

CONFIG = check_config(merge(yaml.safe_load((ROOT / "config.yaml").read_text()), SMALL))
FULL = check_config(yaml.safe_load((ROOT / "config.yaml").read_text()))
RUN = plan.Run("imagenet200", "vit", "adam10", "all", 0)


def test_images_of_a_run(tmp_path):
    assert image_passes(FULL, RUN, tmp_path) == (1_000_000, 100_000)
    assert image_passes(FULL, RUN._replace(dataset="cifar100", train_size=500), tmp_path) == (
        5000,
        100_000,
    )
    counts = {split: {"images": images} for split, images in (("train", 90), ("hold_out", 10), ("test", 40))}
    write_json(tmp_path / "imagenet200/packed/manifest.json", {"counts": counts})
    assert image_passes(FULL, RUN, tmp_path) == (900, 400)
    held = FULL | {"recipes": {"adam10": FULL["recipes"]["adam10"] | {"hold_out": True}}}
    assert image_passes(held, RUN, tmp_path) == (800, 500)


def test_images_of_a_run_by_updates(tmp_path):
    recipe = {"updates": 100, "evaluations": 4, "batch_size": 128, "hold_out": False}
    config = FULL | {"recipes": {"adam10": FULL["recipes"]["adamw10"] | recipe}}
    del config["recipes"]["adam10"]["epochs"]
    run = RUN._replace(dataset="cifar10", train_size=1000)
    assert image_passes(config, run, tmp_path) == (12 * 1000 + 4 * 128, 40_000)


def test_models_are_timed_once_and_seconds_follow_the_images(monkeypatch, tmp_path):
    timed = []

    def pace(spec, device, graphs):
        timed.append((spec["model"]["name"], graphs))
        return estimate.Pace(train=0.01, predict=0.001)

    monkeypatch.setattr(estimate, "measure_pace", pace)
    runs = [
        RUN._replace(dataset=dataset, model=model, seed=seed)
        for dataset in ("cifar10", "cifar100")
        for model in ("vit", "cnn")
        for seed in (0, 1)
    ]
    seconds = estimate.estimate_seconds(FULL, runs, tmp_path, torch.device("cpu"), start=4)
    assert set(seconds.values()) == {4 + 500_000 * 0.01 + 100_000 * 0.001}
    assert timed == [("vit", "auto"), ("cnn", "auto")]
    estimate.estimate_seconds(FULL | {"graphs": False}, runs[:1], tmp_path, torch.device("cpu"))
    assert timed[2:] == [("vit", "off")]


def test_a_model_that_was_timed_leaves_no_graph_to_the_next(monkeypatch):
    """A graph holds memory of the GPU until it is gone; here the steps stand for theirs."""
    left = []

    class Watched(estimate.Trainer):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            left.append((arguments[-1], weakref.ref(self.steps["test"])))

    monkeypatch.setattr(estimate, "Trainer", Watched)
    monkeypatch.setattr(estimate, "SECONDS", 0)
    spec = plan.run_spec(CONFIG, RUN._replace(dataset="cifar10", train_size=100))
    estimate.measure_pace(spec, torch.device("cpu"), "off")
    ((graphs, step),) = left
    assert graphs == "off"
    assert step() is None


def test_the_words_name_what_takes_less(monkeypatch):
    monkeypatch.delenv("VITCNN_PROFILE", raising=False)
    seconds = dict.fromkeys(plan.all_runs(FULL), 600.0)
    words = estimate.in_words(FULL, seconds, torch.device("cpu"), jobs=2, spent=9)
    assert words.startswith("To be trained: 125 run(s), about 10 h 25 min on ")
    assert "--config 'seeds=[0]', 2 h 5 min" in words
    for experiment in ("comparison", "curves", "data_efficiency", "data_steps", "fair"):
        assert f"one experiment: {experiment} as the target, " in words
    assert "profiles/quick" in words and "fair_tiny" not in words
    one_seed = {run: 600.0 for run in seconds if run.seed == 0}
    assert "one seed" not in estimate.in_words(FULL, one_seed, torch.device("cpu"), jobs=2, spent=9)
    optional = dict.fromkeys(plan.experiment_runs(FULL, "tiny_seeds"), 600.0)  # which has seeds of its own
    words = estimate.in_words(FULL, optional, torch.device("cpu"), jobs=2, spent=9)
    assert "one seed" not in words and "one experiment" not in words and "profiles/quick" in words
    monkeypatch.setenv("VITCNN_PROFILE", "quick")
    words = estimate.in_words(FULL, seconds, torch.device("cpu"), jobs=2, spent=9)
    assert "one seed" in words and "profiles/quick" not in words
    short = estimate.in_words(FULL, dict.fromkeys(seconds, 1.0), torch.device("cpu"), jobs=2, spent=9)
    assert "too long" not in short
    one = estimate.in_words(FULL, {RUN: 100.0}, torch.device("cpu"), jobs=2, spent=9)
    assert "about 2 min" in one  # a single run is not halved by a second place


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "3 s"), (600, "10 min"), (5399, "1 h 30 min"), (12_000, "3 h 20 min")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_the_script_by_hand(tmp_path):
    write_json(tmp_path / "config.json", CONFIG | {"seeds": list(range(60))})
    command = [sys.executable, ROOT / "workflow/scripts/estimate_time.py", "--config", "config.json"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert re.search(r"To be trained: \d+ run\(s\), about .* on .*, (fp32|bf16)", said)
    few = subprocess.run(
        [*command, "--runs", "-"],
        input="cifar10/cnn/adam10/n100/seed0",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert few.startswith("To be trained: 1 run(s), ")
