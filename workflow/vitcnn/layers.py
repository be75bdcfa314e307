"""Dropout that does not cost a third of a step on a CPU.

torch draws a mask there with one double per element. 16 random bits decide as well: a probability is
then a multiple of 1/65536, which is exact to 1e-5, and the scale is that of the probability used.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WORDS = 1 << 16


class Masks:
    """Dropout masks from 16-bit words of SFC64, numpy's fastest generator, with a seed of their own."""

    def __init__(self, seed: int) -> None:
        self.bits = np.random.SFC64(seed)

    def draw(self, shape: torch.Size, p: float, dtype: torch.dtype) -> tuple[Tensor, float]:
        """Return a mask, 1 where an element is kept and 0 with probability `p`, and what scales the kept."""
        dropped = round(p * _WORDS)
        if dropped == _WORDS:
            return torch.zeros(shape, dtype=dtype), 0.0
        words = self.bits.random_raw(-(-math.prod(shape) // 4)).view(np.int16)[: math.prod(shape)]
        mask = torch.empty(shape, dtype=dtype)
        # Written as numbers at once: a product with a bool tensor is twenty times slower.
        torch.ge(torch.from_numpy(words).view(shape), dropped - _WORDS // 2, out=mask)
        return mask, _WORDS / (_WORDS - dropped)


class Dropout(nn.Module):
    """torch.nn.Dropout, from `masks` where use_masks() has given it some."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.masks: Masks | None = None

    def forward(self, x: Tensor) -> Tensor:
        x, scale = self.unscaled(x)
        return x * scale

    def unscaled(self, x: Tensor) -> tuple[Tensor, float]:
        """Return `x` with some elements dropped, and the scale that the caller owes it.

        A linear step that follows can take the scale where it has fewer numbers.
        """
        if not self.training or not self.p:
            return x, 1.0
        if self.masks is None:
            return F.dropout(x, self.p), 1.0
        mask, scale = self.masks.draw(x.shape, self.p, x.dtype)
        return x * mask, scale

    def extra_repr(self) -> str:
        return f"p={self.p}"


def use_masks(model: nn.Module, seed: int) -> None:
    """Let every Dropout of a model draw from one source of masks; for a model on a CPU."""
    masks = Masks(seed)
    for module in model.modules():
        if isinstance(module, Dropout):
            module.masks = masks
