"""What a recipe asks for beside the notebooks' settings, against torch's and torchvision's own."""

import copy
import math

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from PIL import Image
from scipy import stats
from torch import nn
from torch.optim import lr_scheduler
from torchvision import transforms
from torchvision.transforms import functional, v2

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.data import policies
from vitcnn.data.mixing import Mixing, draw_boxes, draw_erased, draw_mixing, mix, mix_labels
from vitcnn.models import create_model
from vitcnn.training import loop, trainer
from vitcnn.training.optimizers import create_optimizer, parameters_of_kinds
from vitcnn.training.schedule import evaluations, images_in, learning_rate, updates_until

CONFIG = check_config(yaml.safe_load((ROOT / "config.yaml").read_text()))
PLAIN = CONFIG["recipes"]["adamw10"]


def model_of(name):
    return create_model(plan.run_spec(CONFIG, plan.Run("cifar10", name, "adamw10", "all", 0)))


# Optimizers and schedules


def torch_optimizer(parameters, recipe):
    if recipe["optimizer"] == "sgd":
        options = {"momentum": recipe["momentum"], "nesterov": recipe["nesterov"]}
        return torch.optim.SGD(parameters, lr=recipe["lr"], fused=True, **options)
    plain = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe["optimizer"]]
    return plain(parameters, lr=recipe["lr"], fused=True)


def torch_scheduler(optimizer, recipe, updates):
    """Return torch's own schedulers in the order that a recipe has them."""
    warmup = round(recipe["warmup"] * updates)
    rise = lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup) if warmup else None
    if recipe["lr_scheduler"] == "constant":
        fall = lr_scheduler.ConstantLR(optimizer, 1)
    else:
        fall = lr_scheduler.CosineAnnealingLR(optimizer, updates - warmup, recipe["min_lr"])
    return lr_scheduler.SequentialLR(optimizer, [rise, fall], [warmup]) if warmup else fall


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize(
    "recipe",
    [
        {"lr_scheduler": "constant", "warmup": 0, "min_lr": 0},
        {"lr_scheduler": "constant", "warmup": 0.25, "min_lr": 0},
        {"lr_scheduler": "cosine", "warmup": 0, "min_lr": 0},
        {"lr_scheduler": "cosine", "warmup": 0.05, "min_lr": 0},
        {"lr_scheduler": "cosine", "warmup": 0.3, "min_lr": 1e-5},
    ],
)
def test_learning_rates_are_torchs_step_by_step(recipe):
    recipe |= {"lr": 0.003}
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe["lr"])
    scheduler = torch_scheduler(optimizer, recipe, 200)
    for update in range(200):
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate(recipe, update, 200) == pytest.approx(expected, rel=1e-9, abs=1e-12), update
        optimizer.step()
        scheduler.step()


def test_a_schedule_in_words():
    recipe = {"lr": 1, "lr_scheduler": "cosine", "warmup": 0.1, "min_lr": 0.2}
    rates = [learning_rate(recipe, update, 100) for update in range(100)]
    assert rates[:10] == pytest.approx([i / 11 for i in range(1, 11)])
    assert rates[10] == max(rates) == 1
    assert rates[55] == pytest.approx(0.6)
    assert 0.2 < rates[-1] < 0.201
    assert learning_rate(recipe, 0, 1) == 1  # a training of one update has no time to rise


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("clip", [0, 0.5])
@pytest.mark.parametrize("weight_decay", [0, 0.05])
@pytest.mark.parametrize(
    "optimizer",
    [
        {"optimizer": "adam"},
        {"optimizer": "adamw"},
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "momentum": 0.9},
        {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    ],
    ids=["adam", "adamw", "sgd", "momentum", "nesterov"],
)
def test_weights_and_states_are_those_of_torchs_optimizer(optimizer, weight_decay, clip):
    """Thirty updates with a schedule, biases without weight decay, and one layer that has no gradient."""
    recipe = PLAIN | {"lr": 0.01, "lr_scheduler": "cosine", "warmup": 0.2, "no_decay": ["bias"]}
    recipe |= {"weight_decay": weight_decay} | optimizer
    torch.manual_seed(0)
    first = nn.ModuleList([nn.Linear(20, 30), nn.Linear(7, 7), nn.Linear(30, 5)])
    second = copy.deepcopy(first)
    mine = create_optimizer(first, recipe)
    biases = [p for name, p in second.named_parameters() if name.endswith("bias")]
    weights = [p for name, p in second.named_parameters() if name.endswith("weight")]
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": biases, "weight_decay": 0}]
    theirs = torch_optimizer(groups, recipe)
    scheduler = torch_scheduler(theirs, recipe, 30)
    for update in range(30):
        x, y = torch.randn(16, 20), torch.randint(0, 5, (16,))
        mine.lr.fill_(theirs.param_groups[0]["lr"])
        for layers, own in ((first, mine), (second, theirs)):
            own.zero_grad()
            loss = nn.functional.cross_entropy(layers[2](layers[0](x).relu()), y)
            loss.backward()
            if clip:
                norm = nn.utils.clip_grad_norm_(layers.parameters(), clip)
                assert (norm > clip) or update, "something is to be clipped"
            own.step()
        scheduler.step()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    names = {"exp_avgs": "exp_avg", "exp_avg_sqs": "exp_avg_sq", "momentum_buffers": "momentum_buffer"}
    pairs = [(own, twin) for own, twin in zip(first.parameters(), second.parameters(), strict=True)]
    twins = {id(own): twin for own, twin in pairs}
    compared = 0
    for name, tensors in mine.get_state().items():
        for parameter, tensor in zip(mine.parameters, tensors, strict=True):
            there = theirs.state.get(twins[id(parameter)], {}).get(names.get(name, "step"))
            if there is not None:
                assert torch.equal(tensor, there)
                compared += 1
    assert compared == {"adam": 12, "adamw": 12, "sgd": 4 if recipe["momentum"] else 0}[recipe["optimizer"]]


@pytest.mark.parametrize(
    ("model", "kinds", "expected"),
    [
        ("simple_vit", ["position", "class"], ["cls_token", "pos_embed"]),
        ("simple_vit", ["bias"], "bias"),
        ("simple_vit", ["norm"], "norm"),
        ("cnn", ["norm"], "bn"),
        ("cnn", [], []),
    ],
)
def test_what_has_no_weight_decay(model, kinds, expected):
    module = model_of(model)
    names = {parameter: name for name, parameter in module.named_parameters()}
    found = sorted(names[parameter] for parameter in parameters_of_kinds(module, kinds))
    if isinstance(expected, str):
        shortcuts = [n for n in names.values() if "shortcut.1" in n] if expected == "bn" else []
        expected = sorted([n for n in names.values() if expected in n] + shortcuts)
        assert expected
    assert found == expected


def test_kinds_of_parameters_by_torchvisions_names():
    """The reference script's own division (references/classification, set_weight_decay) of a ViT and a Swin."""
    from torchvision.models import swin_t, vit_b_32

    with torch.device("meta"):
        for model, extra in ((vit_b_32(), {"class_token", "pos_embedding"}), (swin_t(), set())):
            found = parameters_of_kinds(model, ["bias", "norm", "position", "class"])
            names = {name for name, parameter in model.named_parameters() if parameter in found}
            norms = {
                f"{name}.{part}"
                for name, module in model.named_modules()
                if isinstance(module, nn.LayerNorm)
                for part in ("weight", "bias")
            }
            whole = {name for name, _ in model.named_parameters()}
            others = {n for n in whole if n.endswith("bias") or n.rpartition(".")[2] in extra}
            others |= {n for n in whole if "relative_position" in n}
            assert names == norms | others


def trained_with(data, **recipe):
    from vitcnn.data.packed import load_packed

    spec = copy.deepcopy(plan.run_spec(CONFIG, plan.Run("cifar10", "simple_cnn", "adamw10", 300, 0)))
    spec["model"] |= {"channels": [8], "hidden": 16}
    spec["recipe"] |= {"epochs": 2} | recipe
    return loop.train(spec, load_packed(data), torch.device("cpu"), "fp32")


def test_the_loop_follows_the_schedule_and_clips(data, monkeypatch):
    rates, norms = [], []
    create, clip = trainer.create_optimizer, nn.utils.clip_grad_norm_

    def create_noting(model, recipe):
        optimizer = create(model, recipe)
        step = optimizer.step

        def noting_step(*overflow):
            rates.append(optimizer.lr.item())
            gradients = [p.grad.flatten() for p in optimizer.parameters]
            norms.append(torch.cat(gradients).norm().item())
            step(*overflow)

        optimizer.step = noting_step
        return optimizer

    monkeypatch.setattr(trainer, "create_optimizer", create_noting)
    before = []

    def noting_clip(parameters, max_norm):
        before.append(clip(parameters, max_norm).item())

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", noting_clip)
    recipe = {"lr": 0.01, "lr_scheduler": "cosine", "warmup": 0.34, "min_lr": 0.001}
    trained_with(data, **recipe, clip_grad_norm=0.5)
    assert rates == pytest.approx([learning_rate(recipe, update, 6) for update in range(6)])
    assert [min(norm, 0.5) for norm in before] == pytest.approx(norms, rel=1e-4)
    assert max(before) > 0.5


def smoothed_loss(logits, labels, label_smoothing):
    """The cross-entropy against labels of which a share is spread over all classes (arXiv 1512.00567)."""
    classes = logits.shape[1]
    targets = torch.full_like(logits, label_smoothing / classes)
    targets.scatter_add_(1, labels[:, None], torch.full_like(logits, 1 - label_smoothing))
    return -(targets * logits.log_softmax(1)).sum(1).mean()


def test_smoothed_labels_give_torchs_loss(data, monkeypatch):
    seen = []
    cross_entropy = trainer.F.cross_entropy

    def note(logits, labels, **options):
        loss = cross_entropy(logits, labels, **options)
        assert loss.item() == pytest.approx(smoothed_loss(logits, labels, 0.1).item(), rel=1e-5)
        seen.append(loss.item())
        return loss

    monkeypatch.setattr(trainer.F, "cross_entropy", note)
    history = trained_with(data, label_smoothing=0.1, epochs=1).history
    assert history[0]["train_loss"] == pytest.approx(np.mean(seen))


def test_numbers_of_updates_and_images():
    recipe = {"epochs": 3, "batch_size": 128}
    assert (evaluations(recipe), updates_until(recipe, 300, 3), images_in(9, 300, 128)) == (3, 9, 900)
    recipe = {"updates": 10, "evaluations": 4, "batch_size": 128}
    assert [updates_until(recipe, 300, k) for k in range(5)] == [0, 2, 5, 8, 10]
    assert [images_in(u, 300, 128) for u in (0, 1, 2, 3, 4)] == [0, 128, 256, 300, 428]
    assert evaluations(recipe) == 4


# Mixing and erasing

NOTHING = Mixing(None, None, None, None)


def normalised(count=12, size=32):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.77, 1.0])
def test_mixup_is_torchvisions(share, monkeypatch):
    images, labels = normalised(), torch.arange(12) % 10
    share = torch.tensor(share)
    theirs = v2.MixUp(alpha=0.8, num_classes=10)
    monkeypatch.setattr(theirs, "make_params", lambda inputs: {"lam": float(share)})
    expected, expected_labels = theirs(images, labels)
    mixing = NOTHING._replace(
        pixel_weight=share.expand(12), box=torch.zeros(12, 4, dtype=int), label_weight=share.expand(12)
    )
    assert torch.equal(mix(images, mixing), expected)
    assert torch.equal(mix_labels(labels, mixing, 10), expected_labels)


def test_cutmix_is_torchvisions(monkeypatch):
    recipe = PLAIN | {"mixup": 0, "cutmix": 1.0, "batch_size": 12}
    for seed in range(50):
        images, labels = normalised(), torch.arange(12) % 10
        mixing = draw_mixing(12, 32, recipe, torch.Generator().manual_seed(seed))
        top, left, height, width = mixing.box[0].tolist()
        adjusted = 1.0 - width * height / 32**2
        theirs = v2.CutMix(alpha=1.0, num_classes=10)
        drawn = {"box": (left, top, left + width, top + height), "lam_adjusted": adjusted}
        monkeypatch.setattr(theirs, "make_params", lambda inputs, drawn=drawn: drawn)
        expected, expected_labels = theirs(images, labels)
        assert torch.equal(mix(images, mixing), expected)
        assert torch.equal(mix_labels(labels, mixing, 10), expected_labels)


def test_boxes_of_a_share_are_torchvisions(monkeypatch):
    """For the same centre and share; and a share of 0 takes the whole image but for what is cut off."""
    shares = torch.rand(200, generator=torch.Generator().manual_seed(2))
    boxes = draw_boxes(shares, 32, torch.Generator().manual_seed(3))
    centres = torch.Generator().manual_seed(3)
    x, y = (torch.randint(32, (200,), generator=centres).tolist() for _ in "xy")
    for i, share in enumerate(shares.tolist()):
        theirs = v2.CutMix(alpha=1.0, num_classes=10)
        monkeypatch.setattr(theirs._dist, "sample", lambda shape, share=share: torch.tensor([share]))
        given = iter([torch.tensor([x[i]]), torch.tensor([y[i]])])
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randint", lambda *args, given=given, **options: next(given))
            drawn = theirs.make_params([torch.zeros(1, 3, 32, 32)])
        top, left, height, width = boxes[i].tolist()
        assert (left, top, left + width, top + height) == drawn["box"]


def test_shares_follow_the_beta_distribution_and_batches_share_them():
    recipe = PLAIN | {"mixup": 0.8, "cutmix": 0, "batch_size": 4}
    mixing = draw_mixing(40_002, 32, recipe, torch.Generator().manual_seed(0))
    shares = mixing.label_weight[:40_000].view(-1, 4)
    assert (shares == shares[:, :1]).all()
    assert len(mixing.label_weight) == 40_002
    assert stats.kstest(shares[:, 0].numpy(), stats.beta(0.8, 0.8).cdf).pvalue > 0.001
    assert torch.equal(mixing.pixel_weight, mixing.label_weight)
    assert not mixing.box.any()
    both = draw_mixing(40_000, 32, recipe | {"cutmix": 1.0}, torch.Generator().manual_seed(0))
    cut = (both.pixel_weight[::4] == 1).sum().item()
    assert stats.binomtest(cut, 10_000, 0.5).pvalue > 0.001


def test_an_erased_box_is_torchvisions():
    images = normalised(300)
    boxes = draw_erased(300, 32, 0.7, torch.Generator().manual_seed(5))
    erased = mix(images, NOTHING._replace(erased=boxes))
    for image, box, ours in zip(images, boxes.tolist(), erased, strict=True):
        assert torch.equal(ours, functional.erase(image, *box, torch.zeros(3, 1, 1)))


def test_erased_boxes_are_distributed_as_torchvisions():
    count = 5000
    boxes = draw_erased(count, 32, 0.25, torch.Generator().manual_seed(6))
    used = boxes[(boxes[:, 2] > 0) & (boxes[:, 3] > 0)].numpy()
    assert stats.binomtest(len(used), count, 0.25).pvalue > 0.001
    ours = draw_erased(count, 32, 1.0, torch.Generator().manual_seed(7)).numpy()
    torch.manual_seed(8)
    erasing = transforms.RandomErasing(value=0)
    image = torch.zeros(3, 32, 32)
    theirs = np.array(
        [erasing.get_params(image, erasing.scale, erasing.ratio, [0.0])[:4] for _ in range(count)]
    )
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.001
    assert ((ours[:, :2] >= 0) & (ours[:, :2] + ours[:, 2:] <= 32)).all()


def test_a_recipe_without_mixing_draws_nothing():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert draw_mixing(100, 32, PLAIN, generator) == NOTHING
    assert torch.equal(generator.get_state(), before)
    images, labels = normalised(), torch.arange(12)
    assert mix(images, NOTHING) is images
    assert mix_labels(labels, NOTHING, 12) is labels


def test_mixed_labels_reach_the_loss(data, monkeypatch):
    seen = []
    cross_entropy = trainer.F.cross_entropy
    monkeypatch.setattr(
        trainer.F,
        "cross_entropy",
        lambda *args, **options: (seen.append(args[1]), cross_entropy(*args, **options))[1],
    )
    history = trained_with(data, mixup=0.8, cutmix=1.0, epochs=3).history
    assert all(target.shape[1] == 10 for target in seen)
    assert all(torch.allclose(target.sum(1), torch.ones(len(target))) for target in seen)
    assert any(((target > 0).sum(1) > 1).any() for target in seen)
    assert all(math.isfinite(epoch["train_loss"]) for epoch in history)


# Policies


@pytest.mark.parametrize("name", ["TrivialAugmentWide", "RandAugment"])
def test_policies_are_torchvisions_on_pil_images(name):
    """300 images, byte for byte, each with its own draws; and torch's own numbers are left as they were."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8, generator=generator)
    images[::2] = images[::2, :, :4, :4].repeat(1, 1, 8, 8)  # some structure
    seeds = torch.randint(2**63 - 1, (300,), generator=generator)
    torch.manual_seed(9)
    expected_next = torch.rand(3)
    torch.manual_seed(9)
    ours = policies.apply_policy(name, images, seeds)
    assert torch.equal(torch.rand(3), expected_next)
    plain = getattr(transforms, name)()
    for image, seed, mine in zip(images, seeds.tolist(), ours, strict=True):
        torch.manual_seed(seed)
        expected = np.asarray(plain(Image.fromarray(image.permute(1, 2, 0).numpy())))
        assert (mine.permute(1, 2, 0).numpy() == expected).all()
    assert (ours != images).flatten(1).any(1).sum() > 200


def test_the_loop_augments_by_the_policy(data, monkeypatch):
    """The images that reach the model are those of the policy, after the crop, in their order."""
    made, fed = [], []
    apply_policy = policies.apply_policy

    def noting(name, images, seeds):
        made.append(apply_policy(name, images, seeds))
        return made[-1]

    monkeypatch.setattr(policies, "apply_policy", noting)
    normalize = trainer.normalize
    monkeypatch.setattr(
        trainer,
        "normalize",
        lambda images, **scale: (fed.append(images.clone()), normalize(images, **scale))[1],
    )
    augmentation = PLAIN["augmentation"] | {"auto_augment": "RandAugment"}
    trained_with(data, augmentation=augmentation, epochs=2)
    assert [len(images) for images in made] == [128, 128, 44] * 2
    trained_on = fed[:3] + fed[7:10]
    assert all(torch.equal(a, b) for a, b in zip(made, trained_on, strict=True))
    assert not torch.equal(made[0], made[3])
