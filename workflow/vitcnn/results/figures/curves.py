"""Models side by side: loss and test accuracy by epoch, and the seconds of an epoch."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitcnn.results.figures import panels, style


def draw(runs: pd.DataFrame, epochs: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Return the figure of one experiment, a row for each dataset, at the largest training size."""
    (experiment,) = settings["experiments"]
    asked = panels.largest_size(runs[runs["experiment"] == experiment])
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
            panel.set_xlabel("Epoch")
            panel.set_ylabel(label)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            style.legend(panel)
        panels.epoch_seconds(speed, trained, settings)
        speed.set_title("Training speed" + where)
    style.caption(figure, asked, settings)
    return figure
