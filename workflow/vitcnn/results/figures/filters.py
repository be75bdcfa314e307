"""What the first layer of each model looks for, as colours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vitcnn.results.figures import probes
from vitcnn.results.probed import Model

_SHOWN, _COLUMNS = 32, 8


def draw(models: Sequence[Model], settings: Mapping[str, Any]) -> Figure:
    """Return the figure: up to 32 filters of each model's first seed, grey where a weight is 0."""
    shown = [model for model in models if model.has("filters")]
    figure = probes.figure_of(settings, (3.2 * max(1, len(shown)), 3.0))
    if not shown:
        probes.empty(figure.subplots(), "no model here begins with a convolution")
        return figure
    for panel, model in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        arrays = model.probes[0].arrays
        filters, explained = arrays["filters"][:_SHOWN], arrays["filters_explained"][:_SHOWN]
        panel.imshow(_sheet(filters / np.abs(filters).max()), interpolation="nearest")
        panel.set_axis_off()
        share = (
            ""
            if np.isnan(explained).any()
            else f"\ncomponents; first 8: {explained[:8].sum():.0%} of the squares"
        )
        panel.set_title(f"{model.title}{share}", fontsize=10)
    probes.caption(figure, shown, settings, "filters: first seed")
    return figure


def _sheet(filters: np.ndarray) -> np.ndarray:
    """Return filters `(F, 3, k, k)` in −1…1 as one picture `(rows, columns, 3)`, white between them."""
    count, channels, side, _ = filters.shape
    rows = -(-count // _COLUMNS)
    sheet = np.ones((rows * _COLUMNS, side + 1, side + 1, channels))
    sheet[:count, :side, :side] = 0.5 + filters.transpose(0, 2, 3, 1) / 2
    sheet = sheet.reshape(rows, _COLUMNS, side + 1, side + 1, channels).transpose(0, 2, 1, 3, 4)
    return sheet.reshape(rows * (side + 1), _COLUMNS * (side + 1), channels)
