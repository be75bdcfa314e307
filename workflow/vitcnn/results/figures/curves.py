"""Models side by side: loss and test accuracy by epoch or evaluation, and the seconds of one."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitcnn.plan import ALL
from vitcnn.results.figures import panels, style


def draw(runs: pd.DataFrame, epochs: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Return the figure of one experiment, a row for each dataset, at the largest training size."""
    (experiment,) = settings["experiments"]
    of_all_sizes = runs[runs["experiment"] == experiment]
    asked = panels.largest_size(of_all_sizes)
    datasets = panels.by_dataset(asked)
    figure, axes = style.new_figure(len(datasets), 3, (15, 4.6 * len(datasets)), settings["title"], asked)
    shown = panels.of_sizes(epochs[epochs["experiment"] == experiment], asked)
    trained_on = panels.by_dataset(shown, asked)
    for (loss, accuracy, speed), (dataset, rows) in zip(axes, datasets.items(), strict=True):
        trained = trained_on.get(dataset, shown[:0])
        where = f", {panels.title(dataset, rows)}" if len(datasets) > 1 else ""
        for panel, column, title, label in (
            (loss, "train_loss", "Training loss", "Training loss (nats)"),
            (accuracy, "test_accuracy", "Test accuracy", "Test accuracy (%)"),
        ):
            panels.lines(panel, trained, "epoch", column, settings, marks=False)
            panel.set_title(title + where)
            panel.set_xlabel(panels.step(rows))
            panel.set_ylabel(label)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            style.legend(panel)
        panels.epoch_seconds(speed, trained, rows, settings)
        speed.set_title("Training speed" + where)
    size = str(asked["train_size"].iloc[0])
    images = f"{size if size == ALL else f'{int(size):,}'} training images"
    style.caption(figure, asked, settings, images if of_all_sizes["train_size"].nunique() > 1 else "")
    return figure
