"""Readers' predictions, scored against the runs: each reader's, and what a class can learn from all of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from vitcnn.predictions import CONFIDENCE, Prediction, last_seal
from vitcnn.results.collect import changes, generated, marked
from vitcnn.results.findings import catching_up, faster
from vitcnn.results.pairs import ImageIntervals, Pair, caught_up, measured, pairs, sweeps
from vitcnn.results.sections import Section
from vitcnn.results.statistics import UNBOUNDED, in_words

LEVEL = 0.8  # of the ranges that readers give
BEFORE, AFTER, UNSEALED = "before", "after", "not sealed"
_RIGHT = {1.0: "right", 0.0: "wrong", 0.5: "undecided", None: "cannot be told"}
_BIN = 5  # points of the gap in one row of the answers
_BEARS_ON = {  # what a figure or a table says about readers' reasons
    "robustness": "what is left of the accuracy on shuffled, covered and shifted images: does order matter, does place?",
    "reach": "how far each layer looks",
    "updates": "the same train sizes with equal numbers of updates: is it the data, or the length of training?",
}
_HOW = (
    "None of these predictions is an input of a run. The accuracy and the speed have a Brier score, (confidence − "
    "outcome)²: the outcome is 1 if the answer is right, 0 if it is wrong, and ½ where the intervals of the runs leave "
    "it undecided. Knowing nothing, 0.5, scores 0.25 on an answer that is decided; less is better. A confidence that is not stated counts as "
    f"{CONFIDENCE}. The gap, in points, is that by which the predicted winner leads, negative where it is behind. Its "
    f"interval score is that of an {LEVEL:.0%} interval: the width, and 10 points for each point by which the measured "
    "mean is outside; a single number is an interval without width. Inside: it meets the measured 95% interval over "
    "seeds. Where the ViT catches up is judged by the means."
)
_ONE_SEED = (
    "Where there is one seed, right and wrong are those of two runs, and nothing can be concluded about chance: "
    "another seed might turn an answer round."
)


class Truth(NamedTuple):
    """What runs show of two models, the ViT first: at each size of their experiment, and of a sweep, if asked."""

    sizes: Sequence[Pair]
    accuracy: str
    sweep: Sequence[Pair] = ()
    sweep_accuracy: str = ""

    @property
    def pair(self) -> Pair:
        """The models at the largest training size, which a prediction is about."""
        return self.sizes[-1]

    @property
    def winner(self) -> str | None:
        """The family that is more accurate; None if that is undecided."""
        return {1: "ViT", -1: "CNN"}.get(self.pair.difference(self.accuracy).sign)

    @property
    def faster(self) -> str | None:
        """The family that trains in less time; None if that is undecided."""
        return {1: "CNN", -1: "ViT"}.get(self.pair.log_ratio("train_seconds").sign)

    def lead(self, winner: str) -> tuple[float, float | None, float | None]:
        """Return by how many points `winner` is ahead, with the ends over seeds, None where there are none."""
        found = self.pair.difference(self.accuracy)
        if (found.low, found.high) == UNBOUNDED:
            found = found._replace(low=None, high=None)
        if winner == "ViT":
            return found[:3]
        return -found.mean, *(None if end is None else -end for end in (found.high, found.low))

    @property
    def catches_up(self) -> str:
        """The train size at which the ViT is level or ahead first, by its mean, or "never"."""
        found = caught_up(self.sweep, self.sweep_accuracy)
        return str(found.of("train_size", 0)) if found else "never"

    @property
    def first_start(self) -> str:
        """When the first of these runs was started, that of a smaller size too, which tells much of the answer."""
        return min(side["started_at"].min() for pair in (*self.sizes, *self.sweep) for side in pair[:2])


class Scored(NamedTuple):
    """A prediction with its scores; None where the runs cannot tell. `made` is BEFORE, AFTER or UNSEALED."""

    prediction: Prediction
    truth: Truth
    made: str
    when: str
    winner_right: float
    faster_right: float | None
    winner_brier: float
    faster_brier: float | None
    gap_score: float
    gap_inside: bool | None
    catches_up_right: bool | None


def brier_score(confidence: float, outcome: float) -> float:
    """Return the Brier score of an answer that is right with probability `confidence`: 0 best, 1 worst.

    Brier 1950, doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2, for one event.
    """
    return (confidence - outcome) ** 2


def interval_score(low: float, high: float, value: float) -> float:
    """Return the score of an interval that holds `value` with probability LEVEL: 0 best, in the value's unit.

    Gneiting and Raftery 2007, doi 10.1198/016214506000001437, equation 43.
    """
    outside = max(low - value, 0, value - high)
    return high - low + 2 / (1 - LEVEL) * outside


def score_predictions(
    runs: pd.DataFrame,
    predictions: Sequence[Prediction],
    seals: Sequence[Mapping[str, str]],
    digests: Mapping[str, str],
    asked: Mapping[str, Any],
    over_images: Mapping[str, ImageIntervals] = MappingProxyType({}),
) -> list[Scored]:
    """Return the predictions with their scores, in their order, from the collected runs that they are about.

    `digests` are those of the files now, by name, `asked` is what askable() returned, and `over_images` has for each
    experiment the intervals that pairs() takes.
    """
    runs = measured(runs)

    def compared(name: str) -> list[list[Pair]]:
        rows = runs[runs["experiment"] == name]
        found = pairs(rows, asked["experiments"][name]["pairs"], over_images.get(name, {}))
        return sweeps(map(_vit_first, found))

    scored = []
    for prediction in predictions:
        found = [s for s in compared(prediction.experiment) if s[0].key[-2:] == prediction.models]
        truth = Truth(found[0], asked["experiments"][prediction.experiment]["accuracy"])
        if prediction.catches_up:
            sweep = next(
                s
                for s in compared(asked["sizes"])
                if (s[0].of("family", 0), s[0].of("family", 1)) == ("ViT", "CNN")
            )
            truth = truth._replace(
                sweep=sweep, sweep_accuracy=asked["experiments"][asked["sizes"]]["accuracy"]
            )
        seal = last_seal(seals, prediction.path)
        made, when = _made(seal, digests[prediction.path.name], truth.first_start)
        scored.append(_score(prediction, truth, made, when))
    return scored


def _vit_first(pair: Pair) -> Pair:
    return pair.turned if pair.of("family", 1) == "ViT" else pair


def _made(seal: Mapping[str, str] | None, digest: str, first_start: str) -> tuple[str, str]:
    """Return when a prediction was made, one of BEFORE, AFTER and UNSEALED, and in words."""
    if seal is None:
        return UNSEALED, "not sealed"
    sealed = seal["sealed_at"]
    if seal["sha256"] != digest:
        return UNSEALED, f"not sealed: changed since {_shown_time(sealed)}"
    if datetime.fromisoformat(sealed) < datetime.fromisoformat(first_start):
        return BEFORE, f"made before the first run: sealed {_shown_time(sealed)}"
    sealed, first_start = map(_shown_time, (sealed, first_start))
    return AFTER, f"made after the first run had started: sealed {sealed}, first run {first_start}"


def _shown_time(time: str) -> str:
    return f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M:%S %Z}"


def _score(prediction: Prediction, truth: Truth, made: str, when: str) -> Scored:
    winner = _outcome(prediction.winner, truth.winner)
    times = _outcome(prediction.faster, truth.faster) if truth.pair.compares("train_seconds") else None
    mean, low, high = truth.lead(prediction.winner)
    ours = prediction.gap
    return Scored(
        prediction,
        truth,
        made,
        when,
        winner,
        times,
        brier_score(prediction.confidence, winner),
        None if times is None else brier_score(prediction.confidence, times),
        interval_score(*ours, mean),
        None if low is None or high is None else ours[0] <= high and low <= ours[1],
        prediction.catches_up == truth.catches_up if prediction.catches_up else None,
    )


def _outcome(answer: str, shown: str | None) -> float:
    return 0.5 if shown is None else float(answer == shown)


# ---------------------------------------------------------------------------------------------
# In words


def report(
    scored: Sequence[Scored], runs: pd.DataFrame, bears_on: Sequence[tuple[str, str]]
) -> list[Section]:
    """Return the sections of the page on all predictions.

    `bears_on` are paths of figures and tables that bear on the reasons, each with its kind, a key of _BEARS_ON.
    """
    together: dict[tuple[str, tuple[str, str]], list[Scored]] = {}
    for one in scored:
        together.setdefault((one.prediction.experiment, one.prediction.models), []).append(one)
    sections = [_basis(scored, runs)]
    for of_pair in together.values():
        pair = of_pair[0].truth.pair
        where = f"{' and '.join(pair.names)}, {pair.place}"
        sections += [
            Section(where, items=[*_shown(of_pair)], table=_table(of_pair)),
            Section(f"All answers: {' and '.join(pair.names)}", table=_answers(of_pair)),
        ]
    return [*sections, _calibration(scored), _reasons(scored, bears_on)]


def _basis(scored: Sequence[Scored], runs: pd.DataFrame) -> Section:
    """Return the section on what the scores rest on, and the means by when predictions were made."""
    notices = []
    if made := generated(runs):
        notices.append(
            f"Generated images: {made}. They share a name and a layout with what is published, and nothing else: who is "
            "right here need not be right about real images."
        )
    late = Counter(one.made for one in scored)
    if late[AFTER]:
        notices.append(f"Made after the first run had started, and scored as such: {late[AFTER]}.")
    if late[UNSEALED]:
        notices.append(f"Not sealed, or changed since, and scored as such: {late[UNSEALED]}.")
    notices += [f"{words}." for words in changes(runs)]
    if any(one.truth.pair.difference(one.truth.accuracy).low is None for one in scored):
        notices.append(_ONE_SEED)
    rows = [(made, [one for one in scored if one.made == made]) for made in (BEFORE, AFTER, UNSEALED)]
    table = pd.DataFrame(
        [
            {
                "Made": {BEFORE: "before the first run", AFTER: "after it had started"}.get(made, made),
                "Predictions": str(len(of)),
                "Brier score, accuracy": _mean(one.winner_brier for one in of),
                "Brier score, speed": _mean(one.faster_brier for one in of),
                "Interval score, gap": _mean((one.gap_score for one in of), 1),
            }
            for made, of in rows
            if of
        ]
    )
    return Section(marked("Predictions", runs), notices, [_HOW, "Means:"], table=table)


def _mean(values: Iterable[float | None], digits: int = 2) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.{digits}f}" if known else "–"


def _shown(of_pair: Sequence[Scored]) -> Iterator[str]:
    """Yield what the runs show of a pair, line by line."""
    truth = of_pair[0].truth
    yield f"{truth.pair.place}: {truth.pair.says(truth.accuracy)}"
    yield faster(truth.pair)
    swept = next((one.truth for one in of_pair if one.truth.sweep), None)
    if swept:
        yield from catching_up([*swept.sweep], swept.sweep_accuracy)
    yield f"The first of these runs was started {_shown_time(min(one.truth.first_start for one in of_pair))}"


def _table(of_pair: Sequence[Scored]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Reader": one.prediction.path.stem,
                "Made": one.when,
                "Confidence": f"{one.prediction.confidence:g}"
                + ("" if one.prediction.is_stated else ", assumed"),
                "More accurate": f"{one.prediction.winner}: {_RIGHT[one.winner_right]}",
                "Brier score, accuracy": f"{one.winner_brier:.2f}",
                "Trains faster": f"{one.prediction.faster}: {_RIGHT[one.faster_right]}",
                "Brier score, speed": "–" if one.faster_brier is None else f"{one.faster_brier:.2f}",
                "Gap": f"{_range(one.prediction.gap)}: {_inside(one.gap_inside)}",
                "Interval score": f"{one.gap_score:.1f}",
                "ViT catches up at": _caught(one),
            }
            for one in of_pair
        ]
    )


def _range(gap: tuple[float, float]) -> str:
    low, high = (in_words(end, "g") for end in gap)
    return low if low == high else f"{low} to {high}"


def _inside(is_inside: bool | None) -> str:
    return "no interval over seeds" if is_inside is None else "inside" if is_inside else "outside"


def _caught(one: Scored) -> str:
    if one.prediction.catches_up is None:
        return "–"
    return f"{_size(one.prediction.catches_up)}: {_RIGHT[float(bool(one.catches_up_right))]}"


def _size(size: str) -> str:
    return f"{int(size):,}" if size.isdecimal() else size


def _answers(of_pair: Sequence[Scored]) -> pd.DataFrame:
    """Return how many gave each answer, a row per answer, and which of them the runs show."""
    rows = []

    def count(question: str, answers: Sequence[str], given: Iterable[str], shown: str) -> None:
        counts = Counter(given)
        for answer in answers:
            here = "measured" * (shown == answer) if shown in answers else shown
            rows.append((question, answer, str(counts[answer]), "█" * counts[answer], here))

    predictions = [one.prediction for one in of_pair]
    truth = of_pair[0].truth
    families = ["CNN", "ViT"]
    count("More accurate", families, (p.winner for p in predictions), truth.winner or _RIGHT[0.5])
    times = truth.faster or _RIGHT[0.5]
    times = times if truth.pair.compares("train_seconds") else _RIGHT[None]
    count("Trains faster", families, (p.faster for p in predictions), times)
    leader = "ViT" if truth.pair.difference(truth.accuracy).mean > 0 else "CNN"
    middles = [int(sum(p.gap) / 2 * (1 if p.winner == leader else -1) // _BIN) for p in predictions]
    gap = int(truth.lead(leader)[0] // _BIN)
    bins = range(min(*middles, gap), max(*middles, gap) + 1)
    labels = {n: f"{in_words(n * _BIN, 'd')} to {in_words((n + 1) * _BIN, 'd')}" for n in bins}
    count(f"Lead of the {leader}, middle", [*labels.values()], (labels[n] for n in middles), labels[gap])
    if swept := [one for one in of_pair if one.truth.sweep]:
        truth = swept[0].truth
        sizes = [str(pair.of("train_size", 0)) for pair in truth.sweep]
        given = (_size(one.prediction.catches_up or "") for one in swept)
        count(
            "ViT catches up at", [_size(size) for size in ("never", *sizes)], given, _size(truth.catches_up)
        )
    return pd.DataFrame(rows, columns=["Question", "Answer", "Readers", " ", "These runs"])


def _calibration(scored: Sequence[Scored]) -> Section:
    """Return the section on whether readers were as sure as they were right."""
    stated = [one for one in scored if one.prediction.is_stated]
    by_confidence = sorted(stated, key=lambda one: one.prediction.confidence)
    groups = [
        (f"{n / 10:.1f} to {(n + 1) / 10:.1f}", [*of])
        for n, of in groupby(by_confidence, lambda one: min(int(round(10 * one.prediction.confidence, 6)), 9))
    ]
    table = pd.DataFrame(
        [
            {
                "Confidence": words,
                "Answers": str(len(of)),
                "Mean confidence": _mean(one.prediction.confidence for one in of),
                "Share right": _mean(one.winner_right for one in of),
            }
            for words, of in [*groups, ("all", stated)]
        ]
    )
    ranges = [one for one in scored if one.prediction.gap[0] < one.prediction.gap[1]]
    held = sum(
        one.prediction.gap[0] <= one.truth.lead(one.prediction.winner)[0] <= one.prediction.gap[1]
        for one in ranges
    )
    items = []
    if ranges:
        items.append(f"{held} of {len(ranges)} ranges hold the measured mean gap; {LEVEL:.0%} of them should")
    wrong = [one for one in stated if one.winner_right == 0]
    if wrong:
        most = max(one.prediction.confidence for one in wrong)
        who = ", ".join(one.prediction.path.name for one in wrong if one.prediction.confidence == most)
        items.append(f"The most confident wrong answer on the accuracy: {most:g}, in {who}")
    elif stated:
        items.append("No answer on the accuracy that states its confidence is wrong")
    text = (
        "Of the answers on the accuracy that state a confidence. Who is calibrated is right as often as sure; an undecided "
        "answer counts as half right. Readers who answer one question are right or wrong together, so that one question "
        "alone says little about calibration."
    )
    return Section("How sure, how right", paragraphs=[text], items=items, table=table if stated else None)


def _reasons(scored: Sequence[Scored], bears_on: Sequence[tuple[str, str]]) -> Section:
    quotes = [
        (f"{one.prediction.path.stem}, on {' and '.join(one.truth.pair.names)}", one.prediction.reasoning)
        for one in scored
    ]
    items = [f"{path}: {_BEARS_ON[kind]}" for kind, path in bears_on]
    text = ["No score: compare each reason with what bears on it."] if items else []
    return Section("Reasons", paragraphs=text, items=items, quotes=quotes)
