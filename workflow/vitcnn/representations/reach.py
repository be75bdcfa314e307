"""How far a layer looks, in pixels: attention distances, and effective receptive fields."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from vitcnn.representations.layers import as_map, is_map, outputs_of


def patch_distances(grid: int, patch: int) -> Tensor:
    """Return the distances `(grid², grid²)` in pixels between the centres of square patches."""
    line = torch.arange(grid, dtype=torch.double) * patch
    places = torch.cartesian_prod(line, line)
    return torch.cdist(places, places)


def attention_distance(weights: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """Return what attention weights `(N, depth, heads, L, L)` say, each `(depth, heads)`.

    First the mean distance in pixels between a patch and those it attends to, as in Dosovitskiy et al.
    (2021, arXiv 2010.11929, figure 7): over images and query patches, of the weights on patches alone,
    which are made to sum to 1. Second the share that patches give to the class token. Token 0 is the class token.
    """
    between = weights[..., 1:, 1:].double()
    share = between.sum(-1)
    distances = patch_distances(round((weights.shape[-1] - 1) ** 0.5), patch).to(weights.device)
    mean = (between * distances).sum(-1) / share
    return mean.mean((0, 3)), 1 - share.mean((0, 3))


def receptive_fields(
    model: Callable[[Tensor], Tensor],
    layers: Mapping[str, nn.Module],
    images: Tensor,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return by layer which pixels its central unit depends on, `(S, S)` with sum 1; maps alone have one.

    The effective receptive field of Luo et al. (2016, arXiv 1701.04128), over all channels at once:
    w_p ∝ Σ E(∂vᵀz/∂x_p)² with signs v drawn at random (Hutchinson's estimator), for normalised images
    `(N, 3, S, S)`.
    """
    images = images.clone().requires_grad_()
    with torch.enable_grad(), outputs_of(layers) as outputs:
        model(images)
    fields = {}
    for name, output in outputs.items():
        if not is_map(output):
            continue
        features = as_map(output)
        centre = features[..., features.shape[-2] // 2, features.shape[-1] // 2]
        signs = torch.randint(0, 2, centre.shape, generator=generator).to(centre) * 2 - 1
        (gradient,) = torch.autograd.grad((centre * signs).sum(), images, retain_graph=True)
        field = gradient.square().double().sum((0, 1))
        fields[name] = field / field.sum()
    return fields


def reach(field: Tensor) -> float:
    """Return the mean distance in pixels of a field `(S, S)` of sum 1 from its own centre of mass.

    Not from the middle of the unit's cell: a strided convolution looks from elsewhere in it.
    """
    line = torch.arange(len(field), dtype=field.dtype, device=field.device)
    y, x = (field.sum(1) * line).sum(), (field.sum(0) * line).sum()
    return float((field * torch.hypot(line[:, None] - y, line[None, :] - x)).sum())
