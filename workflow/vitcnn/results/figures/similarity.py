"""Which layers have the same features, and whether the models make the same mistakes."""

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitcnn.results.figures import probes
from vitcnn.results.probed import Model, Similarity, error_consistencies, similarities
from vitcnn.results.statistics import half_width


def draw(models: Sequence[Model], settings: Mapping[str, Any]) -> Figure:
    """Return the figure: CKA between all layers in four ways, the closest layers, and the mistakes."""
    figure = probes.figure_of(settings, (13.5, 9.4))
    found = similarities(models)
    upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.05])
    axes = upper.subplots(1, 4)
    names = {
        "plain": "Plain, trained",
        "plain, untrained": "Plain, untrained",
        "deconfounded": "Without the pixels,\ntrained",
        "deconfounded, untrained": "Without the pixels,\nuntrained",
    }
    for panel, (kind, title) in zip(axes, names.items(), strict=True):
        image = _layers(panel, found[kind], models)
        panel.set_title(title, fontsize=11)
    axes[0].set_ylabel("Layers, first to last", fontsize=10)
    for panel in axes[1:]:
        panel.set_yticks([])
    upper.colorbar(
        image, ax=axes, label="CKA, mean over pairs of seeds", fraction=0.02, pad=0.01, extend="min"
    )
    left, right = lower.subplots(1, 2, width_ratios=[1.35, 1])
    _closest(left, found, models)
    _mistakes(right, models)
    probes.caption(figure, models, settings)
    return figure


def _layers(axes: Axes, similarity: Similarity, models: Sequence[Model]) -> Any:
    """Draw CKA between all layers, those of one model beside each other."""
    whole = np.nanmean(similarity.values, axis=0)
    image = axes.imshow(whole, cmap=probes.MAP_COLOURS, vmin=0, vmax=1, interpolation="nearest")
    ends = np.cumsum([len(model.probes[0].arrays["layers"]) for model in models])
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color="white", linewidth=1.5)
        axes.axvline(end - 0.5, color="white", linewidth=1.5)
    middles = ends - np.diff([0, *ends]) / 2 - 0.5
    titles = [model.title for model in models]
    axes.set_xticks(middles, titles, rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
    axes.set_yticks(middles, titles, fontsize=9)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return image


def _closest(axes: Axes, found: Mapping[str, Similarity], models: Sequence[Model]) -> None:
    """Draw, for each two models, the CKA of the two layers that are most alike, mean and spread over pairs of seeds.

    Pairs share seeds, so their spread gives no interval of the mean.
    """
    pairs = list(combinations_with_replacement(range(len(models)), 2))
    looks = {
        "plain": {"marker": "s", "color": "#0072B2", "label": "plain, trained"},
        "plain, untrained": {
            "marker": "s",
            "color": "#0072B2",
            "fillstyle": "none",
            "label": "plain, untrained",
        },
        "deconfounded": {"marker": "o", "color": "#B34700", "label": "without the pixels, trained"},
        "deconfounded, untrained": {
            "marker": "o",
            "color": "#B34700",
            "fillstyle": "none",
            "label": "without the pixels, untrained",
        },
    }
    for number, (kind, how) in enumerate(looks.items()):
        means, halves = [], []
        for a, b in pairs:
            values = found[kind].closest(a, b)
            means.append(values.mean())
            halves.append(half_width(values[~np.isnan(values)], "sd"))
        place = np.arange(len(pairs)) + 0.15 * (number - 1.5)
        axes.errorbar(means, place, xerr=halves, linestyle="", capsize=2, elinewidth=1, markersize=6, **how)
    for gap in range(1, len(pairs)):
        axes.axhline(gap - 0.5, color="#eeeeee", linewidth=1)
    axes.axvline(0, color="black", linewidth=1)
    labels = [
        f"{models[a].title}, two seeds" if a == b else f"{models[a].title} – {models[b].title}"
        for a, b in pairs
    ]
    axes.set_yticks(range(len(pairs)), labels, fontsize=9)
    axes.grid(False, axis="y")
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_xlim(min(-0.25, axes.get_xlim()[0]), 1.02)
    axes.set_xlabel("CKA of the two layers that are most alike, mean ± sd over pairs of seeds")
    axes.set_title("Same features?", fontsize=11)
    axes.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.4, -0.13), ncols=2, handlelength=1)


def _mistakes(axes: Axes, models: Sequence[Model]) -> None:
    """Draw error consistency between each two models as numbers, mean and spread over pairs of seeds."""
    count = len(models)
    means = np.full((count, count), np.nan)
    for (a, b), values in error_consistencies(models).items():
        means[a, b] = means[b, a] = np.nanmean(values) if len(values) else np.nan
        for x, y in {(a, b), (b, a)}:
            if len(values):
                spread = f"\n± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
                text = f"{values.mean():.2f}{spread}".replace("-", "−")
                dark = values.mean() < 0.55
                axes.text(
                    x, y, text, ha="center", va="center", fontsize=10, color="white" if dark else "black"
                )
    axes.imshow(means, cmap=probes.MAP_COLOURS, vmin=0, vmax=1)
    titles = [model.title for model in models]
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if count > 3 else {}
    axes.set_xticks(range(count), titles, fontsize=9, **turned)
    axes.set_yticks(range(count), titles, fontsize=9)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_title("Same mistakes?", fontsize=11)
    axes.set_xlabel(
        "Error consistency κ, mean ± sd over pairs of seeds\ndiagonal: two seeds of one model", fontsize=10
    )
