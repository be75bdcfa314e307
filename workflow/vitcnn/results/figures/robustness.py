"""Accuracy on images whose tiles are shuffled, whose cells are covered, or that are shifted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vitcnn.results.figures import probes
from vitcnn.results.probed import Model


def draw(models: Sequence[Model], settings: Mapping[str, Any]) -> Figure:
    """Return the figure: above accuracy, below its share of the accuracy on whole images."""
    figure = probes.figure_of(settings, (13, 7.6))
    axes = figure.subplots(2, 3, sharex="col", sharey="row")
    chance = 100 / settings["num_classes"]
    looks = probes.looks(models, settings)
    for model in models:
        look = looks[model.title]
        clean = model.over_seeds("clean")[:, None]
        for column, (x, values) in enumerate(_curves(model, clean)):
            for row, scaled in enumerate((values, 100 * values / clean)):
                probes.line(axes[row][column], x, scaled, look, settings, label=model.title)
        shares = model.over_seeds("shares")[0]
        if len(shares):
            off_grid = model.over_seeds("covered")[:, 1]
            for row, scaled in enumerate((off_grid, 100 * off_grid / clean)):
                axes[row][1].plot(
                    100 * shares,
                    scaled.mean(0),
                    look.marker,
                    color=look.colour,
                    fillstyle="none",
                    markersize=9,
                )
    tiles = models[0].over_seeds("tiles")[0]
    axes[1][0].set_xticks(range(len(tiles) + 1), ["whole", *(f"{n}×{n}" for n in tiles)])
    for column, (title, label) in enumerate(
        (
            ("Tiles shuffled", "Tiles"),
            ("Cells covered", "Covered (% of the image)"),
            ("Shifted", "Shift (pixels)"),
        )
    ):
        axes[0][column].set_title(title)
        axes[1][column].set_xlabel(label)
        axes[0][column].axhline(chance, color=probes.GREY, linewidth=1, linestyle=(0, (1, 2)))
    axes[0][0].annotate(
        "chance, an untrained model",
        (0, chance),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=9,
        color=probes.GREY,
    )
    marks = axes[0][1].plot(
        [], [], "o", color=probes.GREY, fillstyle="none", markersize=9, label="half a cell off the grid"
    )
    axes[0][1].legend(handles=marks, loc="upper right", fontsize=9)
    axes[0][0].set_ylabel("Test accuracy (%)")
    axes[1][0].set_ylabel("Share of the accuracy\non whole images (%)")
    axes[0][0].set_ylim(bottom=0)
    axes[1][0].set_ylim(bottom=0)
    axes[1][2].legend(loc="lower left", fontsize=10)
    probes.caption(figure, models, settings)
    return figure


def _curves(model: Model, clean: np.ndarray) -> list[tuple[Any, np.ndarray]]:
    """Return x and accuracy `(seeds, len(x))` of each panel, beginning with the whole image."""
    covered = model.over_seeds("covered")[:, 0]
    return [
        (range(len(model.over_seeds("tiles")[0]) + 1), np.hstack([clean, model.over_seeds("shuffled")])),
        ([0, *100 * model.over_seeds("shares")[0]], np.hstack([clean, covered])),
        ([0, *model.over_seeds("shifts")[0]], np.hstack([clean, model.over_seeds("shifted")])),
    ]
