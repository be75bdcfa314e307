"""An experiment that trains each model by several recipes, and what is chosen of them."""

import pandas as pd
import pytest
from test_answers import study as answered

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.errors import StudyError
from vitcnn.results import findings, tables
from vitcnn.results.answers import analyse
from vitcnn.results.collect import places
from vitcnn.results.figures import curves, data_efficiency
from vitcnn.results.flaws import Results, _rate
from vitcnn.results.pairs import measured, pairs, sweeps

RECIPES = ["lr1", "lr2", "lr3"]
# On held-out images vit_p is best by lr2, the CNN by lr3, the last; on the test images both by lr1.
HELD_OUT = {"vit_p": [60, 70, 65], "cnn": [50, 60, 70]}


def trials(seeds=(0, 1)):
    """Runs and epochs of two models by three recipes, and their answers, as the rules collect them."""
    runs, epochs, answers = [], [], {}
    for place, recipe in enumerate(RECIPES):
        of_recipe, of_epoch, found = answered(seeds)
        for table in (of_recipe, of_epoch):
            table["recipe"] = recipe
        of_recipe["held_out"] = [HELD_OUT[model][place] for model in of_recipe["model"]]
        of_recipe["final"] -= place
        of_recipe["lr"] = 0.001 * (place + 1)
        runs.append(of_recipe)
        epochs.append(of_epoch.assign(seconds=1.0, train_loss=1.0, test_accuracy=50.0 + place))
        answers |= {
            plan.Run("cifar10", p.parts[3], recipe, "all", int(p.name[4:])).folder: a
            for p, a in found.items()
        }
    whole = {
        "experiment": "tune",
        "test_images_in_train": 0,
        "damaged_images": 0,
        "epochs": 10,
        "device": "CPU",
        "threads": 1,
    }
    whole |= {"precision": "fp32", "accepted": None, "other_versions": None}
    runs, epochs = (pd.concat(table, ignore_index=True).assign(**whole) for table in (runs, epochs))
    titles = runs.drop_duplicates("model").set_index("model")["model_title"]
    return (
        runs,
        epochs.assign(model_title=epochs["model"].map(titles), dataset_title="CIFAR-10", gap=None),
        answers,
    )


def test_each_model_is_trained_by_each_recipe(default_config):
    runs = plan.experiment_runs(default_config, "tune")
    asked = default_config["experiments"]["tune"]
    assert len(runs) == len(asked["models"]) * len(asked["recipe"]) and len(set(runs)) == len(runs)
    rates = [plan.run_spec(default_config, run)["recipe"]["lr"] for run in runs if run.model == "cnn"]
    assert rates == [0.0001, 0.0003, 0.001, 0.003, 0.01]
    study = plan.part_of_study(default_config, "tune")
    assert [plan.run_spec(study, run) for run in runs] == [plan.run_spec(default_config, run) for run in runs]
    assert not set(runs) & set(plan.all_runs(default_config))


def test_a_recipe_of_several_that_does_not_exist(default_config):
    wrong = {**default_config["experiments"]["tune"], "recipe": ["modern10", "modern11"]}
    with pytest.raises(StudyError) as error:
        check_config({**default_config, "experiments": {**default_config["experiments"], "tune": wrong}})
    assert str(error.value).count("\n") == 1
    assert "experiments.tune: modern11 is not one of the recipes; did you mean modern10?" in str(error.value)


def test_the_table_has_a_row_for_each_recipe_and_says_which_is_best_on_held_out_images():
    runs, *_ = trials()
    table = tables.tabulate(runs, "final")
    assert table["Model"].tolist() == [f"{m}, {r}" for r in RECIPES for m in ("vit_p", "cnn")]
    assert table["Held-out Accuracy (%)"].tolist() == [60, 50, 70, 60, 65, 70]
    assert table.set_index("Model").loc["cnn, lr2", "Accuracy (%)"] == pytest.approx(
        runs.query("model == 'cnn' and recipe == 'lr2'")["final"].mean()
    )
    assert "Held-out Accuracy (%)" in tables.for_people(table)
    chosen = tables.chosen_recipes(runs).set_index("model")
    assert chosen["recipe"].to_dict() == {"vit_p": "lr2", "cnn": "lr3"}
    assert chosen["is_edge"].to_dict() == {"vit_p": False, "cnn": True}
    text = tables.note(runs, "final")
    assert "vit_p on CIFAR-10: lr2; cnn on CIFAR-10: lr3, at an edge" in text
    of_part = runs.assign(train_size="1000", held_out=[*reversed(runs["held_out"])])
    text = tables.note(pd.concat([runs, of_part]), "final")
    assert "vit_p on CIFAR-10, all images: lr2; " in text and "vit_p on CIFAR-10, 1000 images: lr1" in text


def test_recipes_that_are_as_good_are_named():
    runs, *_ = trials()
    runs.loc[runs["recipe"] != "lr1", "held_out"] = 70.0
    chosen = tables.chosen_recipes(runs)
    assert chosen[["recipe", "is_edge"]].to_numpy().tolist() == [["lr2", False]] * 2
    assert "vit_p on CIFAR-10: lr2, as good as lr3; cnn on CIFAR-10: lr2, as good as lr3." in tables.note(
        runs
    )


def test_the_best_mean_over_seeds_is_chosen_and_not_the_best_seed():
    runs, *_ = trials()
    held_out = {"lr1": (60, 80), "lr2": (71, 71), "lr3": (50, 50)}
    runs["held_out"] = [held_out[run.recipe][run.seed] for run in runs.itertuples()]
    assert tables.chosen_recipes(runs)["recipe"].tolist() == ["lr2", "lr2"]


def test_of_two_rates_none_is_called_an_edge():
    runs, *_ = trials()
    assert not tables.chosen_recipes(runs[runs["recipe"] != "lr2"])["is_edge"].any()


def test_the_flaw_of_the_rate_is_not_measured_where_none_was_chosen():
    runs, *_ = trials()
    one = measured(runs[runs["recipe"] == "lr1"])
    for tried in (one, measured(runs.assign(held_out=None))):
        assert list(_rate(Results(tried, tried[:0], list(pairs(tried))))) == []


def test_unfinished_runs_of_two_recipes_are_not_compared_across_them():
    runs, *_ = trials()
    across = (runs["recipe"] == "lr1") == (runs["model"] == "cnn")
    assert not list(pairs(measured(runs.assign(gap=across.map({True: None, False: "gone"})))))


def test_one_recipe_for_each_model_is_as_it_was():
    runs, *_ = trials()
    one = runs[(runs["recipe"] == "lr1") == (runs["model"] == "cnn")].query("recipe != 'lr3'")
    assert places(one) == ["dataset", "train_size"]
    assert "Held-out Accuracy (%)" not in tables.tabulate(one, "final")
    assert "held-out" not in tables.note(one, "final")
    assert " Recipes: cnn by lr1, vit_p by lr2." in tables.note(one, "final")
    assert "Recipes:" not in tables.note(runs) + tables.note(runs[runs["recipe"] == "lr1"])
    assert len(list(pairs(measured(one)))) == 1


def test_models_are_compared_recipe_by_recipe():
    runs, *_ = trials()
    found = list(pairs(measured(runs)))
    assert [pair.by for pair in found] == RECIPES and len(sweeps(found)) == 3
    assert found[1].place == "CIFAR-10, 900 images, lr2"
    of_lr2 = runs[runs["recipe"] == "lr2"].groupby("model")["final"].mean()
    assert found[1].difference("final").mean == pytest.approx(of_lr2["vit_p"] - of_lr2["cnn"])
    (section,) = findings.findings(runs, {"tune": {"title": "Tune", "accuracy": "final", "pairs": None}})[1:]
    assert sum("final accuracy, vit_p − cnn" in item for item in section.items) == 3


def test_answers_are_those_of_their_recipe():
    runs, epochs, answers = trials()
    runs["final"] = [
        100 * answers[plan.Run(r.dataset, r.model, r.recipe, r.train_size, r.seed).folder].correct[-1].mean()
        for r in runs.itertuples()
    ]
    epochs.loc[(epochs["recipe"] == "lr3") & (epochs["epoch"] < 4), "val_accuracy"] = 0.0
    table = analyse(runs, epochs, answers, None).differences
    chosen = table[table["epoch"] == "selected"].set_index("recipe")
    assert chosen.index.tolist() == RECIPES
    last = table[table["epoch"] == "final"].set_index("recipe")
    assert chosen.loc["lr3", "image_low"] == last.loc["lr3", "image_low"] != chosen.loc["lr1", "image_low"]


def test_figures_have_a_panel_for_each_recipe():
    runs, epochs, _ = trials()
    settings = {"experiments": ["tune"], "title": "T", "looks": {"vit_p": 0, "cnn": 1}, "band": "sd"}
    settings["accuracy"] = {"tune": "final"}
    titles = [axes.get_title() for axes in curves.draw(runs, epochs, settings).axes]
    assert titles[1::3] == [f"Test accuracy, CIFAR-10, {recipe}" for recipe in RECIPES]
    (line, _) = curves.draw(runs, epochs, settings).axes[4].lines
    assert set(line.get_ydata()) == {51.0}
    assert len(data_efficiency.draw(runs, epochs, settings).axes) == 3
