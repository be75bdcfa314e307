"""How much of the classes a linear classifier reads from each layer."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from vitcnn.results.figures import probes
from vitcnn.results.probed import Model


def draw(models: Sequence[Model], settings: Mapping[str, Any]) -> Figure:
    """Return the figure: a panel a model, trained and untrained, and the model's own accuracy."""
    figure = probes.figure_of(settings, (3.4 * len(models) + 0.6, 4.8))
    axes = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for panel, (title, look), model in zip(axes, probes.looks(models, settings).items(), models, strict=True):
        names = [str(name) for name in model.probes[0].arrays["linear_layers"]]
        places = range(len(names))
        accuracies = model.over_seeds("linear_accuracy")
        probes.line(panel, places, accuracies[:, 0], look, settings, linestyle="", label="trained")
        probes.line(
            panel, places, accuracies[:, 1], look, settings, linestyle="", alpha=0.7, fillstyle="none", label="untrained"
        )  # fmt: skip
        own = model.over_seeds("clean").mean()
        panel.axhline(own, color="black", linewidth=1, linestyle="--", label="the model itself")
        panel.set_xticks(places, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
        panel.set_title(title, fontsize=11)
        panel.legend(fontsize=9, loc="lower right", handlelength=1.5)
    axes[0].set_ylim(bottom=0)  # of all panels, now that all are drawn
    axes[0].set_ylabel("Test accuracy of a linear classifier (%)")
    probes.caption(figure, models, settings)
    return figure
