"""What the README quotes is what was measured."""

import csv
import sys

import pandas as pd
import pytest
import yaml
from conftest import ROOT, merge, read
from scipy.stats import ttest_1samp

from vitcnn.config import check_config
from vitcnn.results import tables
from vitcnn.results.collect import read_tables
from vitcnn.results.statistics import mean_in_words

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
    table = (ROOT / "tests/reference/comparison.md").read_text()
    assert "one seed: no interval" in table and "±" not in table


def test_the_fair_rows_are_the_reference_runs():
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = {"cnn": "CNN, [fair](tests/reference/full/README.md)"}
    names |= {"vit_p": "ViT of equal size", "vit_f": "ViT of equal FLOPs"}
    table = tables.tabulate(pd.read_csv(REFERENCE / "full/fair_runs.csv"), "selected")
    assert table["Seeds"].tolist() == [5, 5, 5]
    for (_, found), title in zip(table.iterrows(), names.values(), strict=True):
        accuracy = mean_in_words(found["Accuracy (%)"], found["Accuracy (%) sd"], ".2f")
        (row,) = (row for row in rows if row[0] == title)
        assert row[1:] == ["CIFAR-10", accuracy, "–", f"{found['Total Parameters (M)']:.2f}"]
        assert f" | {accuracy} | " in (REFERENCE / "full/README.md").read_text()


@pytest.mark.parametrize(("experiment", "place"), [("data_efficiency", 0), ("data_steps", 2)])
def test_the_page_of_fewer_images_has_the_numbers_of_its_runs(experiment, place):
    text = (REFERENCE / "full/README.md").read_text().replace("−", "-")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    page = {line[0]: line[place + 1 : place + 3] for line in lines if len(line) == 5}
    text = " ".join(text.split())
    runs = pd.read_csv(REFERENCE / f"full/{experiment}_runs.csv")
    best = runs.pivot_table(index="seed", columns=["model", "train_size"], values="best")
    assert len(best) == 5
    for model, title in (("simple_vit", "SimpleViT"), ("simple_cnn", "SimpleCNN")):
        found = [best[model, size] for size in (1000, 10000)]
        assert page[title] == [f"{accuracy.mean():.2f} ± {accuracy.std():.2f}" for accuracy in found]
        assert f" {(found[1] - found[0]).mean():.1f}" in text
    less = best["simple_vit"] - best["simple_cnn"]
    assert page["less the CNN"] == [f"{less[size].mean():.2f}" for size in (1000, 10000)]
    table = (REFERENCE / f"full/{experiment}_differences.md").read_text().replace("−", "-")
    rows = [
        [cell.strip(" []") for cell in line.split("|")] for line in table.splitlines() if "| CIFAR-10" in line
    ]
    for column, title in ((4, "over seeds"), (5, "over test images")):
        assert page[title] == [row[column].replace(", ", " to ") for row in rows]
    change = less[10000] - less[1000]
    low, high = sorted(abs(end) for end in ttest_1samp(change, 0).confidence_interval(0.95))
    assert f"by {abs(change.mean()):.1f} points (over seeds {low:.1f} to {high:.1f}" in text


def test_the_page_of_fewer_images_says_what_fewer_updates_hide():
    text = " ".join((REFERENCE / "full/README.md").read_text().replace("−", "-").split())
    flaws = pd.read_csv(REFERENCE / "full/flaws.csv").query("experiment == 'data_steps, data_efficiency'")
    few, many = flaws.itertuples()
    hidden = f"hide {-few.mean:.1f} points of the CNN's lead (over seeds {-few.high:.1f} to {-few.low:.1f})"
    assert hidden in text
    assert f"({-many.mean:.1f} points, {-many.high:.1f} to {-many.low:.1f};" in text


def test_what_is_kept_of_shuffled_tiles_is_what_was_measured():
    text = " ".join((ROOT / "README.md").read_text().split())
    numbers = (
        pd.read_csv(REFERENCE / "representations/numbers.csv")
        .set_index(["quantity", "at", "model"])
        .sort_index()["value"]
    )
    whole = numbers["accuracy (%)", "whole images"].groupby("model").mean()
    kept = 100 * numbers["accuracy (%), tiles shuffled", "4x4"].groupby("model").mean() / whole
    assert f"SimpleViT keeps {kept['SimpleViT']:.0f} % of its accuracy when 16 tiles" in text
    assert f"are shuffled, SimpleCNN {kept['SimpleCNN']:.0f} % (three seeds)" in text


REFERENCE = ROOT / "tests/reference"


@pytest.mark.parametrize(
    "path",
    [*sorted(REFERENCE.glob("[ft]*/*_runs.csv")), *sorted(REFERENCE.glob("tune/*.csv"))],
    ids=lambda path: f"{path.parent.name} {path.stem}",
)
def test_the_reference_tables_are_those_of_their_runs(path):
    name = path.stem.removesuffix("_runs")
    configs = [
        yaml.safe_load(file.read_text()) for file in (ROOT / "config.yaml", path.with_name("study.yaml"))
    ]
    study = check_config(merge(*configs))
    runs, accuracy = read_tables([path]), study["experiments"][name]["accuracy"]
    shown = tables.for_people(tables.tabulate(runs, accuracy))
    title, note = study["report"]["titles"][name], tables.note(runs, accuracy)
    assert (path.parent / f"{name}.md").read_text() == tables.to_markdown(shown, title, note)


def test_the_example_study_has_the_accuracies_of_its_runs():
    lines = (ROOT / "docs/images-of-your-own.md").read_text().splitlines()
    runs = pd.read_csv(ROOT / "tests/reference/photos/shoot_out_runs.csv")
    assert len(runs) == 24
    for title, of_model in runs.groupby("model_title"):
        accuracies = of_model.groupby("train_images")["selected"].agg(["mean", "std"]).itertuples()
        cells = [f"{found.mean:.1f} ± {found.std:.1f}" for found in accuracies]
        cells.append(f"{of_model['num_parameters'].iloc[0] / 1e6:.2f}")
        assert f"| {title} | {' | '.join(cells)} |" in lines


def test_the_rates_of_fair_are_those_that_were_chosen(default_config):
    """By five short trials, and the best two of those rates in full."""
    fair, titles = default_config["experiments"]["fair"]["recipe"], default_config["models"]
    text = (ROOT / "tests/reference/tune/README.md").read_text().replace("*", "")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| 0.")]
    for name in ("tune", "tune_long"):
        runs = pd.read_csv(ROOT / f"tests/reference/tune/{name}.csv")
        for lr, of_rate in runs.groupby("lr"):
            held_out = of_rate.set_index("model")["held_out"]
            assert [f"{lr:g}", *(f"{held_out[model]:.1f}" for model in fair)] in rows
    chosen = tables.chosen_recipes(runs).set_index("model_title")["recipe"]
    assert chosen.to_dict() == {titles[model]["title"]: recipe for model, recipe in fair.items()}
