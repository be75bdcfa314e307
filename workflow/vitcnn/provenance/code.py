"""The code behind an output, definition by definition, so that an edit makes stale what it can change.

Python's own syntax tree says which functions, classes and constants of this package a script reaches.
Each has a digest that comments, docstrings, formatting and the version of Python leave alone. What is
reached by a computed name (`import_module`) is not seen: `record.chosen` names it.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parents[1]
SCRIPTS = PACKAGE.parent / "scripts"
_DIGITS = 16
_UNSEEN = {"ctx", "kind", "type_comment", "type_ignores"}  # fields that change nothing when run
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


class Code(NamedTuple):
    """`definitions` maps `training/loop.py: train` to a digest; `packages` are the imports from outside."""

    definitions: dict[str, str]
    packages: frozenset[str]


class _Module(NamedTuple):
    folder: Path
    label: str  # the path from the package: training/loop.py
    definitions: dict[str, list[ast.stmt]]
    effects: list[ast.stmt]  # what runs on import beside definitions
    imports: dict[str, tuple[str, str | None]]  # a name here → the module, and the name in it


@cache
def code_of(script: str, chosen: tuple[tuple[str, str], ...] = ()) -> Code:
    """Return the code that `main` of `workflow/scripts/{script}.py` reaches, and that `chosen` reaches.

    `chosen` are modules of the package and a name in each. The script's own command line is no part
    of it. Files are read once per process.
    """
    reached: dict[tuple[str, str | None], str] = {}
    seen: set[tuple[str, str | None]] = set()
    packages: set[str] = set()
    queue: list[tuple[str, str | None]] = [(str(SCRIPTS / f"{script}.py"), "main")]
    queue += chosen
    while queue:
        module, name = queue.pop()
        if (module, name) in seen:
            continue
        seen.add((module, name))
        if not _file(module):
            packages.add(module.partition(".")[0])
            continue
        here = _read(module)
        if name is not None and name not in here.definitions:
            queue += _follow(module, name)
            continue
        nodes = here.effects if name is None else here.definitions[name]
        for part, inner in _parts(name, nodes):
            reached[module, part] = _digest(inner)
        for node in nodes:
            queue += _uses(node, module)
            for file in _files_named(node, here.folder):
                reached[str(file), ""] = hashlib.sha256(file.read_bytes()).hexdigest()[:_DIGITS]
        if name is not None and name != "main":  # importing a module runs it, and its packages'
            parts = module.split(".")
            queue += [(".".join(parts[: i + 1]), None) for i in range(len(parts))]
    return Code(
        {_label(*key): digest for key, digest in sorted(reached.items(), key=str)}, frozenset(packages)
    )


def _parts(name: str | None, nodes: list[ast.stmt]) -> Iterator[tuple[str | None, list[ast.stmt]]]:
    """Yield a definition as it is, a class in its methods and what is left of it, for words that say more."""
    if len(nodes) == 1 and isinstance(nodes[0], ast.ClassDef):
        functions = [n for n in nodes[0].body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        rest = [n for n in nodes[0].body if n not in functions]
        yield name, [ast.ClassDef(**(dict(ast.iter_fields(nodes[0])) | {"body": rest}))]
        for function in {n.name: n for n in functions}:
            yield f"{name}.{function}", [n for n in functions if n.name == function]
    elif nodes:
        yield name, nodes


def _label(module: str, name: str | None) -> str:
    if name == "":
        return Path(module).relative_to(PACKAGE).as_posix()
    return f"{_read(module).label}: {name or 'module level'}"


def _file(module: str) -> Path | None:
    """Return the file of a module of this package, or of a script; None for any other module."""
    if module.endswith(".py"):
        return Path(module)
    parts = module.split(".")
    if parts[0] != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*parts[1:])
    return next((f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()), None)


@cache
def _read(module: str) -> _Module:
    path = _file(module)
    assert path, f"{module}: is no module of this package"
    label = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else SCRIPTS.parent).as_posix()
    definitions: dict[str, list[ast.stmt]] = {}
    effects: list[ast.stmt] = []
    imports: dict[str, tuple[str, str | None]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= _imported(node)
        elif isinstance(node, _DEFINITIONS):
            for name in _defined(node):
                definitions.setdefault(name, []).append(node)
        elif not _is_text(node) and not (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ):
            effects.append(node)
    return _Module(path.parent, label, definitions, effects, imports)


def _defined(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a definition binds; `a.b = c` counts as one of `a`."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    else:
        yield node.name


def _imported(node: ast.AST) -> dict[str, tuple[str, str | None]]:
    if isinstance(node, ast.Import):
        return {
            a.asname or a.name.partition(".")[0]: (a.name if a.asname else a.name.partition(".")[0], None)
            for a in node.names
        }
    if isinstance(node, ast.ImportFrom):
        assert not node.level, "relative imports are not followed"
        module = node.module or ""
        inner = {a: f"{module}.{a.name}" for a in node.names}
        return {
            a.asname or a.name: (inner[a], None)
            if _file(inner[a]) and module.startswith(PACKAGE.name)
            else (module, a.name)
            for a in node.names
        }
    return {}


def _follow(module: str, name: str) -> list[tuple[str, str | None]]:
    """Return where a name leads that a module imports; nowhere for a built-in or a local one."""
    if name in _read(module).imports:
        target, inner = _read(module).imports[name]
        return _reach(target, inner)
    inner_module = f"{module}.{name}"
    return _reach(inner_module, None) if _file(inner_module) else []


def _reach(module: str, name: str | None) -> list[tuple[str, str | None]]:
    if module.partition(".")[0] in sys.stdlib_module_names:
        return []
    if name is None and _file(module):  # the module itself is handed around: anything in it may be used
        return [(module, None), *((module, inner) for inner in _read(module).definitions)]
    return [(module, name)]


def _uses(node: ast.AST, module: str) -> Iterator[tuple[str, str | None]]:
    """Yield the definitions that the names in a statement lead to."""
    here = _read(module)
    imports = dict(here.imports)
    for inner in ast.walk(node):
        imports |= _imported(inner)
    stack = [node]
    while stack:
        inner = stack.pop()
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
            target, name = imports.get(inner.value.id, ("", None))
            if target and name is None and _file(target):
                yield target, inner.attr
                continue
        if isinstance(inner, ast.Name):
            if inner.id in here.definitions:
                yield module, inner.id
            elif inner.id in imports:
                yield from _reach(*imports[inner.id])
        stack.extend(ast.iter_child_nodes(inner))


def _files_named(node: ast.AST, folder: Path) -> Iterator[Path]:
    """Yield the data files beside a module that a text in `node` names, such as a table it reads."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and "." in inner.value[1:]:
            file = folder / inner.value
            if len(inner.value) < 100 and file.suffix != ".py" and file.is_file():
                yield file


def _digest(nodes: Iterable[ast.AST]) -> str:
    return hashlib.sha256(repr([_plain(node) for node in nodes]).encode()).hexdigest()[:_DIGITS]


def _plain(value: Any) -> Any:
    """Return a syntax tree as lists without positions, texts that do nothing, and empty fields.

    Versions of Python differ in which empty fields a node has, and in empty pieces of f-strings.
    """
    if isinstance(value, ast.JoinedStr):
        value = ast.JoinedStr([piece for piece in value.values if getattr(piece, "value", None) != ""])
    if isinstance(value, ast.AST):
        fields = ((name, _plain(inner)) for name, inner in ast.iter_fields(value) if name not in _UNSEEN)
        return [type(value).__name__, *(field for field in fields if field[1] not in (None, []))]
    if isinstance(value, list):
        return [_plain(inner) for inner in value if not _is_text(inner)]
    return f"{type(value).__name__} {value!r}" if value is not None else None


def _is_text(node: Any) -> bool:
    """Return whether a statement is a text alone, such as a docstring."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
