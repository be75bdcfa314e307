"""A model's architecture as a text: each layer with its output's shape and its parameters."""

from collections.abc import Mapping
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from vitcnn.models import count_parameters, create_model


def describe_model(spec: Mapping[str, Any]) -> str:
    """Return the layers of a spec's model in the order they run, with shapes for one image.

    The model is built on torch's meta device: shapes are computed, numbers are not.
    """
    size, num_classes = spec["dataset"]["image_size"], spec["dataset"]["num_classes"]
    with torch.device("meta"):
        model = create_model(spec).eval()
        rows = _trace(model, torch.empty(1, 3, size, size))
    own = sum(p.numel() for p in model.parameters(recurse=False))
    if own:
        names = ", ".join(name for name, _ in model.named_parameters(recurse=False))
        rows.insert(0, [names, "Parameter", "-", f"{own:,}"])
    table = tabulate(
        rows, headers=["layer", "type", "output", "parameters"], colalign=("left", "left", "left", "right")
    )
    return (
        f"{size} x {size} pixels, {num_classes} classes, "
        f"{count_parameters(model):,} trainable parameters\n\n{table}\n\n{model}\n"
    )


def _trace(model: nn.Module, image: Tensor) -> list[list[str]]:
    rows: list[list[str]] = []
    hooks = []
    for name, module in model.named_modules():
        if not list(module.children()):

            def note(module: nn.Module, _inputs: Any, output: Tensor, name: str = name) -> None:
                count = sum(p.numel() for p in module.parameters())
                shape = " x ".join(str(side) for side in output.shape[1:])
                rows.append([name, type(module).__name__, shape, f"{count:,}" if count else "-"])

            hooks.append(module.register_forward_hook(note))
    model(image)
    for hook in hooks:
        hook.remove()
    return rows
