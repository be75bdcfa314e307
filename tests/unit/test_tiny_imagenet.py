"""Tiny ImageNet: sorting that can stop anywhere, errors that name the image, full decoding."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import WNIDS, jpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from vitcnn.data import images, tiny_imagenet
from vitcnn.data.images import decode_chunk, read_image
from vitcnn.data.tiny_imagenet import decode, sort_validation
from vitcnn.data.trees import list_files
from vitcnn.errors import StudyError


def annotations(tree: Path) -> Path:
    return tree / "val" / "val_annotations.txt"


def test_images_go_to_their_classes(tiny):
    wanted = tiny_imagenet.read_annotations(tiny)
    manifest = sort_validation(tiny)
    assert manifest == {"images": 6, "classes": 3}
    assert {p.name: p.parent.name for p in (tiny / "val").glob("*/*.JPEG")} == wanted
    assert sorted(p.name for p in (tiny / "val").iterdir() if p.is_dir()) == sorted(WNIDS)


@pytest.mark.parametrize("stop_after", range(7))
def test_stopping_anywhere_and_running_again_ends_in_the_same_tree(stop_after, tiny, tmp_path, monkeypatch):
    moves, rename = [], Path.rename

    def stop(self, target):
        if self.suffix == ".JPEG":
            if len(moves) == stop_after:
                raise KeyboardInterrupt
            moves.append(self)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    try:
        sort_validation(tiny)
        assert stop_after == 6
    except KeyboardInterrupt:
        assert len(moves) == stop_after
    monkeypatch.undo()
    sort_validation(tiny)
    sort_validation(tiny)  # and once more changes nothing
    wanted = tiny_imagenet.read_annotations(tiny)
    present = {name for name in list_files(tiny / "val") if name.endswith(".JPEG")}
    assert present == {f"{wnid}/{name}" for name, wnid in wanted.items()}
    assert not (tiny / "val" / "images").exists()


@settings(max_examples=40, deadline=None)
@given(
    classes=st.lists(st.integers(0, 4), min_size=5, max_size=25).map(lambda extra: [*range(5), *extra]),
    moved=st.sets(st.integers(0, 29)),
)
def test_any_half_sorted_tree_ends_sorted(classes, moved):
    """Whichever images a former attempt had moved already."""
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        wnids = [f"n{i:08d}" for i in range(5)]
        (tree / "wnids.txt").write_text("\n".join(wnids))
        for wnid in wnids:
            (tree / "train" / wnid).mkdir(parents=True)
            (tree / "val" / wnid).mkdir(parents=True)
        (tree / "val" / "images").mkdir()
        lines = [f"val_{i}.JPEG\t{wnids[label]}\t0\t0\t1\t1\n" for i, label in enumerate(classes)]
        annotations(tree).write_text("".join(lines))
        for i, label in enumerate(classes):
            folder = wnids[label] if i in moved else "images"
            (tree / "val" / folder / f"val_{i}.JPEG").write_bytes(b"x")
        assert sort_validation(tree) == {"images": len(classes), "classes": 5}
        found = {p.name: p.parent.name for p in (tree / "val").glob("*/*.JPEG")}
        assert found == {f"val_{i}.JPEG": wnids[label] for i, label in enumerate(classes)}
        assert not (tree / "val" / "images").exists()


def drop(tree, name):
    (tree / "val" / "images" / name).unlink()


def relist(tree, line):
    with annotations(tree).open("a") as file:
        file.write(line)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: drop(t, "val_2.JPEG"), r"val_2\.JPEG: listed in val_annotations.txt, but absent"),
        (lambda t: (t / "val/images/val_99.JPEG").write_bytes(b"x"), r"val_99\.JPEG: is not listed"),
        (lambda t: relist(t, f"val_1.JPEG\t{WNIDS[0]}\n"), r"line 7 lists val_1\.JPEG a second time"),
        (
            lambda t: relist(t, "val_9.JPEG\tn12345678\n"),
            r"line 7: val_9\.JPEG is of the class n12345678, unknown",
        ),
        (lambda t: relist(t, "val_9.JPEG\n"), "line 7 is not a file name, a tab and a class"),
        (lambda t: relist(t, f"../val_9.JPEG\t{WNIDS[0]}\n"), "line 7 is not a file name"),
        (
            lambda t: (t / "train" / WNIDS[1]).rename(t / "gone"),
            rf"train/{WNIDS[1]}: the folder of a class of wnids.txt is missing",
        ),
        (lambda t: (t / "train/n77777777").mkdir(), "n77777777: is the folder of no class"),
        (lambda t: (t / "val/n77777777").mkdir(), "n77777777: is the folder of no class"),
        (
            lambda t: annotations(t).write_text(annotations(t).read_text().replace(WNIDS[0], WNIDS[1])),
            f"has no image of the class {WNIDS[0]}",
        ),
        (
            lambda t: (
                (t / "val" / WNIDS[0]).mkdir(),
                (t / "val/images/val_0.JPEG").rename(t / "val" / WNIDS[0] / "val_0.JPEG"),
            ),
            r"n00000003/val_0\.JPEG: is annotated as n00000001",
        ),
        (
            lambda t: (
                (t / "val" / sorted(WNIDS)[0]).mkdir(),
                (t / "val" / sorted(WNIDS)[0] / "val_0.JPEG").write_bytes(b"x"),
            ),
            r"val_0\.JPEG: is there twice",
        ),
        (lambda t: (t / "wnids.txt").write_text(f"{WNIDS[0]}\n" * 2), f"{WNIDS[0]} is listed twice"),
    ],
)
def test_what_does_not_add_up_is_named_before_anything_moves(damage, message, tiny):
    damage(tiny)
    before = list_files(tiny)
    with pytest.raises(StudyError, match=message):
        sort_validation(tiny)
    assert list_files(tiny) == before


def test_decoding(tiny, tmp_path):
    grey = tiny / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_1.JPEG"
    grey.write_bytes(jpeg(5, mode="L"))
    sort_validation(tiny)
    decoded = decode(tiny, tmp_path / "decoded", "tiny_imagenet", workers=2)
    images = np.load(tmp_path / "decoded" / "train_images.npy")
    labels = np.load(tmp_path / "decoded" / "train_labels.npy")
    assert images.shape == (12, 3, 64, 64)
    assert images.dtype == np.uint8
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert [c["id"] for c in decoded.classes] == sorted(WNIDS)
    assert decoded.classes[0]["words"] == "thing 1"
    assert decoded.splits["train"] == {"images": 12, "greyscale": 1, "damaged": []}
    first = tiny / "train" / sorted(WNIDS)[0] / "images" / f"{sorted(WNIDS)[0]}_0.JPEG"
    assert (images[0] == read_image(first.read_bytes(), 64, "error")[0]).all()
    grey_row = images[labels.tolist().index(2) + 1]
    assert (grey_row[0] == grey_row[1]).all()
    assert (grey_row[1] == grey_row[2]).all()
    assert np.load(tmp_path / "decoded" / "test_labels.npy").tolist() == [0, 0, 1, 1, 2, 2]


def test_images_come_by_their_number(tiny, tmp_path):
    images = tiny / "train" / min(WNIDS) / "images"
    (images / f"{min(WNIDS)}_1.JPEG").rename(images / f"{min(WNIDS)}_10.JPEG")
    sort_validation(tiny)
    decode(tiny, tmp_path / "decoded", "tiny_imagenet", workers=1)
    decoded = np.load(tmp_path / "decoded" / "train_images.npy")
    for row, number in enumerate((0, 2, 3, 10)):
        content = (images / f"{min(WNIDS)}_{number}.JPEG").read_bytes()
        assert (decoded[row] == read_image(content, 64, "error")[0]).all()


def test_every_file_of_a_class_is_looked_at(tiny, tmp_path):
    """Whatever its name: an image is packed, anything else is reported."""
    images = tiny / "train" / WNIDS[0] / "images"
    (images / f"{WNIDS[0]}_0.JPEG").rename(images / f"{WNIDS[0]}_0.jpg")
    (images / "Thumbs.db").write_bytes(b"no image")
    sort_validation(tiny)
    decoded = decode(tiny, tmp_path / "decoded", "tiny_imagenet", workers=1)
    assert decoded.splits["train"]["images"] == 13
    assert [d["file"] for d in decoded.splits["train"]["damaged"]] == [f"train/{WNIDS[0]}/images/Thumbs.db"]
    (images / "more").mkdir()
    with pytest.raises(StudyError, match=r"images/more: is no file"):
        decode(tiny, tmp_path / "decoded", "tiny_imagenet", workers=1)


def test_lists_that_are_no_text(tiny):
    annotations(tiny).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match=r"val_annotations\.txt: cannot be read as text"):
        sort_validation(tiny)


def test_the_number_of_processes_changes_nothing(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "CHUNK", 5)
    sort_validation(tiny)
    for workers in (1, 3):
        decode(tiny, tmp_path / str(workers), "tiny_imagenet", workers)
    for name in ("train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


def test_what_cannot_be_read_is_no_damaged_image(tmp_path):
    """A disk that went away must not leave images out: that is for files which were read."""
    with pytest.raises(FileNotFoundError, match=r"gone\.JPEG"):
        decode_chunk([tmp_path / "gone.JPEG"], 64, "error", tmp_path / "images.npy", 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"not an image at all", "cannot identify image file"),
        (jpeg(1)[:700], "truncated"),
        (jpeg(1, size=32), "is 32 by 32 pixels, not 64 by 64"),
    ],
)
def test_a_damaged_image_is_listed_with_its_reason(content, reason, tiny, tmp_path):
    bad = tiny / "train" / WNIDS[2] / "images" / f"{WNIDS[2]}_3.JPEG"
    bad.write_bytes(content)
    sort_validation(tiny)
    decoded = decode(tiny, tmp_path / "decoded", "tiny_imagenet", workers=1)
    (found,) = decoded.splits["train"]["damaged"]
    assert found["file"] == f"train/{WNIDS[2]}/images/{WNIDS[2]}_3.JPEG"
    assert reason in found["reason"]
    assert not np.load(tmp_path / "decoded" / "train_images.npy")[found["index"]].any()
