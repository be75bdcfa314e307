"""The two models of the second notebook side by side: loss, test accuracy, seconds per epoch."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitcnn.results.figures import panels, style


def draw(runs: pd.DataFrame, epochs: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Return the figure of the experiment `curves`."""
    asked = runs[runs["experiment"] == "curves"]
    figure, axes = style.new_figure(1, 3, (15, 4.6), settings["title"], asked)
    loss, accuracy, speed = axes[0]
    for panel, column, label in (
        (loss, "train_loss", "Training loss (nats)"),
        (accuracy, "test_accuracy", "Test accuracy (%)"),
    ):
        panels.lines(panel, epochs, "curves", "epoch", column, settings, marks=False)
        panel.set_xlabel("Epoch")
        panel.set_ylabel(label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.legend(panel)
    loss.set_title("Training loss")
    accuracy.set_title("Test accuracy")
    panels.epoch_seconds(speed, epochs, settings)
    speed.set_title("Training speed")
    style.caption(figure, asked, settings)
    return figure
