"""Adam and AdamW by torch's own fused kernels, without torch.optim's classes.

The classes import torch's compiler at their first step, which costs every job 3 to 4 s; the
functions they call do not.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's defaults


class Adam:
    """Adam (arXiv 1412.6980), or with `decoupled` weight decay AdamW (arXiv 1711.05101)."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float, decoupled: bool) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.lr = lr
        self.weight_decay = weight_decay
        self.decoupled = decoupled
        self.exp_avgs = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.exp_avg_sqs = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter from its gradient."""
        adam(
            self.parameters,
            [parameter.grad for parameter in self.parameters],
            self.exp_avgs,
            self.exp_avg_sqs,
            [],
            self.steps,
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.lr,
            weight_decay=self.weight_decay,
            eps=EPSILON,
            maximize=False,
            decoupled_weight_decay=self.decoupled,
        )

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def get_state(self) -> dict[str, list[Tensor]]:
        """Return what the steps so far have left."""
        return {name: getattr(self, name) for name in ("exp_avgs", "exp_avg_sqs", "steps")}

    @torch.no_grad()
    def set_state(self, state: Mapping[str, list[Tensor]]) -> None:
        """Go on from the state of an optimizer of the same parameters."""
        for name, kept in self.get_state().items():
            for tensor, value in zip(kept, state[name], strict=True):
                tensor.copy_(value)


def create_optimizer(parameters: Iterable[Tensor], recipe: Mapping[str, Any]) -> Adam:
    """Return the optimizer that a recipe names: adam or adamw."""
    return Adam(parameters, recipe["lr"], recipe["weight_decay"], decoupled=recipe["optimizer"] == "adamw")
