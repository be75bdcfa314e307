"""Everything that is measured of one run's model, beside the model as it was before training."""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vitcnn.data.augmentation import Parameters, augment, normalize
from vitcnn.data.packed import Packed, Split, load_packed
from vitcnn.files import replacing, writing
from vitcnn.models import create_model
from vitcnn.models.weights import load_model
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
from vitcnn.representations.layers import cam_layer_of, layers_of, outputs_of
from vitcnn.representations.linear_probe import linear_probe, pooled
from vitcnn.representations.reach import attention_distance, patch_distances, reach, receptive_fields
from vitcnn.representations.robustness import CELLS, cover_cells, first_covered, shuffle_tiles
from vitcnn.representations.similarity import BATCH, centred_gram, gram_vector
from vitcnn.representations.weights import first_filters, nearness_correlation, position_similarity
from vitcnn.training.devices import select_device, use_deterministic_algorithms

# How many images each measurement takes, the first in the order of image_order(); accuracies take all.
SIMILARITY_IMAGES = 2000
ATTENTION_IMAGES = 1000
FIELD_IMAGES = 64
GALLERY_IMAGES = 8
ATLAS_IMAGES = 2
LINEAR_PROBE_IMAGES = 10_000  # for training

TILES = (2, 4, 8)  # a side
COVERED = (0.25, 0.5, 0.75, 0.9)  # share of the cells
SHIFTS = (1, 2, 4, 8)  # pixels
DELETED = (0, 4, 8, 16, 32, 64)  # cells: the curves are steep at their beginning


class _Bench(NamedTuple):
    """A run's model, the same one before training, and the test images they are held against."""

    builder: str
    trained: nn.Module
    untrained: nn.Module
    prepare: Callable[[Tensor], Tensor]  # pixels `(N, 3, S, S) uint8` to what the model reads
    images: Tensor  # (N, 3, S, S) uint8
    labels: Tensor  # (N,)
    mean: Tensor  # (3,) uint8, the training images' mean colour
    left_out: list[str]

    @property
    def models(self) -> tuple[nn.Module, nn.Module]:
        """The model after and before training."""
        return self.trained, self.untrained

    @property
    def size(self) -> int:
        """The side of the images in pixels."""
        return self.images.shape[-1]

    def layers(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return the layers of one of the two."""
        return layers_of(model, self.builder)

    def predict(self, pixels: Tensor) -> Tensor:
        """Return the trained model's logits `(N, classes)` for pixels `(N, 3, S, S) uint8`."""
        return _logits(self.trained, self.prepare, pixels)


def probe_run(
    spec: Mapping[str, Any],
    also: Sequence[str],
    weights: Path,
    data: Path,
    out: Path,
    device_name: str,
    threads: int,
) -> None:
    """Write what probe() returns for the run of `spec` to the file `out`, in fp32.

    `weights` is the run's model.safetensors, `data` its packed dataset. Raises StudyError if either is
    missing or damaged, or does not fit the spec.
    """
    device = select_device(device_name)
    if device.type == "mps":
        device = torch.device("cpu")  # sums are in fp64, which Apple's GPUs do not have
    use_deterministic_algorithms(device)
    torch.set_num_threads(threads)
    packed = load_packed(data)
    found = probe(spec, load_model(spec, weights), packed, device, also)
    with writing(out), replacing(out) as temporary:
        np.savez(temporary, **found)


def probe(
    spec: Mapping[str, Any],
    trained: nn.Module,
    packed: Packed,
    device: torch.device,
    also: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Return what the trained model of `spec` computes on the packed test images, beside the same before training.

    Arrays that have an axis of 2 are of the trained model, then of the same one before training. What a
    model cannot give is named, with the reason, in `left_out`. Sizes: L layers, D blocks, H heads, S
    pixels, M kinds of map.

    - `layers` (L,) their names; `gram` (2, L, P) and `gram_pixels` (P,): see `similarity.gram_vector`
    - `clean` (), `shuffled` (tiles,), `covered` (2, shares) on the grid and off it, `shifted` (shifts,):
      accuracy in %, with `tiles`, `shares` and `shifts` beside them
    - `field` (2, L, S, S) and `reach` (2, L) in pixels, nan where a layer's output is no map
    - `attention_distance` (2, D, H) in pixels, `uniform_distance` (), `class_token_share` (2, D, H)
    - `maps` (M,) their kinds; `gallery_images` (8, 3, S, S) uint8, `gallery_labels` and `gallery_predicted`
      (8,), `gallery_maps` (M, 8, 8, 8)
    - `orders` (M + 2,) and `deleted` (points,), with `deletion` (M + 2, points), the mean probability of the
      predicted class; `map_correlation` (M,) with the untrained model's map, mean over images

    And of what `also` names:

    - linear_probe: `linear_layers` (F,) names of features, `linear_accuracy` (2, F) in %
    - position_embedding: `position_similarity` (2, P, P) of P patches, `position_correlation` (2,) with
      nearness, `without_position` (), the accuracy with each replaced by their mean
    - filters: `filters` (F, 3, k, k), `filters_explained` (F,), nan for filters as they are
    - attention_atlas: `atlas` (2 images, D, H, grid, grid) and `atlas_entropy` (2 images, D, H) in bits
    """
    bench = _bench(spec, trained, packed, device)
    found = _similarity(bench)
    found |= _robustness(bench)
    found |= _receptive_fields(bench, found["layers"])
    distances, maps = _attention(bench)
    classes = bench.predict(bench.images[:ATTENTION_IMAGES]).argmax(1)
    mapped = [name for name, far in zip(found["layers"], found["reach"][0], strict=True) if not np.isnan(far)]
    found |= distances | _maps(bench, maps | _grad_cams(bench, mapped, classes), classes)
    if "linear_probe" in also:
        found |= _linear_probes(bench, packed.train)
    if "position_embedding" in also:
        found |= _position_embedding(bench)
    if "filters" in also:
        found |= _filters(bench)
    if "attention_atlas" in also:
        found |= _atlas(bench)
    return found | {"left_out": np.array(bench.left_out, dtype=str)}


def image_order(images: np.ndarray) -> np.ndarray:
    """Return an order `(N,)` of images by a digest of their pixels: nobody's choice, and no archive's."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images]
    return np.argsort(digests, kind="stable")


def _bench(spec: Mapping[str, Any], trained: nn.Module, packed: Packed, device: torch.device) -> _Bench:
    order = image_order(packed.test.images)
    every = max(1, len(packed.train.images) // 10_000)
    mean = packed.train.images[::every].mean((0, 2, 3)).round().astype(np.uint8)
    scale = {
        key: torch.tensor(spec["recipe"]["normalization"][key], device=device).view(3, 1, 1)
        for key in ("mean", "std")
    }
    torch.manual_seed(spec["seed"])  # initial weights, as in training
    trained, untrained = (
        model.to(device).eval().requires_grad_(False) for model in (trained, create_model(spec))
    )
    return _Bench(
        spec["model"]["builder"],
        trained,
        untrained,
        lambda pixels: normalize(pixels, **scale),
        torch.from_numpy(packed.test.images[order]).to(device),
        torch.from_numpy(packed.test.labels[order]).to(device),
        torch.from_numpy(mean).to(device),
        left_out=[],
    )


@torch.inference_mode()
def _logits(model: nn.Module, prepare: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    return torch.cat([model(prepare(batch)) for batch in pixels.split(BATCH)])


def _similarity(bench: _Bench) -> dict[str, np.ndarray]:
    images = bench.images[:SIMILARITY_IMAGES]
    batches = [batch for batch in images.split(BATCH) if len(batch) == min(BATCH, len(images))]
    vectors = []
    for model in bench.models:
        layers = bench.layers(model)
        grams: dict[str, list[np.ndarray]] = {}
        for batch in batches:
            with torch.inference_mode(), outputs_of(layers) as outputs:
                model(bench.prepare(batch))
            for name, output in outputs.items():
                grams.setdefault(name, []).append(centred_gram(output.cpu().numpy()))
        vectors.append({name: gram_vector(of_layer) for name, of_layer in grams.items()})
    names = list(vectors[0])
    bench.left_out.extend(f"layer {name}: its output is no tensor" for name in layers if name not in names)
    return {
        "layers": np.array(names),
        "gram": np.array([[of_model[name] for name in names] for of_model in vectors]),
        "gram_pixels": gram_vector(centred_gram(bench.prepare(batch).cpu().numpy()) for batch in batches),
    }


def _robustness(bench: _Bench) -> dict[str, np.ndarray]:
    """Measure the accuracy of changed images; the changes are drawn, and the same for every run."""
    generator = torch.Generator().manual_seed(0)
    count, device = len(bench.images), bench.images.device

    def permutations(length: int) -> Tensor:
        return torch.rand(count, length, generator=generator).argsort(1).to(device)

    def accuracy(change: Callable[[Tensor, Tensor], Tensor]) -> float:
        rows = torch.arange(count, device=device).split(BATCH)
        logits = torch.cat([bench.predict(change(bench.images[some], some)) for some in rows])
        return _accuracy(logits, bench.labels)

    orders = {tiles: permutations(tiles**2) for tiles in TILES}
    cells = permutations(CELLS**2)
    direction = torch.randint(0, 4, (count,), generator=generator).to(device)
    right, down = ((direction == a).int() - (direction == b).int() for a, b in ((0, 1), (2, 3)))

    def shifted(pixels: Tensor, rows: Tensor, far: int) -> Tensor:
        return augment(pixels, Parameters(*[None] * 5, far * right[rows], far * down[rows]))

    def covered(pixels: Tensor, rows: Tensor, share: float, off_grid: bool) -> Tensor:
        return cover_cells(pixels, first_covered(cells[rows], round(share * CELLS**2)), bench.mean, off_grid)

    tiles = [tiles for tiles in TILES if bench.size % tiles == 0]
    shares = COVERED if bench.size % (2 * CELLS) == 0 else ()
    for n in TILES:
        if n not in tiles:
            bench.left_out.append(f"{n}×{n} tiles: they do not divide {bench.size} pixels")
    if not shares:
        bench.left_out.append(f"covered cells: {2 * CELLS} half cells do not divide {bench.size} pixels")
    on_and_off = [
        [accuracy(lambda p, rows, s=share, off=off: covered(p, rows, s, off)) for share in shares]
        for off in (False, True)
    ]
    return {
        "clean": np.array(accuracy(lambda pixels, _: pixels)),
        "tiles": np.array(tiles),
        "shuffled": np.array(
            [accuracy(lambda p, rows, n=n: shuffle_tiles(p, orders[n][rows])) for n in tiles]
        ),
        "shares": np.array(shares),
        "covered": np.array(on_and_off),
        "shifts": np.array(SHIFTS),
        "shifted": np.array([accuracy(lambda p, rows, far=far: shifted(p, rows, far)) for far in SHIFTS]),
    }


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return 100 * float((logits.argmax(1) == labels).double().mean())


def _receptive_fields(bench: _Bench, names: np.ndarray) -> dict[str, np.ndarray]:
    inputs = bench.prepare(bench.images[:FIELD_IMAGES])
    fields = np.full((2, len(names), bench.size, bench.size), np.nan, np.float32)
    far = np.full((2, len(names)), np.nan)
    for i, model in enumerate(bench.models):
        found = receptive_fields(model, bench.layers(model), inputs, torch.Generator().manual_seed(0))
        for j, name in enumerate(names):
            if name in found:
                fields[i, j], far[i, j] = found[name].cpu().numpy(), reach(found[name])
    return {"field": fields, "reach": far}


def _attention(bench: _Bench) -> tuple[dict[str, np.ndarray], dict[str, list[Tensor]]]:
    """Return attention distances, and by kind the maps that attention gives, trained and untrained."""
    if not hasattr(bench.trained, "attention"):
        bench.left_out.append("attention: the model has no method attention()")
        return {}, {}
    images = bench.images[:ATTENTION_IMAGES]
    distances, shares = [], []
    maps: dict[str, list[Tensor]] = {"attention": [], "rollout": []}
    for model in bench.models:
        parts, last, rolled = [], [], []
        for batch in images.split(BATCH // 2):  # an image has thousands of weights a pixel
            weights = model.attention(bench.prepare(batch))
            grid = round((weights.shape[-1] - 1) ** 0.5)
            patch = bench.size // grid
            parts.append((*attention_distance(weights, patch), len(batch)))
            last.append(to_cells(class_token_map(weights[:, -1].mean(1))))
            rolled.append(to_cells(class_token_map(rollout(weights))))
        distances.append(sum(far * count for far, _, count in parts).cpu().numpy() / len(images))
        shares.append(sum(share * count for _, share, count in parts).cpu().numpy() / len(images))
        maps["attention"].append(torch.cat(last))
        maps["rollout"].append(torch.cat(rolled))
    found = {
        "attention_distance": np.array(distances),
        "class_token_share": np.array(shares),
        "uniform_distance": np.array(float(patch_distances(grid, patch).mean())),
    }
    return found, maps


def _grad_cams(bench: _Bench, mapped: list[str], classes: Tensor) -> dict[str, list[Tensor]]:
    images = bench.images[: len(classes)]
    maps = []
    for model in bench.models:
        layer = cam_layer_of(model, bench.builder, mapped)
        if layer is None:
            bench.left_out.append("Grad-CAM: no layer's output is a map")
            return {}
        batches = zip(images.split(BATCH), classes.split(BATCH), strict=True)
        cams = [to_cells(grad_cam(model, layer, bench.prepare(some), named)) for some, named in batches]
        maps.append(torch.cat(cams))
        if not maps[-1].any():
            bench.left_out.append(
                "Grad-CAM: no place of the last map reaches the logits, as where they are a class token's"
            )
            return {}
    return {"Grad-CAM": maps}


def _maps(bench: _Bench, maps: Mapping[str, list[Tensor]], classes: Tensor) -> dict[str, np.ndarray]:
    """Hold each kind of map against deletion at random and from the centre, and against no training."""
    images, shown = bench.images[: len(classes)], slice(GALLERY_IMAGES)
    random = torch.rand(len(images), CELLS**2, generator=torch.Generator().manual_seed(0))
    random = random.argsort(1).to(images.device)
    orders = {
        # Equal cells, such as those that Grad-CAM sets to 0, come at random.
        kind: random.gather(
            1, trained.flatten(1).gather(1, random).argsort(dim=1, descending=True, stable=True)
        )
        for kind, (trained, _) in maps.items()
    }
    orders |= {"random": random, "centre first": centre_first().to(images.device).expand_as(random)}

    def curve(order: Tensor, counts: Sequence[int]) -> np.ndarray:
        return deletion_curve(bench.predict, images, order, list(counts), bench.mean, classes).cpu().numpy()

    ends = curve(random, (DELETED[0], DELETED[-1]))  # where the order makes no difference
    return {
        "maps": np.array(list(maps), dtype=str),
        "gallery_images": images[shown].cpu().numpy(),
        "gallery_labels": bench.labels[shown].cpu().numpy(),
        "gallery_predicted": classes[shown].cpu().numpy(),
        "gallery_maps": np.array([trained[shown].cpu().numpy() for trained, _ in maps.values()]),
        "orders": np.array(list(orders)),
        "deleted": np.array(DELETED),
        "deletion": np.array([[ends[0], *curve(order, DELETED[1:-1]), ends[1]] for order in orders.values()]),
        "map_correlation": np.array([float(rank_correlation(*pair).nanmean()) for pair in maps.values()]),
    }


def _linear_probes(bench: _Bench, train: Split) -> dict[str, np.ndarray]:
    order = image_order(train.images)[:LINEAR_PROBE_IMAGES]
    splits = [
        (
            torch.from_numpy(train.images[order]),
            torch.from_numpy(train.labels[order]).to(bench.labels.device),
        ),
        (bench.images, bench.labels),
    ]
    accuracies = []
    for model in bench.models:
        features: list[dict[str, list[Tensor]]] = [{}, {}]
        for found, (images, _) in zip(features, splits, strict=True):
            for batch in images.split(BATCH):
                with torch.no_grad(), outputs_of(bench.layers(model)) as outputs:
                    model(bench.prepare(batch.to(bench.images.device)))
                for layer, output in outputs.items():
                    for name, values in pooled(layer, output).items():
                        found.setdefault(name, []).append(values)
        joined = [{name: torch.cat(parts) for name, parts in found.items()} for found in features]
        (_, train_labels), (_, test_labels) = splits
        accuracies.append(
            {
                name: linear_probe((joined[0][name], train_labels), (joined[1][name], test_labels))
                for name in joined[0]
            }
        )
    return {
        "linear_layers": np.array(list(accuracies[0])),
        "linear_accuracy": np.array([list(of_model.values()) for of_model in accuracies]),
    }


def _position_embedding(bench: _Bench) -> dict[str, np.ndarray]:
    embedding = getattr(bench.trained, "pos_embed", None)
    if (
        embedding is None
        or embedding.ndim != 3
        or round((embedding.shape[1] - 1) ** 0.5) ** 2 != embedding.shape[1] - 1
    ):
        bench.left_out.append("position embedding: the model has none of patches and a class token")
        return {}
    similarities = [position_similarity(model.pos_embed[0, 1:]) for model in bench.models]
    without = copy.deepcopy(bench.trained)
    without.pos_embed[:, 1:] = without.pos_embed[:, 1:].mean(1, keepdim=True)
    logits = _logits(without, bench.prepare, bench.images)
    return {
        "position_similarity": np.array([similarity.cpu().numpy() for similarity in similarities]),
        "position_correlation": np.array([nearness_correlation(similarity) for similarity in similarities]),
        "without_position": np.array(_accuracy(logits, bench.labels)),
    }


def _filters(bench: _Bench) -> dict[str, np.ndarray]:
    found = first_filters(bench.trained)
    if found is None:
        bench.left_out.append("filters: no convolution reads the image")
        return {}
    filters, explained = found
    return {"filters": filters.cpu().numpy(), "filters_explained": explained.cpu().numpy()}


def _atlas(bench: _Bench) -> dict[str, np.ndarray]:
    if not hasattr(bench.trained, "attention"):
        return {}  # attention is named among what is left out
    weights = bench.trained.attention(bench.prepare(bench.images[:ATLAS_IMAGES]))[..., 0, 1:]
    grid = round(weights.shape[-1] ** 0.5)
    of_patches = weights / weights.sum(-1, keepdim=True)
    return {
        "atlas": weights.unflatten(-1, (grid, grid)).cpu().numpy(),
        "atlas_entropy": entropy(of_patches).cpu().numpy(),
    }
