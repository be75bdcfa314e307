"""Each measurement against a case whose answer is known: a theorem, a formula, or another library."""

import numpy as np
import pytest
import torch
import yaml
from captum.attr import LayerGradCam
from conftest import ROOT
from torch import nn

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.data.augmentation import Parameters, augment
from vitcnn.models import create_model
from vitcnn.representations.attention import (
    centre_first,
    class_token_map,
    deletion_curve,
    entropy,
    grad_cam,
    rank_correlation,
    rollout,
    to_cells,
)
from vitcnn.representations.layers import as_map, cam_layer_of, layers_of, outputs_of
from vitcnn.representations.linear_probe import fit, linear_probe, pooled
from vitcnn.representations.reach import attention_distance, reach, receptive_fields
from vitcnn.representations.robustness import cover_cells, first_covered, shuffle_tiles
from vitcnn.representations.similarity import (
    centred_gram,
    cka,
    deconfound,
    error_consistency,
    gram_vector,
)
from vitcnn.representations.weights import first_filters, nearness_correlation, position_similarity

CONFIG = check_config(yaml.safe_load((ROOT / "config.yaml").read_text()))
MODELS = ["vit", "cnn", "simple_vit", "simple_cnn"]
SMALL = {
    "vit": {"embed_dim": 32, "depth": 3, "num_heads": 4},
    "simple_vit": {"embed_dim": 32, "depth": 2},
    "cnn": {"channels": [8, 16], "blocks": [1, 2]},
    "simple_cnn": {"channels": [8, 16, 16], "hidden": 24},
    "cct_2_3x2": {"channels": [8, 32]},
}


def small_model(name):
    """Return a model, its builder's name with it, in a state that is not the initial one."""
    spec = plan.run_spec(CONFIG, plan.Run("cifar10", name, "adam10", "all", 0))
    spec["model"] |= SMALL[name]
    torch.manual_seed(0)
    model = create_model(spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model, spec["model"]["builder"]


def random_images(count=6, size=32):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8))


# Layers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit", ["embedding", "block 1", "block 2", "block 3"]),
        ("simple_vit", ["embedding", "block 1", "block 2"]),
        ("cnn", ["stem", "block 1.1", "block 2.1", "block 2.2"]),
        ("simple_cnn", ["pool 1", "pool 2", "pool 3", "hidden"]),
        ("cct_2_3x2", ["tokens", "block 1", "block 2"]),
    ],
)
def test_layers_are_named_in_the_order_they_run_and_leave_the_output_alone(name, expected):
    model, builder = small_model(name)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(images)
        with outputs_of(layers_of(model, builder)) as outputs:
            during = model(images)
        assert torch.equal(model(images), before)
    assert list(outputs) == expected
    assert torch.allclose(during, before, atol=1e-6)
    if "vit" in name:
        assert outputs[expected[-1]].shape == (2, 65, 32)  # all tokens, though the head reads one


def test_without_a_word_of_the_model_file_the_layers_are_its_children():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 900, 2))
    assert list(layers_of(model, "timm:anything")) == ["0", "1", "2", "3"]
    assert cam_layer_of(model, "timm:anything", ["0", "1"]) is model[1]
    assert cam_layer_of(model, "timm:anything", []) is None


def test_modules_of_a_list_are_layers_of_their_own():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3)
            self.blocks = nn.ModuleList([nn.ReLU(), nn.ModuleDict({"norm": nn.BatchNorm2d(4)})])

        def forward(self, images):
            return self.blocks[1]["norm"](self.blocks[0](self.stem(images))).mean((2, 3))

    model = Net()
    with outputs_of(layers_of(model, "timm:anything")) as outputs:
        model(torch.randn(2, 3, 8, 8))
    assert list(outputs) == ["stem", "blocks.0", "blocks.1.norm"]


def test_maps_lose_their_class_token_and_nothing_else():
    tokens = torch.randn(2, 17, 5)
    assert torch.equal(as_map(tokens), as_map(tokens[:, 1:]))
    assert torch.equal(as_map(tokens)[0, :, 1, 2], tokens[0, 1 + 4 + 2])
    for shape in ((2, 1, 5), (2, 2, 5), (2, 18, 5), (2, 5), (2, 5, 1, 1)):
        with pytest.raises(ValueError, match="no map"):
            as_map(torch.zeros(shape))


# Similarity --------------------------------------------------------------------------------------


def hsic(x, y):
    """Return the unbiased estimator of HSIC, HSIC₁, in the three terms of Song et al. (2012)."""
    n = len(x)
    k, m = (z @ z.T * (1 - np.eye(n)) for z in (x, y))
    one = np.ones(n)
    third = one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + third - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def test_products_of_centred_grams_are_the_unbiased_hsic():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 7)) + 3, rng.normal(size=(20, 30))
    y[:, :7] += x
    product = (centred_gram(x) * centred_gram(y)).sum() / (20 * 17)
    assert product == pytest.approx(hsic(x, y), rel=1e-12)
    assert np.abs(centred_gram(x).sum(1)).max() < 1e-11


def vectors_of(*features, batch=50):
    return np.array(
        [gram_vector(centred_gram(part) for part in np.split(x, len(x) // batch)) for x in features]
    )


def test_cka_is_one_for_a_rotation_and_about_zero_for_noise_of_more_features_than_images():
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 200, 3000))
    rotation = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    features = x[:, :20] * np.arange(1, 21)
    alike = cka(vectors_of(features, 5 * features @ rotation))
    assert alike[0, 1] == pytest.approx(1, abs=1e-3)
    assert abs(cka(vectors_of(x, noise))[0, 1]) < 0.05
    centred = [z - z.mean(0) for z in (x, noise)]
    k, m = (z @ z.T for z in centred)
    assert (k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m) > 0.9  # what the biased one would say


def test_features_that_are_alike_by_their_pixels_alone_are_not_when_deconfounded():
    rng = np.random.default_rng(0)
    pixels, *own = rng.normal(size=(3, 400, 12)) * np.array([3, 1, 1])[:, None, None]
    vectors = vectors_of(pixels, *(np.hstack([pixels, z]) for z in own))
    assert cka(vectors)[1, 2] > 0.9
    left = deconfound(vectors[1:], vectors[0])
    assert abs(cka(left)[0, 1]) < 0.15
    assert np.abs(left @ vectors[0].astype(np.float32)).max() < 1e-2 * np.abs(vectors @ vectors.T).max()


def test_features_that_do_not_differ_have_no_similarity():
    similarity = cka(vectors_of(np.ones((50, 3)), np.random.default_rng(0).normal(size=(50, 3))))
    assert np.isnan(similarity[0]).all()
    assert similarity[1, 1] == pytest.approx(1)


def test_error_consistency():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 20_000)) < 0.7
    assert error_consistency(a, a) == 1
    assert abs(error_consistency(a, b)) < 0.02
    assert error_consistency(np.array([1, 0], bool), np.array([0, 1], bool)) == -1
    assert np.isnan(error_consistency(np.ones(3, bool), np.ones(3, bool)))


# Robustness --------------------------------------------------------------------------------------


def test_nothing_changed_is_the_image_bit_by_bit():
    images = random_images()
    none = torch.zeros(len(images), dtype=torch.int32)
    assert torch.equal(shuffle_tiles(images, torch.zeros(len(images), 1, dtype=torch.long)), images)
    order = torch.rand(len(images), 64).argsort(1)
    for off_grid in (False, True):
        covered = cover_cells(images, first_covered(order, 0), torch.zeros(3, dtype=torch.uint8), off_grid)
        assert torch.equal(covered, images)
    assert torch.equal(augment(images, Parameters(*[None] * 5, none, none)), images)


@pytest.mark.parametrize("tiles", [2, 4, 8])
def test_the_inverse_order_restores_the_image(tiles):
    images = random_images()
    order = torch.rand(len(images), tiles**2).argsort(1)
    shuffled = shuffle_tiles(images, order)
    assert not torch.equal(shuffled, images)
    assert torch.equal(shuffle_tiles(shuffled, order.argsort(1)), images)


def test_tiles_are_moved_whole():
    images = random_images(1)
    shuffled = shuffle_tiles(images, torch.tensor([[3, 0, 1, 2]]))
    assert torch.equal(shuffled[..., :16, :16], images[..., 16:, 16:])
    assert torch.equal(shuffled[..., :16, 16:], images[..., :16, :16])


@pytest.mark.parametrize("off_grid", [False, True])
def test_cells_are_covered_on_the_grid_and_half_a_cell_off_it(off_grid):
    images = random_images().clamp(1)
    covered = torch.zeros(len(images), 64, dtype=torch.bool)
    covered[:, [9, 63]] = True  # row 1, column 1; and the last
    filled = cover_cells(images, covered, torch.zeros(3, dtype=torch.uint8), off_grid) == 0
    assert filled.sum().item() == len(images) * 3 * 2 * 16
    start = 6 if off_grid else 4
    assert filled[:, :, start : start + 4, start : start + 4].all()
    assert filled[:, :, :2, :2].all().item() is off_grid  # the last cell goes round the edge


@pytest.mark.parametrize("size", [28, 30, 36])
@pytest.mark.parametrize("off_grid", [False, True])
def test_cells_of_any_side_cover_the_image_once(size, off_grid):
    images = torch.zeros(64, 3, size, size, dtype=torch.uint8)
    filled = cover_cells(images, torch.eye(64, dtype=torch.bool), torch.ones(3, dtype=torch.uint8), off_grid)
    assert (filled.sum(0) == 1).all()
    assert filled.flatten(1).sum(1).min() >= 3 * (size // 8) ** 2


def test_a_vit_without_position_embedding_is_blind_to_shuffled_patches():
    model, _ = small_model("vit")
    images = random_images()
    shuffled = shuffle_tiles(images, torch.rand(len(images), 64).argsort(1))
    with torch.no_grad():
        assert not torch.allclose(model(images / 255), model(shuffled / 255), atol=1e-3)
        model.pos_embed.zero_()
        assert torch.allclose(model(images / 255), model(shuffled / 255), atol=1e-5)


# Reach -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patch", "expected"), [(4, 16.546), (8, 33.092)])
def test_uniform_attention_has_the_mean_distance_of_the_patches(patch, expected):
    weights = torch.full((2, 3, 4, 65, 65), 1 / 65)
    distance, share = attention_distance(weights, patch)
    assert distance.shape == share.shape == (3, 4)
    assert torch.allclose(distance, torch.tensor(expected).double(), atol=5e-4)
    assert torch.allclose(share, torch.tensor(1 / 65).double())


def test_attention_to_oneself_has_distance_0_whatever_the_class_token_gets():
    weights = (0.5 * torch.eye(65)).repeat(1, 1, 2, 1, 1)
    weights[..., 0] += 0.5
    distance, share = attention_distance(weights, 4)
    assert not distance.any()
    assert torch.allclose(share, torch.tensor(0.5).double())


def field_of(layer):
    fields = receptive_fields(layer, {"layer": layer}, torch.randn(4, 3, 32, 32), torch.Generator())
    return fields["layer"]


def test_receptive_fields_of_a_box_filter_and_of_a_patch_embedding():
    box, patches = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 5, 4, stride=4)
    for layer in (box, patches):
        nn.init.ones_(layer.weight)
    assert reach(field_of(box)) == pytest.approx(1.073, abs=5e-4)
    assert reach(field_of(patches)) == pytest.approx(1.498, abs=5e-4)
    assert (field_of(box) > 0).sum() == 9
    assert field_of(box)[15:18, 15:18].sum().item() == pytest.approx(1)


def test_a_receptive_field_is_of_squared_gradients():
    line = nn.Conv2d(3, 1, (1, 3), padding=(0, 1))
    with torch.no_grad():
        line.weight.copy_(torch.tensor([0.0, 1.0, -2.0]).expand_as(line.weight))
    assert field_of(line)[16, 15:18].tolist() == pytest.approx([0, 0.2, 0.8])


def test_the_reach_of_a_point_is_0_and_a_layer_that_is_no_map_has_no_field():
    point = nn.Conv2d(3, 2, 1)
    assert reach(field_of(point)) == 0
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    assert (
        receptive_fields(flat, dict(flat.named_children()), torch.randn(2, 3, 32, 32), torch.Generator())
        == {}
    )


# Attention ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 4])
def test_rollout_of_uniform_attention(depth):
    rolled = rollout(torch.full((2, depth, 3, 65, 65), 1 / 65))
    assert torch.allclose(rolled.sum(2), torch.ones(()))
    assert torch.allclose(class_token_map(rolled), torch.tensor((1 - 2.0**-depth) / 65))


def test_attention_weights_are_those_of_the_forward_pass():
    model, _ = small_model("simple_vit")
    images = torch.randn(2, 3, 32, 32)
    weights = model.attention(images)
    assert torch.allclose(weights.sum(-1), torch.ones(()))
    rows = rollout(weights)
    assert torch.allclose(rows.sum(-1), torch.ones(()))
    assert torch.equal(class_token_map(rows)[0, 2, 3], rows[0, 0, 1 + 2 * 8 + 3])


def test_grad_cam_of_a_network_that_ends_in_a_mean_is_its_class_activation_map():
    model, builder = small_model("cnn")
    images, classes = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    found = grad_cam(model, cam_layer_of(model, builder, []), images, classes)
    with torch.no_grad(), outputs_of({"stages": model.stages}) as outputs:
        model(images)
    weighed = torch.einsum("nk,nkhw->nhw", model.fc.weight[classes], outputs["stages"]).relu()
    assert weighed.any()
    assert torch.allclose(found, weighed / weighed[0].numel(), atol=1e-6)


@pytest.mark.parametrize("name", ["cnn", "simple_cnn"])
def test_grad_cam_is_captums(name):
    model, builder = small_model(name)
    images, classes = torch.randn(4, 3, 32, 32), torch.tensor([3, 1, 4, 1])
    layer = cam_layer_of(model, builder, [])
    theirs = LayerGradCam(model, layer).attribute(images, classes, relu_attributions=True)
    ours = grad_cam(model, layer, images, classes)
    assert ours.any()
    assert torch.allclose(ours, theirs[:, 0].detach(), atol=1e-7)


def test_grad_cam_of_a_vit_is_of_its_patches_and_cannot_be_taken_after_the_last_block():
    model, builder = small_model("vit")
    images, classes = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    assert grad_cam(model, cam_layer_of(model, builder, []), images, classes).shape == (2, 8, 8)
    with pytest.raises(ValueError, match="no map"):
        grad_cam(model, model.blocks[-1], images, classes)


def test_grad_cam_of_a_compact_transformer_weighs_the_tokens_that_its_head_reads():
    """Of all the same weight, the class's score is linear in the mean of the tokens: Grad-CAM is CAM / tokens."""
    model, builder = small_model("cct_2_3x2")
    model.pool.weight.data.zero_()
    images, classes = torch.randn(4, 3, 32, 32), torch.tensor([3, 1, 4, 1])
    found = grad_cam(model, cam_layer_of(model, builder, []), images, classes)
    with torch.no_grad(), outputs_of({"norm": model.norm}) as outputs:
        model(images)
    weighed = torch.einsum("nd,nld->nl", model.head.weight[classes], outputs["norm"]).relu()
    assert weighed.any()
    assert torch.allclose(found.flatten(1), weighed / 64, atol=1e-6)


def test_maps_on_the_cells_keep_their_mean():
    fine, coarse = torch.rand(2, 16, 16), torch.rand(2, 4, 4)
    assert torch.allclose(to_cells(fine).mean((1, 2)), fine.mean((1, 2)))
    assert torch.equal(to_cells(coarse)[:, ::2, ::2], coarse)


def test_deletion_by_what_a_model_reads_is_faster_than_any_other_order():
    """The model: the brightness of cell 10 against a constant."""

    def predict(pixels):
        cell = pixels[:, :, 4:8, 8:12].double().mean((1, 2, 3)) / 50
        return torch.stack([cell, torch.ones_like(cell)], 1)

    images = torch.full((3, 3, 32, 32), 200, dtype=torch.uint8)
    fill, classes = torch.zeros(3, dtype=torch.uint8), torch.zeros(3, dtype=torch.long)
    first = torch.cat([torch.tensor([10]), torch.arange(10), torch.arange(11, 64)]).expand(3, -1)
    curves = [
        deletion_curve(predict, images, order, [0, 1, 64], fill, classes) for order in (first, first.flip(1))
    ]
    gone, there = (torch.tensor([x, 1.0]).softmax(0)[0].item() for x in (0.0, 4.0))
    assert curves[0].tolist() == pytest.approx([there, gone, gone])
    assert curves[1].tolist() == pytest.approx([there, there, gone])


def test_centre_first_begins_with_the_four_middle_cells_and_ends_with_the_corners():
    order = centre_first().tolist()
    assert sorted(order) == list(range(64))
    assert sorted(order[:4]) == [27, 28, 35, 36]
    assert sorted(order[-4:]) == [0, 7, 56, 63]


def test_rank_correlation_is_spearmans_with_ties():
    from scipy.stats import spearmanr

    a, b = torch.randint(0, 5, (2, 3, 4, 4), generator=torch.Generator().manual_seed(0)).double()
    expected = [spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)]
    assert rank_correlation(a, b).tolist() == pytest.approx(expected)
    assert rank_correlation(a, a.exp()).tolist() == pytest.approx([1, 1, 1])
    assert rank_correlation(a, torch.zeros_like(a)).isnan().all()


def test_entropy_is_in_bits():
    assert entropy(torch.full((2, 64), 1 / 64)).tolist() == pytest.approx([6, 6])
    assert entropy(torch.eye(4)).tolist() == [0] * 4


# What is measured only where the configuration asks for it -------------------------------------------


def test_a_linear_probe_of_the_penultimate_layer_fits_no_worse_than_the_models_own_head():
    """Without a penalty it is a theorem: mean over places, then linear, is what the probe may choose too."""
    model, _ = small_model("cnn")
    images, labels = torch.randn(60, 3, 32, 32), torch.arange(60) % 10
    with torch.no_grad(), outputs_of({"stages": model.stages}) as outputs:
        own = nn.functional.cross_entropy(model(images), labels)
        features = pooled("stages", outputs["stages"])["stages"]
    fitted = nn.functional.cross_entropy(fit(features, labels, 0.0)(features), labels)
    assert fitted < own


def test_a_linear_probe_chooses_its_penalty_and_generalises():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (400,), generator=generator)
    features = torch.randn(400, 20, generator=generator)
    features[:, :3] += 3 * nn.functional.one_hot(labels, 3)
    split = (features[:300], labels[:300]), (features[300:], labels[300:])
    assert linear_probe(*split) > 85
    assert linear_probe(*split, penalties=[1e6]) < 60


def test_tokens_are_pooled_with_and_without_the_class_token():
    tokens = torch.randn(2, 17, 5)
    features = pooled("block 1", tokens)
    assert list(features) == ["block 1", "block 1, class token"]
    assert torch.allclose(features["block 1"], tokens[:, 1:].mean(1))
    assert torch.equal(features["block 1, class token"], tokens[:, 0])
    assert list(pooled("hidden", torch.randn(2, 7))) == ["hidden"]


def test_similarity_of_sinusoids_depends_on_displacement_alone():
    place = torch.cartesian_prod(torch.arange(8), torch.arange(8)).double()
    angles = 2 * torch.pi / 8 * torch.cat([place * frequency for frequency in (1, 2)], dim=1)
    similarity = position_similarity(torch.cat([angles.sin(), angles.cos()], dim=1)).view(8, 8, 8, 8)
    for dy, dx in ((0, 1), (2, 3)):
        moved = torch.stack([similarity[y, x, y + dy, x + dx] for y in range(4) for x in range(4)])
        assert torch.allclose(moved, moved[0])
    assert nearness_correlation(similarity.view(64, 64)) > 0.3


def test_embeddings_that_are_all_the_same_have_no_similarity():
    for embedding in (torch.zeros(64, 8), torch.ones(64, 8)):
        similarity = position_similarity(embedding)
        assert similarity.isnan().all()
        assert np.isnan(nearness_correlation(similarity))


def test_weights_of_rank_one_have_one_component():
    patches = nn.Conv2d(3, 12, 4, stride=4)
    with torch.no_grad():
        patches.weight.copy_(torch.randn(12, 1, 1, 1) * torch.randn(1, 3, 4, 4))
    filters, explained = first_filters(nn.Sequential(nn.Identity(), patches))
    assert explained[0].item() == pytest.approx(1)
    assert torch.allclose(
        (filters.square().sum() - patches.weight.square().sum()).abs(), torch.zeros(()), atol=1e-3
    )
    filters, explained = first_filters(nn.Conv2d(3, 5, 3))
    assert filters.shape == (5, 3, 3, 3)
    assert explained.isnan().all()
    assert first_filters(nn.Linear(3, 3)) is None
