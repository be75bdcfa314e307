"""What `models.NAME.builder` in config.yaml can name: a file here, or a model of timm or torchvision.

A name is resolved here for all that ask: the configuration and its schema, training, and the records of
what a run was made of. No library is imported: names and signatures are read from source files.
"""

import ast
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from vitcnn.errors import StudyError, suggest

FOLDER = Path(__file__).parent


class Builder(NamedTuple):
    """`module` has the function build(), which takes `arguments` beside a model's hyper-parameters."""

    module: str
    arguments: Mapping[str, str] = MappingProxyType({})


class Library(NamedTuple):
    """`module` builds a library's models; `registered` is a pattern for the names of models in its files."""

    module: str
    registered: str


LIBRARIES = {
    "timm": Library("from_timm", r"^@register_model\ndef (\w+)\("),
    "torchvision": Library("from_torchvision", r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\("),
}
# What cannot be asked of a library's model, and why.
_SCRATCH = "every model is trained from scratch"
_DATASETS = "is taken from the dataset"
REFUSED = {
    "timm": {
        "pretrained": _SCRATCH,
        "pretrained_cfg": _SCRATCH,
        "pretrained_cfg_overlay": _SCRATCH,
        "checkpoint_path": _SCRATCH,
        "features_only": "a model must return logits, not lists of features",
        "img_size": _DATASETS,
        "num_classes": _DATASETS,
        "in_chans": "images have three channels",
    },
    "torchvision": {
        "weights": _SCRATCH,
        "weights_backbone": _SCRATCH,
        "pretrained": _SCRATCH,
        "pretrained_backbone": _SCRATCH,
        "image_size": _DATASETS,
        "input_size": _DATASETS,
        "num_classes": _DATASETS,
    },
}


@cache
def builders() -> tuple[str, ...]:
    """Return the names of the project's own builders: the files here that define build()."""
    files = FOLDER.glob("[!_]*.py")
    own = {file.stem for file in files if _has_build(file)}
    return tuple(sorted(own - {library.module for library in LIBRARIES.values()}))


def _has_build(file: Path) -> bool:
    return bool(re.search(r"^def build\(", file.read_text(encoding="utf-8"), re.MULTILINE))


@cache
def architectures(library: str) -> frozenset[str]:
    """Return the names of the models that an installed library has. Raises StudyError where it is not installed."""
    spec = find_spec(library)
    if spec is None or spec.origin is None:
        raise StudyError(f"{library} is not installed; envs/lock.txt has it")
    files = (Path(spec.origin).parent / "models").glob("*.py")
    registered = re.compile(LIBRARIES[library].registered, re.MULTILINE)
    return frozenset(name for file in files for name in registered.findall(file.read_text(encoding="utf-8")))


def resolve_builder(name: str) -> Builder:
    """Return the builder of a name: `vit`, `timm:resnet18`, `torchvision:resnet18`.

    Raises StudyError, with the nearest name there is, for one that leads nowhere.
    """
    library, colon, architecture = name.partition(":")
    if not colon:
        if name not in builders():
            if (file := FOLDER / f"{name}.py").exists() and not _has_build(file):
                raise StudyError(
                    f"workflow/vitcnn/models/{name}.py has no function build(*, image_size, num_classes, ...)"
                )
            raise StudyError(
                f"there is no {name}{suggest(name, builders()) or '.'} Builders are the files of "
                f"workflow/vitcnn/models: {', '.join(builders())}; and timm:NAME and torchvision:NAME."
            )
        return Builder(f"vitcnn.models.{name}")
    if library not in LIBRARIES:
        raise StudyError(
            f"{library} is no library of models{suggest(library, LIBRARIES) or '.'} "
            f"There are {' and '.join(LIBRARIES)}."
        )
    if architecture not in architectures(library):
        raise StudyError(
            f"{library} has no model {architecture}{suggest(architecture, architectures(library))}"
        )
    return Builder(f"vitcnn.models.{LIBRARIES[library].module}", {"architecture": architecture})


def refused(name: str, hyper_parameter: str) -> str | None:
    """Return why a builder's hyper-parameter cannot be set, or None if it can."""
    return REFUSED.get(name.partition(":")[0], {}).get(hyper_parameter)


@cache
def builder_family(name: str) -> str:
    """Return the constant FAMILY of a builder's file, or "other" where it has none."""
    for node in parse_builder(name).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FAMILY":
            return str(ast.literal_eval(node.value))
    return "other"


def parse_builder(name: str) -> ast.Module:
    """Return the syntax tree of a builder's file, which is not imported: that would import torch."""
    file = FOLDER / f"{resolve_builder(name).module.rpartition('.')[2]}.py"
    try:
        return ast.parse(file.read_text(encoding="utf-8"), str(file))
    except SyntaxError as error:
        raise StudyError(f"{file}: line {error.lineno}: {error.msg}") from error
