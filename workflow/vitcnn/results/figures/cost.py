"""Accuracy against what it costs: parameters, FLOPs of an image, seconds of training."""

from collections.abc import Mapping
from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from vitcnn.results.figures import panels, style
from vitcnn.results.statistics import half_width

_COSTS = {
    "parameters": "Parameters",
    "flops": "FLOPs of a forward pass, one image",
    "train_seconds": "Seconds of training\n(runs may have shared the machine)",
}
_FILLS = ("full", "none", "top", "left", "bottom", "right")  # an experiment each, so that all is seen in grey


def draw(costs: pd.DataFrame, runs: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Return the figure, a row of panels for each dataset, from the tables of tabulate_cost and collect_runs.

    Each experiment of the settings shows its models at its largest training size, by the accuracy that it quotes.
    """
    shown = []
    for name in settings["experiments"]:
        rows = panels.largest_size(runs[runs["experiment"] == name])
        shown.append(rows.assign(accuracy=rows[settings["accuracy"][name]]))
    rows = pd.concat(shown).merge(costs[["dataset", "model", "parameters", "flops"]], on=["dataset", "model"])
    # Not panels.by_dataset(): a model may have a recipe in each experiment.
    datasets = [group for _, group in rows.groupby("dataset", sort=False)]
    quoted = {settings["accuracy"][name] for name in settings["experiments"]}
    accuracy = (
        panels.accuracy_label(quoted.pop()) if len(quoted) == 1 else "Test accuracy (%), epoch: see legend"
    )
    figure, axes = style.new_figure(len(datasets), 3, (15, 4.4 * len(datasets)), settings["title"], rows)
    for row in axes[1:]:
        for panel, first in zip(row, axes[0], strict=True):
            panel.sharex(first)  # a cost is a cost, on whichever images
    for row, of_dataset in zip(axes, datasets, strict=True):
        for panel, (cost, label) in zip(row, _COSTS.items(), strict=True):
            _points(panel, of_dataset, cost, settings)
            panel.set_xlabel(label)
        where = f"{of_dataset['dataset_title'].iloc[0]}\n" if len(datasets) > 1 else ""
        row[0].set_ylabel(where + accuracy)
    for panel in axes.flat:
        low, high = panel.get_xlim()
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if high < 10 * low else (1, 3)))
    figure.legend(handles=_legend(rows, settings), loc="outside right upper", fontsize=10)
    style.caption(figure, rows, settings)
    return figure


def _points(panel: Any, rows: pd.DataFrame, cost: str, settings: Mapping[str, Any]) -> None:
    """Draw a marker for each model and recipe of each experiment, with its spread over seeds."""
    for name, how in zip(settings["experiments"], _fills(settings), strict=True):
        for _, look, trained in style.series(rows[rows["experiment"] == name], settings["looks"]):
            for number, (recipe, group) in enumerate(trained.groupby("recipe", sort=False)):
                if trained["recipe"].nunique() > 1:
                    place = (group[cost].mean(), group["accuracy"].mean())
                    panel.annotate(
                        recipe, place, (8, 4 - 12 * number), textcoords="offset points", fontsize=8
                    )
                panel.errorbar(
                    group[cost].mean(),
                    group["accuracy"].mean(),
                    yerr=half_width(group["accuracy"], settings["band"]) or None,
                    color=look.colour,
                    marker=look.marker,
                    markersize=10,
                    fillstyle=how,
                    capsize=4,
                    linewidth=1.5,
                )
    panel.set_xscale("log")
    panel.margins(0.1)
    panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _fills(settings: Mapping[str, Any]) -> list[str]:
    return [_FILLS[place % len(_FILLS)] for place in range(len(settings["experiments"]))]


def _legend(rows: pd.DataFrame, settings: Mapping[str, Any]) -> list[Line2D]:
    """Return the entries of the legend: the models, and, where there are several, the experiments."""

    def entry(label: str, look: style.Look, how: str) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="",
            color=look.colour,
            marker=look.marker,
            fillstyle=how,
            markersize=9,
            label=label,
        )

    models = [entry(title, look, "full") for title, look, _ in style.series(rows, settings["looks"])]
    grey = style.Look("#666666", "", "o", "")
    experiments = [
        entry(fill(f"{title}, {panels.epoch_of(settings['accuracy'][name])}", 26), grey, how)
        for (name, title), how in zip(settings["experiments"].items(), _fills(settings), strict=True)
    ]
    return [*models, *(experiments if len(experiments) > 1 else [])]
