"""Everything that is measured of one run's model, beside the model as it was before training."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vitcnn.data.augmentation import Parameters, augment, normalize
from vitcnn.data.packed import Packed, load_packed
from vitcnn.errors import StudyError
from vitcnn.files import replacing, writing
from vitcnn.models import create_model
from vitcnn.representations.attention import (
    centre_first,
    class_token_map,
    deletion_curve,
    grad_cam,
    rank_correlation,
    rollout,
    to_cells,
)
from vitcnn.representations.layers import cam_layer_of, layers_of, outputs_of
from vitcnn.representations.reach import attention_distance, patch_distances, reach, receptive_fields
from vitcnn.representations.robustness import CELLS, cover_cells, first_covered, shuffle_tiles
from vitcnn.representations.similarity import BATCH, centred_gram, gram_vector
from vitcnn.training.devices import select_device, use_deterministic_algorithms

# How many images each measurement takes, the first in the order of image_order(); robustness takes all.
SIMILARITY_IMAGES = 2000
ATTENTION_IMAGES = 1000
FIELD_IMAGES = 64
GALLERY_IMAGES = 8

TILES = (2, 4, 8)  # a side
COVERED = (0.25, 0.5, 0.75, 0.9)  # share of the cells
SHIFTS = (1, 2, 4, 8)  # pixels
DELETED = (0, 4, 8, 16, 32, 64)  # cells: the curves are steep at their beginning


def probe_run(
    spec: Mapping[str, Any], weights: Path, data: Path, out: Path, device_name: str, threads: int
) -> None:
    """Write what probe() returns for the run of `spec` to the file `out`, in fp32.

    `weights` is the run's model.safetensors, `data` its packed dataset. Raises StudyError if either is
    missing or damaged, or does not fit the spec.
    """
    device = select_device(device_name)
    use_deterministic_algorithms(device)
    torch.set_num_threads(threads)
    try:
        found = probe(spec, safetensors.torch.load_file(weights), load_packed(data), device)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise StudyError(
            f"{weights}: cannot be probed ({error}); delete it to train the run again"
        ) from error
    with writing(out), replacing(out) as temporary:
        np.savez(temporary, **found)


def probe(
    spec: Mapping[str, Any], state: Mapping[str, Tensor], packed: Packed, device: torch.device
) -> dict[str, np.ndarray]:
    """Return what the model of `spec` with the weights `state` computes on the packed test images.

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
    """
    order = image_order(packed.test.images)
    images = torch.from_numpy(packed.test.images[order]).to(device)
    labels = torch.from_numpy(packed.test.labels[order]).to(device)
    sample = packed.train.images[:: max(1, len(packed.train.images) // 10_000)]
    mean = torch.from_numpy(sample.mean((0, 2, 3)).round().astype(np.uint8)).to(device)
    scale = {
        key: torch.tensor(spec["recipe"]["normalization"][key], device=device).view(3, 1, 1)
        for key in ("mean", "std")
    }

    def prepare(pixels: Tensor) -> Tensor:
        return normalize(pixels, **scale)

    models = _trained_and_untrained(spec, state, device)
    left_out: list[str] = []
    found = _similarity(spec, models, prepare, images[:SIMILARITY_IMAGES], left_out)
    found |= _robustness(models[0], prepare, images, labels, mean, left_out)
    found |= _receptive_fields(spec, models, prepare(images[:FIELD_IMAGES]), found["layers"])
    maps = _attention(models, prepare, images[:ATTENTION_IMAGES], found, left_out)
    mapped = [name for name, far in zip(found["layers"], found["reach"][0], strict=True) if not np.isnan(far)]
    classes = _in_batches(models[0], prepare, images[:ATTENTION_IMAGES]).argmax(1)
    maps |= _grad_cams(spec, models, prepare, images[:ATTENTION_IMAGES], classes, mapped, left_out)
    found |= _maps(models[0], prepare, images[:ATTENTION_IMAGES], maps, classes, mean)
    found["gallery_labels"] = labels[:GALLERY_IMAGES].cpu().numpy()
    return found | {"left_out": np.array(left_out, dtype=str)}


def image_order(images: np.ndarray) -> np.ndarray:
    """Return an order `(N,)` of images by a digest of their pixels: nobody's choice, and no archive's."""
    return np.argsort(
        [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images], kind="stable"
    )


def _trained_and_untrained(
    spec: Mapping[str, Any], state: Mapping[str, Tensor], device: torch.device
) -> tuple[nn.Module, nn.Module]:
    models = []
    for _ in range(2):
        torch.manual_seed(spec["seed"])  # initial weights, as in training
        models.append(create_model(spec))
    models[0].load_state_dict(state)
    trained, untrained = (model.to(device).eval().requires_grad_(False) for model in models)
    return trained, untrained


def _in_batches(model: nn.Module, prepare: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """Return the logits `(N, classes)` for pixels `(N, 3, S, S) uint8`."""
    with torch.inference_mode():
        return torch.cat([model(prepare(batch)) for batch in pixels.split(BATCH)])


def _similarity(
    spec: Mapping[str, Any],
    models: tuple[nn.Module, nn.Module],
    prepare: Callable[[Tensor], Tensor],
    images: Tensor,
    left_out: list[str],
) -> dict[str, np.ndarray]:
    batches = [batch for batch in images.split(BATCH) if len(batch) == min(BATCH, len(images))]
    vectors: list[dict[str, np.ndarray]] = []
    for model in models:
        layers = layers_of(model, spec["model"]["builder"])
        grams: dict[str, list[np.ndarray]] = {name: [] for name in layers}
        for batch in batches:
            with torch.inference_mode(), outputs_of(layers) as outputs:
                model(prepare(batch))
            for name, output in outputs.items():
                grams[name].append(centred_gram(output.cpu().numpy()))
        vectors.append({name: gram_vector(found) for name, found in grams.items() if found})
    names = list(vectors[0])
    left_out += [f"layer {name}: its output is no tensor" for name in layers if name not in names]
    return {
        "layers": np.array(names),
        "gram": np.array([[of_model[name] for name in names] for of_model in vectors]),
        "gram_pixels": gram_vector(centred_gram(prepare(batch).cpu().numpy()) for batch in batches),
    }


def _robustness(
    model: nn.Module,
    prepare: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    mean: Tensor,
    left_out: list[str],
) -> dict[str, np.ndarray]:
    """Measure the accuracy of changed images; the changes are drawn, and the same for every run."""
    generator = torch.Generator().manual_seed(0)
    count, size = len(images), images.shape[-1]

    def permutations(length: int) -> Tensor:
        return torch.rand(count, length, generator=generator).argsort(1).to(images.device)

    def accuracy(change: Callable[[Tensor, Tensor], Tensor]) -> float:
        rows = torch.arange(count, device=images.device).split(BATCH)
        logits = torch.cat([_in_batches(model, prepare, change(images[some], some)) for some in rows])
        return 100 * float((logits.argmax(1) == labels).double().mean())

    orders = {tiles: permutations(tiles**2) for tiles in TILES}
    cells = permutations(CELLS**2)
    direction = torch.randint(0, 4, (count,), generator=generator).to(images.device)
    sideways, down = (
        (direction == one).int() - (direction == other).int() for one, other in ((0, 1), (2, 3))
    )

    def shifted(pixels: Tensor, rows: Tensor, far: int) -> Tensor:
        return augment(pixels, Parameters(*[None] * 5, far * sideways[rows], far * down[rows]))

    def covered(pixels: Tensor, rows: Tensor, share: float, off_grid: bool) -> Tensor:
        return cover_cells(pixels, first_covered(cells[rows], round(share * CELLS**2)), mean, off_grid)

    tiles = [tiles for tiles in TILES if size % tiles == 0]
    shares = COVERED if size % (2 * CELLS) == 0 else ()
    left_out += [
        f"{tiles}×{tiles} tiles: they do not divide {size} pixels" for tiles in TILES if size % tiles
    ]
    if not shares:
        left_out.append(f"covered cells: 16 half cells do not divide {size} pixels")
    return {
        "clean": np.array(accuracy(lambda pixels, _: pixels)),
        "tiles": np.array(tiles),
        "shuffled": np.array(
            [accuracy(lambda p, rows, t=t: shuffle_tiles(p, orders[t][rows])) for t in tiles]
        ),
        "shares": np.array(shares),
        "covered": np.array(
            [
                [accuracy(lambda p, rows, s=share, off=off: covered(p, rows, s, off)) for share in shares]
                for off in (False, True)
            ]
        ),
        "shifts": np.array(SHIFTS),
        "shifted": np.array([accuracy(lambda p, rows, far=far: shifted(p, rows, far)) for far in SHIFTS]),
    }


def _receptive_fields(
    spec: Mapping[str, Any], models: tuple[nn.Module, nn.Module], inputs: Tensor, names: np.ndarray
) -> dict[str, np.ndarray]:
    size = inputs.shape[-1]
    fields = np.full((2, len(names), size, size), np.nan, np.float32)
    far = np.full((2, len(names)), np.nan)
    for i, model in enumerate(models):
        layers = layers_of(model, spec["model"]["builder"])
        found = receptive_fields(model, layers, inputs, torch.Generator().manual_seed(0))
        for j, name in enumerate(names):
            if name in found:
                fields[i, j], far[i, j] = found[name].cpu().numpy(), reach(found[name])
    return {"field": fields, "reach": far}


def _attention(
    models: tuple[nn.Module, nn.Module],
    prepare: Callable[[Tensor], Tensor],
    images: Tensor,
    found: dict[str, np.ndarray],
    left_out: list[str],
) -> dict[str, list[Tensor]]:
    """Add attention distances to `found`; return maps from attention by kind, trained and untrained."""
    if not hasattr(models[0], "attention"):
        left_out.append("attention: the model has no method attention()")
        return {}
    distances, shares = [], []
    maps: dict[str, list[Tensor]] = {"attention": [], "rollout": []}
    for model in models:
        parts, last, rolled = [], [], []
        for batch in images.split(BATCH // 2):  # of the weights there are thousands a pixel
            weights = model.attention(prepare(batch))
            parts.append((attention_distance(weights, _patch(weights, images)), len(batch)))
            last.append(to_cells(class_token_map(weights[:, -1].mean(1))))
            rolled.append(to_cells(class_token_map(rollout(weights))))
        for values, i in ((distances, 0), (shares, 1)):
            values.append(sum(part[i] * count for part, count in parts).cpu().numpy() / len(images))
        maps["attention"].append(torch.cat(last))
        maps["rollout"].append(torch.cat(rolled))
    patch = _patch(weights, images)
    found |= {
        "attention_distance": np.array(distances),
        "class_token_share": np.array(shares),
        "uniform_distance": np.array(float(patch_distances(images.shape[-1] // patch, patch).mean())),
    }
    return maps


def _patch(weights: Tensor, images: Tensor) -> int:
    return images.shape[-1] // round((weights.shape[-1] - 1) ** 0.5)


def _grad_cams(
    spec: Mapping[str, Any],
    models: tuple[nn.Module, nn.Module],
    prepare: Callable[[Tensor], Tensor],
    images: Tensor,
    classes: Tensor,
    mapped: list[str],
    left_out: list[str],
) -> dict[str, list[Tensor]]:
    maps = []
    for model in models:
        layer = cam_layer_of(model, spec["model"]["builder"], mapped)
        if layer is None:
            left_out.append("Grad-CAM: no layer's output is a map")
            return {}
        batches = zip(images.split(BATCH), classes.split(BATCH), strict=True)
        maps.append(torch.cat([to_cells(grad_cam(model, layer, prepare(b), c)) for b, c in batches]))
    return {"Grad-CAM": maps}


def _maps(
    model: nn.Module,
    prepare: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Mapping[str, list[Tensor]],
    classes: Tensor,
    mean: Tensor,
) -> dict[str, np.ndarray]:
    """Hold each kind of map against deletion in random order and from the centre, and against no training."""
    count, shown = len(images), slice(GALLERY_IMAGES)
    random = torch.rand(count, CELLS**2, generator=torch.Generator().manual_seed(0)).argsort(1)
    orders = {kind: trained.flatten(1).argsort(1, descending=True) for kind, (trained, _) in maps.items()}
    orders |= {
        "random": random.to(images.device),
        "centre first": centre_first().to(images.device).expand(count, -1),
    }
    correlations = [rank_correlation(*pair).nanmean() for pair in maps.values()]
    return {
        "maps": np.array(list(maps), dtype=str),
        "gallery_images": images[shown].cpu().numpy(),
        "gallery_predicted": classes[shown].cpu().numpy(),
        "gallery_maps": np.array([trained[shown].cpu().numpy() for trained, _ in maps.values()]),
        "orders": np.array(list(orders)),
        "deleted": np.array(DELETED),
        "deletion": np.array(
            [
                deletion_curve(
                    lambda p: _in_batches(model, prepare, p), images, order, list(DELETED), mean, classes
                )
                .cpu()
                .numpy()
                for order in orders.values()
            ]
        ),
        "map_correlation": np.array([float(value) for value in correlations]),
    }
