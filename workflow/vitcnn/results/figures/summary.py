"""The second notebook's closing picture: size, accuracy, speed and data efficiency in one."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from vitcnn.results.figures import panels, style


def draw(runs: pd.DataFrame, epochs: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Return the figure of two experiments, two rows for each dataset of the first.

    The first gives size, accuracy and speed at its largest training size, the second the data efficiency.
    """
    whole, sizes = settings["experiments"]
    asked = runs[runs["experiment"].isin([whole, sizes])].assign(millions=runs["num_parameters"] / 1e6)
    largest = panels.largest_size(asked[asked["experiment"] == whole])
    trained = panels.of_sizes(epochs[epochs["experiment"] == whole], largest)
    datasets, trained_on = panels.by_dataset(largest), panels.by_dataset(trained, largest)
    by_size = panels.by_dataset(asked[asked["experiment"] == sizes])
    figure, axes = style.new_figure(2 * len(datasets), 2, (12, 9 * len(datasets)), settings["title"], asked)
    for row, (dataset, rows) in enumerate(datasets.items()):
        (size, best), (speed, efficiency) = axes[2 * row : 2 * row + 2]
        where = f", {panels.title(dataset, rows)}" if len(datasets) > 1 else ""
        panels.bars(size, rows, "millions", settings, "{:.2f} M")
        size.set_title("Model size" + where)
        size.set_ylabel("Parameters (millions)")
        accuracy = settings["accuracy"][whole]
        panels.bars(best, rows, accuracy, settings, "{:.1f} %")
        best.set_title("Accuracy" + where)
        best.set_ylabel(panels.accuracy_label(accuracy))
        panels.epoch_seconds(speed, trained_on.get(dataset, trained[:0]), rows, settings)
        speed.set_title("Training speed" + where)
        of_sizes = by_size.get(dataset, by_size.get(dataset[:1]))
        if of_sizes is None:  # the second experiment has other datasets
            efficiency.set_visible(False)
            continue
        panels.data_efficiency(efficiency, of_sizes, settings["accuracy"][sizes], settings)
        efficiency.set_title("Data efficiency" + where)
    style.caption(figure, asked, settings)
    return figure
