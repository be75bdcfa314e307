"""The second notebook's closing picture: size, accuracy, speed and data efficiency in one."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from vitcnn.results.figures import panels, style


def draw(runs: pd.DataFrame, epochs: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Return the figure of the experiments `curves` and `data_efficiency`."""
    asked = runs[runs["experiment"].isin(["curves", "data_efficiency"])]
    figure, axes = style.new_figure(2, 2, (12, 9), settings["title"], asked)
    (size, best), (speed, efficiency) = axes
    millions = runs.assign(millions=runs["num_parameters"] / 1e6)
    panels.bars(size, millions, "curves", "millions", settings, "{:.2f} M")
    size.set_title("Model size")
    size.set_ylabel("Parameters (millions)")
    panels.bars(best, runs, "curves", "best", settings, "{:.1f} %")
    best.set_title("Best accuracy, all training images")
    best.set_ylabel("Test accuracy, best epoch (%)")
    panels.epoch_seconds(speed, epochs, settings)
    speed.set_title("Training speed")
    panels.data_efficiency(efficiency, runs, settings)
    efficiency.set_title("Data efficiency")
    style.caption(figure, asked, settings)
    return figure
