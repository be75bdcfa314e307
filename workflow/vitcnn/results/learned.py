"""What the notebooks say the models learn, in their words, held against what was measured of them."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from vitcnn.plan import ALL
from vitcnn.results.claims import Claim, claims_table, verdict
from vitcnn.results.pairs import with_interval
from vitcnn.results.probed import Model
from vitcnn.results.sections import Section
from vitcnn.results.statistics import CONFIDENCE, Difference, against, compare, in_words

_TILES, _SHIFT = 4, 8  # a side, and pixels: more than the recipes' own shifts
_LOCAL = 0.5  # of the distance of uniform attention: a head below it looks at what is near
_GLOBAL = 0.9  # of it: a model above looks at all the image


class Judged(NamedTuple):
    """A claim, the titles of the models it is about, what was measured, the difference found, its unit, and the verdict.

    `untrained` is the same difference between the models as training begins with them, where that was measured.
    """

    claim: str
    titles: tuple[str, ...]
    measured: str
    difference: Difference
    unit: str
    verdict: str
    untrained: float | None


def what_the_models_learned(models: Sequence[Model], is_generated: bool = False) -> list[Section]:
    """Return the section of the findings; none where no model was probed.

    Of models of generated images it gives the measurements, and no verdict on what the notebooks claim.
    """
    judged = list(judge(models))
    if not judged:
        return []
    shown = [f"{j.measured}: {_shown(j)}" for j in judged]
    basis = (
        f"Measured on {models[0].dataset}, of the runs on the most training images. "
        f"Intervals are {CONFIDENCE:.0%} confidence intervals over seeds (Welch's t; paired, where both models of a "
        "seed saw the same subset; Student's t against a fixed value), and do not cover other test images. Untrained: the same, before training; what "
        "does not differ from it was not learned. The figures are `similarity`, `robustness`, `reach` and `attention`."
    )
    section = Section("What the models learned", paragraphs=[basis])
    if is_generated:
        return [section._replace(items=shown)]
    claims = [Claim(j.claim, words, j.verdict) for j, words in zip(judged, shown, strict=True)]
    return [section._replace(table=claims_table(claims))]


def judge(models: Sequence[Model]) -> Iterator[Judged]:
    """Yield the notebooks' claims on locality, translation, globality and hierarchy, each model's and pair's."""
    pairs = [
        (vit, cnn)
        for vit in models
        for cnn in models
        if (vit.family, cnn.family) == ("ViT", "CNN") and {*vit.experiments} & {*cnn.experiments}
    ]
    for vit, cnn in pairs:
        titles, names = (vit.title, cnn.title), f"{vit.title} less {cnn.title}"
        apart = partial(compare, paired=_is_paired(vit, cnn))
        can_lose = all((_above_chance(model, "clean") > 0).all() for model in (vit, cnn))
        changes = (
            (
                "Locality: CNNs rely on what is near each other, ViTs less so",
                f"with {_TILES}×{_TILES} tiles shuffled",
                ("shuffled", "tiles", _TILES),  # absent where they do not divide the images' side
                1,
            ),
            (
                "Translation: CNNs are less disturbed by a shift",
                f"when shifted by {_SHIFT} pixels",
                ("shifted", "shifts", _SHIFT),
                -1,
            ),
        )
        for claim, words, (name, at, value), sign in changes:
            if can_lose and value in vit.over_seeds(at)[0]:
                kept = [_kept(model, name, at, value) for model in (vit, cnn)]
                measured = f"accuracy above chance kept {words}, {names}"
                yield _judged(claim, titles, measured, apart(*kept), "points", sign)
        reaches = [_reaches(model) for model in (vit, cnn)]
        if not all(reach.shape[2] for reach in reaches):  # no layer is a map
            continue
        reaches = [reach[..., -1] for reach in reaches]
        yield _judged(
            "Global: ViTs relate distant places, CNNs near ones",
            titles,
            f"reach of the last layer that is a map, {names}",
            apart(*(reach[:, 0] for reach in reaches)),
            "pixels",
            1,
            untrained=apart(*(reach[:, 1] for reach in reaches)).mean,
        )
    for vit in models:
        if not vit.has("attention_distance"):
            continue
        distances = vit.over_seeds("attention_distance")
        distances = distances[:, :, : max(1, distances.shape[2] - 1)]  # no one reads the last block's patches
        mean, least = distances.mean((2, 3)), distances.min((2, 3))
        uniform = float(vit.over_seeds("uniform_distance")[0])
        yield _judged(
            "Global: each patch attends to all others",
            (vit.title,),
            f"mean attention distance of the {vit.title}, less {_GLOBAL:.0%} of what uniform attention has",
            against(mean[:, 0], _GLOBAL * uniform),
            "pixels",
            1,
            untrained=float(mean[:, 1].mean() - _GLOBAL * uniform),
        )
        yield _judged(
            "Locality: ViTs learn it from the data",
            (vit.title,),
            f"distance of the {vit.title}'s most local head, less {_LOCAL:.0%} of what uniform attention has",
            against(least[:, 0], _LOCAL * uniform),
            "pixels",
            -1,
            untrained=float(least[:, 1].mean() - _LOCAL * uniform),
        )
    for cnn in models:
        if cnn.family == "CNN" and _reaches(cnn).shape[2] > 1:
            growth = np.diff(_reaches(cnn)[:, :, [0, -1]], axis=2)[..., 0]
            yield _judged(
                "Hierarchical: CNNs learn to see more from layer to layer",
                (cnn.title,),
                f"reach of the {cnn.title}'s last layer over its first, trained less untrained",
                against(growth[:, 0] - growth[:, 1], 0),
                "pixels",
                1,
            )


def _is_paired(one: Model, other: Model) -> bool:
    """Return whether runs of one seed belong together: they saw the same subset of the training images."""
    seeds = [[probe.seed for probe in model.probes] for model in (one, other)]
    return one.train_size == other.train_size != ALL and seeds[0] == seeds[1]


def _judged(
    claim: str,
    titles: tuple[str, ...],
    measured: str,
    difference: Difference,
    unit: str,
    sign: int,
    untrained: float | None = None,
) -> Judged:
    found = verdict(difference, difference.sign == sign, difference.sign == -sign)
    return Judged(claim, titles, measured, difference, unit, found, untrained)


def _shown(judged: Judged) -> str:
    untrained = "" if judged.untrained is None else f"; untrained {in_words(judged.untrained, '+.1f')}"
    return with_interval(judged.difference, "+.1f", f" {judged.unit}") + untrained


def _kept(model: Model, name: str, at: str, value: float) -> np.ndarray:
    """Return how much of the accuracy above chance on whole images is left where `at` is `value`, in % `(seeds,)`.

    Of the accuracy itself, the less accurate model always seems to keep more: both keep what chance gives.
    """
    place = int(np.flatnonzero(model.over_seeds(at)[0] == value)[0])
    return 100 * _above_chance(model, name)[:, place] / _above_chance(model, "clean")


def _above_chance(model: Model, name: str) -> np.ndarray:
    """Return by how many points the accuracies of that name `(seeds, …)` are above those of guessing."""
    return model.over_seeds(name) - 100 / model.num_classes


def _reaches(model: Model) -> np.ndarray:
    """Return the reach `(seeds, 2, layers)` of the layers that are maps."""
    reach = model.over_seeds("reach")
    return reach[:, :, ~np.isnan(reach[0, 0])]
