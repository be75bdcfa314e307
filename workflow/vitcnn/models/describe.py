"""A model's architecture as a text: each layer with its output's shape and its parameters, and the whole's size."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from vitcnn.models.check import check_model, create_on_meta
from vitcnn.models.sizes import measure_size, refuse_unequal


def describe_model(spec: Mapping[str, Any], equal: Iterable[Mapping[str, Any]] = ()) -> str:
    """Return the layers of a spec's model in the order they run, with shapes for one image.

    The model is built on torch's meta device: shapes are computed, numbers are not. Raises StudyError for
    one that cannot be built or trained as configured, or that is not what `equal`, of plan.equals(), says of it.
    """
    check_model(spec)
    refuse_unequal(spec, equal)
    size, num_classes = spec["dataset"]["image_size"], spec["dataset"]["num_classes"]
    model = create_on_meta(spec).eval()
    rows = _trace(model, torch.empty(1, 3, size, size, device="meta"))
    own = sum(p.numel() for p in model.parameters(recurse=False))
    if own:
        names = ", ".join(name for name, _ in model.named_parameters(recurse=False))
        rows.insert(0, [names, "Parameter", "-", f"{own:,}"])
    table = tabulate(
        rows, headers=["layer", "type", "output", "parameters"], colalign=("left", "left", "left", "right")
    )
    whole = measure_size(spec)
    return (
        f"{size} x {size} pixels, {num_classes} classes, {whole.parameters:,} trainable parameters, "
        f"{whole.flops:,} FLOPs forward and {whole.backward_flops:,} backward for one image, "
        f"2 for each multiply-add\n\n{table}\n\n{model}\n"
    )


def _trace(model: nn.Module, image: Tensor) -> list[list[str]]:
    """Return a row for each module that has parameters of its own or no modules in it, in the order they run."""
    rows: dict[str, list[str]] = {}

    def note(name: str, module: nn.Module, output: Any) -> None:
        count = sum(p.numel() for p in module.parameters(recurse=False))
        shape = " x ".join(str(side) for side in output.shape[1:]) if isinstance(output, Tensor) else "-"
        rows[name] = [name, type(module).__name__, shape, f"{count:,}" if count else "-"]

    listed = {
        name: module
        for name, module in model.named_modules()
        if name and (not list(module.children()) or list(module.parameters(recurse=False)))
    }
    hooks = [
        module.register_forward_hook(lambda module, _inputs, output, name=name: note(name, module, output))
        for name, module in listed.items()
    ]
    model(image)
    for hook in hooks:
        hook.remove()
    for name, module in listed.items():  # some use a layer's parameters without calling it
        if name not in rows and list(module.parameters(recurse=False)):
            note(name, module, None)
    return list(rows.values())
