"""Every statistic beside an independent computation, and what its interval covers in simulations."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, ttost_ind, ttost_paired

from vitcnn.results import calibration
from vitcnn.results.calibration import calibrate, expected_calibration_error, fit_temperature, score
from vitcnn.results.claims import BORNE_OUT, NOT_BORNE_OUT, UNDECIDED, UNTOLD, Claim, adjusted, judge
from vitcnn.results.pairs import with_interval
from vitcnn.results.selection import looking
from vitcnn.results.statistics import (
    Difference,
    Interval,
    against,
    compare,
    equivalence,
    holm,
    in_words,
    mcnemar,
    over_images,
    p_in_words,
)

A, B = [61.2, 62.9, 60.4, 63.1, 61.7], [60.1, 62.0, 60.2, 61.1, 61.4]


def test_differences_as_statsmodels_has_them():
    found = compare(A, B)
    both = CompareMeans.from_data(A, B)
    assert (found.low, found.high) == pytest.approx(both.tconfint_diff(usevar="unequal"))
    assert found.p == pytest.approx(both.ttest_ind(usevar="unequal")[1])
    paired = compare(A, B, paired=True)
    differences = pd.Series(A) - pd.Series(B)
    half = stats.t.ppf(0.975, 4) * differences.sem()
    assert (paired.low, paired.high) == pytest.approx((differences.mean() - half, differences.mean() + half))
    assert paired.mean == pytest.approx(found.mean)
    assert paired.high - paired.low < found.high - found.low


def test_equivalence_as_statsmodels_has_it():
    assert equivalence(A, B) == pytest.approx(ttost_ind(A, B, -1, 1, usevar="unequal")[0])
    paired = ttost_paired(np.array(A), np.array(B), -1, 1)[0]
    assert equivalence(A, B, paired=True) == pytest.approx(paired)
    assert equivalence(A, [value + 0.1 for value in A], margin=5) < 0.05
    assert equivalence([1.0], [2.0]) is None


@pytest.mark.parametrize("apart", [0.0, 0.05, -2.0])
def test_seeds_that_agree_are_no_certainty(apart):
    """No spread tells chance, so there is no p, and no verdict."""
    paired = compare([60.0 + apart, 62.0 + apart], [60.0, 62.0], paired=True)
    unpaired = compare([60.0 + apart] * 3, [60.0] * 3)
    fixed = against([60.0 + apart] * 3, 60.0)
    for found, seeds in ((paired, 2), (unpaired, 3), (fixed, 3)):
        assert (found.mean, found.sign, found.p) == (pytest.approx(apart), 0, None)
        shown = with_interval(found, "+.2f", " points")
        assert shown == f"{in_words(apart)} points, the same in every seed, n = {seeds}"
        for stated in ({"within": 60}, {"larger": "ViT"}):
            verdict = judge(stated, Fixed(found), "train_seconds")
            assert verdict == UNDECIDED
    assert equivalence([60.0 + apart, 62.0 + apart], [60.0, 62.0], paired=True) is None
    assert equivalence([60.0 + apart] * 3, [60.0] * 3) is None


@pytest.mark.filterwarnings("ignore:Precision loss")
def test_where_the_seeds_of_one_model_agree_the_other_has_the_spread():
    agreeing, other = [60.0] * 3, [61.0, 62.0, 63.0]
    low, high = CompareMeans.from_data(agreeing, other).tconfint_diff(usevar="unequal")
    assert compare(agreeing, other).ends == pytest.approx((low, high))
    assert compare(other, agreeing).ends == pytest.approx((-high, -low))
    p = ttost_ind(agreeing, other, -1, 1, usevar="unequal")[0]
    assert equivalence(agreeing, other) == pytest.approx(p)


class Fixed:
    """A pair, the ViT first, that differs by what it was given."""

    def __init__(self, difference):
        self.found = difference

    def difference(self, metric):
        return self.found

    def of(self, column, side):
        return ("ViT", "CNN")[side]


def test_a_narrow_interval_is_shown():
    assert with_interval(Difference(0.0002, 0.0001, 0.0003, 3), "+.2f") == "+0.00 [+0.00, +0.00], n = 3"


def test_holm_and_mcnemar_as_statsmodels_has_them():
    p_values = [0.012, 0.6, 0.0004, 0.03, 0.03]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == []
    generator = np.random.default_rng(0)
    ours, theirs = generator.random(1000) < 0.7, generator.random(1000) < 0.65
    table = pd.crosstab(ours, theirs).to_numpy()
    assert mcnemar(ours, theirs) == pytest.approx(reference_mcnemar(table, exact=True).pvalue)
    assert mcnemar(ours, ours) == 1


def test_the_interval_over_images_is_the_normal_one_of_many_images():
    generator = np.random.default_rng(1)
    ours, theirs = (generator.binomial(5, share, 4000) / 5 for share in (0.7, 0.6))
    difference = 100 * pd.Series(ours - theirs)
    low, high = over_images(ours, theirs)
    assert low == pytest.approx(difference.mean() - 1.96 * difference.sem(), abs=0.1)
    assert high == pytest.approx(difference.mean() + 1.96 * difference.sem(), abs=0.1)
    assert over_images(ours, theirs) == Interval(low, high)


def test_a_difference_needs_both_intervals():
    seeds = Difference(2.0, 1.0, 3.0, 5)
    assert seeds.sign == 1
    assert seeds._replace(images=Interval(0.5, 3.5)).sign == 1
    assert seeds._replace(images=Interval(-0.5, 4.5)).sign == 0
    assert Difference(2.0, -1.0, 5.0, 5, Interval(1.0, 3.0)).sign == 0
    assert Difference(-2.0, -3.0, -1.0, 5, Interval(-3.0, -1.0)).sign == -1


def covered(draw, interval, simulations=1000):
    """Return the share of simulations in which the interval of a draw holds 0."""
    ends = (interval(*draw()) for _ in range(simulations))
    return np.mean([low <= 0 <= high for low, high in ends])


@pytest.mark.parametrize("seeds", [pytest.param(3, marks=pytest.mark.exhaustive), 5])
def test_the_interval_over_seeds_covers_what_it_says(seeds):
    """The same for unequal spreads, and paired where a subset's own part is in both."""
    generator = np.random.default_rng(2)
    nominal = pytest.approx(0.95, abs=0.02)

    def unequal():
        return generator.normal(0, 1, seeds), generator.normal(0, 2, seeds)

    def of_subsets():
        subset = generator.normal(0, 3, seeds)
        return subset + generator.normal(0, 1, seeds), subset + generator.normal(0, 1, seeds)

    assert covered(unequal, lambda a, b: compare(a, b).ends) == nominal
    assert covered(of_subsets, lambda a, b: compare(a, b, paired=True).ends) == nominal
    assert covered(of_subsets, lambda a, b: compare(a, b).ends) > 0.99  # pairing is what makes it sharp


def test_the_interval_over_images_covers_the_difference_on_all_images():
    """Where the truth is that of all images there are, and the test images are a draw from them."""
    generator = np.random.default_rng(3)
    everywhere = generator.beta(2, 1, (2, 20_000))  # how often each model classifies each image correctly
    truth = 100 * (everywhere[0].mean() - everywhere[1].mean())

    def draw():
        chosen = everywhere[:, generator.integers(0, 20_000, 500)]
        return generator.binomial(5, chosen) / 5

    def around_truth(ours, theirs):
        low, high = over_images(ours, theirs)
        return low - truth, high - truth

    assert covered(draw, around_truth, 200) == pytest.approx(0.95, abs=0.04)


def test_errors_of_the_tests_are_as_rare_as_they_say():
    generator = np.random.default_rng(4)
    at_the_margin = [
        equivalence(generator.normal(1, 0.5, 5), generator.normal(0, 0.5, 5)) < 0.05 for _ in range(1000)
    ]
    assert np.mean(at_the_margin) < 0.07
    families = generator.random((2000, 7))  # seven claims of which none is true
    assert np.mean([min(holm(p_values)) < 0.05 for p_values in families]) == pytest.approx(0.05, abs=0.015)


def test_a_primary_claim_needs_an_adjusted_p():
    held = [
        Claim("a", "", BORNE_OUT, 0.03),
        Claim("b", "", NOT_BORNE_OUT, 0.001),
        Claim("c", "", BORNE_OUT),
        Claim("d", "", UNTOLD, 0.9),
    ]
    found = adjusted(held)
    assert [claim.verdict for claim in found] == [UNDECIDED, NOT_BORNE_OUT, BORNE_OUT, UNTOLD]
    assert found[1].shown == "; primary, adjusted p = 0.003"
    assert p_in_words(0.0004) == "p < 0.001"


def noisy(images=4000, classes=10, sharpness=1.0, seed=5):
    """Return logits and labels that are drawn from them, times `sharpness`: 1 is perfectly calibrated."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (images, classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (p.cumsum(1) < generator.random((images, 1))).sum(1)
    return logits * sharpness, labels


def test_scores_as_torch_and_pandas_have_them():
    logits, labels = noisy()
    found = score(logits, labels)
    tensor, target = torch.from_numpy(logits), torch.from_numpy(labels)
    assert found.nll == pytest.approx(torch.nn.functional.cross_entropy(tensor, target).item())
    p = tensor.softmax(1)
    one_hot = torch.nn.functional.one_hot(target, 10)
    assert found.brier == pytest.approx(((p - one_hot) ** 2).sum(1).mean().item())
    rows = pd.DataFrame({"confidence": p.amax(1).numpy(), "right": (p.argmax(1) == target).numpy()})
    bins = rows.groupby(pd.cut(rows["confidence"], np.linspace(0, 1, 16), right=False), observed=True)
    gaps = (bins["confidence"].mean() - bins["right"].mean()).abs() * bins.size()
    assert found.ece == pytest.approx(100 * gaps.sum() / len(rows))


def test_a_confidence_of_one_is_in_the_last_bin():
    assert expected_calibration_error(np.array([1.0, 0.95]), np.array([False, True])) == pytest.approx(47.5)
    assert expected_calibration_error(np.array([1.0]), np.array([False])) == 100


@pytest.mark.parametrize("sharpness", [0.3, 1, 4])
def test_a_temperature_undoes_what_was_too_sharp(sharpness):
    logits, labels = noisy(sharpness=sharpness)
    held_out, held_labels = noisy(sharpness=sharpness, seed=6)
    assert fit_temperature(held_out, held_labels) == pytest.approx(sharpness, rel=0.1)
    for found in (calibrate(logits, labels), calibrate(logits, labels, held_out, held_labels)):
        assert found.temperature == pytest.approx(sharpness, rel=0.1)
        assert found.after.ece < 3
        assert found.after.nll <= found.before.nll + 1e-3
    assert calibrate(logits, labels).before.ece > (5 if sharpness != 1 else 0)


def test_no_image_is_scored_by_a_temperature_that_it_fitted(monkeypatch):
    logits, labels = noisy(100)
    fitted = []
    monkeypatch.setattr(calibration, "fit_temperature", lambda of, _: fitted.append(of) or len(fitted) * 2.0)
    found = calibrate(logits, labels)
    assert np.array_equal(fitted[0], logits[::2]) and np.array_equal(fitted[1], logits[1::2])
    scaled = logits.copy()
    scaled[::2] /= 4  # the even places by what fits the odd ones
    scaled[1::2] /= 2
    assert found.after == score(scaled, labels)
    held = calibrate(logits, labels, logits[:7] + 1, labels[:7])
    assert len(fitted) == 3 and np.array_equal(fitted[2], logits[:7] + 1)
    assert held.after == score(logits / 6, labels)


@pytest.mark.parametrize(("images", "expected"), [(10_000, 1.0), (1000, 3.0)])
def test_the_floor_of_the_error_grows_as_images_get_fewer(images, expected):
    """Even a perfectly calibrated model has about these ECEs, in points."""
    logits, labels = noisy(images)
    assert calibration.floor(logits) == pytest.approx(expected, rel=0.35)
    assert score(logits, labels).ece == pytest.approx(calibration.floor(logits), rel=0.5)


def test_looking_at_the_test_images_overstates_what_chance_gives():
    generator = np.random.default_rng(7)
    alike = generator.random((60, 20, 2000)) < 0.6  # sixty runs of twenty epochs that are equally good
    overstates, gains = np.mean([looking(run) for run in alike], axis=0)
    # The largest of twenty normal numbers, as wide as the accuracy on half of the images.
    largest = integrate.quad(lambda z: z * 20 * stats.norm.pdf(z) * stats.norm.cdf(z) ** 19, -8, 8)[0]
    assert overstates == pytest.approx(100 * largest * (0.6 * 0.4 / 1000) ** 0.5, rel=0.1)
    assert abs(gains) < 0.3
    alike = alike[0]
    assert looking(np.tile(alike[:1], (20, 1))).gains == 0
    rising = generator.random((5, 2000)) < np.linspace(0.2, 0.9, 5)[:, None]
    assert looking(rising).gains == 0 and abs(looking(rising).overstates) < 0.5
    falling = looking(rising[::-1])
    assert falling.gains == pytest.approx(70, abs=3)
