"""The demo from any folder and changed in any way, profiles, and where Snakemake keeps its notes."""

import re

import pytest
import yaml
from conftest import ROOT, WARM, environment, jobs, said, snakemake

DEMO = ROOT / "profiles/demo"
RUN = "results/runs/cifar10/cnn/adam10/nall/seed0"


def dry_run(folder, *arguments):
    """Plan the study from `folder`, and return what Snakemake printed."""
    command = ["snakemake", "--snakefile", str(ROOT / "Snakefile"), "--dry-run", "--printshellcmds"]
    return WARM.run([*command, *map(str, arguments)], folder, environment())


@pytest.mark.parametrize(
    ("arguments", "seeds", "made"),
    [
        (["--configfile", "mine.yaml"], {7}, "demo"),
        (["--configfile", "mine.yaml", "--config", "seeds=[9]", "--directory", "a folder"], {9}, "a folder"),
    ],
)
def test_the_demo_from_another_folder_changed_by_the_command_line(arguments, seeds, made, tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"seeds": [7]}))
    done = dry_run(tmp_path, "--workflow-profile", DEMO, *arguments)
    assert jobs(done)["train"] == 12 * len(seeds)
    words = said(done)
    assert '"embed_dim":48' in words
    assert '"source":["embedded:cifar10"]' in words
    assert '"title":"What breaks them (generated images)"' in words
    assert {seed for seed in range(10) if f'"seed":{seed}' in words} == seeds
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.yaml", made, ".snakemake", "logs"}


def test_the_demo_refuses_a_folder_of_real_images(tmp_path):
    data = tmp_path / "a folder/resources/cifar10"
    data.mkdir(parents=True)
    (data / "fetched_from.json").write_text('{"source": "/data/cifar-10-python.tar.gz"}')
    done = dry_run(tmp_path, "--workflow-profile", DEMO, "--directory", "a folder")
    assert done.returncode != 0
    assert "holds a study of CIFAR-10 from /data/cifar-10-python.tar.gz" in said(done)


def test_the_quick_study_is_small_and_on_real_images(tmp_path):
    done = dry_run(tmp_path, "--workflow-profile", ROOT / "profiles/quick")
    assert jobs(done)["train"] == 12
    words = said(done)
    assert set(re.findall(r"n(\w+)/seed(\d+)/metrics", words)) == {("1000", "0"), ("5000", "0")}
    assert "cifar-10-python.tar.gz" in words
    assert "embedded" not in words


def test_a_profile_that_is_misspelled_plans_nothing(tmp_path):
    done = dry_run(tmp_path, "--workflow-profile", "profiles/dmo")
    assert done.returncode != 0
    assert "profiles/dmo: there is no such profile, only default, demo, quick, slurm" in said(done)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/profile.yaml").write_text("cores: 1\n")
    found = dry_run(tmp_path, "--workflow-profile", "mine", "--directory", "a folder", f"{RUN}/metrics.json")
    assert jobs(found)["train"] == 1


def test_a_second_run_where_snakemake_keeps_its_notes_in_a_database(tmp_path):
    """Its locks are no folder then."""
    for _ in range(2):
        done = snakemake(tmp_path, "--persistence-backend", "db", "results/models/cifar10/simple_cnn.txt")
        assert done.returncode == 0, said(done)
    assert "Nothing to be done" in said(done)


def test_a_host_workflow_has_profiles_of_its_own(tmp_path):
    """Beside its Snakefile, where Snakemake looks for them."""
    profile = tmp_path / "host/profiles/mine/profile.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text("cores: 1\n")
    (tmp_path / "host/Snakefile").write_text(
        f'module study:\n    snakefile: "{ROOT}/Snakefile"\n\nuse rule * from study as study_*\n'
    )
    (tmp_path / "work").mkdir()
    command = ["snakemake", "-s", "../host/Snakefile", "--workflow-profile", "mine", "-n", "study_data"]
    done = WARM.run(command, tmp_path / "work", environment())
    assert done.returncode == 0, said(done)
