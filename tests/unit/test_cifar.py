"""CIFAR's pickles: read as published, and without running anything they name."""

import os
import pickle

import numpy as np
import pytest

from vitcnn.data import cifar, embedded
from vitcnn.data.trees import copy_tree
from vitcnn.errors import StudyError


@pytest.fixture
def tree(tmp_path):
    copy_tree(embedded.generate("cifar10", tmp_path), "cifar10", tmp_path / "tree")
    return tmp_path / "tree"


def rewrite(path, **changes):
    content = pickle.loads(path.read_bytes())
    content |= {key.encode(): value for key, value in changes.items()}
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_pixels_and_labels(name, classes, tmp_path):
    copy_tree(embedded.generate(name, tmp_path), name, tmp_path / "tree")
    decoded = cifar.decode(tmp_path / "tree", tmp_path / "decoded", name)
    size = embedded.SIZES[name]
    images, labels = (np.load(tmp_path / "decoded" / f"train_{what}.npy") for what in ("images", "labels"))
    seed = {"cifar10": 1, "cifar100": 3}[name]
    drawn, drawn_labels = embedded.draw_images(classes, size.train, 32, size.noise, size.tint, seed)
    assert (images == drawn.transpose(0, 3, 1, 2)).all()
    assert (labels == drawn_labels).all()
    assert len(decoded.classes) == classes
    assert decoded.splits["test"]["images"] == classes * size.test


def test_python_2_pickles_are_read(tmp_path):
    """Protocol 0 and 2 as Python 2 wrote them: text is bytes, arrays come from numpy.core."""
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    data = pickle.dumps({b"data": array, b"labels": [1, 2]}, protocol=2)
    old = data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    (tmp_path / "old").write_bytes(old)
    assert old != data
    assert (cifar.load_pickle(tmp_path / "old")[b"data"] == array).all()


class Hostile:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_names_code_is_refused(protocol, tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tree / "test_batch").write_bytes(pickle.dumps({b"data": Hostile()}, protocol=protocol))
    with pytest.raises(StudyError, match=r"test_batch: is no CIFAR pickle.*posix\.system"):
        cifar.decode(tree, tmp_path / "decoded", "cifar10")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("codec", ["zip", "hex", "utf-8"])
def test_no_codec_but_latin1_runs(codec, tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX" + bytes([len(codec)]) + b"\0\0\0" + codec.encode() + b"tR."
    )
    with pytest.raises(StudyError, match=f"the codec {codec} is not allowed"):
        cifar.load_pickle(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: (t / "data_batch_3").unlink(), "data_batch_3: is missing"),
        (lambda t: (t / "data_batch_3").write_bytes((t / "data_batch_3").read_bytes()[:1000]), "or damaged"),
        (lambda t: rewrite(t / "test_batch", labels=[10] * 400), "label 10 is none of 0 to 9"),
        (lambda t: rewrite(t / "test_batch", labels=[True, "x"] * 200), "label 'x' is none of"),
        (lambda t: rewrite(t / "test_batch", labels=[1]), "has 400 images, but not as many labels"),
        (lambda t: rewrite(t / "test_batch", data=np.zeros((400, 100), np.uint8)), "no rows of 3072 bytes"),
        (lambda t: rewrite(t / "test_batch", data=np.zeros((400, 3072))), "no rows of 3072 bytes"),
        (lambda t: rewrite(t / "batches.meta", label_names=[]), "has no list label_names"),
        (lambda t: (t / "batches.meta").write_bytes(pickle.dumps([1])), "holds no dictionary"),
    ],
)
def test_what_does_not_add_up_is_named(damage, message, tree, tmp_path):
    damage(tree)
    with pytest.raises(StudyError, match=message):
        cifar.decode(tree, tmp_path / "decoded", "cifar10")
