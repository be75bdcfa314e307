"""Panels that figures are put together from. Each shows rows of one experiment on one dataset."""

from collections.abc import Mapping
from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from vitcnn.results.collect import places
from vitcnn.results.figures import style
from vitcnn.results.statistics import half_width


def by_dataset(rows: pd.DataFrame, asked: pd.DataFrame | None = None) -> dict[tuple[str, ...], pd.DataFrame]:
    """Return the rows of each dataset, by its name, in the order of `rows`; of each recipe, where models have several.

    Whether they have says `asked`, if `rows` are of those runs that are finished.
    """
    keys = [column for column in places(rows if asked is None else asked) if column != "train_size"]
    return dict(iter(rows.groupby(keys, sort=False)))


def title(where: tuple[str, ...], rows: pd.DataFrame) -> str:
    """Return what a panel of such rows is called: the dataset's title, and the recipe where models have several."""
    return ", ".join([rows["dataset_title"].iloc[0], *where[1:]])


def largest_size(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the largest `train_size` among them; "all" is the largest there is."""
    sizes = rows["train_size"].astype(str)
    order = sizes.map(lambda size: float("inf") if size == "all" else int(size))
    return rows[order == order.max()]


def of_sizes(rows: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of those training sizes that `asked` has."""
    return rows[rows["train_size"].astype(str).isin(asked["train_size"].astype(str))]


def lines(axes: Axes, rows: pd.DataFrame, x: str, y: str, settings: Mapping[str, Any], marks: bool) -> None:
    """Draw the mean of `y` over seeds against `x`, one line a model, with its band."""
    for title, look, group in style.series(rows, settings["looks"]):
        by_x = group.dropna(subset=[y]).groupby(x)[y]
        if not by_x.ngroups:
            continue
        mean = by_x.mean()
        half = by_x.apply(lambda values: half_width(values, settings["band"]))
        marker = look.marker if marks or len(mean) == 1 else None
        axes.plot(mean.index, mean, color=look.colour, linestyle=look.line, marker=marker, label=title)
        if half.any():
            axes.fill_between(
                mean.index, mean - half, mean + half, color=look.colour, alpha=0.25, linewidth=0
            )


def bars(axes: Axes, rows: pd.DataFrame, y: str, settings: Mapping[str, Any], form: str) -> None:
    """Draw the mean of `y` over seeds as a bar a model, its spread as a whisker, its value above it."""
    for place, (name, look, group) in enumerate(style.series(rows, settings["looks"])):
        title = fill(name, 16)
        values = group[y].dropna()
        if values.empty:
            axes.bar(title, 0)
            axes.annotate("missing", (place, 0), ha="center", va="bottom", color="#B00020")
            continue
        half = half_width(values, settings["band"])
        axes.bar(
            title,
            values.mean(),
            yerr=half or None,
            capsize=5,
            color=look.colour,
            hatch=look.hatch,
            edgecolor="black",
            width=0.6,
        )
        text = form.format(values.mean())
        axes.annotate(
            text, (place, values.mean() + half), xytext=(0, 3), textcoords="offset points", ha="center"
        )
    axes.margins(y=0.15)
    axes.grid(False, axis="x")


def data_efficiency(axes: Axes, rows: pd.DataFrame, accuracy: str, settings: Mapping[str, Any]) -> None:
    """Draw an accuracy on the test images against the number of training images, on a logarithmic axis."""
    lines(axes, rows, "train_images", accuracy, settings, marks=True)
    axes.set_xscale("log")
    sizes = sorted(rows["train_images"].dropna().unique())
    axes.set_xticks(sizes, [f"{int(size):,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("Training images")
    axes.set_ylabel(accuracy_label(accuracy))
    style.legend(axes)


def accuracy_label(accuracy: str) -> str:
    """Return the label of an axis for the accuracy `final`, `best` or `selected`."""
    return f"Test accuracy, {epoch_of(accuracy)} (%)"


def epoch_of(accuracy: str) -> str:
    """Return after which epoch the accuracy `final`, `best` or `selected` is, in words."""
    return f"{'last' if accuracy == 'final' else accuracy} epoch"


_STEPS = {
    "Epoch": "Seconds per epoch",
    "Evaluation": "Seconds between evaluations",
    "Epoch or evaluation": "Seconds per epoch, or between evaluations",
}


def step(runs: pd.DataFrame) -> str:
    """Return what a step of the runs' histories is: an epoch, or an evaluation where their recipes count updates."""
    counts_updates = runs.loc[runs["gap"].isna(), "epochs"].isna()
    if not counts_updates.any():
        return "Epoch"
    return "Evaluation" if counts_updates.all() else "Epoch or evaluation"


def epoch_seconds(axes: Axes, epochs: pd.DataFrame, runs: pd.DataFrame, settings: Mapping[str, Any]) -> None:
    """Draw the seconds of training that each step of the histories of these runs takes, without evaluation."""
    by_run = epochs.groupby(["model", "model_title", "seed"], sort=False, as_index=False)
    bars(axes, by_run["seconds"].mean(), "seconds", settings, "{:.3g} s")
    axes.set_ylabel(_STEPS[step(runs)])
