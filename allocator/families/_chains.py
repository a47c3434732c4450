"""Rows of blocks: lists whose elements are called one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from allocator.families._places import stacks
from allocator.families._watching import first_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allocator.families._watching import Call, Watched


@dataclass(frozen=True)
class Chain:
    """Blocks in a row: the full name of their list, and their calls."""

    path: str
    blocks: tuple[Call, ...]

    @property
    def given(self) -> int:
        """Sources of what the first block reads."""
        return self.blocks[0].given

    @property
    def gave(self) -> int:
        """Sources of what any block gives."""
        found = 0
        for block in self.blocks:
            found |= block.gave
        return found


def lists_of(module: nn.Module) -> dict[str, list[str]]:
    """Lists that may be rows: by full name, the full names of their elements."""
    return {
        path: [f"{path}.{name}" for name, _ in child.named_children()]
        for path, child in module.named_modules()
        if path and isinstance(child, nn.ModuleList | nn.Sequential) and _holds(child)
    }


def _holds(elements: nn.ModuleList | nn.Sequential) -> bool:
    """Whether elements hold linears, and none is called twice."""
    alike = len({type(each) for each in elements}) == 1
    return (
        len({id(each) for each in elements}) == len(elements)
        and (alike or isinstance(elements, nn.ModuleList))
        and not any(isinstance(each, nn.Linear) for each in elements)
        and any(True for each in elements for _ in linears_in(each))
    )


def linears_in(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """Full names of linears in a module, and of parameters of experts."""
    for path, child in module.named_modules(prefix=prefix):
        if isinstance(child, nn.Linear):
            yield path
        else:
            yield from (f"{path}.{name}" for name in stacks(child))


def chains_of(module: nn.Module, seen: Watched) -> list[Chain]:
    """The rows of a model, in the order in which its forward pass comes to them.

    Lists within a block of a row are none.
    """
    found: list[Chain] = []
    for path, names in lists_of(module).items():
        if any(path.startswith(f"{chain.path}.") for chain in found):
            continue
        blocks = tuple(seen.calls[name] for name in names if name in seen.calls)
        if len(blocks) == len(names) and _is_row(blocks, seen):
            found.append(Chain(path, blocks))
    return sorted(found, key=lambda chain: chain.blocks[0].begin)


def _is_row(blocks: tuple[Call, ...], seen: Watched) -> bool:
    first = blocks[0]
    if len(blocks) == 1:
        # nothing follows that could tell
        shapes = [
            getattr(x, "shape", None) for x in (first.hidden, first_of(first.outcome))
        ]
        return shapes[0] is not None and shapes[0] == shapes[1]
    return all(_follows(before, block, seen) for before, block in pairwise(blocks))


def _follows(before: Call, block: Call, seen: Watched) -> bool:
    """Whether a block reads what another gave, and no linear stands between them."""
    if not (before.end < block.begin and block.given & seen.bit(before.name)):
        return False
    between = [
        call
        for call in seen.calls.values()
        if before.end < call.begin < block.begin and isinstance(call.module, nn.Linear)
    ]
    return not any(
        seen.bit(f"{call.name}.weight") & block.given & ~before.gave for call in between
    )
