"""The notebooks' questions, answered from the runs. Every sentence is computed."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import pandas as pd

from vitcnn.page import page
from vitcnn.results.claims import Claim, first_notebook, second_notebook
from vitcnn.results.collect import accepted_changes, marked
from vitcnn.results.pairs import Pair, measured, pairs, sweeps
from vitcnn.results.statistics import CONFIDENCE

_NOTHING = "No finished pair of a ViT and a CNN answers this."
_HEADER = ["Claim", "These runs", "Verdict"]


class Section(NamedTuple):
    """A part of the findings under its title: `notices` nobody may miss, text, a list, a table of claims."""

    title: str
    notices: Sequence[str] = ()
    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    claims: Sequence[Claim] = ()


def findings(runs: pd.DataFrame) -> list[Section]:
    """Return the findings from the collected runs; the first section says what they rest on.

    Of runs on generated images no verdict follows on what the notebooks claim.
    """
    runs = measured(runs)
    done = runs[runs["gap"].isna()]
    sizes = sweeps(done, "data_efficiency")
    found = [
        _basis(runs, done),
        Section("Which model wins with all training images?", items=[*_full_data(done)]),
    ]
    if sizes:
        fewest = " or ".join(f"{size:,}" for size in sorted({sweep[0].images for sweep in sizes}))
        smallest = [f"{sweep[0].dataset}: {sweep[0].says('best')}" for sweep in sizes]
        found.append(Section(f"Which model wins with {fewest} images?", items=smallest))
        catching_up = [line for sweep in sizes for line in _catching_up(sweep)]
        found.append(Section("Where does the ViT catch up?", items=catching_up))
    found.append(Section("Which model trains faster?", items=[*_faster(done)]))
    found.append(Section("How much does the best epoch flatter?", items=[*_optimism(done)]))
    published = done[~done["generated"]]
    for title, claims in (
        ("What the first notebook concluded", first_notebook([*pairs(published, "comparison")])),
        ("What the second notebook concluded", second_notebook(sweeps(published, "data_efficiency"))),
    ):
        if held := list(claims):
            found.append(Section(title, claims=held))
    return [s if any(s[1:]) else s._replace(items=[_NOTHING]) for s in found]


def to_markdown(sections: Sequence[Section]) -> str:
    """Return the findings as GitHub's Markdown."""
    parts = []
    for number, section in enumerate(sections):
        parts.append(f"{'##' if number else '#'} {section.title}")
        parts += [f"**{notice}**" for notice in section.notices]
        parts += section.paragraphs
        if section.items:
            parts.append("\n".join(f"- {item}" for item in section.items))
        if section.claims:
            rows = [f"| {c.claim} | {c.shown} | **{c.verdict}** |" for c in section.claims]
            parts.append("\n".join([f"| {' | '.join(_HEADER)} |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def to_html(sections: Sequence[Section]) -> str:
    """Return the findings as a page of its own."""
    parts = []
    for number, section in enumerate(sections):
        parts += [f"<h2>{escape(section.title)}</h2>"] if number else []
        parts += [f"<p><strong>{escape(notice)}</strong></p>" for notice in section.notices]
        parts += [f"<p>{escape(text)}</p>" for text in section.paragraphs]
        if section.items:
            parts.append(f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in section.items)}</ul>")
        if section.claims:
            table = pd.DataFrame([c[:3] for c in section.claims], columns=_HEADER)
            parts.append(table.to_html(index=False, border=0))
    return page(sections[0].title, "\n".join(parts))


def _basis(runs: pd.DataFrame, done: pd.DataFrame) -> Section:
    """Return the section on what the findings rest on: gaps, generated images, seeds, devices."""
    notices, paragraphs, gaps = [], ["No run is finished yet."], runs["gap"].dropna().tolist()
    if runs["generated"].any():
        made = ", ".join(runs.loc[runs["generated"], "dataset_title"].unique())
        notices.append(
            f"Generated images: {made}. They share a name and a layout with what is published, and nothing "
            "else, so these runs bear on no claim of the notebooks."
        )
    if gaps:
        notices.append(f"Partial: {len(gaps)} of {len(runs)} runs are missing.")
    if len(done):
        count = len(done.drop_duplicates(["dataset", "model", "recipe", "train_size", "seed"]))
        seeds = ", ".join(map(str, sorted(done["seed"].unique())))
        devices = ", ".join(sorted(done["device"].unique()))
        paragraphs = [
            f"Runs: {count}; seeds: {seeds}; on {devices}. No sentence here was written by hand.",
            "ViT − CNN is the mean of the first less that of the second over n seeds each, with its "
            f"{CONFIDENCE:.0%} confidence interval in brackets (Welch's t). The interval covers the chance of "
            "initial weights and order, not that of another test set or other hyper-parameters.",
        ]
        if changes := accepted_changes(
            done.drop_duplicates(["dataset", "model", "recipe", "train_size", "seed"])
        ):
            notices.append(f"{changes}.")
        others = done.loc[~done["family"].isin(["ViT", "CNN"]), "model_title"].unique()
        if len(others):
            paragraphs.append(f"Neither ViT nor CNN, and so not compared here: {', '.join(others)}.")
        if done.groupby(["experiment", "dataset", "model", "train_size"])["seed"].nunique().min() < 2:
            notices.append(
                "Where there is one seed (n = 1), nothing can be concluded about chance: another might turn a "
                "difference round. Add some to seeds in config.yaml."
            )
    return Section(marked("Findings", runs), notices, paragraphs, gaps)


def _full_data(done: pd.DataFrame) -> Iterator[str]:
    for experiment, pair in _full_pairs(done):
        place = "" if experiment in ("comparison", "curves") else f"{experiment}: "
        says = pair.says("best" if experiment == "curves" else "final")
        yield f"{place}{pair.dataset}, {pair.images:,} images: {says}"


def _catching_up(sweep: list[Pair]) -> Iterator[str]:
    vit, cnn = sweep[0].names
    where = sweep[0].dataset
    if len(sweep) < 2:
        yield f"{where}: one size only; nothing can be said."
        return
    gaps = [pair.difference("best").mean for pair in sweep]
    shown = ", ".join(f"{pair.images:,}: {gap:+.2f}" for pair, gap in zip(sweep, gaps, strict=True))
    yield f"{where}: best accuracy, {vit} − {cnn}, in points by training images: {shown.replace('-', '−')}"
    span = f"from {sweep[0].images:,} to {sweep[-1].images:,} images"
    caught_up = next((pair for pair, gap in zip(sweep, gaps, strict=True) if gap >= 0), None)
    if caught_up:
        yield (
            f"The {vit} is level or ahead for the first time at {caught_up.images:,} images (tried: {span}): "
            f"{caught_up.says('best')}"
        )
    else:
        change = "narrows" if abs(gaps[-1]) < abs(gaps[0]) else "does not narrow"
        yield f"The {vit} does not catch up in the range tried, {span}; the gap {change} between the two ends."
    yield (
        "Epochs are the same at every size, so that a smaller set also means fewer updates: this is data "
        "and training length together."
    )


def _faster(done: pd.DataFrame) -> Iterator[str]:
    for _, pair in _full_pairs(done):
        if pair.compares("train_seconds"):
            yield f"{pair.dataset}: {pair.says_ratio('train_seconds')}"
        else:
            vit, cnn = pair.names
            yield f"{pair.dataset}: the {vit} and the {cnn} ran on different hardware; times do not compare."


def _optimism(done: pd.DataFrame) -> Iterator[str]:
    for experiment, rows in done.groupby("experiment", sort=False):
        excess = (rows["best"] - rows["final"]).mean()
        if excess < 0.005:
            yield f"{experiment}: not at all; the last epoch is the best on the test images."
            continue
        yield (
            f"{experiment}: the best epoch on the test images is {excess:.2f} points above the last one on "
            "average. It was chosen on the images it is measured on, and so overstates."
        )
    selected = done.dropna(subset=["selected"])
    if len(selected):
        excess = (selected["best"] - selected["selected"]).mean()
        yield f"Chosen on held-out images instead, the epoch gives {excess:.2f} points less than the best."


def _full_pairs(done: pd.DataFrame) -> Iterator[tuple[str, Pair]]:
    """Yield the pairs of every experiment but that on data efficiency, with the experiment."""
    for experiment in done["experiment"].unique():
        if experiment != "data_efficiency":
            yield from ((experiment, pair) for pair in pairs(done, experiment))
