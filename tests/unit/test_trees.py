"""Copies of archives and folders: complete or absent, and nothing outside their folder."""

import gzip
import io
import os
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from vitcnn.data import embedded, trees
from vitcnn.data.trees import copy_tree, list_files
from vitcnn.errors import StudyError


def zipped(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder.parent))
    return archive


def tarred(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)
    return archive


@pytest.mark.parametrize("form", ["folder", "nested folder", "zip", "tar.gz"])
def test_every_form_gives_the_same_tree(form, tiny, tmp_path):
    origin = {
        "folder": lambda: tiny,
        "nested folder": lambda: tiny.parent,
        "zip": lambda: zipped(tiny, tmp_path / "tiny.zip"),
        "tar.gz": lambda: tarred(tiny, tmp_path / "tiny.tar.gz"),
    }[form]()
    tree = tmp_path / "out" / "tree"
    manifest = copy_tree(origin, "tiny_imagenet", tree)
    copied = list_files(tree)
    del copied[trees.COPIED]
    assert copied == list_files(tiny)
    assert manifest["files"] == len(copied)
    assert (tree / "wnids.txt").read_bytes() == (tiny / "wnids.txt").read_bytes()
    assert sorted(path.name for path in tree.parent.iterdir()) == ["tree"]


def test_a_root_is_found_four_folders_down(tiny, tmp_path):
    place = tmp_path / "a/b/c/d/e"
    place.mkdir(parents=True)
    tiny.rename(place / "tiny")
    copy_tree(tmp_path / "a/b", "tiny_imagenet", tmp_path / "tree")
    with pytest.raises(StudyError, match="is no tiny_imagenet dataset"):
        copy_tree(tmp_path / "a", "tiny_imagenet", tmp_path / "tree")


def test_a_tar_that_ends_in_a_zip_is_a_tar(tiny, tmp_path):
    inner = zipped(tmp_path / "nothing", tmp_path / "more.zip")
    with tarfile.open(tmp_path / "tiny.tar", "w") as file:
        file.add(tiny, "tiny")
        file.add(inner, "tiny/more.zip")
    copy_tree(tmp_path / "tiny.tar", "tiny_imagenet", tmp_path / "tree")
    assert list_files(tmp_path / "tree").keys() - list_files(tiny).keys() == {"more.zip", trees.COPIED}
    trees.refuse_larger(tmp_path / "tiny.tar", 1)
    with pytest.raises(StudyError, match="when it is unpacked"):
        trees.refuse_larger(tmp_path / "tiny.tar", 1e-6)


def test_a_read_only_source_is_not_changed_and_its_copy_is_writable(tiny, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*")}
    for path in [tiny, *tiny.rglob("*")]:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
    try:
        copy_tree(tiny, "tiny_imagenet", tmp_path / "tree")
        assert {path: path.stat().st_mtime_ns for path in tiny.rglob("*")} == before
        for path in [tmp_path / "tree", *(tmp_path / "tree").rglob("*")]:
            assert path.stat().st_mode & 0o200
    finally:
        for path in [tiny, *tiny.rglob("*")]:
            path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o200)


def test_an_existing_tree_is_replaced_whole(tiny, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "left over").write_text("x")
    copy_tree(tiny, "tiny_imagenet", tree)
    assert not (tree / "left over").exists()


def test_an_interrupted_copy_leaves_nothing(tiny, tmp_path, monkeypatch):
    calls = []

    def stop_at_the_tenth(source, target, length):
        calls.append(source)
        if len(calls) == 10:
            raise OSError(28, "No space left on device")
        target.write(source.read())

    monkeypatch.setattr(trees.shutil, "copyfileobj", stop_at_the_tenth)
    with pytest.raises(OSError, match="No space left"):
        copy_tree(tiny, "tiny_imagenet", tmp_path / "out" / "tree")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_copy_that_lost_a_file_does_not_exist(tiny, tmp_path, monkeypatch):
    def lose_one(source, target, length):
        if source.name.endswith("val_3.JPEG"):
            Path(target.name).unlink()
        target.write(source.read())

    monkeypatch.setattr(trees.shutil, "copyfileobj", lose_one)
    with pytest.raises(StudyError, match=r"not complete.*val_3\.JPEG"):
        copy_tree(tiny, "tiny_imagenet", tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_a_truncated_archive_is_refused(form, fraction, tiny, tmp_path):
    archive = tmp_path / f"tiny.{form}"
    (zipped if form == "zip" else tarred)(tiny, archive)
    archive.write_bytes(archive.read_bytes()[: int(fraction * archive.stat().st_size)])
    with pytest.raises(StudyError, match=r"tiny\.(zip|tar\.gz): is (truncated|neither a zip)"):
        copy_tree(archive, "tiny_imagenet", tmp_path / "out" / "tree")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, -6])
def test_an_archive_with_a_flipped_byte_is_refused(place, tmp_path):
    archive = embedded.generate("cifar10", tmp_path)
    data = bytearray(archive.read_bytes())
    data[place if place < 0 else int(place * len(data))] ^= 0xFF  # the last of them in the checksum itself
    archive.write_bytes(data)
    with pytest.raises(StudyError, match=r"cifar-10-python\.tar\.gz: is truncated or damaged"):
        copy_tree(archive, "cifar10", tmp_path / "out" / "tree")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_of_another_dataset_is_refused(tmp_path):
    archive = embedded.generate("cifar10", tmp_path)
    with pytest.raises(StudyError, match=r"is no cifar100 dataset.*it looks like cifar10"):
        copy_tree(archive, "cifar100", tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil"])
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_members_that_leave_the_folder_are_refused(form, name, tmp_path):
    archive = tmp_path / f"hostile.{form}"
    if form == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(name, "x")
    else:
        with tarfile.open(archive, "w") as file:
            info = tarfile.TarInfo(name)
            info.size = 1
            file.addfile(info, io.BytesIO(b"x"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StudyError, match="outside the folder"):
        copy_tree(archive, "cifar10", tmp_path / "tree")
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind, tmp_path):
    archive = tmp_path / "hostile.tar"
    with tarfile.open(archive, "w") as file:
        info = tarfile.TarInfo("inside")
        info.type, info.linkname = kind, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(StudyError, match="'inside' is a link or a device"):
        copy_tree(archive, "cifar10", tmp_path / "tree")


def test_links_in_a_zip_are_refused(tmp_path):
    archive = tmp_path / "hostile.zip"
    with zipfile.ZipFile(archive, "w") as file:
        info = zipfile.ZipInfo("inside")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(StudyError, match="'inside' is a link or a device"):
        copy_tree(archive, "cifar10", tmp_path / "tree")


def test_no_write_permission():
    """As nobody, where root runs the tests: root may write anywhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = embedded.generate("cifar10", folder)
        folder.chmod(0o555)
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError) as error:
                copy_tree(archive, "cifar10", folder / "tree")
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
            folder.chmod(0o755)
        assert Path(error.value.filename).is_relative_to(folder)
        assert [path.name for path in folder.iterdir()] == [archive.name]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet200"])
def test_embedded_data_are_the_same_every_time(name, tmp_path):
    first, second = (embedded.generate(name, tmp_path / side) for side in "ab")
    if first.is_dir():
        files = list_files(first)
        assert files == list_files(second)
        assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)
        assert {path.name for path in (first / "val").iterdir()} == {"images", "val_annotations.txt"}
    else:
        assert first.read_bytes() == second.read_bytes()


def test_an_unknown_embedded_dataset():
    with pytest.raises(StudyError, match="embedded:mnist does not exist; there are cifar10"):
        embedded.generate("mnist", Path())


def bomb(form, folder, count, size):
    """Return an archive of `count` files of `size` zeros, small as it lies there."""
    archive = folder / f"bomb.{form}"
    if form == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for number in range(count):
                file.writestr(f"data/{number}", bytes(size))
    else:
        with tarfile.open(archive, "w:gz") as file:
            for number in range(count):
                member = tarfile.TarInfo(f"data/{number}")
                member.size = size
                file.addfile(member, io.BytesIO(bytes(size)))
    return archive


@pytest.mark.parametrize(("count", "size"), [(1, 20_000_000), (5000, 0)])
@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_written(form, count, size, tmp_path):
    archive = bomb(form, tmp_path, count, size)
    assert archive.stat().st_size < 1_000_000
    with pytest.raises(StudyError, match=r"more than 0\.01 GB when it is unpacked.*max_unpacked_gb"):
        copy_tree(archive, "cifar10", tmp_path / "out" / "tree", max_unpacked_gb=0.01)
    assert not list((tmp_path / "out").rglob("*"))


def test_a_zip_that_lies_about_sizes_is_refused(tmp_path):
    archive = bomb("zip", tmp_path, 1, 5_000_000)
    content = archive.read_bytes().replace((5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(content)
    with pytest.raises(StudyError, match="truncated or damaged"):
        copy_tree(archive, "cifar10", tmp_path / "out" / "tree", max_unpacked_gb=0.001)


def test_what_follows_the_members_of_a_tar_counts_too(tmp_path):
    archive = tmp_path / "long.tar.gz"
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as file:
        file.addfile(tarfile.TarInfo("batches.meta"))
    archive.write_bytes(gzip.compress(plain.getvalue() + bytes(50_000_000)))
    with pytest.raises(StudyError, match="when it is unpacked"):
        copy_tree(archive, "cifar10", tmp_path / "out" / "tree", max_unpacked_gb=0.01)


def test_a_zip_with_a_password_is_named(tmp_path):
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("train/cat/0.png", b"x")
    data = bytearray(archive.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + flags] |= 1
    archive.write_bytes(data)
    with pytest.raises(
        StudyError, match=r"photos\.zip: cannot be unpacked here \(.*encrypted.*\); unpack it and"
    ):
        copy_tree(archive, "image_folder", tmp_path / "tree")


def test_a_name_that_is_not_in_utf_8_is_named(tmp_path):
    (tmp_path / "photos").mkdir()
    try:
        (tmp_path / "photos" / os.fsdecode(b"K\xe4tzchen.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    with pytest.raises(
        StudyError, match=r"photos: the name of a file in it, .*tzchen\.png', is not in UTF-8"
    ):
        list_files(tmp_path / "photos")
