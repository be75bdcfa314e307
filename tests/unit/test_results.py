"""Collection and tables, from runs that are written by hand."""

import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from conftest import read
from made_up import (
    PARAMETERS,
    collect,
    collected,
    draw,
    finished,
    first_notebook,
    note_of,
    study_of,
    tabulated,
    write_record,
    write_run,
    written,
)

from vitcnn import plan
from vitcnn.errors import StudyError
from vitcnn.files import digest, read_json, write_json
from vitcnn.results import tables
from vitcnn.results.collect import marked
from vitcnn.results.sections import Section, to_markdown
from vitcnn.results.statistics import compare, half_width


def test_the_table_has_the_notebooks_rows_and_columns(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    table = tabulated(runs)
    assert list(zip(table["Model"], table["Dataset"], strict=True)) == [
        (model, dataset) for dataset in ("CIFAR-10", "CIFAR-100", "ImageNet-200") for model in ("ViT", "CNN")
    ]
    for column in ("Accuracy (%)", "Total Parameters (M)", "Train Time (s)", "Inference Time (ms/img)"):
        assert {column, f"{column} sd", f"{column} reported"} <= set(table.columns)
    first = table.iloc[0]
    assert first["Accuracy (%)"] == pytest.approx(62.0)
    assert first["Accuracy (%) sd"] == pytest.approx(0.1)
    assert first["Accuracy (%) reported"] == 62.92
    assert first["Total Parameters (M)"] == pytest.approx(1.205642)
    assert first["Train Time (s)"] == pytest.approx(np.mean([40, 40.4, 40.8]))
    assert first["Seeds"] == 3
    shown = tables.for_people(table)
    assert shown.iloc[0]["Accuracy (%)"] == "62.00 ± 0.10"
    assert shown.iloc[0]["Total Parameters (M)"] == "1.21"
    assert shown.iloc[4]["Accuracy (%), reported"] == "31.15"


def test_the_table_in_every_format(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    shown, note = tables.for_people(tabulated(runs)), note_of(runs)
    markdown = tables.to_markdown(shown, "A & B", note)
    assert "| ViT     | CIFAR-10     |   62.00 ± 0.10 |" in markdown
    page = tables.to_html(shown, "A & B", note)
    assert "<td>62.00 ± 0.10</td>" in page
    assert "A &amp; B" in page
    latex = tables.to_latex(shown, "A {B} for 5 $", note)
    assert r"\caption{A \{B\} for 5 \$. " in latex
    assert r"ViT & CIFAR-10 & 62.00 $\pm$ 0.10" in latex
    assert r"Accuracy (\%)" in latex
    assert "Some CPU, 1 thread a job, fp32" in note
    assert "; mean ± standard deviation over seeds. Train time" in note
    assert "ImageNet-200: 100,000 training and 10,000 test images" in note
    assert note.count("training images too") == 1
    assert " 9 test images of CIFAR-100 are training images too." in note


def test_a_bar_in_a_name_starts_no_column():
    table = pd.DataFrame({"Model": ["ViT | 4 x 4", r"as \| written"], "Accuracy": ["62.00", "61.00"]})
    for text in (tables.to_markdown(table[:1], "T", ""), to_markdown([Section("T", table=table)])):
        assert "ViT \\| 4 x 4" in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {4}


def test_a_title_is_no_html():
    title = "Res|Net & <b> &lt; 3"
    table = pd.DataFrame({"Model": [title], "p": ["p < 0.001"]})
    text = to_markdown([Section(title, items=[f"{title}: `n`"], table=table)])
    escaped = r"Res|Net & \<b> \&lt; 3"
    assert text.startswith(f"# {escaped}\n\n- {escaped}: `n`\n")
    cell = escaped.replace("|", r"\|")
    assert f"| {cell} | p < 0.001 |" in text


def test_one_seed_has_no_spread(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path, seeds=[5]))
    shown = tables.for_people(tabulated(runs))
    assert shown.iloc[0]["Accuracy (%)"] == "62.40"
    assert "; one seed: no interval. Train time" in note_of(runs) and "±" not in note_of(runs)
    text = written(runs)
    assert "nothing can be concluded about chance" in text


def broken(root, study, how):
    path = root / plan.all_runs(study)[0].folder / "metrics.json"
    metrics = read(path)
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_text(path.read_text()[:500])
    elif how == "NaN":
        path.write_text(path.read_text().replace('"train_loss": 2.0', '"train_loss": NaN', 1))
    elif how == "schema":
        metrics["accuracy"]["final"] = 101
        path.write_text(json.dumps(metrics))
    elif how == "other spec":
        metrics["spec"]["recipe"]["lr"] = 0.5
        metrics["spec_digest"] = digest(metrics["spec"])
        path.write_text(json.dumps(metrics))
    elif how == "edited spec":
        metrics["spec"]["recipe"]["lr"] = 0.5
        path.write_text(json.dumps(metrics))
    elif how == "duplicated":
        other = root / plan.all_runs(study)[1].folder / "metrics.json"
        path.write_text(other.read_text())
    elif how == "epochs":
        metrics["history"].pop()
        path.write_text(json.dumps(metrics))
    elif how == "edited accuracy":
        metrics["accuracy"]["final"] += 1
        path.write_text(json.dumps(metrics))
    elif how == "data":
        packed = root / "resources/cifar10/packed"
        packed.mkdir(parents=True)
        (packed / "manifest.json").write_text("{}")
        for run in plan.all_runs(study)[1:]:
            other = root / run.folder / "metrics.json"
            other_digest = hashlib.sha256(b"{}").hexdigest()
            if run.dataset == "cifar10":
                other.write_text(other.read_text().replace("0" * 64, other_digest))
    elif how == "selected":
        metrics["accuracy"]["selected"] = 99
        path.write_text(json.dumps(metrics))
    elif how == "runtime":
        path.with_name("runtime.json").unlink()
    return path


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "cannot be read: No such file"),
        ("truncated", "is damaged"),
        ("NaN", "NaN is no number"),
        ("schema", "does not fit metrics.schema.json: at accuracy/final: 101"),
        ("other spec", "of another spec than asked, in recipe.lr: 0.5 instead of 0.001"),
        ("edited spec", "its spec was changed by hand"),
        ("duplicated", "of another spec than asked, in seed: 1 instead of 0"),
        ("epochs", "its history is not one entry for each of 10 epochs"),
        ("edited accuracy", "its final or best accuracy is not that of its history"),
        ("runtime", "cannot be read: No such file"),
        ("data", "was trained on other data than cifar10 is now"),
        ("selected", "its selected accuracy is not that of its best epoch"),
    ],
)
def test_a_run_that_is_not_right_is_never_averaged_over(how, message, tmp_path):
    study = finished(tmp_path)
    path = broken(tmp_path, study, how)
    with pytest.raises(StudyError) as error:
        collect(study, tmp_path)
    assert message in str(error.value)
    assert str(path.parent) in str(error.value)
    runs, epochs = collected(tmp_path, study, partial=True)
    assert runs["gap"].notna().sum() == 1
    shown = tables.for_people(tabulated(runs))
    assert shown.iloc[0]["Seeds"] == "2 of 3"
    assert "Partial: 1 of" in written(runs)
    figure = draw("training_curves", runs, epochs)
    assert "PARTIAL" not in figure.get_suptitle()  # the gap is not among its runs


def changed(path, **changes):
    write_json(path, read_json(path) | changes)


def test_the_selected_accuracy_is_that_of_the_best_epoch_on_held_out_images(tmp_path):
    study = study_of(seeds=[1])
    study["recipes"]["adam10"]["hold_out"] = True
    for run in plan.all_runs(study):
        write_run(tmp_path, study, run)
    first = collect(study, tmp_path).runs.iloc[0]
    assert first[["held_out", "selected", "final", "best"]].tolist() == [50, 55, 62, 62.5]
    path = tmp_path / plan.all_runs(study)[0].folder / "metrics.json"
    metrics = read_json(path)
    without = [epoch | {"val_accuracy": None} for epoch in metrics["history"]]
    for selected, history in ((62.5, metrics["history"]), (None, without)):
        changed(path, accuracy=metrics["accuracy"] | {"selected": selected}, history=history)
        with pytest.raises(StudyError, match="its selected accuracy is not that of its best epoch"):
            collect(study, tmp_path)


def test_a_run_on_fewer_images_than_asked_is_not_used(tmp_path):
    study = finished(tmp_path, seeds=[1])
    run = plan.experiment_runs(study, "data_efficiency")[0]
    changed(tmp_path / run.folder / "metrics.json", train_images=900)
    with pytest.raises(StudyError, match=r"metrics\.json: says 900 training images, not 1000; delete"):
        collect(study, tmp_path)


def test_the_peak_memory_of_a_run_on_a_gpu_is_the_gpus(tmp_path):
    study = finished(tmp_path, seeds=[1])
    path = tmp_path / plan.all_runs(study)[0].folder / "runtime.json"
    changed(path, peak_gpu_memory_bytes=3, device={"type": "cuda", "name": "A GPU"})
    assert collect(study, tmp_path).runs["peak_memory_bytes"].tolist()[:2] == [3, 10**9]


def test_generated_images_are_named_and_nothing_reported_is_set_beside_them(tmp_path):
    study = finished(tmp_path)
    runs, epochs = collected(tmp_path, study, generated=["cifar10", "cifar100", "imagenet200"])
    table, note = tabulated(runs), note_of(runs)
    assert not any("reported" in column for column in (*table, *tables.for_people(table)))
    assert "Generated images, not those published: CIFAR-10, CIFAR-100, ImageNet-200" in note
    assert "Reported" not in note
    assert marked("Title", runs) == "Title (generated images)"
    assert draw("summary", runs, epochs).get_suptitle() == "Title (generated images)"
    text = written(runs)
    assert text.startswith("# Findings (generated images)\n\n**Generated images: CIFAR-10, CIFAR-100, ")
    assert "ViT − CNN" in text
    assert "notebook concluded" not in text
    assert not any(verdict in text for verdict in ("borne out", "undecided", "cannot be told"))


@pytest.mark.parametrize(
    "change",
    [{"epochs": 3}, {"lr": 0.0005}, {}],
    ids=["epochs", "lr", "size"],
)
def test_nothing_reported_is_set_beside_runs_that_repeat_no_notebook(change, tmp_path, monkeypatch):
    study = study_of()
    study["recipes"]["adam10"] |= change
    if not change:
        monkeypatch.setitem(PARAMETERS, ("vit", "cifar10"), 1_000_000)
        monkeypatch.setitem(PARAMETERS, ("cnn", "cifar10"), 100_000)
    for run in plan.all_runs(study):
        write_run(tmp_path, study, run)
    runs, _ = collected(tmp_path, study)
    cifar10 = runs[runs["dataset"] == "cifar10"]
    assert not any("reported" in column for column in tabulated(cifar10))
    assert "Reported" not in note_of(cifar10)


def test_published_images_beside_generated_ones(tmp_path):
    study = finished(tmp_path)
    runs, _ = collected(tmp_path, study, generated=["cifar10"])
    table = tabulated(runs).set_index(["Dataset", "Model"])
    assert np.isnan(table.loc[("CIFAR-10", "ViT"), "Accuracy (%) reported"])
    assert table.loc[("CIFAR-100", "ViT"), "Accuracy (%) reported"] == 36.77
    assert marked("Title", runs) == "Title (generated images: CIFAR-10)"
    shown = "\n".join(claim.shown for claim in first_notebook(runs))
    assert "CIFAR-100, 50,000 images" in shown
    assert "ImageNet-200, 100,000 images" in shown
    assert "CIFAR-10," not in shown
    assert "What the second notebook concluded" not in written(runs)


def test_runs_of_another_environment_are_marked(tmp_path):
    study = finished(tmp_path)
    runs, _ = collected(tmp_path, study)
    assert runs["other_versions"].isna().all()
    assert "other packages" not in note_of(runs)
    run = plan.experiment_runs(study, "comparison")[0]
    write_record(tmp_path / run.folder, {"numpy": "2.5.5", "torch": "2.14.0"})
    runs, _ = collected(tmp_path, study)
    assert runs["other_versions"].dropna().unique().tolist() == ["torch 2.14.0 instead of 2.15.0"]
    assert "1 of 18 runs were computed with other packages" in note_of(runs)


def test_runs_with_an_accepted_change_are_counted(tmp_path):
    study = finished(tmp_path)
    runs, _ = collected(tmp_path, study)
    assert "accepted" not in note_of(runs)
    path = tmp_path / plan.experiment_runs(study, "comparison")[0].folder / "provenance.json"
    record = read_json(path) | {"accepted": [{"because": "a variable renamed", "before": {}}] * 2}
    record.pop("digest")
    write_json(path, record | {"digest": digest(record)})
    runs, _ = collected(tmp_path, study)
    words = "runs stand although code or packages changed, accepted because: a variable renamed"
    assert f"1 of 18 {words}." in note_of(runs)
    assert words in written(runs)


def test_a_run_without_a_record_is_not_used(tmp_path):
    study = finished(tmp_path)
    run = plan.all_runs(study)[0]
    (tmp_path / run.folder / "provenance.json").unlink()
    with pytest.raises(StudyError, match=r"has no provenance\.json"):
        collect(study, tmp_path)


def test_sizes_are_not_mistaken_for_seeds(tmp_path):
    study = study_of()
    study["experiments"] |= {"curves": None, "data_efficiency": None}
    study["experiments"]["comparison"]["train_sizes"] = [1000, 5000]
    for run in plan.all_runs(study):
        write_run(tmp_path, study, run)
    runs, _ = collected(tmp_path, study)
    table = tabulated(runs)
    assert len(table) == 12
    assert (table["Seeds"] == 3).all()
    assert table["Model"].iloc[0] == "ViT, 1000 images"
    assert "CIFAR-10: 1,000 or 5,000 training and 10,000 test images" in note_of(runs)
    text = written(runs)
    assert "CIFAR-10, 1,000 images: final accuracy, ViT − CNN: −18.00 points" in text
    assert "CIFAR-10, 5,000 images: final accuracy, ViT − CNN: −18.00 points" in text


def test_statistics_against_textbook_values():
    difference = compare([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    # Equal variances of 1 and n = 3: 4 degrees of freedom, t = 2.776, standard error √(2/3).
    assert difference.mean == -1
    assert difference.low == pytest.approx(-1 - 2.7764451 * (2 / 3) ** 0.5)
    assert difference.high == pytest.approx(-1 + 2.7764451 * (2 / 3) ** 0.5)
    assert difference.sign == 0
    assert compare([1.0], [2.0]).low is None
    # Unequal variances, 5/3 with n = 4 and 200 with n = 2: Welch's degrees of freedom are 1.0083.
    unequal = compare([1.0, 2.0, 3.0, 4.0], [10.0, 30.0])
    error = (5 / 3 / 4 + 200 / 2) ** 0.5
    freedom = error**4 / ((5 / 12) ** 2 / 3 + 100**2)
    assert freedom == pytest.approx(1.0083, abs=1e-3)
    assert unequal.high == pytest.approx(-17.5 + error * scipy.stats.t.ppf(0.975, freedom))
    assert half_width([1.0, 2.0, 3.0], "sd") == 1
    assert half_width([1.0, 2.0, 3.0], "ci95") == pytest.approx(4.3026527 / 3**0.5)
    assert half_width([1.0], "ci95") == 0
