"""Runs, their specs and digests."""

import copy
import json
import random

import pytest
import yaml
from conftest import ROOT, merge
from hypothesis import given, settings
from hypothesis import strategies as st

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.errors import StudyError
from vitcnn.files import canonical_json, digest

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def spec_of(change=None, name="cifar10/vit/adam10/nall/seed0"):
    return plan.run_spec(check_config(merge(CONFIG, change or {})), plan.Run.parse(name))


def test_the_default_study_has_125_runs(default_config):
    names = plan.active_experiments(default_config, optional=False)
    counts = {name: len(plan.experiment_runs(default_config, name)) for name in names}
    assert counts == {"comparison": 30, "curves": 10, "data_efficiency": 50, "data_steps": 20, "fair": 15}
    assert len(plan.all_runs(default_config)) == 125


def test_optional_experiments_are_no_part_of_the_whole_study(default_config, tmp_path, monkeypatch):
    ladder = plan.experiment_runs(default_config, "ladder")
    own = [run for run in ladder if run.model != "vit"]
    assert len(ladder) == 40 and not set(own) & set(plan.all_runs(default_config))
    assert "ladder" in plan.active_experiments(default_config) and "ladder_curves" in plan.figures(
        default_config
    )
    monkeypatch.chdir(tmp_path)
    for run in plan.all_runs(default_config):
        run.folder.mkdir(parents=True)
    assert plan.begun_experiments(default_config) == []
    own[0].folder.mkdir(parents=True)
    assert plan.begun_experiments(default_config) == ["ladder"]


def test_experiments_share_runs():
    more = {
        "experiments": {
            "again": {"datasets": ["cifar10"], "models": ["vit"], "recipe": "adam10", "seeds": [0, 9]}
        }
    }
    config = check_config(merge(CONFIG, more))
    assert len(plan.all_runs(config)) == 126


def test_a_recipe_for_each_model():
    change = {"experiments": {"comparison": {"recipe": {"vit": "adam10", "cnn": "adamw10"}}}}
    config = check_config(merge(CONFIG, change))
    runs = plan.experiment_runs(config, "comparison")
    assert {(run.model, run.recipe) for run in runs} == {("vit", "adam10"), ("cnn", "adamw10")}
    study = json.loads(json.dumps(plan.part_of_study(config, "comparison")))
    assert plan.all_runs(study) == runs
    assert set(study["recipes"]) == {"adam10", "adamw10"}


def test_what_only_shows_runs_does_not_collect_them_again():
    change = {"experiments": {"curves": {"accuracy": "final", "pairs": [["simple_cnn", "simple_vit"]]}}}
    equal = {"models": ["simple_cnn", "simple_vit"], "in": "flops", "within": 1}
    change["experiments"]["curves"]["equal"] = [equal]
    before, after = (
        plan.part_of_study(check_config(c), "curves") for c in (merge(CONFIG, {}), merge(CONFIG, change))
    )
    assert before == after


def test_what_a_model_has_to_equal():
    config = check_config(merge(CONFIG, {}))
    (entry,) = plan.equals(config, "cifar10", "vit_f")
    assert entry["spec"] == plan.model_spec(config, "cifar10", "cnn")
    assert (entry["experiment"], entry["in"], entry["within"]) == ("fair", "flops", 0.03)
    assert entry["runs"] == ["cifar10/cnn/modern30/nall/seed0", "cifar10/vit_f/modern30_1e3/nall/seed0"]
    assert plan.equals(config, "cifar100", "vit_f")[0]["experiment"] == "fair_100"
    assert plan.equals(config, "cifar10", "cnn") == plan.equals(config, "cifar10", "vit") == []
    off = check_config(merge(CONFIG, {"experiments": {"fair": None}}))
    assert plan.equals(off, "cifar10", "vit_f") == []


def test_figures_need_their_experiments():
    all_figures = plan.figures(check_config(merge(CONFIG, {})))
    assert all_figures["summary"].experiments == ["curves", "data_efficiency"]
    assert all_figures["data_efficiency_data_efficiency"].kind == "data_efficiency"
    assert "comparison_data_efficiency" not in all_figures  # it has one size
    some = plan.figures(check_config(merge(CONFIG, {"experiments": {"data_efficiency": None}})))
    assert all_figures.keys() - some.keys() == {
        *("data_efficiency", "summary", "data_efficiency_curves", "data_efficiency_data_efficiency")
    }


def test_notebook_settings_reach_the_spec():
    spec = spec_of(name="imagenet200/vit/adam10/nall/seed3")
    assert spec["model"]["patch_size"] == 8
    assert spec["model"]["activation"] == "relu"
    assert spec["recipe"]["batch_size"] == 64
    assert spec["recipe"]["augmentation"]["rotation"] == 15
    assert spec["recipe"]["normalization"]["mean"] == [0.485, 0.456, 0.406]
    assert spec["recipe"]["hold_out"] is False
    spec = spec_of(name="cifar10/simple_cnn/adamw10/n1000/seed3")
    assert (spec["recipe"]["epochs"], spec["recipe"]["lr"], spec["recipe"]["weight_decay"]) == (
        10,
        0.0003,
        0.05,
    )
    assert spec["recipe"]["augmentation"]["crop_padding"] == 4
    assert spec["train_size"] == 1000


def shuffled(node, rng):
    if not isinstance(node, dict):
        return node
    items = [(key, shuffled(value, rng)) for key, value in node.items()]
    rng.shuffle(items)
    return dict(items)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_the_order_of_keys_changes_nothing(seed):
    config = check_config(shuffled(CONFIG, random.Random(seed)))
    run = plan.Run("cifar10", "vit", "adam10", "all", 0)
    other = check_config(copy.deepcopy(CONFIG))
    assert canonical_json(plan.run_spec(config, run)) == canonical_json(plan.run_spec(other, run))


@pytest.mark.parametrize(
    "change",
    [
        {"models": {"vit": {"title": "Other"}}},
        {"recipes": {"adam10": {"title": "Other"}}},
        {"datasets": {"cifar10": {"title": "Other", "source": ["elsewhere.tar.gz"]}}},
        {"recipes": {"adam10": {"weight_decay": 0.0}}},
        {"recipes": {"adam10": {"lr": 1.0e-3, "batch_size": {"cifar10": 128, "default": 64}}}},
        {"models": {"cnn": {"channels": [1, 2, 3]}}},
        {"device": "cpu", "threads": 4, "on_damaged": "skip", "seeds": [5]},
        {"report": {"plots": {"dpi": 100}}},
    ],
)
def test_what_does_not_concern_a_run_leaves_its_digest(change):
    assert digest(spec_of(change)) == digest(spec_of())


@pytest.mark.parametrize(
    "change",
    [
        {"recipes": {"adam10": {"lr": 0.002}}},
        {"recipes": {"adam10": {"augmentation": {"rotation": 11}}}},
        {"models": {"vit": {"dropout": 0.2}}},
        {"models": {"vit": {"final_norm": True}}},
        {"precision": "bf16"},
    ],
)
def test_what_concerns_a_run_changes_its_digest(change):
    assert digest(spec_of(change)) != digest(spec_of())


def test_two_values_swapped_change_the_spec():
    swapped = {"recipes": {"adamw20": {"lr": 0.05, "weight_decay": 0.0003}}}
    run = plan.Run("cifar10", "simple_vit", "adamw20", "all", 0)
    before = plan.run_spec(check_config(copy.deepcopy(CONFIG)), run)
    assert plan.run_spec(check_config(merge(CONFIG, swapped)), run) != before


@given(
    st.sampled_from(["cifar10", "imagenet200"]),
    st.one_of(st.just("all"), st.integers(1, 10**6)),
    st.integers(0, 2**32 - 1),
)
def test_a_run_is_its_name(dataset, size, seed):
    run = plan.Run(dataset, "vit", "adam10", size, seed)
    assert plan.Run.parse(run.name) == run
    assert plan.Run.parse(f"{run.folder}/") == run


@pytest.mark.parametrize(
    "name", ["", "cifar10/vit/adam10/n0/seed0", "cifar10/vit/adam10/nall", "a/b/c/nall/seedx"]
)
def test_names_of_no_run(name):
    with pytest.raises(StudyError, match="is no run"):
        plan.Run.parse(name)


def test_unknown_names_in_a_run():
    with pytest.raises(StudyError, match="no model vitt"):
        spec_of(name="cifar10/vitt/adam10/nall/seed0")


def test_an_experiment_travels_whole(default_config):
    """What collect_runs gets on its command line plans the same runs as the configuration."""
    for name in default_config["experiments"]:
        study = json.loads(json.dumps(plan.part_of_study(default_config, name)))
        assert plan.all_runs(study) == plan.experiment_runs(default_config, name)
        for run in plan.all_runs(study):
            assert plan.run_spec(study, run) == plan.run_spec(default_config, run)


def test_too_large_a_train_size(default_config, tmp_path):
    runs = plan.all_runs(default_config)
    largest = plan.largest_sizes(default_config, runs, "cifar10")
    assert largest == (50_000, 0)
    comparison = plan.experiment_runs(default_config, "comparison")
    assert plan.largest_sizes(default_config, comparison, "cifar10") == (0, 0)
    manifest = {"dataset": "cifar10", "counts": {"train": {"images": 5000}, "hold_out": {"images": 500}}}
    path = tmp_path / "cifar10" / "packed" / "manifest.json"
    with pytest.raises(
        StudyError, match=r"train_size 50,000 is over the 5,000 training images that cifar10 has"
    ):
        plan.check_sizes(manifest, largest, path)
    plan.check_sizes(manifest, (5000, 4500), path)
    with pytest.raises(StudyError, match="4,500 training images that cifar10 has beside the hold-out"):
        plan.check_sizes(manifest, (0, 4501), path)


def test_data_that_are_to_be_replaced_do_not_count(default_config, tmp_path):
    packed = tmp_path / "cifar10" / "packed"
    packed.mkdir(parents=True)
    manifest = {"dataset": "cifar10", "counts": {"train": {"images": 5000}, "hold_out": {"images": 500}}}
    (packed / "manifest.json").write_text(json.dumps(manifest))
    fetched = tmp_path / "cifar10" / "fetched_from.json"
    fetched.write_text(json.dumps({"source": "a former one"}))
    runs = plan.all_runs(default_config)
    plan.refuse_oversized(default_config, runs, tmp_path)
    fetched.write_text(json.dumps({"source": default_config["datasets"]["cifar10"]["source"][0]}))
    with pytest.raises(StudyError, match=r"packed/manifest\.json; lower it"):
        plan.refuse_oversized(default_config, runs, tmp_path)
    plan.refuse_oversized(default_config, plan.experiment_runs(default_config, "comparison"), tmp_path)


def test_a_run_outside_the_experiments_is_checked_too():
    change = {"models": {"simple_vit": {"patch_size": {"default": 4, "imagenet200": 7}}}}
    with pytest.raises(StudyError, match="7 does not divide the 64 pixels of imagenet200"):
        spec_of(change, "imagenet200/simple_vit/adamw10/n20/seed0")


def test_whole_numbers_are_integers():
    config = check_config(merge(CONFIG, {"seeds": [1.0], "recipes": {"adam10": {"epochs": 3.0}}}))
    assert plan.all_runs(config)[0].name.endswith("seed1")
