"""What a search runs with, kept with its study: others that help it run with the same.

Other versions of what computes round otherwise, which is said; another kind of device,
or another type to compute in, gives other numbers, which is refused unless asked for.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from allocator.study.journal import ARITHMETIC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.study.journal import Journal

# an attribute of a study: versions of what its leading process computes with
RUNS_WITH = "runs with"
# packages whose version changes numbers; what else is installed does not
COMPUTES = ("allocate-vlm", "torch", "transformers", "numpy")


def versions() -> dict[str, str]:
    """Versions of what computes, in this process; "none" where it is missing."""
    return {name: _version(name) for name in COMPUTES}


def note(journal: Journal) -> None:
    """Keep with a study what this process runs with, which leads its search.

    Raises:
        StudyError: the storage cannot be written.
    """
    here = versions()
    if journal.attribute(RUNS_WITH) != here:
        journal.set_attribute(RUNS_WITH, here)


def compared(
    journal: Journal, arithmetic: str | None = None, *, mixed: bool = False
) -> tuple[list[str], str | None]:
    """What this process runs with, beside what leads the search of a study.

    Args:
        journal: the study.
        arithmetic: kind of device and type that this process computes in, such as
            "cuda/bfloat16" (`Setup.arithmetic`); None leaves that out.
        mixed: whether another kind or type was asked for.

    Returns:
        Warnings, a sentence each, and why this process must not help, or None.

    Raises:
        StudyError: the storage cannot be read.
    """
    warnings = _of_versions(journal)
    theirs = journal.attribute(ARITHMETIC)
    if arithmetic is None or theirs is None or theirs == arithmetic:
        return warnings, None
    told = (
        f"study {journal.name!r} is computed on {_words(theirs)}, and this process "
        f"computes on {_words(arithmetic)}: its numbers differ"
    )
    return ([*warnings, told], None) if mixed else (warnings, told)


def _of_versions(journal: Journal) -> list[str]:
    theirs: Mapping[str, Any] = journal.attribute(RUNS_WITH) or {}
    differ = [
        f"{name} {theirs[name]}, here {own}"
        for name, own in versions().items()
        if name in theirs and theirs[name] != own
    ]
    if not differ:
        return []
    return [
        f"study {journal.name!r} runs with {'; '.join(differ)}: numbers may differ in "
        "their last digits"
    ]


def _words(arithmetic: str) -> str:
    """Kind of device and type, for people.

    >>> _words("cuda/bfloat16")
    'cuda in bfloat16'
    """
    return " in ".join(arithmetic.split("/", 1))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
