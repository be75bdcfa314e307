"""Batched augmentation against torchvision's transforms on PIL images: byte for byte."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torchvision import transforms
from torchvision.transforms import functional

from vitcnn.data.augmentation import Parameters, augment, draw_parameters, fixed_point_rotation, normalize

CASES = 3000  # random cases per transform and image size
NONE = Parameters(*[None] * len(Parameters._fields))
OFF = {"crop_padding": 0, "horizontal_flip": 0, "rotation": 0, "translation": 0}
FIRST = {
    32: OFF | {"horizontal_flip": 0.5, "rotation": 10, "translation": 0.1},
    64: OFF | {"horizontal_flip": 0.5, "rotation": 15, "translation": 0.15},
}
SECOND = OFF | {"crop_padding": 4, "horizontal_flip": 0.5}


def rotated(angle: torch.Tensor, size: int, others: Parameters = NONE) -> Parameters:
    return others._replace(angle=angle, rotation=fixed_point_rotation(angle, size))


def random_images(count: int, size: int) -> torch.Tensor:
    # From 1: a zero in the result is then always a fill.
    return torch.randint(
        1, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def with_pil(image: torch.Tensor, parameters: Parameters, row: int, padding: int) -> np.ndarray:
    """Apply one image's parameters as torchvision does to a PIL image, in the notebooks' orders."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    size = picture.width
    if parameters.crop_x is not None:
        picture = functional.pad(picture, padding)
        picture = functional.crop(
            picture, int(parameters.crop_y[row]), int(parameters.crop_x[row]), size, size
        )
    if parameters.flip is not None and parameters.flip[row]:
        picture = functional.hflip(picture)
    if parameters.angle is not None:
        picture = functional.rotate(picture, parameters.angle[row].item())
    if parameters.shift_x is not None:
        shift = [int(parameters.shift_x[row]), int(parameters.shift_y[row])]
        picture = functional.affine(picture, 0.0, shift, 1.0, [0.0, 0.0])
    return np.asarray(picture).transpose(2, 0, 1)


def differing_bytes(images: torch.Tensor, parameters: Parameters, padding: int = 0) -> int:
    ours = augment(images, parameters, padding).numpy()
    return sum(
        int((ours[row] != with_pil(images[row], parameters, row, padding)).sum())
        for row in range(len(images))
    )


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(
    "augmentation",
    [
        OFF | {"horizontal_flip": 0.5},
        OFF | {"rotation": 15},
        OFF | {"rotation": 180},
        OFF | {"translation": 0.15},
        OFF | {"crop_padding": 4},
        OFF | {"crop_padding": 4, "horizontal_flip": 0.5},
        OFF | {"rotation": 15, "translation": 0.15},
        {"crop_padding": 4, "horizontal_flip": 0.5, "rotation": 30, "translation": 0.3},
    ],
    ids=[
        "flip",
        "rotation",
        "any rotation",
        "translation",
        "crop",
        "crop+flip",
        "rotation+translation",
        "all",
    ],
)
def test_same_bytes_as_torchvision_on_pil(augmentation, size):
    images = random_images(CASES, size)
    parameters = draw_parameters(CASES, size, augmentation, torch.Generator().manual_seed(size))
    assert differing_bytes(images, parameters, augmentation["crop_padding"]) == 0


@pytest.mark.parametrize("size", [32, 64])
def test_recipes_change_most_images(size):
    images = random_images(100, size)
    parameters = draw_parameters(100, size, FIRST[size], torch.Generator().manual_seed(0))
    changed = (augment(images, parameters) != images).flatten(1).any(1)
    assert changed.sum() > 95


@pytest.mark.parametrize("angle", [0.0, -0.0, 90.0, -90.0, 180.0, -180.0, 1e-6, 45.0, 10.0, -10.0])
def test_special_angles(angle):
    images = random_images(4, 32)
    parameters = rotated(torch.full((4,), angle), 32)
    assert differing_bytes(images, parameters) == 0


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 40),
    angle=st.floats(-180, 180, width=32),
    shift=st.tuples(st.integers(-45, 45), st.integers(-45, 45)),
    flip=st.booleans(),
)
def test_same_bytes_for_any_parameters(size, angle, shift, flip):
    parameters = NONE._replace(
        flip=torch.tensor([flip]), shift_x=torch.tensor([shift[0]]), shift_y=torch.tensor([shift[1]])
    )
    parameters = rotated(torch.tensor([angle], dtype=torch.float32), size, parameters)
    assert differing_bytes(random_images(1, size), parameters) == 0


def test_rotation_crops_before_the_shift():
    """Two resamplings are not one: what the rotation pushed out of the frame does not come back."""
    images = random_images(1, 32)
    turned = rotated(torch.tensor([30.0]), 32)
    both = turned._replace(shift_x=torch.tensor([8]), shift_y=torch.tensor([0]))
    before = augment(images, turned)
    shifted = augment(images, both)
    assert torch.equal(shifted[..., 8:], before[..., :-8])
    assert not shifted[..., :8].any()


@pytest.mark.parametrize("size", [32, 64])
def test_parameters_are_distributed_as_torchvisions(size):
    """Two-sample tests against torchvision's own draws, 20,000 of each."""
    count, recipe = 20_000, FIRST[size]
    ours = draw_parameters(count, size, recipe, torch.Generator().manual_seed(3))
    torch.manual_seed(4)
    rotation = transforms.RandomRotation(recipe["rotation"])
    affine = transforms.RandomAffine(degrees=0, translate=(recipe["translation"],) * 2)
    angles = [rotation.get_params(rotation.degrees) for _ in range(count)]
    shifts = np.array(
        [
            affine.get_params(affine.degrees, affine.translate, None, None, [size, size])[1]
            for _ in range(count)
        ]
    )
    assert stats.ks_2samp(ours.angle.numpy(), angles).pvalue > 0.001
    for mine, theirs in ((ours.shift_x, shifts[:, 0]), (ours.shift_y, shifts[:, 1])):
        values = np.union1d(mine.numpy(), theirs)
        table = [[(sample == value).sum() for value in values] for sample in (mine.numpy(), theirs)]
        assert stats.chi2_contingency(table).pvalue > 0.001
        assert set(mine.tolist()) == set(theirs.tolist())
    assert stats.binomtest(int(ours.flip.sum()), count, 0.5).pvalue > 0.001


def test_crop_offsets_are_distributed_as_torchvisions():
    count = 20_000
    ours = draw_parameters(count, 32, SECOND, torch.Generator().manual_seed(5))
    torch.manual_seed(6)
    padded = torch.zeros(3, 40, 40)
    theirs = np.array([transforms.RandomCrop.get_params(padded, (32, 32))[:2] for _ in range(count)])
    for mine, other in ((ours.crop_y, theirs[:, 0]), (ours.crop_x, theirs[:, 1])):
        table = [[(sample == value).sum() for value in range(9)] for sample in (mine.numpy(), other)]
        assert stats.chi2_contingency(table).pvalue > 0.001
    for other in (ours.crop_y, ours.flip):
        assert abs(np.corrcoef(ours.crop_x, other)[0, 1]) < 0.05


def test_parameters_are_drawn_per_image():
    parameters = draw_parameters(1000, 32, FIRST[32], torch.Generator().manual_seed(0))
    assert len(parameters.angle.unique()) > 990
    correlation = np.corrcoef(parameters.shift_x.numpy(), parameters.shift_y.numpy())[0, 1]
    assert abs(correlation) < 0.1


def test_normalize_is_torchvisions():
    images = random_images(8, 32)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    plain = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    expected = torch.stack([plain(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    ours = normalize(images, torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1))
    assert torch.equal(ours, expected)
