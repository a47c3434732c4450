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
    def met(self) -> int:
        """Sources of what any block reads."""
        found = 0
        for block in self.blocks:
            found |= block.given
        return found

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

    Lists within a block of a row are none, nor are lists whose blocks take turns with
    those of another.
    """
    found: list[Chain] = []
    for path, names in lists_of(module).items():
        if any(path.startswith(f"{chain.path}.") for chain in found):
            continue
        blocks = tuple(seen.calls[name] for name in names if name in seen.calls)
        if len(blocks) == len(names) and _is_row(blocks, seen):
            found.append(Chain(path, blocks))
    loose = [chain for chain in found if not _is_tight(chain, seen)]
    rows = [
        chain
        for chain in found
        if chain not in loose
        or not any(_overlap(chain, x) for x in found if x is not chain)
    ]
    return sorted(rows, key=lambda chain: chain.blocks[0].begin)


def _is_row(blocks: tuple[Call, ...], seen: Watched) -> bool:
    """Whether each block reads what the one before it gave."""
    if len(blocks) == 1:
        # nothing follows that could tell
        gave, hidden = first_of(blocks[0].outcome), blocks[0].hidden
        if gave is None or hidden is None:
            return False
        return gave.shape == hidden.shape
    return all(
        before.end < block.begin and block.given & seen.bit(before.name)
        for before, block in pairwise(blocks)
    )


def _is_tight(chain: Chain, seen: Watched) -> bool:
    """Whether no linear stands between the blocks of a row."""
    linears = [x for x in seen.calls.values() if isinstance(x.module, nn.Linear)]
    return not any(
        before.end < call.begin < block.begin
        and seen.weight(call.name) & block.given & ~before.gave
        for before, block in pairwise(chain.blocks)
        for call in linears
    )


def _overlap(chain: Chain, other: Chain) -> bool:
    first, second = chain.blocks, other.blocks
    return first[0].begin < second[-1].end and second[0].begin < first[-1].end
