"""Findings, claims and questions, from runs that are written by hand."""

import copy
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from made_up import (
    FIGURES,
    RAW,
    asked_of,
    collected,
    draw,
    finished,
    first_notebook,
    second_notebook,
    study_of,
    tabulated,
    verdicts_of,
    written,
)
from scipy import stats

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.results import findings
from vitcnn.results.claims import hold, judge
from vitcnn.results.figures import style
from vitcnn.results.pairs import MEASURES, Pair, measured, pairs, sweeps
from vitcnn.results.questions import _winner, questions
from vitcnn.results.statistics import Difference, Interval


def test_findings_answer_from_the_data(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    text = written(runs)
    assert (
        "CIFAR-10, 50,000 images: best accuracy, SimpleViT − SimpleCNN: −5.00 points [−5.23, −4.77], n = 3\n"
        in text
    )
    few = "CIFAR-10, 1,000 images: best accuracy, SimpleViT − SimpleCNN: −20.00 points [−20.50, −19.50], n = 3\n"
    assert few in text
    ahead = (
        "CIFAR-10: the SimpleViT is level with or ahead of the SimpleCNN for the first time at 25,000 images"
    )
    assert f"{ahead} (tried: from 1,000 to 50,000 images)\n" in text
    assert "CIFAR-10, 50,000 images: training time, ViT ÷ CNN: 4.0 [3.9, 4.1], n = 3\n" in text
    verdicts = verdicts_of(first_notebook(runs))
    assert verdicts["The CNN is more accurate", "CIFAR-10"] == "borne out"
    assert verdicts["The CNN is more accurate", "CIFAR-100"] == "borne out"
    assert verdicts["The ViT is more accurate with many classes", "ImageNet-200"] == "borne out"
    assert verdicts["The CNN trains faster", "CIFAR-10"] == "borne out"
    assert verdicts["The CNN needs fewer parameters", "CIFAR-10"] == "borne out"
    assert verdicts["The times differ by less than a minute", "ImageNet-200"] == "borne out"
    by_claim = {claim: verdict for (claim, _), verdict in verdicts.items()}
    # 31 against 29 with 200 classes, but 36 against 42 with 100:
    assert by_claim["Where accuracy alone counts, the ViT is the superior choice"] == "not borne out"
    assert by_claim["Where resources are scarce, the CNN is the efficient choice"] == "undecided"
    assert by_claim["The CNN costs less computation"] == "cannot be told"
    assert by_claim["The difference in training time is less pronounced on large datasets"] == "undecided"
    verdicts = verdicts_of(second_notebook(runs))
    assert set(verdicts.values()) == {"borne out"}


def test_findings_name_test_images_that_are_training_images(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    words = "**9 test images of CIFAR-100 are training images too.**"
    sections = written(runs).split("\n## ")
    assert [words in section for section in sections[1:4]] == [True, False, False]
    runs["gap"] = np.where(runs["dataset"] == "cifar100", "missing", None)
    runs.loc[runs["gap"].notna(), "test_images_in_train"] = np.nan
    assert "training images too" not in written(runs)


def test_findings_name_the_recipes_of_models_that_have_their_own(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    assert "Recipes: " not in written(runs)
    own = runs.assign(recipe=runs["recipe"].where(runs["model"] != "cnn", "adamw10"))
    assert (
        "\n\nRecipes: ViT by adam10, CNN by adamw10. Where two models' recipes differ, their "
        "difference is that of model and recipe together." in written(own)
    )
    several = pd.concat([own, own.assign(recipe="adamw20")])  # each pair is by one recipe
    assert "Recipes: " not in written(several)


def test_findings_say_how_many_seeds_each_model_has(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    assert "of the second over n seeds each, with" in written(runs)
    runs["gap"] = np.where((runs["model"] == "vit") & (runs["seed"] == 2), "missing", None)
    text = written(runs)
    assert "of the second over each one's seeds (2 to 3; n is that of the model with fewer), with" in text
    assert re.search(r"CIFAR-10, 50,000 images: final accuracy, ViT − CNN: .*, n = 2\n", text)
    runs["gap"] = np.where((runs["experiment"] == "comparison") & (runs["seed"] == 2), "missing", None)
    assert "of the second over n seeds each, with" in written(runs)  # n is beside each difference


def test_equal_updates_leave_the_data_alone(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    both, alone = "fewer images also mean fewer updates", "as many updates at every size"
    text = written(runs)
    assert both in text and alone not in text
    runs["epochs"] = np.nan
    text = written(runs)
    assert alone in text and both not in text


def test_findings_turn_round_with_the_data(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    swapped = runs.copy()
    for column in ("final", "best"):
        swapped[column] = 100 - swapped[column]
    verdicts = verdicts_of(first_notebook(swapped))
    assert verdicts["The CNN is more accurate", "CIFAR-10"] == "not borne out"
    assert "does not catch up" not in written(runs)
    never = runs.copy()
    is_vit, is_small = never["model"] == "simple_vit", never["train_images"] == 1000
    never.loc[is_vit, "best"] -= 50
    never.loc[is_vit & is_small, "best"] -= 0.1 * never["seed"]
    sentence = (
        "the SimpleViT does not catch up with the SimpleCNN from 1,000 to 50,000 images; the gap narrows"
    )
    assert f"{sentence} between the two ends: +23.10 points [+22.85, +23.35], n = 3\n" in written(never)


@pytest.mark.parametrize(
    ("few", "many", "said"),
    [
        (
            [-9, -8, -7],
            [-3, -1, -2],
            "; the gap narrows between the two ends: +6.00 points [+3.52, +8.48], n = 3",
        ),
        (
            [-3, -1, -2],
            [-9, -8, -7],
            "; the gap widens between the two ends: −6.00 points [−8.48, −3.52], n = 3",
        ),
        (
            [-9, -8, -7],
            [-2, -14, -4],
            "; this is by the means, undecided at 50,000 images; the change between the two ends may be "
            "chance: +1.33 points [−15.21, +17.87], n = 3",
        ),
        (
            [-9, -8, -7],
            [4, 1, -2],
            " for the first time at 50,000 images (tried: from 1,000 to 50,000 images); this is by the means, "
            "undecided at 50,000 images",
        ),
        ([-9], [-2], "; one seed: chance is unknown; too few seeds tell whether the gap narrows"),
        (
            [-9],
            [2],
            " for the first time at 50,000 images (tried: from 1,000 to 50,000 images); one seed: chance is unknown",
        ),
    ],
)
def test_whether_a_model_catches_up_is_said_with_its_chance(few, many, said, tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path, seeds=range(len(few))))
    ends = {"1000": few, "50000": many}
    rows = runs[(runs["experiment"] == "data_efficiency") & runs["train_size"].isin(ends)].copy()
    for size, gaps in ends.items():
        of_size = rows["train_size"] == size
        rows.loc[of_size & (rows["model"] == "simple_vit"), "best"] = 50.0 + np.array(gaps)
        rows.loc[of_size & (rows["model"] == "simple_cnn"), "best"] = 50.0
    (sweep,) = sweeps(pairs(measured(rows)))
    *_, sentence = findings.catching_up(sweep, "best")
    assert sentence.endswith(said)


def test_a_difference_within_chance_is_undecided(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    rows = (runs["dataset"] == "cifar10") & (runs["model"] == "cnn")
    runs.loc[rows, "final"] = [60.0, 62.0, 64.0]
    verdicts = verdicts_of(first_notebook(runs))
    assert verdicts["The CNN is more accurate", "CIFAR-10"] == "undecided"
    assert "chance alone could do that" in written(runs)


def test_times_on_different_hardware_are_not_compared(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    runs.loc[runs["model"] == "vit", "device"] = "A GPU"
    verdicts = verdicts_of(first_notebook(runs))
    assert verdicts["The CNN trains faster", "CIFAR-10"] == "cannot be told"
    assert "ran on different hardware" in written(runs)


def test_one_seed_decides_nothing(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path, seeds=[5]))
    for claim in (*first_notebook(runs), *second_notebook(runs)):
        if "peak memory" in claim.shown:
            assert claim.verdict == "undecided", claim  # the same in these runs
        elif "parameters" not in claim.claim and claim.verdict != "cannot be told":
            assert claim.verdict.endswith("in one seed; chance unknown"), claim


def test_a_claim_about_what_no_run_has_cannot_be_told(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    rows = runs[runs["experiment"] == "curves"].assign(selected=np.nan)
    stated = {
        "text": "x",
        "metric": "selected",
        "larger": "CNN",
        "scope": {},
        "primary": True,
        "together": False,
    }
    (claim,) = hold(stated, list(pairs(measured(rows))))
    assert claim.verdict == "cannot be told" and claim.p is None
    assert claim.shown.endswith(": these runs have no selected accuracy")
    rows.loc[rows["family"] == "ViT", "device"] = "A GPU"
    (claim,) = hold(stated | {"metric": "train_seconds"}, list(pairs(measured(rows))))
    assert claim.verdict == "cannot be told" and claim.p is None  # so it weighs on no other primary claim


def test_two_experiments_are_two_sweeps(tmp_path):
    """A claim about the smallest size is held against each of them."""
    runs, _ = collected(tmp_path, finished(tmp_path))
    rows = measured(runs[runs["experiment"] == "data_efficiency"])
    both = [*pairs(rows), *pairs(rows.assign(experiment="data_steps"))]
    found = sweeps(both)
    assert [[pair.of("experiment", 0) for pair in sweep] for sweep in found] == [
        ["data_efficiency"] * len(found[0]),
        ["data_steps"] * len(found[0]),
    ]


def test_one_seed_within_the_chance_of_its_images_is_ahead_and_bears_out_nothing(tmp_path):
    study = finished(tmp_path, seeds=[5])
    runs, _ = collected(tmp_path, study)
    rows = runs[runs["experiment"] == "curves"]
    rows = rows.assign(best=(rows["family"] == "ViT") + 50.0)
    (pair,) = pairs(measured(rows))
    pair = pair._replace(over_images={"best": Interval(-1, 3)})
    assert _winner(pair, "best").startswith("In one seed the SimpleViT; chance is unknown")
    for larger in ("ViT", "CNN"):
        assert judge({"larger": larger}, pair, "best") == "undecided"


def test_every_model_and_dataset_is_compared(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    third = runs[(runs["model"] == "cnn") & (runs["experiment"] == "comparison")].assign(
        model="wide", model_title="WideCNN", final=99.0
    )
    other = runs[runs["experiment"] == "data_efficiency"].assign(dataset="svhn", dataset_title="SVHN")
    strange = third.assign(model="mixer", model_title="Mixer", family="other")
    text = written(pd.concat([runs, third, other, strange]))
    assert "final accuracy, ViT − WideCNN: −37.00 points" in text
    assert "- SVHN, 1,000 images: best accuracy, SimpleViT − SimpleCNN: −20.00 points" in text
    assert "In no pair, and so not compared: Mixer" in text


def test_runs_without_a_pair_say_why_and_what_their_accuracy_is(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    alone = runs[runs["model"] == "vit"]
    text = written(alone)
    assert "names no pairs. Set experiments.comparison.pairs, such as [[a, b]], or models.NAME.family" in text
    assert "- CIFAR-10, 50,000 images, by final accuracy: ViT 62.00\n" in text
    assert "models to compare are finished" not in text and "In no pair" not in text
    both = written(runs.assign(family="CNN"))
    assert "names no pairs. Set experiments.comparison.pairs" in both
    assert (
        "- CIFAR-10, 50,000 images, by final accuracy: CNN 80.00, ViT 62.00; a difference over seeds, not tested over test images: CNN and ViT\n"
        in both
    )
    runs["gap"] = runs["model"].map({"cnn": "missing"})
    text = written(runs).partition("\n## ")[2].partition("\n## ")[0]
    assert "No two models to compare are finished" in text and "no pair is asked for" not in text


def test_pairs_of_the_configuration_are_compared(tmp_path):
    study = finished(tmp_path)
    runs, _ = collected(tmp_path, study)
    study["experiments"]["curves"]["pairs"] = [["simple_cnn", "simple_vit"]]
    text = written(runs, study)
    assert "best accuracy, SimpleCNN − SimpleViT: +5.00 points" in text
    assert "CIFAR-10, 50,000 images: final accuracy, ViT − CNN: −18.00 points" in text


def test_three_models_are_ranked(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    cnn = runs[(runs["model"] == "cnn") & (runs["dataset"] == "cifar10")]
    assert "by final accuracy" not in written(runs)
    noise = [-1.0, 0.0, 1.0]
    third = cnn.assign(model="mixer", model_title="Mixer", family="other", final=80.5 + np.array(noise))
    ranked = "- CIFAR-10, 50,000 images, by final accuracy: Mixer 80.50, CNN 80.00, ViT 62.00; chance alone could swap Mixer and CNN\n"
    assert ranked in written(pd.concat([runs, third]))


@pytest.mark.parametrize(("width", "doubt"), [(0.3, ""), (0.9, "; chance alone could swap CNN and ViT")])
def test_a_ranking_doubts_what_the_pair_doubts(width, doubt, tmp_path):
    """On a subset, where seeds are paired: both models rise and fall together; images may say otherwise."""
    runs, _ = collected(tmp_path, finished(tmp_path))
    cnn = runs[(runs["model"] == "cnn") & (runs["dataset"] == "cifar10")].assign(train_size="1000")
    rises = np.array([-3.0, 0.0, 3.0])
    names = {"ViT": 0.5 + 0.01 * rises, "CNN": 0.0, "Mixer": 20.0}
    models = [
        cnn.assign(model=name.lower(), model_title=name, family=name, final=60 - less + rises)
        for name, less in names.items()
    ]
    runs = measured(pd.concat(models))
    (pair,) = pairs(runs)
    intervals = {pair.key: {"final": Interval(-0.5 - width, -0.5 + width)}}
    asked = {"comparison": {"title": "T", "accuracy": "final", "pairs": None}}
    _, section = findings.findings(runs, asked, over_images={"comparison": intervals})
    (ranking,) = (line for line in section.items if "by final accuracy" in line)
    asked_of_nobody = "; a difference over seeds, not tested over test images: ViT and Mixer"
    assert ranking.endswith(f"CNN 60.00, ViT 59.50, Mixer 40.00{doubt}{asked_of_nobody}")


def test_a_renamed_experiment_gives_the_same_under_its_new_name(tmp_path):
    study = finished(tmp_path)
    runs, epochs = collected(tmp_path, study)
    renamed = copy.deepcopy(study)
    renamed["experiments"] = {f"my_{name}": asked for name, asked in study["experiments"].items()}
    renamed["claims"] = {
        name: group | {"experiments": [f"my_{experiment}" for experiment in group["experiments"]]}
        for name, group in study["claims"].items()
    }
    renamed["report"] |= {
        "titles": {f"my_{n}": t for n, t in study["report"]["titles"].items()},
        "figures": {},
    }
    ours, our_epochs = collected(tmp_path, renamed)
    assert tabulated(ours, "my_comparison").equals(tabulated(runs, "comparison"))
    assert written(ours, renamed) == written(runs, study)
    figures = plan.figures(renamed)
    assert sorted(figures) == [
        "my_comparison_curves",
        "my_curves_curves",
        "my_data_efficiency_curves",
        "my_data_efficiency_data_efficiency",
    ]
    for name, other in (
        ("my_curves_curves", "training_curves"),
        ("my_data_efficiency_data_efficiency", "data_efficiency"),
    ):
        pictures = []
        for figure, *tables_ in ((figures[name], ours, our_epochs), (FIGURES[other], runs, epochs)):
            path = tmp_path / f"{len(pictures)}.svg"
            style.save_figure(draw(figure, *tables_), [path], dpi=50)
            pictures.append(path.read_bytes())
        assert pictures[0] == pictures[1]


def held(runs, **stated):
    """The verdicts on a claim about the comparison."""
    study = study_of()
    group = {"title": "Mine", "experiments": ["comparison"], "claims": [{"text": "So it is"} | stated]}
    study["claims"] = check_config(RAW | {"claims": {"mine": group}})["claims"]
    rows = [line for line in written(runs, study).splitlines() if line.startswith("| So it")]
    return [row.strip("| ").rsplit("|")[-1].strip() for row in rows]


def test_a_claim_of_ones_own(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    yes, no, untold = "borne out", "not borne out", "cannot be told"
    assert held(runs, metric="final", larger="cnn") == [yes, yes, no]
    assert held(runs, metric="final", larger="ViT") == [no, no, yes]
    assert held(runs, metric="final", larger="other") == [untold]
    assert held(runs, metric="final", larger="CNN", scope={"datasets": ["cifar100"]}) == [yes]
    assert held(runs, metric="final", larger="CNN", scope={"over_classes": 99, "up_to_classes": 100}) == [yes]
    assert held(runs, metric="final", larger="CNN", scope={"train_size": "largest"}) == [untold]
    assert held(runs, metric="final", larger="CNN", together=True) == [no]
    assert held(runs, metric="final", within=7) == [no, yes, yes]
    assert held(runs, metric="final", larger="CNN", pairs=[["cnn", "vit"]]) == [yes, yes, no]
    assert held(runs, metric="final", larger="CNN", pairs=[["cnn", "simple_vit"]]) == [untold]
    assert held(runs, metric="final", closer={"datasets": ["cifar10"]}) == [no]
    assert held(runs, metric="final", closer={"up_to_classes": 999}) == [
        untold
    ]  # no others to be closer than
    assert held(runs, metric="selected", closer={"datasets": ["cifar10"]}) == [untold]  # nothing is held out
    assert held(runs, untold="nobody measured it") == [untold]
    level = runs.assign(num_parameters=1_205_898)
    assert held(level, metric="parameters_millions", larger="cnn") == [no] * 3  # exactly as many
    assert "+0.00 million, n = 3 |" in written(level)


def test_a_claim_that_no_pair_bears_on_is_said_to_be_one(tmp_path):
    """As of a study that left out datasets, or models, and kept the claims about them."""
    runs, _ = collected(tmp_path, finished(tmp_path))
    few = {claim.claim: claim for claim in first_notebook(runs[runs["num_classes"] <= 100])}
    many = few["The ViT is more accurate with many classes"]
    assert many[1:3] == ("these runs compare no pair that this is about", "cannot be told")
    closer = few["The difference in training time is less pronounced on large datasets"]
    assert closer[1:3] == ("these runs do not cover both kinds of datasets", "cannot be told")
    alone = first_notebook(runs[runs["model"] == "vit"])
    stated = study_of()["claims"]["first_notebook"]["claims"]
    assert [claim.claim for claim in alone] == [one["text"] for one in stated]
    assert {claim.verdict for claim in alone} == {"cannot be told"}


@pytest.mark.parametrize(
    ("low", "high", "images", "verdict"),
    [
        (-5, 5, None, "borne out"),
        (-5, 5, (-70, 70), "undecided"),
        (-70, 70, None, "undecided"),
        (61, 70, None, "not borne out"),
        (61, 70, (59, 72), "undecided"),
        (61, 70, (-72, -61), "undecided"),
        (-70, -61, (-72, -61), "not borne out"),
    ],
)
def test_within_a_minute(low, high, images, verdict):
    class Measured:
        def difference(self, metric):
            return Difference((low + high) / 2, low, high, 5, images and Interval(*images))

    assert judge({"within": 60}, Measured(), "train_seconds") == verdict


def test_the_metrics_of_claims_are_those_that_are_measured():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    assert schema["$defs"]["metric"]["enum"] == list(MEASURES)


def answers_to_questions(runs, study, steps=None):
    experiments = asked_of(study)
    if steps is not None:
        runs = pd.concat([runs, steps.assign(experiment="data_steps")])
        experiments["data_steps"] = experiments["data_efficiency"]
    return list(questions(runs, experiments, {}, [], "data_efficiency", "data_steps"))


def test_the_second_notebooks_questions_are_answered(tmp_path):
    study = finished(tmp_path)
    runs, _ = collected(tmp_path, study)
    few = runs.query("experiment == 'data_efficiency' and train_size == '1000'")
    steps = few.assign(best=few["best"] + 12.0 * (few["model"] == "simple_vit"))
    (section,) = answers_to_questions(runs, study, steps)
    assert section.title == "The second notebook's questions: SimpleViT and SimpleCNN, CIFAR-10"
    won, won_small, caught_up, why, takeaway = section.items
    assert "all the data, here 50,000 images? The SimpleViT (best accuracy" in won
    assert (
        "with 1,000 images? The SimpleCNN (best accuracy, SimpleViT − SimpleCNN: −20.00 points" in won_small
    )
    assert "for the first time at 25,000 images" in caught_up
    assert "at equal updates less at equal epochs, best accuracy: −8.00 less −20.00: +12.00 points" in why
    assert (
        "Of 5 training-set sizes, the SimpleViT is more accurate at 2, the SimpleCNN is more accurate at 3"
        in takeaway
    )
    assert "training time, SimpleViT ÷ SimpleCNN: 4.0" in takeaway


def test_questions_without_what_would_answer_them(tmp_path):
    study = finished(tmp_path, seeds=(0,))
    runs, _ = collected(tmp_path, study)
    (section,) = answers_to_questions(runs, study)
    assert "with 1,000 images? In one seed the SimpleCNN; chance is unknown" in section.items[1]
    assert section.items[3].endswith("Nothing that bears on it was measured.")
    assert "(one seed: chance is unknown)" in section.items[4]
    assert not answers_to_questions(runs.assign(generated=True), study)
    assert not list(questions(runs, asked_of(study), {}, [], None, None))


def test_a_ratio_that_is_the_same_in_every_seed_has_no_interval(tmp_path):
    runs, _ = collected(tmp_path, finished(tmp_path))
    runs["train_seconds"] = runs["model"].map({"vit": 40.0, "cnn": 10.0})
    pair, *_ = pairs(measured(runs[runs["model"].isin(["vit", "cnn"])]))
    assert ": 4.0, the same in every seed, n = " in pair.says_ratio("train_seconds")


@pytest.mark.parametrize(
    ("size", "seeds", "is_paired"),
    [(1000, [0, 1, 2], True), (1000, [0, 1, 3], False), ("all", [0, 1, 2], False)],
)
def test_runs_of_other_seeds_are_not_paired(size, seeds, is_paired):
    """Those of the same seeds are, where both saw the same subset of the images."""
    times = [40.0, 60.0, 81.0], [10.0, 16.0, 20.0]
    first, second = (
        pd.DataFrame({"seed": of, "train_size": size, "train_seconds": seconds})
        for of, seconds in zip(([0, 1, 2], seeds), times, strict=True)
    )
    pair, logs = Pair(first, second), np.log(times)
    assert pair.is_paired == is_paired
    test = stats.ttest_rel(*logs) if is_paired else stats.ttest_ind(*logs, equal_var=False)
    found = pair.log_ratio("train_seconds")
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval()))
