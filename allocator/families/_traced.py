"""Where the parts of a model are that nobody has declared: found by its forward pass.

A small random model of the same architecture is run once and watched. Blocks that are
called one after the other are rows; pixels and words say of which component each is;
what mixes tokens within a block is attention; and a fold is tried before it is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError, in_one_sentence
from allocator.families._blocks import PIXELS, Readers, Row, siblings_of
from allocator.families._calls import fed
from allocator.families._chains import Chain, chains_of, linears_in, lists_of
from allocator.families._folds import EQUAL, Fold, Trial, folded
from allocator.families._joining import joined
from allocator.families._mixing import ALL, types_of
from allocator.families._places import Rest, head_and_embeddings
from allocator.families._structure import (
    EVERY,
    UNPLACED,
    Outside,
    Structure,
    named_blocks,
    named_numbers,
)
from allocator.families._watching import (
    alike,
    logits_of,
    random_weights,
    sources_behind,
    watched,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from allocator.core.ports import State
    from allocator.core.spec import Component
    from allocator.families._watching import Call, Watched

# a share of the largest number: below, nothing has changed
SAME = 1e-6
WORDS = ("input_ids", "decoder_input_ids")
HEAD = "output head, kept at 16 bit unless included"
UNUSED = "not used for pictures"
UNREAD = "nothing reads what it gives"
PATCHES = "patch embedding, kept at 16 bit"
BESIDE = "reads no picture and is in no row of blocks, kept at 16 bit"


def traced(module: Any, state: State) -> Structure:
    """Where the parts of a model are.

    Names and counts are those of this module; `Structure.fitted` carries them over to
    one of full size.

    Args:
        module: a small one of transformers, in float32 on a CPU; its weights do not
            matter.
        state: two prompts for it, with an image each.

    Raises:
        ModelError: it cannot be run, or shows no row of blocks that reads words.
    """
    kind = module.config.model_type
    with in_one_sentence(f"this {kind!r} model cannot be placed by its structure"):
        module.eval()
        elements = {x for names in lists_of(module).values() for x in names}
        blocks = {name: module.get_submodule(name) for name in elements}
        with random_weights(module):
            seen = watched(module, state, blocks)
            return _Tracing(module, state, seen).structure()


@dataclass(frozen=True)
class _Tracing:
    """A model, two prompts, and what it was seen to do with them."""

    module: Any
    state: State
    seen: Watched

    def structure(self) -> Structure:
        chains = [c for c in chains_of(self.module, self.seen) if self._live(c)]
        components = self._components(chains)
        if "language" not in components:
            raise ModelError(
                f"no row of blocks of this {self.module.config.model_type!r} model "
                "reads words: none can be its language model"
            )
        rows = tuple(
            Row(component, chain.path, self._readers(chain))
            for chain, component in zip(chains, components, strict=True)
        )
        inside = tuple(f"{chain.path}." for chain in chains)
        others = [x for x in linears_in(self.module) if not x.startswith(inside)]
        outside, rests = self._others(others, chains, components)
        reads = [self._reads(chain) for chain in chains]
        found = Structure(
            rows,
            tuple(numbers for numbers, _ in reads),
            tuple(outside),
            tuple(dict.fromkeys(rests)),
            tuple(named for _, named in reads),
        )
        return self._holding(found)

    def _holding(self, structure: Structure) -> Structure:
        """A structure with those folds that hold together."""
        if self._holds(structure):
            return structure
        rows = tuple(
            replace(
                row, readers=tuple(self._checked(row, each) for each in row.readers)
            )
            for row in structure.rows
        )
        return replace(structure, rows=rows)

    def _checked(self, row: Row, readers: Readers) -> Readers:
        alone = Structure((replace(row, readers=(readers,)),), (EVERY,))
        return readers if self._holds(alone) else replace(readers, fold=None, added=0.0)

    def _holds(self, structure: Structure) -> bool:
        """Whether a model gives the same with all folds of a structure at once."""
        folds = [
            (each.names, Fold(each.fold, each.added))
            for row in structure.rows
            for number in range(len(self.module.get_submodule(row.path)))
            for readers in row.readers
            for each in siblings_of(self.module, readers, f"{row.path}.{number}.")
            if each.fold is not None
        ]
        with folded(self.module, folds):
            logits = logits_of(self.module, self.state)
        return alike(logits, self.seen.outcome, EQUAL)

    def _bits(self, names: Iterable[str]) -> int:
        found = 0
        for name in names:
            found |= self.seen.bit(name)
        return found

    def _live(self, chain: Chain) -> bool:
        """Whether the model's outcome is made of what a row gives."""
        return bool(self._bits(x.name for x in chain.blocks) & self.seen.gave)

    def _components(self, chains: Sequence[Chain]) -> list[Component]:
        """Pixels come first; what words have come to is the language model's."""
        words, pixels = self._bits(WORDS), self.seen.bit(PIXELS)
        found: list[Component] = []
        between = 0
        for chain in chains:
            if chain.gave & words:
                found.append("language")
            elif chain.given & pixels and not chain.given & between:
                found.append("vision")
            else:
                found.append("connector")
                between |= self._bits(x.name for x in chain.blocks)
        return found

    def _readers(self, chain: Chain) -> tuple[Readers, ...]:
        found: list[Readers] = []
        known = set()
        for block in chain.blocks:
            kind = self._kind(block)
            if kind not in known:
                known.add(kind)
                found = joined(found, self._readers_of(block))
        return tuple(found)

    def _kind(self, block: Call) -> tuple[Any, ...]:
        """Equal for blocks of the same modules that read each other alike."""
        names = [name for name in self.seen.calls if name.startswith(f"{block.name}.")]
        given: dict[Any, int] = {}
        return tuple(
            (
                name.removeprefix(block.name),
                type(self.seen.calls[name].module),
                given.setdefault(self.seen.calls[name].same, len(given)),
            )
            for name in names
        )

    def _readers_of(self, block: Call) -> list[Readers]:
        """What reads what in one block, by names within it."""
        seen, prefix = self.seen, f"{block.name}."
        names = [x for x in linears_in(block.module, block.name) if self._called(x)]
        types = types_of(block, seen.calls, names)
        within = [name for name in seen.calls if name.startswith(prefix)]
        trial = Trial(seen, block.again, within)
        found = []
        for members in self._sets(names, types):
            fold = None if self._stack(members[0]) else trial.fold(members)
            found.append(
                Readers(
                    " ".join(name.removeprefix(prefix) for name in members),
                    types[members[0]],
                    None if fold is None else fold.name.removeprefix(prefix),
                    0.0 if fold is None else fold.added,
                    experts=self._stack(members[0]),
                )
            )
        return found

    def _stack(self, name: str) -> bool:
        """Whether a name is that of a parameter of experts."""
        return name in self.seen.bits

    def _called(self, name: str) -> bool:
        owner = name.rpartition(".")[0] if self._stack(name) else name
        return owner in self.seen.calls

    def _sets(self, names: Sequence[str], types: dict[str, str]) -> list[list[str]]:
        """Linears that are given the very same tensor, and are of one type."""
        found: dict[Any, list[str]] = {}
        for name in self._ordered(names):
            stack = self._stack(name)
            same = name if stack else (self.seen.calls[name].same, types[name])
            found.setdefault(same, []).append(name)
        return list(found.values())

    def _ordered(self, names: Sequence[str]) -> list[str]:
        def begin(name: str) -> int:
            owner = name.rpartition(".")[0] if self._stack(name) else name
            return self.seen.calls[owner].begin

        return sorted(names, key=begin)

    def _others(
        self, names: Sequence[str], chains: Sequence[Chain], components: Sequence[str]
    ) -> tuple[list[Outside], list[Rest]]:
        """Where linears outside rows belong."""
        head = head_and_embeddings(self.module).get("head")
        rests = [] if head is None else [Rest(re.escape(head), HEAD)]
        placed: dict[str, Component] = {}
        idle: dict[str, str] = {}
        for name in names:
            if name == head:
                continue
            found = self._idle(name)
            if found is not None:
                idle[name] = found
                continue
            component = self._between(self.seen.calls[name], chains, components)
            if component is None:
                rests.append(Rest(re.escape(name), self._beside(name)))
            else:
                placed[name] = component
        outside = list(self._outside(placed, chains))
        return outside, [*rests, *self._idles(idle)]

    def _idle(self, name: str) -> str | None:
        """Why a linear has no place, if it does nothing, or nothing that is seen."""
        weight = name if self._stack(name) else f"{name}.weight"
        live = self.seen.bit(weight) & self.seen.gave
        if not live:
            return UNREAD if self._called(name) else UNUSED
        if not self._called(name):
            return f"{UNPLACED}: its weight is read, and it is never called"
        return f"{UNPLACED}: experts in no row of blocks" if self._stack(name) else None

    def _between(
        self, call: Call, chains: Sequence[Chain], components: Sequence[str]
    ) -> Component | None:
        """The component of a linear outside any row, by what it reads."""
        if call.gave & self._bits(WORDS) or not call.gave & self.seen.bit(PIXELS):
            return None
        of = self.seen.bit(f"{call.name}.weight")
        vision = [c for c, x in zip(chains, components, strict=True) if x == "vision"]
        seen = self._bits(block.name for chain in vision for block in chain.blocks)
        if any(chain.given & of for chain in vision):
            return "vision" if call.given & seen else None
        return "connector"

    def _beside(self, name: str) -> str:
        pixels = self.seen.calls[name].gave & self.seen.bit(PIXELS)
        words = self.seen.calls[name].gave & self._bits(WORDS)
        return PATCHES if pixels and not words else BESIDE

    def _outside(
        self, placed: dict[str, Component], chains: Sequence[Chain]
    ) -> Iterator[Outside]:
        def run() -> Any:
            return logits_of(self.module, self.state)

        inside = tuple(f"{chain.path}." for chain in chains)
        within = [name for name in self.seen.calls if not name.startswith(inside)]
        trial = Trial(self.seen, run, within)
        for members in self._sets(list(placed), dict.fromkeys(placed, ALL)):
            fold = trial.fold(members)
            path, added = (None, 0.0) if fold is None else fold
            readers = Readers(" ".join(members), ALL, path, added)
            yield Outside(placed[members[0]], readers)

    def _idles(self, idle: dict[str, str]) -> Iterator[Rest]:
        """Patterns of what does nothing: whole modules, where all in them does not."""
        for name, reason in idle.items():
            steps = name.split(".")
            paths = (".".join(steps[: n + 1]) for n in range(len(steps)))
            path = next(
                path
                for path in paths
                if path == name
                or all(
                    idle.get(x) == reason
                    for x in linears_in(self.module)
                    if x.startswith(f"{path}.")
                )
            )
            whole = re.escape(path)
            yield Rest(whole if path == name else rf"{whole}\..+", reason)

    def _reads(self, chain: Chain) -> tuple[tuple[int, ...], bool]:
        """Blocks whose outcome something behind the row reads.

        Returns:
            Numbers of some, or `EVERY`, and whether the configuration names others.
        """
        read, count = self._read(chain), len(chain.blocks)
        if read is None:
            return EVERY, False
        config = self.module.config.to_dict()
        ends = tuple(number - count for number in read)
        if {-1, *named_numbers(config)}.issuperset(ends):
            return ends, False
        last = (-1,) if -1 in ends else EVERY
        known = named_blocks(config, count).union(n + count for n in last)
        return (last, True) if known.issuperset(read) else (EVERY, False)

    def _read(self, chain: Chain) -> list[int] | None:
        blocks = [call.module for call in chain.blocks]
        known = {n: call.outcome for n, call in enumerate(chain.blocks)}
        try:
            logits, made_of = sources_behind(
                self.module, self.state, blocks, list(known.values())
            )
        except Exception:
            return None
        if not alike(logits, self.seen.outcome, SAME):
            return None
        # what is made of one may still not depend on it
        if len(made_of) < 2:
            return made_of
        return [n for n in made_of if self._hangs_on(chain, known, n)]

    def _hangs_on(self, chain: Chain, known: dict[int, Any], number: int) -> bool:
        blocks = [call.module for call in chain.blocks]
        other = {**known, number: _passed(chain.blocks[number])}
        try:
            with fed(blocks, other):
                logits = logits_of(self.module, self.state)
        except Exception:
            return True
        return not alike(logits, self.seen.outcome, SAME)


def _passed(call: Call) -> Any:
    """What a block gives that passes on what it was given."""
    outcome = call.outcome
    return (call.hidden, *outcome[1:]) if isinstance(outcome, tuple) else call.hidden
