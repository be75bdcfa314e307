"""How large a model is: its parameters, and the floating-point operations (FLOPs) that it takes for an image."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from vitcnn.errors import StudyError
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


def refuse_unequal(spec: Mapping[str, Any], equal: Iterable[Mapping[str, Any]]) -> None:
    """Raise StudyError if a spec's model is not equal to another as an experiment declares; `equal` is plan.equals()."""
    for entry in equal:
        first, second = (getattr(measure_size(one), entry["in"]) for one in (entry["spec"], spec))
        if abs(second - first) > entry["within"] * first:
            names = [one["model"]["name"] for one in (entry["spec"], spec)]
            numbers = [f"{run} has {n:,}" for run, n in zip(entry["runs"], (first, second), strict=True)]
            raise StudyError(
                f"experiments.{entry['experiment']}.equal: {' and '.join(names)} are declared equal in {entry['in']} "
                f"within {100 * entry['within']:g} %, and {', '.join(numbers)} ({100 * (second / first - 1):+.1f} %); "
                "change one of the models, or the declaration"
            )
