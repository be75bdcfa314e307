"""What the figures of probed models share: a look for each model, lines over seeds, and the words below."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitcnn.results.figures.style import LOOKS, Look, seeds_in_words
from vitcnn.results.probed import Model
from vitcnn.results.statistics import half_width

GREY = "#666666"
MAP_COLOURS = "cividis"  # even steps of lightness: the same picture in grey


def looks(models: Sequence[Model], settings: Mapping[str, Any]) -> dict[str, Look]:
    """Return the look of each model, by title: the one it has in all figures."""
    return {model.title: LOOKS[settings["looks"][model.title] % len(LOOKS)] for model in models}


def line(
    axes: Axes,
    x: Sequence[float],
    values: np.ndarray,
    look: Look,
    settings: Mapping[str, Any],
    **changes: Any,
) -> None:
    """Draw the mean over seeds of `values` `(seeds, len(x))`, with its band unless the line is a thin one."""
    how = {"color": look.colour, "linestyle": look.line, "marker": look.marker} | changes
    mean = values.mean(0)
    axes.plot(x, mean, **how)
    half = np.array([half_width(column, settings["band"]) for column in values.T])
    if half.any() and "alpha" not in changes:
        axes.fill_between(x, mean - half, mean + half, color=look.colour, alpha=0.2, linewidth=0)


def figure_of(settings: Mapping[str, Any], size: tuple[float, float]) -> Figure:
    """Return an empty figure with its title."""
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(settings["title"], fontsize=14, fontweight="bold")
    return figure


def caption(figure: Figure, models: Sequence[Model], settings: Mapping[str, Any], words: str = "") -> None:
    """Write under the figure which data it shows, over how many seeds, and what its bands are."""
    spread = seeds_in_words((len(model.probes) for model in models), settings)
    figure.supxlabel("; ".join(filter(None, [settings["dataset_title"], spread, words])), fontsize=10)


def empty(axes: Axes, words: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set_axis_off()
