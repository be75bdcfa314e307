"""Where the class token looks, head by head and block by block, in two images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vitcnn.results.figures import probes
from vitcnn.results.probed import Model


def draw(models: Sequence[Model], settings: Mapping[str, Any]) -> Figure:
    """Return the figure: a column for each ViT and image, a row of heads a block, entropies above."""
    shown = [model for model in models if model.has("atlas")]
    columns = [(model, number) for model in shown for number in range(len(model.probes[0].arrays["atlas"]))]
    figure = probes.figure_of(settings, (3.4 * max(1, len(columns)), 4.6))
    if not shown:
        probes.empty(figure.subplots(), "no model here gives attention weights")
        return figure
    for part, (model, number) in zip(
        figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True
    ):
        arrays = model.probes[0].arrays
        picture, sheet = part.subplots(2, 1, height_ratios=[1, 3])
        picture.imshow(arrays["gallery_images"][number].transpose(1, 2, 0), interpolation="nearest")
        picture.set_axis_off()
        bits = arrays["atlas_entropy"][number]
        picture.set_title(f"{model.title}\nentropy {bits.min():.1f} to {bits.max():.1f} bits", fontsize=10)
        maps = arrays["atlas"][number]
        depth, heads, grid, _ = maps.shape
        scaled = maps / maps.max((2, 3), keepdims=True)
        padded = np.pad(scaled, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
        side = grid + 1
        sheet.imshow(
            padded.transpose(0, 2, 1, 3).reshape(depth * side, heads * side),
            cmap=probes.MAP_COLOURS,
            vmin=0,
            vmax=1,
            interpolation="nearest",
        )
        sheet.set_xticks(np.arange(heads) * side + grid / 2, range(1, heads + 1), fontsize=8)
        sheet.set_yticks(np.arange(depth) * side + grid / 2, range(1, depth + 1), fontsize=8)
        sheet.grid(False)
        sheet.set_xlabel("Head", fontsize=9)
        sheet.set_ylabel("Block", fontsize=9)
    probes.caption(figure, shown, settings, "first seed; each map on its own scale")
    return figure
