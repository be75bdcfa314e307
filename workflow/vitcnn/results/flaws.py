"""The flaws of the notebooks, each with its size as this study measures it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from vitcnn.plan import ALL
from vitcnn.results.answers import read_over_images
from vitcnn.results.claims import BORNE_OUT, NOT_BORNE_OUT, UNDECIDED
from vitcnn.results.collect import places, read_tables
from vitcnn.results.learned import judge
from vitcnn.results.pairs import MEASURES, Pair, measured, pairs, with_interval
from vitcnn.results.probed import Model
from vitcnn.results.statistics import (
    CONFIDENCE,
    SAME,
    UNBOUNDED,
    Difference,
    Interval,
    against,
    compare,
    holm,
    in_words,
    p_in_words,
)
from vitcnn.results.tables import REPORTED, chosen_recipes, doubts

NOTEBOOK_RATE = 0.001
DAMAGED = "imagenet200"  # whose files the notebook says are damaged
COLUMNS = ["flaw", "notebook", "experiment", "measured", "mean", "low", "high", "seeds"]
COLUMNS += ["image_low", "image_high", "p", "unit", "runs"]
NOTE = (
    "Brackets hold 95 % confidence intervals over seeds and, where named, over test images. Points are of accuracy on the "
    "test images. p values are over seeds alone; of several comparisons for one flaw they are adjusted for each other "
    "(Holm). Without an interval there is one seed, or every seed gives the same, and chance is unknown."
)


class Results(NamedTuple):
    """What is known of one experiment: its collected runs, its table of selection, and its pairs of models."""

    runs: pd.DataFrame
    selection: pd.DataFrame
    pairs: Sequence[Pair]


def read_results(experiment: str, asked: Sequence[Sequence[str]] | None) -> Results:
    """Return the results of an experiment, from where its rules leave them in the working directory.

    `asked` are its pairs, or None for every ViT with every CNN.
    """
    tables, runs = Path("results/tables"), read_tables([Path("results/collected", experiment, "runs.csv")])
    over_images = read_over_images(tables / f"{experiment}_differences.csv")
    found = pairs(measured(runs), asked, over_images)
    return Results(runs, pd.read_csv(tables / f"{experiment}_selection.csv"), list(found))


class Measured(NamedTuple):
    """What was measured of a flaw, in words; the number with its intervals, None for a count; its unit; the runs."""

    words: str
    difference: Difference | None
    unit: str
    runs: int


class Flaw(NamedTuple):
    """A flaw, and what the notebooks did or said. Its measurement is the function below of the key in FLAWS."""

    flaw: str
    notebook: str


FLAWS = {
    "best_epoch": Flaw(
        "The best epoch is chosen on the test images",
        "The second notebook reports the highest test accuracy of all epochs.",
    ),
    "no_validation": Flaw(
        "No images are held out for choices", "What the notebooks call validation images are the test images."
    ),
    "one_seed": Flaw("One seed", "Each model was trained once on each dataset."),
    "timing": Flaw(
        "Times include the data pipeline",
        "Inference is one pass through a DataLoader: decoding included, one batch size, no warm-up, no synchronisation.",
    ),
    "size": Flaw(
        "Models of unequal size",
        "The first notebook's ViT has 6.9 times the parameters of its CNN, and 3.1 times its work (2.7, where the last block computes the class token alone).",
    ),
    "rate": Flaw("One learning rate for both", "Both models of the first notebook were trained at 0.001."),
    "model": Flaw(
        "A ViT that is not what the text says",
        "ReLU, no final norm, layers that begin as copies of one, and a position embedding that begins at zero.",
    ),
    "damage": Flaw(
        "Damaged files are hidden",
        "Truncated images are decoded as far as they go. The text counts 42,905 training images of ImageNet-200, its "
        "output 100,000.",
    ),
    "steps": Flaw(
        "Fewer images also mean fewer updates",
        "The second notebook trains on 1,000 images for as many epochs as on 50,000: with a fiftieth of the updates.",
    ),
    "pictures": Flaw(
        "Nothing that was learned is shown",
        "The notebooks explain the results by locality, translation, global attention and hierarchy, and measure none of "
        "them.",
    ),
}


def ledger(
    asked: Mapping[str, Any],
    results: Mapping[str, Results],
    absent: Mapping[str, str],
    models: Sequence[Model] = (),
    costs: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return a row for each measurement of each flaw, with COLUMNS.

    `asked` names for each flaw the experiment or experiments that measure it, as `flaws` in the configuration does;
    `results` are of those whose runs exist, and `absent` says of the others, in words, what turns them on. `models`
    are the probed ones, `costs` the table of read_costs().
    """
    rows = []
    for key, (flaw, notebook) in FLAWS.items():
        wanted = asked.get(key, [])
        names = [wanted] if isinstance(wanted, str) else wanted
        missing = [absent[name] for name in names if name in absent]
        if key == "pictures" and any(one.runs["generated"].any() for one in results.values()):
            found = [_nothing("generated images bear on no claim")]
        elif key == "pictures":
            found = list(_pictures(models)) or [
                _nothing("no model was probed; see representations in config.yaml")
            ]
        elif key == "timing":
            alone = pd.DataFrame() if costs is None else costs
            why = (
                "of no model of the first notebook, in its size, was the cost in batches of 128 measured"
                if len(alone)
                else "no cost was measured; see cost in config.yaml"
            )
            found = list(_timing(alone)) or [_nothing(why)]
        elif missing or not names:
            found = [_nothing("; ".join(missing) or f"flaws.{key} in config.yaml names no experiment")]
        else:
            found = list(_MEASURES[key](*(results[name] for name in names)))
            found = _adjusted(found) or [_nothing("these runs have nothing to compare")]
        rows += [
            [flaw, notebook, ", ".join(names), one.words, *_numbers(one.difference), one.unit, one.runs]
            for one in found
        ]
    return pd.DataFrame(rows, columns=COLUMNS)


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """Return the ledger as text, each flaw named once."""
    again = table["flaw"].duplicated()
    return pd.DataFrame(
        {
            "Flaw": table["flaw"].where(~again, ""),
            "The notebooks": table["notebook"].where(~again, ""),
            "Measured": table["measured"],
            "Size": [_size_in_words(row) for row in table.itertuples()],
            "Runs": [str(runs) if runs else "–" for runs in table["runs"]],
        }
    )


def _nothing(why: str) -> Measured:
    return Measured(f"Not measured: {why}", None, "", 0)


def _numbers(found: Difference | None) -> list[float | None]:
    if found is None:
        return [None] * 7
    return [*found[:4], *(found.images or (None, None)), found.p]


def _size_in_words(row: Any) -> str:
    if pd.isna(row.mean):
        return "–"
    ends = (None if pd.isna(end) else end for end in (row.low, row.high))
    images = None if pd.isna(row.image_low) else Interval(row.image_low, row.image_high)
    text = with_interval(Difference(row.mean, *ends, int(row.seeds), images), "+.2f", f" {row.unit}")
    return text if pd.isna(row.p) else f"{text}, {p_in_words(row.p)}"


def _adjusted(found: Sequence[Measured]) -> list[Measured]:
    """Return the measurements of one flaw with their p values adjusted for each other."""
    p_values = [one.difference.p if one.difference else None for one in found]
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [
        one if p is None else one._replace(difference=one.difference._replace(p=next(adjusted)))
        for one, p in zip(found, p_values, strict=True)
    ]


def _best_epoch(one: Results) -> Iterator[Measured]:
    for row in one.selection.to_dict("records"):
        mean, seeds = row["Overstates"], row["Seeds"]
        error = row["Overstates sd"] / seeds**0.5
        ends = (None, None)
        if seeds > 1:
            is_spread = error > SAME
            ends = stats.t.interval(CONFIDENCE, seeds - 1, mean, error) if is_spread else UNBOUNDED
        words = (
            f"{row['Model']}, {row['Dataset']}, {row['Images']:,} images: how far the best epoch on half of the test "
            f"images overstates; on the other half it gains {in_words(row['Gains'], '.2f')} over the last"
        )
        yield Measured(words, Difference(mean, *ends, seeds), "points", seeds)


def _no_validation(one: Results) -> Iterator[Measured]:
    for _, group in one.runs.groupby([*places(one.runs), "model"], sort=False):
        if group["selected"].notna().all():
            first = group.iloc[0]
            recipe = f", {first['recipe']}" if "recipe" in places(one.runs) else ""
            words = (
                f"{first['model_title']}, {first['dataset_title']}, {int(first['train_images']):,} images{recipe}: the epoch "
                "chosen on held-out images, less the best on the test images (never above 0)"
            )
            yield Measured(words, against(group["selected"] - group["best"], 0), "points", len(group))


def _one_seed(one: Results) -> Iterator[Measured]:
    for pair in one.pairs:
        ours, theirs = (side["final"].to_numpy() for side in pair[:2])
        apart = np.subtract.outer(ours, theirs)
        others = int((np.sign(apart) != np.sign(apart.mean())).sum())
        if abs(apart.mean()) < SAME:
            counted = "; the means are level"
        else:
            counted = f"; {others} of {apart.size} pairs of seeds do not have this order" * (apart.size > 1)
        yield _compared(_where(pair) + counted, pair, "final")


def _size(one: Results) -> Iterator[Measured]:
    for pair in one.pairs:
        sizes = " and ".join(f"{pair.of('parameters_millions', side):.2f}" for side in (0, 1))
        epoch = "selected" if pair.has("selected") else "final"
        yield _compared(f"{_where(pair)}; {sizes} million parameters", pair, epoch)


def _rate(tried: Results) -> Iterator[Measured]:
    chosen = chosen_recipes(tried.runs).set_index(["dataset", "train_size", "model"])
    lr_of = tried.runs.groupby(["dataset", "recipe"])["lr"].first()
    for pair in tried.pairs:
        if pair.of("lr", 0) != NOTEBOOK_RATE or pair.of("lr", 1) != NOTEBOOK_RATE:
            continue
        place = pair.of("dataset", 0), pair.of("train_size", 0)
        sides = [(*place, pair.of("model", side)) for side in (0, 1)]
        if not all(where in chosen.index for where in sides):
            continue
        choices = [chosen.loc[where] for where in sides]
        best = [
            tried.runs[_is(tried.runs, where, one["recipe"])]
            for where, one in zip(sides, choices, strict=True)
        ]
        lr = lr_of[place[0]]
        rates = "; ".join(
            f"{lr[one['recipe']]:g}{doubts(one['is_edge'], [f'{lr[name]:g}' for name in one['level']])}"
            for one in choices
        )
        words = (
            f"{_where(pair._replace(by=''))}; each by its best rate ({rates}) less both by {NOTEBOOK_RATE:g}"
        )
        yield from _change(words, Pair(*best), pair, "selected")


def _is(runs: pd.DataFrame, where: tuple[str, str, str], recipe: str) -> pd.Series:
    of_model = (runs[["dataset", "train_size", "model"]] == list(where)).all(axis=1)
    return of_model & (runs["recipe"] == recipe)


def _model(one: Results) -> Iterator[Measured]:
    for pair in one.pairs:
        yield _compared(_where(pair), pair, "final")


def _damage(one: Results) -> Iterator[Measured]:
    rows = one.runs[one.runs["dataset"] == DAMAGED]
    if rows.empty:
        yield _nothing(f"no run of this experiment is on {DAMAGED}")
        return
    largest = rows.loc[rows["train_images"].idxmax()]
    is_part = str(largest["train_size"]) != ALL or pd.notna(largest["selected"])
    words = (
        f"{largest['dataset_title']}: every file is decoded whole, {int(rows['damaged_images'].max()):,} were damaged; "
        f"{int(largest['train_images']):,} training images {'of those decoded ' * is_part}and "
        f"{int(largest['test_images']):,} test images were used"
    )
    yield Measured(words, None, "", 0)


def _steps(updates: Results, epochs: Results) -> Iterator[Measured]:
    yield from compare_steps(updates.pairs, epochs.pairs)


def compare_steps(updates: Sequence[Pair], epochs: Sequence[Pair]) -> Iterator[Measured]:
    """Yield how far two models are apart after equal updates, less after equal epochs, on the same subsets."""
    equal_epochs = {pair.key: pair for pair in epochs}
    for pair in updates:
        if pair.key in equal_epochs and pair.is_paired:
            yield from _change(
                f"{_where(pair)}; at equal updates less at equal epochs", pair, equal_epochs[pair.key], "best"
            )


def _change(words: str, after: Pair, before: Pair, epoch: str) -> Iterator[Measured]:
    """Yield how far the gaps of two pairs differ, seed by seed."""
    ours, theirs = after.gaps(epoch), before.gaps(epoch)
    seeds = ours.index.intersection(theirs.index)
    if seeds.empty:
        return
    found = compare(ours[seeds], theirs[seeds], paired=True)
    both = f"{in_words(ours[seeds].mean())} less {in_words(theirs[seeds].mean())}"
    runs = pd.concat([*after[:2], *before[:2]])
    runs = runs.loc[runs["seed"].isin(seeds), ["model", "recipe", "seed"]].drop_duplicates()
    yield Measured(f"{words}, {MEASURES[epoch].words}: {both}", found, "points", len(runs))


def _timing(costs: pd.DataFrame) -> Iterator[Measured]:
    """Yield what each model of the notebook takes for an image without the pipeline."""
    reported = pd.read_csv(REPORTED).set_index(["model", "dataset"])
    for row in costs.to_dict("records"):
        columns = [f"seconds_128{end}" for end in ("", "_q1", "_q3")]
        key = (row["model"], row["dataset"])
        is_repeated = (
            key in reported.index
            and f"{row['parameters'] / 1e6:.2f}" == f"{reported.parameters_millions[key]:.2f}"
        )
        if is_repeated and row.keys() >= set(columns):
            median, first, third = (1000 * row[column] / 128 for column in columns)
            words = (
                f"{row['model_title']}, {row['dataset_title']}: the notebook says "
                f"{reported.inference_ms_per_image[key]} ms for an image, on a T4; the model alone takes {median:.3f} "
                f"ms (quartiles {first:.3f} to {third:.3f}) in batches of 128, {1000 * row['seconds_1']:.3f} ms by "
                f"itself, on {row['device']}"
            )
            yield Measured(words, None, "", 0)


def _pictures(models: Sequence[Model]) -> Iterator[Measured]:
    judged = pd.DataFrame(judge(models))
    runs = sum(len(model.probes) for model in models)
    for claim, group in judged.groupby("claim", sort=False) if len(judged) else ():
        counts = group["verdict"].value_counts()
        told = [verdict for verdict in (BORNE_OUT, NOT_BORNE_OUT, UNDECIDED) if verdict in counts]
        said = [f"{counts[verdict]} {verdict}" for verdict in told]
        if rest := len(group) - counts[told].sum():
            said.append(f"{rest} in one seed, chance unknown")
        yield Measured(f"{claim}: {', '.join(said)}", None, "", runs)


def _where(pair: Pair) -> str:
    return f"{' − '.join(pair.names)}, {pair.place}"


def _compared(words: str, pair: Pair, epoch: str) -> Measured:
    words = f"{words}; {MEASURES[epoch].words}"
    return Measured(words, pair.difference(epoch), "points", len(pair.first) + len(pair.second))


_MEASURES: Mapping[str, Callable[..., Iterator[Measured]]] = {
    "best_epoch": _best_epoch,
    "no_validation": _no_validation,
    "one_seed": _one_seed,
    "size": _size,
    "rate": _rate,
    "model": _model,
    "damage": _damage,
    "steps": _steps,
}
