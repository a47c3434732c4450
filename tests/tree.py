"""The tree of ARCHITECTURE.md, as the files tell it.

    git add NEW FILES && python tests/tree.py

Writes ARCHITECTURE.md anew with a line for every file of the four packages, with what
the file says of itself in its first line, and one for every folder of tests and
studies; `tests/test_architecture.py` holds ARCHITECTURE.md against it.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path, PurePosixPath

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.check_files import ROOT, tracked

PACKAGES = ("allocator", "quant", "evals", "surrogate")
COLUMN = 34
TITLE = "## Tree\n\nMade by `python tests/tree.py`.\n\n```\n"
# what cannot say it of itself: files that are no Python, and folders
OTHERS = {
    "allocator/py.typed": "Says that the packages have types.",
    "allocator/embedded/tiny-blip2/": "BLIP-2 of 377,000 parameters, and its twin.",
    "allocator/embedded/tiny-llava/": "LLaVA of 249,000 parameters.",
    "allocator/report/page.css": "How a page looks, on paper and on dark screens.",
    "allocator/report/page.js": "How its charts answer the pointer.",
    "evals/README.md": "How data are given, metrics, layouts of official files.",
    "evals/data/": "Tables of the official VQA and caption evaluations.",
    "tests/": "Mirrors the rooms.",
    "tests/benchmarks/": "They measure: python -m tests.benchmarks.NAME.",
    "tests/contracts/": "What holds for every plug-in, whoever wrote it.",
    "tests/end_to_end/": "The commands as a user types them.",
    "tests/faults/": "Kills, full disks, short memory, files that hang, damage.",
    "tests/fuzz/": "Every reader is given damaged inputs.",
    "tests/security/": "What is executed, bounds, places, planted secrets.",
    "tests/studies/": "What the scripts in studies/ rest on.",
    "studies/": "Experiments, the failed ones too: LOG.md. Not installed.",
    "studies/bank/": "Larger than memory, kills, errors on held-out activations.",
    "studies/embedded/": "How the small models were made, and what they lose.",
    "studies/published/": "Measurements of others, with their source.",
    "studies/results/": "Figures as they were measured.",
    "studies/rivals/": "Ours and others' allocations at equal stored bytes.",
    "studies/search/": "Strategies compared.",
    "studies/statistics/": "Intervals, looks, optimism, importance: simulated.",
    "studies/families/": "Which architectures are read, and how far.",
    "studies/export/": "Formats times models, in the runtimes that load them.",
    "studies/tuning/": "Learned rounding beside auto-round's, and at 7B width.",
    "studies/gpu/": "What the pieces of a large search take on an accelerator.",
    "studies/scale/": "Large models, counted: samples, swaps, bytes, hours.",
    "studies/tasks/": "What tasks and families were checked against.",
}


def first_line(file: Path) -> str:
    """What a Python file says of itself."""
    told = ast.get_docstring(ast.parse(file.read_bytes())) or ""
    return told.split("\n", maxsplit=1)[0]


def described(name: str) -> str:
    """The name under which a file stands in the tree: its own, or its folder's."""
    path = PurePosixPath(name)
    for folder in path.parents:
        if f"{folder}/" in OTHERS and folder.parts[0] in PACKAGES:
            return f"{folder}/"
    if path.parts[0] in PACKAGES:
        return f"{path.parent}/" if path.name == "__init__.py" else name
    # of tests and studies folders alone
    return "/".join(path.parts[:2][: len(path.parts) - 1]) + "/"


def told_of(name: str) -> str:
    """What a file or a folder is."""
    if name in OTHERS:
        return OTHERS[name]
    top, _, rest = name.partition("/")
    if top == "tests":
        # a package, or a room of allocator
        return f"Of {rest if rest[:-1] in PACKAGES else f'allocator/{rest}'}"
    file = ROOT / name
    return first_line(file / "__init__.py" if name.endswith("/") else file)


def line_of(name: str) -> str:
    """A file or a folder, indented below its folder, with what it is."""
    path = PurePosixPath(name)
    shown = "  " * (len(path.parts) - 1) + path.name + "/" * name.endswith("/")
    return f"{shown:<{COLUMN}}{told_of(name)}"


def tree(names: list[str]) -> list[str]:
    """The lines of the tree, folder by folder, packages first."""
    found = {described(name) for name in names}
    tops = [*PACKAGES, "tests", "studies"]

    def place(name: str) -> tuple[int, list[tuple[bool, str]]]:
        *folders, last = PurePosixPath(name).parts
        # a folder's own files before the folders in it
        steps = [*((True, part) for part in folders[1:])]
        steps.append((name.endswith("/"), last))
        return tops.index(PurePosixPath(name).parts[0]), steps if folders else []

    return [line_of(name) for name in sorted(found, key=place)]


def made() -> list[str]:
    """The tree of the repository as it is."""
    listed = [n for n in tracked() if n.startswith((*PACKAGES, "tests", "studies"))]
    return tree([name for name in listed if "/" in name])


def main() -> None:
    """Put the tree into ARCHITECTURE.md."""
    file = ROOT / "ARCHITECTURE.md"
    head, fence, _ = file.read_text().rpartition(
        "## Tree\n\nMade by `python tests/tree.py`.\n\n```\n"
    )
    file.write_text(head + fence + "\n".join([*made(), "```"]) + "\n")


if __name__ == "__main__":
    main()
