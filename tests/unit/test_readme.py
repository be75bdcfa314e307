"""What the README quotes is what was measured."""

import csv
import sys

import pytest
import yaml
from conftest import ROOT, read

sys.path.insert(0, str(ROOT / "tests/speed"))

import write_table


def test_the_table_of_speeds_is_the_benchmarks():
    assert write_table.table() in write_table.PAGE.read_text()


@pytest.mark.parametrize("file", ["README.md", "tests/reference/README.md"])
def test_the_table_of_accuracies_is_the_reference_runs(file):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    with (ROOT / "workflow/vitcnn/results/reported.csv").open() as lines:
        reported = {(row["model"], row["dataset"]): row["accuracy"] for row in csv.DictReader(lines)}
    paths = sorted((ROOT / "tests/reference").rglob("metrics.json"))
    assert len(paths) == 6
    for path in paths:
        metrics = read(path)
        model, dataset = (metrics["spec"][part]["name"] for part in ("model", "dataset"))
        titles = f"{config['models'][model]['title']} | {config['datasets'][dataset]['title']}"
        figures = f"{metrics['accuracy']['final']:.2f} | {reported[model, dataset]}"
        line = next(
            line for line in (ROOT / file).read_text().splitlines() if line.startswith(f"| {titles} |")
        )
        assert line.startswith(f"| {titles} | {figures} |")
        if file != "README.md":
            assert f"| {figures} | {metrics['history'][-1]['train_loss']:.3f} |" in line
        assert line.endswith(f"| {metrics['num_parameters'] / 1e6:.2f} |")
