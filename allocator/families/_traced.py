"""Where the parts of a model are that nobody has declared: found by its forward pass.

A small random model of the same architecture is run once and watched. Blocks that are
called one after the other are rows; pixels and words say of which component each is;
what mixes tokens within a block is attention; and a fold is tried before it is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.errors import ModelError, in_one_sentence
from allocator.families._beside import Beside, matrices, shared
from allocator.families._blocks import Readers, Row, siblings_of
from allocator.families._chains import Chain, chains_of, linears_in, lists_of
from allocator.families._folds import EQUAL, Fold, Trial, folded
from allocator.families._joining import joined
from allocator.families._mixing import types_of
from allocator.families._reading import reads_of
from allocator.families._structure import EVERY, Structure
from allocator.families._watching import alike, logits_of, random_weights, watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import State
    from allocator.core.spec import Component
    from allocator.families._watching import Call, Watched

WORDS = ("input_ids", "decoder_input_ids")
# of what a model is given, numbers that are no pixels
NO_PIXELS = re.compile("mask|bbox|position|size|scale")


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
    with in_one_sentence(_beginning(module)):
        module.eval()
        elements = {x for names in lists_of(module).values() for x in names}
        blocks = {name: module.get_submodule(name) for name in elements}
        with random_weights(module), torch.no_grad():
            seen = watched(module, state, blocks)
            return _Tracing(module, state, seen).structure()


def _beginning(module: Any) -> str:
    kind = module.config.model_type
    return f"this {kind!r} model cannot be placed by its structure"


@dataclass(frozen=True)
class _Tracing:
    """A model, two prompts, and what it was seen to do with them."""

    module: Any
    state: State
    seen: Watched

    def structure(self) -> Structure:
        if not self.seen.gave & self._pixels:
            raise self._error(
                "its replies do not depend on the pictures that it is shown, as where "
                "its configuration names no image token"
            )
        chains = [c for c in chains_of(self.module, self.seen) if self._live(c)]
        components = self._components(chains)
        if "language" not in components:
            raise self._error(
                "no blocks that are called one after the other read words: none can be "
                "its language model"
            )
        rows = tuple(
            Row(component, chain.path, self._readers(chain))
            for chain, component in zip(chains, components, strict=True)
        )
        inside = tuple(f"{chain.path}." for chain in chains)
        others = [
            name
            for name in linears_in(self.module)
            if name in self._shared or not name.startswith(inside)
        ]
        outside, rests = Beside(
            *(self.module, self.state, self.seen, chains, components),
            *(others, self._words, self._pixels),
        ).placed()
        reads = [reads_of(self.module, self.state, self.seen, c) for c in chains]
        found = Structure(
            rows,
            tuple(numbers for numbers, _ in reads),
            tuple(outside),
            (*rests, *matrices(self.module, self.seen, chains)),
            tuple(named for _, named in reads),
        )
        return self._holding(found)

    def _error(self, reason: str) -> ModelError:
        return ModelError(f"{_beginning(self.module)}: {reason}")

    def _holding(self, structure: Structure) -> Structure:
        """A structure with those folds that hold together."""
        if self._holds(structure):
            return structure
        return replace(structure, rows=tuple(map(self._checked, structure.rows)))

    def _checked(self, row: Row) -> Row:
        """A row with those folds that hold each alone, in all of its blocks."""

        def checked(readers: Readers) -> Readers:
            alone = Structure((replace(row, readers=(readers,)),), (EVERY,))
            bare = replace(readers, fold=None, added=0.0)
            return readers if self._holds(alone) else bare

        return replace(row, readers=tuple(map(checked, row.readers)))

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

    @cached_property
    def _words(self) -> int:
        return self.seen.bit(*WORDS)

    @cached_property
    def _pixels(self) -> int:
        return self.seen.bit(
            *(
                name
                for name, value in self.state.items()
                if value.is_floating_point() and not NO_PIXELS.search(name)
            )
        )

    @cached_property
    def _shared(self) -> dict[str, str]:
        return shared(self.module, self.seen)

    def _live(self, chain: Chain) -> bool:
        """Whether the model's outcome is made of what a row gives."""
        return bool(self.seen.bit(*(x.name for x in chain.blocks)) & self.seen.gave)

    def _components(self, chains: Sequence[Chain]) -> list[Component]:
        """Pixels come first; what words have come to is the language model's."""
        words, pixels = self._words, self._pixels
        found: list[Component] = []
        between = 0
        for chain in chains:
            if chain.gave & words:
                found.append("language")
            elif chain.given & pixels and not chain.given & between:
                found.append("vision")
            else:
                found.append("connector")
                between |= self.seen.bit(*(x.name for x in chain.blocks))
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
        names = [
            name
            for name in linears_in(block.module, block.name)
            if seen.call(name) is not None and name not in self._shared
        ]
        types = types_of(block, seen.calls, names)
        within = [name for name in seen.calls if name.startswith(prefix)]
        trial = Trial(seen, block.again, within)
        found = []
        for members in seen.sets(names, types):
            experts = seen.is_stack(members[0])
            fold = None if experts else trial.fold(members)
            found.append(
                Readers(
                    " ".join(name.removeprefix(prefix) for name in members),
                    types[members[0]],
                    None if fold is None else fold.name.removeprefix(prefix),
                    0.0 if fold is None else fold.added,
                    experts=experts,
                )
            )
        return found
