"""Bad input ends before any training, with one clear message, and leaves what is there alone."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, WNIDS, run_script, said, snakemake

from vitcnn.data import embedded
from vitcnn.data.trees import list_files

ONLY_TINY = {
    "datasets": {"imagenet200": {"num_classes": 3}},
    "experiments": {"comparison": {"datasets": ["imagenet200"]}, "curves": None, "data_efficiency": None},
}
TABLE = "results/collected/comparison/runs.csv"  # what needs the data, and no more
IMAGE = f"train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG"  # one of Tiny ImageNet's
KEPT = "results/runs/imagenet200/vit/adam10/nall/seed5/metrics.json"


# tests/unit/test_trees.py shows the same of the functions; the tests beside these show that messages get through.
of_unit_tests_too = pytest.mark.exhaustive


def refused(folder: Path, config: dict, *arguments: str, **options) -> str:
    """Run the workflow, check that it trained nothing and changed nothing, and return its output."""
    kept = folder / KEPT
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("a former result")
    done = snakemake(folder, *arguments, config=config, **options)
    output = said(done)
    assert done.returncode != 0, output
    assert kept.read_text() == "a former result"
    assert [p for p in (folder / "results/runs").rglob("*") if p.is_file()] == [kept]
    assert not (folder / "results/collected").exists()
    assert not list((folder / "logs").rglob("runs/**/*.log"))
    return output


def tiny_config(source, **more):
    config = {**ONLY_TINY, **more}
    return config | {"datasets": {"imagenet200": {"num_classes": 3, "source": [str(source)]}}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"recipes": {"adam10": {"learning_rate": 1}}}, "recipes.adam10.learning_rate: unknown key"),
        (
            {"experiments": {"data": {"datasets": ["cifar10"], "models": ["vit"], "recipe": "adam10"}}},
            "experiments.data: is the name of a rule; choose another",
        ),
        ({"device": "mps" if sys.platform == "linux" else "cuda"}, "is not available on this machine"),
    ],
)
def test_configuration(config, message, tmp_path):
    output = refused(tmp_path, config)
    assert output.count(message) == 1
    assert "Traceback" not in output
    assert not (tmp_path / "resources").exists()


def test_models_that_are_not_equal_as_declared(tmp_path):
    """Whatever asks for their runs: the whole study, or one table."""
    equal = {"models": ["vit", "cnn"], "in": "flops", "within": 0.1}
    config = {"experiments": {"comparison": {"equal": [equal]}}}
    for target in ([], [TABLE]):
        output = refused(tmp_path, config, *target)
        assert "experiments.comparison.equal: vit and cnn are declared equal in flops within 10 %" in output
        assert "Traceback" not in output


def test_a_train_size_over_the_dataset(tmp_path):
    config = {
        "experiments": {"data_efficiency": {"train_sizes": [100, 1001]}, "curves": None, "comparison": None}
    }
    table = "results/collected/data_efficiency/runs.csv"
    message = "train_size 1,001 is over the 1,000 training images that cifar10 has, says resources/cifar10"
    assert message in refused(tmp_path, config, table)
    again = refused(tmp_path, config)  # and again before anything is trained
    assert message in again
    assert "rule train:" not in again


def test_a_source_list_that_is_exhausted(tmp_path):
    config = tiny_config("/nowhere")
    config["datasets"]["imagenet200"]["source"].append("/nowhere/else.zip#md5=" + "0" * 32)
    output = refused(tmp_path, config, TABLE)
    assert "imagenet200: no source delivered:" in output
    assert "- /nowhere: there is nothing at this path" in output
    assert f"- /nowhere/else.zip#md5={'0' * 32}: there is nothing at this path" in output


def test_partial_results_are_not_offered_where_no_run_is_finished(tmp_path):
    done = snakemake(tmp_path, TABLE, config=tiny_config("/nowhere"))
    assert done.returncode != 0
    assert "snakemake partial" not in said(done)


def test_a_checksum_mismatch(tiny, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "tiny"), "zip", tiny.parent)
    output = refused(tmp_path / "run", tiny_config(f"{archive}#md5={'0' * 32}"), TABLE)
    assert f"not {'0' * 32}; the file is not used" in output
    assert not (tmp_path / "run/resources/imagenet200/fetched.json").exists()


@of_unit_tests_too
def test_an_archive_of_another_dataset(tmp_path):
    archive = embedded.generate("cifar10", tmp_path)
    output = refused(tmp_path / "run", tiny_config(archive), TABLE)
    assert "is no tiny_imagenet dataset" in output
    assert "it looks like cifar10" in output


@of_unit_tests_too
def test_a_truncated_archive(tmp_path):
    archive = embedded.generate("cifar10", tmp_path)
    archive.write_bytes(archive.read_bytes()[:-100])
    config = {"datasets": {"cifar10": {"source": [str(archive)]}}}
    assert f"{archive}: is truncated or damaged" in refused(tmp_path / "run", config, TABLE)


@pytest.mark.parametrize(
    "name", ["../../escaped", pytest.param("/tmp/escaped-by-a-test", marks=of_unit_tests_too)]
)
def test_an_archive_with_names_that_leave_it(name, tmp_path):
    archive = tmp_path / "hostile.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, "x")
    output = refused(tmp_path / "run", tiny_config(archive), TABLE)
    assert f"member '{name}' would be written outside the folder" in output
    assert not list(tmp_path.rglob("escaped"))
    assert not Path("/tmp/escaped-by-a-test").exists()


@of_unit_tests_too
def test_a_tar_archive_with_a_link(tmp_path):
    archive = tmp_path / "hostile.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        info = tarfile.TarInfo("wnids.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(info)
    assert "'wnids.txt' is a link or a device" in refused(tmp_path / "run", tiny_config(archive), TABLE)


def test_a_missing_class_folder(tiny, tmp_path):
    shutil.rmtree(tiny / "train" / WNIDS[1])
    before = list_files(tiny)
    output = refused(tmp_path / "run", tiny_config(tiny), TABLE)
    assert f"train/{WNIDS[1]}: the folder of a class of wnids.txt is missing" in output
    assert list_files(tiny) == before


def test_bad_data_of_one_dataset_cost_no_training_on_another(tiny, tmp_path):
    (tiny / IMAGE).write_bytes(b"spoilt")
    config = tiny_config(tiny)
    config["experiments"] = ONLY_TINY["experiments"] | {
        "comparison": {"datasets": ["cifar10", "imagenet200"]}
    }
    output = refused(tmp_path / "run", config, TABLE)
    assert "imagenet200: 1 damaged images:" in output
    assert "rule train:" not in output


def test_a_source_folder_that_was_mended_is_read_again(tiny, tmp_path):
    bad = tiny / IMAGE
    good = bad.read_bytes()
    bad.write_bytes(b"spoilt")
    refused(tmp_path / "run", tiny_config(tiny), TABLE)
    bad.write_bytes(good)
    target = "resources/imagenet200/packed/manifest.json"
    done = snakemake(tmp_path / "run", target, config=tiny_config(tiny))
    assert done.returncode == 0, done.stderr


def test_a_damaged_image_stops_or_is_left_out(tiny, tmp_path):
    (tiny / IMAGE).write_bytes(b"spoilt")
    output = refused(tmp_path / "run", tiny_config(tiny), TABLE)
    assert "imagenet200: 1 damaged images:" in output
    assert f"- {IMAGE}: cannot identify image file" in output
    target = "results/runs/imagenet200/cnn/adam10/nall/seed0/metrics.json"
    config = tiny_config(tiny, on_damaged="skip")
    done = snakemake(tmp_path / "run", target, config=config)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "run" / target).read_text()
    assert '"damaged_images": {\n    "train": 1,\n    "test": 0\n  }' in text
    assert '"train_images": 11' in text


def test_a_full_disk_while_packing(tiny, tmp_path):
    """A limit on the size of files stands in for the disk: the write itself fails."""
    (tiny / IMAGE).write_bytes(b"spoilt")  # else the images are moved, which takes no room
    done = snakemake(tmp_path, "resources/imagenet200/validation.json", "--notemp", config=tiny_config(tiny))
    assert done.returncode == 0, done.stderr
    resources = tmp_path / "resources/imagenet200"
    script = ROOT / "workflow/scripts/pack_dataset.py"
    settings = '{"image_size": 64, "num_classes": 3, "on_damaged": "skip"}'
    command = f'ulimit -f 64; exec "{sys.executable}" "{script}" --report "{resources}/validation.json"'
    command += f' --record "{resources}/provenance/validate_images.json" --decoded "{resources}/decoded"'
    command += f" --packed '{tmp_path}/packed' --settings '{settings}' --log '{tmp_path}/log'"
    full = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert full.returncode != 0
    assert "packed/train_images.npy: could not be written" in full.stderr
    assert "is there room on that disk" in full.stderr
    assert "Traceback" not in full.stderr
    assert not (tmp_path / "packed/manifest.json").exists()
    assert not list((tmp_path / "packed").glob(".*part*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "cifar10/vit/adam10"], "is no run; they are named like"),
        (["--run", "cifar10/vitt/adam10/nall/seed0"], "the configuration has no model vitt"),
        (
            ["--run", "cifar10/vit/adam10/nall/seed0", "--config", "absent.yaml"],
            "absent.yaml: cannot be read",
        ),
        ([], "no run to train: name one, as --run cifar10/vit/adam10/nall/seed0, or repeat one"),
        (["--settings", '{"spec": {}}'], "the settings lack 'dataset'"),
        (["--repeat", "absent.json"], "absent.json: there is no record of a finished run"),
        (
            ["--run", "cifar10/vit/adam10/nall/seed0", "--data", "absent"],
            "manifest.json: is missing, so no dataset is packed there; run: snakemake data",
        ),
    ],
)
def test_training_by_hand(arguments, message, tmp_path):
    shutil.copy(ROOT / "config.yaml", tmp_path)
    done = run_script("train", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "two"])
def test_a_number_of_threads_that_is_none(number):
    done = run_script("train", f"--threads={number}")
    assert done.returncode == 2
    assert done.stderr.endswith(f"argument --threads: {number} is not a whole number of 1 or more\n")


@pytest.mark.parametrize("script", sorted(p.stem for p in (ROOT / "workflow/scripts").glob("*.py")))
def test_every_script_has_help(script):
    done = run_script(script, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
