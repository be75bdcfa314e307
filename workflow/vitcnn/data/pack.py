"""The packed form that all datasets end in: memory-mapped uint8 arrays and a manifest of digests."""

import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import chain
from pathlib import Path

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

    Returns the digests, SHA-256 by file. Arrays of images that stay as they are get a second name there
    beside that in `decoded`, which costs no room.

    `report` is what validate.validate_images() returned. Damaged images stop it (`on_damaged` "error") or are
    left out ("skip"). `image_size` and `num_classes` are those that there must be. Raises StudyError for
    damaged images, other sizes or classes than configured, and classes without training images.
    """
    found = read_json(report)
    dataset, classes = found["dataset"], found["classes"]
    damaged = [(split, d) for split in SPLITS for d in found["splits"][split]["damaged"]]
    if damaged and on_damaged == "error":
        lines = "\n".join(f"  - {d['file']}: {d['reason']}" for _, d in damaged[:_LISTED])
        more = f"\n  … and {len(damaged) - _LISTED} more" if len(damaged) > _LISTED else ""
        raise StudyError(
            f"{dataset}: {len(damaged)} damaged images:\n{lines}{more}\n"
            f"All are listed in {report}. Fix the source, or leave them out: --config on_damaged=skip"
        )
    if len(classes) != num_classes:
        raise StudyError(
            f"{dataset}: has {len(classes)} classes, but datasets.{dataset}.num_classes is {num_classes}"
        )
    unusable = {split: [d["index"] for d in found["splits"][split]["damaged"]] for split in SPLITS}
    _require_space(decoded, target, [split for split in SPLITS if unusable[split]])

    target.mkdir(parents=True, exist_ok=True)
    counts, digests, keys = {}, {}, {}

    def save(name: str, array: np.ndarray) -> None:
        save_array(target / name, array)
        digests[target / name] = file_digest(target / name)

    for split in SPLITS:
        images = np.load(decoded / f"{split}_images.npy", mmap_mode="r")
        labels = np.load(decoded / f"{split}_labels.npy")
        if images.shape[2:] != (image_size,) * 2:
            raise StudyError(
                f"{dataset}: images are {images.shape[3]} by {images.shape[2]} pixels, but "
                f"datasets.{dataset}.image_size is {image_size}"
            )
        if unusable[split]:
            usable = np.delete(np.arange(len(labels)), unusable[split])
            labels = labels[usable]
            kept = target / f"{split}_images.npy"
            _save_rows(kept, images, usable)
            digests[kept] = file_digest(kept)
            images = np.load(kept, mmap_mode="r")
        empty = sorted(set(range(len(classes))) - set(labels.tolist()))
        if empty:
            raise StudyError(f"{dataset}: no usable {split} image of the class {classes[empty[0]]['id']}")
        counts[split] = {
            "images": len(labels),
            "damaged": len(unusable[split]),
            "greyscale": found["splits"][split]["greyscale"],
        }
        save(f"{split}_labels.npy", labels)
        keys[split] = image_keys(images)
        if split == "train":
            held_out = choose_hold_out(keys[split], labels)
            save("hold_out.npy", held_out)
            counts["hold_out"] = {"images": int(held_out.sum())}
    counts["test"]["in_train"] = int(np.isin(keys["test"], keys["train"]).sum())
    if counts["test"]["in_train"]:
        log.warning("%s: %d test images are training images too", dataset, counts["test"]["in_train"])
    unchanged = [f"{split}_images.npy" for split in SPLITS if not unusable[split]]
    for name in unchanged:
        with writing(target / name), replacing(target / name) as temporary:
            _link(decoded / name, temporary)
        digests[target / name] = found["sha256"][name]
    write_json(
        target / "manifest.json",
        {
            "version": MANIFEST_VERSION,
            "dataset": dataset,
            "image_size": image_size,
            "classes": classes,
            "counts": counts,
            "sha256": {path.name: digests[path] for path in sorted(digests)},
        },
    )
    log.info("%s: packed %s", dataset, counts)
    return digests


def image_keys(images: np.ndarray) -> np.ndarray:
    """Return a key for each image `(N,) uint64`, of the SHA-256 of its pixels: equal images have equal keys."""

    def key(image: np.ndarray) -> int:
        return int.from_bytes(sha256(image).digest()[:8], "big")

    with ThreadPoolExecutor() as pool:  # hashing needs no lock of Python's
        parts = pool.map(lambda part: [key(image) for image in part], np.array_split(images, 64))
    return np.array(list(chain.from_iterable(parts)), np.uint64)


def choose_hold_out(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return which of the training images `(N,) bool` are kept for validation: a tenth of each class.

    Within a class they are those with the lowest of their image_keys(), so that everybody who has the
    same images holds out the same, in whatever order they come.
    """
    held = np.zeros(len(labels), dtype=bool)
    held[stratified_order(labels, keys)[: round(len(labels) * HOLD_OUT_SHARE)]] = True
    return held


def _save_rows(path: Path, images: np.ndarray, rows: np.ndarray) -> None:
    """Save some rows of a mapped array as .npy, atomically and in parts: it may be larger than the memory."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *images.shape[1:])}
    with writing(path), replacing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in np.array_split(rows, 64):
            file.write(images[part])


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _require_space(decoded: Path, target: Path, rewritten: list[str]) -> None:
    """Stop before the first byte where the disk cannot take the images of splits that are written anew."""
    needed = sum((decoded / f"{split}_images.npy").stat().st_size for split in rewritten)
    existing = next(path for path in (target, *target.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise StudyError(
            f"{target}: no space left: packing takes {needed / 1e6:.1f} MB, the disk has {free / 1e6:.1f} MB free"
        )
