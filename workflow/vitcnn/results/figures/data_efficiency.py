"""Accuracy against the size of the training set, after the second notebook."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from vitcnn.results.figures import panels, style


def draw(runs: pd.DataFrame, epochs: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Return the figure of the experiment `data_efficiency`."""
    asked = runs[runs["experiment"] == "data_efficiency"]
    figure, axes = style.new_figure(1, 1, (8, 5.4), settings["title"], asked)
    panels.data_efficiency(axes[0][0], runs, settings)
    style.caption(figure, asked, settings)
    return figure
