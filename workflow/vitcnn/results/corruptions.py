"""The table of accuracies on corrupted images, and how far pairs of models are apart in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vitcnn.errors import StudyError
from vitcnn.results.pairs import pairs
from vitcnn.results.sections import Section
from vitcnn.results.statistics import ends_in_words, in_words, mean_and_sd, mean_in_words, spread_in_words

MEAN = "mean_of_11"
NOTE = (
    "Accuracy (%) on the test images as they are (clean) and corrupted by eleven methods in five severities; "
    "{spread}. Relative: the mean of 11 in % of clean, what guessing gets right included. Methods and constants are those of "
    "CIFAR-10-C and Tiny ImageNet-C (arXiv 1903.12261). The draws are this study's own, the same for every model. Motion "
    "blur, snow, frost and elastic transform are left out, so this is a mean of 11 of the 15, never mCE: it cannot be "
    "compared digit by digit with published numbers."
)
EACH = "Mean over severities and seeds; the CSV file has the deviations too."
APART = (
    "The first model's mean of 11 less that of the second, in points; {interval}. A less accurate model has less to "
    "lose: see clean and relative above."
)
_INTERVAL = (
    "over seeds, the 95 % interval by Welch's t, or, where both models of a seed saw the same subset, by the t of their "
    "differences; other test images are not covered"
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
    return pd.DataFrame(
        [
            {"model": title, "seeds": len(group), **mean_and_sd(group.loc[:, "clean":])}
            for title, group in runs.groupby("title", sort=False)
        ]
    )


def differences(runs: pd.DataFrame, asked: Mapping[str, Sequence[Any] | None]) -> pd.DataFrame:
    """Return a row for each pair of models of each experiment, once: how far apart they are in the mean of 11.

    `asked` has the experiments' pairs, None for every ViT with every CNN.
    """
    rows = {}
    for experiment, named in asked.items():
        for pair in pairs(runs[[experiment in names for names in runs["experiments"]]], named):
            names = " − ".join(pair.of("title", side) for side in (0, 1))
            rows[names] = {"names": names, **pair.difference(MEAN)._asdict()}
    return pd.DataFrame(rows.values(), columns=["names", "mean", "low", "high", "seeds", "p"])


def report(table: pd.DataFrame, apart: pd.DataFrame, title: str, generated: bool) -> list[Section]:
    """Return the page of it all, in tables narrow enough to read."""
    names = list(table.columns[2::2])
    over_all = {
        _words(name): [mean_in_words(*of, ".1f") for of in table[[name, f"{name} sd"]].to_numpy()]
        for name in names[:3]
    }
    each = {_words(name): [f"{mean:.1f}" for mean in table[name]] for name in names[3:]}
    who = {"Model": table["model"], "Seeds": table["seeds"].astype(str)}
    note = NOTE.format(spread=spread_in_words(table["seeds"]))
    by_corruption = EACH if (table["seeds"] > 1).any() else "Mean over severities."
    origin = ["Generated images, not those published"] if generated else []
    found = [
        Section(title, origin, [note], table=pd.DataFrame(who | over_all)),
        Section("By corruption", paragraphs=[by_corruption], table=pd.DataFrame(who | each)),
    ]
    if apart.empty:
        return found
    interval = _INTERVAL if apart["seeds"].max() > 1 else spread_in_words([1])
    differences = _differences_for_people(apart)
    return [*found, Section("Differences", paragraphs=[APART.format(interval=interval)], table=differences)]


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize().replace("Jpeg", "JPEG")


def _differences_for_people(apart: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Difference": apart["names"],
            "Seeds": apart["seeds"].astype(str),
            "Points": apart["mean"].map(in_words),
            "Over seeds": [ends_in_words(row.low, row.high) for row in apart.itertuples()],
        }
    )
