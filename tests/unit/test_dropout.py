"""Dropout from 16-bit words against what dropout is: counts, independence, and torch's own module."""

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import ROOT
from torch import nn

from vitcnn.config import load_config
from vitcnn.models import create_model
from vitcnn.models.cct import DropPath
from vitcnn.models.dropout import Dropout, Masks, use_masks
from vitcnn.plan import Run, run_spec

CPU = torch.device("cpu")
CONFIG = load_config(ROOT / "config.yaml")


def make_masks(seed, words):
    """Return masks from 16-bit words, or as on a GPU from a generator of torch's: here the CPU's."""
    masks = Masks(seed, CPU)
    if not words:
        masks.generator = torch.Generator().manual_seed(seed)
    return masks


SOURCES = pytest.mark.parametrize("words", [True, False], ids=["words", "generator"])


@SOURCES
@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_the_probability_is_exact(p, words):
    """10 million draws against the binomial law; the scale is that of the probability used, 1e-5 from p."""
    count = 10_000_000
    mask, scale = make_masks(1, words).draw(torch.empty(count), p)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    used = 1 - 1 / scale
    assert abs(used - p) < 1e-5
    assert scipy.stats.binomtest(int(count - mask.sum()), count, used).pvalue > 1e-6
    assert abs(float((mask * scale).mean()) - 1) < 5 * (used / (1 - used) / count) ** 0.5


@SOURCES
def test_elements_draws_and_seeds_are_independent(words):
    """Correlations between neighbours at many distances, between draws and between seeds: none over 5 sd."""
    count = 1 << 21
    masks = make_masks(3, words)
    first, second = (masks.draw(torch.empty(count), 0.1)[0].numpy() - 0.9 for _ in "ab")
    other = make_masks(4, words).draw(torch.empty(count), 0.1)[0].numpy() - 0.9
    pairs = [(first[:-lag], first[lag:]) for lag in (1, 2, 3, 4, 8, 64, 65, 512, 8320)]
    for a, b in [*pairs, (first, second), (first, other)]:
        assert abs(np.mean(a * b) / 0.09) < 5 / len(a) ** 0.5


def test_rows_drop_as_often_as_the_binomial_law_says():
    mask, _ = Masks(5, CPU).draw(torch.empty(20_000, 100), 0.1)
    dropped = (100 - mask.sum(1)).long()
    seen = torch.bincount(dropped, minlength=101)[:25].numpy()
    expected = 20_000 * scipy.stats.binom.pmf(np.arange(25), 100, 6554 / 65536)
    keep = expected > 5
    chi = float(((seen - expected)[keep] ** 2 / expected[keep]).sum())
    assert scipy.stats.chi2.sf(chi, keep.sum() - 1) > 1e-6


def test_it_is_a_dropout():
    drop = Dropout(0.25)
    x = torch.randn(64, 65, 16, requires_grad=True)
    assert torch.equal(drop.eval()(x), x)
    drop.train()
    use_masks(drop, Masks(7, CPU))
    out = drop(x)
    kept = out != 0
    assert torch.allclose(out[kept], (x / 0.75)[kept])
    out.sum().backward()
    assert torch.allclose(x.grad, kept / 0.75)
    assert not torch.equal(drop(x), out)
    use_masks(drop, Masks(7, CPU))
    assert torch.equal(drop(x), out)  # a seed repeats its stream
    use_masks(silent := Dropout(1.0), Masks(7, CPU))
    assert not silent.train()(x).any()
    assert torch.equal(Dropout(0.0).train()(x), x)


@SOURCES
def test_drop_path_takes_whole_branches_of_some_images(words):
    drop = DropPath(0.25).train()
    x = torch.randn(4000, 3, 5)
    use_masks(drop, make_masks(7, words))
    out = drop(x)
    kept = out.flatten(1).any(1)
    assert torch.allclose(out, torch.where(kept[:, None, None], x / 0.75, torch.zeros(())), rtol=1e-4)
    assert scipy.stats.binomtest(int(kept.sum()), 4000, 0.75).pvalue > 1e-6
    assert not torch.equal(drop(x), out)
    use_masks(drop, make_masks(7, words))
    assert torch.equal(drop(x), out)
    assert torch.equal(drop.eval()(x), x)
    use_masks(drop, None)
    kept = drop.train()(x).flatten(1).any(1)
    assert scipy.stats.binomtest(int(kept.sum()), 4000, 0.75).pvalue > 1e-6


def test_without_masks_it_is_torchs():
    x = torch.randn(1000)
    torch.manual_seed(0)
    ours = Dropout(0.3)(x)
    torch.manual_seed(0)
    assert torch.equal(ours, nn.Dropout(0.3)(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_trains_through_it_on_average_as_through_torchs(dtype):
    """The mean of the logits over many masks, ours and torch's: equal within the noise of their means."""
    spec = run_spec(CONFIG, Run("cifar10", "vit", "adam10", "all", 0))
    torch.manual_seed(0)
    model = create_model(spec).train()
    image = torch.randn(1, 3, 32, 32).expand(512, -1, -1, -1)
    logits = []
    for words in (True, False):
        if words:
            use_masks(model, Masks(11, CPU))
        else:
            for module in model.modules():
                if isinstance(module, Dropout):
                    module.masks = None
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits.append(model(image).float())
    ours, torchs = logits
    error = ((ours.var(0) + torchs.var(0)) / 512).sqrt()
    assert ((ours.mean(0) - torchs.mean(0)).abs() < 5 * error + 0.01).all()
    assert (ours.std(0) / torchs.std(0)).mean().item() == pytest.approx(1, abs=0.1)


def test_attention_weights_are_the_plain_ones():
    spec = run_spec(CONFIG, Run("cifar10", "vit", "adam10", "all", 0))
    torch.manual_seed(0)
    model = create_model(spec).eval()
    x = torch.randn(4, 3, 32, 32)
    weights = model.attention(x)
    assert weights.shape == (4, 6, 8, 65, 65)
    assert torch.allclose(weights.sum(-1), torch.ones(4, 6, 8, 65), atol=1e-5)
    block = model.blocks[0]
    plain = nn.MultiheadAttention(128, 8, batch_first=True).eval()
    plain.in_proj_weight.data, plain.in_proj_bias.data = block.attn.qkv.weight.data, block.attn.qkv.bias.data
    z = block.norm1(model.embed(x))
    _, expected = plain(z, z, z, need_weights=True, average_attn_weights=False)
    assert torch.allclose(weights[:, 0], expected, atol=1e-6)
