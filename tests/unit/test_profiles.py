"""Mistakes with profiles."""

import pytest
import yaml
from conftest import ROOT

from vitcnn.errors import StudyError
from vitcnn.files import write_json
from vitcnn.profiles import refuse_absent_profile, refuse_real_data


@pytest.mark.parametrize(
    "arguments",
    [
        ["--dry-run", "--cores", "2"],
        ["--workflow-profile", "none"],
        ["--workflow-profile", "demo"],
        ["-n", "--workflow-profile=profiles/demo", "all"],
        ["--workflow-profile", str(ROOT / "profiles/slurm/profile.yaml")],
    ],
)
def test_a_profile_that_is_there(arguments):
    refuse_absent_profile(arguments, ROOT, ROOT)


@pytest.mark.parametrize("name", ["dmo", "profiles/dmo", "profiles/demo"])
def test_a_profile_that_is_not(name, tmp_path):
    for arguments in (["--workflow-profile", name], [f"--workflow-profile={name}", "all"]):
        with pytest.raises(
            StudyError, match=f"{name}: there is no such profile, only default, demo, quick, slurm"
        ):
            refuse_absent_profile(arguments, tmp_path, ROOT)


def test_slurm_gives_a_gpu_to_each_rule_that_uses_one():
    """Of itself a rule asks for one only where the host that Snakemake runs on has one: a login node has none."""
    files = [path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk")]
    rules = [rule for text in files for rule in text.split("\nrule ")[1:]]
    using = {rule.partition(":")[0] for rule in rules if "gpu=" in rule}
    asked = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())["set-resources"]
    assert using == {rule for rule, resources in asked.items() if resources.get("gpu") == 1}
    page = (ROOT / "docs/clusters.md").read_text()
    assert all(f"`{rule}`" in page for rule in asked)


def test_the_demo_stays_out_of_a_study_on_real_images(default_config, tmp_path):
    cifar10 = default_config["datasets"]["cifar10"] | {"source": ["embedded:cifar10"]}
    demo = default_config | {"datasets": default_config["datasets"] | {"cifar10": cifar10}}
    refuse_real_data(demo, tmp_path)
    origin = tmp_path / "resources/cifar10/fetched_from.json"
    write_json(origin, {"source": "/data/cifar-10-python.tar.gz"})
    with pytest.raises(StudyError, match=r"holds a study of CIFAR-10 from /data/cifar-10-python\.tar\.gz"):
        refuse_real_data(demo, tmp_path)
    refuse_real_data(default_config, tmp_path)
    write_json(origin, {"source": "embedded:cifar10"})
    refuse_real_data(demo, tmp_path)
