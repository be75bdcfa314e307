"""Claims, as `claims` in config.yaml states them, held against the runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from vitcnn.results.pairs import MEASURES, Pair, sweeps
from vitcnn.results.statistics import CONFIDENCE, Difference, holm, p_in_words

BORNE_OUT, NOT_BORNE_OUT, UNDECIDED, UNTOLD = "borne out", "not borne out", "undecided", "cannot be told"
_NO_PAIR = "these runs compare no pair that this is about"
_OTHER_HARDWARE = "the runs were made on different hardware"


class Claim(NamedTuple):
    """A claim: its words, what these runs show, and the verdict; of a primary one also the p value of its test."""

    claim: str
    shown: str
    verdict: str
    p: float | None = None


def claims_table(claims: Iterable[Claim]) -> pd.DataFrame:
    """Return claims as readers see them, a row each."""
    return pd.DataFrame([claim[:3] for claim in claims], columns=["Claim", "These runs", "Verdict"])


def hold(stated: Mapping[str, Any], found: Sequence[Pair]) -> Iterator[Claim]:
    """Yield a claim of the configuration with what the pairs show of it, and the verdict.

    There is a row for each pair in its `scope`, or one row for all of them if it is claimed of them `together`. A
    claim names a `metric` or several, and of which of two models it is `larger`, by how much they differ at most
    (`within`), or on which datasets they are `closer` than on the others. One that these runs cannot tell says why,
    in `untold`; so does a row for one that is about none of the pairs.
    """
    if "untold" in stated:
        yield Claim(stated["text"], stated["untold"], UNTOLD)
        return
    metrics = [stated["metric"]] if isinstance(stated["metric"], str) else stated["metric"]
    scoped = [(pair, metric) for pair in _in_scope(stated, found) for metric in metrics]
    if not scoped:
        yield Claim(stated["text"], _NO_PAIR, UNTOLD)
        return
    if "closer" in stated:
        yield _closer(stated, scoped)
        return
    rows = [_of_pair(stated, pair, metric) for pair, metric in scoped]
    if stated["together"]:
        shown = "; ".join(row.shown for row in rows)
        rows = [Claim(stated["text"], shown, _all([row.verdict for row in rows]))]
    yield from rows


def adjusted(held: Sequence[Claim]) -> list[Claim]:
    """Return claims with the p values of the primary ones adjusted for each other, and no verdict that rests on
    chance."""
    adjusted_p = iter(holm([claim.p for claim in held if claim.p is not None]))
    return [claim if claim.p is None else _adjusted(claim, next(adjusted_p)) for claim in held]


def _adjusted(claim: Claim, p: float) -> Claim:
    verdict = claim.verdict if p < 1 - CONFIDENCE or claim.verdict == UNTOLD else UNDECIDED
    return Claim(claim.claim, f"{claim.shown}; primary, adjusted {p_in_words(p)}", verdict, p)


def _in_scope(stated: Mapping[str, Any], found: Sequence[Pair]) -> list[Pair]:
    """Return the pairs of which something is claimed."""
    scope, size = stated["scope"], stated["scope"].get("train_size")
    if size:  # one of several
        end = {"smallest": 0, "largest": -1}[size]
        found = [sweep[end] for sweep in sweeps(found) if len(sweep) > 1]
    return [
        pair
        for pair in found
        if _is_of(pair, scope)
        and ("pairs" not in stated or {*pair.key[-2:]} in map(set, stated["pairs"]))
        and ("larger" not in stated or _side(pair, stated["larger"]))
    ]


def _is_of(pair: Pair, scope: Mapping[str, Any]) -> bool:
    """Return whether a pair's dataset is one of the scope's."""
    return (
        pair.of("dataset", 0) in scope.get("datasets", [pair.of("dataset", 0)])
        and scope.get("over_classes", 0) < pair.of("num_classes", 0)
        and pair.of("num_classes", 0) <= scope.get("up_to_classes", float("inf"))
    )


def _side(pair: Pair, model: str) -> int:
    """Return 1 if `model`, by name or by family, is the first of the pair, -1 if the second, 0 if it is neither or both."""
    first, second = (model in (pair.of("model", side), pair.of("family", side)) for side in (0, 1))
    return int(first) - int(second)


def _of_pair(stated: Mapping[str, Any], pair: Pair, metric: str) -> Claim:
    """Return a claim with what one pair shows of it."""
    if not pair.has(metric):
        return Claim(stated["text"], f"{pair.place}: these runs have no {MEASURES[metric].words}", UNTOLD)
    if not pair.compares(metric):
        return Claim(stated["text"], f"{pair.place}: {_OTHER_HARDWARE}", UNTOLD)
    p = pair.difference(metric).p if stated["primary"] else None
    return Claim(stated["text"], f"{pair.place}: {pair.says(metric)}", judge(stated, pair, metric), p)


def judge(stated: Mapping[str, Any], pair: Pair, metric: str) -> str:
    """Return the verdict on a claim of a pair that a metric is `larger` of one, or differs by less than `within`."""
    difference = pair.difference(metric)
    if "within" in stated:
        within = stated["within"]
        intervals = [difference.ends, *([difference.images] if difference.images else [])]
        is_so = all(-within < low and high < within for low, high in intervals)
        is_above = all(low >= within for low, _ in intervals)
        is_below = all(high <= -within for _, high in intervals)
        return verdict(difference, is_so, is_above or is_below)
    larger = _side(pair, stated["larger"])
    is_level = difference.low == difference.high == 0  # of a count, which chance plays no part in
    return verdict(difference, difference.sign == larger, difference.sign == -larger or is_level)


def verdict(difference: Difference, is_so: bool, is_not_so: bool) -> str:
    """Return the verdict on a claim that a difference bears out, contradicts or leaves open."""
    if difference.low is None and (is_so or is_not_so):
        return f"{'as claimed' if is_so else 'not as claimed'} in one seed; chance unknown"
    return BORNE_OUT if is_so else NOT_BORNE_OUT if is_not_so else UNDECIDED


def _closer(stated: Mapping[str, Any], scoped: Sequence[tuple[Pair, str]]) -> Claim:
    """Hold "the two are closer on such datasets than on others" against the ratios of a metric."""
    if lacking := [metric for pair, metric in scoped if not pair.has(metric)]:
        return Claim(stated["text"], f"these runs have no {MEASURES[lacking[0]].words}", UNTOLD)
    ratios = [(_is_of(pair, stated["closer"]), pair.log_ratio(metric)) for pair, metric in scoped]
    near = [ratio for is_near, ratio in ratios if is_near]
    far = [ratio for is_near, ratio in ratios if not is_near]
    if not near or not far:
        return Claim(stated["text"], "these runs do not cover both kinds of datasets", UNTOLD)
    if not all(pair.compares(metric) for pair, metric in scoped):
        return Claim(stated["text"], _OTHER_HARDWARE, UNTOLD)
    is_so = min(map(_nearest, far)) > max(map(_farthest, near))
    is_not_so = max(map(_farthest, far)) < min(map(_nearest, near))
    return Claim(
        stated["text"],
        "; ".join(f"{pair.dataset}: {pair.says_ratio(metric)}" for pair, metric in scoped),
        verdict(min((*near, *far), key=lambda difference: difference.seeds), is_so, is_not_so),
    )


def _nearest(difference: Difference) -> float:
    """Return the smallest size that a difference may have."""
    low, high = difference.ends
    return 0.0 if low < 0 < high else min(abs(low), abs(high))


def _farthest(difference: Difference) -> float:
    """Return the largest size that a difference may have."""
    return max(map(abs, difference.ends))


def _all(verdicts: list[str]) -> str:
    """Judge a claim about several cases: one that speaks against it is enough."""
    against = [verdict for verdict in verdicts if verdict.startswith("not")]
    doubtful = [verdict for verdict in verdicts if verdict in (UNDECIDED, UNTOLD)]
    unsure = [verdict for verdict in verdicts if verdict != BORNE_OUT]
    return (*against, *doubtful, *unsure, BORNE_OUT)[0]
