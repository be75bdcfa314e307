"""What was measured of the study's models, the runs of each model together."""

from collections.abc import Mapping, Sequence
from itertools import combinations, combinations_with_replacement, product
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from vitcnn.errors import StudyError
from vitcnn.plan import ALL
from vitcnn.representations.similarity import cka, deconfound, error_consistency


class Probe(NamedTuple):
    """One run: its seed, the arrays of `representations.probe`, and which test images it gets right `(N,)`."""

    seed: int
    arrays: Mapping[str, np.ndarray]
    correct: np.ndarray


class Model(NamedTuple):
    """A model with the probes of its runs, one a seed, in the order of the seeds, and the images that they saw.

    `experiments` are those that ask for these runs, with the recipe where one has several.
    """

    title: str
    family: str
    experiments: Sequence[str]
    probes: list[Probe]
    dataset: str
    num_classes: int
    train_size: int | str = ALL

    def has(self, name: str) -> bool:
        """Return whether a measurement could be taken of this model."""
        return name in self.probes[0].arrays

    def over_seeds(self, name: str) -> np.ndarray:
        """Return a measurement of all runs `(seeds, …)`."""
        return np.array([probe.arrays[name] for probe in self.probes])


def read_probed(
    runs: Sequence[Mapping[str, Any]], representations: Sequence[Path], predictions: Sequence[Path]
) -> list[Model]:
    """Return the models of `runs`, in that order. Each says `folder`, `title`, `family`, `experiments`, `dataset` (its
    title), `train_size` and `seed`.

    Each run's files are those of its folder. Arrays are read when they are used. Raises StudyError for a
    file that is missing or damaged.
    """
    folders = [Path(run["folder"]) for run in runs]
    models: dict[str, Model] = {}
    for run, probe, predicted in zip(
        runs, _of_folders(representations, folders), _of_folders(predictions, folders), strict=True
    ):
        try:
            arrays, outcome = np.load(probe), np.load(predicted)
            logits = outcome["logits"]
            correct = logits.argmax(1) == outcome["labels"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise StudyError(
                f"{probe}, or {predicted.name} beside it, cannot be read ({error}); delete the file that is damaged to have "
                "it made again"
            ) from error
        what = {key: run[key] for key in ("title", "family", "experiments", "dataset", "train_size")}
        model = models.setdefault(run["title"], Model(**what, probes=[], num_classes=logits.shape[1]))
        model.probes.append(Probe(run["seed"], arrays, correct))
    for model in models.values():
        model.probes.sort(key=lambda probe: probe.seed)
    return list(models.values())


def _of_folders(files: Sequence[Path], folders: Sequence[Path]) -> list[Path]:
    by_folder = {file.parent: file for file in files}
    return [by_folder[folder] for folder in folders]


def areas_under_deletion(model: Model) -> dict[str, np.ndarray]:
    """Return by order of deletion the area under the curve of each run `(seeds,)`; less: it fell sooner."""
    share = model.over_seeds("deleted")[0] / model.over_seeds("deleted")[0][-1]
    areas = np.trapezoid(model.over_seeds("deletion"), share, axis=2)
    return {str(order): areas[:, i] for i, order in enumerate(model.probes[0].arrays["orders"])}


class Similarity(NamedTuple):
    """CKA between all layers of all models, `values` `(pairs of seeds, L, L)`: row of one seed, column of another.

    The second half of the pairs are those of the first, turned round. Of a study with one seed `values` is that seed's
    own. `of_model` `(L,)` says whose the layers are.
    """

    values: np.ndarray
    of_model: np.ndarray

    def closest(self, a: int, b: int) -> np.ndarray:
        """Return, by pair of seeds, the CKA of those layers of models `a` and `b` that are most alike on average.

        nan for one model in a study with one seed.
        """
        block = self.values[:, self.of_model == a][:, :, self.of_model == b]
        if a == b and len(block) == 1:
            return np.full(1, np.nan)
        mean = np.nan_to_num(block.mean(0), nan=-np.inf)
        each = block[: len(block) // 2] if a == b else block  # two seeds of one model, each pair once
        return each[:, *np.unravel_index(mean.argmax(), mean.shape)]


def similarities(models: Sequence[Model]) -> dict[str, Similarity]:
    """Return CKA `plain` and `deconfounded`, and both `, untrained`, between all layers.

    Only seeds that all models have count.
    """
    common = set.intersection(*({probe.seed for probe in model.probes} for model in models))
    probes = [[probe for probe in model.probes if probe.seed in common] for model in models]
    sizes = [len(of_model[0].arrays["layers"]) for of_model in probes]
    of_model = np.repeat(np.arange(len(models)), sizes)
    pixels = probes[0][0].arrays["gram_pixels"]
    found = {}
    for which, ending in ((0, ""), (1, ", untrained")):
        vectors = [
            of_seed.arrays["gram"][which] for of_seeds in zip(*probes, strict=True) for of_seed in of_seeds
        ]
        stacked = np.concatenate(vectors)
        for name, rows in (("plain", stacked), ("deconfounded", deconfound(stacked, pixels))):
            values = cka(rows).reshape(len(common), sum(sizes), len(common), sum(sizes))
            found[name + ending] = Similarity(_by_pair_of_seeds(values), of_model)
    return found


def _by_pair_of_seeds(values: np.ndarray) -> np.ndarray:
    """Return of values `(s, L, t, L)` those of two seeds `(pairs, L, L)`, first s < t, then the same turned round."""
    if len(values) == 1:
        return values[:, :, 0]
    first, second = np.triu_indices(len(values), 1)
    return values[np.append(first, second), :, np.append(second, first)]


def error_consistencies(models: Sequence[Model]) -> dict[tuple[int, int], np.ndarray]:
    """Return κ of each two models' right answers, by their numbers: one value a pair of seeds, each once."""
    found = {}
    for a, b in combinations_with_replacement(range(len(models)), 2):
        ours, theirs = models[a].probes, models[b].probes
        both = combinations(ours, 2) if a == b else product(ours, theirs)
        found[a, b] = np.array([error_consistency(one.correct, other.correct) for one, other in both])
    return found
