"""What runs in a fork of a warm process is what a process of its own would be."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, WARM, environment, run_script, snakemake, snakemake_command

CHANGED = {"recipes": {"adam10": {"epochs": 3}}, "experiments": {"curves": None, "data_efficiency": None}}


STAMP = re.compile(r"\w{3} \w{3} +\d+ [\d:]{8} \d{4}|\d{4}-\d\d-\d\d[T ][\d:]{8}|[0-9a-f]{8}(-[0-9a-f]+){4}")


def words(done):
    """What was printed, line by line, but for stamps and for the order, which differs where it is that of sets."""
    text = STAMP.sub("", done.stdout + "\n" + done.stderr)
    return sorted(sorted(re.split("[ ,;]+", line)) for line in text.splitlines())


@pytest.mark.parametrize(
    ("arguments", "config", "status"),
    [
        (["--dry-run"], CHANGED, 0),
        (["--dry-run", "results/figures/none.svg"], {}, 1),
        (["--dry-run"], {"recipes": {"adam10": {"epochs": "many"}}}, 1),
    ],
    ids=["a plan", "no such target", "a mistake"],
)
def test_snakemake_says_the_same(arguments, config, status, tmp_path):
    command = snakemake_command(tmp_path, *arguments, config=config)
    plain = subprocess.run(
        [sys.executable, "-m", "snakemake", *command],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    for _ in range(2):  # the first leaves nothing behind for the second
        warm = snakemake(tmp_path, *arguments, config=config)
        assert words(warm) == words(plain)
        assert (warm.returncode, plain.returncode) == (status, status)


def test_a_script_has_its_own_folder_environment_and_end(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import atexit, os, sys, tempfile\natexit.register(print, 'the end')\n"
        "print(sys.argv[1:], os.getcwd(), os.environ['A'], tempfile.gettempdir())\nraise ValueError('x')"
    )
    for folder in ("one", "another"):
        (tmp_path / folder).mkdir()
        env = {"A": "c", "TMPDIR": str(tmp_path / folder)}
        done = WARM.run([str(script), "b"], tmp_path, env)
        assert done.returncode == 1
        assert done.stdout == f"['b'] {tmp_path} c {tmp_path / folder}\nthe end\n"
        assert done.stderr.endswith("ValueError: x\n")
    assert "A" not in os.environ


def test_another_copy_of_the_project_has_its_own_code(tmp_path):
    for folder in ("scripts", "vitcnn"):
        (tmp_path / folder).mkdir()
    (tmp_path / "vitcnn/__init__.py").write_text("NAME = 'another'")
    (tmp_path / "scripts/say.py").write_text(
        "import sys\nfrom pathlib import Path\nsys.path[0] = str(Path(__file__).parents[1])\n"
        "import vitcnn\nprint(vitcnn.NAME)"
    )
    done = WARM.run([str(tmp_path / "scripts/say.py")], tmp_path, environment())
    assert (done.stdout, done.stderr) == ("another\n", "")
    assert "usage: train.py" in run_script("train", "--help", cwd=ROOT).stdout
