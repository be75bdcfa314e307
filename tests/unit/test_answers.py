"""The tables that follow from each run's answers, from answers that are made up."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from vitcnn.errors import StudyError
from vitcnn.plan import Run
from vitcnn.results.answers import (
    Answers,
    _shared,
    analyse,
    for_people,
    note,
    read_answers,
    read_over_images,
)
from vitcnn.results.calibration import calibrate
from vitcnn.results.pairs import measured, pairs
from vitcnn.results.tables import to_html, to_markdown

IMAGES, EPOCHS, CLASSES = 400, 4, 5
SHARES = {"vit_p": 0.55, "cnn": 0.7}
PLACES = {"final": -1, "best": 2, "selected": 1}  # of the epoch, in each run


def answers_of(model, seed, held_out=True):
    """Return the made-up answers of a run: right by chance, more often from epoch to epoch, but the last but one."""
    generator = np.random.default_rng([len(model), seed])
    rising = np.array([0.5, 0.8, 1.05, 1.0])[:, None]
    correct = generator.random((EPOCHS, IMAGES)) < SHARES[model] * rising
    logits = generator.normal(0, 2, (IMAGES, CLASSES))
    labels = np.where(correct[-1], logits.argmax(1), logits.argmin(1))
    held = (generator.normal(0, 2, (50, CLASSES)), generator.integers(0, CLASSES, 50))
    return Answers(correct, logits, labels, *(held if held_out else (None, None)))


def study(seeds=(0, 1, 2), size="all", held_out=True):
    """Return runs, epochs and answers as collect_runs and train leave them."""
    runs, epochs, answers = [], [], {}
    for model in SHARES:
        for seed in seeds:
            run = Run("cifar10", model, "modern30", size, seed)
            found = answers_of(model, seed, held_out)
            tested = 100 * found.correct.mean(1)
            validated = [50, 70, 60, 100 * np.mean(found[3].argmax(1) == found[4]) if held_out else None]
            runs.append(
                run._asdict()
                | {
                    "model_title": model,
                    "dataset_title": "CIFAR-10",
                    "family": "CNN" if model == "cnn" else "ViT",
                }
                | {"final": tested[-1], "best": tested.max(), "selected": tested[1] if held_out else None}
                | {
                    "train_images": 900,
                    "generated": False,
                    "gap": None,
                    "num_parameters": 1,
                    "test_images_in_train": 0,
                    "test_images": IMAGES,
                }
                | {"inference_ms_per_image": 1.0, "peak_memory_bytes": 1.0, "train_seconds": 1.0}
            )
            epochs += [
                run._asdict() | {"epoch": n + 1, "val_accuracy": value if held_out else None}
                for n, value in enumerate(validated)
            ]
            answers[run.folder] = found
    return pd.DataFrame(runs), pd.DataFrame(epochs), answers


@pytest.mark.parametrize("size", ["all", 900])
def test_differences_computed_again(size):
    runs, epochs, answers = study(size=size)
    table = analyse(runs, epochs, answers, None).differences.set_index("epoch")
    assert list(table.index) == ["final", "best", "selected"]
    assert set(table["first"]) == {"vit_p"} and set(table["second"]) == {"cnn"}
    for epoch, row in table.iterrows():
        ours, theirs = (runs.loc[runs["model"] == model, epoch].to_numpy() for model in SHARES)
        if size == 900:
            test, equivalent = stats.ttest_rel(ours, theirs), ttost_paired(ours, theirs, -1, 1)
        else:
            test = stats.ttest_ind(ours, theirs, equal_var=False)
            equivalent = ttost_ind(ours, theirs, -1, 1, usevar="unequal")
        assert row["mean"] == pytest.approx(ours.mean() - theirs.mean())
        assert (row["low"], row["high"]) == pytest.approx(tuple(test.confidence_interval()))
        assert row["p"] == pytest.approx(test.pvalue)
        assert row["equivalence_p"] == pytest.approx(equivalent[0])
        assert pd.isna(row["mcnemar_p"])
    for epoch, at in PLACES.items():
        shares = [
            np.mean([answers[Run("cifar10", m, "modern30", size, s).folder].correct[at] for s in range(3)], 0)
            for m in SHARES
        ]
        error = 100 * (shares[0] - shares[1]).std() / IMAGES**0.5
        middle = table.loc[epoch, "mean"]
        assert table.loc[epoch, "image_low"] == pytest.approx(middle - 1.96 * error, abs=0.15 * error)
        assert table.loc[epoch, "image_high"] == pytest.approx(middle + 1.96 * error, abs=0.15 * error)
    assert table.loc["final", "verdict"] == "below"


def test_a_verdict_is_that_of_the_findings(tmp_path):
    """Through CSV, as the rules do it: the pair of the findings has the intervals of the table."""
    runs, epochs, answers = study()
    analyse(runs, epochs, answers, None).differences.to_csv(tmp_path / "differences.csv", index=False)
    (pair,) = pairs(measured(runs), None, read_over_images(tmp_path / "differences.csv"))
    found = pair.difference("selected")
    assert found.images and found.sign == -1
    assert f"over images [{found.images.low:+.2f}, ".replace("-", "−") in pair.says("selected")
    assert pair.difference("train_seconds").images is None


def test_a_pair_of_which_one_holds_images_out_names_both_numbers():
    runs, epochs, answers = study()
    runs.loc[runs["model"] == "cnn", "train_images"] = 1000
    assert {pair.place for pair in pairs(measured(runs))} == {"CIFAR-10, 900 and 1,000 images"}
    table = analyse(runs, epochs, answers, None).differences
    assert set(table["place"]) == {"CIFAR-10, 900 and 1,000 images"}


@pytest.mark.parametrize("name", ["differences", "selection", "calibration"])
def test_a_study_without_a_pair_has_its_tables(name):
    """As one of a single model, or of two CNNs."""
    runs, epochs, answers = study()
    runs, epochs = (table[table["model"] == "cnn"] for table in (runs, epochs))
    found = dict(
        zip(("differences", "selection", "calibration"), analyse(runs, epochs, answers, None), strict=True)
    )
    shown = for_people(name, found[name], "final")
    assert len(shown) == (name != "differences")
    assert "Seeds" in to_html(shown, "T", "") and "Seeds" in to_markdown(shown, "T", "")


@pytest.mark.parametrize(
    ("p", "low", "high", "shown"),
    [
        (0.01, -0.9, 0.9, "yes, p = 0.010"),
        (0.01, -0.9, 1.1, "not shown, p = 0.010"),
        (0.01, -1.1, 0.9, "not shown, p = 0.010"),
        (0.06, -0.9, 0.9, "not shown, p = 0.060"),
    ],
)
def test_equivalence_needs_seeds_and_images(p, low, high, shown):
    table = analyse(*study(), None).differences.assign(equivalence_p=p, image_low=low, image_high=high)
    assert for_people("differences", table, "final")["Equivalent within ±1"].tolist() == [shown]


def test_seeds_that_agree_have_no_verdict():
    runs, epochs, answers = study()
    table = analyse(runs.assign(selected=[60.0] * 3 + [62.0] * 3), epochs, answers, None).differences
    (row,) = for_people("differences", table, "selected").to_dict("records")
    assert (row["Points"], row["Over seeds"], row["Verdict"]) == (
        "−2.00",
        "the same in every seed",
        "undecided",
    )
    assert row["Equivalent within ±1"] == "not shown"


def test_models_that_are_right_on_every_image_have_no_verdict():
    runs, epochs, answers = study(held_out=False)
    answers = {
        run: one._replace(correct=np.ones_like(one.correct), labels=one.logits.argmax(1))
        for run, one in answers.items()
    }
    table = analyse(runs.assign(final=100.0, best=100.0), epochs, answers, None).differences
    (row,) = for_people("differences", table, "final").to_dict("records")
    assert (row["Points"], row["Verdict"], row["Equivalent within ±1"]) == ("+0.00", "undecided", "not shown")


def test_one_seed_has_mcnemar_and_no_verdict():
    runs, epochs, answers = study(seeds=[0])
    table = analyse(runs, epochs, answers, None).differences
    assert set(table["verdict"]) == {"one seed"}
    for epoch, p in zip(table["epoch"], table["mcnemar_p"], strict=True):
        folders = [Run("cifar10", model, "modern30", "all", 0).folder for model in SHARES]
        both = pd.crosstab(*(answers[folder].correct[PLACES[epoch]] for folder in folders))
        assert p == pytest.approx(reference_mcnemar(both.to_numpy(), exact=True).pvalue, abs=0)
    shown = for_people("differences", table, "final")
    assert shown["Over seeds"].tolist() == ["–"] and shown["McNemar"].str.startswith("p ").all()
    assert "no interval over seeds" in note("differences", runs, "final")
    assert "no interval over seeds" not in note("differences", study()[0], "final")
    for name in ("selection", "calibration"):
        assert note(name, runs, "final").endswith(" One seed: no interval.")
        assert note(name, study()[0], "final").endswith(" Mean ± standard deviation over seeds.")


def test_selection_and_calibration_by_model():
    runs, epochs, answers = study()
    _, selection, calibration = analyse(runs, epochs, answers, None)
    assert selection["Model"].tolist() == ["vit_p", "cnn"]
    mine = runs[runs["model"] == "cnn"]
    row = selection.iloc[1]
    for column in ("final", "best", "selected"):
        assert row[column.capitalize()] == pytest.approx(mine[column].mean())
        assert row[f"{column.capitalize()} sd"] == pytest.approx(mine[column].std())
    found = [calibrate(*answers[Run("cifar10", "cnn", "modern30", "all", s).folder][1:]) for s in range(3)]
    scores = [[*one.before, *one.after, one.floor, one.temperature] for one in found]
    names = ["NLL", "Brier", "ECE"]
    columns = [*names, *(f"{name}, scaled" for name in names), "ECE, floor", "Temperature"]
    assert calibration.iloc[1][columns].tolist() == pytest.approx(np.mean(scores, axis=0))
    shown = for_people("calibration", calibration, "final")
    assert shown["Images"].tolist() == ["900", "900"] and " ± " in shown["ECE, floor"].iloc[0]


def test_negative_numbers_are_numbers():
    """With a minus sign, so that the table aligns them as such."""
    table = analyse(*study(), None).selection.assign(Gains=[-0.05, 0.0])
    shown = for_people("selection", table, "final")
    assert [cell.split()[0] for cell in shown["Gains"]] == ["−0.05", "0.00"]
    rule = to_markdown(shown, "T", "").splitlines()[3]
    assert rule.split("|")[1 + list(shown).index("Gains")].endswith("-:")


def test_without_held_out_images_there_is_no_selected_epoch():
    runs, epochs, answers = study(held_out=False)
    differences, selection, calibration = analyse(runs, epochs, answers, None)
    assert list(differences["epoch"]) == ["final", "best"]
    assert for_people("selection", selection, "final")["Selected"].tolist() == ["–", "–"]
    assert calibration["NLL, scaled"].notna().all()


def test_answers_of_other_runs_are_an_error():
    runs, epochs, answers = study()
    one, other = list(answers)[:2]
    answers[one] = answers[other]
    with pytest.raises(StudyError, match=r"vit_p/modern30/nall/seed0/predictions\.npz: its array `correct`"):
        analyse(runs, epochs, answers, None)


def swapped(correct):
    """Return as many right answers, of other images."""
    return np.concatenate([correct[:-1], correct[-1:, ::-1]])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda a: {"val_logits": a.logits, "val_labels": a.labels}, "its `val_logits` do not match"),
        (lambda a: {"val_logits": None}, "its `val_logits` do not match"),
        (lambda a: {"val_labels": a.val_labels[:-1]}, "its `val_logits` do not match"),
        (lambda a: {"logits": a.logits[::-1]}, "its `logits` do not match its array `correct`"),
        (lambda a: {"logits": a.logits[:9]}, "its `logits` do not match its array `correct`"),
        (lambda a: {"correct": swapped(a.correct)}, "its `logits` do not match its array `correct`"),
        (lambda a: {"logits": a.logits * np.nan}, "its `logits` do not match its array `correct`"),
    ],
)
def test_answers_that_would_flatter_a_model_are_an_error(wrong, words):
    runs, epochs, answers = study()
    run = Run("cifar10", "cnn", "modern30", "all", 1)
    answers[run.folder] = answers[run.folder]._replace(**wrong(answers[run.folder]))
    with pytest.raises(StudyError, match=rf"cnn/modern30/nall/seed1/predictions\.npz: {words}"):
        analyse(runs, epochs, answers, None)


def test_a_temperature_is_not_fitted_on_test_images():
    """Unless they are training images too; a model that says the same of every image shares its logits with itself."""
    runs, epochs, answers = study()
    folder = Run("cifar10", "cnn", "modern30", "all", 1).folder
    honest = answers[folder]
    is_right = honest.val_logits.argmax(1) == honest.val_labels
    logits = np.concatenate([honest.logits[:26], honest.val_logits[26:]])
    labels = np.where(is_right, logits.argmax(1), logits.argmin(1))  # so that the accuracy is that of the run
    answers[folder] = honest._replace(val_logits=logits, val_labels=labels)
    with pytest.raises(StudyError, match=rf"{folder}/predictions\.npz: most of its `val_logits`"):
        analyse(runs, epochs, answers, None)
    analyse(runs.assign(test_images_in_train=26), epochs, answers, None)
    assert _shared(np.zeros((5, 2)), np.zeros((9, 2))) == 0


def test_of_two_highest_logits_either_may_have_been_chosen():
    runs, epochs, answers = study()
    for folder, found in answers.items():
        logits = found.logits.copy()
        logits[0] = 1.0
        answers[folder] = found._replace(logits=logits)
    assert len(analyse(runs, epochs, answers, None).calibration) == 2


def test_held_out_images_of_a_run_that_held_none_out_are_an_error():
    runs, epochs, answers = study(held_out=False)
    run = Run("cifar10", "cnn", "modern30", "all", 1)
    answers[run.folder] = answers_of("cnn", 1)
    with pytest.raises(StudyError, match="its recipe holds no images out"):
        analyse(runs, epochs, answers, None)


def test_a_run_without_bits_is_named(tmp_path):
    path = tmp_path / "seed3" / "predictions.npz"
    path.parent.mkdir()
    np.savez(path, logits=np.zeros((8, 2)), labels=np.zeros(8))
    with pytest.raises(StudyError, match=r"seed3/predictions\.npz: its array `correct` cannot be read"):
        read_answers(path)
    np.savez(path, logits=np.zeros((9, 2)), labels=np.zeros(9), correct=np.ones((1, 9)))
    for damaged in (b"no archive", b"", b"PK" + bytes(99), path.read_bytes()[:-30], path.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(StudyError, match=r"seed3/predictions\.npz"):
            read_answers(path)
    np.savez(path, logits=np.zeros((9, 2)), labels=np.zeros(9), correct=np.packbits([[True] * 9], axis=1))
    assert read_answers(path).correct.shape == (1, 9) and read_answers(path).correct.all()
