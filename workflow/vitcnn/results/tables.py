"""The table of an experiment, in the first notebook's form: mean ± standard deviation over seeds.

An experiment that repeats the notebook's runs shows beside them what it reported.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from vitcnn.page import page
from vitcnn.results.collect import changes, generated, leaks, places, recipes_of
from vitcnn.results.statistics import mean_and_sd, mean_in_words, spread_in_words

REPORTED = Path(__file__).with_name("reported.csv")


class _Column(NamedTuple):
    title: str
    reported: str  # column of reported.csv, "" for none
    decimals: int


_COLUMNS = {
    "accuracy": _Column("Accuracy (%)", "accuracy", 2),
    "held_out": _Column("Held-out Accuracy (%)", "", 2),
    "parameters_millions": _Column("Total Parameters (M)", "parameters_millions", 2),
    "train_seconds": _Column("Train Time (s)", "train_seconds", 1),
    "inference_ms_per_image": _Column("Inference Time (ms/img)", "inference_ms_per_image", 3),
}

_REPORTED = ", reported"
_REPEATED = ["model", "dataset", "recipe", "train_size"]
_EPOCH = {
    "final": "after the last epoch",
    "best": "after the best epoch, which is chosen on them and overstates",
    "selected": "after the epoch that is best on held-out training images",
}


def tabulate(runs: pd.DataFrame, accuracy: str = "final") -> pd.DataFrame:
    """Return the table in full precision, a row per dataset, model, train_size and recipe in the order of `runs`.

    `runs` are those of one experiment, and `accuracy` is the one shown: `final`, `best` or `selected`. Each
    measure has two columns, the mean and ` sd` (over seeds, n − 1), and a third, ` reported`, if the first
    notebook reported any of these rows. `Seeds` is the number of runs behind a
    row, `Asked` how many there should be: fewer only in a partial table. Accuracy on held-out images is there
    where models have several recipes, of which it chooses one.
    """
    columns = _columns(runs)
    runs = runs.assign(accuracy=runs[accuracy], parameters_millions=runs["num_parameters"] / 1e6)
    reported = _reported(runs)
    rows = []
    several = runs["train_size"].nunique() > 1
    for where, group in runs.groupby(["model", *places(runs)], sort=False):
        model, dataset, size, *recipe = where
        repeated = (model, dataset, group["recipe"].iloc[0], size)
        done = group[group["gap"].isna()]
        size_in_words = [f"{size} images"] if several else []
        row: dict[str, object] = {
            "Model": ", ".join([group["model_title"].iloc[0], *size_in_words, *recipe]),
            "Dataset": group["dataset_title"].iloc[0],
            "Seeds": len(done),
            "Asked": len(group),
        }
        for name, column in columns.items():
            row |= mean_and_sd({column.title: done[name]})
            if len(reported) and column.reported:
                row[f"{column.title} reported"] = reported[column.reported].get(repeated)
        rows.append(row)
    return pd.DataFrame(rows)


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as text: `62.92 ± 0.31`, a dash where there is nothing."""
    shown = table[["Model", "Dataset"]].copy()
    for name, column in _COLUMNS.items():
        if column.title not in table:
            continue
        form = f".{column.decimals}f"
        exact = name == "parameters_millions"  # every seed has as many
        shown[column.title] = [
            mean_in_words(mean, None if exact else sd, form)
            for mean, sd in zip(table[column.title], table[f"{column.title} sd"], strict=True)
        ]
        if f"{column.title} reported" in table:
            shown[column.title + _REPORTED] = [
                mean_in_words(value, None, form) for value in table[f"{column.title} reported"]
            ]
    shown["Seeds"] = [
        str(seeds) if seeds == asked else f"{seeds} of {asked}"
        for seeds, asked in zip(table["Seeds"], table["Asked"], strict=True)
    ]
    return shown


def _columns(runs: pd.DataFrame) -> dict[str, _Column]:
    left_out = () if "recipe" in places(runs) and runs["held_out"].notna().any() else ("held_out",)
    return {name: column for name, column in _COLUMNS.items() if name not in left_out}


def chosen_recipes(runs: pd.DataFrame) -> pd.DataFrame:
    """Return for each dataset, train_size and model the recipe with the best mean accuracy on held-out images.

    None where an experiment has one recipe for each model. `is_edge` says of three or more learning rates, one a
    recipe, whether it is the lowest or the highest, so that one beyond might be better. `level` are the other recipes
    that are as good; of several, one that is at no edge is chosen.
    """
    keys, titles = ["dataset", "train_size", "model"], ["dataset_title", "model_title"]
    if "held_out" not in _columns(runs):
        return pd.DataFrame(columns=[*keys, *titles, "recipe", "held_out", "is_edge", "level"])
    means = runs.groupby([*keys, *titles, "recipe"], sort=False)["held_out"].mean()
    means = means.dropna().round(9).reset_index()
    edges = {
        (dataset, recipe)
        for dataset, rates in runs.groupby(["dataset", "recipe"])["lr"].first().groupby("dataset")
        if rates.nunique() == len(rates) > 2
        for _, recipe in (rates.idxmin(), rates.idxmax())
    }
    means["is_edge"] = [place in edges for place in zip(means["dataset"], means["recipe"], strict=True)]
    best = means[means["held_out"] == means.groupby(keys)["held_out"].transform("max")]
    found = []
    for _, several in best.groupby(keys, sort=False):
        chosen = several.sort_values("is_edge", kind="stable").iloc[0]
        found.append({**chosen, "level": [name for name in several["recipe"] if name != chosen["recipe"]]})
    return pd.DataFrame(found)


def doubts(is_edge: bool, level: Sequence[str]) -> str:
    """Return what to know of a recipe or a rate that was chosen, in words that follow its name; "" for nothing."""
    edge = ", at an edge of what was tried, so that one beyond may be better" if is_edge else ""
    return edge + (f", as good as {', '.join(level)}" if level else "")


def note(runs: pd.DataFrame, accuracy: str = "final") -> str:
    """Return what a reader must know beside the table: what the numbers are and where they were measured."""
    origin = f"Generated images, not those published: {made}. " if (made := generated(runs)) else ""
    reported = " Reported: the first notebook's single run on a Colab T4." if len(_reported(runs)) else ""
    recipes = f" {words}." if (words := recipes_of(runs)) else ""
    runs = runs[runs["gap"].isna()]
    devices = sorted(
        {
            f"{r.device}, {int(r.threads)} thread{'s' * (r.threads > 1)} a job, {r.precision}"
            for r in runs.itertuples()
        }
    )
    spread = spread_in_words(runs.groupby(["model", *places(runs)])["seed"].nunique())
    images = ", ".join(
        f"{title}: {_sizes(group['train_images'])} training and {int(group['test_images'].max()):,} test images"
        for title, group in runs.groupby("dataset_title", sort=False)
    )
    damaged = int(runs["damaged_images"].max()) if len(runs) else 0
    left_out = f" Up to {damaged} damaged images of a dataset were left out." if damaged else ""
    several = runs["train_size"].nunique() > 1
    chosen = "; ".join(
        f"{one.model_title} on {one.dataset_title}{f', {one.train_size} images' if several else ''}: {one.recipe}"
        f"{doubts(one.is_edge, one.level)}"
        for one in chosen_recipes(runs).itertuples()
    )
    chosen = f" The recipe that is best on held-out images: {chosen}." if chosen else ""
    notices = "".join(f" {words}." for words in (*leaks(runs), *changes(runs)))
    return (
        f"{origin}Accuracy is that on the test images {_EPOCH[accuracy]}; {spread}. Train time is that "
        "of all epochs without evaluation; inference time is one pass over "
        f"the test images, divided by their number. Measured on {'; '.join(devices) or 'nothing yet'}. "
        f"{images}.{recipes}{chosen}{left_out}{notices}{reported}"
    )


def _sizes(images: pd.Series) -> str:
    """Return the numbers of images in words: "1,000, 5,000 or 50,000"."""
    *others, largest = (f"{int(count):,}" for count in sorted(images.unique()))
    return f"{', '.join(others)} or {largest}" if others else largest


def to_markdown(table: pd.DataFrame, title: str, text: str) -> str:
    """Return the table as GitHub's Markdown."""
    align = ["right" if numbers else "left" for numbers in _are_numbers(table)]
    cells = table.replace(r"\|", r"\\|", regex=True)
    return (
        f"**{title}**\n\n{cells.to_markdown(index=False, disable_numparse=True, colalign=align)}\n\n{text}\n"
    )


def to_html(table: pd.DataFrame, title: str, text: str) -> str:
    """Return the table as a page of its own."""
    heads = [(name.removesuffix(_REPORTED), name.endswith(_REPORTED) * "reported") for name in table.columns]
    if any(reported for _, reported in heads):  # one head for both, so that the columns are narrow
        table = table.set_axis(pd.MultiIndex.from_tuples(heads), axis=1)
    body = table.to_html(index=False, border=0, classes="results")
    numbers = [
        f".results :is(th,td):nth-child({n})" for n, is_so in enumerate(_are_numbers(table), 1) if is_so
    ]
    style = f"<style>{','.join(numbers)}{{text-align:right;white-space:nowrap}}</style>" if numbers else ""
    return page(title, f"{style}{body}\n<p>{escape(text)}</p>")


def to_latex(table: pd.DataFrame, title: str, text: str) -> str:
    """Return the table as a LaTeX table environment; it needs the packages booktabs and graphicx."""
    columns = "".join("r" if numbers else "l" for numbers in _are_numbers(table))
    body = table.to_latex(index=False, escape=True, column_format=columns)

    def tex(words: str) -> str:
        for special in "%&_#${}":
            words = words.replace(special, f"\\{special}")
        return words.replace("±", r"$\pm$").replace("−", "$-$").replace("–", "--")

    body = body.strip().replace("±", r"$\pm$").replace("–", "--")
    return (
        f"\\begin{{table}}\n\\caption{{{tex(title)}. {tex(text)}}}\n\\resizebox{{\\textwidth}}{{!}}{{%\n"
        f"{body}\n}}\n\\end{{table}}\n"
    )


def _are_numbers(table: pd.DataFrame) -> list[bool]:
    """Return for each column of a table of text whether its cells are numbers, intervals or dashes."""
    return [table.iloc[:, n].str.fullmatch(r"[\d+−–\[](?:[^a-z]| of )*").all() for n in range(table.shape[1])]


def _reported(runs: pd.DataFrame) -> pd.DataFrame:
    """Return what the notebook reported of those of the runs that repeat it on published images.

    A model of the same name but another size, and a recipe of other epochs or another learning rate, repeat nothing.
    """
    reported = pd.read_csv(REPORTED)
    ours = runs[~runs["generated"] & (runs["train_size"] == "all")]
    ours = ours.assign(parameters_millions=(ours["num_parameters"] / 1e6).round(2))
    shared = ["model", "dataset", "recipe", "epochs", "lr", "parameters_millions"]
    found = reported.merge(ours[shared].drop_duplicates().astype({"epochs": float}), on=shared)
    return found.assign(train_size="all").set_index(_REPEATED)
