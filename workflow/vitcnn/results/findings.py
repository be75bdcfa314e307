"""What the runs of each experiment show, and of the claims in config.yaml. Every sentence is computed."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import pandas as pd

from vitcnn.results.claims import adjusted, claims_table, hold
from vitcnn.results.collect import changes, generated, leaks, marked, places, recipes_of
from vitcnn.results.pairs import (
    MEASURES,
    ImageIntervals,
    Pair,
    caught_up,
    measured,
    pairs,
    sweeps,
    with_interval,
)
from vitcnn.results.sections import Section
from vitcnn.results.statistics import CONFIDENCE, compare, in_words

_UNFINISHED = "No two models to compare are finished: a ViT and a CNN, or those of pairs in config.yaml"
_NO_PAIR = (
    "No two models are compared: the experiment has no ViT beside a CNN, and names no pairs. Set experiments.{}.pairs, "
    "such as [[a, b]], or models.NAME.family"
)
_PRIMARY = (
    "The p values of the claims called primary, over seeds alone, are adjusted for each other, over all groups (Holm); a verdict on one "
    "needs an adjusted p below 0.05 as well. All other claims are exploratory."
)


def findings(
    runs: pd.DataFrame,
    experiments: Mapping[str, Mapping[str, Any]],
    claims: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    over_images: Mapping[str, ImageIntervals] = MappingProxyType({}),
) -> list[Section]:
    """Return the findings from the collected runs; the first section says what they rest on.

    `experiments` says of each its `title`, the `accuracy` that it quotes, and the `pairs` to compare (None: every
    ViT with every CNN). `claims` are those of the configuration, group by group; no verdict on them follows from
    runs on generated images. `over_images` has for each experiment the intervals that pairs() takes.
    """
    runs = measured(runs)
    done = runs[runs["gap"].isna()]
    found = [_basis(runs, done, bool(over_images))]
    for name, asked in experiments.items():
        rows = runs[runs["experiment"] == name]
        compared = list(pairs(rows, asked["pairs"], over_images.get(name, {})))
        items = [*_experiment(rows, compared, asked["accuracy"])]
        if not compared:
            is_asked = any(pairs(rows.drop(columns="gap"), asked["pairs"]))
            items.insert(0, _UNFINISHED if is_asked else _NO_PAIR.format(name))
        notices = [f"{words}." for words in leaks(rows)]
        recipes = recipes_of(rows)
        of_both = (
            [
                f"{recipes}. Where two models' recipes differ, their difference is that of model and recipe together."
            ]
            if recipes
            else []
        )
        found.append(Section(asked["title"], notices, of_both, items))
    published = runs[~runs["generated"]]
    finished = {*published.loc[published["gap"].isna(), "experiment"]} & experiments.keys()
    titles, held = [], []
    for group in claims.values():
        names = [name for name in group["experiments"] if name in finished]
        compared = [
            pair
            for name in names
            for pair in pairs(
                published[published["experiment"] == name],
                experiments[name]["pairs"],
                over_images.get(name, {}),
            )
        ]
        of_group = [claim for stated in group["claims"] for claim in hold(stated, compared)] if names else []
        titles += [group["title"]] * len(of_group)
        held += of_group
    together = defaultdict(list)
    for title, claim in zip(titles, adjusted(held), strict=True):
        together[title].append(claim)
    if any(claim.p is not None for claim in held):
        found[0] = found[0]._replace(paragraphs=[*found[0].paragraphs, _PRIMARY])
    return [*found, *(Section(title, table=claims_table(of)) for title, of in together.items())]


def _basis(runs: pd.DataFrame, done: pd.DataFrame, has_images: bool) -> Section:
    """Return the section on what the findings rest on: gaps, generated images, seeds, devices."""
    notices, paragraphs, gaps = [], ["No run is finished yet."], runs["gap"].dropna().tolist()
    if made := generated(runs):
        notices.append(
            f"Generated images: {made}. They share a name and a layout with what is published, and nothing "
            "else, so these runs bear on no claim about them."
        )
    if gaps:
        notices.append(f"Partial: {len(gaps)} of {len(runs)} runs are missing.")
    if len(done):
        distinct = done.drop_duplicates(["dataset", "model", "recipe", "train_size", "seed"])
        seeds = ", ".join(map(str, sorted(done["seed"].unique())))
        devices = ", ".join(sorted(done["device"].unique()))
        where = ["experiment", "dataset", "train_size"]
        counts = done.groupby([*where, "model", "recipe"])["seed"].nunique()
        each = "n seeds each"
        if counts.groupby(where).nunique().max() > 1:
            each = f"each one's seeds ({counts.min()} to {counts.max()}; n is that of the model with fewer)"
        paragraphs = [
            f"Runs: {len(distinct)}; seeds: {seeds}; on {devices}. No sentence here was written by hand.",
            f"A − B is the mean of the first less that of the second over {each}, with its "
            f"{CONFIDENCE:.0%} confidence interval in brackets (Welch's t; paired, where both models of a seed saw the "
            "same subset), which covers the chance of initial weights and order. "
            + (
                "The interval over images covers the chance of other test images like these. A difference counts only "
                "where both intervals exclude 0; a change of a difference and what the models learned have the interval "
                "over seeds alone. Neither covers other hyper-parameters."
                if has_images
                else "A difference counts only where the interval excludes 0; it covers neither other test images nor other "
                "hyper-parameters."
            ),
            "Times are those of training jobs, beside which others may have run: their intervals do not cover what else "
            "the machine did. The table `cost`, where it is asked for, has times of each model alone.",
        ]
        notices += [f"{words}." for words in changes(distinct)]
        if counts.min() < 2:
            notices.append(
                "Where there is one seed (n = 1), nothing can be concluded about chance: another might turn a "
                "difference round. Add some to seeds in config.yaml."
            )
    return Section(marked("Findings", runs), notices, paragraphs, gaps)


def _experiment(runs: pd.DataFrame, compared: Sequence[Pair], accuracy: str) -> Iterator[str]:
    """Yield what the finished runs of one experiment show, line by line."""
    done = runs[runs["gap"].isna()]
    for pair in compared:
        yield f"{pair.place}: {pair.says(accuracy)}"
    yield from _rankings(runs, compared, accuracy)
    by_size = sweeps(compared)
    several = [sweep for sweep in by_size if len(sweep) > 1]
    for sweep in several:
        yield from catching_up(sweep, accuracy)
    if several and done["epochs"].isna().all():
        yield "Models have as many updates at every size, so that this is the data alone"
    elif several:
        yield (
            "Where a recipe counts epochs, fewer images also mean fewer updates: this is data and training "
            "length together"
        )
    for *_, largest in by_size:
        yield faster(largest)
    paired = {title for pair in compared for title in pair.names}
    if compared and (others := [title for title in done["model_title"].unique() if title not in paired]):
        yield f"In no pair, and so not compared: {', '.join(others)}"
    yield from _optimism(done)


def _rankings(runs: pd.DataFrame, compared: Sequence[Pair], accuracy: str) -> Iterator[str]:
    """Yield the order of three or more models on each dataset at each size, and what chance alone could swap.

    Where no two are compared, that of any number.
    """
    known = {pair.key: pair for one in compared for pair in (one, one.turned)}
    for where, group in runs[runs["gap"].isna()].groupby(places(runs), sort=False):
        models = (rows.sort_values("seed") for _, rows in group.groupby("model", sort=False))
        ranked = sorted(models, key=lambda rows: -rows[accuracy].mean())
        if compared and len(ranked) < 3:
            continue
        by = where[2] if len(where) > 2 else ""
        neighbours = [Pair(*two, by=by) for two in pairwise(ranked)]
        order = ", ".join(f"{rows['model_title'].iloc[0]} {rows[accuracy].mean():.2f}" for rows in ranked)
        unsure, by_seeds = [], []
        for pair in neighbours:
            apart = known.get(pair.key, pair).difference(accuracy)
            if not apart.sign or apart.low is None:
                unsure.append(" and ".join(pair.names))
            elif pair.key not in known:  # nobody asked for the pair, and so for its interval over images
                by_seeds.append(" and ".join(pair.names))
        doubt = f"; chance alone could swap {', or '.join(unsure)}" if unsure else ""
        doubt += (
            f"; a difference over seeds, not tested over test images: {', '.join(by_seeds)}"
            if by_seeds
            else ""
        )
        place = Pair(ranked[0], ranked[-1], by=by).place
        yield f"{place}, by {MEASURES[accuracy].words}: {order}{doubt}"


def catching_up(sweep: list[Pair], accuracy: str) -> Iterator[str]:
    """Yield how the difference of two models changes with the number of images."""
    first, second = sweep[0].names
    where = ", ".join(filter(None, [sweep[0].dataset, sweep[0].by]))
    gaps = [pair.difference(accuracy).mean for pair in sweep]
    shown = ", ".join(f"{pair.images:,}: {in_words(gap)}" for pair, gap in zip(sweep, gaps, strict=True))
    words = MEASURES[accuracy].words
    yield f"{where}: {words}, {first} − {second}, in points by training images: {shown}"
    span = f"from {sweep[0].images:,} to {sweep[-1].images:,} images"
    doubt = _doubt(sweep, accuracy)
    ahead = f"the {first} is level with or ahead of the {second}"
    caught = caught_up(sweep, accuracy)
    if caught is sweep[0]:
        yield f"{where}: {ahead} at the fewest images already (tried: {span}){doubt}"
    elif caught:
        yield f"{where}: {ahead} for the first time at {caught.images:,} images (tried: {span}){doubt}"
    else:
        change = _change_in_words(sweep, accuracy)
        yield f"{where}: the {first} does not catch up with the {second} {span}{doubt}; {change}"


def _doubt(sweep: Sequence[Pair], accuracy: str) -> str:
    """Return at which sizes the means alone say which of two models is ahead, in words."""
    differences = [(pair.images, pair.difference(accuracy)) for pair in sweep]
    undecided = [f"{images:,}" for images, found in differences if found.low is not None and not found.sign]
    doubt = f"; this is by the means, undecided at {', '.join(undecided)} images" if undecided else ""
    return doubt + ("; one seed: chance is unknown" if any(d.low is None for _, d in differences) else "")


def _change_in_words(sweep: Sequence[Pair], accuracy: str) -> str:
    """Return whether the second model's lead is smaller at the most images than at the fewest, in words.

    Seed by seed, which is valid whether or not the runs of a seed saw the same images.
    """
    ends = pd.concat([sweep[0].gaps(accuracy), sweep[-1].gaps(accuracy)], axis=1).dropna()
    if len(ends) < 2:
        return "too few seeds tell whether the gap narrows"
    change = compare(ends.iloc[:, 1].tolist(), ends.iloc[:, 0].tolist(), paired=True)
    words = {
        1: "the gap narrows between the two ends",
        -1: "the gap widens between the two ends",
        0: "the change between the two ends may be chance",
    }
    return f"{words[change.sign]}: {with_interval(change, '+.2f', ' points')}"


def faster(pair: Pair) -> str:
    """Return which of two models trains faster, in words."""
    if pair.compares("train_seconds"):
        return f"{pair.place}: {pair.says_ratio('train_seconds')}"
    return f"{pair.place}: the {' and the '.join(pair.names)} ran on different hardware; times do not compare"


def _optimism(done: pd.DataFrame) -> Iterator[str]:
    """Yield how far the best epoch, chosen on the test images, overstates."""
    if done.empty:
        return
    excess = (done["best"] - done["final"]).mean()
    if excess < 0.005:
        yield "On average the best epoch on the test images is no more accurate on them than the last"
    else:
        yield (
            f"The best epoch on the test images is {excess:.2f} points above the last one on average. It was "
            "chosen on the images it is measured on, and so overstates"
        )
    selected = done.dropna(subset=["selected"])
    if len(selected):
        excess = (selected["best"] - selected["selected"]).mean()
        yield f"Chosen on held-out images instead, the epoch gives {excess:.2f} points less than the best"
