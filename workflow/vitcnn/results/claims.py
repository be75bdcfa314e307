"""What the two notebooks claim, held against the runs."""

from collections.abc import Iterator
from typing import NamedTuple

from vitcnn.results.pairs import Pair
from vitcnn.results.statistics import Difference

BORNE_OUT, NOT_BORNE_OUT, UNDECIDED, UNTOLD = "borne out", "not borne out", "undecided", "cannot be told"
LARGE = 100  # more classes than this are "large" in the first notebook's conclusion
VIT, CNN, NEITHER = 1, -1, 0  # of which model a measure is claimed to be larger; neither: within a minute


class Claim(NamedTuple):
    """A claim of a notebook: its words, what these runs show, and the verdict; `is_of_cost`: on resources."""

    claim: str
    shown: str
    verdict: str
    is_of_cost: bool = False


class _Stated(NamedTuple):
    """What a notebook says of a ViT and a CNN: in which column, and whose is larger."""

    words: str
    column: str
    larger: int
    is_of_cost: bool = False

    def held_against(self, pair: Pair) -> Claim:
        """Return the claim with what the pair shows."""
        words = f"{pair.dataset}: {self.words}"
        if not pair.compares(self.column):
            return Claim(words, "the runs were made on different hardware", UNTOLD, self.is_of_cost)
        verdict = judge(pair.difference(self.column), self.larger)
        return Claim(words, pair.says(self.column), verdict, self.is_of_cost)


_OF_FEW_CLASSES = (
    _Stated("the CNN is more accurate", "final", CNN),
    _Stated("the CNN trains faster", "train_seconds", VIT, is_of_cost=True),
    _Stated("the CNN infers faster", "inference_ms_per_image", VIT),
)
_OF_MANY_CLASSES = (
    _Stated("the ViT is more accurate", "final", VIT),
    _Stated("the training times differ by less than a minute", "train_seconds", NEITHER),
    _Stated("the inference times differ by less than a minute", "inference_seconds", NEITHER),
)
_OF_ALL = (
    _Stated("the CNN needs fewer parameters", "parameters_millions", VIT, is_of_cost=True),
    _Stated("the CNN needs less memory", "peak_memory_mb", VIT, is_of_cost=True),
)


def first_notebook(pairs: list[Pair]) -> Iterator[Claim]:
    """Yield each claim of the first notebook's conclusion, held against its pairs."""
    if not pairs:
        return
    claims = [
        stated.held_against(pair)
        for pair in pairs
        for stated in (*(_OF_MANY_CLASSES if _classes(pair) > LARGE else _OF_FEW_CLASSES), *_OF_ALL)
    ]
    yield from claims
    yield from _narrowing(pairs)
    many = [pair for pair in pairs if _classes(pair) >= LARGE]
    if len(many) > 1:
        yield _vit_ahead("With a large number of classes ViTs tend to be ahead of CNNs", many)
    yield Claim(
        "Where resources are scarce, the CNN is the efficient choice",
        "the rows on training time, parameters and memory above",
        _all([claim.verdict for claim in claims if claim.is_of_cost]),
    )
    yield _vit_ahead("Where accuracy alone counts, the ViT is the superior choice", pairs)
    yield Claim("The CNN costs less computation", "these runs count no operations", UNTOLD)
    yield Claim(
        "The CNN's lead on few images comes from its inductive biases",
        "no run changes the biases and nothing else",
        UNTOLD,
    )


def second_notebook(sweeps: list[list[Pair]]) -> Iterator[Claim]:
    """Yield each claim of the second notebook, held against pairs at increasing numbers of images."""
    for first, *_, last in (sweep for sweep in sweeps if len(sweep) > 1):
        for words, pair, larger in (
            ("CNNs do better with small datasets", first, CNN),
            ("ViTs catch up and in the end surpass CNNs as the data grow", last, VIT),
        ):
            shown = f"{pair.dataset}, {pair.images:,} images: {pair.says('best')}"
            yield Claim(words, shown, judge(pair.difference("best"), larger))


def judge(difference: Difference, larger: int) -> str:
    """Judge that a measure is larger of the VIT or of the CNN, or that it differs by less than a minute."""
    if larger == NEITHER:
        low, high = difference.ends
        return _verdict(difference, low > -60 and high < 60, low >= 60 or high <= -60)
    return _verdict(difference, difference.sign == larger, difference.sign == -larger)


def _verdict(difference: Difference, is_so: bool, is_not_so: bool) -> str:
    if difference.low is None:
        return f"{'as claimed' if is_so else 'not as claimed'} in one seed; chance unknown"
    return BORNE_OUT if is_so else NOT_BORNE_OUT if is_not_so else UNDECIDED


def _vit_ahead(words: str, pairs: list[Pair]) -> Claim:
    """Return a claim that the ViT is ahead in final accuracy in all of these pairs."""
    shown = "; ".join(f"{pair.dataset}: {pair.says('final')}" for pair in pairs)
    return Claim(words, shown, _all([judge(pair.difference("final"), VIT) for pair in pairs]))


def _narrowing(pairs: list[Pair]) -> Iterator[Claim]:
    """Hold "the difference in time is less pronounced on large datasets" against ratios of times."""
    few = [pair.log_ratio("train_seconds") for pair in pairs if _classes(pair) <= LARGE]
    many = [pair.log_ratio("train_seconds") for pair in pairs if _classes(pair) > LARGE]
    if not few or not many or not all(pair.compares("train_seconds") for pair in pairs):
        return
    narrower = min(map(_nearest, few)) > max(map(_farthest, many))
    wider = max(map(_farthest, few)) < min(map(_nearest, many))
    yield Claim(
        "The difference in training time is less pronounced on large datasets",
        "; ".join(f"{pair.dataset}: {pair.says_ratio('train_seconds')}" for pair in pairs),
        _verdict(min((*few, *many), key=lambda difference: difference.seeds), narrower, wider),
    )


def _nearest(difference: Difference) -> float:
    """Return the smallest size that a difference may have."""
    low, high = difference.ends
    return 0.0 if low < 0 < high else min(abs(low), abs(high))


def _farthest(difference: Difference) -> float:
    """Return the largest size that a difference may have."""
    return max(map(abs, difference.ends))


def _classes(pair: Pair) -> int:
    return int(pair.first["num_classes"].iloc[0])


def _all(verdicts: list[str]) -> str:
    """Judge a claim about several cases: one that speaks against it is enough."""
    against = [verdict for verdict in verdicts if verdict.startswith("not")]
    doubtful = [verdict for verdict in verdicts if verdict in (UNDECIDED, UNTOLD)]
    unsure = [verdict for verdict in verdicts if verdict != BORNE_OUT]
    return (*against, *doubtful, *unsure, BORNE_OUT)[0]
