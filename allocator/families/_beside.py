"""Where linears outside rows of blocks belong, and which stay at 16 bits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import nn

from allocator.families._blocks import Readers
from allocator.families._chains import linears_in, lists_of
from allocator.families._folds import Trial
from allocator.families._mixing import ALL, mixes
from allocator.families._places import Rest, head_and_embeddings
from allocator.families._structure import MATRIX, UNPLACED, Outside
from allocator.families._watching import logits_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from allocator.core.ports import State
    from allocator.core.spec import Component
    from allocator.families._chains import Chain
    from allocator.families._watching import Call, Watched

HEAD = "output head, kept at 16 bit unless included"
UNUSED = "not used for pictures"
UNREAD = "nothing reads what it gives"
PATCHES = "patch embedding, kept at 16 bit"
BEHIND = "behind the last block, kept at 16 bit with the output head"
BEFORE = "in front of the first block, kept at 16 bit with the embeddings"
TIED = "the same matrix as the embeddings, kept at 16 bit"
SHARED = f"{UNPLACED}: its matrix is another linear's too"
UNCALLED = f"{UNPLACED}: its weight is read, and it is never called"
LOOSE = f"{UNPLACED}: experts in no row of blocks"
ASTRAY = f"{UNPLACED}: the blocks that it is in are not called one after the other"
BESIDE = f"{UNPLACED}: it reads no picture, and is in no row of blocks"


def shared(module: Any, seen: Watched) -> dict[str, str]:
    """Linears whose matrix is somebody else's too, and what is to be said of it."""
    ends = head_and_embeddings(module)
    tied = seen.bit(f"{ends.get('embeddings', ends.get('head'))}.weight")
    names: dict[int, list[str]] = {}
    for name in linears_in(module):
        names.setdefault(seen.weight(name), []).append(name)
    return {
        name: TIED if bit == tied else SHARED
        for bit, several in names.items()
        for name in several
        if bit == tied or len(several) > 1
    }


def matrices(module: Any, seen: Watched, chains: Sequence[Chain]) -> list[Rest]:
    """Patterns of parameters that are multiplied as linears are, and are none.

    Those of modules by the module's name: routers, most of them.
    """
    words = {x for x, each in module.named_modules() if isinstance(each, nn.Embedding)}
    known = {*linears_in(module), *words, *head_and_embeddings(module).values()}
    found: dict[str, None] = {}
    for name, parameter in module.named_parameters():
        path = name.removesuffix(".weight")
        live = seen.bit(name) & seen.multiplied & seen.gave
        if parameter.dim() > 1 and live and path not in known:
            row = next((c.path for c in chains if path.startswith(f"{c.path}.")), None)
            if row is None:
                found[re.escape(path)] = None
            else:
                inner = path.removeprefix(f"{row}.").partition(".")[2]
                found[rf"{re.escape(row)}\.\d+\.{re.escape(inner)}"] = None
    return [Rest(pattern, MATRIX) for pattern in found]


@dataclass(frozen=True)
class Beside:
    """Linears outside rows, and what was seen of them.

    Attributes:
        module: a small model.
        state: what it was given.
        seen: what it did with that.
        chains: its rows.
        components: those of the rows.
        names: full names of the linears, and of parameters of experts.
        words: sources that are words.
        pixels: sources that are pictures.
    """

    module: Any
    state: State
    seen: Watched
    chains: Sequence[Chain]
    components: Sequence[Component]
    names: Sequence[str]
    words: int
    pixels: int

    def placed(self) -> tuple[list[Outside], list[Rest]]:
        """Those that have a place, and reasons of all others."""
        twice = shared(self.module, self.seen)
        head = head_and_embeddings(self.module).get("head")
        components: dict[str, Component] = {}
        reasons = {} if head is None else {head: HEAD}
        for name in self.names:
            if name not in reasons:
                found = twice.get(name) or self._idle(name)
                component = None if found else self._component(name)
                if component is None:
                    reasons[name] = found or self._reason(self.seen.calls[name])
                else:
                    components[name] = component
        return list(self._outside(components)), list(self._rests(reasons))

    def _idle(self, name: str) -> str | None:
        """Why a linear has no place, if it does nothing, or nothing that is seen."""
        called = self.seen.call(name) is not None
        if not self.seen.weight(name) & self.seen.gave:
            return UNREAD if called else UNUSED
        if not called:
            return UNCALLED
        if self.seen.is_stack(name):
            return LOOSE
        return ASTRAY if any(name.startswith(x) for x in self._strays) else None

    @cached_property
    def _strays(self) -> list[str]:
        """Beginnings of names in blocks that are in no row, though they mix tokens."""
        inside = tuple(f"{chain.path}." for chain in self.chains)
        calls = [
            self.seen.calls[name]
            for names in lists_of(self.module).values()
            for name in names
            if name in self.seen.calls and not name.startswith(inside)
        ]
        return [f"{call.name}." for call in calls if mixes(call)]

    def _rows(self, component: Component) -> list[Chain]:
        pairs = zip(self.chains, self.components, strict=True)
        return [chain for chain, each in pairs if each == component]

    def _blocks(self, component: Component) -> int:
        """Sources that are blocks of a component."""
        rows = self._rows(component)
        return self.seen.bit(*(b.name for chain in rows for b in chain.blocks))

    def _component(self, name: str) -> Component | None:
        """The component of a linear, by what it reads and what reads it."""
        call, of = self.seen.calls[name], self.seen.weight(name)
        if call.gave & self.words:
            return None
        if any(chain.met & of for chain in self._rows("vision")):
            # between two blocks of a tower
            return "vision" if call.given & self._blocks("vision") else None
        return "connector" if (call.gave | self._meets(of)) & self.pixels else None

    def _meets(self, of: int) -> int:
        """Sources of what is made of a linear before words come in."""
        found = 0
        for call in self._later:
            if call.given & of and not call.given & self.words:
                found |= call.given
        return found

    @cached_property
    def _later(self) -> list[Call]:
        """Calls whose input tells what meets what: of linears outside rows."""
        calls = [self.seen.calls.get(name) for name in self.names]
        return [call for call in calls if call is not None]

    def _reason(self, call: Call) -> str:
        if call.gave & self.words:
            return BEHIND if call.given & self._blocks("language") else BEFORE
        return PATCHES if call.gave & self.pixels else BESIDE

    def _outside(self, components: dict[str, Component]) -> Iterator[Outside]:
        def run() -> Any:
            return logits_of(self.module, self.state)

        inside = tuple(f"{chain.path}." for chain in self.chains)
        within = [name for name in self.seen.calls if not name.startswith(inside)]
        trial = Trial(self.seen, run, within)
        names = list(components)
        for members in self.seen.sets(names, dict.fromkeys(names, ALL)):
            fold = trial.fold(members)
            path, added = (None, 0.0) if fold is None else fold
            readers = Readers(" ".join(members), ALL, path, added)
            yield Outside(components[members[0]], readers)

    def _rests(self, reasons: dict[str, str]) -> Iterator[Rest]:
        """Patterns: of whole modules, where all in them has one reason."""
        everything = list(linears_in(self.module))
        done: set[str] = set()
        for name, reason in reasons.items():
            steps = name.split(".")
            paths = (".".join(steps[: n + 1]) for n in range(1, len(steps)))
            path = next(
                (
                    path
                    for path in (steps[0], *paths)
                    if all(
                        reasons.get(x) == reason
                        for x in everything
                        if x.startswith(f"{path}.")
                    )
                ),
                name,
            )
            if path not in done:
                done.add(path)
                whole = re.escape(path)
                yield Rest(whole if path == name else rf"{whole}\..+", reason)
