"""Datasets of a user's own: folders and tables of images of any kind, and what may be wrong with them."""

import io
import json
import shutil
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vitcnn.config import check_config
from vitcnn.data import images, torchvision_sets
from vitcnn.data.fetch import fetch
from vitcnn.data.images import choose_test_share, decode_images, read_image, refuse_too_large
from vitcnn.data.pack import pack_dataset
from vitcnn.data.sources import TORCHVISION, reading_settings
from vitcnn.data.trees import copy_tree
from vitcnn.data.validate import validate_images
from vitcnn.errors import StudyError
from vitcnn.files import write_json

HUB = {"info": {"features": {"label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}}}

READING = {"image_size": 8, "resize": "error", "test_share": None}


def picture(seed, size=(8, 8), kind="PNG", mode="RGB", **options):
    """Return an image file of noise, of (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def save(path, seed, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(seed, **options))


@pytest.fixture
def folder(tmp_path):
    """Two classes in train and test, with three and two images each, below another folder."""
    root = tmp_path / "published" / "pets"
    for split, count, first in (("train", 3, 0), ("test", 2, 50)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                save(root / split / name / f"{i}.png", first + 10 * label + i)
    return root


def read(published, tmp_path, layout="image_folder", **reading):
    """Copy and read a dataset; return the report, and the folder of its arrays."""
    copy_tree(published, layout, tmp_path / "tree")
    target = tmp_path / "decoded"
    report = validate_images("pets", layout, tmp_path / "tree", target, 1, **READING | reading)
    return report, target


def labels(target, split):
    return np.load(target / f"{split}_labels.npy").tolist()


# Image files


def pixels_of(image, size=8, resize="error"):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return read_image(buffer.getvalue(), size, resize)[0]


def test_any_kind_of_image_becomes_rgb():
    plain = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    expected = np.asarray(plain).transpose(2, 0, 1)
    assert (pixels_of(plain) == expected).all()
    clear = plain.copy()
    clear.putalpha(Image.fromarray(np.where(np.arange(64).reshape(8, 8) < 32, 255, 0).astype(np.uint8)))
    seen = pixels_of(clear)
    assert (seen[:, :4] == expected[:, :4]).all()
    assert (seen[:, 4:] == 255).all()  # what is transparent lies on white, whatever its hidden colour
    deep = np.random.default_rng(1).integers(0, 65536, (8, 8), dtype=np.uint16)
    assert (pixels_of(Image.fromarray(deep)) == (deep >> 8)).all()
    grey = plain.convert("L")
    assert (pixels_of(grey) == np.asarray(grey)).all()
    palette = plain.quantize(16)
    assert (pixels_of(palette) == np.asarray(palette.convert("RGB")).transpose(2, 0, 1)).all()
    cmyk = plain.convert("CMYK")
    buffer = io.BytesIO()
    cmyk.save(buffer, "TIFF")
    assert (read_image(buffer.getvalue(), 8, "error")[0] == expected).all()
    animation = io.BytesIO()
    palette.save(animation, "GIF", save_all=True, append_images=[Image.new("P", (8, 8))])
    first = read_image(animation.getvalue(), 8, "error")[0]
    assert (first == np.asarray(palette.convert("RGB")).transpose(2, 0, 1)).all()
    buffer = io.BytesIO()
    for kind in (np.float32, np.int32):
        buffer = io.BytesIO()
        Image.fromarray(np.ones((8, 8), kind)).save(buffer, "TIFF")
        with pytest.raises(ValueError, match="has pixels of 32 bits"):
            read_image(buffer.getvalue(), 8, "error")


def test_a_photograph_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the right by 90 degrees
    lying = picture(3, exif=exif)
    upright = np.asarray(Image.open(io.BytesIO(lying)).transpose(Image.Transpose.ROTATE_270))
    assert (read_image(lying, 8, "error")[0] == upright.transpose(2, 0, 1)).all()


def test_ways_to_one_size():
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = 200
    wide = Image.fromarray(wide)
    assert (pixels_of(wide, resize="crop") == 200).all()
    squashed = pixels_of(wide, resize="squash")[0]
    assert squashed[:, 3:5].min() > 180 > squashed[:, 0].max()
    padded = pixels_of(wide, resize="pad")[0]
    assert not padded[:2].any()
    assert not padded[6:].any()
    assert padded[3, 4] > 180
    with pytest.raises(ValueError, match="is 16 by 8 pixels, not 8 by 8; resize: crop, squash or pad"):
        pixels_of(wide)


def test_arrays_larger_than_the_memory_are_refused_before_decoding(monkeypatch):
    with pytest.raises(
        StudyError, match=r"^birds: 100,000 images of 224 by 224 pixels take 15\.1 GB .* 8\.0 GB"
    ):
        refuse_too_large("birds", 100_000, 224, memory=8_000_000_000)
    refuse_too_large("birds", 100_000, 64, memory=8_000_000_000)
    monkeypatch.setattr(images, "refuse_too_large", partial(refuse_too_large, memory=100))
    labelled = images.Labelled(["a", "b"], [b"no image", b"no image"], [0, 1])
    with pytest.raises(StudyError, match=r"^birds: 4 images of 8 by 8 pixels take"):
        decode_images(["x", "y"], {"train": labelled, "test": labelled}, Path("birds/decoded"), 8, "error", 1)


# Folders


def test_a_folder_for_each_class(folder, tmp_path):
    report, target = read(folder.parent, tmp_path)
    assert report["classes"] == [{"id": "cat", "words": "cat"}, {"id": "dog", "words": "dog"}]
    assert (labels(target, "train"), labels(target, "test")) == ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1])
    expected = np.asarray(Image.open(folder / "train" / "dog" / "1.png")).transpose(2, 0, 1)
    assert (np.load(target / "train_images.npy")[4] == expected).all()
    write_json(tmp_path / "validation.json", report)
    settings = {"on_damaged": "error", "image_size": 8, "num_classes": 2}
    pack_dataset(tmp_path / "validation.json", target, tmp_path / "packed", **settings)


@pytest.mark.parametrize("name", ["val", "Valid", "validation", "dev", "testing"])
def test_names_of_splits(name, folder, tmp_path):
    (folder / "test").rename(folder / name)
    _, target = read(folder, tmp_path)
    assert labels(target, "test") == [0, 0, 1, 1]


def test_a_labelled_test_split_is_taken_before_val(folder, tmp_path, caplog):
    save(folder / "val" / "cat" / "x.png", 90)
    _, target = read(folder, tmp_path)
    assert labels(target, "test") == [0, 0, 1, 1]
    assert "val: is left out" in caplog.text


def test_a_share_of_each_class_is_for_testing(folder, tmp_path):
    for name in ("cat", "dog"):
        for i in range(10):
            save(tmp_path / "flat" / name / f"{i}.png", 100 + i + 20 * (name == "dog"))
    _, target = read(tmp_path / "flat", tmp_path / "a", test_share=0.3)
    assert labels(target, "test") == [0] * 3 + [1] * 3
    tested = np.load(target / "test_images.npy")
    for path in (tmp_path / "flat").rglob("*.png"):  # the same images under other names
        path.rename(path.with_name(f"x{9 - int(path.stem)}.png"))
    _, again = read(tmp_path / "flat", tmp_path / "b", test_share=0.3)
    assert {image.tobytes() for image in tested} == {i.tobytes() for i in np.load(again / "test_images.npy")}
    save(tmp_path / "flat" / "bird" / "0.png", 99)  # alone in its class
    with pytest.raises(
        StudyError, match=r"no image of the class bird, whose 1 of t\w+ begin with bird/0\.png; add"
    ):
        read(tmp_path / "flat", tmp_path / "c", test_share=0.3)
    (tmp_path / "flat" / "bird" / "0.png").unlink()
    (tmp_path / "flat" / "bird").rmdir()
    with pytest.raises(StudyError, match="set test_share"):
        read(tmp_path / "flat", tmp_path / "c")
    with pytest.raises(StudyError, match=r"tree/test: is a test split of its own; leave test_share out"):
        read(folder, tmp_path / "d", test_share=0.3)


@pytest.mark.parametrize("inside", ["", "unknown"])
def test_a_test_folder_without_classes_is_left_out_where_a_share_is_tested_on(
    inside, folder, tmp_path, caplog
):
    remove(folder / "test")
    save(folder / "test" / inside / "0.png", 1)
    with pytest.raises(
        StudyError, match=r"test: its images have no classes, .*; set test_share, such as 0\.2"
    ):
        read(folder, tmp_path / "a")
    _, target = read(folder, tmp_path / "b", test_share=0.34)
    assert (labels(target, "train"), labels(target, "test")) == ([0, 0, 1, 1], [0, 1])
    assert "test: has no classes and is left out" in caplog.text


def test_what_is_beside_the_splits_is_named(folder, tmp_path, caplog):
    save(folder / "extra" / "cat" / "0.png", 1)
    read(folder, tmp_path / "a")
    assert "extra: is no split and left out" in caplog.text
    (folder / "training").mkdir()
    with pytest.raises(StudyError, match=r"training: is for train, as .*/train is; leave one of them out"):
        read(folder, tmp_path / "b")


def test_one_of_several_datasets_is_not_chosen(tmp_path):
    for split in ("seg_train", "seg_test"):
        for name in ("cat", "dog"):
            save(tmp_path / "intel" / split / split / name / "0.png", 1)
            save(tmp_path / "intel" / ".git" / name / "0.png", 1)
    with pytest.raises(
        StudyError, match=r"intel: seg_test/seg_test and seg_train/seg_train in it could each be"
    ):
        read(tmp_path / "intel", tmp_path / "a", test_share=0.5)


def test_a_class_in_folders_of_its_own_is_not_taken_for_the_dataset(tmp_path):
    for name in ("cat", "dog/poodle", "dog/terrier"):
        save(tmp_path / "photos" / name / "0.png", 1)
    with pytest.raises(StudyError, match=r"photos/dog and .*photos/cat both hold images: name one as the"):
        read(tmp_path / "photos", tmp_path / "a", test_share=0.5)
    archive = shutil.make_archive(str(tmp_path / "two"), "zip", tmp_path, "photos")
    with pytest.raises(StudyError, match=f"{archive}/photos/dog and {archive}/photos/cat both hold"):
        read(Path(archive), tmp_path / "b", test_share=0.5)


def test_equal_images_stay_on_one_side():
    chosen = choose_test_share(["a", "a", "a", "b", "c", "d"], [0] * 6, 0.2)
    assert chosen.tolist() == [True, True, True, False, False, False]
    assert choose_test_share(["b", "a"], [0, 0], 0.01).tolist() == [False, True]


@pytest.mark.parametrize(
    "left", ["train/.ipynb_checkpoints/0.png", "train/__MACOSX/._0.png", "train/cat/.DS_Store"]
)
def test_what_tools_leave_behind_is_left_out_and_named(left, folder, tmp_path, caplog):
    save(folder / left, 1)
    report, target = read(folder, tmp_path)
    assert [c["id"] for c in report["classes"]] == ["cat", "dog"]
    assert len(labels(target, "train")) == 6
    name = next(part for part in left.split("/") if part.startswith((".", "__")))
    assert f"{name}: is no part of the dataset and left out" in caplog.text


def test_a_png_by_another_name_is_read(folder, tmp_path):
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "cat" / "0.JPEG")
    report, _ = read(folder, tmp_path)
    assert report["splits"]["train"]["damaged"] == []


def test_a_file_that_is_no_image_is_listed(folder, tmp_path):
    (folder / "train" / "cat" / "notes.txt").write_text("no image")
    report, _ = read(folder, tmp_path)
    (found,) = report["splits"]["train"]["damaged"]
    assert found == {"index": 3, "file": "train/cat/notes.txt", "reason": "cannot identify image file"}


def test_an_image_that_pillow_trips_over_is_listed(folder, tmp_path):
    width, turned = struct.pack("<HHI4s", 0x100, 2, 4, b"wid"), struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + width + turned + bytes(4)  # a width in letters
    save(folder / "train" / "cat" / "odd.jpg", 1, kind="JPEG", exif=exif)
    report, _ = read(folder, tmp_path)
    (found,) = report["splits"]["train"]["damaged"]
    assert found["file"] == "train/cat/odd.jpg" and "integer" in found["reason"]


def test_two_sizes_are_listed_unless_they_are_changed(folder, tmp_path):
    save(folder / "train" / "cat" / "1.png", 7, size=(12, 9))
    report, _ = read(folder, tmp_path / "a")
    (found,) = report["splits"]["train"]["damaged"]
    assert found["file"] == "train/cat/1.png"
    assert "is 12 by 9 pixels, not 8 by 8; resize: crop, squash or pad" in found["reason"]
    report, _ = read(folder, tmp_path / "b", resize="crop")
    assert report["splits"]["train"]["damaged"] == []


def remove(path):
    for inner in path.iterdir():
        remove(inner) if inner.is_dir() else inner.unlink()
    path.rmdir()


def empty_class(root):
    for path in (root / "train" / "dog").iterdir():
        path.write_bytes(b"")
        path.unlink()
    (root / "train" / "dog" / ".keep").write_text("")


def unlabelled(root):
    remove(root / "test")
    save(root / "test" / "0.png", 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (empty_class, r"train/dog: is a class without an image"),
        (lambda root: (root / "train" / "emu").mkdir(), r"train/emu: is a class without an image"),
        (
            lambda root: save(root / "train" / "emu" / "0.png", 1),
            r"train/emu: is a class that .*/test does not have",
        ),
        (
            lambda root: save(root / "test" / "emu" / "0.png", 1),
            r"test/emu: is a class that .*/train does not have",
        ),
        (unlabelled, r"/test: its images have no classes"),
        (lambda root: remove(root / "test"), r"tree: has no test split; set test_share"),
        (lambda root: save(root / "train" / "0.PNG", 1), r"train/0\.PNG: lies among the classes' folders"),
        (
            lambda root: [remove(root / split / "dog") for split in ("train", "test")],
            "has 1 folders of classes",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(damage, message, folder, tmp_path):
    damage(folder)
    with pytest.raises(StudyError, match=message):
        read(folder, tmp_path)


def test_no_folder_of_images(tmp_path):
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "labels.txt").write_text("")
    with pytest.raises(
        StudyError, match="is no image_folder dataset: no folder in it has train with a folder for"
    ):
        copy_tree(tmp_path / "published", "image_folder", tmp_path / "tree")


# Tables


@pytest.fixture
def table(tmp_path):
    """Six images of two classes in one folder, and a table of them."""
    root = tmp_path / "published"
    lines = ["file_name,label,split"]
    for i in range(6):
        save(root / "images" / f"{i}.png", i)
        lines.append(f"images/{i}.png,{('cat', 'dog')[i % 2]},{'train' if i < 4 else 'test'}")
    (root / "metadata.csv").write_text("\n".join(lines))
    return root


def rewrite(root, change):
    path = root / "metadata.csv"
    path.write_text(change(path.read_text()))


def test_a_table_of_labels(table, tmp_path):
    report, target = read(table, tmp_path, "image_csv")
    assert [c["id"] for c in report["classes"]] == ["cat", "dog"]
    assert (labels(target, "train"), labels(target, "test")) == ([0, 1, 0, 1], [0, 1])
    expected = np.asarray(Image.open(table / "images" / "3.png")).transpose(2, 0, 1)
    assert (np.load(target / "train_images.npy")[3] == expected).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,  # a byte order mark
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t").replace("\n", "\r\n"),
        lambda text: text.replace(".png", "").replace("images/", ""),  # ids alone
        lambda text: text.replace("file_name,label", "Image_ID,Class"),
        lambda text: text + "\n,,\n",
    ],
    ids=["mark", "semicolons", "tabs", "ids", "columns", "empty line"],
)
def test_tables_as_they_come(change, table, tmp_path):
    rewrite(table, change)
    _, target = read(table, tmp_path, "image_csv")
    assert (labels(target, "train"), labels(target, "test")) == ([0, 1, 0, 1], [0, 1])


@pytest.mark.parametrize("first_line", ["", ",,,\n"])
@pytest.mark.parametrize("suffix", [".png", ""])
def test_a_number_beside_the_name_is_no_name(first_line, suffix, tmp_path):
    """Lines in the order of 0, 1, 10, 11, 2, numbered: line 2 is about 10.png. Without suffixes both may be names."""
    lines, names = ["id,name,label,split"], sorted(map(str, range(12)))
    for number, name in enumerate(names):
        save(tmp_path / "a" / f"{name}.png", int(name))
        label, split = ("even", "odd")[int(name) % 2], "train" if number < 8 else "test"
        lines.append(f"{number},{name}{suffix},{label},{split}")
    (tmp_path / "a" / "labels.csv").write_text("\n".join([lines[0], first_line + lines[1], *lines[2:]]))
    if not suffix:
        with pytest.raises(
            StudyError, match=r"labels\.csv: its columns id and name both name images, and not"
        ):
            read(tmp_path / "a", tmp_path, "image_csv")
        return
    _, target = read(tmp_path / "a", tmp_path, "image_csv")
    assert labels(target, "train") == [int(name) % 2 for name in names[:8]]
    assert (np.load(target / "train_images.npy")[2] == read_image(picture(10), 8, "error")[0]).all()


def test_a_table_names_images_from_its_folder_first(tmp_path):
    for split, seed in (("train", 0), ("test", 4)):
        for n, name in enumerate(("0.png", "sub/0.png")):
            save(tmp_path / "a" / split / name, seed + n)
        (tmp_path / "a" / split / "metadata.csv").write_text("file_name,label\n0.png,x\nsub/0.png,y")
    _, target = read(tmp_path / "a", tmp_path, "image_csv")
    assert (np.load(target / "test_images.npy")[0] == read_image(picture(4), 8, "error")[0]).all()


def test_tables_in_folders_of_splits(tmp_path):
    """As the Hugging Face Hub has them."""
    for split, count in (("train", 4), ("test", 2)):
        for i in range(count):
            save(tmp_path / "hub" / split / f"{i}.png", 10 * count + i)
        lines = (f"{i}.png,{'ab'[i % 2]}" for i in range(count))
        (tmp_path / "hub" / split / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    _, target = read(tmp_path / "hub", tmp_path / "a", "image_csv")
    assert (labels(target, "train"), labels(target, "test")) == ([0, 1, 0, 1], [0, 1])
    images = np.load(target / "test_images.npy")
    assert (images[0] == read_image(picture(20), 8, "error")[0]).all()


def test_splits_in_the_paths_of_one_table(tmp_path):
    for i, split in enumerate(("train", "train", "test", "test")):
        save(tmp_path / "hub" / split / f"{i}.png", i)
    lines = (f"{'train' if i < 2 else 'test'}/{i}.png,{'ab'[i % 2]}" for i in range(4))
    (tmp_path / "hub" / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    _, target = read(tmp_path / "hub", tmp_path / "a", "image_csv")
    assert (labels(target, "train"), labels(target, "test")) == ([0, 1], [0, 1])


def test_a_contest_as_kaggle_has_it(tmp_path, caplog):
    """The example of a submission has labels that mean nothing."""
    for i in range(8):
        save(tmp_path / "contest" / "train" / f"{i}.png", i)
        save(tmp_path / "contest" / "test" / f"t{i}.png", 10 + i)
    rows = [f"{i},{'ab'[i % 2]}" for i in range(8)]
    (tmp_path / "contest" / "train.csv").write_text("\n".join(["id,label", *rows]))
    (tmp_path / "contest" / "sample_submission.csv").write_text(
        "\n".join(["id,label", *(f"t{i},a" for i in range(8))])
    )
    _, target = read(tmp_path / "contest", tmp_path / "a", "image_csv", test_share=0.25)
    assert [sorted(labels(target, split)) for split in ("train", "test")] == [[0, 0, 0, 1, 1, 1], [0, 1]]
    assert "has no labels, as 8 images; they are left out" in caplog.text


def test_a_table_for_each_split_and_one_without_labels(table, tmp_path, caplog):
    """As in a competition: the test images' labels are secret, so a share of the others is tested on."""
    rewrite(table, lambda text: "id,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(4)))
    (table / "metadata.csv").rename(table / "train.csv")
    (table / "test.csv").write_text("id\n4\n5\n")
    with pytest.raises(
        StudyError, match="does not say what is for training and what for testing; set test_share"
    ):
        read(table, tmp_path / "a", "image_csv")
    (table / "train.csv").write_text("id,label\n0,a\n1,b\n2,a\n3,b\n")
    _, target = read(table, tmp_path / "b", "image_csv", test_share=0.5)
    assert [sorted(labels(target, split)) for split in ("train", "test")] == [[0, 1], [0, 1]]
    assert "test.csv: has no labels" in caplog.text


def test_the_same_names_in_two_splits(table, tmp_path):
    for split, first in (("train", 10), ("test", 20)):
        for i in range(2):
            save(tmp_path / "two" / split / f"{i}.png", first + i)
        (tmp_path / "two" / f"{split}.csv").write_text("id,label\n0,a\n1,b\n")
    _, target = read(tmp_path / "two", tmp_path, "image_csv")
    assert not (np.load(target / "train_images.npy") == np.load(target / "test_images.npy")).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t + "\nimages/9.png,cat,train", r"metadata\.csv: line 8: there is no image images/9\.png"),
        (
            lambda t: t.replace("\nimages/5.png,dog,test", ""),
            r"images/5\.png: is an image that no table names; 1",
        ),
        (
            lambda t: t.replace("images/2", "../images/2"),
            r"line 4: \.\./images/2\.png leads out of the folder",
        ),
        (lambda t: t.replace("images/2", "/etc/2"), r"line 4: /etc/2\.png leads out of the folder"),
        (lambda t: t.replace("2.png,cat", "2.png,"), r"metadata\.csv: line 4: has no label"),
        (lambda t: t + "\nimages/0.png,cat,train", r"line 8: names images/0\.png, as .*line 2 does"),
        (lambda t: t.replace("file_name", "picture"), r"metadata\.csv: has no column for the image"),
        (
            lambda t: t.replace("label", "breed"),
            r"metadata\.csv: has no column for the label; .*, and there are file_name, breed, split",
        ),
        (lambda t: t.replace("0.png,cat,train", "0.png,cat,training1"), r"line 2: 'training1' is no split"),
        (lambda t: t + '\n"' + 140_000 * "x", r"metadata\.csv: line .*; is a quote not closed"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(change, message, table, tmp_path):
    rewrite(table, change)
    with pytest.raises(StudyError, match=message):
        read(table, tmp_path, "image_csv")


def test_a_dataset_of_ones_own_in_the_configuration(default_config):
    own = {
        "title": "Pets",
        "layout": "image_folder",
        "image_size": 64,
        "num_classes": 2,
        "source": ["/data/pets"],
    }
    config = default_config | {"datasets": default_config["datasets"] | {"pets": own | {"test_share": 0.2}}}
    dataset = check_config(config)["datasets"]["pets"]
    assert reading_settings(dataset) == {"image_size": 64, "resize": "error", "test_share": 0.2}
    assert reading_settings(config["datasets"]["cifar10"]) == {}


# Parquet


def write_parquet(path, seeds, labels, metadata=HUB, **columns):
    """Write a file as the Hugging Face Hub has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = pa.array([{"bytes": picture(seed), "path": None} for seed in seeds])
    table = pa.table({"image": images, "label": pa.array(labels)} | columns)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(metadata)}), path)


def test_parquet(tmp_path, caplog):
    """Files of one split come in the order of their names; secret labels are left out, other splits too."""
    data = tmp_path / "published" / "data"
    write_parquet(data / "train-00001-of-00002.parquet", [3], [1])
    write_parquet(data / "train-00000-of-00002.parquet", [0, 1, 2], [0, 1, 0])
    write_parquet(data / "validation-00000-of-00001.parquet", [9], [0])
    write_parquet(data / "test-00000-of-00001.parquet", [4, 5, 6], [0, 1, -1])
    report, target = read(tmp_path / "published", tmp_path, "parquet")
    assert [found["id"] for found in report["classes"]] == ["cat", "dog"]
    assert labels(target, "train") == [1, 0, 1, 0]
    assert labels(target, "test") == [1, 0]
    images = np.load(target / "train_images.npy")
    assert (images[3] == read_image(picture(3), 8, "error")[0]).all()
    assert "1 images without a label are left out" in caplog.text


def test_parquet_in_folders_and_in_one_file(tmp_path):
    for split, seeds in (("train", range(6)), ("test", range(6, 10))):
        write_parquet(tmp_path / "a" / split / "0000.parquet", seeds, [s % 2 for s in seeds], metadata={})
    report, target = read(tmp_path / "a", tmp_path / "x", "parquet")
    assert [found["id"] for found in report["classes"]] == ["0", "1"]
    assert labels(target, "test") == [0, 1, 0, 1]
    write_parquet(tmp_path / "b" / "all.parquet", range(10), [s % 2 for s in range(10)])
    with pytest.raises(StudyError, match=r"tree: does not say what is for training .* set test_share"):
        read(tmp_path / "b", tmp_path / "y", "parquet")
    _, target = read(tmp_path / "b", tmp_path / "y", "parquet", test_share=0.2)
    assert sorted(labels(target, "test")) == [0, 1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": pa.array(["a.png", "b.png"])}, r"train\.parquet: has no column of image files"),
        ({"label": pa.array([0, 2])}, r"train\.parquet: label 2 is none of its 2 classes"),
        (
            {"label": pa.array([0.0, 1.0])},
            r"train\.parquet: its column label holds double, which is no class",
        ),
        (
            {"label": pa.array(["cat", "dog"])},
            r"train\.parquet: its column label holds string, which is no class",
        ),
        ({"image": pa.array([b"x", None])}, r"train\.parquet: row 2 has no image in its column image"),
    ],
)
def test_what_is_wrong_with_a_parquet_file(columns, message, tmp_path):
    write_parquet(tmp_path / "a" / "train.parquet", [0, 1], [0, 1], **columns)
    with pytest.raises(StudyError, match=message):
        read(tmp_path / "a", tmp_path, "parquet")


def test_names_of_classes_that_are_none(tmp_path):
    hub = json.loads(json.dumps(HUB))
    hub["info"]["features"]["label"]["names"] = {"x": "cat", "y": "dog"}
    for split in ("train", "test"):
        write_parquet(tmp_path / "a" / f"{split}.parquet", [0, 1], [0, 1], metadata=hub)
    report, _ = read(tmp_path / "a", tmp_path, "parquet")
    assert [found["id"] for found in report["classes"]] == ["0", "1"]


def test_two_classes_of_one_name_are_refused(tmp_path):
    hub = json.loads(json.dumps(HUB).replace('"dog"', '"cat"'))
    write_parquet(tmp_path / "a" / "train.parquet", [0, 1], [0, 1], metadata=hub)
    with pytest.raises(StudyError, match=r"train\.parquet: two of its classes are named cat"):
        read(tmp_path / "a", tmp_path, "parquet")


def test_the_column_of_images_is_that_of_the_name(tmp_path):
    """Beside it may be masks, or numbers as bytes."""
    for split, first in (("train", 0), ("test", 2)):
        path = tmp_path / "a" / f"{split}.parquet"
        write_parquet(path, [first, first + 1], [0, 1])
        table = pq.read_table(path)
        masks = pa.array([{"bytes": picture(99), "path": None}] * 2)
        pq.write_table(table.add_column(0, "mask", masks).add_column(0, "uuid", pa.array([b"x", b"y"])), path)
    _, target = read(tmp_path / "a", tmp_path, "parquet")
    assert (np.load(target / "test_images.npy")[1] == read_image(picture(3), 8, "error")[0]).all()


def test_a_parquet_file_that_is_cut_off(tmp_path):
    path = tmp_path / "a" / "train.parquet"
    write_parquet(path, [0, 1], [0, 1])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(StudyError, match=r"train\.parquet: cannot be read as Parquet"):
        read(tmp_path / "a", tmp_path, "parquet")
    path.unlink()
    write_parquet(path, [0, 1], [0, 1])
    table = pq.read_table(path).drop(["label"])
    pq.write_table(table, path)
    with pytest.raises(StudyError, match="has no column for the class; it may be named label"):
        read(tmp_path / "a", tmp_path, "parquet")


# torchvision


def write_idx(path, array):
    """Write an array of bytes in the format of MNIST's files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(head + array.tobytes())


@pytest.fixture
def mnist(tmp_path):
    """Forty and twenty digits as torchvision leaves MNIST, and their pixels."""
    pixels = {}
    for split, prefix, count in (("train", "train", 40), ("test", "t10k", 20)):
        pixels[split] = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        raw = tmp_path / "published" / "MNIST" / "raw"
        write_idx(raw / f"{prefix}-images-idx3-ubyte", pixels[split])
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path / "published", pixels


def test_a_dataset_that_torchvision_reads(mnist, tmp_path):
    published, pixels = mnist
    report, target = read(published, tmp_path, "torchvision", image_size=28)
    assert [c["words"] for c in report["classes"]][:2] == ["0 - zero", "1 - one"]
    for split in ("train", "test"):
        assert report["splits"][split]["greyscale"] == len(pixels[split])
        assert not report["splits"][split]["damaged"]
        assert labels(target, split) == [i % 10 for i in range(len(pixels[split]))]
        for channel in range(3):
            assert (np.load(target / f"{split}_images.npy")[:, channel] == pixels[split]).all()


def test_one_of_two_datasets_that_torchvision_reads_is_not_chosen(mnist, tmp_path):
    published, _ = mnist
    shutil.copytree(published / "MNIST", published / "KMNIST")
    with pytest.raises(StudyError, match=r"tree: has files of KMNIST and of MNIST; leave one of them"):
        read(published, tmp_path, "torchvision", image_size=28)


def test_a_dataset_that_torchvision_reads_is_resized(mnist, tmp_path):
    _, target = read(mnist[0], tmp_path, "torchvision", image_size=32, resize="pad")
    assert np.load(target / "train_images.npy").shape == (40, 3, 32, 32)
    with pytest.raises(StudyError, match="has a test split of its own"):
        read(mnist[0], tmp_path, "torchvision", image_size=28, test_share=0.2)


def test_what_torchvision_finds_damaged_is_named(tmp_path):
    published = tmp_path / "published"
    published.mkdir()
    for name in ("train_32x32.mat", "test_32x32.mat"):
        (published / name).write_bytes(b"no images")
    with pytest.raises(
        StudyError, match=r"tree: torchvision cannot read it as SVHN: Dataset not found or corrupted"
    ):
        read(published, tmp_path, "torchvision", image_size=32)


def test_every_torchvision_dataset_takes_the_arguments_it_is_given(tmp_path):
    assert tuple(torchvision_sets.SETS) == TORCHVISION
    for name in TORCHVISION:
        for split in ("train", "test"):
            with pytest.raises(StudyError, match=rf"torchvision cannot read it as {name}"):
                torchvision_sets.open_split(name, tmp_path, split)


def test_torchvision_fetches_into_the_downloads(mnist, tmp_path):
    downloads = tmp_path / "downloads"
    shutil.copytree(mnist[0], downloads / "torchvision" / "MNIST")
    fetched = fetch("digits", ["torchvision:MNIST"], downloads)
    assert fetched.origin["path"] == str(downloads / "torchvision" / "MNIST")
    assert fetched.what["files"] == 4
    with pytest.raises(StudyError, match=r"torchvision:MINST: is none of .* did you mean MNIST\?"):
        fetch("digits", ["torchvision:MINST"], downloads)
