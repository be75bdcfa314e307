"""From the probes to figures and findings: of small models, and of measurements written by hand."""

import copy

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from conftest import ROOT
from matplotlib.text import Text

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.data.packed import Packed, Split, load_packed
from vitcnn.errors import StudyError
from vitcnn.models import create_model
from vitcnn.provenance.record import fingerprint
from vitcnn.representations import probe as of_probe
from vitcnn.representations.layers import outputs_of
from vitcnn.representations.probe import image_order, probe, probe_run
from vitcnn.representations.similarity import error_consistency
from vitcnn.results import probed
from vitcnn.results.claims import UNDECIDED
from vitcnn.results.figures import (
    attention,
    attention_atlas,
    filters,
    linear_probe,
    position_embedding,
    probes,
    reach,
    robustness,
    similarity,
    style,
)
from vitcnn.results.learned import judge, what_the_models_learned
from vitcnn.results.probed import (
    Model,
    Probe,
    Similarity,
    areas_under_deletion,
    error_consistencies,
    read_probed,
    similarities,
)
from vitcnn.results.statistics import Difference, against

RAW = yaml.safe_load((ROOT / "config.yaml").read_text())
CONFIG = check_config(RAW)
SMALL = {
    "vit": {"embed_dim": 16, "depth": 2, "num_heads": 2},
    "cnn": {"channels": [4, 8], "blocks": [1, 1]},
    "simple_cnn": {"channels": [4, 8, 8], "hidden": 8},
}
ALSO = ("linear_probe", "position_embedding", "filters", "attention_atlas")
FIGURES = [
    similarity,
    robustness,
    reach,
    attention,
    linear_probe,
    position_embedding,
    filters,
    attention_atlas,
]
SETTINGS = {"title": "Title", "dataset_title": "CIFAR-10", "num_classes": 10, "band": "sd"}
SETTINGS["looks"] = {"vit": 0, "cnn": 1, "simple_cnn": 2}


def spec_of(name, seed=0):
    spec = plan.run_spec(CONFIG, plan.Run("cifar10", name, "adam10", "all", seed))
    spec["model"] |= SMALL[name]
    return spec


def weights_of(spec):
    """Return weights that are not the initial ones."""
    torch.manual_seed(100 + spec["seed"])
    return {
        name: value + 0.1 * torch.randn_like(value) if value.is_floating_point() else value
        for name, value in create_model(spec).state_dict().items()
        if "running_var" not in name
    } | {name: value for name, value in create_model(spec).state_dict().items() if "running_var" in name}


def trained_of(spec):
    model = create_model(spec)
    model.load_state_dict(weights_of(spec))
    return model


@pytest.fixture(scope="module")
def packed(data):
    whole = load_packed(data)
    train, test = whole.train, whole.test
    return whole._replace(
        train=Split(train.images[:150], train.labels[:150]), test=Split(test.images[:40], test.labels[:40])
    )


@pytest.fixture(scope="module")
def arrays(packed):
    """What is measured of three small models, two seeds each; linear probes, which take seconds, once each."""
    found = {}
    for name in SMALL:
        for seed, also in ((0, ALSO), (1, ALSO[1:])):
            spec = spec_of(name, seed)
            found[name, seed] = probe(spec, trained_of(spec), packed, torch.device("cpu"), also)
        found[name, 1] = found[name, 0] | found[name, 1]
    return found


@pytest.fixture(scope="module")
def models(arrays):
    right = np.random.default_rng(0).random((len(arrays), 40)) < 0.6
    probes = {
        key: Probe(key[1], found, hits) for (key, found), hits in zip(arrays.items(), right, strict=True)
    }
    return [
        Model(
            name,
            "ViT" if name == "vit" else "CNN",
            ["comparison"],
            [probes[name, 0], probes[name, 1]],
            "CIFAR-10",
            10,
        )
        for name in SMALL
    ]


def test_apples_gpus_have_no_fp64_so_the_cpu_probes(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(of_probe, "select_device", lambda name: torch.device("mps"))
    monkeypatch.setattr(of_probe, "load_packed", lambda data: None)
    monkeypatch.setattr(of_probe, "load_model", lambda spec, weights: None)
    monkeypatch.setattr(of_probe, "probe", lambda *given: asked.append(given[3].type) or {})
    probe_run({}, [], tmp_path, tmp_path, tmp_path / "out.npz", "auto", 1)
    assert asked == ["cpu"]


def test_a_layer_that_the_next_computes_in_place_is_as_it_was():
    first, second = torch.nn.Identity(), torch.nn.ReLU(inplace=True)
    with outputs_of({"first": first, "second": second}) as outputs:
        torch.nn.Sequential(first, second)(torch.tensor([-1.0, 1.0]))
    assert outputs["first"].tolist() == [-1, 1] and outputs["second"].tolist() == [0, 1]


def test_a_probe_has_what_it_says(arrays):
    found = arrays["vit", 0]
    assert list(found["layers"]) == ["embedding", "block 1", "block 2"]
    assert found["gram"].shape == (2, 3, 40 * 39 // 2)
    assert found["gram"].dtype == np.float16
    assert found["reach"].shape == (2, 3)
    assert found["field"].shape == (2, 3, 32, 32)
    assert found["attention_distance"].shape == found["class_token_share"].shape == (2, 2, 2)
    assert found["gallery_maps"].shape == (3, 8, 8, 8)
    assert list(found["orders"]) == ["attention", "rollout", "Grad-CAM", "random", "centre first"]
    assert found["deletion"].shape == (5, len(found["deleted"]))
    assert np.ptp(found["deletion"][:, 0]) < 1e-6  # nothing is covered yet
    assert np.ptp(found["deletion"][:, -1]) < 1e-6  # all is
    assert found["linear_accuracy"].shape == (2, len(found["linear_layers"])) == (2, 6)
    assert found["position_similarity"].shape == (2, 64, 64)
    assert np.isnan(found["position_similarity"][1]).all()  # this ViT begins with zeros
    assert found["filters"].shape == (16, 3, 4, 4)
    assert found["atlas"].shape == (2, 2, 2, 8, 8)
    assert found["atlas_entropy"].max() <= 6 + 1e-5
    assert not found["left_out"].size


class ReadsOneCell(torch.nn.Module):
    """Of 8×8 cells of 4 pixels it reads row 2, column 5: class 1 if that is light, 0 if dark.

    Its last block's class token attends to that cell alone, its first block's to the first cell.
    """

    def __init__(self):
        super().__init__()
        self.cells = torch.nn.AvgPool2d(4)

    def forward(self, images):
        light = self.cells(images)[:, :, 2, 5].mean(1)
        return 10 * torch.stack([-light, light], 1)

    def attention(self, images):
        weights = torch.eye(65).repeat(len(images), 2, 1, 1, 1)  # one head
        weights[..., 0, 0] = 0
        weights[:, 0, :, 0, 1] = weights[:, 1, :, 0, 1 + 2 * 8 + 5] = 1
        return weights


@pytest.fixture(scope="module")
def one_cell():
    """What is measured of ReadsOneCell on images that it classifies without error; with them, in their order."""
    cells = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
    images = cells.repeat(4, 2).repeat(4, 3)
    labels = (cells[:, :, 2, 5].mean(1) > 127.5).astype(np.int64)
    grey = Split(np.full((1, 3, 32, 32), 127, np.uint8), np.zeros(1, np.int64))
    spec = {"model": {"builder": "timm:stand-in"}, "seed": 0}
    spec["recipe"] = {"normalization": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_probe, "create_model", lambda spec: ReadsOneCell())
        packed = Packed({}, grey, Split(images, labels), np.zeros(1, bool))
        found = probe(spec, ReadsOneCell(), packed, torch.device("cpu"))
    order = image_order(images)
    return found, images[order], labels[order]


def drawn(count):
    """Return the order in which each image's cells are covered, and the direction in which it is shifted."""
    generator = torch.Generator().manual_seed(0)
    *_, cells = (torch.rand(count, length, generator=generator) for length in (4, 16, 64, 64))
    return cells.argsort(1).numpy(), torch.randint(0, 4, (count,), generator=generator).numpy()


def test_the_attention_map_is_the_last_blocks(one_cell):
    found, *_ = one_cell
    expected = np.zeros((8, 8))
    expected[2, 5] = 1
    assert (found["gallery_maps"][list(found["maps"]).index("attention")] == expected).all()


def test_the_cell_that_decides_is_deleted_first(one_cell):
    found, *_ = one_cell
    curves = dict(zip(found["orders"], found["deletion"], strict=True))
    attention, random = curves["attention"], curves["random"]
    assert attention[1:] == pytest.approx(attention[-1])  # the first cells decide
    assert (attention[1:-1] < random[1:-1] - 0.1).all()


def test_accuracies_of_shifted_images_are_those_computed_by_hand(one_cell):
    found, images, labels = one_cell
    assert found["clean"] == 100
    _, directions = drawn(len(images))
    for far, accuracy in zip(found["shifts"], found["shifted"], strict=True):
        right = 0
        for image, label, direction in zip(images, labels, directions, strict=True):
            x, y = ((far, 0), (-far, 0), (0, far), (0, -far))[direction]  # to the right, down
            right += (image[:, 8 - y : 12 - y, 20 - x : 24 - x].mean() > 127.5) == label
        assert accuracy == pytest.approx(100 * right / len(images))


def test_accuracies_of_covered_images_are_those_computed_by_hand(one_cell):
    """Covered with dark grey, the cell is dark; off the grid four cells cover a quarter of it each."""
    found, images, labels = one_cell
    orders, _ = drawn(len(images))
    for covering, accuracies in zip(({21}, {12, 13, 20, 21}), found["covered"], strict=True):
        for share, accuracy in zip(found["shares"], accuracies, strict=True):
            hidden = np.array([covering <= {*order[: round(share * 64)]} for order in orders])
            assert accuracy == pytest.approx(100 * (labels * ~hidden == labels).mean())


def test_what_a_model_cannot_give_is_left_out_by_name(arrays):
    for seed in (0, 1):
        found = arrays["simple_cnn", seed]
        assert list(found["left_out"]) == [
            "attention: the model has no method attention()",
            "position embedding: the model has none of patches and a class token",
        ]
        assert "attention_distance" not in found
        assert np.isnan(found["reach"][:, -1]).all()  # the hidden layer is no map
        assert list(found["maps"]) == ["Grad-CAM"]


def test_a_map_that_does_not_reach_the_logits_is_left_out(packed, arrays):
    """Of a ViT of timm, whose head reads the class token alone; the figure is drawn without it."""
    spec = spec_of("vit")
    spec["model"] = {
        "name": "deit",
        "builder": "timm:vit_tiny_patch16_224",
        "patch_size": 8,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 3,
    }
    found = probe(spec, create_model(spec), packed, torch.device("cpu"))
    assert "Grad-CAM: no place of the last map reaches" in " ".join(found["left_out"])
    assert not found["maps"].size
    right = np.ones(40, bool)
    models = [
        Model("deit", "ViT", ["e"], [Probe(0, found, right)], "CIFAR-10", 10),
        Model("cnn", "CNN", ["e"], [Probe(0, arrays["cnn", 0], right)], "CIFAR-10", 10),
    ]
    figures = [
        attention.draw(shown, SETTINGS | {"looks": {"deit": 0, "cnn": 1}}) for shown in (models, models[:1])
    ]
    assert "; no map of deit" in " ".join(text.get_text() for text in figures[0].findobj(Text))


def test_the_untrained_baseline_is_the_model_that_training_begins_with(packed):
    spec = spec_of("cnn", 3)
    torch.manual_seed(3)
    found = probe(spec, create_model(spec), packed, torch.device("cpu"))
    for name in ("gram", "field", "reach"):
        assert np.array_equal(found[name][0], found[name][1], equal_nan=True)
    assert found["map_correlation"] == pytest.approx([1])


def test_measurements_do_not_depend_on_the_order_of_the_images(packed, arrays):
    turned = packed._replace(test=Split(packed.test.images[::-1].copy(), packed.test.labels[::-1].copy()))
    assert np.array_equal(
        packed.test.images[image_order(packed.test.images)],
        turned.test.images[image_order(turned.test.images)],
    )
    spec = spec_of("cnn")
    found = probe(spec, trained_of(spec), turned, torch.device("cpu"), ALSO[1:])
    for name, value in found.items():
        expected = arrays["cnn", 0][name]
        assert np.array_equal(value, expected, equal_nan=value.dtype.kind == "f"), name


def test_a_run_is_probed_from_files_and_damaged_weights_are_named(tmp_path, data):
    spec, weights, out = (
        spec_of("simple_cnn"),
        tmp_path / "model.safetensors",
        tmp_path / "representations.npz",
    )
    weights.write_bytes(safetensors.torch.save(weights_of(spec))[:-1])
    with pytest.raises(StudyError, match=r"model\.safetensors: cannot be read"):
        probe_run(spec, [], weights, data, out, "cpu", 1)
    weights.write_bytes(safetensors.torch.save(weights_of(spec_of("cnn"))))
    with pytest.raises(StudyError, match=r"model\.safetensors: are not weights of simple_cnn"):
        probe_run(spec, [], weights, data, out, "cpu", 1)
    assert not out.exists()


def test_probes_are_read_by_their_folders(tmp_path, arrays):
    runs, files = [], []
    for name, seed in (("cnn", 1), ("vit", 0), ("cnn", 0)):
        folder = tmp_path / name / str(seed)
        folder.mkdir(parents=True)
        np.savez(folder / "representations.npz", **arrays[name, seed])
        np.savez(folder / "predictions.npz", logits=np.eye(3), labels=np.array([0, 1, seed]))
        run = {
            "title": name,
            "family": "?",
            "experiments": ["e"],
            "dataset": "D",
            "train_size": 5000,
            "seed": seed,
        }
        runs.append(run | {"folder": str(folder)})
        files.append(folder / "representations.npz")
    read = read_probed(runs, files[::-1], [file.with_name("predictions.npz") for file in files])
    assert [(model.title, [p.seed for p in model.probes]) for model in read] == [
        ("cnn", [0, 1]),
        ("vit", [0]),
    ]
    assert [p.arrays["clean"] for p in read[0].probes] == [arrays["cnn", s]["clean"] for s in (0, 1)]
    assert read[0].probes[1].correct.tolist() == [True, True, False]
    assert read[0][4:] == ("D", 3, 5000)
    files[0].write_bytes(b"")
    with pytest.raises(StudyError, match="cannot be read"):
        read_probed(runs, files, [file.with_name("predictions.npz") for file in files])


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("chosen", [slice(None), slice(1, 2)], ids=["all", "one CNN"])
def test_figures_are_drawn_of_all_models_and_of_a_cnn_alone(figure, chosen, models, tmp_path):
    drawn = figure.draw(models[chosen], SETTINGS)
    drawn.savefig(tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text()
    if "no model here" in text:
        assert chosen == slice(1, 2)
        assert figure in (reach, position_embedding, attention_atlas)
        return
    assert "mean over 2 seeds" in text
    for model in models[chosen]:
        if figure not in (position_embedding, attention_atlas) or model.family == "ViT":
            assert model.title in text


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_are_drawn_of_one_seed(figure, models):
    one = [model._replace(probes=model.probes[:1]) for model in models]
    texts = figure.draw(one, SETTINGS).get_supxlabel()
    assert "one seed" in texts


def test_a_model_looks_as_it_does_in_all_figures(models):
    look = probes.looks(models, SETTINGS | {"looks": {model.title: 3 - i for i, model in enumerate(models)}})
    assert [look[model.title] for model in models] == [style.LOOKS[3 - i] for i in range(len(models))]


def test_the_spread_of_the_closest_layers_is_that_of_pairs_of_seeds():
    """Where the second model's seed alone decides, its spread is shown in full."""
    of_second = np.array([0.2, 0.3, 0.5, 0.6, 0.9])
    values = np.ones((5, 2, 5, 2))
    values[:, 0, :, 1], values[:, 1, :, 0] = of_second, of_second[:, None]
    found = Similarity(probed._by_pair_of_seeds(values), np.array([0, 1])).closest(0, 1)
    assert found.mean() == pytest.approx(0.5) and len(found) == 20
    assert found.std(ddof=1) == pytest.approx(of_second.std(), rel=0.03)
    assert (
        len(Similarity(probed._by_pair_of_seeds(values), np.array([0, 1])).closest(0, 0)) == 10
    )  # each pair once


def test_similarity_is_that_of_other_seeds(models):
    found = similarities(models)
    assert found.keys() == {"plain", "plain, untrained", "deconfounded", "deconfounded, untrained"}
    plain = found["plain"]
    assert plain.values.shape == (2, 3 + 3 + 4, 3 + 3 + 4)
    assert np.allclose(plain.values[0], plain.values[1].T, atol=1e-5)
    first, second = (model.arrays["gram"][0, 1].astype(float) for model in models[0].probes)
    expected = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert plain.values[0, 1, 1] == pytest.approx(expected, abs=1e-4)
    block = plain.values[:, :3, 3:6]
    assert plain.closest(0, 1).mean() == pytest.approx(block.mean(0).max())


def test_errors_are_compared_between_different_runs_only(models):
    found = error_consistencies(models)
    assert {pair: len(values) for pair, values in found.items()} == {
        (0, 0): 1, (0, 1): 4, (0, 2): 4, (1, 1): 1, (1, 2): 4, (2, 2): 1,
    }  # fmt: skip
    (a, b), (c, d) = ([probe.correct for probe in model.probes] for model in models[:2])
    assert found[0, 0].tolist() == [error_consistency(a, b)]
    assert found[0, 1].tolist() == [error_consistency(*pair) for pair in ((a, c), (a, d), (b, c), (b, d))]


# Findings, from measurements written by hand --------------------------------------------------------


def hand_written(family, seeds=3, **means):
    """Return a model whose seeds lie about 0.01 around the means."""
    about = {"clean": 60.0, "shuffled": 30.0, "shifted": 50.0, "reach": [[1.0, 5.0], [1.0, 2.0]]} | means
    probes = []
    for seed in range(seeds):
        arrays = {
            name: np.array(mean) * (1 + 0.001 * (seed - 1)) + 0.01 * (seed - 1)
            for name, mean in about.items()
        }
        arrays |= {"tiles": np.array([2, 4]), "shifts": np.array([4, 8])}
        arrays |= {name: np.stack([arrays[name]] * 2) for name in ("shuffled", "shifted")}
        if "attention_distance" in arrays:
            arrays["uniform_distance"] = np.array(16.5)
        probes.append(Probe(seed, arrays, np.ones(3, bool)))
    return Model(family, family, ["comparison"], probes, "CIFAR-10", 10)


UNIFORM = [[[16.4, 16.6], [16.5, 16.5]]] * 2


def verdicts(vit, cnn):
    return {claim.claim.partition(":")[0] + ("" if vit.title not in claim.measured or " less CNN" in claim.measured else " of the ViT"): claim.verdict for claim in judge([vit, cnn])}  # fmt: skip


def test_the_notebooks_words_are_borne_out_where_the_measurements_say_so():
    vit = hand_written(
        "ViT", shuffled=50.0, shifted=40.0, reach=[[1.5, 8.0], [1.5, 2.0]], attention_distance=UNIFORM
    )
    assert verdicts(vit, hand_written("CNN")) == {
        "Locality": "borne out",
        "Translation": "borne out",
        "Global": "borne out",
        "Global of the ViT": "borne out",
        "Locality of the ViT": "not borne out",
        "Hierarchical": "borne out",
    }


def test_they_are_not_where_the_measurements_say_the_opposite_and_undecided_in_between():
    local = copy.deepcopy(UNIFORM)
    local[0][0] = [3.0, 3.2]
    vit = hand_written("ViT", shuffled=20.0, reach=[[1.5, 5.0], [1.5, 2.0]], attention_distance=local)
    assert verdicts(vit, hand_written("CNN", reach=[[1.0, 5.0], [1.0, 7.0]])) == {
        "Locality": "not borne out",
        "Translation": "undecided",
        "Global": "undecided",
        "Global of the ViT": "not borne out",
        "Locality of the ViT": "borne out",
        "Hierarchical": "not borne out",
    }


def test_a_layer_is_not_compared_with_itself():
    one_map = hand_written("CNN", reach=[[3.0], [2.0]])
    assert "Hierarchical" not in {claim.claim.partition(":")[0] for claim in judge([one_map])}
    assert "Hierarchical" in {claim.claim.partition(":")[0] for claim in judge([hand_written("CNN")])}


def test_a_model_that_keeps_what_chance_gives_keeps_nothing():
    """Of two classes, shuffled tiles leave both models half of the images: no difference, whatever they had before."""
    vit, cnn = hand_written("ViT", clean=60.0, shuffled=50.1), hand_written("CNN", clean=90.0, shuffled=50.1)
    locality, translation, _, _ = judge([model._replace(num_classes=2) for model in (vit, cnn)])
    assert abs(locality.difference.mean) < 1
    assert abs(translation.difference.mean) < 1
    guessing = hand_written("ViT", clean=50.0)._replace(num_classes=2)
    assert [claim.claim.partition(":")[0] for claim in judge([guessing, cnn._replace(num_classes=2)])] == [
        "Global",
        "Hierarchical",
    ]


def test_runs_on_one_subset_are_paired_by_seed():
    """As in the tables: what the subset of a seed does to both models is no difference between them."""
    cnn, vit = (hand_written(family)._replace(train_size=5000) for family in ("CNN", "ViT"))
    for kept, model in ((np.array([30.0, 50, 40]), cnn), (np.array([31.0, 51.1, 41]), vit)):
        for probe_, value in zip(model.probes, kept, strict=True):
            probe_.arrays["shuffled"] = np.full(2, value)
    pairing = {False: "undecided", True: "borne out"}
    for size in (5000, plan.ALL):
        first = next(judge([vit._replace(train_size=size), cnn._replace(train_size=size)]))
        assert first.verdict == pairing[size != plan.ALL]
    assert next(judge([vit, cnn._replace(train_size=1000)])).verdict == "undecided"


def test_what_untrained_models_have_is_said_beside_what_trained_ones_have():
    vit = hand_written("ViT", reach=[[1.5, 8.0], [1.5, 9.0]], attention_distance=UNIFORM)
    (section,) = what_the_models_learned([vit, hand_written("CNN")])
    shown = dict(zip(section.table["Claim"], section.table["These runs"], strict=True))
    assert shown["Global: ViTs relate distant places, CNNs near ones"].endswith("; untrained +7.0")
    assert shown["Global: each patch attends to all others"].endswith("; untrained +1.7")
    assert "untrained" not in shown["Translation: CNNs are less disturbed by a shift"]


def test_the_last_blocks_patches_do_not_count():
    last_local = copy.deepcopy(UNIFORM)
    last_local[0][1] = [1.0, 1.0]
    vit = hand_written("ViT", attention_distance=last_local)
    assert verdicts(vit, hand_written("CNN"))["Locality of the ViT"] == "not borne out"


def test_one_seed_decides_nothing_and_models_of_other_experiments_are_not_paired():
    vit, cnn = hand_written("ViT", seeds=1), hand_written("CNN", seeds=1)
    for claim in judge([vit, cnn]):
        assert claim.verdict.endswith("in one seed; chance unknown" if claim.difference.mean else UNDECIDED)
    other = cnn._replace(experiments=["curves"])
    assert [claim.claim.partition(":")[0] for claim in judge([vit, other])] == ["Hierarchical"]
    both = vit._replace(experiments=["comparison", "curves"])
    assert list(judge([both, other])) == list(judge([vit, cnn]))


def test_what_could_not_be_measured_is_not_judged():
    """Sides that 4 does not divide have no such tiles; of a model whose layers are no maps there is no reach."""
    vit, cnn = hand_written("ViT"), hand_written("CNN", reach=[[np.nan] * 2] * 2)
    for of_seed in vit.probes:
        of_seed.arrays["tiles"] = np.array([2, 3])
    assert [claim.claim.partition(":")[0] for claim in judge([vit, cnn])] == ["Translation"]


def test_the_section_gives_difference_interval_and_number_of_seeds():
    vit = hand_written("ViT", shuffled=45.0)
    models = [vit, hand_written("CNN")]
    (section,) = what_the_models_learned(models)
    assert section.title == "What the models learned"
    assert section.table["These runs"][0].endswith("+30.0 points [+30.0, +30.0], n = 3")
    assert section.paragraphs[0].startswith("Measured on CIFAR-10, of the runs on the most training images.")
    assert section.table["Verdict"][0] == "borne out"
    assert what_the_models_learned([]) == []
    (generated,) = what_the_models_learned(models, is_generated=True)
    assert generated.items == [*section.table["These runs"]]
    assert generated.table is None


def test_against_is_students_t():
    mean, low, high, seeds, *_ = against([1.0, 2.0, 3.0], 1.5)
    assert (mean, seeds) == (0.5, 3)
    assert (low, high) == pytest.approx((0.5 - 2.4841, 0.5 + 2.4841), abs=1e-4)
    assert against([1.0], 0) == Difference(1.0, None, None, 1)


def test_area_under_deletion():
    arrays = {
        "deleted": np.array([0, 32, 64]),
        "deletion": np.array([[1, 0.5, 0], [1, 0, 0]]),
        "orders": ["a", "b"],
    }
    areas = areas_under_deletion(Model("", "", "", [Probe(0, arrays, np.ones(1, bool))], "", 10))
    assert {order: area.tolist() for order, area in areas.items()} == {"a": [0.5], "b": [0.25]}


# The plan ------------------------------------------------------------------------------------------


def test_runs_with_the_most_images_are_probed():
    raw = copy.deepcopy(RAW)
    raw["representations"]["experiments"] = ["curves", "data_efficiency"]
    raw["experiments"]["data_efficiency"]["train_sizes"] = [1000, 5000]
    runs = plan.probed_runs(check_config(raw))
    assert {(run.model, run.recipe, run.train_size) for run in runs} == {
        (model, recipe, size)
        for model in ("simple_vit", "simple_cnn")
        for recipe, size in (("adamw20", "all"), ("adamw10", 5000))
    }
    assert len(runs) == 4 * 5
    raw["representations"] = None
    assert plan.probed_runs(check_config(raw)) == plan.probed_figures(check_config(raw)) == []


@pytest.mark.parametrize(
    ("key", "value", "word"), [("dataset", "cifar1", "cifar10"), ("experiments", ["curve"], "curves")]
)
def test_unknown_names_are_refused(key, value, word):
    raw = copy.deepcopy(RAW)
    raw["representations"][key] = value
    with pytest.raises(StudyError, match=rf"representations\.{key}: .*did you mean {word}\?"):
        check_config(raw)


@pytest.mark.parametrize("name", list(SMALL))
def test_what_a_model_file_says_of_its_layers_makes_its_probe_stale_and_not_its_run(name):
    model_file = f"models/{spec_of(name)['model']['builder']}.py"
    said = {f"{model_file}: named_layers", f"{model_file}: cam_layer"}
    code = {
        script: set(fingerprint(script, {"spec": spec_of(name)})["code"]) for script in ("train", "probe_run")
    }
    assert said <= code["probe_run"]
    assert not said & code["train"]
