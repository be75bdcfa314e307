"""CIFAR-10 and CIFAR-100 from their publisher's pickles, read without running any code from them.

Layout: https://www.cs.toronto.edu/~kriz/cifar.html
"""

import codecs
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitcnn.data.decoded import Decoded
from vitcnn.errors import StudyError
from vitcnn.files import save_array

IMAGE_SIZE = 32


class _Layout(NamedTuple):
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    names: bytes
    labels: bytes


_LAYOUTS = {
    "cifar10": _Layout(
        train=tuple(f"data_batch_{i}" for i in range(1, 6)),
        test=("test_batch",),
        meta="batches.meta",
        names=b"label_names",
        labels=b"labels",
    ),
    "cifar100": _Layout(
        train=("train",), test=("test",), meta="meta", names=b"fine_label_names", labels=b"fine_labels"
    ),
}


ROOT = {
    "cifar10": "batches.meta, data_batch_1, test_batch",
    "cifar100": "meta, train, test",
}


def is_root(folder: Path, layout: str) -> bool:
    """Return whether a folder holds the files that a dataset of this layout has, and no other has."""
    return all((folder / name).is_file() for name in ROOT[layout].split(", "))


def decode(tree: Path, target: Path, layout: str, workers: int = 1) -> Decoded:
    """Write the pixels `(N, 3, 32, 32) uint8` and labels of both splits into `target`.

    It takes a second; `workers` are of no use. Raises StudyError, naming the file, if one is missing, is no plain CIFAR pickle, or its arrays do
    not belong together.
    """
    files = _LAYOUTS[layout]
    names = load_pickle(tree / files.meta).get(files.names)
    if not isinstance(names, list) or not names:
        raise StudyError(f"{tree / files.meta}: has no list {files.names.decode()}")
    titles = [_text(name) for name in names]
    decoded = Decoded(classes=[{"id": title, "words": title.replace("_", " ")} for title in titles])
    target.mkdir(parents=True, exist_ok=True)
    for split, batches in (("train", files.train), ("test", files.test)):
        parts = [_read_batch(tree / batch, files.labels, len(titles)) for batch in batches]
        images = np.concatenate([pixels for pixels, _ in parts])
        save_array(target / f"{split}_images.npy", images)
        save_array(target / f"{split}_labels.npy", np.concatenate([labels for _, labels in parts]))
        decoded.add(split, images=len(images), damaged=[], greyscale=0)
    return decoded


def _read_batch(path: Path, labels_key: bytes, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    batch = load_pickle(path)
    pixels, labels = batch.get(b"data"), batch.get(labels_key)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (3072,):
        raise StudyError(f"{path}: its data are no rows of 3072 bytes")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        raise StudyError(f"{path}: has {len(pixels)} images, but not as many {labels_key.decode()}")
    wrong = [label for label in labels if not isinstance(label, int) or not 0 <= label < num_classes]
    if wrong:
        raise StudyError(f"{path}: label {wrong[0]!r} is none of 0 to {num_classes - 1}")
    return pixels.reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE), np.array(labels, dtype=np.int64)


def _text(name: Any) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`, by which pickle protocol 2 writes bytes; no other codec runs."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"the codec {encoding} is not allowed")
    return codecs.encode(text, "latin1")


class _CifarUnpickler(pickle.Unpickler):
    """Knows the three names that an array of bytes needs, under their old and new modules."""

    _reconstruct = staticmethod(np.zeros(0).__reduce__()[0])

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): self._reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): self._reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode_latin1,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a CIFAR file")
        return allowed[module, name]


def load_pickle(path: Path) -> dict[bytes, Any]:
    """Return the dictionary in a CIFAR pickle; keys are bytes, as Python 2 wrote them.

    Raises StudyError if the file is missing, damaged, or names anything but NumPy's array types.
    """
    try:
        with path.open("rb") as file:
            value = _CifarUnpickler(file, encoding="bytes").load()
    except FileNotFoundError as error:
        raise StudyError(f"{path}: is missing from the archive") from error
    except OSError:
        raise
    except Exception as error:  # a hostile or cut pickle can raise nearly anything
        raise StudyError(f"{path}: is no CIFAR pickle, or damaged: {error}") from error
    if not isinstance(value, dict):
        raise StudyError(f"{path}: holds no dictionary")
    return value
