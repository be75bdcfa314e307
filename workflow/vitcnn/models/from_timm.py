"""Models of timm (https://huggingface.co/docs/timm), with random weights."""

import timm
from timm.models import get_pretrained_cfg
from torch import nn


def build(*, image_size: int, num_classes: int, architecture: str, **hyper_parameters: object) -> nn.Module:
    """Return timm's model of that name; it is told the images' size where it has one of its own."""
    published = get_pretrained_cfg(architecture)
    if published and published.fixed_input_size:
        hyper_parameters["img_size"] = image_size
    return timm.create_model(architecture, pretrained=False, num_classes=num_classes, **hyper_parameters)
