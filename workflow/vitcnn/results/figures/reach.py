"""How far each layer looks: attention distances by head, and effective receptive fields by layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitcnn.results.figures import probes
from vitcnn.results.figures.style import Look
from vitcnn.results.probed import Model

_UNTRAINED = {"alpha": 0.6, "linewidth": 1, "fillstyle": "none"}  # a thin line of the model's own colour


def draw(models: Sequence[Model], settings: Mapping[str, Any]) -> Figure:
    """Return the figure: above what attention says, below what gradients say."""
    figure = probes.figure_of(settings, (13, 8.6))
    look = probes.looks(models, settings)
    attending = [model for model in models if model.has("attention_distance")]
    upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.05])
    if attending:
        axes = upper.subplots(1, len(attending) + 1)
        for panel, model in zip(axes, attending, strict=False):
            _distances(panel, model, look[model.title])
        top = max(panel.get_ylim()[1] for panel in axes[:-1])
        for panel in axes[:-1]:
            panel.set_ylim(0, top)
        axes[0].set_ylabel("Mean attention distance (pixels)")
        _shares(axes[-1], attending, look, settings)
    else:
        probes.empty(upper.subplots(), "no model here gives attention weights")
    left, right = lower.subfigures(1, 2, width_ratios=[1, 1.25])
    _reaches(left.subplots(), models, look, settings)
    _fields(right, models)
    probes.caption(figure, models, settings)
    return figure


def _distances(axes: Axes, model: Model, look: Look) -> None:
    """Draw a point a head and seed; the last block's patches are grey, since no one reads them."""
    distances = model.over_seeds("attention_distance")
    _, _, depth, heads = distances.shape
    blocks = np.arange(1, depth + 1)
    for which, offset, how in (
        (0, -0.14, {"color": look.colour, "marker": look.marker, "label": "trained"}),
        (1, 0.14, {"facecolors": "none", "edgecolors": "black", "marker": look.marker, "label": "untrained"}),
    ):
        spread = np.linspace(-0.09, 0.09, heads)
        x = blocks[None, :, None] + offset + spread[None, None, :]
        y = distances[:, which]
        axes.scatter(np.broadcast_to(x, y.shape).ravel(), y.ravel(), s=26, linewidths=0.7, alpha=0.8, **how)
    uniform = float(model.over_seeds("uniform_distance")[0])
    words = f"the same for all patches: {uniform:.1f} px"
    axes.axhline(uniform, color="black", linewidth=1, linestyle="--", label=words)
    axes.axvspan(depth - 0.5, depth + 0.5, color="#eeeeee", zorder=0)
    axes.set_xlim(0.5, depth + 0.5)
    axes.set_xticks(blocks)
    axes.set_xlabel("Block (a point is a head of one seed)")
    axes.set_title(model.title)
    axes.annotate(
        "read by\nno one",
        (depth, 0),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=probes.GREY,
    )
    axes.legend(loc="lower left", fontsize=9, handlelength=1.5)


def _shares(
    axes: Axes, models: Sequence[Model], look: Mapping[str, Look], settings: Mapping[str, Any]
) -> None:
    for model in models:
        shares = 100 * model.over_seeds("class_token_share").mean(3)
        blocks = range(1, shares.shape[2] + 1)
        probes.line(axes, blocks, shares[:, 0], look[model.title], settings, label=model.title)
        label = f"{model.title}, untrained"
        probes.line(axes, blocks, shares[:, 1], look[model.title], settings, label=label, **_UNTRAINED)
    axes.set_ylim(bottom=0)
    axes.set_title("What patches give the class token")
    axes.set_ylabel("Share of attention (%)")
    axes.set_xlabel("Block")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=9)


def _reaches(
    axes: Axes, models: Sequence[Model], look: Mapping[str, Look], settings: Mapping[str, Any]
) -> None:
    for model in models:
        reach = model.over_seeds("reach")
        mapped = ~np.isnan(reach[0, 0])
        if not mapped.any():
            continue
        depth = np.linspace(0, 100, mapped.sum()) if mapped.sum() > 1 else np.array([0.0])
        probes.line(axes, depth, reach[:, 0, mapped], look[model.title], settings, label=model.title)
        probes.line(axes, depth, reach[:, 1, mapped], look[model.title], settings, **_UNTRAINED)
    axes.plot([], [], color=probes.GREY, linewidth=1, marker="o", fillstyle="none", label="thin: untrained")
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for the legend
    axes.set_title("Reach of a layer's central unit")
    axes.set_ylabel("Mean distance of the pixels\nit depends on (pixels)")
    axes.set_xlabel("Depth (% of the layers that are maps)")
    axes.legend(fontsize=9, loc="upper left", ncols=2)


def _fields(figure: Any, models: Sequence[Model]) -> None:
    """Draw the last mapped layer's field of each model, before and after training, each on its own scale."""
    axes = figure.subplots(2, len(models), squeeze=False)
    figure.suptitle("What the last such unit depends on", fontsize=12, fontweight="bold")
    for column, model in enumerate(models):
        fields = model.over_seeds("field").mean(0)
        last = int(np.flatnonzero(~np.isnan(fields[0, :, 0, 0]))[-1]) if not np.isnan(fields).all() else None
        for row, which in enumerate((1, 0)):
            panel = axes[row][column]
            panel.set_xticks([])
            panel.set_yticks([])
            panel.spines[:].set_visible(True)
            if last is not None:
                # The square root: the mean size of the gradient, whose square falls off too steeply to see.
                panel.imshow(
                    np.sqrt(fields[which, last]), cmap=probes.MAP_COLOURS, interpolation="nearest", vmin=0
                )
        axes[0][column].set_title(model.title, fontsize=10)
    axes[0][0].set_ylabel("untrained", fontsize=10)
    axes[1][0].set_ylabel("trained", fontsize=10)
