"""A model's layers and what they give for some images.

A model file may have two functions: `named_layers(model)` returns the modules that are its layers, by name in
the order they run, and `cam_layer(model)` the one whose output Grad-CAM weighs. Without them the layers
are the model's children, of a list or a dict of modules its members, and Grad-CAM takes the last of them
whose output is a map.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from math import isqrt
from typing import Any

from torch import Tensor, nn


def layers_of(model: nn.Module, builder: str) -> dict[str, nn.Module]:
    """Return the layers of a model that `builder` built, by name, in the order they run."""
    own = _from_model_file(builder, "named_layers")
    return own(model) if own else dict(_children(model))


def _children(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the children of a model by name; of a list or a dict of modules, which is never called, its own."""
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _children(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def cam_layer_of(model: nn.Module, builder: str, mapped: Sequence[str]) -> nn.Module | None:
    """Return the module whose output Grad-CAM weighs; None where there is none.

    `mapped` are the names of the layers whose outputs are maps.
    """
    own = _from_model_file(builder, "cam_layer")
    if own:
        return own(model)
    return layers_of(model, builder)[mapped[-1]] if mapped else None


def _from_model_file(builder: str, name: str) -> Any:
    is_file = ":" not in builder  # and not of a library, as timm:NAME is
    return getattr(import_module(f"vitcnn.models.{builder}"), name, None) if is_file else None


@contextmanager
def outputs_of(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that each forward pass of the model fills with the layers' outputs.

    Layers that compute only the `queries` the head needs are made to compute all of them here.
    """
    outputs: dict[str, Tensor] = {}

    def compute_all(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return args, {key: value for key, value in kwargs.items() if key != "queries"}

    hooks = []
    for name, module in layers.items():

        def note(_module: nn.Module, _args: Any, output: Any, name: str = name) -> None:
            if isinstance(output, Tensor):
                outputs[name] = output.clone()  # the next layer may compute in its place, as ReLU can

        hooks.append(module.register_forward_pre_hook(compute_all, with_kwargs=True))
        hooks.append(module.register_forward_hook(note))
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def is_map(output: Tensor) -> bool:
    """Return whether a layer's output has a value for each place of a grid of at least 2×2."""
    try:
        as_map(output)
    except ValueError:
        return False
    return True


def as_map(output: Tensor) -> Tensor:
    """Return a layer's output as `(N, C, h, w)`: a map as it is, tokens `(N, L, D)` without a class token.

    Raises ValueError for anything else, such as the class token alone.
    """
    if output.ndim == 4 and output.shape[-1] > 1:
        return output
    if output.ndim == 3:
        length = output.shape[1]
        side = isqrt(length)
        if side > 1 and length - side**2 in (0, 1):  # with one more token, the class token is the first
            return output[:, length - side**2 :].transpose(1, 2).unflatten(2, (side, side))
    raise ValueError(f"an output of shape {tuple(output.shape)} is no map of an image")
