"""Image files of any kind and size as arrays of pixels: what the layouts that hold images share."""

import io
import logging
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from vitcnn.data.decoded import SPLITS, Damage, Decoded, create_array
from vitcnn.errors import StudyError
from vitcnn.files import file_digest, save_array, writing

log = logging.getLogger(__name__)

CHUNK = 100  # images that one process decodes at a time
SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
# What tools leave beside images; none of it is a class or an image.
_LEFT_BEHIND = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
SPLIT_NAMES = {
    "train": ("train", "training", "training_set", "train_set"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "test_set", "eval"),
}


class Labelled(NamedTuple):
    """Images of one split and their labels: `content` is a file, or what is in one."""

    names: list[str]
    contents: Sequence[Path | bytes]
    labels: list[int]


def is_left_behind(path: Path) -> bool:
    """Return whether a file or folder is a tool's own: hidden, such as `.ipynb_checkpoints`, or `__MACOSX`."""
    return path.name.startswith(".") or path.name in _LEFT_BEHIND


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted by name, and say in the log what tools have left there."""
    found = sorted(folder.iterdir(), key=lambda path: path.name)
    for path in found:
        if is_left_behind(path):
            log.warning("%s: is no part of the dataset and left out", path)
    return [path for path in found if not is_left_behind(path)]


def split_of(name: str) -> str | None:
    """Return train, val or test for the name of a split, in any case; None for another name."""
    return next((split for split, names in SPLIT_NAMES.items() if name.lower() in names), None)


def decode_images(
    classes: list[str],
    splits: dict[str, Labelled],
    target: Path,
    image_size: int,
    resize: str,
    workers: int,
) -> Decoded:
    """Decode the images of `train` and `test`, with `workers` processes, into arrays below `target`.

    An image that does not decode, or with `resize` "error" is not `image_size` pixels a side, is left
    black and listed with its reason. Raises StudyError for a class without images in a split, and for
    arrays that are larger than this machine's memory, before the first image is decoded.
    """
    for split in SPLITS:
        empty = sorted(set(range(len(classes))) - set(splits[split].labels))
        if empty:
            (other,) = set(SPLITS) - {split}
            names = [
                name
                for name, label in zip(splits[other].names, splits[other].labels, strict=True)
                if label == empty[0]
            ]
            there = f", whose {len(names)} of {other} begin with {names[0]}" if names else ""
            raise StudyError(
                f"{target.parent}: the {split} split has no image of the class {classes[empty[0]]}{there}; add some, "
                "or remove the class"
            )
    refuse_too_large(target.parent.name, sum(len(splits[split].names) for split in SPLITS), image_size)
    decoded = Decoded(classes=[{"id": name, "words": name.replace("_", " ")} for name in classes])
    with ProcessPoolExecutor(max_workers=workers) as pool:
        for split in SPLITS:
            names, contents, labels = splits[split]
            path = target / f"{split}_images.npy"
            damaged, grey = [], 0
            offset = create_array(path, (len(names), 3, image_size, image_size))
            starts = range(0, len(names), CHUNK)
            chunks = [contents[start : start + CHUNK] for start in starts]
            places = [offset + start * 3 * image_size**2 for start in starts]
            parts = pool.map(decode_chunk, chunks, repeat(image_size), repeat(resize), repeat(path), places)
            for start, (reasons, grey_images) in zip(starts, parts, strict=True):
                damaged += [Damage(start + i, names[start + i], reason) for i, reason in reasons]
                grey += grey_images
            save_array(target / f"{split}_labels.npy", np.array(labels, dtype=np.int64))
            decoded.add(split, images=len(names), damaged=damaged, greyscale=grey)
            log.info("%s: %d images, %d damaged, %d greyscale", split, len(names), len(damaged), grey)
    return decoded


def decode_chunk(
    contents: Sequence[Path | bytes],
    image_size: int,
    resize: str,
    file: Path,
    place: int,
) -> tuple[list[tuple[int, str]], int]:
    """Decode images and write them to `file` from byte `place`; what comes back is small.

    Returns the position and the reason of each damaged image, and the number of greyscale ones.
    """
    pixels = np.zeros((len(contents), 3, image_size, image_size), dtype=np.uint8)
    damaged, grey = [], 0
    for i, content in enumerate(contents):
        # What cannot be read is no damaged image: a disk may have gone.
        data = content.read_bytes() if isinstance(content, Path) else content
        try:
            data = data if isinstance(data, bytes) else data.read_bytes()
            pixels[i], is_grey = read_image(data, image_size, resize)
            grey += is_grey
        except Exception as error:
            # Pillow lets through whatever a damaged file makes it trip over, such as struct.error for odd EXIF data.
            # Where the bytes lie in memory is not the same from one time to the next.
            damaged.append((i, re.sub(r" <_io\.BytesIO object at \w+>", "", str(error))))
    view = memoryview(pixels).cast("B")
    with writing(file), file.open("r+b") as out:
        while view:
            written = os.pwrite(out.fileno(), view, place)
            place, view = place + written, view[written:]
    return damaged, grey


def read_image(data: bytes, image_size: int, resize: str) -> tuple[np.ndarray, bool]:
    """Return an image's pixels as `(3, S, S) uint8`, upright by its EXIF data, and whether it was greyscale.

    Raises OSError, SyntaxError or ValueError for a file that is empty, cut short or no image, and with
    `resize` "error" for an image of another size.
    """
    if not data:
        raise ValueError("the file is empty")
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I;16")
        colour = fit(to_rgb(ImageOps.exif_transpose(image)), image_size, resize)
        return np.asarray(colour).transpose(2, 0, 1), grey


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in RGB: of an animation the first frame, of 16 bits the upper 8, transparency on white.

    Raises ValueError for pixels of 32 bits, whose range is not known.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("has pixels of 32 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def fit(image: Image.Image, size: int, resize: str) -> Image.Image:
    """Return an image of `size` pixels a side, as it is where it has them.

    "crop" takes the largest square in the middle, "pad" adds black on two sides, "squash" changes the
    proportions; all three interpolate bicubically. "error" raises ValueError.
    """
    if image.size == (size, size):
        return image
    if resize == "error":
        raise ValueError(
            f"is {image.width} by {image.height} pixels, not {size} by {size}; resize: crop, squash or pad changes it, "
            "where the layout has images of any size"
        )
    if resize == "squash":
        return image.resize((size, size), Image.Resampling.BICUBIC)
    return {"crop": ImageOps.fit, "pad": ImageOps.pad}[resize](image, (size, size), Image.Resampling.BICUBIC)


def refuse_too_large(dataset: str, images: int, image_size: int, memory: int | None = None) -> None:
    """Raise StudyError if arrays of so many images are larger than the memory of this machine, in bytes."""
    needed = 3 * image_size**2 * images
    memory = memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise StudyError(
            f"{dataset}: {images:,} images of {image_size} by {image_size} pixels take {needed / 1e9:.1f} GB as "
            f"arrays, and this machine has {memory / 1e9:.1f} GB of memory; set a smaller "
            f"datasets.{dataset}.image_size, with resize"
        )


def choose_test_share(keys: Sequence[str], labels: Sequence[int], share: float) -> np.ndarray:
    """Return which images `(N,) bool` are for testing: of each class those whose keys are lowest.

    `keys` are digests of the images' content, so that everybody who has the same images tests on the
    same; equal images of a class, which have one key, stay on one side. A class gives at least one image.
    """
    keys_array, labels_array = np.asarray(keys), np.asarray(labels)
    chosen = np.zeros(len(labels_array), dtype=bool)
    order = np.lexsort((keys_array, labels_array))
    for own in np.split(order, np.flatnonzero(np.diff(labels_array[order])) + 1):
        last = keys_array[own[max(1, round(len(own) * share)) - 1]]
        chosen[own] = keys_array[own] <= last
    return chosen


def split_up(
    whole: Labelled, splits: Sequence[str | None], test_share: float | None, place: Path
) -> dict[str, Labelled]:
    """Return the images of `train` and `test`, by the split that is said of each, or by `test_share`.

    Where none is for testing, those for validation are. Raises StudyError, naming `place`, where nothing
    says what is for testing, or a test split and `test_share` both do.
    """
    if test_share:
        if {"val", "test"} & set(splits):
            raise StudyError(f"{place}: names a test split of its own; leave test_share out")
        digests = [content_digest(content) for content in whole.contents]
        tested = choose_test_share(digests, whole.labels, test_share)
        splits = ["test" if is_tested else "train" for is_tested in tested]
    test = "test" if "test" in splits else "val"
    if "train" not in splits or test not in splits:
        raise StudyError(
            f"{place}: does not say what is for training and what for testing; set test_share, such as 0.2"
        )
    if others := sum(split not in ("train", test) for split in splits):
        log.warning("%s: %d images of no split or of another are left out", place, others)
    chosen = {"train": "train", "test": test}
    return {name: take(whole, [split == said for split in splits]) for name, said in chosen.items()}


def content_digest(content: Path | bytes) -> str:
    """Return the SHA-256 of an image file."""
    return sha256(content).hexdigest() if isinstance(content, bytes) else file_digest(content)


def take(images: Labelled, chosen: Sequence[bool]) -> Labelled:
    """Return those of the images for which `chosen` says so."""
    rows = [row for row, is_chosen in enumerate(chosen) if is_chosen]
    return Labelled(*([column[row] for row in rows] for column in images))


def by_class(names: Iterable[str]) -> dict[str, int]:
    """Return the label of each class: its place among the sorted names."""
    return {name: label for label, name in enumerate(sorted(set(names)))}
