"""Which blocks of a row are read by what stands behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from allocator.families._calls import fed
from allocator.families._structure import EVERY, named_blocks
from allocator.families._watching import (
    Sources,
    alike,
    cloned,
    first_of,
    logits_of,
)

if TYPE_CHECKING:
    from allocator.core.ports import State
    from allocator.families._chains import Chain
    from allocator.families._watching import Call, Watched

# a share of the largest number: below, nothing has changed
SAME = 1e-6


def reads_of(
    module: Any, state: State, seen: Watched, chain: Chain
) -> tuple[tuple[int, ...], bool]:
    """Blocks whose outcome something behind the row reads.

    Returns:
        Numbers of some, or `EVERY`, and whether the configuration names others.
    """
    read, count = _read(module, state, seen, chain), len(chain.blocks)
    if not read:
        # untold; or in front of codes, through which nothing is traced
        return EVERY, False
    config = module.config.to_dict()
    ends = tuple(number - count for number in read)
    if ends == (-1,):
        return ends, False
    # a number that a shrunk configuration names is not the one that the whole names
    last = (-1,) if -1 in ends else EVERY
    known = named_blocks(config, count).union(n + count for n in last)
    return (last, True) if known.issuperset(read) else (EVERY, False)


def _read(module: Any, state: State, seen: Watched, chain: Chain) -> list[int] | None:
    """Numbers of the blocks that are read; None: nobody can tell."""
    blocks = [call.module for call in chain.blocks]
    known = {n: call.outcome for n, call in enumerate(chain.blocks)}
    sources = Sources()
    given = {number: cloned(each) for number, each in known.items()}
    for number, each in given.items():
        sources.add(first_of(each), 1 << number)

    def hangs_on(number: int) -> bool:
        other = {**known, number: _passed(chain.blocks[number])}
        try:
            with fed(blocks, other):
                return not alike(logits_of(module, state), seen.outcome, SAME)
        except Exception:
            return True

    try:
        with fed(blocks, given), sources, torch.no_grad():
            logits = logits_of(module, state)
    except Exception:
        return None
    if not alike(logits, seen.outcome, SAME):
        return None
    made_of = [n for n in known if sources.of(logits) >> n & 1]
    # what is made of several may still not depend on all
    return made_of if len(made_of) < 2 else [n for n in made_of if hangs_on(n)]


def _passed(call: Call) -> Any:
    """What a block gives that passes on what it was given."""
    outcome = call.outcome
    return (call.hidden, *outcome[1:]) if isinstance(outcome, tuple) else call.hidden
