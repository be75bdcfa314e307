"""The steps on CUDA, without a GPU: fake tensors say they are on one, and an operation that involves the host fails.

A step that asks the GPU for a number waits for it, and cannot be captured. What fake tensors do not show: streams,
allocators, generators, and the backward pass, which needs a driver (pytorch#92627).
"""

import contextlib
import copy
import itertools

import numpy as np
import pytest
import torch
from conftest import ROOT, merge
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitcnn.config import load_config
from vitcnn.models.dropout import Masks
from vitcnn.plan import Run, run_spec
from vitcnn.training import trainer as training
from vitcnn.training.graphs import Graphed
from vitcnn.training.trainer import Images, Trainer

CUDA = torch.device("cuda", 0)
IMAGES = 40
MODELS = {
    "vit": {},
    "cnn": {},
    "simple_vit": {},
    "simple_cnn": {},
    "cct_2_3x2": {},
    "timm": {
        "builder": "timm:vit_tiny_patch16_224",
        "patch_size": 8,
        "drop_path_rate": 0.1,
        "drop_rate": 0.1,
    },
    "torchvision": {"builder": "torchvision:resnet18"},
}
RECIPES = {
    "adam10": {},
    "adamw20": {},
    "scheduled": {
        "optimizer": "sgd",
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.05,
        "no_decay": ["bias", "norm", "position", "class"],
        "lr_scheduler": "cosine",
        "warmup": 0.1,
        "label_smoothing": 0.1,
        "clip_grad_norm": 1,
        "mixup": 0.8,
        "cutmix": 1,
        "augmentation": {"random_erasing": 0.5},
    },
}


class OnDevice(TorchDispatchMode):
    """Fails an operation that reads or makes a tensor on the CPU, by its name."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        # The optimizers' kernels work in place, and have no fake of their own.
        if func.name().startswith(("aten::_fused_", "aten::_amp_")):
            made = args[0] if func._schema.returns else None
        else:
            made = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, made)):
            if isinstance(value, torch.Tensor) and value.device.type == "cpu":
                raise AssertionError(f"{func} touches the CPU")
        return made


@pytest.fixture
def fake(monkeypatch):
    """Fake tensors on a GPU that is not there, with what cannot be faked patched."""

    def draw(masks, x, p):
        return torch.empty_like(x).bernoulli_(1 - p), 1 / (1 - p)

    def backward(loss):
        assert loss.requires_grad
        for parameter in backward.parameters:
            parameter.grad = torch.zeros_like(parameter)

    monkeypatch.setattr(Masks, "__init__", lambda masks, seed, device: setattr(masks, "generator", None))
    monkeypatch.setattr(Masks, "draw", draw)
    monkeypatch.setattr(torch.Tensor, "backward", backward)
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *_, **__: module)  # it is built on the GPU
    monkeypatch.setattr(torch.amp.autocast_mode, "is_autocast_available", lambda device: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(
            torch.cuda, name, lambda *_: type("Stream", (), {"wait_stream": lambda *_: None})()
        )
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    # timm takes the rates of its drop path from one, number by number.
    monkeypatch.setattr(torch, "linspace", lambda first, last, steps, **_: np.linspace(first, last, steps))
    monkeypatch.setattr(training, "use_deterministic_algorithms", lambda device: None)
    monkeypatch.setattr(training, "synchronize", lambda device: None)
    # Blocks are copies of one, and a copy of a tensor is of the same mode.
    monkeypatch.setattr(FakeTensorMode, "__deepcopy__", lambda mode, memo: mode, raising=False)
    with FakeTensorMode(allow_non_fake_inputs=False):
        yield backward


def spec_of(model, recipe, size):
    config = load_config(ROOT / "config.yaml")
    dataset = "cifar10" if size == 32 else "imagenet200"
    name = model if model in config["models"] else "cnn"
    recipe_name = recipe if recipe in config["recipes"] else "adam10"
    spec = copy.deepcopy(run_spec(config, Run(dataset, name, recipe_name, "all", 0)))
    spec["recipe"] = merge(spec["recipe"], RECIPES[recipe] | {"batch_size": 16})
    if MODELS[model]:
        spec["model"] = {"name": model} | MODELS[model]
    return spec


def create_trainer(backward, model="simple_cnn", recipe="adam10", size=32, precision="fp32", graphs="off"):
    """Return a trainer whose tensors are all on the fake GPU, after the pass was drawn."""
    spec = spec_of(model, recipe, size)
    with CUDA:
        pixels = torch.zeros(IMAGES, 3, size, size, dtype=torch.uint8)
        images = Images(pixels, torch.zeros(IMAGES, dtype=torch.int64), torch.arange(IMAGES))
        trainer = Trainer(spec, {"train": images, "test": images}, CUDA, precision, graphs)
    backward.parameters = [*trainer.optimizer.parameters]
    if trainer.casts:  # a weight that is cast gets its gradient through the cast
        cast = {id(weight) for weight in trainer.casts.weights}
        backward.parameters = [weight for weight in backward.parameters if id(weight) not in cast]
        backward.parameters += trainer.casts.casts.values()
    trainer._draw_pass()
    trainer.model.train()
    return trainer


def step(trainer):
    """A training and a predicting step, with the host out of reach."""
    batch = trainer._batches("train")[0]
    with OnDevice():
        assert trainer._train_step(batch).shape == (2,)
        trainer.model.eval()
        with torch.no_grad():
            assert trainer._predict_step(trainer.images["test"], batch).dtype == torch.float32
        trainer.model.train()


@pytest.mark.parametrize(
    ("model", "precision", "size"),
    [*itertools.product(MODELS, ["fp32", "bf16"], [32, 64]), ("cnn", "fp16", 32)],
)
def test_steps_stay_on_the_gpu(model, precision, size, fake):
    step(create_trainer(fake, model, "adam10", size, precision))


@pytest.mark.parametrize("model", MODELS)
def test_no_weight_is_cast_in_a_step(model, fake):
    """Autocast finds all weights that it would cast cast already, by one kernel after each update."""
    trainer = create_trainer(fake, model, "adam10", 32, "bf16")
    casts, copies = [], []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._to_copy.default and isinstance(args[0], torch.nn.Parameter):
                casts.append(args[0].shape)
            if func is torch.ops.aten._foreach_copy_.default:
                copies.append(len(args[0]))
            return func(*args, **(kwargs or {}))

    with Watch():
        step(trainer)
    assert (casts, copies) == ([], [len(trainer.casts.casts)] * 2)  # of the gradients, and of the new weights


@pytest.mark.parametrize("augmented", ["ahead", "in the step", "by a policy"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_augmentation_and_recipes_stay_on_the_gpu(recipe, augmented, fake):
    trainer = create_trainer(fake, "simple_cnn", recipe)
    assert trainer.augments_ahead and trainer.augmented is not None
    assert trainer.values is not None  # pixels are looked up
    with OnDevice():
        trainer._augmented(trainer._batches("train")[0])
    if augmented != "ahead":
        trainer.augmented = None
    if augmented == "by a policy":
        trainer.prepared = trainer.images["train"].pixels[:16]
    step(trainer)


@pytest.mark.parametrize("graphs", ["auto", "off"])
def test_steps_are_graphed_as_asked_and_it_is_said(graphs, fake):
    trainer = create_trainer(fake, graphs=graphs)
    assert {isinstance(step, Graphed) for step in trainer.steps.values()} == {graphs == "auto"}
    if graphs == "off":
        assert trainer.graphs == "off"
        return
    assert trainer.graphs == "too few batches to capture one"
    trainer.steps["test"].replay = lambda: None
    assert trainer.graphs == "captured"
    trainer.steps["train"].failures.append("not permitted")
    assert trainer.steps["test"].failures == ["not permitted"]
    assert trainer.graphs == "not permitted"


FAULTS = {
    "item": lambda x: x * x.mean().item(),
    "a boolean mask": lambda x: x[x > 0].sum() + x,
    "an index on the CPU": lambda x: x[torch.arange(len(x), device="cpu")],
    "torch.tensor": lambda x: x * torch.tensor(2.0, device=x.device),
    "a scalar on the CPU": lambda x: x * torch.ones((), device="cpu"),
    "to the host": lambda x: x.cpu().to(x.device),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_step_that_involves_the_host_is_found(fault, fake):
    trainer = create_trainer(fake)
    forward = trainer.model.forward
    trainer.model.forward = lambda x: forward(FAULTS[fault](x))
    with pytest.raises((AssertionError, DataDependentOutputException, RuntimeError)) as caught:
        step(trainer)
    assert any(word in str(caught.value) for word in ("touches the CPU", "aten.", "DataDependent")), (
        caught.value
    )
