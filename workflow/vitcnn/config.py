"""The study's configuration: read, checked, completed with its defaults, resolved per dataset.

The rules are in `schemas/config.schema.yaml`; a model's hyper-parameters are checked against the
signature of its builder. No torch here: a Snakefile is parsed again inside every cluster job. yaml and jsonschema
are imported where a file is read and checked: a run of a spec needs neither.
"""

import ast
import contextlib
import copy
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitcnn.data.sources import ANY_SIZE, READERS, Source, shown
from vitcnn.errors import StudyError, suggest
from vitcnn.models.registry import builder_family, parse_builder, refused, resolve_builder

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

SCHEMAS = Path(__file__).parents[1] / "schemas"

CORRUPTED_SIZES = (32, 64)  # of data/corruptions.py, which imports more than is needed here

# What a builder's annotations mean for a value in config.yaml.
_ANNOTATIONS = {
    "int": {"type": "integer", "minimum": 1},
    "float": {"type": "number", "minimum": 0},
    "bool": {"type": "boolean"},
    "str": {"type": "string"},
    "list[int]": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 1}},
    "Probability": {"type": "number", "minimum": 0, "maximum": 1},
}


def load_config(*paths: Path) -> dict[str, Any]:
    """Read a configuration, each file extending those before it as Snakemake's do, and check it.

    Raises StudyError when a file is absent, no YAML, or breaks a rule.
    """
    import yaml

    config: dict[str, Any] = {}
    for path in paths:
        try:
            read = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise StudyError(f"{path}: cannot be read: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise StudyError(f"{path}: is no YAML: {error}") from error
        if not isinstance(read, dict):
            raise StudyError(f"{path}: holds no configuration keys")
        config = _extended(config, read)
    return check_config(config)


def _extended(config: dict[str, Any], by: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` with mappings merged and everything else replaced."""
    both = {
        k: _extended(config[k], v)
        for k, v in by.items()
        if isinstance(v, dict) and isinstance(config.get(k), dict)
    }
    return config | dict(by) | both


def check_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `config` with every default filled in.

    Raises StudyError with one line for each thing that is wrong.
    """
    config = copy.deepcopy(dict(config))
    schema = copy.deepcopy(read_schema("config.schema.yaml"))
    _spell_out(schema, config)
    validator = _defaults_validator()(schema)
    problems = [line for error in _leaves(validator.iter_errors(config)) for line in _explain(error)]
    if not problems:  # names and sums are only worth checking where the shape is right
        problems = list(_contradictions(config))
    if problems:
        raise StudyError("The configuration cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    return _plain_numbers(config)


def resolve(value: Any, dataset: str) -> Any:
    """Return the setting that holds for `dataset`: mappings by dataset are replaced by their entry."""
    if isinstance(value, Mapping):
        if dataset in value or "default" in value:
            return resolve(value.get(dataset, value.get("default")), dataset)
        return {key: resolve(inner, dataset) for key, inner in value.items()}
    return value


def _plain_numbers(value: Any) -> Any:
    """Write whole numbers as integers, so that `weight_decay: 0` and `0.0` are one spec."""
    if isinstance(value, Mapping):
        return {key: _plain_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@cache
def read_schema(name: str) -> dict[str, Any]:
    """Return a YAML file of `workflow/schemas`; not to be changed."""
    import yaml

    return yaml.safe_load((SCHEMAS / name).read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------
# Schema


def _spell_out(schema: dict[str, Any], config: dict[str, Any]) -> None:
    """Add to the schema what it cannot say itself: the builders' signatures, layouts, values by dataset."""
    dataset = schema["properties"]["datasets"]["additionalProperties"]
    dataset["properties"]["layout"]["enum"] = list(READERS)
    entry = schema["properties"]["models"]["additionalProperties"]
    models = config.get("models")
    if isinstance(models, dict):
        schema["properties"]["models"]["properties"] = {
            name: _builder_schema(entry, model["builder"])
            for name, model in models.items()
            if isinstance(model, dict) and _is_builder(model.get("builder"))
        }
    _allow_values_by_dataset(schema["properties"])


def _allow_values_by_dataset(node: Any) -> None:
    if isinstance(node, list):
        for inner in node:
            _allow_values_by_dataset(inner)
    if isinstance(node, dict):
        for inner in node.values():
            _allow_values_by_dataset(inner)
        if node.pop("per_dataset", False):
            single = {key: value for key, value in node.items() if key != "default"}
            default = {"default": node["default"]} if "default" in node else {}
            own_keys = [{"required": [key]} for key in single.get("properties", {})]
            by_dataset: dict[str, Any] = {"type": "object"}
            if own_keys:
                by_dataset["not"] = {"anyOf": own_keys}
            many = {"type": "object", "minProperties": 1, "additionalProperties": single}
            node.clear()
            node.update({"if": by_dataset, "then": many, "else": single, **default})


@cache
def _signature(builder: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the schema of each hyper-parameter of a builder, and the names of the required ones.

    The file is parsed, not imported: importing it would import torch.
    """
    functions = [n for n in parse_builder(builder).body if isinstance(n, ast.FunctionDef)]
    build = next(f for f in functions if f.name == "build")
    properties, required = {}, []
    for argument, default in zip(build.args.kwonlyargs, build.args.kw_defaults, strict=True):
        if argument.arg in ("image_size", "num_classes", "architecture"):  # not of the hyper-parameters
            continue
        annotation = ast.unparse(argument.annotation) if argument.annotation else "no annotation"
        if annotation.startswith("Literal["):
            allowed: dict[str, Any] = {"enum": list(ast.literal_eval(f"[{annotation[8:-1]}]"))}
        elif annotation in _ANNOTATIONS:
            allowed = copy.deepcopy(_ANNOTATIONS[annotation])
        else:
            raise StudyError(
                f"workflow/vitcnn/models/{builder}.py: build({argument.arg}): {annotation} cannot be checked; "
                f"use Literal[...] or one of {', '.join(_ANNOTATIONS)}"
            )
        if default is None:
            required.append(argument.arg)
        else:
            allowed["default"] = ast.literal_eval(default)
        properties[argument.arg] = allowed | {"per_dataset": True}
    return properties, tuple(required)


def _builder_schema(entry: dict[str, Any], builder: str) -> dict[str, Any]:
    """Return the schema of a model: what a builder of our own takes is known, a library's says it when built."""
    properties, required = copy.deepcopy(_signature(builder))
    plain = {"type": ["boolean", "number", "string", "array", "null"], "per_dataset": True}
    family = entry["properties"]["family"] | {"default": builder_family(builder)}
    return {
        "type": "object",
        "additionalProperties": plain if ":" in builder else False,
        "required": [*entry["required"], *required],
        "properties": entry["properties"] | {"family": family} | properties,
    }


def _is_builder(name: Any) -> bool:
    with contextlib.suppress(StudyError):
        return bool(resolve_builder(str(name)))
    return False


def _with_defaults(validator_class: type) -> type:
    """Extend a validator to fill in defaults as it goes, as the jsonschema FAQ describes.

    It also reads text where only something else is allowed: Snakemake hands over what stands inside
    `--config 'seeds=[7]'` as text, and YAML takes 1e-3 for text.
    """
    check = validator_class.VALIDATORS

    def read_text(validator, container, key, schema):
        value = container[key]
        if isinstance(value, str) and not validator.evolve(schema=schema).is_valid(value):
            meant = _read_scalar(value)
            if validator.evolve(schema=schema).is_valid(meant):
                container[key] = meant

    def properties(validator, subschemas, instance, schema):
        if isinstance(instance, dict):
            for key, subschema in subschemas.items():
                if "default" in subschema:
                    instance.setdefault(key, copy.deepcopy(subschema["default"]))
                if key in instance:
                    read_text(validator, instance, key, subschema)
        yield from check["properties"](validator, subschemas, instance, schema)

    def additional_properties(validator, subschema, instance, schema):
        if isinstance(instance, dict) and isinstance(subschema, dict):
            for key in instance.keys() - schema.get("properties", {}).keys():
                read_text(validator, instance, key, subschema)
        yield from check["additionalProperties"](validator, subschema, instance, schema)

    def items(validator, subschema, instance, schema):
        if isinstance(instance, list):
            for index in range(len(instance)):
                read_text(validator, instance, index, subschema)
        yield from check["items"](validator, subschema, instance, schema)

    own = {"properties": properties, "additionalProperties": additional_properties, "items": items}
    from jsonschema import validators

    return validators.extend(validator_class, own)


def _read_scalar(text: str) -> Any:
    import yaml

    for read in (yaml.safe_load, float):
        with contextlib.suppress(ValueError, yaml.YAMLError):
            if not isinstance(value := read(text), str):
                return value
    return text


@cache
def _defaults_validator() -> Any:
    from jsonschema import Draft202012Validator

    return _with_defaults(Draft202012Validator)


# ---------------------------------------------------------------------------------------------
# What is wrong, in words


def _leaves(errors: "Iterator[ValidationError]") -> "Iterator[ValidationError]":
    """Yield the errors that name a place: those inside if/then/else instead of around it."""
    for error in sorted(errors, key=lambda e: [str(step) for step in e.absolute_path]):
        if error.context and error.validator in ("if", "then", "else"):
            yield from _leaves(iter(error.context))
        else:
            yield error


def _explain(error: "ValidationError") -> Iterator[str]:
    place = ".".join(str(step) for step in error.absolute_path)
    value, rule = error.instance, error.validator_value
    if error.validator == "additionalProperties" and rule is False:
        known = list(error.schema.get("properties", {}))
        for key in sorted(set(map(str, value)) - set(known)):
            yield f"{'.'.join(filter(None, [place, key]))}: unknown key{suggest(key, known)}"
    elif error.validator == "required":
        for key in sorted(set(rule) - set(value)):
            yield f"{'.'.join(filter(None, [place, key]))}: is missing"
    elif error.validator == "type":
        expected = " or ".join(rule) if isinstance(rule, list) else rule
        yield f"{place}: {value!r} is not of type {expected}"
    elif error.validator == "enum":
        yield f"{place}: {value!r} is not one of {', '.join(map(str, rule))}{suggest(value, rule)}"
    elif error.validator in ("minItems", "minProperties"):
        yield f"{place}: is empty; name at least one"
    elif error.validator == "uniqueItems":
        twice = sorted({str(item) for item in value if value.count(item) > 1})
        yield f"{place}: {', '.join(twice)} listed more than once"
    elif error.validator == "oneOf":
        choices = "; or ".join(" and ".join(choice["required"]) for choice in rule)
        yield f"{place}: needs exactly one of: {choices}"
    elif error.validator == "pattern":
        yield f"{place}: {value!r} is no name; use lower-case letters, digits and underscores"
    else:
        yield f"{place}: {error.message}"


def _contradictions(config: dict[str, Any]) -> Iterator[str]:
    """Yield what no schema can see: names that lead nowhere, values that do not go together."""
    datasets = config["datasets"]
    for name, dataset in datasets.items():
        for place in dataset["source"]:
            try:
                Source.parse(place)
            except ValueError as error:
                yield f"datasets.{name}.source: {shown(place)}: {error}"
        for key in ("resize", "test_share"):
            if key in dataset and dataset["layout"] not in ANY_SIZE:
                yield f"datasets.{name}.{key}: {dataset['layout']} has a size and a test split of its own"
        if dataset["layout"] == "torchvision" and "test_share" in dataset:
            yield f"datasets.{name}.test_share: what torchvision reads has a test split of its own"
    for name, model in config["models"].items():
        try:
            resolve_builder(model["builder"])
        except StudyError as error:
            yield f"models.{name}.builder: {error}"
        for key in model:
            if reason := refused(model["builder"], key):
                yield f"models.{name}.{key}: cannot be set: {reason}"
    for section in ("models", "recipes"):
        yield from _unknown_datasets(section, config[section], datasets)
    for name, recipe in config["recipes"].items():
        yield from (f"recipes.{name}.{line}" for line in _recipe_contradictions(recipe))
    for name, experiment in config["experiments"].items():
        if experiment is None:
            continue
        place = f"experiments.{name}"
        asked = {section: experiment[section] for section in ("datasets", "models")}
        recipe = experiment["recipe"]
        if isinstance(recipe, Mapping) and recipe.keys() != set(experiment["models"]):
            yield f"{place}.recipe: names {', '.join(recipe)}, not each of {', '.join(experiment['models'])}"
            continue
        by_model = recipe if isinstance(recipe, Mapping) else dict.fromkeys(experiment["models"], recipe)
        used = {m: [names] if isinstance(names, str) else names for m, names in by_model.items()}
        asked["recipes"] = list(chain.from_iterable(used.values()))
        unknown = [
            (s, key) for s, keys in asked.items() for key in dict.fromkeys(keys) if key not in config[s]
        ]
        for section, key in unknown:
            yield f"{place}: {key} is not one of the {section}{suggest(key, config[section])}"
        if unknown:
            continue
        for dataset in experiment["datasets"]:
            for model in experiment["models"]:
                for name in used[model]:
                    yield from (f"{place}: {line}" for line in misfits(config, dataset, model, name))
        for model in dict.fromkeys(chain.from_iterable(experiment.get("pairs", []))):
            if model not in experiment["models"]:
                yield f"{place}.pairs: {model} is not one of its models{suggest(model, experiment['models'])}"
        yield from (f"{place}.equal: {line}" for line in _unequal_recipes(config, experiment))
        for name in dict.fromkeys(asked["recipes"]) if experiment["accuracy"] == "selected" else ():
            if not config["recipes"][name]["hold_out"]:
                yield f"{place}.accuracy: selected needs hold_out: true in recipes.{name}"
    for name, group in config["claims"].items():
        yield from (f"claims.{name}: {line}" for line in _claim_contradictions(group or {}, config))
    yield from _figure_contradictions(config["report"], config["experiments"])
    yield from _unknown_experiments(config)
    for section in ("representations", "corruptions"):
        name = (config[section] or {}).get("dataset")
        if name is not None and name not in datasets:
            yield f"{section}.dataset: {name} is no dataset{suggest(name, datasets)}"
        elif section == "corruptions" and name and datasets[name]["image_size"] not in CORRUPTED_SIZES:
            yield (
                f"corruptions.dataset: {name} has images of {datasets[name]['image_size']} pixels; severities are "
                f"published for {' and '.join(map(str, CORRUPTED_SIZES))}; name another dataset, or set corruptions: null"
            )
    for name in (config["cost"] or {}).get("experiments", []):
        if (config["experiments"].get(name) or {}).get("optional"):
            yield f"cost.experiments: {name} is optional, and cost is part of the whole study; leave it out"


def _unknown_experiments(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of experiments in the other sections that lead nowhere."""
    for section in ("flaws", "representations", "cost", "predictions", "corruptions"):
        for key, asked in (config[section] or {}).items():
            names = [asked] if isinstance(asked, str) else asked
            for name in names if key not in ("dataset", "also") else ():
                if name not in config["experiments"]:
                    yield f"{section}.{key}: {name} is no experiment{suggest(name, config['experiments'])}"


# What models that are declared equal must share, beside what they are equal in.
_SHARED = ("epochs", "updates", "evaluations", "batch_size", "hold_out", "augmentation")


def _unequal_recipes(config: Mapping[str, Any], experiment: Mapping[str, Any]) -> Iterator[str]:
    """Yield the models declared equal that an experiment has not, or trains by recipes that differ in more than
    what is tuned for each model."""
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


def _claim_contradictions(group: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """Yield names of a group of claims that lead nowhere."""
    known = {section: config[section] for section in ("experiments", "models", "datasets")}
    known["families or models"] = ["ViT", "CNN", "other", *config["models"]]
    asked = {"experiments": group.get("experiments", [])}
    # A study without these experiments keeps their claims, of which nothing comes then.
    is_asked = any(config["experiments"].get(name) for name in asked["experiments"])
    for claim in group.get("claims", []):
        is_one_test = "larger" in claim and isinstance(claim["metric"], str) and not claim["together"]
        if claim["primary"] and not is_one_test:
            yield f'"{claim["text"]}": primary is for one metric that is larger, pair by pair'
        scopes = (claim["scope"], claim.get("closer", {}))
        if is_asked:
            asked |= {
                "families or models": [claim["larger"]] if "larger" in claim else [],
                "models": chain.from_iterable(claim.get("pairs", [])),
                "datasets": chain.from_iterable(scope.get("datasets", []) for scope in scopes),
            }
        for section, names in asked.items():
            for name in names:
                near = suggest(name, known[section])
                if name not in known[section] and (near or section != "experiments"):
                    yield f"{name} is not one of the {section}{near}"
        asked = {}


def _figure_contradictions(report: Mapping[str, Any], experiments: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the names of figures, titles and experiments."""
    own = {f"{name}_{kind}" for name in experiments for kind in ("curves", "data_efficiency")}
    titles = read_schema("config.schema.yaml")["properties"]["report"]["properties"]["titles"]
    fixed = titles["properties"]  # what the models learned, and what they cost
    for name in experiments:
        if name in fixed or name == "flaws":
            yield f"experiments.{name}: a figure or table has this name; give the experiment another"
    for name, figure in report["figures"].items():
        place = f"report.figures.{name}"
        if name in own or name in fixed:
            yield f"{place}: another figure has this name; choose another"
        if figure is None:
            continue
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


def _recipe_contradictions(recipe: Mapping[str, Any]) -> Iterator[str]:
    """Yield what does not go together in a recipe, by its key; a setting that nothing reads is a mistake."""
    if ("epochs" in recipe) == ("updates" in recipe):
        yield "epochs: name either epochs, or updates and evaluations"
    if ("updates" in recipe) != ("evaluations" in recipe):
        yield "evaluations: goes with updates, and updates with it"
    if recipe["momentum"] and recipe["optimizer"] != "sgd":
        yield f"momentum: is sgd's; {recipe['optimizer']} has its own"
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
            f"recipes.{recipe}.evaluations: {training['evaluations']} of {training['updates']} updates"
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
