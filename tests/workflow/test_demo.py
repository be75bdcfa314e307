"""The README's first command, in a copy of the repository, without a network and in an odd place.

Odd are: spaces and umlauts in the path, results on another file system, a home that cannot be written, a locale
without UTF-8, files that nobody else may read.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT, said

pytestmark = pytest.mark.xdist_group("demo")  # one demo for all, so one worker

COMMAND = re.findall(r"^\.venv/bin/(snakemake .*)$", (ROOT / "README.md").read_text(), re.M)[0]
NO_NETWORK = ["unshare", "--net", "--map-root-user"]
ODD = {"HOME": "/dev/null/home", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CHANCE = {"CIFAR-10": 10.0, "CIFAR-100": 1.0, "ImageNet-200": 0.5}


def cut_off() -> list[str]:
    """Return what to put before a command to run it without a network; skip where that is not to be had."""
    if not shutil.which("unshare") or subprocess.run([*NO_NETWORK, "true"], capture_output=True).returncode:
        pytest.skip("no network namespaces here (unshare --net), so the network cannot be switched off")
    return NO_NETWORK


def run(
    folder: Path, *arguments: str, before: tuple[str, ...] | list[str] = ()
) -> subprocess.CompletedProcess:
    command = [*before, sys.executable, "-m", *COMMAND.split(), *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1800,
        env=os.environ | ODD,
        umask=0o077,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone") / "Größe und Maß"
    listed = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as elsewhere:
        (folder / "demo").mkdir()
        (folder / "demo" / "results").symlink_to(elsewhere)
        done = run(folder, before=cut_off())
        assert done.returncode == 0, said(done)
        yield folder, done


def test_it_ends_by_saying_where_to_look(demo):
    folder, done = demo
    shown = said(done).split("Results are in:")[1]
    for name in ("tables/comparison.html", "figures/summary.svg", "findings.html"):
        assert f"/demo/results/{name}" in shown  # the folder's umlauts cannot be shown in that locale
        assert (folder / "demo" / "results" / name).stat().st_size


def test_it_goes_through_every_rule(demo):
    _, done = demo
    rules = set()
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        rules |= set(re.findall(r"^rule (\w+):", path.read_text(), re.M))
    ran = set(re.findall(r"rule (\w+):", said(done)))
    assert rules - ran == {
        "audit",
        "status",
        "seal",
        "score_predictions",
        "corrupt_run",
        "tabulate_corruptions",
    }


def test_models_are_above_chance_and_below_perfect(demo):
    folder, _ = demo
    with (folder / "demo/results/tables/comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        assert 3 * CHANCE[row["Dataset"]] < float(row["Accuracy (%)"]) < 100, row


def test_nothing_is_left_to_do_and_the_report_needs_no_network(demo):
    folder, _ = demo
    again = run(folder)
    assert "Nothing to be done" in said(again)
    report = run(folder, "--report", "report.html", before=cut_off())
    assert report.returncode == 0, report.stderr
    assert "findings" in (folder / "demo/report.html").read_text()


def test_the_repository_is_left_as_it_was(demo):
    folder, _ = demo
    assert not (folder / "results").exists()
    assert not (folder / "resources").exists()
