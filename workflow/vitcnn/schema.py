"""The shape of a configuration: `schemas/config.schema.yaml`, and for a model's settings its builder's signature.

yaml and jsonschema are imported where a file is read and checked: a run of a spec needs neither.
"""

import ast
import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from vitcnn.data.sources import READERS
from vitcnn.errors import StudyError, suggest
from vitcnn.files import SCHEMAS
from vitcnn.models.registry import builder_family, parse_builder, resolve_builder

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

# What a builder's annotations mean for a value in config.yaml.
_ANNOTATIONS = {
    "int": {"type": "integer", "minimum": 1},
    "float": {"type": "number", "minimum": 0},
    "bool": {"type": "boolean"},
    "str": {"type": "string"},
    "list[int]": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 1}},
    "Probability": {"type": "number", "minimum": 0, "maximum": 1},
}


def complete(config: dict[str, Any]) -> list[str]:
    """Fill the defaults into a configuration, and return a line for each thing that has not its shape."""
    schema = copy.deepcopy(read_schema("config.schema.yaml"))
    _spell_out(schema, config)
    validator = _defaults_validator()(schema)
    return [line for error in _leaves(validator.iter_errors(config)) for line in _explain(error)]


@cache
def read_schema(name: str) -> dict[str, Any]:
    """Return a YAML file of `workflow/schemas`; not to be changed."""
    import yaml

    return yaml.safe_load((SCHEMAS / name).read_text(encoding="utf-8"))


def resolve(value: Any, dataset: str) -> Any:
    """Return the setting that holds for `dataset`: mappings by dataset are replaced by their entry."""
    if isinstance(value, Mapping):
        if dataset in value or "default" in value:
            return resolve(value.get(dataset, value.get("default")), dataset)
        return {key: resolve(inner, dataset) for key, inner in value.items()}
    return value


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
    positional = [a.arg for a in build.args.args if a.arg not in ("image_size", "num_classes")]
    if positional:
        raise StudyError(
            f"workflow/vitcnn/models/{builder}.py: build({positional[0]}): hyper-parameters are given by name; write a * "
            "before the first of them"
        )
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
            try:
                allowed["default"] = ast.literal_eval(default)
            except ValueError as error:
                raise StudyError(
                    f"workflow/vitcnn/models/{builder}.py: build({argument.arg}): its default "
                    f"{ast.unparse(default)} is not read, as the file is not run here; write the value itself"
                ) from error
        properties[argument.arg] = allowed | {"per_dataset": True}
    return properties, tuple(required)


def _builder_schema(entry: dict[str, Any], builder: str) -> dict[str, Any]:
    """Return the schema of a model: what a builder of our own takes is known, a library's says it when built."""
    properties, required = copy.deepcopy(_signature(builder))
    kinds = ["boolean", "number", "string", "array", "null"]
    plain = {"type": kinds, "per_dataset": True, "reads_text": True}
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


@cache
def _defaults_validator() -> Any:
    """Return a validator that fills in defaults as it goes, as the jsonschema FAQ describes.

    It also reads text where only something else is allowed: Snakemake hands over what stands inside
    `--config 'seeds=[7]'` as text, and YAML takes 1e-3 for text.
    """
    from jsonschema import Draft202012Validator, validators

    check = Draft202012Validator.VALIDATORS

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
                # Where any kind of value is allowed, text is what was typed.
                if subschema.get("else", subschema).get("reads_text"):
                    instance[key] = _read_all(instance[key])
                read_text(validator, instance, key, subschema)
        yield from check["additionalProperties"](validator, subschema, instance, schema)

    def items(validator, subschema, instance, schema):
        if isinstance(instance, list):
            for index in range(len(instance)):
                read_text(validator, instance, index, subschema)
        yield from check["items"](validator, subschema, instance, schema)

    own = {"properties": properties, "additionalProperties": additional_properties, "items": items}
    return validators.extend(Draft202012Validator, own)


def _read_all(value: Any) -> Any:
    if isinstance(value, str):
        return _read_scalar(value)
    if isinstance(value, dict):
        return {key: _read_all(inner) for key, inner in value.items()}
    return [_read_all(inner) for inner in value] if isinstance(value, list) else value


def _read_scalar(text: str) -> Any:
    import yaml

    for read in (yaml.safe_load, float):
        with contextlib.suppress(ValueError, yaml.YAMLError):
            if not isinstance(value := read(text), str):
                return value
    return text


def _leaves(errors: "Iterable[ValidationError]") -> "Iterator[ValidationError]":
    """Yield the errors that name a place: those inside if/then/else instead of around it."""
    for error in sorted(errors, key=lambda e: [str(step) for step in e.absolute_path]):
        if error.context and error.validator in ("if", "then", "else"):
            yield from _leaves(error.context)
        else:
            yield error


_KINDS = {  # what JSON Schema calls otherwise
    "array": "a list, such as [a, b]",
    "object": "a mapping of keys",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}


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
        expected = " or ".join(_KINDS[kind] for kind in ([rule] if isinstance(rule, str) else rule))
        yield f"{place}: {value!r} is not {expected}"
    elif error.validator == "enum":
        yield f"{place}: {value!r} is not one of {', '.join(map(str, rule))}{suggest(value, rule)}"
    elif error.validator in ("minItems", "minProperties"):
        count = f"has {len(value)} of at least {rule}" if value else "is empty; name at least one"
        yield f"{place}: {count}"
    elif error.validator == "uniqueItems":
        twice = sorted({str(item) for item in value if value.count(item) > 1})
        yield f"{place}: {', '.join(twice)} listed more than once"
    elif error.validator == "oneOf":
        choices = "; or ".join(" and ".join(choice["required"]) for choice in rule)
        yield f"{place}: needs exactly one of: {choices}"
    elif error.validator == "anyOf":  # of train_sizes, which alone has it
        yield f"{place}: {value!r} is neither a whole number above 0 nor all"
    elif error.validator == "pattern":
        yield f"{place}: {value!r} is no name; use lower-case letters, digits and underscores"
    else:
        yield f"{place}: {error.message}"
