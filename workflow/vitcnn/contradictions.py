"""What is wrong with a configuration that has the right shape: names that lead nowhere, values that do not go together."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from vitcnn.data.sources import ANY_SIZE, IMAGE_SIZES, Source, shown
from vitcnn.errors import StudyError, suggest
from vitcnn.models.registry import refused, resolve_builder
from vitcnn.schema import read_schema, resolve

TABLES = ("differences", "selection", "calibration")  # of each experiment, beside its own
CORRUPTED_SIZES = (32, 64)  # of data/corruptions.py, which imports more than is needed here


def contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what no schema can see, a line for each, with the key."""
    datasets = config["datasets"]
    recipes = config["recipes"].values()
    inner = (*(recipe["augmentation"] for recipe in recipes), ("mean", "std"))
    settings = set(chain(*config["models"].values(), *recipes, *inner))
    if clashes := datasets.keys() & settings:  # what a mapping of such names means cannot be told
        yield from (f"datasets.{name}: is the name of a setting too; give it another" for name in clashes)
        return
    for name, dataset in datasets.items():
        yield from (f"datasets.{name}.{line}" for line in _of_dataset(dataset))
    yield from _not_finite(config)
    for name, model in config["models"].items():
        yield from (f"models.{name}.{line}" for line in _of_model(model))
    for section in ("models", "recipes"):  # whose own keys are names
        for name, entry in config[section].items():
            yield from _unknown_datasets(f"{section}.{name}", entry, datasets)
    for name, recipe in config["recipes"].items():
        yield from (f"recipes.{name}.{line}" for line in _of_recipe(recipe))
    for section in ("datasets", "models"):  # results are told apart by their titles
        titles = {}
        for name, entry in config[section].items():
            if (other := titles.setdefault(entry["title"], name)) != name:
                yield f"{section}.{name}.title: {entry['title']} is the title of {other} too; give it another"
    for name, experiment in config["experiments"].items():
        if experiment is not None:
            others = (other for other, asked in config["experiments"].items() if asked)
            if owner := next((o for o in others for table in TABLES if name == f"{o}_{table}"), None):
                yield f"experiments.{name}: is the name of a table of {owner}; give it another"
            yield from (f"experiments.{name}{line}" for line in _of_experiment(experiment, config))
    for name, group in config["claims"].items():
        yield from (f"claims.{name}: {line}" for line in _of_claims(group or {}, config))
    yield from _of_report(config["report"], config["experiments"])
    yield from _unknown_experiments(config)
    yield from _of_measurements(config)


def _not_finite(value: Any, place: str = "") -> Iterator[str]:
    """Yield the numbers that are none, as YAML's `.nan` and `.inf` are."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _not_finite(inner, f"{place}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{place}: {value} is no finite number"


def _of_dataset(dataset: Mapping[str, Any]) -> Iterator[str]:
    for place in dataset["source"]:
        try:
            kind = Source.parse(place).kind
        except ValueError as error:
            yield f"source: {shown(place)}: {error}"
            continue
        if kind == "torchvision" != dataset["layout"]:
            yield f"source: {shown(place)} needs layout: torchvision"
    size = IMAGE_SIZES.get(dataset["layout"], dataset["image_size"])
    if dataset["image_size"] != size:
        yield f"image_size: {dataset['layout']} has images of {size} pixels, not of {dataset['image_size']}"
    for key in ("resize", "test_share"):
        if key in dataset and dataset["layout"] not in ANY_SIZE:
            yield f"{key}: {dataset['layout']} has a size and a test split of its own"
    if dataset["layout"] == "torchvision" and "test_share" in dataset:
        yield "test_share: what torchvision reads has a test split of its own"


def _of_model(model: Mapping[str, Any]) -> Iterator[str]:
    try:
        resolve_builder(model["builder"])
    except StudyError as error:
        yield f"builder: {error}"
    if "name" in model:
        yield "name: leave it out; a model's name is its key under models"
    for key in model:
        if reason := refused(model["builder"], key):
            yield f"{key}: cannot be set: {reason}"


def _of_experiment(experiment: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with an experiment; a line begins with its key, or a colon."""
    models, recipe = experiment["models"], experiment["recipe"]
    if isinstance(recipe, Mapping) and recipe.keys() != set(models):
        yield f".recipe: names {', '.join(recipe)}, not each of {', '.join(models)}"
        return
    by_model = recipe if isinstance(recipe, Mapping) else dict.fromkeys(models, recipe)
    used = {m: [names] if isinstance(names, str) else names for m, names in by_model.items()}
    recipes = list(dict.fromkeys(chain.from_iterable(used.values())))
    asked = {"datasets": experiment["datasets"], "models": models, "recipes": recipes}
    unknown = [
        (section, key) for section, keys in asked.items() for key in keys if key not in config[section]
    ]
    for section, key in unknown:
        yield f": {key} is not one of the {section}{suggest(key, config[section])}"
    if unknown:
        return
    for dataset in experiment["datasets"]:
        for model in models:
            for name in used[model]:
                yield from (f": {line}" for line in misfits(config, dataset, model, name))
    for model in dict.fromkeys(chain.from_iterable(experiment.get("pairs", []))):
        if model not in models:
            yield f".pairs: {model} is not one of its models{suggest(model, models)}"
    yield from (f".pairs: {line}" for line in _named_twice(experiment.get("pairs", [])))
    yield from (f".equal: {line}" for line in _unequal_recipes(config, experiment))
    for name in recipes if experiment["accuracy"] == "selected" else ():
        if not config["recipes"][name]["hold_out"]:
            yield f".accuracy: selected needs hold_out: true in recipes.{name}"


def _named_twice(pairs: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the pairs that are named more than once, in either order."""
    for models, count in Counter(tuple(sorted(pair)) for pair in pairs).items():
        if count > 1:
            yield f"the pair of {' and '.join(models)} is named {count} times, in either order; name it once"


def _of_measurements(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the datasets and experiments whose runs are measured further."""
    datasets = config["datasets"]
    for section in ("representations", "corruptions"):
        name = (config[section] or {}).get("dataset")
        if name is not None and name not in datasets:
            yield f"{section}.dataset: {name} is no dataset{suggest(name, datasets)}"
        elif section == "corruptions" and name and datasets[name]["image_size"] not in CORRUPTED_SIZES:
            yield (
                f"corruptions.dataset: {name} has images of {datasets[name]['image_size']} pixels; severities are "
                f"published for {' and '.join(map(str, CORRUPTED_SIZES))}; name another dataset, or set corruptions: null"
            )
    representations = config["representations"] or {"experiments": []}
    probed = [config["experiments"].get(name) for name in representations["experiments"]]
    seeds = [
        {*asked.get("seeds", config["seeds"])}
        for asked in probed
        if asked and representations["dataset"] in asked["datasets"]
    ]
    if any(probed) and not seeds:
        yield (
            f"representations.dataset: none of the experiments has {representations['dataset']}; name another, or set "
            "representations: null"
        )
    if seeds and not set.intersection(*seeds):
        yield "representations.experiments: have no seed in common, and models are compared seed by seed"
    for section in ("cost", "representations"):
        for name in (config[section] or {}).get("experiments", []):
            if (config["experiments"].get(name) or {}).get("optional"):
                yield (
                    f"{section}.experiments: {name} is optional, and {section} is part of the whole study; leave it out"
                )


def _unknown_experiments(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of experiments in the other sections that lead nowhere."""
    for section in ("flaws", "representations", "cost", "predictions", "corruptions"):
        for key, asked in (config[section] or {}).items():
            names = [asked] if isinstance(asked, str) else asked
            for name in names if key not in ("dataset", "also") else ():
                if name not in config["experiments"]:
                    yield f"{section}.{key}: {name} is no experiment{suggest(name, config['experiments'])}"


# What models that are declared equal must share, beside what they are equal in.
_SHARED = ("epochs", "updates", "evaluations", "batch_size", "hold_out", "augmentation", "mixup", "cutmix")


def _unequal_recipes(config: Mapping[str, Any], experiment: Mapping[str, Any]) -> Iterator[str]:
    """Yield the models declared equal that an experiment lacks, or whose recipes differ in what all must share."""
    recipe = experiment["recipe"]
    for model in dict.fromkeys(chain.from_iterable(entry["models"] for entry in experiment["equal"])):
        if model not in experiment["models"]:
            yield f"{model} is not one of its models{suggest(model, experiment['models'])}"
            return
    for models in dict.fromkeys(tuple(entry["models"]) for entry in experiment["equal"]):
        names = [recipe[model] if isinstance(recipe, Mapping) else recipe for model in models]
        for dataset in experiment["datasets"] if names[0] != names[1] else ():
            settings = []
            for name in names:
                found = resolve(config["recipes"][name], dataset)
                settings.append({key: found.get(key, "absent") for key in _SHARED})
                settings[-1] |= {f"augmentation.{k}": v for k, v in settings[-1].pop("augmentation").items()}
            for key, ours in settings[0].items():
                if ours != settings[1][key]:
                    yield (
                        f"{models[0]} and {models[1]} are trained by recipes.{names[0]} and recipes.{names[1]}, "
                        f"whose {key} for {dataset} is {ours} and {settings[1][key]}; make them the same"
                    )


def _of_claims(group: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """Yield names of a group of claims that lead nowhere, and scopes that hold nothing.

    A study may switch experiments off, or leave some of their models and datasets out, and keep the claims about them:
    the findings say of these that they cannot be told.
    """
    of_group = [config["experiments"].get(name) for name in group.get("experiments", [])]
    models = config["models"] if None in of_group else chain.from_iterable(one["models"] for one in of_group)
    sides = "families (ViT, CNN, other) or models of its experiments"
    known = {section: config[section] for section in ("experiments", "models", "datasets")}
    known[sides] = ["ViT", "CNN", "other", *models]
    asked = {"experiments": group.get("experiments", [])}
    for claim in group.get("claims", []):
        is_one_test = "larger" in claim and isinstance(claim.get("metric"), str) and not claim["together"]
        if claim["primary"] and not is_one_test:
            yield f'"{claim["text"]}": primary: true needs a single metric with larger, and no together: true'
        yield from (f'"{claim["text"]}": pairs: {line}' for line in _named_twice(claim.get("pairs", [])))
        scopes = (claim["scope"], claim.get("closer", {}))
        for scope in scopes:
            over, up_to = scope.get("over_classes", 0), scope.get("up_to_classes", math.inf)
            if up_to <= over:
                yield f'"{claim["text"]}": no dataset has over {over} classes and up to {up_to}'
        if any(of_group):
            asked |= {
                sides: [claim["larger"]] if "larger" in claim else [],
                "models": chain.from_iterable(claim.get("pairs", [])),
                "datasets": chain.from_iterable(scope.get("datasets", []) for scope in scopes),
            }
        for section, names in asked.items():
            for name in names:
                near = suggest(name, known[section])
                if name not in known[section] and (near or section != "experiments"):
                    yield f"{name} is not one of the {section}{near}"
        asked = {}


def _of_report(report: Mapping[str, Any], experiments: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the names of figures, titles and experiments."""
    own = {f"{name}_{kind}": name for name in experiments for kind in ("curves", "data_efficiency")}
    titles = read_schema("config.schema.yaml")["properties"]["report"]["properties"]["titles"]
    fixed = titles["properties"]  # what the models learned, and what they cost
    for name in experiments:
        if name in fixed or name in ("flaws", "corruptions"):
            yield f"experiments.{name}: a figure or table has this name; give the experiment another"
    for name, figure in report["figures"].items():
        place = f"report.figures.{name}"
        if figure is None:
            continue
        if name in fixed:
            yield f"{place}: another figure has this name; choose another"
        if name in own:
            yield f"{place}: is the name of a figure of experiments.{own[name]}; rename that, or set {place}: null"
        wanted = 2 if figure["kind"] == "summary" else 1
        if len(figure["experiments"]) != wanted:
            yield f"{place}.experiments: names {len(figure['experiments'])}; kind: {figure['kind']} shows {wanted}"
        for experiment in figure["experiments"]:
            if experiment not in experiments:
                yield f"{place}.experiments: {experiment} is no experiment{suggest(experiment, experiments)}"
    known = [*experiments, *report["figures"], *own, *fixed]
    for name in report["titles"]:
        if name not in known:
            yield f"report.titles.{name}: is no experiment and no figure{suggest(name, known)}"


def _unknown_datasets(place: str, node: Any, datasets: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of values by dataset that name no dataset."""
    if isinstance(node, Mapping):
        by_dataset = any(key == "default" or key in datasets for key in node)
        for key, inner in node.items():
            if by_dataset and key != "default" and key not in datasets:
                yield f"{place}.{key}: is no dataset{suggest(key, datasets)}"
            yield from _unknown_datasets(f"{place}.{key}", inner, datasets)


def _of_recipe(recipe: Mapping[str, Any]) -> Iterator[str]:
    """Yield what does not go together in a recipe, by its key; a setting that nothing reads is a mistake."""
    if ("epochs" in recipe) == ("updates" in recipe):
        yield "epochs: name either epochs, or updates and evaluations"
    if ("updates" in recipe) != ("evaluations" in recipe):
        yield "evaluations: set updates and evaluations together, or neither"
    if recipe["momentum"] and recipe["optimizer"] != "sgd":
        yield f"momentum: is for optimizer: sgd only; leave it out with {recipe['optimizer']}"
    if recipe["nesterov"] and not recipe["momentum"]:
        yield "nesterov: needs a momentum"
    if recipe["min_lr"] and recipe["lr_scheduler"] == "constant":
        yield "min_lr: is where a cosine ends; set lr_scheduler: cosine"


def misfits(config: Mapping[str, Any], dataset: str, model: str, recipe: str) -> list[str]:
    """Return what keeps `model` from being trained by `recipe` on `dataset`, in words."""
    settings = resolve(config["models"][model], dataset)
    training = resolve(config["recipes"][recipe], dataset)
    values = [(f"models.{model}.{key}", value) for key, value in settings.items()]
    for key, value in training.items():
        if key == "augmentation":
            values += [(f"recipes.{recipe}.augmentation.{k}", v) for k, v in value.items()]
        elif key != "normalization" or "mean" not in value:
            values.append((f"recipes.{recipe}.{key}", value))
    # A mapping that is left is one by dataset, without an entry for this one.
    wrong = [f"{k} has no value for {dataset}, and no default" for k, v in values if isinstance(v, Mapping)]
    if wrong:
        return wrong
    if training["min_lr"] > training["lr"]:
        wrong.append(f"recipes.{recipe}.min_lr: {training['min_lr']} is over lr {training['lr']}")
    if "updates" in training and training.get("evaluations", 0) > training["updates"]:
        wrong.append(
            f"recipes.{recipe}.evaluations: {training['evaluations']} are more than the {training['updates']} updates"
        )
    if ":" in settings["builder"]:  # what a library's models take is known to them alone
        return wrong
    size, patch = config["datasets"][dataset]["image_size"], settings.get("patch_size")
    if patch and size % patch:
        divisors = ", ".join(str(p) for p in range(2, size) if size % p == 0)
        wrong.append(
            f"models.{model}.patch_size: {patch} does not divide the {size} pixels of {dataset}; {divisors} would"
        )
    dim, heads = settings.get("embed_dim"), settings.get("num_heads")
    if dim and heads and dim % heads:
        wrong.append(f"models.{model}.num_heads: {heads} heads do not divide embed_dim {dim}")
    channels, blocks = settings.get("channels"), settings.get("blocks")
    if channels and blocks and len(channels) != len(blocks):
        wrong.append(
            f"models.{model}: channels has {len(channels)} entries, blocks {len(blocks)}; one each per stage"
        )
    return wrong
