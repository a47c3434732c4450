"""The rooms of the program: who may import whom, and how large anything may get."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ROOT = Path(__file__).parents[1]
PACKAGES = ("allocator", "quant", "evals", "surrogate")
# from the ground up: a room imports rooms above it in this list, and no others; those
# on one line stand side by side and never import each other
ROOMS = (
    ("allocator.core",),
    ("quant", "evals", "surrogate", "allocator.families", "allocator.embedded"),
    ("allocator.space",),
    ("allocator.strategies",),
    ("allocator.study",),
    ("allocator.bench",),
    ("allocator.exporters",),
    ("allocator.explain",),
    ("allocator.search",),
    ("allocator.tables",),
    ("allocator.report",),
    ("allocator.cli",),
    # the front door: the package's own file
    ("allocator",),
)
RANK = {room: place for place, rooms in enumerate(ROOMS) for room in rooms}
# the only rooms that may import a library, when the program runs
HOMES = {
    "transformers": {"allocator.families", "allocator.exporters"},
    "huggingface_hub": {"allocator.embedded"},
    "torch": {"allocator.families", "allocator.bench", "allocator.exporters", "quant"},
    "optuna": {"allocator.space", "allocator.strategies", "allocator.study"},
    "sklearn": {"surrogate"},
    "xgboost": {"surrogate"},
    "shap": {"surrogate"},
    "ray": {"allocator.search"},
    "rich": {"allocator.report", "allocator.cli"},
    "click": {"allocator.cli"},
    "cloup": {"allocator.cli"},
}
PLUGINS = ("allocator.families", "quant.methods", "evals.tasks", "evals.metrics")
LONGEST_FILE = 350
LONGEST_FUNCTION = 50

SOURCES = sorted(file for name in PACKAGES for file in (ROOT / name).rglob("*.py"))
EVERYTHING = sorted(
    [
        *SOURCES,
        *(f for name in ("tests", "studies") for f in (ROOT / name).rglob("*.py")),
    ]
)


def title(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


EACH_SOURCE = pytest.mark.parametrize("source", SOURCES, ids=title)
EACH_FILE = pytest.mark.parametrize("file", EVERYTHING, ids=title)


@dataclass(frozen=True)
class Import:
    """A module that is imported, and whether only a type checker sees it."""

    module: str
    typing: bool


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> frozenset[str]:
    return frozenset(module_of(file) for file in EVERYTHING)


def room_of(module: str) -> str:
    """The room a module of ours lies in: the longest name in the table."""
    names = module.split(".")
    starts = [".".join(names[:end]) for end in range(len(names), 0, -1)]
    return next(start for start in starts if start in RANK)


def read_imports(tree: ast.AST, typing: bool = False) -> list[Import]:
    """All imports of a file, those inside functions too."""
    found: list[Import] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, typing) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            base = node.module or ""
            whole = (f"{base}.{alias.name}" for alias in node.names)
            found += [
                Import(name if name in modules() else base, typing) for name in whole
            ]
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            # the other branch is no matter of types
            body, other = (ast.Module(part, []) for part in (node.body, node.orelse))
            found += read_imports(body, typing=True) + read_imports(other, typing)
        else:
            found += read_imports(node, typing)
    return found


@cache
def imports(file: Path) -> tuple[Import, ...]:
    return tuple(read_imports(ast.parse(file.read_bytes())))


def ours(file: Path) -> set[str]:
    """Modules of this program that a file imports, for types or to run."""
    names = {each.module for each in imports(file)}
    return {name for name in names if name.split(".")[0] in PACKAGES}


def may_import(here: str, other: str) -> bool:
    """Whether one room may import another."""
    return here == other or RANK[other] < RANK[here]


def misplaced(source: Path) -> list[str]:
    """Modules of ours that a file imports from a room it must not know."""
    here = room_of(module_of(source))
    return sorted(m for m in ours(source) if not may_import(here, room_of(m)))


def homeless(source: Path) -> list[str]:
    """Libraries that a file imports outside of their rooms."""
    here = room_of(module_of(source))
    tops = {each.module.split(".")[0] for each in imports(source) if not each.typing}
    return sorted(top for top in tops if top in HOMES and here not in HOMES[top])


@cache
def files_by_name() -> dict[str, Path]:
    """Every file by the name it is imported under."""
    return {module_of(file): file for file in EVERYTHING}


def files_imported(file: Path) -> set[Path]:
    """Files of ours that a file imports, for types or to run.

    Studies import those beside them by their bare names.
    """
    beside = ".".join(file.relative_to(ROOT).parts[:-1])
    known = files_by_name()
    found = set()
    for each in imports(file):
        names = [each.module]
        # elsewhere a bare name is a library's, which an exporter may share
        if beside.startswith("studies"):
            names.append(f"{beside}.{each.module}")
        found |= {known[name] for name in names if name in known}
    return found - {file}


def circle(graph: Mapping[Any, Collection[Any]]) -> list[Any]:
    """The members of one circle, of any length, or none."""
    left = {node: set(others) for node, others in graph.items()}
    # what imports nothing that is left is in no circle
    while free := [node for node, others in left.items() if not others & left.keys()]:
        for node in free:
            del left[node]
    if not left:
        return []
    walk = [next(iter(left))]
    while (step := next(iter(left[walk[-1]] & left.keys()))) not in walk:
        walk.append(step)
    return walk[walk.index(step) :]


def longest_functions(tree: ast.AST) -> list[str]:
    """Functions with too many lines, decorators left out."""
    return [
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]


@EACH_SOURCE
def test_imports_point_down(source: Path) -> None:
    assert misplaced(source) == []


@EACH_SOURCE
def test_each_library_stays_in_its_rooms(source: Path) -> None:
    assert homeless(source) == []


@EACH_SOURCE
def test_every_file_lies_in_a_room(source: Path) -> None:
    module = module_of(source)
    # no other file lies at the front door
    assert room_of(module) != "allocator" or module == "allocator"


def test_the_front_door_opens_on_few_rooms() -> None:
    entries = {f.name for f in (ROOT / "allocator").iterdir()} - {"__pycache__"}
    assert len(entries) <= 15
    assert {"__init__.py", "py.typed"} <= entries


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {file: files_imported(file) for file in EVERYTHING}
    assert [title(file) for file in circle(graph)] == []


@pytest.mark.parametrize("package", PLUGINS)
def test_plugins_of_a_kind_never_import_each_other(package: str) -> None:
    plugins = {
        module_of(file): file
        for file in (ROOT / package.replace(".", "/")).glob("*.py")
        if not file.name.startswith("_")
    }
    assert plugins
    for module, file in plugins.items():
        assert not ours(file) & (plugins.keys() - {module})


@EACH_FILE
def test_no_file_is_too_long(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= LONGEST_FILE


@EACH_FILE
def test_no_function_is_too_long(file: Path) -> None:
    assert longest_functions(ast.parse(file.read_bytes())) == []


def test_rooms_know_what_is_below_them_and_nothing_else() -> None:
    assert may_import("allocator.cli", "allocator.search")
    assert may_import("allocator.report", "allocator.study")
    assert may_import("allocator.strategies", "allocator.space")
    assert may_import("quant", "allocator.core")
    assert may_import("allocator", "allocator.report")
    assert not may_import("allocator.search", "allocator.report")
    assert not may_import("allocator.explain", "allocator.search")
    assert not may_import("allocator.core", "quant")
    assert not may_import("quant", "evals")
    assert not may_import("allocator.families", "quant")
    assert not may_import("allocator.cli", "allocator")


def test_circles_are_found_whatever_their_length() -> None:
    assert circle({"a": ["b"], "b": ["c"], "c": []}) == []
    assert set(circle({"a": ["b"], "b": ["a"], "c": ["a"]})) == {"a", "b"}
    long = {"top": ["a"], "a": ["b"], "b": ["c"], "c": ["d", "x"], "d": ["a"], "x": []}
    assert set(circle(long)) == {"a", "b", "c", "d"}


def test_what_lies_beside_a_study_is_seen_by_its_bare_name() -> None:
    folder = ROOT / "studies" / "published"
    assert folder / "cases.py" in files_imported(folder / "figures.py")
    assert folder / "cases.py" in files_imported(folder / "reproduce.py")


def test_imports_are_found_wherever_they_stand() -> None:
    text = (
        "from typing import TYPE_CHECKING\n"
        "from allocator.core import spec, nothing\n"
        "if TYPE_CHECKING:\n"
        "    import torch\n"
        "else:\n"
        "    import shap.plots\n"
        "def f():\n"
        "    try:\n"
        "        from quant.bank import Bank\n"
        "    except ImportError:\n"
        "        import xgboost as x\n"
    )
    assert read_imports(ast.parse(text)) == [
        Import("typing", False),
        # a name that is a module is the module
        Import("allocator.core.spec", False),
        Import("allocator.core", False),
        Import("torch", True),
        Import("shap.plots", False),
        Import("quant.bank", False),
        Import("xgboost", False),
    ]


def test_a_function_is_measured_from_def_to_its_last_line() -> None:
    fits = "def fits():\n" + "    x = 1\n" * 49
    late = "@decorator\ndef late():\n" + "    x = 1\n" * 50
    assert longest_functions(ast.parse(fits + late)) == ["late (51 lines)"]
