"""The notebooks' questions, answered from the runs. Every sentence is computed."""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from vitcnn.results.statistics import CONFIDENCE, Difference, compare


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
}


class _Pair(NamedTuple):
    """One experiment's ViT and CNN on one dataset, their finished runs."""

    vit: pd.DataFrame
    cnn: pd.DataFrame

    @property
    def names(self) -> tuple[str, str]:
        return self.vit["model_title"].iloc[0], self.cnn["model_title"].iloc[0]

    @property
    def dataset(self) -> str:
        return self.vit["dataset_title"].iloc[0]

    @property
    def num_classes(self) -> int:
        return int(self.vit["num_classes"].iloc[0])

    def compare(self, column: str) -> Difference:
        """Return how far the ViT's mean of `column` is above the CNN's."""
        return compare(self.vit[column].tolist(), self.cnn[column].tolist())


class Claim(NamedTuple):
    """A claim of a notebook: its words, what these runs show, and the verdict."""

    claim: str
    shown: str
    verdict: str


def write_findings(runs: pd.DataFrame) -> str:
    """Return the findings as Markdown, from the collected runs; gaps are named first."""
    done = runs[runs["gap"].isna()]
    gaps = runs[runs["gap"].notna()]
    parts = ["# Findings", _preface(done)]
    if len(gaps):
        listed = "\n".join(f"- {gap}" for gap in gaps["gap"])
        parts.append(f"**Partial: {len(gaps)} of {len(runs)} runs are missing.**\n\n{listed}")
    parts += ["## Which model wins with all training images?", _listed(_full_data(done))]
    sizes = sorted(done.loc[done["experiment"] == "data_efficiency", "train_images"].unique())
    if sizes:
        parts += [f"## Which model wins with {int(sizes[0]):,} images?", _listed(_smallest(done, sizes[0]))]
        parts += ["## Where does the ViT catch up?", _listed(_catching_up(done))]
    parts += ["## Which model trains faster?", _listed(_faster(done))]
    parts += ["## How much does the best epoch flatter?", _listed(_optimism(done))]
    for title, claims in (
        ("## What the first notebook concluded", list(first_notebook(done))),
        ("## What the second notebook concluded", list(second_notebook(done))),
    ):
        if claims:
            rows = [f"| {c.claim} | {c.shown} | **{c.verdict}** |" for c in claims]
            parts += [title, "\n".join(["| Claim | These runs | Verdict |", "|---|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def _listed(lines: Iterator[str]) -> str:
    return "\n".join(lines) or "- No finished runs answer this."


def first_notebook(done: pd.DataFrame) -> Iterator[Claim]:
    """Yield each claim of the first notebook's conclusion, held against the experiment `comparison`."""
    pairs = list(_pairs(done, "comparison"))
    for pair in pairs:
        few = pair.num_classes <= 100
        winner, sign = ("CNN", -1) if few else ("ViT", 1)
        accuracy = pair.compare("final")
        yield Claim(
            f"{pair.dataset}: the {winner} is more accurate",
            _says(pair, "final"),
            _verdict(accuracy, sign),
        )
        times = {"trains": "train_seconds", "infers": "inference_ms_per_image"} if few else {}
        for verb, column in times.items():
            claim = f"{pair.dataset}: the CNN {verb} faster"
            if _same_place(pair):
                yield Claim(claim, _says(pair, column), _verdict(pair.compare(column), 1))
            else:
                yield Claim(claim, "the runs were made on different hardware", "cannot be told")
        if not few and _same_place(pair):
            yield Claim(
                f"{pair.dataset}: the training times do not differ significantly (by under a minute)",
                _says(pair, "train_seconds"),
                _within(pair.compare("train_seconds"), 60),
            )
        ratio = _ratio(pair, "num_parameters")
        yield Claim(
            f"{pair.dataset}: the CNN needs fewer parameters",
            f"the {pair.names[0]} has {ratio:.1f} times as many",
            "borne out" if ratio > 1 else "not borne out",
        )
    many = [pair for pair in pairs if pair.num_classes >= 100]
    if len(many) > 1:
        differences = [pair.compare("final") for pair in many]
        shown = "; ".join(
            f"{pair.dataset} ({pair.num_classes} classes): {difference.mean:+.2f} points for the {pair.names[0]}"
            for pair, difference in zip(many, differences, strict=True)
        )
        verdicts = [_verdict(difference, 1) for difference in differences]
        worst = next((v for v in verdicts if v.startswith("not")), None)
        undecided = next((v for v in verdicts if v != verdicts[0]), verdicts[0])
        yield Claim("With many classes ViTs tend to be ahead of CNNs", shown, worst or undecided)


def second_notebook(done: pd.DataFrame) -> Iterator[Claim]:
    """Yield each claim of the second notebook, held against the experiment `data_efficiency`."""
    by_size = list(_pairs_by_size(done))
    if len(by_size) < 2:
        return
    (small, first), (large, last) = by_size[0], by_size[-1]
    yield Claim(
        "CNNs do better with small datasets",
        f"{small:,} images: {_says(first, 'best')}",
        _verdict(first.compare("best"), -1),
    )
    yield Claim(
        "ViTs catch up and in the end surpass CNNs as the data grow",
        f"{large:,} images: {_says(last, 'best')}",
        _verdict(last.compare("best"), 1),
    )


def _preface(done: pd.DataFrame) -> str:
    if done.empty:
        return "No run is finished yet."
    seeds = sorted(int(seed) for seed in done["seed"].unique())
    devices = ", ".join(sorted(done["device"].unique()))
    runs = done.drop_duplicates(["dataset", "model", "recipe", "train_size", "seed"])
    text = (
        f"Computed from {len(runs)} runs with {'the seeds' if len(seeds) > 1 else 'seed'} "
        f"{', '.join(map(str, seeds))}, on {devices}; no "
        "sentence here was written by hand. "
    )
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
    for experiment, column in (("curves", "best"), ("comparison", "final")):
        for pair in _pairs(done, experiment):
            images = int(pair.vit["train_images"].max())
            yield f"- {pair.dataset}, {images:,} images: {_says(pair, column)}."


def _smallest(done: pd.DataFrame, size: int) -> Iterator[str]:
    for images, pair in _pairs_by_size(done):
        if images == size:
            yield f"- {pair.dataset}: {_says(pair, 'best')}."


def _catching_up(done: pd.DataFrame) -> Iterator[str]:
    by_size = list(_pairs_by_size(done))
    if len(by_size) < 2:
        yield "- One size only: nothing can be said."
        return
    gaps = ", ".join(f"{size:,}: {pair.compare('best').mean:+.2f}" for size, pair in by_size)
    vit, cnn = by_size[0][1].names
    yield f"- Points that the {vit} is ahead of the {cnn}, by training images: {gaps}."
    ahead = [(size, pair.compare("best")) for size, pair in by_size if pair.compare("best").mean >= 0]
    span = f"from {by_size[0][0]:,} to {by_size[-1][0]:,} images"
    if not ahead:
        narrower = abs(by_size[-1][1].compare("best").mean) < abs(by_size[0][1].compare("best").mean)
        change = "narrows" if narrower else "does not narrow"
        yield f"- The {vit} does not catch up in the range tried, {span}; the gap {change} between the two ends."
        return
    size, difference = ahead[0]
    if difference.low is None:
        sure = " in one seed, which leaves chance unknown"
    else:
        sure = "" if difference.sign > 0 else ", but not by more than chance could give"
    if size == by_size[0][0]:
        yield f"- The {vit} is level or ahead from the smallest size tried on, {size:,} images{sure}."
    else:
        yield f"- The {vit} is level or ahead for the first time at {size:,} images{sure} (tried: {span})."
    later = [s for s, pair in by_size if s > size and pair.compare("best").mean < 0]
    if later:
        yield f"- It falls behind again at {', '.join(f'{s:,}' for s in later)}."
    yield (
        "- Epochs are the same at every size, so that a smaller set also means fewer updates: this is data "
        "and training length together."
    )


def _faster(done: pd.DataFrame) -> Iterator[str]:
    for experiment in ("curves", "comparison"):
        for pair in _pairs(done, experiment):
            vit, cnn = pair.names
            if not _same_place(pair):
                yield f"- {pair.dataset}: the {vit} and the {cnn} ran on different hardware; times do not compare."
                continue
            ratio = _ratio(pair, "train_seconds")
            fast, slow, times = (cnn, vit, ratio) if ratio > 1 else (vit, cnn, 1 / ratio)
            chance = " (one seed)" if min(len(pair.vit), len(pair.cnn)) < 2 else ""
            yield f"- {pair.dataset}: the {fast} trains {times:.1f} times as fast as the {slow}{chance}."


def _optimism(done: pd.DataFrame) -> Iterator[str]:
    for experiment in ("curves", "data_efficiency", "comparison"):
        rows = done[done["experiment"] == experiment]
        if len(rows):
            excess = (rows["best"] - rows["final"]).mean()
            yield (
                f"- `{experiment}`: the best epoch on the test images is {excess:.2f} points above the last "
                "one on average. It was chosen on the images it is measured on, and so overstates."
            )
    selected = done.dropna(subset=["selected"])
    if len(selected):
        excess = (selected["best"] - selected["selected"]).mean()
        yield f"- Chosen on held-out images instead, the epoch gives {excess:.2f} points less than the best."


def _pairs(done: pd.DataFrame, experiment: str) -> Iterator[_Pair]:
    rows = done[done["experiment"] == experiment]
    for _, group in rows.groupby("dataset", sort=False):
        yield from _pair(group)


def _pairs_by_size(done: pd.DataFrame) -> Iterator[tuple[int, _Pair]]:
    rows = done[done["experiment"] == "data_efficiency"]
    rows = rows[rows["dataset"] == rows["dataset"].iloc[0]] if len(rows) else rows
    for size, group in sorted(rows.groupby("train_images")):
        for pair in _pair(group):
            yield int(size), pair


def _pair(group: pd.DataFrame) -> Iterator[_Pair]:
    """Yield the first ViT and the first CNN among the rows, if there are both."""
    families = [group[group["family"] == family] for family in ("ViT", "CNN")]
    if all(len(family) for family in families):
        yield _Pair(*(family[family["model"] == family["model"].iloc[0]] for family in families))


def _ratio(pair: _Pair, column: str) -> float:
    return float(pair.vit[column].mean() / pair.cnn[column].mean())


def _same_place(pair: _Pair) -> bool:
    both = pd.concat([pair.vit, pair.cnn])
    return len(both[["device", "threads", "precision"]].drop_duplicates()) == 1


def _says(pair: _Pair, column: str) -> str:
    """Return, say, "the CNN is 17.10 points above the ViT in final accuracy (interval …)"."""
    verb, unit, than, what, digits = _MEASURES[column]
    difference = pair.compare(column)
    more, less = pair.names if difference.mean >= 0 else reversed(pair.names)
    text = f"the {more} {verb} {abs(difference.mean):.{digits}f} {unit} {than} the {less}{what}"
    if difference.low is None or difference.high is None:
        return f"{text} (one seed: nothing can be concluded about chance)"
    low, high = (
        (difference.low, difference.high) if difference.mean >= 0 else (-difference.high, -difference.low)
    )
    interval = f"interval {low:.{digits}f} to {high:.{digits}f}, {difference.seeds} seeds"
    return f"{text} ({interval}{'' if difference.sign else ': chance alone could do that'})"


def _verdict(difference: Difference, sign: int) -> str:
    if difference.low is None:
        return f"{'as claimed' if difference.sign == sign else 'not as claimed'} in one seed; chance unknown"
    return {sign: "borne out", -sign: "not borne out", 0: "undecided"}[difference.sign]


def _within(difference: Difference, limit: float) -> str:
    if difference.low is None or difference.high is None:
        inside = abs(difference.mean) < limit
        return f"{'as claimed' if inside else 'not as claimed'} in one seed; chance unknown"
    if max(abs(difference.low), abs(difference.high)) < limit:
        return "borne out"
    return "not borne out" if min(abs(difference.low), abs(difference.high)) >= limit else "undecided"
