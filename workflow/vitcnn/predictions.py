"""What readers predict of the study: their files, read and checked, and sealed by digest and time.

A seal tells a class who predicted before the runs were trained. It is a note of good faith: whoever can write the
file of seals can change it.
"""

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from vitcnn import plan
from vitcnn.errors import StudyError, suggest
from vitcnn.files import file_digest, read_json, write_json
from vitcnn.locks import one_at_a_time
from vitcnn.schema import read_schema

FOLDER = Path("predictions")
SEALS = FOLDER / "seals.json"
VERSION = 1
CONFIDENCE = 0.8  # of who states none: as sure as a range of accuracy_gap_percent is meant
_NAMED_ALIKE = re.compile(r"\.ya?ml(\.txt)?$", re.I)
_NUMBERS = ("accuracy_gap_percent", "confidence", "vit_catches_up_at")


class Prediction(NamedTuple):
    """One reader's prediction of an `experiment`, and of its `models`, a ViT and a CNN by name.

    `gap` are the ends of a range, the same for a single number: points by which the predicted winner leads.
    `catches_up` is "never" or a train size as text, None if not predicted.
    """

    path: Path
    experiment: str
    models: tuple[str, str]
    winner: str
    faster: str
    gap: tuple[float, float]
    catches_up: str | None
    confidence: float
    is_stated: bool  # the confidence
    reasoning: str


def askable(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return what can be predicted of a checked configuration, as JSON.

    `experiment` and `sizes` are those of `predictions`; `experiments` holds all that belong to the whole study, so
    that scoring a prediction asks for no run that nothing else asks for.
    """
    experiments = {}
    for name in plan.active_experiments(study, optional=False):
        experiment = study["experiments"][name]
        experiments[name] = {
            "title": plan.title_of(study, name),
            "families": {model: study["models"][model]["family"] for model in experiment["models"]},
            "pairs": experiment.get("pairs"),
            **{key: experiment[key] for key in ("accuracy", "datasets", "train_sizes")},
            # only where each model is trained by several
            "recipes": experiment["recipe"] if isinstance(experiment["recipe"], list) else [],
        }
    return {**(study["predictions"] or {}), "experiments": experiments}


def prediction_files() -> list[Path]:
    """Return the files of all predictions in the working directory, by name."""
    return sorted(FOLDER.glob("[!.]*.yaml"))


def read_predictions(paths: Iterable[Path], asked: Mapping[str, Any]) -> list[Prediction]:
    """Return the predictions of what askable() returned.

    Raises StudyError with a line for each thing that is wrong in any of the files.
    """
    found, problems = [], []
    for path in paths:
        values = _read(path)
        wrong = list(values if isinstance(values, list) else _problems(values, asked))
        if not wrong:
            name = values.get("experiment", asked["experiment"])
            models, wrong = _models(name, values.get("models"), asked["experiments"][name])
        if wrong:
            problems += [f"{path}: {line}" for line in wrong]
            continue
        gap = values["accuracy_gap_percent"]
        size = values.get("vit_catches_up_at")
        found.append(
            Prediction(
                path,
                name,
                models,
                values["which_has_higher_accuracy"],
                values["which_trains_faster"],
                tuple(gap) if isinstance(gap, list) else (gap, gap),
                None if size is None else str(size),
                values.get("confidence", CONFIDENCE),
                "confidence" in values,
                values["reasoning"].strip(),
            )
        )
    if problems:
        raise StudyError("These predictions cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    return found


def predicted_experiments(paths: Sequence[Path], study: Mapping[str, Any]) -> tuple[list[str], str]:
    """Return the names of the experiments that predictions are about, and in words why they cannot be scored, or ""."""
    if not paths:
        return [], (
            "results/predictions.md: no prediction is sealed here; write predictions/NAME.yaml, as docs/lesson.md shows, "
            "and run `snakemake seal`"
        )
    asked = askable(study)
    try:
        found = read_predictions(paths, asked)
    except StudyError as error:
        return [], str(error)
    names = {p.experiment for p in found} | {asked["sizes"] for p in found if p.catches_up}
    return sorted(names), ""


def seal(asked: Mapping[str, Any], now: datetime) -> list[str]:
    """Seal each prediction in the working directory that is new or has changed; return in words what was done.

    `now` is a time in UTC. Raises StudyError, before anything is sealed, if there is no prediction, or if one of
    them cannot be used.
    """
    if "experiment" not in asked:
        raise StudyError(
            "predictions: is null in the configuration; say what is predicted, such as {experiment: curves, "
            "sizes: data_efficiency}"
        )
    paths = prediction_files()
    for path in sorted(FOLDER.glob("[!.]*")):
        if path not in paths and _NAMED_ALIKE.search(path.name):
            raise StudyError(f"{path}: is not read; name it {_NAMED_ALIKE.sub('.yaml', path.name)}")
    if not paths:
        raise StudyError(
            f"{FOLDER.absolute()}: holds no prediction; write NAME.yaml there, for which docs/lesson.md has an example"
        )
    read_predictions(paths, asked)
    said = []
    with one_at_a_time(SEALS.with_suffix(".lock")):
        seals = read_seals()
        for path in paths:
            last, digest = last_seal(seals, path), file_digest(path)
            if last and last["sha256"] == digest:
                said.append(f"{path}: sealed {last['sealed_at']}, and unchanged since")
                continue
            time = now.isoformat(timespec="seconds")
            seals.append({"file": path.name, "sha256": digest, "sealed_at": time})
            former = f" anew: it has changed since it was sealed {last['sealed_at']}" if last else ""
            said.append(f"{path}: sealed {time}{former}")
        write_json(SEALS, {"version": VERSION, "seals": seals}, "seals.schema.json")
    return said


def read_seals(path: Path = SEALS) -> list[dict[str, str]]:
    """Return every seal, in the order in which they were set; raises StudyError if their file is damaged."""
    if not path.exists():
        return []
    try:
        seals = read_json(path, "seals.schema.json")["seals"]
        for one in seals:
            datetime.fromisoformat(one["sealed_at"])
        return seals
    except (StudyError, ValueError) as error:
        where = "" if isinstance(error, StudyError) else f"{path}: "
        raise StudyError(
            f"{where}{error}. Restore it from a copy: sealed anew, predictions have a new time"
        ) from error


def last_seal(seals: Iterable[Mapping[str, str]], path: Path) -> Mapping[str, str] | None:
    """Return the last seal of a prediction, the one that counts: with a former, a reader could choose between two."""
    return next((one for one in reversed([*seals]) if one["file"] == path.name), None)


def _read(path: Path) -> Any:
    """Return what a file holds, numbers as numbers; in place of keys a list of what is wrong."""
    import yaml

    try:
        values = yaml.safe_load(path.read_bytes())
    except OSError as error:
        return [f"cannot be read: {error.strerror}"]
    except Exception as error:
        # PyYAML lets through what its values raise, such as KeyError for `!!bool maybe`.
        return [f"is no YAML: {' '.join(str(error).split()) or type(error).__name__}"]
    if not isinstance(values, dict):
        return ["holds no prediction, which is lines such as which_has_higher_accuracy: CNN"]
    values = {str(key): value for key, value in values.items()}
    for key in _NUMBERS:
        if key in values:
            value = values[key]
            values[key] = [*map(_number, value)] if isinstance(value, list) else _number(value)
    return values


def _number(value: Any) -> Any:
    """Return the number that the notebook's text stands for, "5" or "5%", a whole one as int; anything else as it is."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value.removesuffix("%"))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _problems(values: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the keys and values of a file."""
    from jsonschema import Draft202012Validator

    schema = read_schema("prediction.schema.yaml")
    sizes = asked["experiments"].get(asked["sizes"])
    tells = sizes and len(rivals(sizes)) == len(sizes["datasets"]) == 1 < len(sizes["train_sizes"])
    allowed = ["never", *sizes["train_sizes"]] if tells else []
    rules = schema["properties"] | {
        "experiment": _one_of(list(asked["experiments"])),
        "vit_catches_up_at": _one_of(allowed),
    }
    for key in schema["required"]:
        if key not in values:
            yield f"{key}: is missing; write {rules[key]['description']}"
    for key, value in values.items():
        if key not in rules:
            yield f"{key}: unknown key{suggest(key, rules)}"
        elif isinstance(value, str) and not value.strip("_ \n"):
            yield f"{key}: is not filled in; write {rules[key]['description']}"
        elif key == "vit_catches_up_at" and not allowed:
            yield (
                f"{key}: cannot be told, as {asked['sizes']} does not compare one ViT with one CNN on one dataset by "
                "several train_sizes; leave it out"
            )
        elif _is_not_finite(value) or not Draft202012Validator(rules[key]).is_valid(value):
            yield f"{key}: {value!r} is not {rules[key]['description']}"
        elif key == "accuracy_gap_percent" and isinstance(value, list) and not value[0] <= value[1] >= 0:
            yield f"{key}: {value!r} is no range for the lead of a winner; write the lower end first, the other 0 or more"
    if "experiment" not in values and asked["experiment"] not in asked["experiments"]:
        yield f"experiment: the study has no {asked['experiment']}; name {rules['experiment']['description']}"


def _one_of(names: Sequence[Any]) -> dict[str, Any]:
    return {"enum": names, "description": f"one of {', '.join(map(str, names))}"}


def _is_not_finite(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(isinstance(one, float) and not math.isfinite(one) for one in values)


def rivals(experiment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return each pair of a ViT and a CNN that an experiment of askable() compares."""
    families, compared = experiment["families"], experiment["pairs"]
    found = product(families, families) if compared is None else compared
    vit_first = (sorted(pair, key=lambda model: families[model] != "ViT") for pair in found)
    pairs = ((a, b) for a, b in vit_first if (families[a], families[b]) == ("ViT", "CNN"))
    return list(dict.fromkeys(pairs))


def _models(
    name: str, models: Sequence[str] | None, experiment: Mapping[str, Any]
) -> tuple[tuple[str, str], list[str]]:
    """Return the ViT and the CNN that a prediction is about, and what is wrong with that."""
    compared = rivals(experiment)
    shown = " or ".join(f"[{vit}, {cnn}]" for vit, cnn in compared) or "none"
    chosen = compared if models is None else [pair for pair in compared if set(pair) == set(models)]
    for what in ("dataset", "recipe"):
        if len(experiment[f"{what}s"]) > 1:
            return ("", ""), [f"experiment: {name} has several {what}s; name one that has a single {what}"]
    if models is None and len(chosen) != 1:
        return ("", ""), [f"models: is missing; the pairs of a ViT and a CNN that {name} compares: {shown}"]
    if not chosen:
        return ("", ""), [
            f"models: {list(models)} is no pair of a ViT and a CNN that {name} compares: {shown}"
        ]
    return chosen[0], []
