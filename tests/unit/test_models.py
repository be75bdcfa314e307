"""The four models against plain ones built from torch.nn: same state, same input, same output."""

import copy

import pytest
import reference
import torch
import torch.nn.functional as F
import yaml
from conftest import ROOT, merge
from torch.utils.flop_counter import FlopCounterMode

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.errors import StudyError
from vitcnn.models import count_parameters, create_model
from vitcnn.models.describe import describe_model
from vitcnn.models.dropout import Masks, use_masks
from vitcnn.models.sizes import measure_size, refuse_unequal
from vitcnn.schema import _signature
from vitcnn.training.trainer import safe_memory_format

CONFIG = check_config(yaml.safe_load((ROOT / "config.yaml").read_text()))
MODELS = ["vit", "cnn", "simple_vit", "simple_cnn"]
SHAPES = {"cifar10": (32, 10), "cifar100": (32, 100), "imagenet200": (64, 200)}


def spec_of(model, dataset="cifar10", **changes):
    spec = copy.deepcopy(plan.run_spec(CONFIG, plan.Run(dataset, model, "adam10", "all", 0)))
    spec["model"] |= changes
    return spec


@pytest.mark.parametrize(
    ("model", "dataset", "expected"),
    [
        ("vit", "cifar10", 1_205_642),
        ("vit", "cifar100", 1_217_252),
        ("vit", "imagenet200", 1_248_584),
        ("cnn", "cifar10", 175_258),
        ("cnn", "cifar100", 181_108),
        ("cnn", "imagenet200", 187_608),
        ("simple_cnn", "cifar10", 620_362),
        ("simple_vit", "cifar10", 809_354),
        # The CNN and a block more in each stage; published without 1×1 shortcuts: 0.27 M.
        ("resnet20", "cifar10", 175_258 + 2 * 9 * (16**2 + 32**2 + 64**2) + 4 * (16 + 32 + 64)),
        # Convolutions, places, two layers (norms, attention without a bias of qkv, perceptron), norm, pool, head.
        (
            "cct_2_3x2",
            "cifar10",
            75_456 + 64 * 128 + 2 * (2 * 256 + 3 * 128**2 + 3 * (128**2 + 128)) + 256 + 129 + 1290,
        ),
        ("resnet20", "cifar10", 272_474),
        ("cct_2_3x2", "cifar10", 283_723),
        ("cct_2_3x2", "imagenet200", 283_723 + 192 * 128 + 190 * 129),
    ],
)
def test_number_of_parameters(model, dataset, expected):
    assert count_parameters(create_model(spec_of(model, dataset))) == expected


def pair(model, dataset):
    """Return the project's model and its plain counterpart in the same, not initial, state."""
    torch.manual_seed(1)
    plain = reference.create(model, *SHAPES[dataset], dropout=0.0)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    off = {"dropout": 0, "pos_dropout": 0} if "vit" in model else {}
    ours = create_model(spec_of(model, dataset, **off))
    reference.copy_state(plain, ours)
    return ours, plain


@pytest.mark.parametrize("dataset", list(SHAPES))
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_same_output(model, dataset, mode):
    ours, plain = pair(model, dataset)
    images = torch.randn(8, 3, SHAPES[dataset][0], SHAPES[dataset][0])
    expected = plain.train(mode == "train")(images)
    actual = ours.train(mode == "train")(images)
    assert torch.linalg.norm(actual - expected) / torch.linalg.norm(expected) < 1e-5
    for (name, mine), theirs in zip(ours.named_buffers(), plain.buffers(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5), name  # the running statistics moved alike


@pytest.mark.parametrize("masks", [None, Masks(0, torch.device("cpu"))], ids=["fused", "trained"])
@pytest.mark.parametrize("model", MODELS)
def test_same_loss_and_gradients(model, masks):
    """Of a first step without dropout, by either path of attention; 1e-5 over all and for each parameter.

    Few images: of millions of ReLU inputs some lie within rounding of 0, where any two orders of summation
    take different sides. In double precision the two agree to 1e-14 for any number.
    """
    ours, plain = pair(model, "cifar10")
    use_masks(ours, masks)
    first_step(ours, plain, 1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_same_gradients_in_the_memory_format_of_training(model):
    """In double precision: in fp32 torch's own sums over a batch differ more in channels-last, to 1e-3 for
    the first norm's bias of the CNN, whose ReLU inputs near 0 change sides.
    """
    ours, plain = (module.double() for module in pair(model, "cifar10"))
    first_step(ours.to(memory_format=safe_memory_format(ours, torch.device("cpu"))), plain, 1e-12)


def first_step(ours, plain, tolerance):
    """Assert that loss and gradients of a first step are the same."""
    dtype = next(plain.parameters()).dtype
    images, labels = torch.randn(16, 3, 32, 32, dtype=dtype), torch.randint(0, 10, (16,))
    losses = []
    for module in (ours, plain):
        loss = torch.nn.functional.cross_entropy(module.train()(images), labels)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=tolerance)
    gradients = {name: p.grad for name, p in plain.named_parameters()}
    if isinstance(plain, reference.EncoderViT):
        gradients = reference.translate(gradients)
        pairs = [(name, p.grad, gradients[name]) for name, p in ours.named_parameters()]
    else:
        pairs = [
            (n, p.grad, g) for (n, p), g in zip(ours.named_parameters(), gradients.values(), strict=True)
        ]
    for name, mine, theirs in pairs:
        assert torch.linalg.norm(mine - theirs) <= tolerance * torch.linalg.norm(theirs), name


def test_dropout_acts_where_torch_puts_it():
    """With p = 1 a branch is silent: each of the places shows in the output of a block."""
    torch.manual_seed(0)
    model = create_model(spec_of("vit", dropout=1.0, pos_dropout=0.0)).train()
    tokens = torch.randn(2, 65, 128)
    assert torch.equal(model.blocks(tokens), tokens)
    assert not create_model(spec_of("vit", pos_dropout=1.0)).train().pos_drop(tokens).any()
    block = create_model(spec_of("vit")).blocks[0].train()
    assert (block.attn.drop.p, block.mlp.drop.p, block.drop.p) == (0.1, 0.1, 0.1)


@pytest.mark.parametrize("model", MODELS)
def test_initial_weights_are_distributed_as_torchs(model):
    """Mean and spread of each entry of the state over 30 initialisations of both."""
    ours, plain = [], []
    for seed in range(30):
        torch.manual_seed(seed)
        ours.append(create_model(spec_of(model)).state_dict())
        module = reference.create(model, 32, 10)
        plain.append(reference.translate(module.state_dict()) if "vit" in model else module.state_dict())
    for mine, theirs in zip(
        ours[0], sorted(plain[0], key=list(ours[0]).index) if "vit" in model else plain[0], strict=True
    ):
        a = torch.stack([state[mine].float() for state in ours])
        b = torch.stack([state[theirs].float() for state in plain])
        if b.std() == 0:
            assert torch.equal(a, b), mine
            continue
        standard_error = b.std() / b.numel() ** 0.5
        assert abs(a.mean() - b.mean()) < 6 * standard_error, mine
        assert (a.std() / b.std()).item() == pytest.approx(1, abs=0.02 if b.numel() > 1e4 else 0.25), mine
        assert a.abs().max().item() == pytest.approx(b.abs().max().item(), rel=0.35), mine


@pytest.mark.parametrize(
    ("builder", "parameters", "flops", "backward"),
    [
        # A product of 1 x 48 and 48 x 5: again as much for the gradient of the weights, none for that of the image.
        ("nn.Sequential(nn.Flatten(), nn.Linear(48, 5))", 245, 2 * 48 * 5, 2 * 48 * 5),
        # 3x3 of 3 channels for 4 at 4x4 places; the linear layer also has the gradient of its input.
        (
            "nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5))",
            112 + 8 + 325,
            2 * (27 * 4 * 16 + 64 * 5),
            2 * (27 * 4 * 16 + 2 * 64 * 5),
        ),
    ],
)
def test_flops_counted_by_hand(builder, parameters, flops, backward, monkeypatch):
    from torch import nn

    from vitcnn.models import check

    monkeypatch.setattr(check, "create_model", lambda spec: eval(builder, {"nn": nn}))
    spec = {"dataset": {"image_size": 4, "num_classes": 5}, "model": {"name": "mine"}}
    assert measure_size(spec) == (parameters, flops, backward)


def test_a_compact_transformer_is_what_torchs_functions_compute():
    """Of a state that is not the initial one: the second norm is in the residual path, tokens are weighed by softmax."""
    torch.manual_seed(0)
    model = create_model(spec_of("cct_2_3x2")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    w = dict(model.named_parameters())
    x = images = torch.randn(4, 3, 32, 32)
    for layer in (0, 3):
        x = F.max_pool2d(
            F.conv2d(x, w[f"tokenizer.{layer}.weight"], padding=1).relu(), 3, stride=2, padding=1
        )
    x = x.reshape(4, 128, 64).permute(0, 2, 1) + w["pos_embed"]

    def norm(x, name):
        return F.layer_norm(x, (128,), w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(x, name):
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    for block in ("blocks.0", "blocks.1"):
        attention = torch.nn.MultiheadAttention(128, 2, batch_first=True)  # whose initial bias is 0
        attention.in_proj_weight.data = w[f"{block}.attn.qkv.weight"].data
        attention.out_proj.weight.data = w[f"{block}.attn.proj.weight"].data
        attention.out_proj.bias.data = w[f"{block}.attn.proj.bias"].data
        z = norm(x, f"{block}.norm1")
        x = norm(x + attention(z, z, z)[0], f"{block}.norm2")
        x = x + linear(F.gelu(linear(x, f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    x = norm(x, "norm")
    pooled = (linear(x, "pool").softmax(1) * x).sum(1)
    assert torch.allclose(model(images), linear(pooled, "head"), atol=1e-5)


def test_a_compact_transformer_drops_as_published():
    model = create_model(spec_of("cct_2_3x2"))
    rates = [(block.attn.drop.p, block.mlp.drop.p, block.drop.p) for block in model.blocks]
    assert rates == [(0.1, 0, 0), (0.1, 0, 0.1)]


@pytest.mark.parametrize(
    ("model", "megaflops"), {"cnn": 53.3, "vit_fixed": 146.1, "vit_p": 23.3, "vit_f": 52.4}.items()
)
def test_flops_are_those_of_the_model_as_executed(model, megaflops):
    """A CPU's forward pass takes fused attention, which the meta device computes step by step: as many."""
    size = measure_size(spec_of(model))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        create_model(spec_of(model)).eval()(torch.zeros(1, 3, 32, 32))
    assert size.flops == counter.get_total_flops() == pytest.approx(megaflops * 1e6, abs=5e4)
    assert 1.9 < size.backward_flops / size.flops < 2


LARGE_TOO = merge(CONFIG, {"experiments": {"fair_large": {"datasets": ["cifar10", "imagenet200"]}}})
DECLARED = [
    (dataset, model, entry)
    for experiment in plan.active_experiments(CONFIG)
    for dataset in LARGE_TOO["experiments"][experiment]["datasets"]
    for model in CONFIG["experiments"][experiment]["models"]
    for entry in plan.equals(LARGE_TOO, dataset, model)
    if entry["experiment"] == experiment
]


@pytest.mark.parametrize(
    ("dataset", "model", "entry"), DECLARED, ids=[f"{e['experiment']}: {m}" for _, m, e in DECLARED]
)
def test_arms_are_equal_in_what_they_are_declared_to_be(dataset, model, entry):
    assert len(DECLARED) == 10
    spec = plan.model_spec(CONFIG, dataset, model)
    refuse_unequal(spec, [entry])
    ours, theirs = measure_size(spec), measure_size(entry["spec"])
    tolerance = {"parameters": 0.01, "flops": 0.03}[entry["in"]]
    assert getattr(ours, entry["in"]) == pytest.approx(getattr(theirs, entry["in"]), rel=tolerance)


@pytest.mark.parametrize(
    ("equal", "numbers"),
    [
        (
            "parameters",
            "cifar10/cnn/modern30/nall/seed0 has 175,258, cifar10/vit_p/modern30/nall/seed0 has 175,738 (+0.3 %)",
        ),
        (
            "flops",
            "cifar10/cnn/modern30/nall/seed0 has 53,314,816, cifar10/vit_p/modern30/nall/seed0 has 23,275,584 (-56.3 %)",
        ),
    ],
)
def test_arms_that_are_not_as_declared_are_refused_with_both_numbers(equal, numbers):
    (entry,) = plan.equals(CONFIG, "cifar10", "vit_p")
    with pytest.raises(StudyError) as error:
        describe_model(entry["spec"] | spec_of("vit_p"), [entry | {"in": equal, "within": 0.001}])
    assert str(error.value) == (
        f"experiments.fair.equal: cnn and vit_p are declared equal in {equal} within 0.1 %, and {numbers}; "
        "change one of the models, or the declaration"
    )


def test_layers_of_their_own():
    torch.manual_seed(0)
    first, *others = create_model(spec_of("vit_p")).blocks
    weights = [block.mlp.fc1.weight for block in (first, *others)]
    assert len({float(weight.detach().sum()) for weight in weights}) == len(weights) == 6


@pytest.mark.parametrize("model", ["vit", "simple_vit"])
def test_layers_start_as_copies_of_one(model):
    blocks = create_model(spec_of(model)).blocks
    first = blocks[0].state_dict()
    for block in blocks[1:]:
        assert all(torch.equal(first[name], value) for name, value in block.state_dict().items())
        assert block.attn.qkv.weight is not blocks[0].attn.qkv.weight


def test_notebook_one_has_zero_position_embedding_relu_and_no_final_norm():
    model = create_model(spec_of("vit"))
    assert not model.pos_embed.any()
    assert isinstance(model.norm, torch.nn.Identity)
    assert isinstance(model.blocks[0].mlp.act, torch.nn.ReLU)


def test_notebook_two_has_a_final_norm_gelu_and_small_position_embedding():
    model = create_model(spec_of("simple_vit"))
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert isinstance(model.norm, torch.nn.LayerNorm)
    assert isinstance(model.blocks[0].mlp.act, torch.nn.GELU)


@pytest.mark.parametrize("dataset", list(SHAPES))
@pytest.mark.parametrize("model", MODELS)
def test_description(model, dataset):
    text = describe_model(spec_of(model, dataset))
    model_count = count_parameters(create_model(spec_of(model, dataset)))
    assert f"{model_count:,} trainable parameters" in text
    lines = text.split("\n\n")[1].splitlines()[2:]
    listed = [line.split()[-1].replace(",", "") for line in lines]
    assert sum(int(count) for count in listed if count != "-") == model_count


def test_a_default_that_is_computed_is_refused(tmp_path, monkeypatch):
    from vitcnn.models import registry

    text = "\ndef build(*, image_size: int, num_classes: int, width: int = 2 * 8):\n    pass\n"
    (tmp_path / "wide.py").write_text(text)
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    registry.builders.cache_clear()
    try:
        with pytest.raises(StudyError, match=r"wide\.py: build\(width\): its default 2 \* 8 is not read"):
            _signature("wide")
    finally:
        registry.builders.cache_clear()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\ndef build(image_size, num_classes, hidden=256):\n    pass\n",
            r"mine\.py: build\(hidden\): .* by name",
        ),
        ("import torch\ndef build(:\n", r"mine\.py: line 2: "),
        (
            "class Net:\n    def build(self):\n        pass\n",
            r"mine\.py has no function build\(\*, image_size",
        ),
    ],
)
def test_a_builder_that_cannot_be_read_is_named(text, message, tmp_path, monkeypatch):
    from vitcnn.models import registry

    (tmp_path / "mine.py").write_text(text)
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    registry.builders.cache_clear()
    try:
        with pytest.raises(StudyError, match=message):
            _signature("mine")
    finally:
        registry.builders.cache_clear()


def test_a_new_model_is_one_file_and_one_entry(tmp_path, monkeypatch):
    from vitcnn import models
    from vitcnn.models import registry

    (tmp_path / "linear.py").write_text(
        "from torch import nn\n"
        "def build(*, image_size: int, num_classes: int, width: int = 8):\n"
        "    side = 3 * image_size**2\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(side, width), nn.Linear(width, num_classes))\n"
    )
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    registry.builders.cache_clear()
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    raw |= dict.fromkeys(["representations", "cost", "corruptions", "flaws", "predictions"])
    raw["models"] = {"linear": {"title": "Linear", "builder": "linear"}}
    raw["experiments"] = {"mine": {"datasets": ["cifar10"], "models": ["linear"], "recipe": "adam10"}}
    raw["report"] = {}
    try:
        checked = check_config(raw)
        assert checked["models"]["linear"]["family"] == "other"
        spec = plan.run_spec(checked, plan.all_runs(checked)[0])
        assert spec["model"] == {"name": "linear", "builder": "linear", "width": 8}
        assert create_model(spec)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    finally:
        registry.builders.cache_clear()
