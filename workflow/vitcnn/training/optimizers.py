"""Adam, AdamW and SGD by torch's own fused kernels, without torch.optim's classes.

The classes import torch's compiler at their first step, which costs every job 3 to 4 s; the
functions they call do not.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's defaults


class Group(NamedTuple):
    """Parameters that share a weight decay."""

    parameters: list[Tensor]
    weight_decay: float


class Optimizer:
    """What the optimizers share: groups of parameters, a learning rate on the device, and a state.

    The learning rate is a tensor because a captured graph would keep a number as it was. The state is
    a list of tensors for each name in `STATE`, in the order of the parameters.
    """

    STATE: tuple[str, ...] = ()

    def __init__(self, groups: Iterable[Group], lr: float) -> None:
        self.groups = list(groups)
        self.parameters = [parameter for group in self.groups for parameter in group.parameters]
        device = self.parameters[0].device
        # GPUs' kernels read 32 bits; the CPU's read any, and 64 keep the number as it was written.
        precision = torch.float64 if device.type == "cpu" else torch.float32
        self.lr = torch.tensor(lr, dtype=precision, device=device)
        self.state = {name: [self._initial(name, p) for p in self.parameters] for name in self.STATE}

    def _initial(self, name: str, parameter: Tensor) -> Tensor:
        return torch.zeros_like(parameter)

    def step(self, overflow: Tensor | None = None) -> None:
        """Update every parameter that has a gradient; where `overflow`, of LossScale, is 1, leave all as it is."""
        raise NotImplementedError

    def _with_gradients(self) -> Iterator[tuple[float, list[Tensor], list[Tensor], dict[str, list[Tensor]]]]:
        """Yield for each group its weight decay, and parameters, gradients and states of those with one."""
        first = 0
        for group in self.groups:
            places = [i for i, p in enumerate(group.parameters, first) if p.grad is not None]
            first += len(group.parameters)
            parameters = [self.parameters[i] for i in places]
            states = {name: [tensors[i] for i in places] for name, tensors in self.state.items()}
            yield group.weight_decay, parameters, [p.grad for p in parameters], states

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def get_state(self) -> dict[str, list[Tensor]]:
        """Return what the steps so far have left."""
        return self.state

    @torch.no_grad()
    def set_state(self, state: Mapping[str, list[Tensor]]) -> None:
        """Resume from the state of an optimizer of the same parameters."""
        for name, kept in self.state.items():
            for tensor, value in zip(kept, state[name], strict=True):
                tensor.copy_(value)


class Adam(Optimizer):
    """Adam (arXiv 1412.6980), or with `decoupled` weight decay AdamW (arXiv 1711.05101)."""

    STATE = ("exp_avgs", "exp_avg_sqs", "steps")

    def __init__(self, groups: Iterable[Group], lr: float, decoupled: bool) -> None:
        super().__init__(groups, lr)
        self.decoupled = decoupled

    def _initial(self, name: str, parameter: Tensor) -> Tensor:
        return torch.zeros((), device=parameter.device) if name == "steps" else torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, overflow: Tensor | None = None) -> None:
        """Update every parameter that has a gradient; where `overflow`, of LossScale, is 1, leave all as it is."""
        for weight_decay, parameters, gradients, states in self._with_gradients():
            adam(
                parameters,
                gradients,
                states["exp_avgs"],
                states["exp_avg_sqs"],
                [],
                states["steps"],
                fused=True,
                found_inf=overflow,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=self.lr,
                weight_decay=weight_decay,
                eps=EPSILON,
                maximize=False,
                decoupled_weight_decay=self.decoupled,
            )


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, Nesterov's where asked for, as torch.optim.SGD does it.

    A momentum starts at 0: its first step is then the gradient's, as it is for torch.
    """

    STATE = ("momentum_buffers",)

    def __init__(self, groups: Iterable[Group], lr: float, momentum: float, nesterov: bool) -> None:
        super().__init__(groups, lr)
        self.momentum = momentum
        self.nesterov = nesterov

    @torch.no_grad()
    def step(self, overflow: Tensor | None = None) -> None:
        """Update every parameter that has a gradient; where `overflow`, of LossScale, is 1, leave all as it is."""
        for weight_decay, parameters, gradients, states in self._with_gradients():
            sgd(
                parameters,
                gradients,
                states["momentum_buffers"],
                fused=True,
                found_inf=overflow,
                weight_decay=weight_decay,
                momentum=self.momentum,
                lr=self.lr,
                dampening=0,
                nesterov=self.nesterov,
                maximize=False,
            )


class LossScale:
    """The factor by which a loss is multiplied so that gradients do not vanish in fp16 (arXiv 1710.03740).

    As torch.amp.GradScaler with its defaults, but for one thing: nothing is read on the host, so a step can be
    captured. It is halved where a gradient overflows, and doubled after 2,000 steps without one.
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), 2.0**16, device=device)
        self.steps = torch.zeros((), dtype=torch.int32, device=device)  # since the last change
        self.overflow = torch.zeros((), device=device)

    @torch.no_grad()
    def unscale(self, parameters: Iterable[Tensor]) -> Tensor:
        """Divide the gradients by the factor and update it; return 1 where one of them is not finite, else 0."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.overflow.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, self.overflow, self.scale.reciprocal())
        torch._amp_update_scale_(self.scale, self.steps, self.overflow, 2.0, 0.5, 2000)
        return self.overflow

    def get_state(self) -> list[Tensor]:
        """Return the factor and its count of steps."""
        return [self.scale, self.steps]

    def set_state(self, state: Iterable[Tensor]) -> None:
        """Resume from get_state()."""
        for kept, value in zip((self.scale, self.steps), state, strict=True):
            kept.copy_(value)


def create_optimizer(model: nn.Module, recipe: Mapping[str, Any]) -> Optimizer:
    """Return the optimizer that a recipe names, adam, adamw or sgd, for the trainable parameters."""
    spared = parameters_of_kinds(model, recipe["no_decay"])
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        Group([p for p in trainable if p not in spared], recipe["weight_decay"]),
        Group([p for p in trainable if p in spared], 0),
    ]
    groups = [group for group in groups if group.parameters]
    if recipe["optimizer"] == "sgd":
        return SGD(groups, recipe["lr"], recipe["momentum"], recipe["nesterov"])
    return Adam(groups, recipe["lr"], decoupled=recipe["optimizer"] == "adamw")


def parameters_of_kinds(model: nn.Module, kinds: Iterable[str]) -> set[Tensor]:
    """Return a model's parameters of some of the kinds `bias`, `norm`, `position` and `class`.

    `norm` are weight and bias of a normalisation, `position` the embeddings of positions, absolute and
    relative, and `class` the learned tokens, as this project's models, timm and torchvision name them.
    """
    found = set()
    for module in model.modules():
        normalises = "norm" in type(module).__name__.lower()
        for name, parameter in module.named_parameters(recurse=False):
            is_kind = {
                "bias": name.endswith("bias"),
                "norm": normalises,
                "position": any(part in name for part in ("pos_emb", "position", "rel_pos")),
                "class": name.endswith("_token"),
            }
            if any(is_kind[kind] for kind in kinds):
                found.add(parameter)
    return found
