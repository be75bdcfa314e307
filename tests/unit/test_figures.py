"""Figures of runs that are written by hand."""

import numpy as np
import pytest
from made_up import BY_SIZE, NOTEBOOKS, collected, draw, finished, study_of, tabulated, written

from vitcnn import plan
from vitcnn.results import tables
from vitcnn.results.figures import style


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


def test_a_caption_counts_the_seeds_of_each_mean(tmp_path):
    runs, epochs = collected(tmp_path, finished(tmp_path))
    is_curves = runs["experiment"] == "curves"
    few = runs[~is_curves | (runs["seed"] == 0)]
    caption = draw("summary", few, epochs)._supxlabel.get_text()
    assert "mean over 1 or 3 seeds, ± standard deviation" in caption
    missing = runs.assign(gap=runs["gap"].mask(runs["seed"] > 0, "is not there"))
    assert draw("training_curves", missing, epochs)._supxlabel.get_text() == "CIFAR-10; one seed"


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
