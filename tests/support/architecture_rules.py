"""The rules of the program as functions of a folder: who may import whom, and what is never written.

The tables are docs and law in one: change them with the design, in the same commit. Each check yields
"path:line: what is wrong". test_architecture.py runs them on the program, and on a bad one to show that they can fail.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from catalog.families import KNOWN
from catalog.samplers import SAMPLERS

PACKAGES = ("contract", "catalog", "engine", "studio", "api", "tabs", "extensions", "training", "benchmarks")
MODULES = ("app", "launch")


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


TORCH = names("torch torchvision torchsde diffusers transformers accelerate peft xformers controlnet_aux spandrel")
WEB = names("gradio fastapi starlette uvicorn websockets http requests httpx aiohttp urllib.request")
Check = Callable[[Path], Iterator[str]]
WATCHED = TORCH | WEB | {"PIL", "numpy", "scipy", "sqlite3", "tomllib", "ray"}


class Layer(NamedTuple):
    """What one layer may import of the program and of the watched libraries; everything else is free."""

    anywhere: frozenset[str]
    lazily: frozenset[str] = frozenset()  # in a function, or for type checkers
    for_types: frozenset[str] = frozenset()  # under `if TYPE_CHECKING:` only


# DESIGN, section 2. The longest path that fits decides.
LAYERS = {
    "contract": Layer(names("contract"), for_types=names("torch")),
    "catalog": Layer(names("contract catalog")),
    "engine": Layer(names("contract catalog engine PIL numpy scipy") | TORCH),
    "studio": Layer(names("contract catalog studio PIL sqlite3 tomllib")),
    "studio/workers": Layer(names("contract catalog studio"), lazily=names("engine ray") | TORCH),
    "studio/downloads": Layer(names("contract catalog studio http")),
    "api": Layer(names("contract catalog studio api") | WEB - {"gradio"}),
    "tabs": Layer(names("contract catalog studio tabs") | WEB),
    "extensions": Layer(
        names("contract catalog extensions fastapi starlette"),
        lazily=names("gradio"),
        for_types=names("torch PIL numpy"),
    ),
    "extensions/*/engine.py": Layer(names("contract catalog extensions PIL numpy scipy") | TORCH),
    "training": Layer(names("contract catalog training PIL numpy scipy") | TORCH),
}
CONTRACT_LIBRARIES = names("pydantic pluggy")
# app.py is imported again by every spawned worker, so that what is heavy waits until it is called.
APP_LAZILY = names("api tabs engine studio.workers") | TORCH | WEB

# Calls and words that are never written. Each would undo a promise of DESIGN, section 5 or 6.
BANNED_CALLS = {
    "pickle.load": "a pickle runs code",
    "pickle.loads": "a pickle runs code",
    "pickle.Unpickler": "a pickle runs code",
    "shelve.open": "a shelf is a pickle",
    "eval": "text never runs",
    "exec": "text never runs",
    "os.system": "text never runs",
    "gr.ImageEditor": "uploads three pictures again on every status message",
}
BANNED_METHODS = dict.fromkeys(["extractall", "unpack_archive"], "an archive writes where it likes")
BANNED_KEYWORDS = {
    ("weights_only", False): "a pickle runs code",
    ("trust_remote_code", True): "a model runs no code",
    ("shell", True): "text never runs",
    ("share", True): "no share link",
    ("show_error", True): "details stay in the log",
    ("api_open", True): "gradio's own queue API stays shut",
}
BANNED_ARGUMENTS = {"allowed_paths": "pictures leave by record id only", "custom_pipeline": "a model runs no code"}
BANNED_LIBRARIES = names("requests httpx aiohttp")
BANNED_NAMES = names("utils util helpers helper common misc")
MOST_FILES = 20
MAY_PRINT = ("launch.py", "benchmarks/", "training/")
MAY_CATCH_ALL = (
    # Any failure of a job becomes its one ending event, or is tried again with less memory.
    "engine/engine.py",
    # Libraries raise whatever they like; each use says what that means.
    "engine/errors.py",
    "catalog/models.py",
    "studio/jobs/dispatcher.py",
    "studio/extension_calls.py",
    "studio/extension_probe.py",
    "studio/workers/",
    "app.py",
)
STATEFUL = names(
    "list dict set bytearray defaultdict OrderedDict Counter deque Lock RLock Condition Event Semaphore"
    " BoundedSemaphore Barrier Queue SimpleQueue LifoQueue PriorityQueue WeakValueDictionary WeakKeyDictionary WeakSet"
    " local ThreadPoolExecutor ProcessPoolExecutor connect count cycle"
)
CHANGING = names("append extend insert add update setdefault pop popitem remove discard clear sort reverse appendleft")


class Source(NamedTuple):
    """One parsed file."""

    path: str  # relative to the root, with forward slashes
    tree: ast.Module

    def at(self, node: ast.AST, message: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 0)}: {message}"


def sources(root: Path) -> Iterator[Source]:
    """Every Python file of the program, tests aside."""
    files = [file for name in PACKAGES for file in sorted((root / name).rglob("*.py"))]
    files += [root / f"{name}.py" for name in MODULES if (root / f"{name}.py").is_file()]
    for file in files:
        path = file.relative_to(root).as_posix()
        if "/tests/" not in path:
            yield Source(path, ast.parse(file.read_text(encoding="utf-8"), path))


# Imports


class Import(NamedTuple):
    node: ast.AST
    target: str  # studio.queue
    place: str  # "anywhere", "lazily" or "for_types"


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imported(node: ast.AST, path: str) -> list[str]:
    """The modules that one node imports, relative ones made absolute, `import_module("x")` too."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        package = path.split("/")[: -node.level] if node.level else []
        return [".".join(filter(None, [*package, node.module, alias.name])) for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
        return [part.value for part in node.args[:1] if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return []


def imports(source: Source) -> Iterator[Import]:
    def walk(node: ast.AST, place: str) -> Iterator[Import]:
        for target in imported(node, source.path):
            yield Import(node, target, place)
        for field, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST):
                    continue
                inside = place
                if is_type_checking(node) and field == "body":
                    inside = "for_types"
                elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and field == "body":
                    inside = "lazily"
                yield from walk(child, inside)

    yield from walk(source.tree, "anywhere")


def layer_of(path: str) -> Layer | None:
    if re.fullmatch(r"extensions/[^/]+/engine\.py", path):
        return LAYERS["extensions/*/engine.py"]
    fitting = [name for name in LAYERS if path.startswith(name + "/")]
    return LAYERS[max(fitting, key=len)] if fitting else None


def known(target: str) -> str:
    """The program package or watched library that a module belongs to; empty for all others."""
    parts = target.split(".")
    for name in (".".join(parts[:2]), parts[0]):
        if name in WATCHED or name in PACKAGES or name in MODULES or name == "tests":
            return name
    return ""


def import_violations(root: Path) -> Iterator[str]:
    for source in sources(root):
        layer = layer_of(source.path)
        if layer is None:
            continue
        for found in imports(source):
            name = known(found.target)
            allowed = layer.anywhere
            if found.place in ("lazily", "for_types"):
                allowed |= layer.lazily
            if found.place == "for_types":
                allowed |= layer.for_types
            if name and name not in allowed:
                where = {"anywhere": "", "lazily": " in a function", "for_types": " for types"}[found.place]
                yield source.at(found.node, f"imports {found.target}{where}")


def contract_violations(root: Path) -> Iterator[str]:
    """The contract needs the standard library, pydantic and pluggy; nothing else."""
    free = sys.stdlib_module_names | CONTRACT_LIBRARIES | {"contract"}
    for source in sources(root):
        for found in imports(source) if source.path.startswith("contract/") else ():
            if found.place != "for_types" and found.target.split(".")[0] not in free:
                yield source.at(found.node, f"imports {found.target}")


def app_violations(root: Path) -> Iterator[str]:
    for source in sources(root):
        for found in imports(source) if source.path == "app.py" else ():
            heavy = any(found.target == name or found.target.startswith(name + ".") for name in APP_LAZILY)
            if heavy and found.place == "anywhere":
                yield source.at(found.node, f"imports {found.target} at module level")


def neighbor_violations(root: Path) -> Iterator[str]:
    """One extension does not import another."""
    for source in sources(root):
        own = source.path.split("/")[:2]
        for found in imports(source) if own[0] == "extensions" else ():
            target = found.target.split(".")
            if target[0] == "extensions" and len(target) > 1 and len(own) > 1 and target[1] != own[1]:
                yield source.at(found.node, f"imports {found.target}, another extension")


# State


def is_stateful(value: ast.AST | None) -> bool:
    """An empty container, or a call that makes a container, a lock, a queue."""
    if isinstance(value, ast.List | ast.Set | ast.Dict):
        return not getattr(value, "elts", None) and not getattr(value, "keys", None)
    if isinstance(value, ast.Call):
        name = ast.unparse(value.func).split(".")[-1]
        return name in STATEFUL and not (name in ("list", "dict", "set") and (value.args or value.keywords))
    return False


def is_container(value: ast.AST | None) -> bool:
    made = isinstance(value, ast.Call) and ast.unparse(value.func) in ("list", "dict", "set")
    return made or isinstance(value, ast.List | ast.Set | ast.Dict | ast.ListComp | ast.SetComp | ast.DictComp)


def module_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run on import, also those under `if`, `try`, `with` and `for`."""
    for node in body:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for field in ("body", "orelse", "finalbody"):
                yield from module_statements(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from module_statements(handler.body)


def module_values(tree: ast.Module) -> Iterator[tuple[ast.stmt, str, ast.AST | None]]:
    """The names bound at module level, with their values."""
    for node in module_statements(tree.body):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield node, target.id, node.value


def changes(tree: ast.Module, name: str) -> Iterator[ast.AST]:
    """Where a container named `name` is changed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            if ast.unparse(node.value) == name:
                yield node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGING:
            if ast.unparse(node.func.value) == name:
                yield node


def state_violations(root: Path) -> Iterator[str]:
    """Nothing at module level but constants, and no `global`."""
    for source in sources(root):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Global):
                yield source.at(node, "has a global statement")
        for node in module_statements(source.tree.body):
            for decorator in getattr(node, "decorator_list", []):
                if re.match(r"(functools\.)?(lru_)?cache\b", ast.unparse(decorator)):
                    yield source.at(node, "keeps a cache at module level")
        for node, name, value in module_values(source.tree):
            if is_stateful(value):
                yield source.at(node, f"keeps state in {name} at module level")
            elif is_container(value):
                if not re.fullmatch(r"_?[A-Z][A-Z0-9_]*|__\w+__", name):
                    yield source.at(node, f"{name} can be changed: make it a tuple, a frozenset or a CONSTANT")
                yield from (source.at(change, f"changes the constant {name}") for change in changes(source.tree, name))


# Words that are never written


def is_main_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def print_violations(root: Path) -> Iterator[str]:
    for source in sources(root):
        if source.path.startswith(MAY_PRINT) or source.path.endswith("__main__.py"):
            continue
        main = {id(inner) for node in source.tree.body if is_main_block(node) for inner in ast.walk(node)}
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and id(node) not in main:
                yield source.at(node, "prints; use logging")


def banned_in_call(node: ast.Call) -> Iterator[str]:
    called = ast.unparse(node.func)
    if called in BANNED_CALLS:
        yield f"{called}: {BANNED_CALLS[called]}"
    if isinstance(node.func, ast.Attribute) and node.func.attr in BANNED_METHODS:
        yield f"{node.func.attr}: {BANNED_METHODS[node.func.attr]}"
    for keyword in node.keywords:
        pair = (keyword.arg or "", getattr(keyword.value, "value", None))
        if isinstance(pair[1], bool) and pair in BANNED_KEYWORDS:
            yield f"{pair[0]}={pair[1]}: {BANNED_KEYWORDS[pair]}"
        empty = isinstance(keyword.value, ast.List | ast.Tuple) and not keyword.value.elts
        if keyword.arg in BANNED_ARGUMENTS and not empty:
            yield f"{keyword.arg}: {BANNED_ARGUMENTS[keyword.arg]}"


def banned_violations(root: Path) -> Iterator[str]:
    for source in sources(root):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call):
                yield from (source.at(node, message) for message in banned_in_call(node))
        for found in imports(source):
            if found.target.split(".")[0] in BANNED_LIBRARIES:
                yield source.at(found.node, f"imports {found.target}; clients are for tests")


def catch_all_violations(root: Path) -> Iterator[str]:
    """Only these boundaries catch everything; elsewhere it is cleaned up and raised again."""
    for source in sources(root):
        if source.path.startswith((*MAY_CATCH_ALL, "training/", "benchmarks/")):
            continue
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else "BaseException"
            raised_again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if re.search(r"\b(Base)?Exception\b", caught) and not raised_again:
                yield source.at(node, f"catches {caught} and goes on")


def declaration_violations(root: Path) -> Iterator[str]:
    """A family's or a sampler's id is written where it is declared; elsewhere its declaration is read."""
    declared = (
        (frozenset(KNOWN), ("catalog/families/",)),
        # A family's and a model's defaults name a sampler, and so does a method of distillation.
        (
            frozenset(SAMPLERS),
            (
                "catalog/samplers.py",
                "catalog/schedules.py",
                "catalog/distilled.py",
                "catalog/families/",
                "training/",
                "benchmarks/",
            ),
        ),
    )
    for source in sources(root):
        for node in ast.walk(source.tree):
            for ids, places in declared:
                if isinstance(node, ast.Constant) and node.value in ids and not source.path.startswith(places):
                    yield source.at(node, f"names “{node.value}”, which is declared in {places[0]}")


def unit_of(path: str) -> str:
    """What is placed on a floor: a folder of a package, or a file that lies in the package itself."""
    parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
    return "/".join(parts[:2])


def folder_violations(root: Path) -> Iterator[str]:
    """Folders hold few files, and the folders and top files of one package import each other in one direction."""
    for folder in sorted({file.parent for name in PACKAGES for file in (root / name).rglob("*.*")}):
        count = sum(file.suffix in (".py", ".js", ".css") for file in folder.iterdir())
        if count > MOST_FILES:
            yield f"{folder.relative_to(root).as_posix()}: holds {count} files"
    units = {unit_of(source.path) for source in sources(root)}
    graph: dict[str, set[str]] = {unit: set() for unit in sorted(units)}
    for source in sources(root):
        own = unit_of(source.path)
        for found in imports(source):
            target = "/".join(found.target.split(".")[:2])
            if (
                target in units
                and target != own
                and target.split("/")[0] == own.split("/")[0]
                and found.place != "for_types"
            ):
                graph[own].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"folders import each other in a circle: {' -> '.join(reversed(error.args[1]))}"


def name_violations(root: Path) -> Iterator[str]:
    for folder in (*PACKAGES, "tests"):
        for path in sorted((root / folder).rglob("*")):
            if path.stem in BANNED_NAMES:
                yield f"{path.relative_to(root).as_posix()}: a name that says nothing"


# What the browser loads

EXTERNAL = re.compile(r"""(?:https?:|(?<=["'(=\s])(?=//\w))//[^\s"'`)<>]+""")
NAMESPACES = ("http://www.w3.org/",)


def asset_violations(root: Path) -> Iterator[str]:
    """Pages, styles and modules load nothing from outside, and say nothing of it."""
    for folder in ("tabs", "api", "extensions"):
        for file in sorted((root / folder).rglob("*")):
            if file.suffix not in (".js", ".css", ".html", ".svg"):
                continue
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                for found in EXTERNAL.findall(line):
                    if not found.startswith(NAMESPACES) and (file.suffix != ".js" or not found.startswith("//")):
                        yield f"{file.relative_to(root).as_posix()}:{number}: {found}"


CHECKS: tuple[Check, ...] = (
    import_violations,
    contract_violations,
    app_violations,
    neighbor_violations,
    state_violations,
    print_violations,
    banned_violations,
    catch_all_violations,
    declaration_violations,
    name_violations,
    folder_violations,
    asset_violations,
)
