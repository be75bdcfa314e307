"""What a ViT's position embedding knows of the patches' places."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vitcnn.results.figures import probes
from vitcnn.results.probed import Model


def draw(models: Sequence[Model], settings: Mapping[str, Any]) -> Figure:
    """Return the figure: for each ViT the similarities of every patch with all, of the first seed."""
    shown = [model for model in models if model.has("position_similarity")]
    figure = probes.figure_of(settings, (5.6 * max(1, len(shown)), 6.6))
    if not shown:
        probes.empty(figure.subplots(), "no model here has a position embedding")
        return figure
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for panel, model in zip(axes, shown, strict=True):
        similarity = model.probes[0].arrays["position_similarity"][0]
        grid = round(len(similarity) ** 0.5)
        # A grid of grids: where patch (i, j) is, the map of its similarities.
        tiles = similarity.reshape(grid, grid, grid, grid).transpose(0, 2, 1, 3)
        picture = np.pad(tiles, ((0, 0), (0, 1), (0, 0), (0, 1)), constant_values=np.nan)
        side = grid * (grid + 1)
        image = panel.imshow(
            picture.reshape(side, side), cmap=probes.MAP_COLOURS, vmin=-1, vmax=1, interpolation="nearest"
        )
        panel.set_axis_off()
        trained, untrained = model.over_seeds("position_correlation").mean(0)
        without = model.over_seeds("without_position").mean()
        panel.set_title(
            f"{model.title}\nrank correlation with nearness {_number(trained)}, untrained {_number(untrained)}\n"
            f"accuracy {model.over_seeds('clean').mean():.1f} %, all positions alike {without:.1f} %",
            fontsize=9,
        )
    figure.colorbar(image, ax=list(axes), label="Cosine similarity, mean removed", fraction=0.03)
    probes.caption(figure, shown, settings, "maps: first seed")
    return figure


def _number(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.2f}"
