"""Dropout that does not cost a third of a step on a CPU.

torch draws a mask there with one double per element. 16 random bits decide as well: a probability is
then a multiple of 1/65536, which is exact to 1e-5, and the scale is that of the probability used.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WORDS = 1 << 16


class Masks:
    """Dropout masks from a stream of random numbers of their own.

    On a CPU 16-bit words of SFC64, numpy's fastest generator; elsewhere torch's generator of the device.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.bits = np.random.SFC64(seed)
        self.generator = None if device.type == "cpu" else torch.Generator(device).manual_seed(seed)

    def draw(self, x: Tensor, p: float) -> tuple[Tensor, float]:
        """Return a mask like `x`, 0 with probability `p` and else 1, and what scales the kept elements."""
        mask = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        if p == 1:
            return mask.zero_(), 0.0
        if self.generator is not None:
            return mask.bernoulli_(1 - p, generator=self.generator), 1 / (1 - p)
        dropped = min(round(p * _WORDS), _WORDS - 1)
        words = self.bits.random_raw(-(-x.numel() // 4)).view(np.int16)[: x.numel()]
        # Written as numbers at once: a product with a bool tensor is twenty times slower.
        torch.ge(torch.from_numpy(words).view(x.shape), dropped - _WORDS // 2, out=mask)
        return mask, _WORDS / (_WORDS - dropped)

    def get_state(self) -> Tensor:
        """Return where the stream is."""
        if self.generator is not None:
            return self.generator.get_state()
        return torch.from_numpy(self.bits.state["state"]["state"].view(np.int64))

    def set_state(self, state: Tensor) -> None:
        """Resume a stream of the same device."""
        if self.generator is not None:
            self.generator.set_state(state)
        else:
            whole = self.bits.state
            whole["state"]["state"] = state.numpy().view(np.uint64)
            self.bits.state = whole


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
        """Return `x` with some elements set to 0, and the factor 1/(1−p) that the caller still has to apply.

        A linear layer that follows can apply it to fewer numbers.
        """
        if not self.training or not self.p:
            return x, 1.0
        if self.masks is None:
            return F.dropout(x, self.p), 1.0
        mask, scale = self.masks.draw(x, self.p)
        return x * mask, scale

    def extra_repr(self) -> str:
        return f"p={self.p}"


def use_masks(model: nn.Module, masks: Masks) -> None:
    """Let every Dropout of a model draw from `masks`."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.masks = masks
