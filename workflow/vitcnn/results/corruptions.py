"""The table of accuracies on corrupted images, and how far pairs of models are apart in it."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from vitcnn.errors import StudyError
from vitcnn.page import page
from vitcnn.results import tables
from vitcnn.results.pairs import pairs

MEAN = "mean_of_11"
NOTE = (
    "Accuracy (%) on the test images as they are (clean) and corrupted by eleven methods, each the mean of five "
    "severities; mean ± standard deviation over seeds. Relative: the mean of 11 in % of clean. Methods and constants are "
    "those of CIFAR-10-C and Tiny ImageNet-C (arXiv 1903.12261). The draws are this study's own, the same for every "
    "model. Motion blur, snow, frost and elastic transform are left out, so this is a mean of 11 of the 15, never mCE: "
    "it cannot be compared digit by digit with published numbers."
)
APART = (
    "The first model's mean of 11 less that of the second, in points, with the 95 % interval over seeds by Welch's t, "
    "or, where both models of a seed saw the same subset, by the t of their differences. A less accurate model has "
    "less to lose: see clean and relative above."
)


def read_corrupted(
    entries: Sequence[Mapping[str, Any]], found: Mapping[Path, Mapping[str, Any]]
) -> pd.DataFrame:
    """Return a row per run: its entry, `clean`, `relative`, `mean_of_11`, and each corruption's mean over severities.

    `entries` have `folder`, `title`, `model`, `family`, `experiments`, `dataset`, `train_size` and `seed`; `found` is
    what corrupt_run measured, by folder. Raises StudyError for a file that holds something else.
    """
    rows = []
    for entry in entries:
        path = Path(entry["folder"])
        try:
            run = found[path]
            means = {name: sum(values) / len(values) for name, values in run["corrupted"].items()}
            rows.append({**entry, **{key: run[key] for key in ("clean", MEAN, "relative")}, **means})
        except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise StudyError(
                f"{path / 'corruptions.json'}: is damaged ({error!r}); delete it to rebuild it"
            ) from error
    return pd.DataFrame(rows)


def tabulate(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the table in full precision, a row per model: for each measure its mean and ` sd` over seeds."""
    measures = list(runs.columns)[list(runs.columns).index("clean") :]
    rows = []
    for title, group in runs.groupby("title", sort=False):
        row: dict[str, Any] = {"model": title, "seeds": len(group)}
        for name in measures:
            values = group[name].astype(float)
            row |= {name: values.mean(), f"{name} sd": values.std(ddof=1)}
        rows.append(row)
    return pd.DataFrame(rows)


def differences(runs: pd.DataFrame, asked: Mapping[str, Sequence[Any] | None]) -> pd.DataFrame:
    """Return a row for each pair of models of each experiment, once: how far apart they are in the mean of 11.

    `asked` has the experiments' pairs, None for every ViT with every CNN.
    """
    rows = {}
    for experiment, named in asked.items():
        for pair in pairs(runs[[experiment in names for names in runs["experiments"]]], named):
            apart = pair.difference(MEAN)
            names = [pair.of("title", side) for side in (0, 1)]
            rows[tuple(names)] = {
                "names": " − ".join(names),
                "mean": apart.mean,
                "low": apart.low,
                "high": apart.high,
                "seeds": apart.seeds,
                "p": apart.p,
            }
    return pd.DataFrame(rows.values(), columns=["names", "mean", "low", "high", "seeds", "p"])


def to_markdown(table: pd.DataFrame, apart: pd.DataFrame, title: str, generated: bool) -> str:
    """Return both tables as GitHub's Markdown."""
    shown = tables.to_markdown(_for_people(table), title, _origin(generated) + NOTE)
    if apart.empty:
        return shown
    return f"{shown}\n{tables.to_markdown(_differences_for_people(apart), 'Differences', APART)}"


def to_html(table: pd.DataFrame, apart: pd.DataFrame, title: str, generated: bool) -> str:
    """Return both tables as a page of its own."""
    body = [_html(_for_people(table)), f"<p>{escape(_origin(generated) + NOTE)}</p>"]
    if not apart.empty:
        body += ["<h2>Differences</h2>", _html(_differences_for_people(apart)), f"<p>{escape(APART)}</p>"]
    return page(title, "\n".join(body))


def _html(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, classes="numbers")


def _origin(generated: bool) -> str:
    return "Generated images, not those published. " if generated else ""


def _for_people(table: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame({"Model": table["model"], "Seeds": table["seeds"].astype(str)})
    for name in table.columns[2::2]:
        words = name.replace("_", " ").capitalize().replace("Jpeg", "JPEG")
        shown[words] = [
            "–" if pd.isna(mean) else f"{mean:.1f}" + ("" if pd.isna(sd) else f" ± {sd:.1f}")
            for mean, sd in zip(table[name], table[f"{name} sd"], strict=True)
        ]
    return shown


def _differences_for_people(apart: pd.DataFrame) -> pd.DataFrame:
    def signed(value: float) -> str:
        return f"{value:+.2f}".replace("-", "−")

    return pd.DataFrame(
        {
            "Difference": apart["names"],
            "Seeds": apart["seeds"].astype(str),
            "Points": apart["mean"].map(signed),
            "Over seeds": [
                "–" if pd.isna(row.low) else f"[{signed(row.low)}, {signed(row.high)}]"
                for row in apart.itertuples()
            ],
        }
    )
