"""Collection, table, figures and findings, from runs that are written by hand."""

import copy
import hashlib
import html
import json
import re
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import yaml
from conftest import NO_OTHERS, ROOT, read

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.errors import StudyError
from vitcnn.files import digest, read_json, write_json
from vitcnn.results import findings, tables
from vitcnn.results.claims import Claim, hold, judge
from vitcnn.results.collect import collect_runs, marked
from vitcnn.results.figures import style
from vitcnn.results.pairs import MEASURES, measured, pairs, sweeps
from vitcnn.results.questions import _winner, questions
from vitcnn.results.sections import Section, to_html, to_markdown
from vitcnn.results.statistics import Difference, Interval, compare, half_width

RAW = yaml.safe_load((ROOT / "config.yaml").read_text())
RAW["experiments"] |= NO_OTHERS
# Means of a made-up study: the ViT behind on CIFAR, ahead on ImageNet-200, catching up at 25,000.
FINAL = {
    ("cifar10", "vit"): 62.0,
    ("cifar10", "cnn"): 80.0,
    ("cifar100", "vit"): 36.0,
    ("cifar100", "cnn"): 42.0,
    ("imagenet200", "vit"): 31.0,
    ("imagenet200", "cnn"): 29.0,
}
PARAMETERS = {
    ("vit", "cifar10"): 1_205_642,
    ("cnn", "cifar10"): 175_258,
    ("vit", "cifar100"): 1_217_252,
    ("cnn", "cifar100"): 181_108,
    ("vit", "imagenet200"): 1_248_584,
    ("cnn", "imagenet200"): 187_608,
}
BY_SIZE = {1000: -20.0, 5000: -10.0, 10000: -5.0, 25000: 1.0, 50000: 3.0}


def study_of(seeds=(0, 1, 2)):
    return check_config(copy.deepcopy(RAW) | {"seeds": list(seeds)})


ENVIRONMENT = {"numpy": "2.5.5", "torch": "2.15.0"}


def mean_of(run):
    if run.recipe == "adam10":
        return FINAL[run.dataset, run.model]
    base = 70.0
    if run.recipe == "adamw10" and run.model == "simple_vit":
        base += BY_SIZE[run.train_size]
    return base + (5 if run.recipe == "adamw20" and run.model == "simple_cnn" else 0)


def write_run(root, study, run):
    """Write the files of a finished run whose accuracy is that of the made-up study."""
    spec = plan.run_spec(study, run)
    epochs = spec["recipe"]["epochs"]
    accuracy = mean_of(run) + 0.1 * (run.seed - 1) * (1 if "vit" in run.model else -1)
    history = [
        {
            "epoch": epoch,
            "train_loss": 2.0 / epoch,
            "train_accuracy": 50.0,
            "val_accuracy": None,
            "test_accuracy": accuracy - (epochs - epoch) + (0.5 if epoch == epochs - 1 else 0) * 3,
        }
        for epoch in range(1, epochs + 1)
    ]
    tested = [epoch["test_accuracy"] for epoch in history]
    size = {"imagenet200": 100_000}.get(run.dataset, 50_000) if run.train_size == "all" else run.train_size
    seconds = (4.0 if "vit" in run.model else 1.0) * size / 50_000 * (1 + 0.01 * run.seed)
    metrics = {
        "version": 1,
        "spec": spec,
        "spec_digest": digest(spec),
        "data_digest": "0" * 64,
        "precision": "fp32",
        "train_images": size,
        "val_images": 0,
        "test_images": 10_000,
        "test_images_in_train": 9 if run.dataset == "cifar100" else 0,
        "damaged_images": {"train": 0, "test": 0},
        "num_parameters": PARAMETERS["vit" if "vit" in run.model else "cnn", run.dataset],
        "history": history,
        "accuracy": {"final": tested[-1], "best": max(tested), "selected": None},
    }
    runtime = {
        "version": 1,
        "train_seconds": seconds * epochs,
        "epoch_seconds": [seconds] * epochs,
        "evaluation_seconds": [1.0] * epochs,
        "setup_seconds": 0.1,
        "compile_seconds": 0.0,
        "images_per_second": 1000.0,
        "inference_ms_per_image": (0.4 if "vit" in run.model else 0.3) + 0.001 * run.seed,
        "peak_memory_bytes": 10**9,
        "peak_gpu_memory_bytes": None,
        "device": {"type": "cpu", "name": "Some CPU"},
        "threads": 1,
        "host": "here",
        "platform": "Linux",
        "versions": {"python": "3", "torch": "2", "numpy": "2", "cuda": None},
        "git": {"commit": None, "dirty": None},
        "command": ["train.py"],
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-01T00:01:00+00:00",
        "attempts": 1,
        "resumed_epochs": 0,
    }
    folder = root / run.folder
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "runtime.json").write_text(json.dumps(runtime))
    write_record(folder, ENVIRONMENT)


def write_record(folder, environment):
    record = {"version": 1, "environment": environment}
    write_json(folder / "provenance.json", record | {"digest": digest(record)})


def collect(study, root, generated=(), **options):
    families = {name: model["family"] for name, model in study["models"].items()}
    environments = dict.fromkeys(families, ENVIRONMENT)
    settings = {"study": study, "families": families, "generated": generated, "environments": environments}
    return collect_runs(settings, root, **options)


def finished(root, seeds=(0, 1, 2)):
    study = study_of(seeds)
    for run in plan.all_runs(study):
        write_run(root, study, run)
    return study


def collected(root, study, **options):
    """Collect and go through CSV, as the rules do."""
    result = collect(study, root, **options)
    for name, table in (("runs", result.runs), ("epochs", result.epochs)):
        table.to_csv(root / f"{name}.csv", index=False)
    return pd.read_csv(root / "runs.csv"), pd.read_csv(root / "epochs.csv")


FIGURES = plan.figures(study_of())
NOTEBOOKS = ("training_curves", "data_efficiency", "summary")


def tabulated(runs, experiment="comparison"):
    return tables.tabulate(runs[runs["experiment"] == experiment])


def note_of(runs):
    return tables.note(runs[runs["experiment"] == "comparison"])


def asked_of(study):
    """What the findings are told of each experiment."""
    return {
        name: {"title": plan.title_of(study, name), "pairs": None} | study["experiments"][name]
        for name in plan.active_experiments(study)
    }


def written(runs, study=None):
    """The findings as Markdown; the page says the same in HTML."""
    study = study or study_of()
    found = findings.findings(runs, asked_of(study), study["claims"])
    text = to_markdown(found)
    words = re.sub(r"<[^>]+>", " ", to_html(found).split("</style>")[1])
    for line in text.splitlines():
        for cell in line.replace("---", "").split("|"):
            assert cell.strip(" -#*") in html.unescape(words), cell
    return text


def first_notebook(runs):
    """The claims of the first notebook, as the findings hold them against the runs."""
    return claims(written(runs), "first")


def verdicts_of(claims):
    """Each verdict by its claim and dataset."""
    return {(claim.claim, claim.shown.partition(",")[0]): claim.verdict for claim in claims}


def second_notebook(runs):
    return claims(written(runs), "second")


def claims(text, notebook):
    table = text.split(f"## What the {notebook} notebook concluded\n\n")[1].split("\n\n")[0]
    return [Claim(*map(str.strip, line.strip("| ").split(" | "))) for line in table.splitlines()[2:]]


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
    latex = tables.to_latex(shown, "A", note)
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


def draw(figure, runs, epochs):
    """Draw a figure, or that of a name."""
    figure = FIGURES[figure] if isinstance(figure, str) else figure
    study = study_of()
    settings = {
        "title": "Title",
        "band": "sd",
        "experiments": figure.experiments,
        "accuracy": {e: study["experiments"][e.removeprefix("my_")]["accuracy"] for e in figure.experiments},
        "looks": plan.looks(study),
    }
    return import_module(f"vitcnn.results.figures.{figure.kind}").draw(runs, epochs, settings)


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
    record = read_json(path) | {"accepted": [{"because": "a variable renamed", "before": {}}]}
    record.pop("digest")
    write_json(path, record | {"digest": digest(record)})
    runs, _ = collected(tmp_path, study)
    words = "runs stand although code or packages changed, accepted because: a variable renamed"
    assert f"1 of 18 {words}" in note_of(runs)
    assert words in written(runs)


def test_a_run_without_a_record_is_not_used(tmp_path):
    study = finished(tmp_path)
    run = plan.all_runs(study)[0]
    (tmp_path / run.folder / "provenance.json").unlink()
    with pytest.raises(StudyError, match=r"has no provenance\.json"):
        collect(study, tmp_path)


def test_a_listing_that_names_a_run_twice(tmp_path):
    study = finished(tmp_path)
    study["experiments"]["curves"]["seeds"] = [0, 0]
    with pytest.raises(StudyError, match=r"curves: cifar10/simple_vit/.* is listed twice"):
        collect(study, tmp_path)


@pytest.mark.parametrize("name", [*NOTEBOOKS, "comparison_curves"])
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_figures(name, seeds, tmp_path):
    runs, epochs = collected(tmp_path, finished(tmp_path, seeds))
    files = []
    for side in "ab":
        paths = [tmp_path / side / f"{name}.{kind}" for kind in ("svg", "png", "pdf")]
        style.save_figure(draw(name, runs, epochs), paths, dpi=50)
        files.append([path.read_bytes() for path in paths])
    assert files[0] == files[1]  # the same data, the same bytes
    figure = draw(name, runs, epochs)
    for axes in figure.axes:
        assert axes.get_ylabel()
        assert axes.get_xlabel() or axes.patches  # bars name their models instead


def test_training_curves_shows_the_runs(tmp_path):
    runs, epochs = collected(tmp_path, finished(tmp_path))
    loss, accuracy, speed = draw("training_curves", runs, epochs).axes
    assert len(loss.lines) == len(accuracy.lines) == 2
    assert loss.lines[0].get_ydata()[3] == pytest.approx(2.0 / 4)
    assert len(accuracy.collections) == 2  # a band for each model
    assert [bar.get_height() for bar in speed.patches] == pytest.approx([4.04, 1.01])


def test_data_efficiency_shows_the_runs(tmp_path):
    runs, epochs = collected(tmp_path, finished(tmp_path))
    (axes,) = draw("data_efficiency", runs, epochs).axes
    assert axes.get_xscale() == "log"
    assert axes.lines[0].get_xdata().tolist() == list(BY_SIZE)
    gaps = axes.lines[0].get_ydata() - axes.lines[1].get_ydata()
    assert gaps == pytest.approx(list(BY_SIZE.values()))


def test_looks_differ_in_grey():
    for first, second in ((a, b) for a in style.LOOKS for b in style.LOOKS if a is not b):
        assert first.line != second.line
        assert first.marker != second.marker
        assert first.hatch != second.hatch


def test_gaps_are_marked_in_figures(tmp_path):
    study = finished(tmp_path)
    for run in plan.experiment_runs(study, "curves"):
        (tmp_path / run.folder / "metrics.json").unlink()
    runs, epochs = collected(tmp_path, study, partial=True)
    for name in NOTEBOOKS:
        figure = draw(name, runs, epochs)
        assert ("PARTIAL: 6 of" in figure.get_suptitle()) == (name != "data_efficiency")
        style.save_figure(figure, [tmp_path / f"{name}.svg"], dpi=50)


def test_nothing_at_all_is_still_a_page(tmp_path):
    runs, epochs = collected(tmp_path, study_of(), partial=True)
    assert "No run is finished yet" in written(runs)
    assert (tables.for_people(tabulated(runs))["Accuracy (%)"] == "–").all()
    for name in NOTEBOOKS:
        style.save_figure(draw(name, runs, epochs), [tmp_path / f"{name}.svg"], dpi=50)


def test_findings_answer_from_the_data(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    text = written(runs)
    assert (
        "CIFAR-10, 50,000 images: best accuracy, SimpleViT − SimpleCNN: −5.00 points [−5.23, −4.77], n = 3\n"
        in text
    )
    few = "CIFAR-10, 1,000 images: best accuracy, SimpleViT − SimpleCNN: −20.00 points [−20.50, −19.50], n = 3\n"
    assert few in text
    ahead = (
        "CIFAR-10: the SimpleViT is level with or ahead of the SimpleCNN for the first time at 25,000 images"
    )
    assert f"{ahead} (tried: from 1,000 to 50,000 images)\n" in text
    assert "CIFAR-10, 50,000 images: training time, ViT ÷ CNN: 4.0 [3.9, 4.1], n = 3\n" in text
    verdicts = verdicts_of(first_notebook(runs))
    assert verdicts["The CNN is more accurate", "CIFAR-10"] == "borne out"
    assert verdicts["The CNN is more accurate", "CIFAR-100"] == "borne out"
    assert verdicts["The ViT is more accurate with many classes", "ImageNet-200"] == "borne out"
    assert verdicts["The CNN trains faster", "CIFAR-10"] == "borne out"
    assert verdicts["The CNN needs fewer parameters", "CIFAR-10"] == "borne out"
    assert verdicts["The times differ by less than a minute", "ImageNet-200"] == "borne out"
    by_claim = {claim: verdict for (claim, _), verdict in verdicts.items()}
    # 31 against 29 with 200 classes, but 36 against 42 with 100:
    assert by_claim["Where accuracy alone counts, the ViT is the superior choice"] == "not borne out"
    assert by_claim["Where resources are scarce, the CNN is the efficient choice"] == "undecided"
    assert by_claim["The CNN costs less computation"] == "cannot be told"
    assert by_claim["The difference in training time is less pronounced on large datasets"] == "undecided"
    verdicts = verdicts_of(second_notebook(runs))
    assert set(verdicts.values()) == {"borne out"}


def test_findings_name_test_images_that_are_training_images(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    words = "**9 test images of CIFAR-100 are training images too.**"
    sections = written(runs).split("\n## ")
    assert [words in section for section in sections[1:4]] == [True, False, False]
    runs["gap"] = np.where(runs["dataset"] == "cifar100", "missing", None)
    runs.loc[runs["gap"].notna(), "test_images_in_train"] = np.nan
    assert "training images too" not in written(runs)


def test_findings_name_the_recipes_of_models_that_have_their_own(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    assert "Recipes: " not in written(runs)
    own = runs.assign(recipe=runs["recipe"].where(runs["model"] != "cnn", "adamw10"))
    assert (
        "\n\nRecipes: ViT by adam10, CNN by adamw10. A difference of models whose recipes differ"
        in written(own)
    )
    several = pd.concat([own, own.assign(recipe="adamw20")])  # each pair is by one recipe
    assert "Recipes: " not in written(several)


def test_findings_say_how_many_seeds_each_model_has(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    assert "of the second over n seeds each, with" in written(runs)
    runs["gap"] = np.where((runs["model"] == "vit") & (runs["seed"] == 2), "missing", None)
    text = written(runs)
    assert "of the second over each one's seeds (2 to 3; n is that of the model with fewer), with" in text
    assert re.search(r"CIFAR-10, 50,000 images: final accuracy, ViT − CNN: .*, n = 2\n", text)
    runs["gap"] = np.where((runs["experiment"] == "comparison") & (runs["seed"] == 2), "missing", None)
    assert "of the second over n seeds each, with" in written(runs)  # n is beside each difference


def test_equal_updates_leave_the_data_alone(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    both, alone = "fewer images also mean fewer updates", "as many updates at every size"
    text = written(runs)
    assert both in text and alone not in text
    runs["epochs"] = np.nan
    text = written(runs)
    assert alone in text and both not in text


def test_findings_turn_round_with_the_data(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    swapped = runs.copy()
    for column in ("final", "best"):
        swapped[column] = 100 - swapped[column]
    verdicts = verdicts_of(first_notebook(swapped))
    assert verdicts["The CNN is more accurate", "CIFAR-10"] == "not borne out"
    assert "does not catch up" not in written(runs)
    never = runs.copy()
    is_vit, is_small = never["model"] == "simple_vit", never["train_images"] == 1000
    never.loc[is_vit, "best"] -= 50
    never.loc[is_vit & is_small, "best"] -= 0.1 * never["seed"]
    sentence = (
        "the SimpleViT does not catch up with the SimpleCNN from 1,000 to 50,000 images; the gap narrows"
    )
    assert f"{sentence} between the two ends: +23.10 points [+22.85, +23.35], n = 3\n" in written(never)


@pytest.mark.parametrize(
    ("few", "many", "said"),
    [
        (
            [-9, -8, -7],
            [-3, -1, -2],
            "; the gap narrows between the two ends: +6.00 points [+3.52, +8.48], n = 3",
        ),
        (
            [-3, -1, -2],
            [-9, -8, -7],
            "; the gap widens between the two ends: −6.00 points [−8.48, −3.52], n = 3",
        ),
        (
            [-9, -8, -7],
            [-2, -14, -4],
            "; this is by the means, undecided at 50,000 images; the change of the gap may be chance between the "
            "two ends: +1.33 points [−15.21, +17.87], n = 3",
        ),
        (
            [-9, -8, -7],
            [4, 1, -2],
            " for the first time at 50,000 images (tried: from 1,000 to 50,000 images); this is by the means, "
            "undecided at 50,000 images",
        ),
        ([-9], [-2], "; one seed: chance is unknown; too few seeds tell whether the gap narrows"),
        (
            [-9],
            [2],
            " for the first time at 50,000 images (tried: from 1,000 to 50,000 images); one seed: chance is unknown",
        ),
    ],
)
def test_whether_a_model_catches_up_is_said_with_its_chance(few, many, said, tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path, seeds=range(len(few))))
    ends = {"1000": few, "50000": many}
    rows = runs[(runs["experiment"] == "data_efficiency") & runs["train_size"].isin(ends)].copy()
    for size, gaps in ends.items():
        of_size = rows["train_size"] == size
        rows.loc[of_size & (rows["model"] == "simple_vit"), "best"] = 50.0 + np.array(gaps)
        rows.loc[of_size & (rows["model"] == "simple_cnn"), "best"] = 50.0
    (sweep,) = sweeps(pairs(measured(rows)))
    *_, sentence = findings.catching_up(sweep, "best")
    assert sentence.endswith(said)


def test_a_difference_within_chance_is_undecided(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    rows = (runs["dataset"] == "cifar10") & (runs["model"] == "cnn")
    runs.loc[rows, "final"] = [60.0, 62.0, 64.0]
    verdicts = verdicts_of(first_notebook(runs))
    assert verdicts["The CNN is more accurate", "CIFAR-10"] == "undecided"
    assert "chance alone could do that" in written(runs)


def test_times_on_different_hardware_are_not_compared(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    runs.loc[runs["model"] == "vit", "device"] = "A GPU"
    verdicts = verdicts_of(first_notebook(runs))
    assert verdicts["The CNN trains faster", "CIFAR-10"] == "cannot be told"
    assert "ran on different hardware" in written(runs)


def test_one_seed_decides_nothing(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path, seeds=[5]))
    for claim in (*first_notebook(runs), *second_notebook(runs)):
        if "peak memory" in claim.shown:
            assert claim.verdict == "undecided", claim  # the same in these runs
        elif "parameters" not in claim.claim and claim.verdict != "cannot be told":
            assert claim.verdict.endswith("in one seed; chance unknown"), claim


def test_a_claim_about_what_no_run_has_cannot_be_told(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    rows = runs[runs["experiment"] == "curves"].assign(selected=np.nan)
    stated = {
        "text": "x",
        "metric": "selected",
        "larger": "CNN",
        "scope": {},
        "primary": True,
        "together": False,
    }
    (claim,) = hold(stated, list(pairs(measured(rows))))
    assert claim.verdict == "cannot be told" and claim.p is None
    assert claim.shown.endswith(": these runs have no selected accuracy")
    rows.loc[rows["family"] == "ViT", "device"] = "A GPU"
    (claim,) = hold(stated | {"metric": "train_seconds"}, list(pairs(measured(rows))))
    assert claim.verdict == "cannot be told" and claim.p is None  # so it weighs on no other primary claim


def test_two_experiments_are_two_sweeps(tmp_path):
    """A claim about the smallest size is held against each of them."""
    runs, _ = collected(tmp_path, finished(tmp_path))
    rows = measured(runs[runs["experiment"] == "data_efficiency"])
    both = [*pairs(rows), *pairs(rows.assign(experiment="data_steps"))]
    found = sweeps(both)
    assert [[pair.of("experiment", 0) for pair in sweep] for sweep in found] == [
        ["data_efficiency"] * len(found[0]),
        ["data_steps"] * len(found[0]),
    ]


def test_one_seed_within_the_chance_of_its_images_is_ahead_and_bears_out_nothing(tmp_path):
    study = finished(tmp_path, seeds=[5])
    runs, _ = collected(tmp_path, study)
    rows = runs[runs["experiment"] == "curves"]
    rows = rows.assign(best=(rows["family"] == "ViT") + 50.0)
    (pair,) = pairs(measured(rows))
    pair = pair._replace(over_images={"best": Interval(-1, 3)})
    assert _winner(pair, "best").startswith("In one seed the SimpleViT; chance is unknown")
    for larger in ("ViT", "CNN"):
        assert judge({"larger": larger}, pair, "best") == "undecided"


def test_every_model_and_dataset_is_compared(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    third = runs[(runs["model"] == "cnn") & (runs["experiment"] == "comparison")].assign(
        model="wide", model_title="WideCNN", final=99.0
    )
    other = runs[runs["experiment"] == "data_efficiency"].assign(dataset="svhn", dataset_title="SVHN")
    strange = third.assign(model="mixer", model_title="Mixer", family="other")
    text = written(pd.concat([runs, third, other, strange]))
    assert "final accuracy, ViT − WideCNN: −37.00 points" in text
    assert "- SVHN, 1,000 images: best accuracy, SimpleViT − SimpleCNN: −20.00 points" in text
    assert "In no pair, and so not compared: Mixer" in text


def test_runs_without_a_pair_say_why_and_what_their_accuracy_is(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    alone = runs[runs["model"] == "vit"]
    text = written(alone)
    assert "no pair is asked for: experiments.comparison.pairs asks for one, or the family" in text
    assert "- CIFAR-10, 50,000 images, by final accuracy: ViT 62.00\n" in text
    assert "models to compare are finished" not in text and "In no pair" not in text
    both = written(runs.assign(family="CNN"))
    assert "no pair is asked for: experiments.comparison.pairs" in both
    assert (
        "- CIFAR-10, 50,000 images, by final accuracy: CNN 80.00, ViT 62.00; told apart by seeds alone: CNN and ViT\n"
        in both
    )
    runs["gap"] = runs["model"].map({"cnn": "missing"})
    text = written(runs).partition("\n## ")[2].partition("\n## ")[0]
    assert "No two models to compare are finished" in text and "no pair is asked for" not in text


def test_pairs_of_the_configuration_are_compared(tmp_path):
    study = finished(tmp_path)
    runs, _ = collected(tmp_path, study)
    study["experiments"]["curves"]["pairs"] = [["simple_cnn", "simple_vit"]]
    text = written(runs, study)
    assert "best accuracy, SimpleCNN − SimpleViT: +5.00 points" in text
    assert "CIFAR-10, 50,000 images: final accuracy, ViT − CNN: −18.00 points" in text


def test_three_models_are_ranked(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    cnn = runs[(runs["model"] == "cnn") & (runs["dataset"] == "cifar10")]
    assert "by final accuracy" not in written(runs)
    noise = [-1.0, 0.0, 1.0]
    third = cnn.assign(model="mixer", model_title="Mixer", family="other", final=80.5 + np.array(noise))
    ranked = "- CIFAR-10, 50,000 images, by final accuracy: Mixer 80.50, CNN 80.00, ViT 62.00; chance alone could swap Mixer and CNN\n"
    assert ranked in written(pd.concat([runs, third]))


@pytest.mark.parametrize(("width", "doubt"), [(0.3, ""), (0.9, "; chance alone could swap CNN and ViT")])
def test_a_ranking_doubts_what_the_pair_doubts(width, doubt, tmp_path):
    """On a subset, where seeds are paired: both models rise and fall together; images may say otherwise."""
    runs, _ = collected(tmp_path, finished(tmp_path))
    cnn = runs[(runs["model"] == "cnn") & (runs["dataset"] == "cifar10")].assign(train_size="1000")
    rises = np.array([-3.0, 0.0, 3.0])
    names = {"ViT": 0.5 + 0.01 * rises, "CNN": 0.0, "Mixer": 20.0}
    models = [
        cnn.assign(model=name.lower(), model_title=name, family=name, final=60 - less + rises)
        for name, less in names.items()
    ]
    runs = measured(pd.concat(models))
    (pair,) = pairs(runs)
    intervals = {pair.key: {"final": Interval(-0.5 - width, -0.5 + width)}}
    asked = {"comparison": {"title": "T", "accuracy": "final", "pairs": None}}
    _, section = findings.findings(runs, asked, over_images={"comparison": intervals})
    (ranking,) = (line for line in section.items if "by final accuracy" in line)
    asked_of_nobody = "; told apart by seeds alone: ViT and Mixer"
    assert ranking.endswith(f"CNN 60.00, ViT 59.50, Mixer 40.00{doubt}{asked_of_nobody}")


def test_a_renamed_experiment_gives_the_same_under_its_new_name(tmp_path):
    study = finished(tmp_path)
    runs, epochs = collected(tmp_path, study)
    renamed = copy.deepcopy(study)
    renamed["experiments"] = {f"my_{name}": asked for name, asked in study["experiments"].items()}
    renamed["claims"] = {
        name: group | {"experiments": [f"my_{experiment}" for experiment in group["experiments"]]}
        for name, group in study["claims"].items()
    }
    renamed["report"] |= {
        "titles": {f"my_{n}": t for n, t in study["report"]["titles"].items()},
        "figures": {},
    }
    ours, our_epochs = collected(tmp_path, renamed)
    assert tabulated(ours, "my_comparison").equals(tabulated(runs, "comparison"))
    assert written(ours, renamed) == written(runs, study)
    figures = plan.figures(renamed)
    assert sorted(figures) == [
        "my_comparison_curves",
        "my_curves_curves",
        "my_data_efficiency_curves",
        "my_data_efficiency_data_efficiency",
    ]
    for name, other in (
        ("my_curves_curves", "training_curves"),
        ("my_data_efficiency_data_efficiency", "data_efficiency"),
    ):
        pictures = []
        for figure, *tables_ in ((figures[name], ours, our_epochs), (FIGURES[other], runs, epochs)):
            path = tmp_path / f"{len(pictures)}.svg"
            style.save_figure(draw(figure, *tables_), [path], dpi=50)
            pictures.append(path.read_bytes())
        assert pictures[0] == pictures[1]


def test_a_model_looks_the_same_in_all_figures(tmp_path):
    runs, epochs = collected(tmp_path, finished(tmp_path))
    looks = plan.looks(study_of())
    assert looks == {"vit": 0, "cnn": 1, "simple_vit": 2, "simple_cnn": 3}
    for name in NOTEBOOKS:
        colours = {
            line.get_label(): line.get_color()
            for axes in draw(name, runs, epochs).axes
            for line in axes.lines
        }
        assert colours["SimpleViT"] == style.LOOKS[2].colour
        assert colours["SimpleCNN"] == style.LOOKS[3].colour


def test_curves_of_several_datasets_have_a_row_each(tmp_path):
    runs, epochs = collected(tmp_path, finished(tmp_path))
    axes = draw("comparison_curves", runs, epochs).axes
    assert [panel.get_title() for panel in axes[::3]] == [
        f"Training loss, {dataset}" for dataset in ("CIFAR-10", "CIFAR-100", "ImageNet-200")
    ]
    assert axes[1].lines[0].get_ydata()[-1] == pytest.approx(62.0)


def test_curves_of_several_sizes_are_those_of_the_largest(tmp_path):
    runs, epochs = collected(tmp_path, finished(tmp_path))
    figure = draw("data_efficiency_curves", runs, epochs)
    assert [bar.get_height() for bar in figure.axes[2].patches] == pytest.approx([4.04, 1.01])
    assert figure._supxlabel.get_text().startswith("CIFAR-10; 50,000 training images; mean over 3 seeds")
    runs["train_size"] = runs["train_size"].replace("50000", "all")
    figure = draw("data_efficiency_curves", runs, epochs)
    assert figure._supxlabel.get_text().startswith("CIFAR-10; all training images; mean")
    figure = draw("training_curves", runs, epochs)
    assert figure._supxlabel.get_text().startswith("CIFAR-10; mean over 3 seeds")


@pytest.mark.parametrize(
    ("counts_updates", "step", "seconds"),
    [
        ([], "Epoch", "Seconds per epoch"),
        (["simple_vit"], "Epoch or evaluation", "Seconds per epoch, or between evaluations"),
        (["simple_vit", "simple_cnn"], "Evaluation", "Seconds between evaluations"),
    ],
)
def test_a_recipe_that_counts_updates_has_evaluations(counts_updates, step, seconds, tmp_path):
    runs, epochs = collected(tmp_path, finished(tmp_path, seeds=[0]))
    runs.loc[runs["model"].isin(counts_updates), "epochs"] = np.nan
    loss, accuracy, speed = draw("training_curves", runs, epochs).axes
    assert (loss.get_xlabel(), accuracy.get_xlabel(), speed.get_ylabel()) == (step, step, seconds)
    assert draw("summary", runs, epochs).axes[2].get_ylabel() == seconds
    gone = runs["model"] == "simple_cnn"  # which says nothing of its recipe
    runs = runs.assign(gap=gone.map({True: "gone", False: None}), epochs=runs["epochs"].mask(gone))
    left = "Evaluation" if counts_updates else "Epoch"
    assert draw("training_curves", runs, epochs).axes[0].get_xlabel() == left


def test_curves_of_other_sizes_do_not_stand_for_runs_that_are_missing(tmp_path):
    runs, epochs = collected(tmp_path, finished(tmp_path))
    loss = draw("data_efficiency_curves", runs, epochs[epochs["train_size"] == "1000"]).axes[0]
    assert not loss.lines and [text.get_text() for text in loss.texts] == ["no runs yet"]


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


def held(runs, **stated):
    """The verdicts on a claim about the comparison."""
    study = study_of()
    group = {"title": "Mine", "experiments": ["comparison"], "claims": [{"text": "So it is"} | stated]}
    study["claims"] = check_config(RAW | {"claims": {"mine": group}})["claims"]
    rows = [line for line in written(runs, study).splitlines() if line.startswith("| So it")]
    return [row.strip("| ").rsplit("|")[-1].strip() for row in rows]


def test_a_claim_of_ones_own(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    yes, no, untold = "borne out", "not borne out", "cannot be told"
    assert held(runs, metric="final", larger="cnn") == [yes, yes, no]
    assert held(runs, metric="final", larger="ViT") == [no, no, yes]
    assert held(runs, metric="final", larger="other") == [untold]
    assert held(runs, metric="final", larger="CNN", scope={"datasets": ["cifar100"]}) == [yes]
    assert held(runs, metric="final", larger="CNN", scope={"over_classes": 99, "up_to_classes": 100}) == [yes]
    assert held(runs, metric="final", larger="CNN", scope={"train_size": "largest"}) == [untold]
    assert held(runs, metric="final", larger="CNN", together=True) == [no]
    assert held(runs, metric="final", within=7) == [no, yes, yes]
    assert held(runs, metric="final", larger="CNN", pairs=[["cnn", "vit"]]) == [yes, yes, no]
    assert held(runs, metric="final", larger="CNN", pairs=[["cnn", "simple_vit"]]) == [untold]
    assert held(runs, metric="final", closer={"datasets": ["cifar10"]}) == [no]
    assert held(runs, metric="final", closer={"up_to_classes": 999}) == [
        untold
    ]  # no others to be closer than
    assert held(runs, untold="nobody measured it") == [untold]


def test_a_claim_that_no_pair_bears_on_is_said_to_be_one(tmp_path):
    """As of a study that left out datasets, or models, and kept the claims about them."""
    runs, _ = collected(tmp_path, finished(tmp_path))
    few = {claim.claim: claim for claim in first_notebook(runs[runs["num_classes"] <= 100])}
    many = few["The ViT is more accurate with many classes"]
    assert many[1:3] == ("these runs compare no pair that this is about", "cannot be told")
    closer = few["The difference in training time is less pronounced on large datasets"]
    assert closer[1:3] == ("these runs have not both kinds of datasets", "cannot be told")
    alone = first_notebook(runs[runs["model"] == "vit"])
    stated = study_of()["claims"]["first_notebook"]["claims"]
    assert [claim.claim for claim in alone] == [one["text"] for one in stated]
    assert {claim.verdict for claim in alone} == {"cannot be told"}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-5, 5, "borne out"), (-70, 70, "undecided"), (61, 70, "not borne out"), (-70, -61, "not borne out")],
)
def test_within_a_minute(low, high, verdict):
    class Measured:
        def difference(self, metric):
            return Difference((low + high) / 2, low, high, 5)

    assert judge({"within": 60}, Measured(), "train_seconds") == verdict


def test_the_metrics_of_claims_are_those_that_are_measured():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    assert schema["$defs"]["metric"]["enum"] == list(MEASURES)


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


def answers_to_questions(runs, study, steps=None):
    experiments = asked_of(study)
    if steps is not None:
        runs = pd.concat([runs, steps.assign(experiment="data_steps")])
        experiments["data_steps"] = experiments["data_efficiency"]
    return list(questions(runs, experiments, {}, [], "data_efficiency", "data_steps"))


def test_the_second_notebooks_questions_are_answered(tmp_path):
    study = finished(tmp_path)
    runs, _ = collected(tmp_path, study)
    few = runs.query("experiment == 'data_efficiency' and train_size == '1000'")
    steps = few.assign(best=few["best"] + 12.0 * (few["model"] == "simple_vit"))
    (section,) = answers_to_questions(runs, study, steps)
    assert section.title == "The second notebook's questions: SimpleViT and SimpleCNN, CIFAR-10"
    won, won_small, caught_up, why, takeaway = section.items
    assert "all the data, here 50,000 images? The SimpleViT (best accuracy" in won
    assert (
        "with 1,000 images? The SimpleCNN (best accuracy, SimpleViT − SimpleCNN: −20.00 points" in won_small
    )
    assert "for the first time at 25,000 images" in caught_up
    assert "at equal updates less at equal epochs, best accuracy: −8.00 less −20.00: +12.00 points" in why
    assert (
        "Of 5 training-set sizes, the SimpleViT is more accurate at 2, the SimpleCNN is more accurate at 3"
        in takeaway
    )
    assert "training time, SimpleViT ÷ SimpleCNN: 4.0" in takeaway


def test_questions_without_what_would_answer_them(tmp_path):
    study = finished(tmp_path, seeds=(0,))
    runs, _ = collected(tmp_path, study)
    (section,) = answers_to_questions(runs, study)
    assert "with 1,000 images? In one seed the SimpleCNN; chance is unknown" in section.items[1]
    assert section.items[3].endswith("nothing that bears on it was measured.")
    assert "(one seed: chance is unknown)" in section.items[4]
    assert not answers_to_questions(runs.assign(generated=True), study)
    assert not list(questions(runs, asked_of(study), {}, [], None, None))
