"""The five questions that the second notebook leaves to its reader, answered from the runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from vitcnn.results.findings import catching_up
from vitcnn.results.flaws import compare_steps
from vitcnn.results.learned import judge
from vitcnn.results.pairs import ImageIntervals, Pair, measured, pairs, sweeps, with_interval
from vitcnn.results.probed import Model
from vitcnn.results.sections import Section

# What the models learned that bears on small data: the first word of a claim of learned.judge().
_BEARS = ("Locality", "Translation", "Hierarchical")


def questions(
    runs: pd.DataFrame,
    experiments: Mapping[str, Mapping[str, Any]],
    over_images: Mapping[str, ImageIntervals],
    models: Sequence[Model],
    sizes: str,
    steps: str | None,
) -> Iterator[Section]:
    """Yield a section for each two models that the experiment `sizes` compares at several training-set sizes.

    `steps` is an experiment that compares them after equal updates, `models` what was probed; without them the fourth
    answer says less. Runs on generated images answer nothing.
    """
    published = measured(runs[~runs["generated"]])

    def pairs_of(name: str | None) -> list[Pair]:
        if name not in experiments:
            return []
        rows = published[published["experiment"] == name]
        return list(pairs(rows, experiments[name]["pairs"], over_images.get(name, {})))

    def models_of(sweep: Sequence[Pair]) -> list[Model]:
        return [model for model in models if model.dataset == sweep[0].dataset]

    accuracy = experiments[sizes]["accuracy"] if sizes in experiments else ""
    for sweep in sweeps(pairs_of(sizes)):
        if len(sweep) < 2:
            continue
        first, second = sweep[0].names
        items = [
            f"Which model won with all the data, here {sweep[-1].images:,} images? {_winner(sweep[-1], accuracy)}",
            f"Which model won with {sweep[0].images:,} images? {_winner(sweep[0], accuracy)}",
            f"At what size did the {first} catch up? {'; '.join(catching_up(sweep, accuracy))}",
            f"Why does the {second} do better with few images? {_why(sweep, accuracy, pairs_of(steps), models_of(sweep))}",
            f"The main takeaway? {_takeaway(sweep, accuracy)}",
        ]
        yield Section(
            f"The second notebook's questions: {first} and {second}, {sweep[0].dataset}", items=items
        )


def _winner(pair: Pair, accuracy: str) -> str:
    difference = pair.difference(accuracy)
    if difference.low is None:
        leader = f"the {pair.names[0 if difference.mean > 0 else 1]}" if difference.mean else "neither"
        ahead = f"in one seed {leader}; chance is unknown"
    else:
        ahead = {1: f"the {pair.names[0]}", -1: f"the {pair.names[1]}", 0: "undecided"}[difference.sign]
    return f"{ahead[0].upper()}{ahead[1:]} ({pair.says(accuracy)})"


def _why(sweep: Sequence[Pair], accuracy: str, steps: Sequence[Pair], models: Sequence[Model]) -> str:
    """Return what was measured that bears on it; no run changes what convolutions know beforehand, and nothing else."""
    sign = sweep[0].difference(accuracy).sign
    if sign >= 0:
        return "It does not, in these runs." if sign else "Whether it does is undecided, in these runs."
    basis, said = "No run here changes what a convolution knows beforehand and nothing else.", []
    for judged in judge(models):
        if judged.claim.startswith(_BEARS) and {*judged.titles} <= {*sweep[0].names}:
            said.append(f"{judged.claim}: {judged.verdict}")
    for found in compare_steps(steps, sweep):
        change = with_interval(found.difference, "+.2f", f" {found.unit}")
        said.append(f"{found.words}: {change}")
    if not said:
        return f"{basis} Nothing that bears on it was measured."
    return f"{basis} What bears on it: {'; '.join(said)}"


def _takeaway(sweep: Sequence[Pair], accuracy: str) -> str:
    first, second = sweep[0].names
    signs = [pair.difference(accuracy).sign for pair in sweep]
    counts = [(first, signs.count(1)), (second, signs.count(-1))]
    ahead = ", ".join(f"the {name} is more accurate at {count}" for name, count in counts if count)
    level = signs.count(0)
    undecided = f"{', and ' if ahead else ''}{level} undecided" if level else ""
    one_seed = " (one seed: chance is unknown)" if sweep[0].difference(accuracy).low is None else ""
    largest = sweep[-1]
    speed = f"; {largest.says_ratio('train_seconds')}" if largest.compares("train_seconds") else ""
    return f"Of {len(sweep)} training-set sizes, {ahead}{undecided}{one_seed}{speed}"
