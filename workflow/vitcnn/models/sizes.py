"""How large a model is: its parameters, and the floating-point operations (FLOPs) that it takes for an image."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from vitcnn.models import count_parameters
from vitcnn.models.check import create_on_meta


class Size(NamedTuple):
    """Trainable parameters, and the FLOPs of one image: `flops` of a forward pass, `backward_flops` of a backward."""

    parameters: int
    flops: int
    backward_flops: int


def measure_size(spec: Mapping[str, Any]) -> Size:
    """Return the size of a spec's model.

    FLOPs are those of matrix products and convolutions, two for each multiply-add, as the model executes them: of
    its last block a ViT computes the class token alone. Counted by torch.utils.flop_counter on the meta device.
    """
    side = spec["dataset"]["image_size"]
    model = create_on_meta(spec)
    images = torch.empty(2, 3, side, side, device="meta")
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model.eval()(images[:1])
    loss = model.train()(images).sum()  # of two images: BatchNorm has nothing to train on with one
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return Size(count_parameters(model), forward.get_total_flops(), backward.get_total_flops() // 2)
