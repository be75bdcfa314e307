"""The number format in which a model computes, while its weights stay fp32."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CAST = torch.ops.aten._to_copy.default


def mixed_precision(precision: str, device: torch.device) -> AbstractContextManager:
    """Return the context of a forward pass: autocast for "bf16" and "fp16", nothing for "fp32"."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


class CastWeights:
    """The weights that autocast would cast in every pass, cast ahead by two kernels a step in place of two a weight.

    Call the model through this, and its weights give the numbers that autocast gives. `update` after every change
    of the weights; `zero_grad` before every backward pass, and `collect_gradients` after it.
    """

    def __init__(self, model: nn.Module, example: Tensor, precision: str) -> None:
        self.model = model
        self.weights: list[nn.Parameter] = []
        self.casts: dict[str, Tensor] = {}
        with mixed_precision(precision, example.device):
            dtype = torch.get_autocast_dtype(example.device.type)
            for name, weight in _find_cast(model, example).items():
                self.weights.append(weight)
                self.casts[name] = torch.empty_like(weight, dtype=dtype, requires_grad=weight.requires_grad)
        self.update()

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the model returns, with the weights of the last update."""
        return functional_call(self.model, self.casts, (x,))

    @torch.no_grad()
    def update(self) -> None:
        """Cast the weights as they are now, into the same memory."""
        if self.casts:
            torch._foreach_copy_(list(self.casts.values()), self.weights)

    def zero_grad(self) -> None:
        """Forget the gradients of the casts, also those of a pass that failed."""
        for cast in self.casts.values():
            cast.grad = None

    @torch.no_grad()
    def collect_gradients(self) -> None:
        """Give the weights the gradients of their casts."""
        pairs = zip(self.weights, self.casts.values(), strict=True)
        reached = [(weight, cast) for weight, cast in pairs if cast.grad is not None]
        for weight, _ in reached:
            weight.grad = torch.empty_like(weight)
        if reached:
            torch._foreach_copy_([weight.grad for weight, _ in reached], [cast.grad for _, cast in reached])


def _find_cast(model: nn.Module, example: Tensor) -> dict[str, nn.Parameter]:
    """Return the parameters that a pass under autocast casts and uses in no other way, by name."""
    uses: dict[int, set[Callable]] = {}

    class Watch(TorchDispatchMode):
        @classmethod
        def _should_skip_dynamo(cls):
            return False  # else torch imports its compiler for it, which takes seconds

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.namespace != "prim":  # which asks for a property, and computes nothing
                for value in tree_leaves((args, kwargs)):
                    uses.setdefault(id(value), set()).add(func)
            return func(*args, **(kwargs or {}))

    training = model.training
    model.eval()  # so that no statistics are updated and no masks drawn
    with Watch():
        model(example)
    model.train(training)
    return {name: weight for name, weight in model.named_parameters() if uses.get(id(weight)) == {CAST}}
