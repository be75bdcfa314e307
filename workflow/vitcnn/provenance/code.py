"""The code behind an output, definition by definition, so that an edit makes stale only what depends on it.

Python's syntax tree shows which functions, classes and constants of this package a script reaches.
Comments, docstrings, formatting and the version of Python do not change their digests. A name that is
computed at run time (`import_module`) is invisible here: `record.chosen` lists those.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any, NamedTuple

from vitcnn.errors import StudyError

PACKAGE = Path(__file__).parents[1]
SCRIPTS = PACKAGE.parent / "scripts"
_DIGITS = 16
_UNSEEN = {"ctx", "kind", "type_comment", "type_ignores"}  # fields that change nothing when run
# Any other decorator may register its function in a table that other code reads.
_HARMLESS_DECORATORS = {
    "cache",
    "contextmanager",
    "dataclass",
    "inference_mode",
    "lru_cache",
    "no_grad",
    "wraps",
}


class Code(NamedTuple):
    """`definitions` maps `training/loop.py: train` to a digest; `packages` are the imports from outside."""

    definitions: dict[str, str]
    packages: frozenset[str]


class _Module(NamedTuple):
    label: str  # the path from the package: training/loop.py
    definitions: dict[str, list[ast.stmt]]
    effects: list[ast.stmt]  # what does something when the module is imported
    imports: dict[str, tuple[str, str | None]]  # a name here → the module, and the name in it


@cache
def code_of(script: str, chosen: tuple[tuple[str, str], ...] = ()) -> Code:
    """Return the code that `main` of `workflow/scripts/{script}.py` reaches, and that `chosen` reaches.

    `chosen` are modules of the package and a name in each. The script's own command line is no part
    of it. Files are read once per process. Raises StudyError for an import that cannot be followed.
    """
    reached: dict[tuple[str, str | None], str] = {}
    seen: set[tuple[str, str | None]] = set()
    packages: set[str] = set()
    queue: list[tuple[str, str | None]] = [(str(SCRIPTS / f"{script}.py"), "main"), *chosen]
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
            reached[module, part] = _digest(inner, module)
        for node in nodes:
            queue += _uses(node, module)
            for file in _data_files_named(node):
                reached[str(file), ""] = hashlib.sha256(file.read_bytes()).hexdigest()[:_DIGITS]
        if name is None:  # importing a module imports those it names
            queue += [(target, None) for target, _ in here.imports.values() if _file(target)]
            queue += [(module, "__getattr__")] if "__getattr__" in here.definitions else []
        elif not module.endswith(".py"):  # using a name imports its module, and the packages around it
            parts = module.split(".")
            queue += [(".".join(parts[: i + 1]), None) for i in range(len(parts))]
    return Code(
        {_label(*key): digest for key, digest in sorted(reached.items(), key=str)}, frozenset(packages)
    )


def _parts(name: str | None, nodes: list[ast.stmt]) -> Iterator[tuple[str | None, list[ast.stmt]]]:
    """Yield a definition whole, and a class method by method, so that reasons name the method."""
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
    if path is None:
        raise StudyError(f"{module}: is no module of the package")
    label = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else SCRIPTS.parent).as_posix()
    read = _Module(label, {}, [], {})
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        _sort(node, module, read)
    return read


def _sort(node: ast.stmt, module: str, read: _Module) -> None:
    """Add a statement of a module to its definitions, its imports, or what it does when imported."""
    if _is_text(node):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        for inner in node.orelse:
            _sort(inner, module, read)
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        read.imports.update(_imported(node, module))
        return
    plain = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    if plain and not all(_is_harmless(decorator) for decorator in node.decorator_list):
        read.effects.append(node)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        plain = not any(isinstance(n, ast.Attribute | ast.Subscript) for t in targets for n in ast.walk(t))
    if not plain:  # conditions, loops, assignments to what is elsewhere: they act, and they may define
        read.effects.append(node)
        read.imports.update(_imports_within(node, module))
    for name in _bound(node):
        read.definitions.setdefault(name, []).append(node)


def _bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement at the top of a module binds, wherever in it, once each."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    inner = list(ast.walk(node))
    names = {n.id for n in inner if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    yield from names | {n.name for n in inner if isinstance(n, ast.FunctionDef | ast.ClassDef)}


def _is_harmless(decorator: ast.expr) -> bool:
    """Return whether a decorator is known not to register what it decorates elsewhere."""
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(function).rpartition(".")[2] in _HARMLESS_DECORATORS


def _imported(node: ast.AST, module: str) -> dict[str, tuple[str, str | None]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.startswith(f"{PACKAGE.name}.") and not alias.asname:
                _refuse(node, module, "name what you use: from … import …")
        return {
            a.asname or a.name.partition(".")[0]: (a.name if a.asname else a.name.partition(".")[0], None)
            for a in node.names
        }
    if isinstance(node, ast.ImportFrom):
        source = _absolute(node, module)
        if any(alias.name == "*" for alias in node.names):
            _refuse(node, module, "name what you use in place of *")
        inner = {a: f"{source}.{a.name}" for a in node.names}
        return {
            a.asname or a.name: (inner[a], None) if _file(inner[a]) else (source, a.name) for a in node.names
        }
    return {}


def _absolute(node: ast.ImportFrom, module: str) -> str:
    """Return the module that a `from … import` names, also a relative one."""
    if not node.level:
        return node.module or ""
    package = module if _file(module).name == "__init__.py" else module.rpartition(".")[0]
    return resolve_name("." * node.level + (node.module or ""), package)


def _refuse(node: ast.stmt, module: str, advice: str) -> None:
    raise StudyError(
        f"{_file(module)}: line {node.lineno}: `{ast.unparse(node)}` hides which code is used, and so when "
        f"results are stale; {advice}"
    )


def _follow(module: str, name: str) -> list[tuple[str, str | None]]:
    """Return where a name leads that a module imports; nowhere for a built-in or a local one."""
    if name in _read(module).imports:
        return _reach(*_read(module).imports[name])
    inner = f"{module}.{name}"
    return _reach(inner, None) if _file(inner) else []


def _reach(module: str, name: str | None) -> list[tuple[str, str | None]]:
    if module.partition(".")[0] in sys.stdlib_module_names:
        return []
    if name is None and _file(module):  # the module itself is passed around: anything in it may be used
        return [(module, None), *((module, inner) for inner in _read(module).definitions)]
    return [(module, name)]


def _imports_within(node: ast.AST, module: str) -> dict[str, tuple[str, str | None]]:
    found: dict[str, tuple[str, str | None]] = {}
    for inner in ast.walk(node):
        found |= _imported(inner, module)
    return found


def _uses(node: ast.AST, module: str) -> Iterator[tuple[str, str | None]]:
    """Yield the definitions that the names in a statement lead to."""
    here = _read(module)
    imports = here.imports | _imports_within(node, module)
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
            if inner.id in imports:
                yield from _reach(*imports[inner.id])
        stack.extend(ast.iter_child_nodes(inner))


def _data_files_named(node: ast.AST) -> Iterator[Path]:
    """Yield the data files of the package that a text in `node` names, such as a table it reads."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and inner.value in _data_files(PACKAGE):
            yield _data_files(PACKAGE)[inner.value]


@cache
def _data_files(package: Path) -> dict[Any, Path]:
    files = (path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
    return {path.name: path for path in files}


def _digest(nodes: list[ast.stmt], module: str) -> str:
    """Return a digest of statements, and of what the names in them stand for that are imported."""
    meant = set()
    for node in nodes:
        imports = _read(module).imports | _imports_within(node, module)
        names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        meant |= {(name, *map(str, imports[name])) for name in names & imports.keys()}
    return hashlib.sha256(repr([*map(_plain, nodes), *sorted(meant)]).encode()).hexdigest()[:_DIGITS]


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
