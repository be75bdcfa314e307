"""Small generated datasets in the publishers' own layouts, for the demo and the tests.

Each class is a colour and a grating of its own direction and width; phase, brightness, contrast and
noise vary from image to image. A trained model gets well above chance and stays below perfect. The
same call makes the same bytes.
"""

import gzip
import io
import pickle
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vitcnn.errors import StudyError


class _Size(NamedTuple):
    """Images per class, for training and for testing; how noisy and how coloured they are."""

    train: int
    test: int
    noise: float
    tint: float


SIZES = {
    "cifar10": _Size(100, 40, 0.4, 0.2),
    "cifar100": _Size(12, 4, 0.1, 0.5),
    "imagenet200": _Size(6, 2, 0.05, 0.6),
}


def generate(name: str, folder: Path) -> Path:
    """Make the embedded dataset `name` in `folder`; return its archive, or its tree for imagenet200."""
    if name not in SIZES:
        raise StudyError(f"embedded:{name} does not exist; there are {', '.join(SIZES)}")
    folder.mkdir(parents=True, exist_ok=True)
    make = {"cifar10": _cifar10, "cifar100": _cifar100, "imagenet200": _tiny_imagenet}[name]
    return make(folder, SIZES[name])


def draw_images(
    num_classes: int, per_class: int, size: int, noise: float, tint: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return images `(N, size, size, 3) uint8` and labels `(N,)`, classes in turn."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(num_classes), per_class)
    # Multiples of two irrational numbers spread the classes evenly over colours and directions.
    hue = (labels * 0.6180339887) % 1
    direction = np.pi * ((labels * 0.4142135624) % 1)
    width = 2 + labels % 3
    colour = 0.5 + 0.5 * np.cos(2 * np.pi * (hue[:, None] + np.array([0, 1 / 3, 2 / 3])))
    y, x = np.mgrid[0:size, 0:size] / size
    along = x * np.cos(direction)[:, None, None] + y * np.sin(direction)[:, None, None]
    phase = rng.uniform(0, 2 * np.pi, (len(labels), 1, 1))
    wave = np.sin(2 * np.pi * width[:, None, None] * along + phase)[..., None]
    contrast = rng.uniform(0.3, 1, (len(labels), 1, 1, 1))
    brightness = rng.uniform(-0.15, 0.15, (len(labels), 1, 1, 1))
    grain = rng.normal(0, noise, (len(labels), size, size, 3))
    pixels = 0.5 + brightness + 0.3 * contrast * wave * colour[:, None, None, :]
    pixels += tint * (colour[:, None, None, :] - 0.5) + grain
    return np.clip(255 * pixels, 0, 255).astype(np.uint8), labels


def _cifar10(folder: Path, size: _Size) -> Path:
    images, labels = draw_images(10, size.train, 32, size.noise, size.tint, seed=1)
    members = {}
    for i, part in enumerate(np.array_split(np.arange(len(labels)), 5), start=1):
        members[f"data_batch_{i}"] = _batch(images[part], labels[part], b"labels")
    images, labels = draw_images(10, size.test, 32, size.noise, size.tint, seed=2)
    members["test_batch"] = _batch(images, labels, b"labels")
    members["batches.meta"] = {b"label_names": [f"grating_{i}".encode() for i in range(10)]}
    return _write_tar(folder / "cifar-10-python.tar.gz", "cifar-10-batches-py", members)


def _cifar100(folder: Path, size: _Size) -> Path:
    members = {}
    for split, count, seed in (("train", size.train, 3), ("test", size.test, 4)):
        images, labels = draw_images(100, count, 32, size.noise, size.tint, seed)
        members[split] = _batch(images, labels, b"fine_labels") | {b"coarse_labels": (labels // 5).tolist()}
    members["meta"] = {
        b"fine_label_names": [f"grating_{i}".encode() for i in range(100)],
        b"coarse_label_names": [f"group_{i}".encode() for i in range(20)],
    }
    return _write_tar(folder / "cifar-100-python.tar.gz", "cifar-100-python", members)


def _batch(images: np.ndarray, labels: np.ndarray, key: bytes) -> dict[bytes, object]:
    return {b"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), key: labels.tolist()}


def _write_tar(path: Path, root: str, members: dict[str, dict[bytes, object]]) -> Path:
    # mtime 0 in the gzip header and in the members: the same call makes the same bytes.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, content in members.items():
            data = pickle.dumps(content, protocol=2)
            info = tarfile.TarInfo(f"{root}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _tiny_imagenet(folder: Path, size: _Size) -> Path:
    root = folder / "tiny-imagenet-200"
    shutil.rmtree(root, ignore_errors=True)
    wnids = [f"n{i:08d}" for i in range(1, 201)]
    root.mkdir()
    # Not in the order of their names, as in the publisher's file.
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in reversed(wnids)), encoding="utf-8")
    words = "".join(f"{wnid}\tgrating {i}, stripes\n" for i, wnid in enumerate(wnids))
    (root / "words.txt").write_text(words, encoding="utf-8")

    images, labels = draw_images(200, size.train, 64, size.noise, size.tint, seed=5)
    for i, (label, data) in enumerate(zip(labels, _jpegs(images), strict=True)):
        target = root / "train" / wnids[label] / "images"
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{wnids[label]}_{i // 200}.JPEG").write_bytes(data)
    images, labels = draw_images(200, size.test, 64, size.noise, size.tint, seed=6)
    order = np.random.default_rng(7).permutation(len(labels))
    target = root / "val" / "images"
    target.mkdir(parents=True)
    annotations = []
    for i, data in enumerate(_jpegs(images[order])):
        (target / f"val_{i}.JPEG").write_bytes(data)
        annotations.append(f"val_{i}.JPEG\t{wnids[labels[order[i]]]}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(annotations), encoding="utf-8")
    return root


def _jpegs(images: np.ndarray) -> Iterator[bytes]:
    """Yield each image as a JPEG file; one in fifty is greyscale, as in the publisher's tree."""
    for i, pixels in enumerate(images):
        image = Image.fromarray(pixels)
        buffer = io.BytesIO()
        (image.convert("L") if i % 50 == 49 else image).save(buffer, "JPEG", quality=90)
        yield buffer.getvalue()
