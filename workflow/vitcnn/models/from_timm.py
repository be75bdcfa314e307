"""Models of timm (https://huggingface.co/docs/timm), with random weights."""

import timm
from timm.models import get_pretrained_cfg
from torch import nn

from vitcnn.models.head import compute_head_in_fp32

_HEADS = ("head", "head_dist", "aux_head")


def build(*, image_size: int, num_classes: int, architecture: str, **hyper_parameters: object) -> nn.Module:
    """Return timm's model of that name; it is told the images' size where it has one of its own.

    Of several heads, as distilled models have, the last is computed in fp32 as that of every model; here the others.
    """
    published = get_pretrained_cfg(architecture)
    if published and published.fixed_input_size:
        hyper_parameters["img_size"] = image_size
    model = timm.create_model(architecture, pretrained=False, num_classes=num_classes, **hyper_parameters)
    named = (module for name, module in model.named_modules() if name.partition(".")[0] in _HEADS)
    for head in [module for module in named if isinstance(module, nn.Linear)][:-1]:
        compute_head_in_fp32(head, num_classes)
    return model
