"""What readers predict: their files, their seals, and their scores from runs that are made up."""

import html
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from vitcnn import predictions
from vitcnn.config import check_config
from vitcnn.errors import StudyError
from vitcnn.files import file_digest
from vitcnn.predictions import SEALS, askable, read_predictions, read_seals, seal
from vitcnn.results.pairs import Pair
from vitcnn.results.predictions import (
    Truth,
    brier_score,
    interval_score,
    report,
    score_predictions,
)
from vitcnn.results.sections import as_written, to_html, to_markdown
from vitcnn.results.statistics import Interval, compare

EARLY, LATER, LATE = (datetime(2026, 1, day, 8, tzinfo=UTC) for day in (1, 2, 9))
STARTED = "2026-01-05T12:00:00+00:00"  # the first run
NOTEBOOK = """{
    "which_has_higher_accuracy": "CNN",  # "CNN" or "ViT"
    "which_trains_faster": "ViT",         # "CNN" or "ViT"
    "accuracy_gap_percent": "5%",        # e.g., "5" for a 5% gap
    "reasoning": "Because."
}"""
ANA = {
    "which_has_higher_accuracy": "CNN",
    "which_trains_faster": "CNN",
    "accuracy_gap_percent": [3, 8],
    "vit_catches_up_at": "never",
    "confidence": 0.9,
    "reasoning": "Few images.",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a folder for predictions."""
    monkeypatch.chdir(tmp_path)
    predictions.FOLDER.mkdir()
    return tmp_path


@pytest.fixture
def asked(default_config):
    return askable(default_config)


def write(name, values=(), **changes):
    """Write ANA's prediction, changed, under another name; a change to None leaves the key out."""
    path = predictions.FOLDER / f"{name}.yaml"
    found = ANA | dict(values) | changes
    path.write_text(yaml.safe_dump({key: value for key, value in found.items() if value is not None}))
    return path


# ---------------------------------------------------------------------------------------------
# Files


def test_the_notebooks_dictionary_as_it_is(here, asked):
    path = predictions.FOLDER / "ana.yaml"
    path.write_text(NOTEBOOK)
    (found,) = read_predictions([path], asked)
    assert found.experiment == "curves" and found.models == ("simple_vit", "simple_cnn")
    assert (found.winner, found.faster, found.gap, found.reasoning) == ("CNN", "ViT", (5, 5), "Because.")
    assert found.catches_up is None and found.confidence == 0.8 and not found.is_stated


def test_a_second_prediction_names_its_experiment_and_models(here, asked):
    path = write("ana_again", experiment="fair", models=["cnn", "vit_p"], vit_catches_up_at="10000")
    (found,) = read_predictions([path], asked)
    assert (found.experiment, found.models) == ("fair", ("vit_p", "cnn"))  # the ViT first
    assert found.catches_up == "10000" and found.is_stated


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"which_has_higher_accuracy": "___"}, "which_has_higher_accuracy: is not filled in; write CNN or ViT"),
        ({"reasoning": " ___ "}, "reasoning: is not filled in; write text"),
        ({"reasoning": "  "}, "reasoning: is not filled in"),
        ({"reasoning": 5}, "reasoning: 5 is not text"),
        ({"which_trains_faster": "cnn"}, "which_trains_faster: 'cnn' is not CNN or ViT"),
        ({"which_trains_faster": None}, "which_trains_faster: is missing; write CNN or ViT"),
        ({"accuracy_gap_percent": "a lot"}, "accuracy_gap_percent: 'a lot' is not a number of points"),
        ({"accuracy_gap_percent": -1}, "accuracy_gap_percent: -1 is not a number of points from 0 to 100"),
        ({"accuracy_gap_percent": "nan"}, "accuracy_gap_percent: nan is not a number"),
        ({"accuracy_gap_percent": [8, 3]}, "[8, 3] is no range for the lead of a winner; write the lower end first"),
        ({"accuracy_gap_percent": [-9, -3]}, "[-9, -3] is no range for the lead of a winner"),
        ({"accuracy_gap_percent": [3]}, "accuracy_gap_percent: [3] is not a number of points"),
        ({"confidence": 0.4}, "confidence: 0.4 is not a number from 0.5 (no idea) to 1 (certain)"),
        ({"confidence": True}, "confidence: True is not a number from 0.5"),
        ({"vit_catches_up_at": 2000}, "2000 is not one of never, 1000, 5000, 10000, 25000, 50000"),
        ({"reasonning": "x"}, "reasonning: unknown key; did you mean reasoning?"),
        ({"experiment": "fairr"}, "experiment: 'fairr' is not one of comparison, curves, data_efficiency"),
        ({"experiment": "ladder"}, "experiment: 'ladder' is not one of"),  # it would add runs to the study
        ({"experiment": "comparison"}, "experiment: comparison has several datasets; name one"),
        ({"experiment": "fair"}, "models: is missing; the pairs of a ViT and a CNN that fair compares: [vit_p, cnn] or [vit_f, cnn]"),
        ({"experiment": "fair", "models": ["vit", "cnn"]}, "models: ['vit', 'cnn'] is no pair of a ViT and a CNN that fair compares"),
        ({"models": "vit"}, "models: 'vit' is not two models, such as [vit_p, cnn]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(changes, message, here, asked):
    path = write("ana", changes)
    with pytest.raises(StudyError) as error:
        read_predictions([path], asked)
    assert "  - predictions/ana.yaml: " in str(error.value)
    assert message in str(error.value)
    assert str(error.value).count("\n") == 1  # one line for one mistake


def test_of_models_trained_by_several_recipes_none_is_predicted(here, asked):
    asked["experiments"]["curves"]["recipes"] = ["adamw10", "adamw20"]
    with pytest.raises(
        StudyError, match="experiment: curves has several recipes; name one that has a single"
    ):
        read_predictions([write("ana")], asked)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a: b", "is no YAML"),
        ("predictions = {", "holds no prediction"),
        ("- CNN", "holds no prediction"),
        ("", "holds no prediction"),
        ("a: \xe9".encode("latin-1"), "is no YAML"),
        ("confidence: !!bool maybe", "is no YAML: 'maybe'"),
        ("confidence: !!int ''", "is no YAML"),
        ("a: !!timestamp maybe", "is no YAML"),
        ("a: " + 3000 * "[", "is no YAML"),
    ],
)
def test_a_file_that_is_none(text, message, here, asked):
    path = predictions.FOLDER / "ana.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StudyError, match=f"predictions/ana.yaml: {message}"):
        read_predictions([path], asked)


def test_what_a_study_cannot_tell(here, default_config):
    smaller = default_config | {"experiments": default_config["experiments"] | {"data_efficiency": None}}
    with pytest.raises(StudyError, match="vit_catches_up_at: cannot be told, as data_efficiency does not"):
        read_predictions([write("ana")], askable(smaller))
    smaller = default_config | {"experiments": default_config["experiments"] | {"curves": None}}
    with pytest.raises(StudyError, match="experiment: the study has no curves; name one of comparison, data"):
        read_predictions([write("ana")], askable(smaller))


def test_a_configuration_that_predicts_what_is_no_experiment(default_config):
    with pytest.raises(
        StudyError, match=r"predictions.sizes: data_eficiency is no experiment; did you mean data"
    ):
        check_config(default_config | {"predictions": {"experiment": "curves", "sizes": "data_eficiency"}})


# ---------------------------------------------------------------------------------------------
# Seals


def test_a_seal_is_kept_until_the_file_changes(here, asked):
    path = write("ana")
    assert seal(asked, EARLY) == ["predictions/ana.yaml: sealed 2026-01-01T08:00:00+00:00"]
    first = SEALS.read_bytes()
    write("ben")
    again = seal(asked, LATER)
    assert again[0] == "predictions/ana.yaml: sealed 2026-01-01T08:00:00+00:00, and unchanged since"
    assert SEALS.read_bytes() != first
    assert [(s["file"], s["sealed_at"][:10]) for s in read_seals()] == [
        ("ana.yaml", "2026-01-01"),
        ("ben.yaml", "2026-01-02"),
    ]
    before = SEALS.read_bytes()
    seal(asked, LATE)
    assert SEALS.read_bytes() == before
    former = file_digest(path)
    write("ana", confidence=0.6)
    changed = seal(asked, LATE)[0]
    assert changed == (
        "predictions/ana.yaml: sealed 2026-01-09T08:00:00+00:00 anew: it has changed since it was sealed "
        "2026-01-01T08:00:00+00:00"
    )
    of_ana = [s for s in read_seals() if s["file"] == "ana.yaml"]
    assert [s["sha256"] for s in of_ana] == [former, file_digest(path)]
    assert not list(here.rglob("*.lock"))


def test_one_bad_file_and_nothing_is_sealed(here, asked):
    write("ana")
    write("ben", confidence=2)
    with pytest.raises(StudyError, match=r"ben.yaml: confidence: 2 is not"):
        seal(asked, EARLY)
    assert not SEALS.exists()


def test_nothing_to_seal(here, asked):
    with pytest.raises(
        StudyError, match=r"predictions: holds no prediction; write NAME.yaml there, .*lesson.md"
    ):
        seal(asked, EARLY)
    for name in ("ana.yml", "ana.YAML", "ana.yaml.txt"):
        Path("predictions", name).write_text("")
        with pytest.raises(StudyError, match=rf"predictions/{name}: is not read; name it ana.yaml"):
            seal(asked, EARLY)
        Path("predictions", name).unlink()
    with pytest.raises(StudyError, match="predictions: is null in the configuration"):
        seal(askable_without_predictions(asked), EARLY)


def askable_without_predictions(asked):
    return {"experiments": asked["experiments"]}


def test_damaged_seals(here, asked):
    write("ana")
    SEALS.write_text('{"version": 1, "seals": [{"file": "ana.yaml"}]}')
    with pytest.raises(StudyError, match=r"does not fit seals.schema.json.*Restore it from a copy"):
        seal(asked, EARLY)
    SEALS.unlink()
    seal(asked, EARLY)
    SEALS.write_text(SEALS.read_text().replace(f"{EARLY:%Y-%m}", "2026-99"))
    with pytest.raises(StudyError, match=r"predictions/seals.json: .*Restore it from a copy"):
        seal(asked, EARLY)


# ---------------------------------------------------------------------------------------------
# Scores


def test_scores_by_hand():
    assert brier_score(0.9, 1) == pytest.approx(0.01)
    assert brier_score(0.9, 0) == pytest.approx(0.81)
    assert brier_score(0.5, 0) == brier_score(0.5, 1) == 0.25  # knowing nothing
    assert interval_score(3, 8, 5) == 5
    assert interval_score(3, 8, 10) == pytest.approx(5 + 20)
    assert interval_score(3, 8, 1) == pytest.approx(5 + 20)
    assert interval_score(5, 5, 7.5) == pytest.approx(25)


def test_the_interval_score_is_two_pinball_losses():
    """The same by quantiles: 2/α of the sum of the pinball losses of the ends, as quantiles of α/2 and 1 − α/2."""
    generator = np.random.default_rng(0)
    for low, width, value in generator.normal(0, 5, (100, 3)):
        high = low + abs(width)
        losses = [(value - end) * (share - (value < end)) for end, share in ((low, 0.1), (high, 0.9))]
        assert interval_score(low, high, value) == pytest.approx(2 / 0.2 * sum(losses))


def test_the_interval_score_is_least_for_the_true_interval():
    values = np.random.default_rng(0).normal(5, 2, 20_000)
    z = 1.2815515655446004
    true = (5 - 2 * z, 5 + 2 * z)

    def mean(low, high):
        return np.mean([interval_score(low, high, value) for value in values])

    others = [(true[0] - 1, true[1] + 1), (true[0] + 1, true[1] - 1), (true[0] + 1, true[1] + 1), (5, 5)]
    assert all(mean(*true) < mean(*other) for other in others)


def runs_of(cnn=(80, 81, 82), vit=(70, 71, 72), seconds=(10, 30), sweep=(5, 1), generated=False):
    """Return collected runs: of curves, and of data_efficiency, where the CNN leads by `sweep` at 1,000 and 50,000."""
    rows = []

    def add(experiment, model, size, images, values, time):
        for seed, value in enumerate(values):
            family = "ViT" if "vit" in model else "CNN"
            rows.append(
                {"experiment": experiment, "dataset": "cifar10", "model": model, "recipe": "r"}
                | {"train_size": size, "seed": seed, "dataset_title": "CIFAR-10", "family": family}
                | {"model_title": f"Simple{family}", "num_classes": 10, "generated": generated, "gap": None}
                | {
                    "train_images": images,
                    "test_images": 100,
                    "num_parameters": 1,
                    "best": value,
                    "final": value,
                }
                | {"selected": None, "train_seconds": time + seed / 100, "inference_ms_per_image": 1.0}
                | {"peak_memory_bytes": 1, "precision": "fp32", "device": "Some CPU", "threads": 1}
                | {"started_at": STARTED, "other_versions": None, "accepted": None}
            )

    add("curves", "simple_vit", "all", 50_000, vit, seconds[1])
    add("curves", "simple_cnn", "all", 50_000, cnn, seconds[0])
    for size, gap in zip((1000, 50_000), sweep, strict=True):
        add("data_efficiency", "simple_vit", size, size, (40, 41, 42), 5)
        add("data_efficiency", "simple_cnn", size, size, (40 + gap, 41.1 + gap, 42 + gap), 5)
    return pd.DataFrame(rows)


def scored(asked, runs=None, over_images=None):
    """Score the predictions of the working directory, through read_seals()."""
    paths = predictions.prediction_files()
    runs = runs_of() if runs is None else runs
    digests = {path.name: file_digest(path) for path in paths}
    found = read_predictions(paths, asked)
    return score_predictions(runs, found, read_seals(), digests, asked, over_images or {})


def one(asked, runs=None, over_images=None, **changes):
    write("ana", **changes)
    (found,) = scored(asked, runs, over_images)
    return found


def test_who_is_right(here, asked):
    found = one(asked)
    assert (found.winner_right, found.faster_right, found.catches_up_right) == (1, 1, True)
    assert found.winner_brier == found.faster_brier == pytest.approx(0.01)
    assert found.gap_score == pytest.approx(5 + 10 * 2)  # the CNN leads by 10
    assert found.gap_inside is True  # as [3, 8] meets what follows:
    welch = compare([80, 81, 82], [70, 71, 72])
    assert welch.low < 8 < welch.mean == 10


def test_who_is_faster_is_told_by_the_ratio_that_the_page_shows():
    """Of the seconds themselves one slow run would leave it undecided."""
    vit, cnn = (
        pd.DataFrame({"seed": range(5), "train_size": "all", "train_seconds": seconds})
        for seconds in ([12, 13, 20, 12.5, 12.2], [10, 10.5, 10.2, 10.1, 10.9])
    )
    pair = Pair(vit, cnn)
    assert (pair.difference("train_seconds").sign, pair.log_ratio("train_seconds").sign) == (0, 1)
    assert Truth([pair], "best").faster == "CNN"


def test_who_is_wrong(here, asked):
    found = one(asked, which_has_higher_accuracy="ViT", which_trains_faster="ViT", vit_catches_up_at=50_000.0)
    assert (found.winner_right, found.faster_right, found.catches_up_right) == (0, 0, False)
    assert found.winner_brier == found.faster_brier == pytest.approx(0.81)
    assert found.gap_score == pytest.approx(5 + 10 * (3 + 10))  # the ViT leads by −10
    assert found.gap_inside is False


def test_the_gap_is_the_lead_of_the_predicted_winner_whatever_the_order_of_the_pair(
    here, asked, default_config
):
    turned = default_config["experiments"]["curves"] | {"pairs": [["simple_cnn", "simple_vit"]]}
    other = askable(default_config | {"experiments": default_config["experiments"] | {"curves": turned}})
    key = ("cifar10", "all", "", "simple_cnn", "simple_vit")
    images = {"curves": {key: {"best": Interval(9, 11)}}}
    first, second = one(asked), one(other, over_images=images)
    assert first[4:] == second[4:]
    assert second.truth.pair.difference("best").images == (-11, -9)


def test_the_intervals_decide_and_without_them_nothing_is_right_or_wrong(here, asked):
    close = runs_of(cnn=(70, 74, 78), vit=(69, 74, 77))
    found = one(asked, close)
    assert found.winner_right == 0.5
    assert found.winner_brier == pytest.approx(0.16)
    # Over seeds the CNN is ahead; other images could turn it round.
    key = ("cifar10", "all", "", "simple_vit", "simple_cnn")
    unsure = {"curves": {key: {"best": Interval(-21, 1)}}}
    assert one(asked, over_images=unsure).winner_right == 0.5


def test_one_seed_is_said(here, asked):
    runs = runs_of(cnn=(80,), vit=(70,))
    found = one(asked, runs)
    assert found.winner_right == 1 and found.gap_inside is None
    assert one(asked, runs_of(cnn=(80, 80), vit=(70, 70))).gap_inside is None  # nor do seeds that all agree
    text = to_markdown(report([found], runs, []))
    assert "nothing can be concluded about chance" in text
    assert "3 to 8: no interval over seeds" in text
    assert "nothing can be concluded about chance" not in to_markdown(report([one(asked)], runs_of(), []))


@pytest.mark.parametrize(("column", "other"), [("device", "Some GPU"), ("threads", 2), ("precision", "bf16")])
def test_times_of_other_hardware_do_not_compare(column, other, here, asked):
    runs = runs_of()
    runs.loc[runs["model"] == "simple_vit", column] = other
    found = one(asked, runs)
    assert found.faster_right is None and found.faster_brier is None
    assert "CNN: cannot be told" in to_markdown(report([found], runs, []))


@pytest.mark.parametrize(
    ("sweep", "answer", "is_right"),
    [((5, -1), 50_000, True), ((5, -1), "never", False), ((-5, -9), 1000, True), ((5, 1), "never", True)],
)
def test_where_the_vit_catches_up(sweep, answer, is_right, here, asked):
    assert one(asked, runs_of(sweep=sweep), vit_catches_up_at=answer).catches_up_right is is_right


def test_when_it_was_made(here, asked):
    for name in ("before", "after", "changed", "never"):
        write(name)
    path = predictions.FOLDER
    kept = {name: (path / f"{name}.yaml").read_bytes() for name in ("after", "never")}
    for name in kept:
        (path / f"{name}.yaml").unlink()
    seal(asked, EARLY)
    (path / "after.yaml").write_bytes(kept["after"])
    seal(asked, LATE)
    (path / "never.yaml").write_bytes(kept["never"])
    write("changed", confidence=1)
    found = {one.prediction.path.stem: one for one in scored(asked)}
    assert {name: one.made for name, one in found.items()} == {
        "before": "before",
        "after": "after",
        "changed": "not sealed",
        "never": "not sealed",
    }
    assert found["after"].when == (
        "made after the first run had started: sealed 2026-01-09 08:00:00 UTC, first run 2026-01-05 12:00:00 UTC"
    )
    assert found["changed"].when == "not sealed: changed since 2026-01-01 08:00:00 UTC"
    assert all(one.winner_brier is not None for one in found.values())  # scored all the same
    text = to_markdown(report(list(found.values()), runs_of(), []))
    assert "**Made after the first run had started, and scored as such: 1.**" in text
    assert "**Not sealed, or changed since, and scored as such: 2.**" in text


@pytest.mark.parametrize(("sealed_at", "made"), [("13:30:00+02:00", "before"), ("11:30:00-02:00", "after")])
def test_times_are_compared_and_not_their_texts(sealed_at, made, here, asked):
    """The first run was started at 12:00 UTC."""
    path = write("ana")
    digest = file_digest(path)
    seals = [{"file": path.name, "sha256": digest, "sealed_at": f"2026-01-05T{sealed_at}"}]
    (found,) = score_predictions(
        runs_of(), read_predictions([path], asked), seals, {path.name: digest}, asked
    )
    assert found.made == made


def test_a_run_of_a_smaller_size_tells_too(here, asked):
    runs = runs_of()
    sizes = runs["experiment"] == "data_efficiency"
    runs.loc[sizes & (runs["train_size"] == 50_000), "started_at"] = "2026-01-12T12:00:00+00:00"
    write("ana", experiment="data_efficiency", vit_catches_up_at=None)
    seal(asked, LATE)
    (found,) = scored(asked, runs)
    assert found.made == "after"


def test_going_back_to_a_former_seal_is_no_seal(here, asked):
    """Who sealed both answers could else choose afterwards."""
    path = write("ana")
    seal(asked, EARLY)
    first = path.read_bytes()
    write("ana", which_has_higher_accuracy="ViT")
    seal(asked, LATER)
    path.write_bytes(first)
    (found,) = scored(asked)
    assert found.made == "not sealed"


def test_only_the_runs_it_is_about_count_for_the_time(here, asked):
    runs = runs_of()
    runs.loc[runs["experiment"] == "data_efficiency", "started_at"] = "2026-01-01T07:00:00+00:00"
    write("ana", vit_catches_up_at=None)
    seal(asked, EARLY)
    assert scored(asked, runs)[0].made == "before"
    write("ana")
    SEALS.unlink()
    seal(asked, EARLY)
    assert scored(asked, runs)[0].made == "after"


def test_what_a_class_reads(here, asked):
    write("ana")
    write("ben", which_has_higher_accuracy="ViT", confidence=0.95, accuracy_gap_percent=12)
    write("cy", confidence=0.6, accuracy_gap_percent=[0, 20])
    write("dee", confidence=None, which_has_higher_accuracy="ViT")
    seal(asked, EARLY)
    parts = report(scored(asked), runs_of(), [("robustness", "results/figures/robustness.svg")])
    by_title = {part.title: part for part in parts}
    answers = by_title["All answers: SimpleViT and SimpleCNN"].table
    rows = {(r.Question, r.Answer): (r.Readers, r[4], r[5]) for r in answers.itertuples()}
    assert rows["More accurate", "CNN"] == ("2", "██", "measured")
    assert rows["More accurate", "ViT"] == ("2", "██", "")
    lead = "Lead of the CNN, middle"
    assert rows[lead, "10 to 15"] == ("1", "█", "measured")  # the middle of 0 to 20
    assert rows[lead, "−15 to −10"] == ("1", "█", "")  # 12 for the ViT
    assert rows["ViT catches up at", "never"] == ("4", "████", "measured")
    sure = by_title["How sure, how right"]
    assert sure.table.to_numpy().tolist() == [
        ["0.6 to 0.7", "1", "0.60", "1.00"],
        ["0.9 to 1.0", "2", "0.93", "0.50"],
        ["all", "3", "0.82", "0.67"],
    ]
    assert "1 of 3 ranges hold the measured mean gap; 80% of them should" in sure.items
    assert "The most confident wrong answer on the accuracy: 0.95, in ben.yaml" in sure.items
    briers = [0.1**2, 0.95**2, 0.4**2, 0.8**2], [0.1**2, 0.05**2, 0.4**2, 0.2**2]
    gaps = [5 + 10 * 2, 10 * 22, 20, 5 + 10 * 13]
    means = [
        f"{np.mean(values):.{digits}f}" for values, digits in zip((*briers, gaps), (2, 2, 1), strict=True)
    ]
    assert parts[0].table.to_numpy().tolist() == [["before the first run", "4", *means]]
    assert by_title["Reasons"].items[0].startswith("results/figures/robustness.svg: ")


def test_what_readers_write_is_text(here, asked):
    reason = "a | b <script>alert(1)</script> *so*\n# no heading\n- no list [x](y) & more"
    write("an|na", reasoning=reason, confidence=1)
    parts = report(scored(asked), runs_of(), [])
    page, text = to_html(parts, html.escape), to_markdown(parts, as_written)
    assert "<script" not in page and not re.search(r"(?<!\\)<", text)
    assert html.escape(reason.splitlines()[0]) in page
    assert r"an\|na" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (6, 11, 5)
    assert "\n> \\# no heading" in text and "\n> \\- no list" in text
    shown = re.sub(r"\\([\\`*_\[\]<>|~#&=+-])", r"\1", text)
    for line in reason.splitlines():
        assert f"> {line}" in shown


def test_generated_images_are_said(here, asked):
    runs = runs_of(generated=True)
    text = to_markdown(report([one(asked, runs)], runs, []))
    assert text.startswith("# Predictions (generated images)")
    assert "need not be right about real images" in text


def test_the_seals_are_json(here, asked):
    write("ana")
    seal(asked, EARLY)
    (one_seal,) = json.loads(SEALS.read_text())["seals"]
    assert one_seal.keys() == {"file", "sha256", "sealed_at"}
