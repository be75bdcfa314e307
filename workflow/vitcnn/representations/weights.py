"""What can be read from the weights alone: position embeddings, and the first layer's filters."""

import torch
from torch import Tensor, nn

from vitcnn.representations.attention import rank_correlation
from vitcnn.representations.reach import patch_distances


def position_similarity(embedding: Tensor) -> Tensor:
    """Return the cosine similarity `(P, P)` of the patches' embeddings `(P, D)`, their mean removed.

    nan where an embedding has no direction, as where all are the same.
    """
    centred = embedding.double() - embedding.double().mean(0)
    length = centred.norm(dim=1, keepdim=True)
    unit = centred / torch.where(length > 1e-9 * (1 + embedding.abs().max()), length, torch.nan)
    return unit @ unit.T


def nearness_correlation(similarity: Tensor) -> float:
    """Return Spearman's correlation of similarities `(P, P)` of different patches with their nearness."""
    count = len(similarity)
    pairs = torch.triu_indices(count, count, 1, device=similarity.device)
    near = -patch_distances(round(count**0.5), 1).to(similarity.device)
    return float(rank_correlation(similarity[*pairs][None], near[*pairs][None]))


def first_filters(model: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Return the filters `(F, 3, k, k)` of the first convolution, and the share of each `(F,)`.

    Of a convolution that cuts the image into patches these are the principal components of its filters,
    with the share of their squares that each explains; of another one the filters as they are, with nan.
    None where no convolution reads an image of three channels.
    """
    found = next((m for m in model.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3), None)
    if found is None:
        return None
    weight = found.weight.detach()
    if found.kernel_size != found.stride:
        return weight, torch.full((len(weight),), torch.nan, device=weight.device)
    _, sizes, components = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    explained = sizes.square() / sizes.square().sum()
    return (components * sizes[:, None]).unflatten(1, weight.shape[1:]), explained
