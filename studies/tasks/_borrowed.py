"""Functions of other packages, taken out of their wheels without installing these.

What else such a file imports (data sets, cloud clients, other models) stays unread.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

if TYPE_CHECKING:
    from pathlib import Path

AT_HAND = {*sys.stdlib_module_names, "numpy", "torch"}


@dataclass(frozen=True)
class Wheel:
    """A package's wheel in a folder of them, as `pip download --no-deps` leaves it."""

    path: Path

    @property
    def title(self) -> str:
        """Name and version."""
        name, version = self.path.name.split("-")[:2]
        return f"{name.replace('_', '-')} {version}"

    def names(self, file: str, **given: Any) -> dict[str, Any]:
        """What a file of it defines, run with nothing but common libraries.

        Args:
            file: its path in the wheel.
            given: what stands in for what it imports from elsewhere.
        """
        with ZipFile(self.path) as content:
            tree = ast.parse(content.read(file))
        kept = [node for node in tree.body if _stands_alone(node)]
        for node in kept:
            if isinstance(node, ast.FunctionDef):
                node.decorator_list = []
        found = dict(given, __name__=file)
        future = ast.parse("from __future__ import annotations").body
        kept = [n for n in kept if getattr(n, "module", "") != "__future__"]
        exec(compile(ast.Module(future + kept, []), file, "exec"), found)
        return found


def wheel(folder: Path, name: str) -> Wheel:
    """The wheel of a package."""
    return Wheel(next(folder.glob(f"{name}-*.whl")))


def _stands_alone(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import):
        return all(each.name.split(".")[0] in AT_HAND for each in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in AT_HAND
    return isinstance(node, ast.FunctionDef | ast.ClassDef) or (
        isinstance(node, ast.Assign | ast.AnnAssign)
        and not any(isinstance(part, ast.Call) for part in ast.walk(node))
    )
