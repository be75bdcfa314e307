"""The ledger of flaws: each measurement computed again, from made-up runs."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_answers import study as answered
from test_tuning import trials

from vitcnn.config import check_config
from vitcnn.errors import StudyError
from vitcnn.results.answers import analyse
from vitcnn.results.flaws import FLAWS, Results, for_people, ledger
from vitcnn.results.pairs import measured, pairs
from vitcnn.results.statistics import Interval, in_words
from vitcnn.results.tables import chosen_recipes


def results_of(runs, epochs=None, answers=None):
    selection = analyse(runs, epochs, answers, None).selection if answers else pd.DataFrame()
    over_images = {pair.key: {"final": Interval(-3, 9)} for pair in pairs(measured(runs))}
    return Results(runs, selection, list(pairs(measured(runs), None, over_images)))


def measure(flaw, *results, absent=()):
    """The rows of one flaw, measured by these results."""
    names = [f"experiment_{n}" for n in range(len(results) or 1)]
    found = dict(zip(names, results, strict=False))
    table = ledger({flaw: names}, found, {name: f"`snakemake {name}` does it" for name in absent})
    return table[table["flaw"] == FLAWS[flaw].flaw].reset_index(drop=True)


def of(runs, model, column="final"):
    return runs.loc[runs["model"] == model, column].to_numpy()


def test_the_best_epoch_overstates_by_the_t_interval_over_seeds():
    runs, epochs, answers = answered()
    table = measure("best_epoch", results_of(runs, epochs, answers))
    selection = analyse(runs, epochs, answers, None).selection
    for row, expected in zip(table.itertuples(), selection.to_dict("records"), strict=True):
        ends = stats.t.interval(0.95, 2, expected["Overstates"], expected["Overstates sd"] / 3**0.5)
        assert (row.mean, row.low, row.high) == pytest.approx((expected["Overstates"], *ends))
        assert row.runs == 3 and f"gains {in_words(expected['Gains'], '.2f')} over" in row.measured


def test_what_is_the_same_in_every_seed_has_no_interval():
    runs, *_ = answered()
    runs["selected"] = runs["best"]
    selection = pd.DataFrame(
        [
            {
                "Model": "CNN",
                "Dataset": "D",
                "Images": 900,
                "Overstates": 0.5,
                "Overstates sd": 0.0,
                "Gains": 0.0,
            }
        ]
    ).assign(Seeds=3)
    tables = [measure(flaw, Results(runs, selection, [])) for flaw in ("best_epoch", "no_validation")]
    for table, mean in zip(tables, ("+0.50", "+0.00"), strict=True):
        assert set(for_people(table)["Size"]) == {f"{mean} points, the same in every seed, n = 3"}


def test_the_selected_epoch_less_the_best():
    runs, _, _ = answered()
    table = measure("no_validation", results_of(runs))
    for row, model in zip(table.itertuples(), ("vit_p", "cnn"), strict=True):
        losses = of(runs, model, "selected") - of(runs, model, "best")
        expected = stats.ttest_1samp(losses, 0).confidence_interval()
        assert (row.low, row.high) == pytest.approx(tuple(expected)) and row.mean == pytest.approx(
            losses.mean()
        )
    by_recipe = measure("no_validation", results_of(trials()[0]))
    assert by_recipe["measured"].is_unique and len(by_recipe) == 6


def test_one_seed_counts_pairs_of_seeds_in_the_other_order():
    runs, _, _ = answered()
    runs.loc[runs["model"] == "vit_p", "final"] = [50.0, 60.0, 71.0]
    runs.loc[runs["model"] == "cnn", "final"] = [58.0, 70.0, 71.0]
    (row,) = measure("one_seed", results_of(runs)).itertuples()
    # 60 over 58, 71 over 58 and 70, 71 level with 71.
    assert "; 4 of 9 pairs of seeds do not have this order" in row.measured
    assert (row.image_low, row.image_high) == (-3, 9) and row.runs == 6
    assert row.mean == pytest.approx(181 / 3 - 199 / 3)
    runs.loc[runs["model"] == "cnn", "final"] = [71.0, 50.0, 60.0]
    (row,) = measure("one_seed", results_of(runs)).itertuples()
    assert "; the means are level;" in row.measured and "order" not in row.measured
    (row,) = measure("one_seed", results_of(answered(seeds=[0])[0])).itertuples()
    assert row.measured.endswith(" images; final accuracy")


def test_p_values_of_one_flaw_are_adjusted_for_each_other():
    runs, _, _ = answered(size=900)
    two = pd.concat(
        [runs, runs.assign(dataset="cifar100", final=runs["final"] + runs["seed"] * (runs["model"] == "cnn"))]
    )
    table = measure("size", results_of(two))
    plain = [
        stats.ttest_rel(of(rows, "vit_p", "selected"), of(rows, "cnn", "selected")).pvalue
        for _, rows in two.groupby("dataset", sort=False)
    ]
    assert table["p"].tolist() == pytest.approx([min(1, 2 * p) for p in plain])


def test_the_rate_is_a_difference_of_differences():
    runs, *_ = trials(seeds=(0, 1, 2))
    runs["lr"] = runs["recipe"].map({"lr1": 0.0001, "lr2": 0.001, "lr3": 0.01})
    runs["selected"] = np.random.default_rng(0).normal(60, 5, len(runs))
    (row,) = measure("rate", results_of(runs)).itertuples()

    def gap(ours, theirs):
        sides = (
            runs[(runs["model"] == m) & (runs["recipe"] == r)] for m, r in (("vit_p", ours), ("cnn", theirs))
        )
        return np.subtract(*(side.sort_values("seed")["selected"].to_numpy() for side in sides))

    change = gap("lr2", "lr3") - gap("lr2", "lr2")  # as HELD_OUT of test_tuning chooses
    assert row.mean == pytest.approx(change.mean())
    assert (row.low, row.high) == pytest.approx(tuple(stats.ttest_1samp(change, 0).confidence_interval()))
    assert row.measured.startswith(
        "vit_p − cnn, CIFAR-10, 900 images; each by its best rate (0.001; 0.01, at an edge of what was tried, so that one "
        "beyond may be better) less both by 0.001, selected"
    )
    assert row.runs == 9  # the ViT's best rate is the notebook's, so that its three runs count once


def test_rates_that_are_as_good_are_named_and_one_at_no_edge_is_taken():
    runs, *_ = trials()
    runs["held_out"] = 60.0
    (row,) = measure("rate", results_of(runs.assign(lr=runs["lr"] / 2))).itertuples()
    assert "(0.001, as good as 0.0005, 0.0015; 0.001, as good as 0.0005, 0.0015) less" in row.measured
    assert row.mean == 0


def test_a_rate_is_that_of_its_dataset():
    runs, *_ = trials()
    other = runs.assign(dataset="cifar100", dataset_title="CIFAR-100", lr=runs["lr"].replace(0.001, 0.1))
    both = pd.concat([other, runs]).reset_index(drop=True)
    chosen = chosen_recipes(both).set_index(["dataset", "model"])
    # On cifar100 the rates of lr1, lr2 and lr3 are 0.1, 0.002 and 0.003: vit_p's best, lr2, is the lowest.
    assert chosen["is_edge"].to_dict() == {
        ("cifar100", "vit_p"): True,
        ("cifar100", "cnn"): False,
        ("cifar10", "vit_p"): False,
        ("cifar10", "cnn"): True,
    }
    both["held_out"] = both["recipe"].map({"lr1": 70.0, "lr2": 60.0, "lr3": 60.0})
    (row,) = measure("rate", results_of(both)).itertuples()  # on cifar100 nothing has the notebook's rate
    assert "best rate (0.001, at" in row.measured


@pytest.mark.parametrize("model", ["vit_p", "cnn"])
def test_a_pair_of_which_one_has_another_rate_is_not_the_notebooks(model):
    runs, *_ = trials()
    runs.loc[runs["model"] == model, "lr"] *= 2
    (row,) = measure("rate", results_of(runs)).itertuples()
    assert row.measured == "Not measured: these runs have nothing to compare"


def test_steps_are_compared_on_the_same_subsets():
    runs, _, _ = answered(size=900)
    other = runs.assign(recipe="epochs", best=np.random.default_rng(1).normal(50, 3, len(runs)))
    (row,) = measure("steps", results_of(runs), results_of(other[::-1])).itertuples()
    change = (
        of(runs, "vit_p", "best")
        - of(runs, "cnn", "best")
        - of(other, "vit_p", "best")
        + of(other, "cnn", "best")
    )
    assert row.mean == pytest.approx(change.mean()) and row.runs == 12
    assert (row.low, row.high) == pytest.approx(tuple(stats.ttest_1samp(change, 0).confidence_interval()))
    whole, _, _ = answered()
    (row,) = measure("steps", results_of(whole), results_of(whole)).itertuples()
    assert "nothing to compare" in row.measured


def test_damage_is_counted_and_every_flaw_has_a_row():
    runs, epochs, answers = answered(seeds=[0])
    runs = runs.assign(damaged_images=[0, 7])
    (row,) = measure("damage", results_of(runs)).itertuples()
    assert row.measured == "Not measured: no run of this experiment is on imagenet200"
    both = pd.concat([runs, runs.assign(dataset="imagenet200", dataset_title="D", damaged_images=3)])
    for change, words in (
        ({"selected": None}, "900 training images and 400 test images were used"),
        ({"train_size": 900, "selected": None}, "900 training images of those decoded and 400 test images"),
        ({}, "900 training images of those decoded and"),  # others were held out
    ):
        (row,) = measure("damage", results_of(both.assign(**change))).itertuples()
        assert row.measured.startswith(f"D: every file is decoded whole, 3 were damaged; {words}")
        assert pd.isna(row.mean)
    table = ledger({"best_epoch": "one"}, {"one": results_of(runs, epochs, answers)}, {})
    assert table["flaw"].unique().tolist() == [flaw.flaw for flaw in FLAWS.values()]
    assert pd.isna(table.loc[0, "low"])
    assert table["measured"].str.startswith("Not measured: ").sum() == len(FLAWS) - 1
    shown = for_people(table)
    assert shown["Flaw"].tolist().count("") == 1 and shown.loc[0, "Size"].endswith("points, n = 1")


def test_times_of_the_model_alone_beside_the_notebooks():
    cost = {
        "dataset": "cifar10",
        "model": "vit",
        "dataset_title": "CIFAR-10",
        "model_title": "ViT",
        "device": "Card",
    }
    cost |= {"seconds_1": 0.002, "seconds_128": 0.0128, "seconds_128_q1": 0.01152, "seconds_128_q3": 0.0256}
    cost |= {"parameters": 1_205_642, "threads": 1, "precision": "fp32"}
    costs = pd.DataFrame(
        [cost, cost | {"model": "mine"}, cost | {"model": "cnn"}]
    )  # no CNN of the notebook's
    table = ledger({}, {}, {}, costs=costs)
    (row,) = table[table["flaw"] == FLAWS["timing"].flaw].itertuples()
    assert "the notebook says 0.347 ms for an image" in row.measured
    assert (
        "takes 0.100 ms (quartiles 0.090 to 0.200) in batches of 128, 2.000 ms by itself, on Card"
        in row.measured
    )
    assert row.runs == 0
    for measured_costs, words in (
        (None, "no cost was measured"),
        (costs.assign(parameters=9), "of no model of the first notebook, in its size, was"),
    ):
        table = ledger({}, {}, {}, costs=measured_costs).set_index("flaw")
        assert table.loc[FLAWS["timing"].flaw, "measured"].startswith(f"Not measured: {words}")


def test_generated_images_bear_on_no_claim():
    runs, _, _ = answered()
    found = [ledger({}, {"one": results_of(runs.assign(generated=g))}, {}) for g in (True, False)]
    measured = [table.set_index("flaw").loc[FLAWS["pictures"].flaw, "measured"] for table in found]
    assert measured[0] == "Not measured: generated images bear on no claim"
    assert "no model was probed" in measured[1]


def test_an_absent_experiment_is_named():
    (row,) = measure("rate", absent=["experiment_0"]).itertuples()
    assert row.measured == "Not measured: `snakemake experiment_0` does it" and row.runs == 0


def test_a_flaw_of_an_unknown_experiment(default_config):
    with pytest.raises(StudyError, match=r"flaws\.rate: tunes is no experiment; did you mean tune\?"):
        check_config({**default_config, "flaws": {**default_config["flaws"], "rate": "tunes"}})
