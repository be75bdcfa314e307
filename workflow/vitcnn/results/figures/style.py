"""One look for all figures: safe for colour-blind readers, and readable when printed grey."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitcnn.files import replacing
from vitcnn.results.collect import marked

mpl.use("Agg")

mpl.rcParams.update(
    {
        "font.size": 11,
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#dddddd",
        "legend.frameon": False,
        "legend.handlelength": 3,
        "lines.linewidth": 2,
        "hatch.linewidth": 0.8,
        "svg.fonttype": "none",
        "svg.hashsalt": "vitcnn",  # without it no two SVG files of one figure are the same
    }
)


class Look(NamedTuple):
    """How one model is shown: three marks beside the colour tell it apart in grey."""

    colour: str
    line: str
    marker: str
    hatch: str


# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), dark and light in turn; grey for their yellow, which
# is hard to see on white.
LOOKS = (
    Look("#0072B2", "-", "o", ""),
    Look("#E69F00", "--", "s", "///"),
    Look("#009E73", "-.", "^", "..."),
    Look("#CC79A7", ":", "D", "xxx"),
    Look("#000000", (0, (5, 1)), "v", "\\\\\\"),
    Look("#56B4E9", (0, (3, 1, 1, 1, 1, 1)), "P", "++"),
    Look("#D55E00", (0, (1, 2)), "X", "oo"),
    Look("#7F7F7F", (0, (4, 1, 1, 1)), "*", "--"),
)


class Series(NamedTuple):
    """The rows of one model, with its name and its look."""

    title: str
    look: Look
    rows: pd.DataFrame


def series(rows: pd.DataFrame, looks: Mapping[str, int]) -> Iterator[Series]:
    """Yield the models among `rows`, in that order, each with the look whose place in LOOKS `looks` gives."""
    for model, group in rows.groupby("model", sort=False):
        yield Series(group["model_title"].iloc[0], LOOKS[looks[model] % len(LOOKS)], group)


def new_figure(rows: int, columns: int, size: tuple[float, float], title: str, runs: pd.DataFrame) -> Any:
    """Return a figure and its axes; the title marks generated images and gaps among `runs`."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    gaps = int(runs["gap"].notna().sum())
    warning = f"\nPARTIAL: {gaps} of {len(runs)} runs are missing" if gaps else ""
    figure.suptitle(
        marked(title, runs) + warning, fontsize=14, fontweight="bold", color="#B00020" if gaps else "black"
    )
    return figure, axes


def legend(axes: Axes) -> None:
    """Add a legend where there is anything to tell apart; say so where there is nothing at all."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    else:
        axes.text(
            0.5, 0.5, "no runs yet", ha="center", va="center", transform=axes.transAxes, color="#B00020"
        )


def caption(figure: Figure, rows: pd.DataFrame, settings: Mapping[str, Any], images: str = "") -> None:
    """Write under the figure which data it shows, of them how many images, and what its bands and whiskers are."""
    done = rows[rows["gap"].isna()]
    counts = done.groupby(["experiment", "dataset", "model", "recipe", "train_size"])["seed"].nunique()
    spread = seeds_in_words(counts, settings)
    shown = "; ".join(filter(None, [", ".join(rows["dataset_title"].unique()), images, spread]))
    figure.supxlabel(shown, fontsize=10)


def seeds_in_words(counts: Iterable[int], settings: Mapping[str, Any]) -> str:
    """Return over how many seeds each line is, and what its band is, for a label; "" where there is no run."""
    seeds = sorted({*counts})
    if not seeds or seeds[-1] == 1:
        return "one seed" if seeds else ""
    band = {"sd": "± standard deviation", "ci95": "± 95 % interval of the mean"}[settings["band"]]
    return f"mean over {' or '.join(map(str, seeds))} seeds, {band}"


def save_figure(figure: Figure, paths: list[Path], dpi: int) -> None:
    """Write the figure to each path in the format of its ending; the same figure gives the same bytes.

    The first is the last to be written: where it is, all are.
    """
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}
    for path in reversed(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=dpi, metadata=undated[path.suffix])
