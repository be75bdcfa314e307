"""The notebooks' questions, answered from the runs. Every sentence is computed."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pandas as pd

from vitcnn.results.statistics import CONFIDENCE, Difference, compare

BORNE_OUT, NOT_BORNE_OUT, UNDECIDED, UNTOLD = "borne out", "not borne out", "undecided", "cannot be told"
_LARGE = 100  # more classes than this are "large" in the first notebook's conclusion


class _Measure(NamedTuple):
    """How a difference is put into words: "the CNN" + verb + figure + unit + than + "the ViT" + what."""

    verb: str
    unit: str
    than: str
    what: str
    digits: int


_MEASURES = {
    "final": _Measure("is", "points", "above", " in final accuracy", 2),
    "best": _Measure("is", "points", "above", " in best accuracy", 2),
    "train_seconds": _Measure("takes", "s", "longer than", " to train", 1),
    "inference_ms_per_image": _Measure("takes", "ms", "longer than", " for an image", 3),
    "inference_seconds": _Measure("takes", "s", "longer than", " for the test images", 2),
    "peak_memory_mb": _Measure("takes", "MB", "more memory at its peak than", " in training", 0),
}


class Pair(NamedTuple):
    """A ViT and a CNN on the same images with the same recipe: their finished runs."""

    vit: pd.DataFrame
    cnn: pd.DataFrame

    @property
    def names(self) -> tuple[str, str]:
        """The titles of the ViT and of the CNN."""
        return self.vit["model_title"].iloc[0], self.cnn["model_title"].iloc[0]

    @property
    def dataset(self) -> str:
        """The dataset's title."""
        return self.vit["dataset_title"].iloc[0]

    @property
    def images(self) -> int:
        """The number of training images."""
        return int(self.vit["train_images"].iloc[0])

    @property
    def large(self) -> bool:
        """Whether the first notebook's conclusion counts the dataset among those with many classes."""
        return int(self.vit["num_classes"].iloc[0]) > _LARGE

    @property
    def same_place(self) -> bool:
        """Whether all runs were made on the same hardware in the same way, so that times compare."""
        both = pd.concat([self.vit, self.cnn])
        return len(both[["device", "threads", "precision"]].drop_duplicates()) == 1

    def compare(self, column: str) -> Difference:
        """Return how far the ViT's mean of `column` is above the CNN's."""
        return compare(self.vit[column].tolist(), self.cnn[column].tolist())

    def ratio(self, column: str) -> Difference:
        """Return how many times the CNN's `column` the ViT's is, from the means of the logarithms."""
        logs = compare(self.vit[column].map(math.log).tolist(), self.cnn[column].map(math.log).tolist())
        return logs._replace(
            mean=math.exp(logs.mean),
            low=None if logs.low is None else math.exp(logs.low),
            high=None if logs.high is None else math.exp(logs.high),
        )


class Claim(NamedTuple):
    """A claim of a notebook: its words, what these runs show, and the verdict."""

    claim: str
    shown: str
    verdict: str


def write_findings(runs: pd.DataFrame) -> str:
    """Return the findings as Markdown, from the collected runs; gaps are named first."""
    runs = runs.assign(
        inference_seconds=runs["inference_ms_per_image"] * runs["test_images"] / 1000,
        peak_memory_mb=runs["peak_memory_bytes"] / 1e6,
    )
    done, gaps = runs[runs["gap"].isna()], runs[runs["gap"].notna()]
    parts = ["# Findings", _preface(done)]
    if len(gaps):
        listed = "\n".join(f"- {gap}" for gap in gaps["gap"])
        parts.append(f"**Partial: {len(gaps)} of {len(runs)} runs are missing.**\n\n{listed}")
    parts += ["## Which model wins with all training images?", _listed(_full_data(done))]
    sweeps = list(_sweeps(done))
    if sweeps:
        fewest = " or ".join(f"{size:,}" for size in sorted({sweep[0].images for sweep in sweeps}))
        smallest = (f"- {sweep[0].dataset}: {_says(sweep[0], 'best')}." for sweep in sweeps)
        parts += [f"## Which model wins with {fewest} images?", _listed(smallest)]
        parts += ["## Where does the ViT catch up?", _listed(s for w in sweeps for s in _catching_up(w))]
    parts += ["## Which model trains faster?", _listed(_faster(done))]
    parts += ["## How much does the best epoch flatter?", _listed(_optimism(done))]
    for title, claims in (
        ("## What the first notebook concluded", list(first_notebook(list(_pairs(done, "comparison"))))),
        ("## What the second notebook concluded", list(second_notebook(sweeps))),
    ):
        if claims:
            rows = [f"| {c.claim} | {c.shown} | **{c.verdict}** |" for c in claims]
            parts += [title, "\n".join(["| Claim | These runs | Verdict |", "|---|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def first_notebook(pairs: list[Pair]) -> Iterator[Claim]:
    """Yield each claim of the first notebook's conclusion, held against its pairs."""
    if not pairs:
        return
    cheaper, ahead = [], []
    for pair in pairs:
        claims = list(_by_dataset(pair))
        yield from claims
        cheaper += [
            claim.verdict for claim in claims if "the CNN trains" in claim.claim or "needs" in claim.claim
        ]
        ahead.append(_verdict(pair.compare("final"), 1))
    yield from _narrowing(pairs)
    shown = "; ".join(f"{p.dataset}: {p.compare('final').mean:+.2f}" for p in pairs)
    points = f"points of the {pairs[0].names[0]} over the {pairs[0].names[1]}: {shown}"
    many = [_verdict(p.compare("final"), 1) for p in pairs if int(p.vit["num_classes"].iloc[0]) >= _LARGE]
    if len(many) > 1:
        yield Claim("With a large number of classes ViTs tend to be ahead of CNNs", points, _all(many))
    yield Claim(
        "Where resources are scarce, the CNN is the efficient choice",
        "taken from the rows on training time, parameters and memory above",
        _all(cheaper),
    )
    yield Claim("Where accuracy alone counts, the ViT is the superior choice", points, _all(ahead))
    yield Claim("The CNN costs less computation", "these runs count no operations", UNTOLD)
    yield Claim(
        "The CNN's lead on few images comes from its inductive biases",
        "no run changes the biases and nothing else",
        UNTOLD,
    )


def second_notebook(sweeps: list[list[Pair]]) -> Iterator[Claim]:
    """Yield each claim of the second notebook, held against pairs at increasing numbers of images."""
    for sweep in sweeps:
        first, last = sweep[0], sweep[-1]
        if first is last:
            continue
        yield Claim(
            "CNNs do better with small datasets",
            f"{first.dataset}, {first.images:,} images: {_says(first, 'best')}",
            _verdict(first.compare("best"), -1),
        )
        yield Claim(
            "ViTs catch up and in the end surpass CNNs as the data grow",
            f"{last.dataset}, {last.images:,} images: {_says(last, 'best')}",
            _verdict(last.compare("best"), 1),
        )


def _by_dataset(pair: Pair) -> Iterator[Claim]:
    """Yield what the first notebook says of a dataset of this number of classes."""
    winner, sign = ("ViT", 1) if pair.large else ("CNN", -1)
    yield Claim(
        f"{pair.dataset}: the {winner} is more accurate",
        _says(pair, "final"),
        _verdict(pair.compare("final"), sign),
    )
    if pair.large:
        timed = {
            "the training times differ by less than a minute": ("train_seconds", _within),
            "the inference times differ by less than a minute": ("inference_seconds", _within),
        }
    else:
        timed = {
            "the CNN trains faster": ("train_seconds", _verdict),
            "the CNN infers faster": ("inference_ms_per_image", _verdict),
        }
    for claim, (column, judge) in timed.items():
        if pair.same_place:
            limit = 60 if judge is _within else 1
            yield Claim(f"{pair.dataset}: {claim}", _says(pair, column), judge(pair.compare(column), limit))
        else:
            yield Claim(f"{pair.dataset}: {claim}", "the runs were made on different hardware", UNTOLD)
    ratio = float(pair.vit["num_parameters"].iloc[0] / pair.cnn["num_parameters"].iloc[0])
    yield Claim(
        f"{pair.dataset}: the CNN needs fewer parameters",
        f"the {pair.names[0]} has {ratio:.1f} times as many",
        BORNE_OUT if ratio > 1 else NOT_BORNE_OUT,
    )
    if pair.same_place:
        memory = pair.compare("peak_memory_mb")
        yield Claim(
            f"{pair.dataset}: the CNN needs less memory", _says(pair, "peak_memory_mb"), _verdict(memory, 1)
        )


def _narrowing(pairs: list[Pair]) -> Iterator[Claim]:
    """Hold "the difference in time is less pronounced on large datasets" against ratios of times."""
    if not all(pair.same_place for pair in pairs):
        return
    small, large = ([p for p in pairs if p.large is size] for size in (False, True))
    if not small or not large:
        return
    ratios = [(p.dataset, p.ratio("train_seconds")) for p in (*small, *large)]
    shown = ", ".join(f"{dataset}: {ratio.mean:.1f}" for dataset, ratio in ratios)
    gaps = {
        side: [_log_gap(p.ratio("train_seconds")) for p in group]
        for side, group in (("s", small), ("l", large))
    }
    if any(pair.compare("train_seconds").low is None for pair in pairs):
        claimed = min(low for low, _ in gaps["s"]) > max(high for _, high in gaps["l"])
        verdict = _in_one_seed(claimed)
    elif min(low for low, _ in gaps["s"]) > max(high for _, high in gaps["l"]):
        verdict = BORNE_OUT
    else:
        apart = max(high for _, high in gaps["s"]) < min(low for low, _ in gaps["l"])
        verdict = NOT_BORNE_OUT if apart else UNDECIDED
    yield Claim(
        "The difference in training time is less pronounced on large datasets",
        f"training time of the {pairs[0].names[0]} as a multiple of the {pairs[0].names[1]}'s: {shown}",
        verdict,
    )


def _log_gap(ratio: Difference) -> tuple[float, float]:
    """Return how far a ratio is from 1 either way, on a logarithmic scale, as an interval."""
    ends = [math.log(ratio.mean if end is None else end) for end in (ratio.low, ratio.high)]
    near = 0.0 if ends[0] < 0 < ends[1] else min(map(abs, ends))
    return near, max(map(abs, ends))


def _preface(done: pd.DataFrame) -> str:
    if done.empty:
        return "No run is finished yet."
    seeds = sorted(int(seed) for seed in done["seed"].unique())
    devices = ", ".join(sorted(done["device"].unique()))
    count = len(done.drop_duplicates(["dataset", "model", "recipe", "train_size", "seed"]))
    text = (
        f"Computed from {count} {'run' if count == 1 else 'runs'} with "
        f"{'the seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}, on {devices}; no "
        "sentence here was written by hand. "
    )
    others = done.loc[~done["family"].isin(["ViT", "CNN"]), "model_title"].unique()
    if len(others):
        text += f"Neither ViT nor CNN, and so not compared here: {', '.join(others)}. "
    if done.groupby(["experiment", "dataset", "model", "train_size"])["seed"].nunique().min() < 2:
        return text + (
            "**Where there is one seed, nothing can be concluded about chance:** another seed might turn a "
            "difference round. Add seeds to `seeds` in config.yaml."
        )
    return text + (
        f"Intervals are {CONFIDENCE:.0%} confidence intervals over seeds (Welch's t); they hold the chance of "
        "initial weights and order, not that of another test set or other hyper-parameters."
    )


def _full_data(done: pd.DataFrame) -> Iterator[str]:
    for experiment in done["experiment"].unique():
        if experiment == "data_efficiency":
            continue
        for pair in _pairs(done, experiment):
            place = "" if experiment in ("comparison", "curves") else f"{experiment}: "
            says = _says(pair, "best" if experiment == "curves" else "final")
            yield f"- {place}{pair.dataset}, {pair.images:,} images: {says}."


def _catching_up(sweep: list[Pair]) -> Iterator[str]:
    vit, cnn = sweep[0].names
    where = sweep[0].dataset
    if len(sweep) < 2:
        yield f"- {where}: one size only; nothing can be said."
        return
    differences = [(pair.images, pair.compare("best")) for pair in sweep]
    gaps = ", ".join(f"{size:,}: {difference.mean:+.2f}" for size, difference in differences)
    yield f"- {where}: points that the {vit} is ahead of the {cnn}, by training images: {gaps}."
    span = f"from {sweep[0].images:,} to {sweep[-1].images:,} images"
    ahead = [(size, difference) for size, difference in differences if difference.mean >= 0]
    if not ahead:
        narrower = abs(differences[-1][1].mean) < abs(differences[0][1].mean)
        change = "narrows" if narrower else "does not narrow"
        yield f"- The {vit} does not catch up in the range tried, {span}; the gap {change} between the two ends."
    else:
        size, difference = ahead[0]
        if difference.low is None:
            sure = " in one seed, which leaves chance unknown"
        else:
            sure = "" if difference.sign > 0 else ", but not by more than chance could give"
        if size == sweep[0].images:
            yield f"- The {vit} is level or ahead from the smallest size tried on, {size:,} images{sure}."
        else:
            yield f"- The {vit} is level or ahead for the first time at {size:,} images{sure} (tried: {span})."
        later = [f"{s:,}" for s, d in differences if s > size and d.mean < 0]
        if later:
            yield f"- It falls behind again at {', '.join(later)}."
    yield (
        "- Epochs are the same at every size, so that a smaller set also means fewer updates: this is data "
        "and training length together."
    )


def _faster(done: pd.DataFrame) -> Iterator[str]:
    for experiment in done["experiment"].unique():
        if experiment == "data_efficiency":
            continue
        for pair in _pairs(done, experiment):
            vit, cnn = pair.names
            if not pair.same_place:
                yield f"- {pair.dataset}: the {vit} and the {cnn} ran on different hardware; times do not compare."
                continue
            mean, low, high, seeds = pair.ratio("train_seconds")
            fast, slow = (cnn, vit) if mean >= 1 else (vit, cnn)
            chance = "one seed: nothing can be concluded about chance"
            if low is not None and high is not None:
                ends = (low, high) if mean >= 1 else (1 / high, 1 / low)
                chance = f"interval {ends[0]:.1f} to {ends[1]:.1f}, {seeds} seeds"
            times = max(mean, 1 / mean)
            yield f"- {pair.dataset}: the {fast} trains {times:.1f} times as fast as the {slow} ({chance})."


def _optimism(done: pd.DataFrame) -> Iterator[str]:
    for experiment, rows in done.groupby("experiment", sort=False):
        excess = (rows["best"] - rows["final"]).mean()
        if excess < 0.005:
            yield f"- `{experiment}`: not at all; the last epoch is the best on the test images."
            continue
        yield (
            f"- `{experiment}`: the best epoch on the test images is {excess:.2f} points above the last one on "
            "average. It was chosen on the images it is measured on, and so overstates."
        )
    selected = done.dropna(subset=["selected"])
    if len(selected):
        excess = (selected["best"] - selected["selected"]).mean()
        yield f"- Chosen on held-out images instead, the epoch gives {excess:.2f} points less than the best."


def _pairs(done: pd.DataFrame, experiment: str) -> Iterator[Pair]:
    """Yield every ViT with every CNN of an experiment, on each dataset at each size."""
    rows = done[done["experiment"] == experiment]
    for _, group in rows.groupby(["dataset", "train_size"], sort=False):
        families = [
            group[group["family"] == family].groupby("model", sort=False) for family in ("ViT", "CNN")
        ]
        for _, vit in families[0]:
            for _, cnn in families[1]:
                yield Pair(vit, cnn)


def _sweeps(done: pd.DataFrame) -> Iterator[list[Pair]]:
    """Yield the pairs of `data_efficiency`, those of the same models and dataset together by size."""
    pairs = list(_pairs(done, "data_efficiency"))
    for key in dict.fromkeys((pair.dataset, pair.names) for pair in pairs):
        sweep = [pair for pair in pairs if (pair.dataset, pair.names) == key]
        yield sorted(sweep, key=lambda pair: pair.images)


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(lines) or "- No finished pair of a ViT and a CNN answers this."


def _says(pair: Pair, column: str) -> str:
    """Return, say, "the CNN is 17.10 points above the ViT in final accuracy (interval …)"."""
    verb, unit, than, what, digits = _MEASURES[column]
    difference = pair.compare(column)
    more, less = pair.names if difference.mean >= 0 else reversed(pair.names)
    text = f"the {more} {verb} {abs(difference.mean):.{digits}f} {unit} {than} the {less}{what}"
    if not difference.mean:
        text = f"the {more} and the {less} are level{what}"
    if difference.low is None or difference.high is None:
        return f"{text} (one seed: nothing can be concluded about chance)"
    low, high = (
        (difference.low, difference.high) if difference.mean >= 0 else (-difference.high, -difference.low)
    )
    interval = f"interval {low:.{digits}f} to {high:.{digits}f}, {difference.seeds} seeds"
    return f"{text} ({interval}{'' if difference.sign else ': chance alone could do that'})"


def _verdict(difference: Difference, sign: int) -> str:
    """Judge "the ViT is above" (sign 1) or "below" (-1)."""
    if difference.low is None:
        return _in_one_seed(difference.sign == sign)
    return {sign: BORNE_OUT, -sign: NOT_BORNE_OUT, 0: UNDECIDED}[difference.sign]


def _within(difference: Difference, limit: float) -> str:
    """Judge "they differ by less than `limit`"."""
    if difference.low is None or difference.high is None:
        return _in_one_seed(abs(difference.mean) < limit)
    if -limit < difference.low and difference.high < limit:
        return BORNE_OUT
    return NOT_BORNE_OUT if difference.low >= limit or difference.high <= -limit else UNDECIDED


def _in_one_seed(claimed: bool) -> str:
    return f"{'as claimed' if claimed else 'not as claimed'} in one seed; chance unknown"


def _all(verdicts: list[str]) -> str:
    """Judge a claim about several cases: one that speaks against it is enough."""
    against = next((verdict for verdict in verdicts if verdict.startswith("not")), None)
    if against:
        return against
    if all(verdict == BORNE_OUT for verdict in verdicts):
        return BORNE_OUT
    open_question = next((v for v in verdicts if v in (UNDECIDED, UNTOLD)), None)
    return open_question or next(verdict for verdict in verdicts if verdict != BORNE_OUT)
