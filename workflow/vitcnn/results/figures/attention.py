"""Where each model looks in a few images, and what covering those places does to its answer."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitcnn.results.figures import probes
from vitcnn.results.figures.style import Look
from vitcnn.results.probed import Model, areas_under_deletion

_ORDERS = {  # the look of each order of deletion, the same in all panels
    "Grad-CAM": Look("#0072B2", "-", "o", ""),
    "attention": Look("#009E73", "-.", "^", ""),
    "rollout": Look("#CC79A7", (0, (4, 1)), "D", ""),
    "centre first": Look("#000000", "--", "s", ""),
    "random": Look("#999999", ":", "x", ""),
}


def draw(models: Sequence[Model], settings: Mapping[str, Any]) -> Figure:
    """Return the figure: a gallery of maps, the deletion curves, and the maps' likeness before training."""
    shown = [model for model in models if len(model.probes[0].arrays["maps"])]
    lines = 1 + sum(len(model.probes[0].arrays["maps"]) for model in shown)
    figure = probes.figure_of(settings, (13.5, max(4.6, 0.955 * lines)))
    if not shown:
        probes.empty(figure.subplots(), "no model here gives a map")
        return figure
    gallery, tests = figure.subfigures(1, 2, width_ratios=[1.2, 1])
    _gallery(gallery, shown)
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    axes = tests.subplots(rows + 1, columns, squeeze=False)
    for number, panel in enumerate(axes[:rows].flat):
        if number < len(shown):
            _deletion(panel, shown[number], settings)
        else:
            panel.set_axis_off()
    entries: dict[str, Any] = {}
    for panel in axes[:rows].flat:
        entries |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    tests.legend(
        entries.values(), entries, loc="outside upper center", ncols=5, fontsize=9, columnspacing=1.2
    )
    for panel in axes[rows - 1]:
        panel.set_xlabel("Cells covered (%)")
    for panel in axes[:rows, 0]:
        panel.set_ylabel("Probability of the\nclass it had named")
    grid = axes[rows][0].get_gridspec()
    for panel in axes[rows]:
        panel.remove()
    _correlations(tests.add_subplot(grid[rows, :]), shown, settings)
    without = [model.title for model in models if model not in shown]
    note = f"; no map of {' and '.join(without)}" if without else ""
    probes.caption(figure, models, settings, f"maps: first seed; ×: named wrongly{note}")
    return figure


def _gallery(figure: Any, models: Sequence[Model]) -> None:
    rows = [(model, kind) for model in models for kind in range(len(model.probes[0].arrays["maps"]))]
    images = models[0].probes[0].arrays["gallery_images"]
    axes = figure.subplots(
        len(rows) + 1, len(images), squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04}
    )
    for panel in axes.flat:
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_visible(False)
    for panel, image in zip(axes[0], images, strict=True):
        panel.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    for line, (model, kind) in zip(axes[1:], rows, strict=True):
        arrays = model.probes[0].arrays
        name = str(arrays["maps"][kind])
        line[0].set_ylabel(f"{model.title}\n{name}", rotation=0, ha="right", va="center", fontsize=9)
        right = arrays["gallery_predicted"] == arrays["gallery_labels"]
        for panel, found, is_right in zip(line, arrays["gallery_maps"][kind], right, strict=True):
            panel.imshow(found, cmap=probes.MAP_COLOURS, interpolation="nearest")
            if not is_right:
                panel.text(
                    0.06,
                    0.94,
                    "×",
                    transform=panel.transAxes,
                    ha="left",
                    va="top",
                    color="white",
                    fontsize=11,
                )


def _deletion(axes: Axes, model: Model, settings: Mapping[str, Any]) -> None:
    curves = model.over_seeds("deletion")
    removed = model.over_seeds("deleted")[0]
    areas = areas_under_deletion(model)
    for number, order in enumerate(model.probes[0].arrays["orders"]):
        probes.line(
            axes,
            100 * removed / removed[-1],
            curves[:, number],
            _ORDERS[str(order)],
            settings,
            label=str(order),
            linewidth=1.6,
            markersize=4,
        )
    axes.set_ylim(0, 1.12 * curves.mean(0).max())
    axes.set_title(fill(model.title, 18), fontsize=11)
    written = "\n".join(["area", *(f"{order} {area.mean():.3f}" for order, area in areas.items())])
    is_high = curves.mean(0).min() > 0.5 * curves.mean(0).max()
    x, y, ha, va = (0.03, 0.02, "left", "bottom") if is_high else (1, 1, "right", "top")  # where no curve is
    axes.text(x, y, written, transform=axes.transAxes, ha=ha, va=va, fontsize=8.5, linespacing=1.3)


def _correlations(axes: Axes, models: Sequence[Model], settings: Mapping[str, Any]) -> None:
    """Draw how alike each kind of map is before and after training, a point a seed."""
    labels = []
    for model in models:
        correlations = model.over_seeds("map_correlation")
        for kind, name in enumerate(model.probes[0].arrays["maps"]):
            look = _ORDERS[str(name)]
            place = np.full(len(correlations), len(labels))
            axes.plot(
                correlations[:, kind], place, look.marker, color=look.colour, fillstyle="none", markersize=6
            )
            axes.plot(correlations[:, kind].mean(), len(labels), "|", color="black", markersize=14)
            labels.append(f"{model.title}, {name}")
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(-1, 1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_title("Rank correlation with the\nuntrained model's map", fontsize=11)
