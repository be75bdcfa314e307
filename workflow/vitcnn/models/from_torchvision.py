"""Models of torchvision (https://docs.pytorch.org/vision/stable/models.html), with random weights."""

from torch import nn
from torchvision.models import get_model


def build(*, image_size: int, num_classes: int, architecture: str, **hyper_parameters: object) -> nn.Module:
    """Return torchvision's model of that name; it is told the images' size where it has one of its own."""
    kind = architecture.partition("_")[0]
    if kind == "vit":
        hyper_parameters["image_size"] = image_size
    elif kind == "maxvit":
        hyper_parameters["input_size"] = (image_size, image_size)
    return get_model(architecture, weights=None, num_classes=num_classes, **hyper_parameters)
