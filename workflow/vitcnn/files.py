"""Files that are either whole or absent: written under a temporary name, then renamed."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitcnn.errors import StudyError

if TYPE_CHECKING:
    import numpy as np
    from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parents[1] / "schemas"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; at the end it takes its name, on an error it is removed.

    The folder must exist: if a mount was lost, a new folder would be on the wrong disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write below into a StudyError that names `path`: NumPy's own errors do not."""
    try:
        yield
    except OSError as error:
        raise StudyError(
            f"{path}: could not be written ({error.strerror or error}); is there room on that disk, and may it be written to?"
        ) from error


def save_array(path: Path, array: "np.ndarray") -> None:
    """Save an array as .npy, atomically. Raises StudyError where that fails."""
    import numpy as np

    with writing(path), replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically; the folder is created if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any, schema: str | None = None) -> None:
    """Write `value` as indented JSON, atomically; with `schema`, only if it is valid by that file."""
    if schema:
        _validate(path, value, schema)
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, schema: str | None = None) -> Any:
    """Read a JSON file; with `schema`, the name of a file in `workflow/schemas`, check it too.

    Raises StudyError, naming the file and the place in it, if it is absent, damaged or invalid.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StudyError(f"{path}: is damaged ({error}); delete it to rebuild it") from error
    if schema:
        _validate(path, value, schema)
    return value


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def canonical_json(value: Any) -> str:
    """Return `value` as JSON on one line, keys sorted."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


@cache
def _validator(schema: str) -> "Draft202012Validator":
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads((SCHEMAS / schema).read_text(encoding="utf-8")))


def _validate(path: Path, value: Any, schema: str) -> None:
    if not find_spec("jsonschema"):  # on a bare machine; whoever collects the run checks its files again
        return
    errors = sorted(_validator(schema).iter_errors(value), key=lambda e: [str(s) for s in e.absolute_path])
    if errors:
        place = "/".join(str(step) for step in errors[0].absolute_path) or "the top level"
        raise StudyError(f"{path}: does not fit {schema}: at {place}: {errors[0].message}")
