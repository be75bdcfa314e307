"""The models, one file each. `models.NAME.builder` in config.yaml names the file, or a model of a library.

A model file has a function `build(*, image_size, num_classes, …)`; its further keyword arguments are
the hyper-parameters that config.yaml may give, their annotations what the values must be. The constant
FAMILY, "ViT" or "CNN", says on which side of the comparison its models stand. A new model is one such
file and one entry in config.yaml.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vitcnn.models.registry import resolve_builder

if TYPE_CHECKING:
    from torch import nn

Probability = float  # an annotation that config.py checks to lie between 0 and 1


def create_model(spec: Mapping[str, Any]) -> "nn.Module":
    """Return the freshly initialised model of a run's spec, from torch's global random state."""
    hyper_parameters = {k: v for k, v in spec["model"].items() if k not in ("name", "builder")}
    builder = resolve_builder(spec["model"]["builder"])
    return import_module(builder.module).build(
        image_size=spec["dataset"]["image_size"],
        num_classes=spec["dataset"]["num_classes"],
        **builder.arguments,
        **hyper_parameters,
    )


def count_parameters(model: "nn.Module") -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
