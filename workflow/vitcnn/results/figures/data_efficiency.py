"""Accuracy against the size of the training set, after the second notebook."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from vitcnn.results.figures import panels, style


def draw(runs: pd.DataFrame, epochs: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Return the figure of one experiment, a panel for each dataset."""
    (experiment,) = settings["experiments"]
    asked = runs[runs["experiment"] == experiment]
    datasets = panels.by_dataset(asked)
    figure, axes = style.new_figure(1, len(datasets), (8 * len(datasets), 5.4), settings["title"], asked)
    for panel, (dataset, rows) in zip(axes[0], datasets.items(), strict=True):
        panels.data_efficiency(panel, rows, settings["accuracy"][experiment], settings)
        if len(datasets) > 1:
            panel.set_title(panels.title(dataset, rows))
    style.caption(figure, asked, settings)
    return figure
