"""Where a model looks, as maps `(N, 8, 8)`, and whether what they mark matters to its answer."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitcnn.representations.layers import as_map
from vitcnn.representations.robustness import CELLS, cover_cells, first_covered


def rollout(weights: Tensor) -> Tensor:
    """Return attention rollout `(N, L, L)` of attention weights `(N, depth, heads, L, L)`.

    Π ½(A + I) over blocks, A the mean over heads (Abnar and Zuidema, 2020, arXiv 2005.00928).
    """
    identity = torch.eye(weights.shape[-1], device=weights.device)
    total = identity.expand(len(weights), -1, -1)
    for attention in weights.mean(2).unbind(1):
        total = (attention + identity) / 2 @ total
    return total


def class_token_map(attention: Tensor) -> Tensor:
    """Return what the class token, the first of L, draws from each patch: `(N, L, L)` → `(N, grid, grid)`."""
    row = attention[:, 0, 1:]
    side = round(row.shape[1] ** 0.5)
    return row.unflatten(1, (side, side))


def entropy(weights: Tensor) -> Tensor:
    """Return the entropy in bits of attention weights `(…, L)` over their last axis."""
    return -torch.xlogy(weights, weights).sum(-1) / math.log(2)


def grad_cam(model: nn.Module, layer: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return Grad-CAM of normalised images `(N, 3, S, S)` for one class each, `(N, h, w)`.

    ReLU(Σₖ ᾱₖ Aₖ): A the output of `layer` as a map, ᾱ the mean over places of its gradient (Selvaraju et
    al., 2017, arXiv 1610.02391). Raises ValueError if that output is no map.
    """
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _module, _args, output: kept.append(output))
    try:
        with torch.enable_grad():
            # An input that asks for gradients: the layer may have no parameters before it.
            logits = model(images.clone().requires_grad_())
            as_map(kept[0])
            (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), kept[0])
    finally:
        hook.remove()
    weights = as_map(gradient).mean((2, 3), keepdim=True)
    return (weights * as_map(kept[0].detach())).sum(1).relu()


def to_cells(maps: Tensor) -> Tensor:
    """Return maps `(N, h, w)` on the 8×8 cells, each the mean of what lies in it."""
    return F.adaptive_avg_pool2d(maps[:, None], CELLS)[:, 0]


def deletion_curve(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    order: Tensor,
    counts: list[int],
    fill: Tensor,
    classes: Tensor,
) -> Tensor:
    """Return the mean probability of each image's class when the first cells of `order` are covered.

    `images` `(N, 3, S, S) uint8`; `order` `(N, 64)`; `predict` takes pixels and returns logits. One value
    for each of `counts` (Petsiuk et al., 2018, arXiv 1806.07421).
    """
    curve = []
    for count in counts:
        logits = predict(cover_cells(images, first_covered(order, count), fill))
        curve.append(logits.softmax(1).gather(1, classes[:, None]).mean())
    return torch.stack(curve)


def centre_first() -> Tensor:
    """Return the order `(64,)` of the cells by their distance from the middle of the image."""
    line = torch.arange(CELLS) - (CELLS - 1) / 2
    return torch.hypot(line[:, None], line[None, :]).flatten().argsort(stable=True)


def rank_correlation(maps: Tensor, others: Tensor) -> Tensor:
    """Return Spearman's correlation of each pair of maps `(N, …)`, `(N,)`; nan where one is constant."""
    a, b = (_ranks(m.flatten(1).double()) for m in (maps, others))
    a, b = (r - r.mean(1, keepdim=True) for r in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def _ranks(values: Tensor) -> Tensor:
    """Return the ranks of values within each row `(N, M)`; equal ones share theirs."""
    more, less = values[:, :, None], values[:, None, :]
    return ((more > less).sum(2) + (more >= less).sum(2)).double() / 2
