"""From configuration to runs: what to train, its resolved spec and its path.

A run is a dataset, a model, a recipe, a training-set size and a seed. Experiments ask for runs; two
that ask for the same one share it.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from vitcnn.contradictions import misfits
from vitcnn.errors import StudyError
from vitcnn.files import read_json
from vitcnn.schema import resolve

SPEC_VERSION = 1
ALL = "all"  # the train_size that stands for every training image
_NAME = re.compile(r"([^/]+)/([^/]+)/([^/]+)/n(all|[1-9]\d*)/seed(\d+)")


class Run(NamedTuple):
    """One training job. `train_size` is a number of images, or "all"."""

    dataset: str
    model: str
    recipe: str
    train_size: int | str
    seed: int

    @property
    def name(self) -> str:
        """The run as a path: `cifar10/vit/adam10/nall/seed0`."""
        return f"{self.dataset}/{self.model}/{self.recipe}/n{self.train_size}/seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Where its files are, from the working directory: `results/runs/{name}`."""
        return Path("results/runs", self.name)

    @classmethod
    def parse(cls, name: str) -> "Run":
        """Return the run of that name; raises StudyError for anything else."""
        match = _NAME.fullmatch(name.removeprefix("results/runs/").rstrip("/"))
        if not match:
            raise StudyError(f"{name}: is no run; they are named like cifar10/vit/adam10/nall/seed0")
        dataset, model, recipe, size, seed = match.groups()
        return cls(dataset, model, recipe, size if size == ALL else int(size), int(seed))


def experiment_runs(config: Mapping[str, Any], experiment: str) -> list[Run]:
    """Return the runs of one experiment of a checked configuration; none if it is switched off."""
    asked = config["experiments"].get(experiment)
    if asked is None:
        return []
    return [
        Run(dataset, model, recipe, size, seed)
        for dataset in asked["datasets"]
        for model in asked["models"]
        for recipe in recipes_of(asked, model)
        for size in asked["train_sizes"]
        for seed in (asked["seeds"] if "seeds" in asked else config["seeds"])
    ]


def probed_runs(config: Mapping[str, Any], section: str = "representations") -> list[Run]:
    """Return the runs whose models are probed, or those of `corruptions`: the section's, at the largest training size."""
    asked = config[section]
    if asked is None:
        return []
    runs = [
        run
        for name in asked["experiments"]
        for run in experiment_runs(config, name)
        if run.dataset == asked["dataset"]
    ]
    by_size = sorted(runs, key=lambda run: (run.train_size == ALL, run.train_size))
    largest = {run[:3]: run.train_size for run in by_size}  # the last one stays
    return list(dict.fromkeys(run for run in runs if run.train_size == largest[run[:3]]))


def probed_figures(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the figures of what the models learned; none where no run is probed."""
    if not probed_runs(config):
        return []
    return ["similarity", "robustness", "reach", "attention", *config["representations"]["also"]]


def cost_experiments(config: Mapping[str, Any]) -> list[str]:
    """Return the experiments whose models' cost is measured: those of `cost` that are switched on."""
    asked = (config["cost"] or {}).get("experiments", [])
    return [name for name in asked if config["experiments"][name] is not None]


def recipes_of(experiment: Mapping[str, Any], model: str) -> list[str]:
    """Return the names of the recipes that an experiment trains a model by: one, unless it lists several."""
    recipe = experiment["recipe"]
    if isinstance(recipe, list):
        return recipe
    return [recipe if isinstance(recipe, str) else recipe[model]]


class Figure(NamedTuple):
    """A figure of some experiments: `kind` is the file of `results/figures` that draws it."""

    kind: str
    experiments: list[str]
    title: str


def figures(config: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures of the experiments that are switched on, by name.

    Each experiment NAME has `NAME_curves`, and with several training sizes `NAME_data_efficiency`; those
    of `report.figures` are there too where all their experiments are.
    """
    active, titles = active_experiments(config), config["report"]["titles"]
    found = {}
    for name in active:
        several = len(config["experiments"][name]["train_sizes"]) > 1
        for kind in ("curves", *(["data_efficiency"] if several else [])):
            figure = f"{name}_{kind}"
            found[figure] = Figure(kind, [name], titles.get(figure, title_of(config, name)))
    for name, figure in sorted(config["report"]["figures"].items()):
        if figure is not None and set(figure["experiments"]) <= set(active):
            found[name] = Figure(figure["kind"], figure["experiments"], titles.get(name, name))
    return found


def title_of(config: Mapping[str, Any], experiment: str) -> str:
    """Return the title of an experiment: that of `report.titles`, or its name."""
    return config["report"]["titles"].get(experiment, experiment)


def looks(config: Mapping[str, Any]) -> dict[str, int]:
    """Return a number for each model by which all figures show it alike, in the order of the experiments."""
    names = sorted(
        active_experiments(config), key=lambda name: bool(config["experiments"][name].get("optional"))
    )
    asked = (config["experiments"][name]["models"] for name in names)
    return {model: place for place, model in enumerate(dict.fromkeys(chain.from_iterable(asked)))}


def active_experiments(config: Mapping[str, Any], *, optional: bool = True) -> list[str]:
    """Return the names of the experiments that are switched on, in one order whatever the file's.

    Without `optional`, those alone that belong to the whole study, and not only to their own name.
    """
    experiments = config["experiments"].items()
    return sorted(
        n for n, asked in experiments if asked is not None and (optional or not asked.get("optional"))
    )


def all_runs(config: Mapping[str, Any], more: Collection[str] = ()) -> list[Run]:
    """Return each run of the whole study, once: of every experiment that is not optional, and of `more`."""
    names = [*active_experiments(config, optional=False), *more]
    runs = (run for name in names for run in experiment_runs(config, name))
    return list(dict.fromkeys(runs))


def flaw_experiments(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the experiments that `flaws` asks for, in one order; none where it is switched off."""
    asked = (config["flaws"] or {}).values()
    return sorted({name for names in asked for name in ([names] if isinstance(names, str) else names)})


def begun_experiments(config: Mapping[str, Any]) -> list[str]:
    """Return the optional experiments of which a run has files here, other than those of the whole study."""
    folders = Path("results/runs").glob("*/*/*/*/*")
    here = {str(folder).removeprefix("results/runs/") for folder in folders}
    begun = here - {run.name for run in all_runs(config)}
    return [
        name
        for name in active_experiments(config)
        if not begun.isdisjoint(run.name for run in experiment_runs(config, name))
    ]


def begun_corruptions(config: Mapping[str, Any]) -> bool:
    """Return whether a run of `corruptions`, which is no part of the whole study, has been measured here."""
    return any((run.folder / "corruptions.json").exists() for run in probed_runs(config, "corruptions"))


def run_spec(config: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """Return all that decides what a run trains, resolved for its dataset; titles and families are left out.

    Raises StudyError when the configuration has no such dataset, model or recipe, or they do not fit.
    """
    for section in ("dataset", "model", "recipe"):
        if getattr(run, section) not in config[f"{section}s"]:
            raise StudyError(f"{run.name}: the configuration has no {section} {getattr(run, section)}")
    wrong = misfits(config, run.dataset, run.model, run.recipe)
    if wrong:
        raise StudyError(f"{run.name}: {'; '.join(wrong)}")
    recipe = resolve(config["recipes"][run.recipe], run.dataset)
    return {
        "version": SPEC_VERSION,
        **model_spec(config, run.dataset, run.model),
        "recipe": {"name": run.recipe} | {k: v for k, v in recipe.items() if k != "title"},
        "train_size": run.train_size,
        "seed": run.seed,
        "precision": config["precision"],
    }


def model_spec(config: Mapping[str, Any], dataset: str, model: str) -> dict[str, Any]:
    """Return the part of a run's spec that decides what the model is, however it is trained."""
    data, settings = config["datasets"][dataset], resolve(config["models"][model], dataset)
    return {
        "dataset": {
            "name": dataset,
            "image_size": data["image_size"],
            "num_classes": data["num_classes"],
        },
        "model": {"name": model} | {k: v for k, v in settings.items() if k not in ("title", "family")},
    }


def equals(config: Mapping[str, Any], dataset: str, model: str) -> list[dict[str, Any]]:
    """Return what a model has to equal on a dataset: an entry for each time an experiment names it second in `equal`.

    An entry has the model spec of the first, what the two are equal `in` and `within` which share, the name of the
    experiment, and a run of each.
    """
    found = []
    for name in active_experiments(config):
        runs = {run.model: run.name for run in experiment_runs(config, name)[::-1] if run.dataset == dataset}
        for entry in config["experiments"][name]["equal"] if runs else ():
            first, second = entry["models"]
            if second == model:
                spec = model_spec(config, dataset, first)
                found.append(entry | {"spec": spec, "experiment": name, "runs": [runs[first], runs[second]]})
    return found


def part_of_study(config: Mapping[str, Any], experiment: str) -> dict[str, Any]:
    """Return the part of a configuration that says which runs one experiment has.

    It is a configuration that all_runs() and run_spec() take, without what concerns a machine, a
    source, a picture or another experiment; a rule's command can carry it where the list of its runs
    would be too long.
    """
    shown_only = ("accuracy", "pairs", "equal", "optional")
    asked = {k: v for k, v in config["experiments"][experiment].items() if k not in shown_only}
    datasets = {name: config["datasets"][name] for name in asked["datasets"]}
    recipes = {name: config["recipes"][name] for m in asked["models"] for name in recipes_of(asked, m)}
    return {
        "precision": config["precision"],
        "datasets": {n: {k: v for k, v in d.items() if k != "source"} for n, d in datasets.items()},
        "models": {name: config["models"][name] for name in asked["models"]},
        "recipes": {n: {k: v for k, v in r.items() if k != "title"} for n, r in recipes.items()},
        "experiments": {experiment: {"seeds": config.get("seeds"), **asked}},
    }


def spec_run(spec: Mapping[str, Any]) -> Run:
    """Return the run that a spec describes."""
    names = (spec[key]["name"] for key in ("dataset", "model", "recipe"))
    return Run(*names, spec["train_size"], spec["seed"])


def largest_sizes(config: Mapping[str, Any], runs: Iterable[Run], dataset: str) -> tuple[int, int]:
    """Return the most images that a run asks of `dataset`: any of `runs`, and those that hold images out."""
    sizes = [
        (int(run.train_size), config["recipes"][run.recipe]["hold_out"])
        for run in runs
        if run.dataset == dataset and run.train_size != ALL
    ]
    return max((size for size, _ in sizes), default=0), max((size for size, held in sizes if held), default=0)


def check_sizes(manifest: Mapping[str, Any], largest: tuple[int, int], path: Path) -> None:
    """Raise StudyError if a packed dataset, whose manifest is at `path`, has fewer than largest_sizes()."""
    images, held = (manifest["counts"][split]["images"] for split in ("train", "hold_out"))
    for size, there, words in ((largest[0], images, ""), (largest[1], images - held, " beside the hold-out")):
        if size > there:
            raise StudyError(
                f"train_size {size:,} is over the {there:,} training images that {manifest['dataset']} "
                f"has{words}, says {path}; lower it in train_sizes of the experiment in config.yaml"
            )


def refuse_oversized(config: Mapping[str, Any], runs: Collection[Run], resources: Path) -> None:
    """Do what check_sizes() does for each dataset of `runs` that is packed, from a source still configured."""
    for dataset in datasets_of(runs):
        manifest = resources / dataset / "packed" / "manifest.json"
        fetched = resources / dataset / "fetched_from.json"
        if not manifest.exists() or not fetched.exists():
            continue
        try:
            source, found = read_json(fetched)["source"], read_json(manifest)
            found["counts"]["hold_out"]["images"]
        except (StudyError, KeyError, TypeError):
            continue  # damaged; whatever needs it rebuilds it
        if source in config["datasets"][dataset]["source"]:
            check_sizes(found, largest_sizes(config, runs, dataset), manifest)


def datasets_of(runs: Iterable[Run]) -> Iterator[str]:
    """Yield the name of each dataset that the runs use, once."""
    yield from dict.fromkeys(run.dataset for run in runs)
