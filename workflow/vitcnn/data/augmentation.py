"""Augmentation of whole batches on any device, each image with parameters of its own.

For the same parameters the result is that of torchvision's transforms on PIL images, byte for byte:
RandomCrop with zero padding, RandomHorizontalFlip, RandomRotation and RandomAffine(translate), in this
order, nearest neighbour, fill 0. Each step is a map from an output pixel to the pixel it comes from;
the maps are composed as integers and the images are read once.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Parameters(NamedTuple):
    """What was drawn for each of N images; None where the recipe does not ask for it."""

    crop_x: Tensor | None  # (N,) int, columns from the left of the padded image
    crop_y: Tensor | None
    flip: Tensor | None  # (N,) bool
    angle: Tensor | None  # (N,) float32, degrees, counter-clockwise
    rotation: Tensor | None  # (N, 6) int32, fixed_point_rotation(angle)
    shift_x: Tensor | None  # (N,) int, pixels to the right
    shift_y: Tensor | None  # (N,) int, pixels down

    def take(self, rows: Tensor | slice) -> "Parameters":
        """Return the parameters of some of the images."""
        return Parameters(*(None if value is None else value[rows] for value in self))

    def to(self, device: torch.device) -> "Parameters":
        """Return the parameters on `device`."""
        return Parameters(*(None if value is None else value.to(device) for value in self))


def draw_parameters(
    count: int, size: int, augmentation: Mapping[str, float], generator: torch.Generator
) -> Parameters:
    """Draw parameters for `count` images of `size` pixels a side, distributed as torchvision's.

    Padding p gives offsets from 0 to 2p; an angle is uniform in ±rotation; a shift is a uniform number
    in ±translation·size, rounded, so that the end points are rarer than the rest.
    """

    def uniform(limit: float) -> Tensor:
        return torch.empty(count).uniform_(-limit, limit, generator=generator)

    pad = int(augmentation["crop_padding"])
    crop_x, crop_y = (torch.randint(0, 2 * pad + 1, (count,), generator=generator) for _ in "xy")
    flip = torch.rand(count, generator=generator) < augmentation["horizontal_flip"]
    angle = uniform(augmentation["rotation"])
    shift_x, shift_y = (uniform(augmentation["translation"] * size).round().int() for _ in "xy")
    return Parameters(
        *((crop_x.int(), crop_y.int()) if pad else (None, None)),
        flip if augmentation["horizontal_flip"] else None,
        *((angle, fixed_point_rotation(angle, size)) if augmentation["rotation"] else (None, None)),
        *((shift_x, shift_y) if augmentation["translation"] else (None, None)),
    )


def fixed_point_rotation(angle: Tensor, size: int) -> Tensor:
    """Return, `(N, 6) int32`, where a rotation about the centre reads: x = (a·x + b·y + c) >> 16, y likewise.

    Pillow's nearest-neighbour affine transform (Geometry.c, affine_fixed) works in 16.16 fixed point
    from the centre of the first pixel; the matrix is that of Image.rotate, in double precision.
    """
    radians = -(angle.double() % 360) * (math.pi / 180)
    cos, sin, centre = radians.cos(), radians.sin(), size / 2
    c = cos * -centre + sin * -centre + centre
    f = -sin * -centre + cos * -centre + centre
    matrix = (cos, sin, c + cos * 0.5 + sin * 0.5, -sin, cos, f + -sin * 0.5 + cos * 0.5)
    return (torch.stack(matrix, dim=1) * 65536 + 0.5).floor().int()


def augment(images: Tensor, parameters: Parameters, crop_padding: int = 0) -> Tensor:
    """Return the augmented images, `(N, C, S, S) uint8` like `images`."""
    if all(value is None for value in parameters):
        return images
    count, channels, size, _ = images.shape
    line = torch.arange(size, dtype=torch.int32, device=images.device)
    x = line.view(1, 1, size).expand(count, size, size)
    y = line.view(1, size, 1).expand(count, size, size)
    inside = None

    # From the output backwards: the last transform comes first.
    if parameters.shift_x is not None and parameters.shift_y is not None:
        x = x - _per_image(parameters.shift_x)
        y = y - _per_image(parameters.shift_y)
        inside = _within(x, y, size, inside)
    if parameters.rotation is not None:
        a, b, c, d, e, f = (_per_image(coefficient) for coefficient in parameters.rotation.unbind(1))
        x, y = (a * x + b * y + c) >> 16, (d * x + e * y + f) >> 16
        inside = _within(x, y, size, inside)
    if parameters.flip is not None:
        x = torch.where(_per_image(parameters.flip), size - 1 - x, x)
    if parameters.crop_x is not None and parameters.crop_y is not None:
        x = x + (_per_image(parameters.crop_x) - crop_padding)
        y = y + (_per_image(parameters.crop_y) - crop_padding)
        inside = _within(x, y, size, inside)

    source = (y * size + x).clamp_(0, size * size - 1).view(count, 1, -1).expand(-1, channels, -1)
    augmented = images.flatten(2).gather(2, source.long()).view_as(images)
    return augmented if inside is None else augmented * inside.unsqueeze(1)


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return `images` uint8 as float32, in torchvision's order: divided by 255, then (x − mean) / std.

    `mean` and `std` are `(3, 1, 1)`. Black stays black before it is shifted: a fill is −mean/std here.
    """
    return images.float().div_(255).sub_(mean).div_(std)


def normalized_values(mean: Tensor, std: Tensor) -> Tensor:
    """Return what normalize() makes of every pixel value, `(3, 256) float32`, as the CPU computes it.

    A GPU divides by a number as it multiplies by its reciprocal: for 126 of the 256 values the last bit differs.
    """
    every_value = torch.arange(256, dtype=torch.uint8, device="cpu").expand(3, 1, 256)
    return normalize(every_value, mean.cpu(), std.cpu()).view(3, 256).to(mean.device)


def look_up(values: Tensor, images: Tensor) -> Tensor:
    """Return `images (N, 3, S, S) uint8` normalised by normalized_values()."""
    channels = torch.arange(3, device=images.device).view(3, 1, 1)
    return values[channels, images.long()]


def _per_image(value: Tensor) -> Tensor:
    return value.view(-1, 1, 1)


def _within(x: Tensor, y: Tensor, size: int, inside: Tensor | None) -> Tensor:
    """Return where a step reads from inside its frame, and all steps after it did too."""
    here = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    return here if inside is None else here & inside
