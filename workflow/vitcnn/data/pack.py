"""The packed form that all datasets end in: memory-mapped uint8 arrays and a manifest of digests."""

import logging
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from vitcnn.data.decoded import SPLITS
from vitcnn.data.packed import MANIFEST_VERSION
from vitcnn.data.subsets import stratified_order
from vitcnn.errors import StudyError
from vitcnn.files import file_digest, read_json, replacing, save_array, write_json, writing

log = logging.getLogger(__name__)

HOLD_OUT_SHARE = 0.1
_LISTED = 20  # damaged images that an error message names; the report has them all


def pack_dataset(
    report: Path, decoded: Path, target: Path, *, on_damaged: str, image_size: int, num_classes: int
) -> dict[Path, str]:
    """Write a dataset's packed arrays and, last of all, `manifest.json` with their digests to `target`.

    Returns the digests, SHA-256 by file. Arrays of images without damage are hard links to those in
    `decoded`, which take no space.

    `report` is what validate.validate_images() returned. Damaged images are an error, or are left out if
    `on_damaged` is "skip". Raises StudyError for damaged images, for another `image_size` or `num_classes`
    than the dataset has, and for a class without images.
    """
    found = read_json(report)
    _check(found, report, decoded, on_damaged, image_size, num_classes)
    damaged = {split: [d["index"] for d in found["splits"][split]["damaged"]] for split in SPLITS}
    _require_space(decoded, target, [split for split in SPLITS if damaged[split]])

    target.mkdir(parents=True, exist_ok=True)
    counts, digests, keys = {}, {}, {}
    for split in SPLITS:
        images = np.load(decoded / f"{split}_images.npy", mmap_mode="r")
        labels = np.load(decoded / f"{split}_labels.npy")
        if damaged[split]:
            usable = np.delete(np.arange(len(labels)), damaged[split])
            labels = labels[usable]
            path = target / f"{split}_images.npy"
            _save_rows(path, images, usable)
            digests[path] = file_digest(path)
            images = np.load(path, mmap_mode="r")
        empty = set(range(num_classes)) - set(labels.tolist())
        if empty:
            class_id = found["classes"][min(empty)]["id"]
            raise StudyError(f"{found['dataset']}: no usable {split} image of the class {class_id}")
        keys[split] = image_keys(images)
        counts[split] = {
            "images": len(labels),
            "damaged": len(damaged[split]),
            "greyscale": found["splits"][split]["greyscale"],
        }
        small = {f"{split}_labels.npy": labels}
        if split == "train":
            small["hold_out.npy"] = choose_hold_out(keys[split], labels)
            counts["hold_out"] = {"images": int(small["hold_out.npy"].sum())}
        for name, array in small.items():
            save_array(target / name, array)
            digests[target / name] = file_digest(target / name)
    counts["test"]["in_train"] = int(np.isin(keys["test"], keys["train"]).sum())
    if counts["test"]["in_train"]:
        log.warning(
            "%s: %d test images are training images too", found["dataset"], counts["test"]["in_train"]
        )
    for name in (f"{split}_images.npy" for split in SPLITS if not damaged[split]):
        with writing(target / name), replacing(target / name) as temporary:
            _link(decoded / name, temporary)
        digests[target / name] = found["sha256"][name]
    manifest = {
        "version": MANIFEST_VERSION,
        "dataset": found["dataset"],
        "image_size": image_size,
        "classes": found["classes"],
        "counts": counts,
        "sha256": {path.name: digests[path] for path in sorted(digests)},
    }
    write_json(target / "manifest.json", manifest)
    log.info("%s: packed %s", found["dataset"], counts)
    return digests


def _check(
    found: Mapping[str, Any], report: Path, decoded: Path, on_damaged: str, image_size: int, num_classes: int
) -> None:
    """Raise StudyError if the report says that a dataset cannot be packed as configured."""
    dataset = found["dataset"]
    damaged = [d for split in SPLITS for d in found["splits"][split]["damaged"]]
    if damaged and on_damaged == "error":
        lines = "\n".join(f"  - {d['file']}: {d['reason']}" for d in damaged[:_LISTED])
        more = f"\n  … and {len(damaged) - _LISTED} more" if len(damaged) > _LISTED else ""
        raise StudyError(
            f"{dataset}: {len(damaged)} damaged images:\n{lines}{more}\n"
            f"All are listed in {report}. Fix the source, or leave them out: --config on_damaged=skip"
        )
    if len(found["classes"]) != num_classes:
        raise StudyError(
            f"{dataset}: has {len(found['classes'])} classes, but datasets.{dataset}.num_classes is {num_classes}"
        )
    for split in SPLITS:
        height, width = np.load(decoded / f"{split}_images.npy", mmap_mode="r").shape[2:]
        if (height, width) != (image_size, image_size):
            raise StudyError(
                f"{dataset}: images are {width} by {height} pixels, but "
                f"datasets.{dataset}.image_size is {image_size}"
            )


def image_keys(images: np.ndarray) -> np.ndarray:
    """Return a key for each image `(N,) uint64`, of the SHA-256 of its pixels: equal images have equal keys."""

    def key(image: np.ndarray) -> int:
        return int.from_bytes(sha256(image).digest()[:8], "big")

    with ThreadPoolExecutor() as pool:  # hashing releases Python's lock
        parts = pool.map(lambda part: [key(image) for image in part], np.array_split(images, 64))
    return np.array(list(chain.from_iterable(parts)), np.uint64)


def choose_hold_out(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return which of the training images `(N,) bool` are held out: a tenth, spread over the classes.

    Within a class they are those with the lowest image_keys(), so the same images are held out everywhere,
    in whatever order they come.
    """
    held = np.zeros(len(labels), dtype=bool)
    held[stratified_order(labels, keys)[: max(1, round(len(labels) * HOLD_OUT_SHARE))]] = True
    return held


def _save_rows(path: Path, images: np.ndarray, rows: np.ndarray) -> None:
    """Save some rows of a mapped array as .npy, atomically and in parts: it may be larger than the memory."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *images.shape[1:])}
    with writing(path), replacing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in np.array_split(rows, 64):
            file.write(images[part])


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _require_space(decoded: Path, target: Path, rewritten: list[str]) -> None:
    """Raise StudyError, before anything is written, if the disk has no room for the splits that are rewritten."""
    needed = sum((decoded / f"{split}_images.npy").stat().st_size for split in rewritten)
    existing = next(path for path in (target, *target.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise StudyError(
            f"{target}: no space left: packing takes {needed / 1e6:.1f} MB, the disk has {free / 1e6:.1f} MB free"
        )
