"""Packing: one form for all datasets, its digests, its hold-out, and what stops it."""

import shutil
from collections import namedtuple
from functools import partial

import numpy as np
import pytest
from conftest import WNIDS

from vitcnn.data import pack
from vitcnn.data.decoded import create_array
from vitcnn.data.pack import image_keys, pack_dataset
from vitcnn.data.packed import load_packed
from vitcnn.data.tiny_imagenet import sort_validation
from vitcnn.data.trees import copy_tree
from vitcnn.data.validate import validate_images
from vitcnn.errors import StudyError
from vitcnn.files import file_digest, read_json, write_json

EXPECTED = {"image_size": 64, "num_classes": 3}


def prepare(tiny, tmp_path):
    sort_validation(tiny)
    report = validate_images("imagenet200", "tiny_imagenet", tiny, tmp_path / "decoded", 1)
    write_json(tmp_path / "validation.json", report)


def pack_it(tmp_path, on_damaged="error", expected=EXPECTED):
    paths = (tmp_path / name for name in ("validation.json", "decoded", "packed"))
    pack_dataset(*paths, on_damaged=on_damaged, **expected)
    return read_json(tmp_path / "packed" / "manifest.json")


def spoil(tiny, *names):
    for name in names:
        (tiny / "train" / name.rsplit("_", 1)[0] / "images" / name).write_bytes(b"spoilt")


def test_manifest_and_arrays(tiny, tmp_path):
    prepare(tiny, tmp_path)
    decoded = np.load(tmp_path / "decoded" / "train_images.npy")
    manifest = pack_it(tmp_path)
    assert manifest["counts"]["train"] == {"images": 12, "damaged": 0, "greyscale": 0}
    assert manifest["counts"]["test"] == {"images": 6, "damaged": 0, "greyscale": 0, "in_train": 0}
    assert manifest["counts"]["hold_out"] == {"images": 1}
    for name, digest in manifest["sha256"].items():
        assert file_digest(tmp_path / "packed" / name) == digest
    packed = load_packed(tmp_path / "packed")
    assert (packed.train.images == decoded).all()


def test_test_images_that_were_trained_on_are_counted(tiny, tmp_path, caplog):
    first = tiny / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_0.JPEG"
    for i in (3, 4):
        shutil.copy(first, tiny / "val" / "images" / f"val_{i}.JPEG")
    prepare(tiny, tmp_path)
    assert pack_it(tmp_path)["counts"]["test"]["in_train"] == 2
    assert "imagenet200: 2 test images are training images too" in caplog.text


@pytest.mark.parametrize("channel", range(3))
def test_images_that_differ_in_one_channel_have_different_keys(channel):
    images = np.full((3, 3, 2, 2), 7, np.uint8)
    images[2, channel] = 8
    first, same, other = image_keys(images)
    assert first == same != other


def test_the_same_images_give_the_same_bytes(tiny, tmp_path):
    prepare(tiny, tmp_path)
    first = pack_it(tmp_path)
    shutil.rmtree(tmp_path / "packed")
    prepare(tiny, tmp_path)
    assert pack_it(tmp_path) == first


def test_damaged_images_stop_it_with_the_list(tiny, tmp_path):
    spoil(tiny, f"{WNIDS[0]}_1.JPEG", f"{WNIDS[1]}_2.JPEG")
    prepare(tiny, tmp_path)
    with pytest.raises(StudyError) as error:
        pack_it(tmp_path)
    assert "2 damaged images" in str(error.value)
    assert f"{WNIDS[0]}_1.JPEG: cannot identify image file" in str(error.value)
    assert "on_damaged=skip" in str(error.value)
    assert not (tmp_path / "packed").exists()
    report = read_json(tmp_path / "validation.json")
    assert len(report["splits"]["train"]["damaged"]) == 2


def test_damaged_images_can_be_left_out(tiny, tmp_path):
    spoil(
        tiny, f"{min(WNIDS)}_1.JPEG"
    )  # of the first class: its labels must not move to the images of the next
    prepare(tiny, tmp_path)
    manifest = pack_it(tmp_path, "skip")
    assert manifest["counts"]["train"] == {"images": 11, "damaged": 1, "greyscale": 0}
    packed = load_packed(tmp_path / "packed")
    assert packed.train.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 4
    assert packed.train.images.reshape(11, -1).any(axis=1).all()
    for name, digest in manifest["sha256"].items():
        assert file_digest(tmp_path / "packed" / name) == digest, name


def test_a_class_without_images(tiny, tmp_path):
    spoil(tiny, *(f"{WNIDS[0]}_{i}.JPEG" for i in range(4)))
    prepare(tiny, tmp_path)
    with pytest.raises(StudyError, match=f"no usable train image of the class {WNIDS[0]}"):
        pack_it(tmp_path, "skip")


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (
            {"image_size": 64, "num_classes": 200},
            "has 3 classes, but datasets.imagenet200.num_classes is 200",
        ),
        ({"image_size": 32, "num_classes": 3}, "64 by 64 pixels, but datasets.imagenet200.image_size is 32"),
    ],
)
def test_another_size_than_configured(expected, message, tiny, tmp_path):
    prepare(tiny, tmp_path)
    with pytest.raises(StudyError, match=message):
        pack_it(tmp_path, expected=expected)


def test_a_full_disk_stops_it_before_the_first_byte(tiny, tmp_path, monkeypatch):
    spoil(tiny, f"{WNIDS[0]}_1.JPEG")  # else the images are moved, which takes no room
    prepare(tiny, tmp_path)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(pack.shutil, "disk_usage", lambda path: usage(100, 100, 1000))
    with pytest.raises(StudyError, match=r"no space left: packing takes 0\.1 MB"):
        pack_it(tmp_path, "skip")
    assert not (tmp_path / "packed").exists()


def test_a_disk_that_fills_up_while_packing_leaves_no_manifest(tiny, tmp_path, monkeypatch):
    prepare(tiny, tmp_path)
    save = np.save

    def full(file, array):
        if array.dtype == bool:
            raise OSError(28, "No space left on device")
        save(file, array)

    monkeypatch.setattr(pack.np, "save", full)
    with pytest.raises(StudyError, match=r"hold_out\.npy: could not be written .*No space left"):
        pack_it(tmp_path)
    assert [path.name for path in (tmp_path / "packed").iterdir()] == ["train_labels.npy"]


def test_what_stops_it_at_the_very_end_costs_no_decoding(tiny, tmp_path, monkeypatch):
    prepare(tiny, tmp_path)
    monkeypatch.setattr(pack, "write_json", None)
    with pytest.raises(TypeError):
        pack_it(tmp_path)
    assert (tmp_path / "packed" / "test_images.npy").exists()
    shutil.rmtree(tmp_path / "packed")  # as Snakemake does with what a failed job made
    monkeypatch.undo()
    assert pack_it(tmp_path)["counts"]["test"]["images"] == 6
    decoded = {path.name for path in (tmp_path / "decoded").iterdir()}  # Snakemake's to delete
    assert decoded == {f"{split}_{kind}.npy" for split in ("train", "test") for kind in ("images", "labels")}


def test_decoding_anew_leaves_what_a_stopped_packing_has_taken(tiny, tmp_path, monkeypatch):
    prepare(tiny, tmp_path)
    monkeypatch.setattr(pack, "write_json", None)
    with pytest.raises(TypeError):
        pack_it(tmp_path)
    images = tmp_path / "packed" / "train_images.npy"
    before = images.read_bytes()
    create_array(tmp_path / "decoded" / "train_images.npy", (1, 3, 64, 64))
    assert images.read_bytes() == before


def test_on_a_file_system_without_hard_links(tiny, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(1, "Operation not permitted")

    prepare(tiny, tmp_path)
    linked = pack_it(tmp_path)
    prepare(tiny, tmp_path)
    monkeypatch.setattr(pack.os, "link", refuse)
    assert pack_it(tmp_path) == linked
    for name, digest in linked["sha256"].items():
        assert file_digest(tmp_path / "packed" / name) == digest


def test_loading_maps_the_files_instead_of_reading_them(tiny, tmp_path):
    prepare(tiny, tmp_path)
    pack_it(tmp_path)
    packed = load_packed(tmp_path / "packed")
    for array in (*packed.train, *packed.test, packed.hold_out):
        assert isinstance(array, np.memmap)
    before = file_digest(tmp_path / "packed" / "train_images.npy")
    packed.train.images[0] = 7  # a private copy of the page: the file stays
    assert file_digest(tmp_path / "packed" / "train_images.npy") == before


def test_a_copy_that_was_edited_is_refused(tiny, tmp_path):
    tree = tmp_path / "tree"
    copy_tree(tiny, "tiny_imagenet", tree)
    sort_validation(tree)
    validated = partial(validate_images, "imagenet200", "tiny_imagenet", tree, tmp_path / "decoded", 1)
    validated()
    (tree / "words.txt").write_text("n1\tchanged")
    with pytest.raises(StudyError, match=r"tree: is a copy, and was edited: .* edit the source instead"):
        validated()


def test_what_is_wrong_with_a_copy_is_to_be_mended_in_the_source(tiny, tmp_path):
    sort_validation(tiny)
    (tiny / "wnids.txt").unlink()
    with pytest.raises(StudyError, match=r"is a copy: edit the source, datasets\.imagenet200\.source"):
        validate_images("imagenet200", "tiny_imagenet", tiny, tmp_path / "decoded", 1)


def test_what_is_not_whole_is_refused(tiny, tmp_path):
    prepare(tiny, tmp_path)
    pack_it(tmp_path)
    (tmp_path / "packed" / "test_labels.npy").unlink()
    with pytest.raises(StudyError, match=r"is no complete packed dataset.*test_labels"):
        load_packed(tmp_path / "packed")
    with pytest.raises(StudyError, match=r"manifest\.json: is missing, .*; run: snakemake data"):
        load_packed(tmp_path)
