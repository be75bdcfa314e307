"""The study's configuration: read, checked and completed with its defaults.

No torch here: a Snakefile is parsed again inside every cluster job.
"""

import contextlib
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitcnn.contradictions import contradictions
from vitcnn.errors import StudyError
from vitcnn.schema import complete


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
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise StudyError(f"{path}: is no YAML: {error}") from error
        refuse_repeated_keys(path)
        if not isinstance(read, dict):
            raise StudyError(f"{path}: holds no configuration keys")
        config = extended(config, read)
    return check_config(config)


def refuse_repeated_keys(path: Path) -> None:
    """Raise StudyError if a YAML file has a key twice in one mapping, of which YAML's readers drop the first."""
    import yaml

    def visit(node: yaml.Node, place: str) -> None:
        lines: dict[str, int] = {}
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            name, line = f"{place}{key.value}", key.start_mark.line + 1
            if name in lines:
                raise StudyError(f"{path}, line {line}: {name} is there twice, first in line {lines[name]}")
            lines[name] = line
            visit(value, f"{name}.")
        for number, item in enumerate(node.value if isinstance(node, yaml.SequenceNode) else ()):
            visit(item, f"{place}{number}.")

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    # What is no YAML is for its reader to say.
    with contextlib.suppress(OSError, yaml.YAMLError, UnicodeDecodeError):
        visit(yaml.compose(path.read_text(encoding="utf-8"), loader), "")


def extended(config: dict[str, Any], by: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` extended `by` another: mappings are merged key by key, everything else is replaced."""
    both = {
        k: extended(config[k], v)
        for k, v in by.items()
        if isinstance(v, dict) and isinstance(config.get(k), dict)
    }
    return config | dict(by) | both


def check_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `config` with every default filled in.

    Raises StudyError with one line for each thing that is wrong.
    """
    config = copy.deepcopy(dict(config))
    # Names and sums are only worth checking where the shape is right. Two rules may say the same of a key.
    problems = list(dict.fromkeys(complete(config) or contradictions(config)))
    if problems:
        raise StudyError("The configuration cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    return _plain_numbers(config)


def _plain_numbers(value: Any) -> Any:
    """Write whole numbers as integers, so that `weight_decay: 0` and `0.0` are one spec."""
    if isinstance(value, Mapping):
        return {key: _plain_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
