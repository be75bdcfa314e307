"""What is done to normalised batches: random erasing of parts of images, mixup and cutmix.

For the same parameters the results are those of torchvision's RandomErasing, MixUp and CutMix. All
are drawn for whole epochs, one row for each image, so that a step takes its rows and draws nothing.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

# torchvision's defaults for RandomErasing: share of the image's area, and height over width.
AREA, RATIO, TRIES = (0.02, 0.33), (0.3, 3.3), 10


class Mixing(NamedTuple):
    """What was drawn for each of N images; None where the recipe does not ask for it.

    A box is `(N, 4) int`: top, left, height, width; one without pixels does nothing. Of the pixels and
    the labels of an image, its own have the weights that are given, and its partner's the rest.
    """

    erased: Tensor | None  # box that becomes the mean colour
    pixel_weight: Tensor | None  # (N,) float32, outside `box`; inside it is 0
    box: Tensor | None  # box that becomes the partner's
    label_weight: Tensor | None  # (N,) float32

    def take(self, rows: Tensor | slice) -> "Mixing":
        """Return the parameters of some of the images."""
        return Mixing(*(None if value is None else value[rows] for value in self))

    def to(self, device: torch.device) -> "Mixing":
        """Return the parameters on `device`."""
        return Mixing(*(None if value is None else value.to(device) for value in self))


def draw_mixing(count: int, size: int, recipe: Mapping[str, Any], generator: torch.Generator) -> Mixing:
    """Draw parameters for `count` images of `size` pixels a side, in a recipe's batches.

    A batch is mixed by mixup or by cutmix; where a recipe has both, by either with the same chance.
    """
    probability = recipe["augmentation"]["random_erasing"]
    erased = draw_erased(count, size, probability, generator) if probability else None
    if not recipe["mixup"] and not recipe["cutmix"]:
        return Mixing(erased, None, None, None)
    batches = math.ceil(count / recipe["batch_size"])
    chance = 0.5 if recipe["mixup"] and recipe["cutmix"] else float(bool(recipe["cutmix"]))
    cut = torch.rand(batches, generator=generator) < chance
    alpha = torch.where(cut, float(recipe["cutmix"]), float(recipe["mixup"]))
    share = torch._sample_dirichlet(alpha[:, None].expand(batches, 2), generator=generator)[:, 0]
    box = draw_boxes(share, size, generator) * cut[:, None]
    kept = 1 - (box[:, 2] * box[:, 3]).double() / size**2
    per_batch = (torch.where(cut, 1.0, share), box, torch.where(cut, kept.float(), share))
    per_image = (v.repeat_interleave(recipe["batch_size"], 0)[:count] for v in per_batch)
    return Mixing(erased, *per_image)


def draw_erased(count: int, size: int, probability: float, generator: torch.Generator) -> Tensor:
    """Draw a box `(count, 4) int` for each image, empty but with `probability` (arXiv 1708.04896).

    As torchvision, up to ten shapes are tried until one is smaller than the image.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count, TRIES, dtype=torch.float64).uniform_(low, high, generator=generator)

    area = size**2 * uniform(*AREA)
    ratio = uniform(math.log(RATIO[0]), math.log(RATIO[1])).exp()
    height, width = (area * ratio).sqrt().round().int(), (area / ratio).sqrt().round().int()
    fits = (height < size) & (width < size)
    first = fits.int().argmax(1, keepdim=True)
    asked = torch.rand(count, generator=generator) < probability
    used = (asked & fits.any(1)).int()
    height, width = (side.gather(1, first)[:, 0] * used for side in (height, width))
    corners = [
        (torch.rand(count, generator=generator, dtype=torch.float64) * (size - side + 1)).int()
        for side in (height, width)
    ]
    return torch.stack([*corners, height, width], dim=1)


def draw_boxes(share: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw a box `(N, 4) int` for each share `(N,)` of an image that is to be kept (arXiv 1905.04899).

    Its centre lies anywhere in the image; what lies outside is cut off.
    """
    x, y = (torch.randint(size, (len(share),), generator=generator) for _ in "xy")
    half = ((1 - share.double()).sqrt() * 0.5 * size).int()
    left, top = (x - half).clamp(min=0), (y - half).clamp(min=0)
    right, bottom = (x + half).clamp(max=size), (y + half).clamp(max=size)
    return torch.stack([top, left, bottom - top, right - left], dim=1)


def mix(images: Tensor, mixing: Mixing) -> Tensor:
    """Return normalised images `(N, C, S, S) float32` with their boxes erased, and mixed with their partners.

    An image's partner is the one before it in the batch.
    """
    if mixing.erased is not None:
        images = images.masked_fill(_inside(mixing.erased, images.shape[-1]), 0)
    if mixing.pixel_weight is None or mixing.box is None:
        return images
    weight = torch.where(_inside(mixing.box, images.shape[-1]), 0, mixing.pixel_weight.view(-1, 1, 1, 1))
    return images.roll(1, 0) * (1 - weight) + images * weight


def mix_labels(labels: Tensor, mixing: Mixing, num_classes: int) -> Tensor:
    """Return the labels `(N,) int64`, or where images were mixed the shares of classes `(N, classes) float32`."""
    if mixing.label_weight is None:
        return labels
    classes = torch.arange(num_classes, device=labels.device)
    own, weight = (labels.view(-1, 1) == classes).float(), mixing.label_weight.view(-1, 1)
    return own.roll(1, 0) * (1 - weight) + own * weight


def _inside(boxes: Tensor, size: int) -> Tensor:
    """Return which pixels lie in each image's box, `(N, 1, S, S) bool`."""
    top, left, height, width = (side.view(-1, 1, 1, 1) for side in boxes.unbind(1))
    line = torch.arange(size, device=boxes.device)
    x, y = line.view(1, 1, 1, size), line.view(1, 1, size, 1)
    return (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
