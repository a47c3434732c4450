"""What an export format has to give, and what has read it again."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Sample

# of an exporter that is asked nothing
NO_OPTIONS: Mapping[str, Sequence[str]] = MappingProxyType({})


@dataclass(frozen=True)
class Tolerance:
    """How far what a loader reads may be from what was written.

    `weights` in steps of their grids (0: equal to the last bit), `logits` in parts of
    their range; codes are always the same.
    """

    weights: float = 0.0
    logits: float = 1e-5


# of a loader that computes in float32
EXACT = Tolerance()


def installed(*distributions: str) -> str | None:
    """Libraries with their versions; None where one of them is not installed.

    >>> installed("no-such-library")
    """
    try:
        return ", ".join(f"{name} {version(name)}" for name in distributions)
    except PackageNotFoundError:
        return None


class Reopened(Protocol):
    """What was written, as the runtime that it is for has read it."""

    @property
    def loader(self) -> str:
        """Who read it, with versions: "transformers 5.24.0"."""

    @property
    def tolerance(self) -> Tolerance:
        """What of it depends on the loader and the type it computes in."""

    def weight(self, linear: str) -> Any:
        """Effective weight of a linear below 16 bits: [out, in] float32."""

    def logits(self, samples: Sequence[Sample]) -> Any | None:
        """Logits of the next token behind prompts: [samples, vocabulary] float32.

        None where this loader only reads. Never asked of an export that is `large`.
        """


class Exporter(Protocol):
    """A format that something else reads: one file in `allocator.exporters`.

    `export` is an `allocator.exporters._export.Export`: the plan as plain data
    (`export.plan`), where it comes from, and (`export.checkpoint`, made when first
    asked for) everything that belongs into a checkpoint.
    """

    @property
    def description(self) -> str:
        """What it writes, in a few words."""

    @property
    def options(self) -> Mapping[str, Sequence[str]]:
        """What else it can be asked: values by name, such as those of "scales"."""

    def loader(self) -> str | None:
        """Who would read it again here, with versions; None: a reader of our own."""

    def layout(self, export: Any) -> str | None:
        """Whose sizes count, of `allocator.core.targets.LAYOUTS`.

        May depend on the target of the search and on the options alone (`export.target`
        and `export.options`). None: it writes no weights that a runtime loads.
        """

    def check(self, export: Any) -> None:
        """Refuse what the format cannot hold, before anything is written.

        Raises:
            SpecError: says which part, why, and what would do.
        """

    def write(self, export: Any, out: Path, tick: Callable[[int, int], object]) -> None:
        """Write into an empty folder; `tick` is told the linears done and in all."""

    def stored(self, out: Path) -> int | None:
        """Bytes of all tensors it has written, as the files say; None: no tensors."""

    def reopen(self, export: Any, out: Path) -> Reopened | None:
        """Open what was written in the runtime's own loader, or else by a reader.

        Where `export.large`, without decoding more than a linear at a time.

        Raises:
            ModelError: the loader misses something, or was given what it does not know.
        """

    def usage(self, export: Any) -> str:
        """How to load it: Python that runs as printed beside the folder, "{out}"."""
