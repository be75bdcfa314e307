"""Models of timm and torchvision, by their names in config.yaml."""

import copy
import subprocess
import sys

import pytest
import torch
import yaml
from conftest import ROOT, SMALL, merge, read

import vitcnn.models
from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.errors import StudyError
from vitcnn.interrupts import Interrupted
from vitcnn.models import check, count_parameters, create_model, registry
from vitcnn.models.check import check_last_batch, check_model, create_on_meta
from vitcnn.models.describe import describe_model
from vitcnn.models.head import compute_head_in_fp32
from vitcnn.models.registry import architectures, resolve_builder
from vitcnn.training.checkpoints import Checkpoints
from vitcnn.training.run import train_run

CONFIG = merge(yaml.safe_load((ROOT / "config.yaml").read_text()), SMALL)
TINY_VIT = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}  # of timm, in every test


def config_with(**model):
    """Return the configuration with a model named `mine`, in an experiment of its own."""
    change = {
        "models": {"mine": {"title": "Mine"} | model},
        "experiments": {
            "own": {"datasets": ["cifar10", "imagenet200"], "models": ["mine"], "recipe": "adam10"}
        },
    }
    return merge(CONFIG, change)


def spec_of(dataset="cifar10", **model):
    checked = check_config(config_with(**model)) | {"precision": "fp32"}
    return copy.deepcopy(plan.run_spec(checked, plan.Run(dataset, "mine", "adam10", 200, 1)))


def test_all_names_are_known_without_an_import():
    import timm
    from torchvision import models

    assert architectures("timm") == set(timm.list_models())
    assert architectures("torchvision") == set(models.list_models(module=models))
    program = (
        "import sys; sys.path.insert(0, 'workflow'); from vitcnn.models.registry import resolve_builder;"
        "resolve_builder('timm:resnet18'); resolve_builder('torchvision:resnet18');"
        "sys.exit(bool({'torch', 'timm', 'torchvision'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            {"builder": "timm:resnet81"},
            "models.mine.builder: timm has no model resnet81; did you mean resnet18?",
        ),
        ({"builder": "torchvision:resnet19"}, "torchvision has no model resnet19; did you mean resnet1"),
        ({"builder": "tim:resnet18"}, "models.mine.builder: tim is no library of models; did you mean timm?"),
        ({"builder": "from_timm"}, "models.mine.builder: there is no from_timm"),
        ({"builder": 3}, "models.mine.builder: 3 is not text"),
        (
            {"builder": "timm:resnet18", "pretrained": True},
            "models.mine.pretrained: cannot be set: every model is trained from scratch",
        ),
        (
            {"builder": "timm:resnet18", "checkpoint_path": "x"},
            "checkpoint_path: cannot be set: every model is",
        ),
        (
            {"builder": "timm:resnet18", "features_only": True},
            "features_only: cannot be set: a model must return",
        ),
        ({"builder": "timm:resnet18", "img_size": 32}, "img_size: cannot be set: is taken from the dataset"),
        (
            {"builder": "torchvision:resnet18", "pretrained": True},
            "pretrained: cannot be set: every model is",
        ),
        ({"builder": "torchvision:resnet18", "weights": "DEFAULT"}, "weights: cannot be set: every model is"),
        (
            {"builder": "timm:resnet18", "family": "cnn"},
            "models.mine.family: 'cnn' is not one of ViT, CNN, other; did you mean CNN?",
        ),
        (
            {"builder": "timm:resnet18", "drop_rate": {"cifar10": 0.1}},
            "models.mine.drop_rate has no value for imagenet200",
        ),
        (
            {"builder": "timm:resnet18", "drop_rate": {"default": 0, "cifar": 0.1}},
            "drop_rate.cifar: is no dataset",
        ),
    ],
)
def test_mistakes_are_named(model, expected):
    with pytest.raises(StudyError) as error:
        check_config(config_with(**model))
    assert expected in str(error.value)


def test_a_library_that_is_not_installed(monkeypatch):
    from vitcnn.models import registry

    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    architectures.cache_clear()
    try:
        with pytest.raises(StudyError, match=r"timm is not installed; envs/lock\.txt has it"):
            resolve_builder("timm:resnet18")
    finally:
        architectures.cache_clear()


def test_settings_of_a_library_are_read_as_yaml_reads_them():
    """As text Snakemake hands over what stands inside `--config`."""
    typed = {"qkv_bias": "false", "depth": "2", "drop_rate": "1e-1", "drop_path_rate": {"default": "0.1"}}
    checked = check_config(config_with(builder="timm:vit_tiny_patch16_224", global_pool="avg", **typed))
    model = checked["models"]["mine"]
    assert [model[key] for key in typed] == [False, 2, 0.1, {"default": 0.1}]
    assert model["global_pool"] == "avg"


def test_family_and_values_by_dataset():
    model = {"builder": "timm:vit_tiny_patch16_224", "family": "ViT"} | TINY_VIT
    checked = check_config(config_with(**model | {"patch_size": {"default": 4, "imagenet200": 8}}))
    assert checked["models"]["mine"]["family"] == "ViT"
    assert {name: checked["models"][name]["family"] for name in ("vit", "cnn")} == {
        "vit": "ViT",
        "cnn": "CNN",
    }
    assert check_config(config_with(builder="torchvision:resnet18"))["models"]["mine"]["family"] == "other"
    for dataset, patch in (("cifar10", 4), ("imagenet200", 8)):
        spec = plan.run_spec(checked, plan.Run(dataset, "mine", "adam10", "all", 0))
        assert spec["model"] == {"name": "mine", "builder": model["builder"]} | TINY_VIT | {
            "patch_size": patch
        }


@pytest.mark.parametrize(
    ("builder", "dataset"),
    [
        ("timm:vit_tiny_patch16_224", "cifar10"),
        ("timm:vit_tiny_patch16_224", "imagenet200"),
        ("timm:resnet18", "imagenet200"),
        ("torchvision:vit_b_32", "cifar10"),
        ("torchvision:squeezenet1_1", "cifar10"),
        ("torchvision:regnet_y_400mf", "cifar10"),
    ],
)
def test_models_fit_the_images(builder, dataset):
    """A few kinds of model, described with all of their parameters."""
    spec = spec_of(dataset, builder=builder)
    check_model(spec)
    text = describe_model(spec)
    count = count_parameters(create_on_meta(spec))
    assert f"{count:,} trainable parameters" in text
    listed = [line.split()[-1].replace(",", "") for line in text.split("\n\n")[1].splitlines()[2:]]
    assert sum(int(number) for number in listed if number != "-") == count


def test_settings_are_checked_by_building():
    with pytest.raises(StudyError, match=r"models\.mine: timm:resnet18 cannot be built as .*cifar10.*heads"):
        check_model(spec_of(builder="timm:resnet18", heads=3))
    with pytest.raises(
        StudyError, match=r"torchvision:inception_v3 was built and fails on two images, .* 32 x 32 pixels"
    ):
        describe_model(spec_of(builder="torchvision:inception_v3"))
    with pytest.raises(
        StudyError, match=r"returns GoogLeNetOutputs for two images in training, .*aux_logits"
    ):
        check_model(spec_of("imagenet200", builder="torchvision:googlenet", init_weights=False))
    check_model(spec_of("imagenet200", builder="torchvision:googlenet", init_weights=False, aux_logits=False))


def test_a_model_that_fails_names_the_line(tmp_path, monkeypatch):
    spec = spec_of(builder="timm:resnet18")
    (tmp_path / "failing.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def forward(self, images):\n"
        "        return self.haed(images)\n\n\ndef build(*, image_size: int, num_classes: int):\n    return Net()\n"
    )
    monkeypatch.setattr(check, "FOLDER", tmp_path)
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    monkeypatch.setattr(vitcnn.models, "__path__", [*vitcnn.models.__path__, str(tmp_path)])
    registry.builders.cache_clear()
    try:
        with pytest.raises(StudyError, match=r"fails on two images, .*, failing\.py, line 6: .*haed"):
            check_model(spec | {"model": {"name": "mine", "builder": "failing"}})
    finally:
        registry.builders.cache_clear()
        sys.modules.pop("vitcnn.models.failing", None)


def test_weights_are_random_and_the_seeds():
    spec = spec_of(builder="timm:vit_tiny_patch16_224", **TINY_VIT)
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(create_model(spec).state_dict()["blocks.0.attn.qkv.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_stopped_anywhere_a_foreign_model_ends_with_the_same_bytes(data, tmp_path, monkeypatch):
    """Its dropout and drop path draw from torch's own random numbers."""
    rates = {"drop_path_rate": 0.3, "proj_drop_rate": 0.2, "attn_drop_rate": 0.2}
    spec = spec_of(builder="timm:vit_tiny_patch16_224", **TINY_VIT, **rates)
    spec["recipe"] |= {"epochs": 1}
    offer = Checkpoints.offer

    def train(folder, stop):
        offers = 0

        def counting(self, state):
            nonlocal offers
            offers += 1
            if offers == stop:
                self.signals.append("SIGTERM")
            offer(self, state)

        monkeypatch.setattr(Checkpoints, "offer", counting)
        train_run(spec, data, folder, "cpu", 1)
        return offers

    assert train(tmp_path / "whole", 0) == 2 + 4
    for place in range(1, 7):
        folder = tmp_path / str(place)
        with pytest.raises(Interrupted):
            train(folder, place)
        train(folder, 0)
        for name in ("metrics.json", "model.safetensors", "predictions.npz"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), (place, name)
    assert (
        read(tmp_path / "whole" / "metrics.json")["spec"]["model"]["builder"] == "timm:vit_tiny_patch16_224"
    )


@pytest.mark.parametrize(
    ("name", "size"), [("deit_tiny_distilled_patch16_224", 32), ("crossvit_tiny_240", 240)]
)
def test_every_head_of_a_timm_model_is_computed_in_fp32(name, size):
    spec = spec_of(builder=f"timm:{name}")
    spec["dataset"]["image_size"] = size
    check_model(spec)
    model = create_model(spec).eval()
    compute_head_in_fp32(model, 10)  # as the trainer does with every model
    heads = [m for n, m in model.named_modules() if n.startswith("head") and isinstance(m, torch.nn.Linear)]
    seen = []
    for head in heads:
        head.register_forward_hook(lambda module, given, logits: seen.append(logits.dtype))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        model(torch.zeros(2, 3, size, size))
    assert len(heads) == 2 and seen == [torch.float32] * 2


def test_a_last_batch_of_one_image_is_refused_where_a_model_cannot_train_on_it(data, tmp_path):
    spec = spec_of(builder="torchvision:resnet18")
    spec["train_size"], spec["recipe"]["batch_size"] = 100, 33
    with pytest.raises(
        StudyError, match=r"recipes\.adam10\.batch_size: 33 leaves a last batch of one of the 100 "
    ):
        train_run(spec, data, tmp_path, "cpu", 1)
    spec["recipe"]["batch_size"] = 50
    check_last_batch(spec, 100)
    spec["recipe"]["batch_size"] = 33
    check_last_batch(spec | {"model": spec_of(builder="timm:vit_tiny_patch16_224", **TINY_VIT)["model"]}, 100)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_torchvisions_models_train(precision, data, tmp_path):
    spec = spec_of(builder="torchvision:squeezenet1_1") | {"precision": precision, "train_size": 100}
    spec["recipe"] |= {"epochs": 1}
    train_run(spec, data, tmp_path, "cpu", 1)
    assert read(tmp_path / "metrics.json")["num_parameters"] == 727_626
