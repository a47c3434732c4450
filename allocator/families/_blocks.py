"""A model's forward pass cut into stages, block by block, by transformers' own code.

What stands before, between and behind the blocks is never written down a second time:
it is run with the blocks replaced. Caught, they only note what they are called with;
fed, they return what the real ones gave.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from allocator.core.ports import Siblings, Stage
from allocator.families._calls import caught, fed, read_behind
from allocator.families._places import Place, Rest, embeddings_read
from allocator.families._positions import read_positions
from allocator.families._sharing import of_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from allocator.core.ports import State
    from allocator.core.spec import Component

PIXELS = "pixel_values"
HEAD = "lm_head"
# of the state: what blocks have left for later ones
LEFT = "left"
# of what the image side gives, all that the language model reads
FEATURES = ("pooler_output", "deepstack_features")


@dataclass(frozen=True)
class Readers:
    """Linears that read one input, by their names in a block (or in the model).

    `fold` is the module whose output they alone read, if AWQ may fold a scale into it.
    A linear counts only where it gives as many channels as they read: with fewer
    key-value heads, one value channel feeds several inputs of the output projection.
    `added` is what a norm adds to its weight before it multiplies by it. Of `experts`
    names are parameters [experts, out, in]: each expert reads what is routed to it.
    A block that has none of these names is one without them.
    """

    names: str
    type: str
    fold: str | None = None
    added: float = 0.0
    experts: bool = False


@dataclass(frozen=True)
class Row:
    """Blocks of one kind: the full name of their list, and what is in each."""

    component: Component
    path: str
    readers: tuple[Readers, ...]

    def places(self, before: int = 0) -> Iterator[Place]:
        """Patterns of its linears; `before` are the component's blocks in front."""
        for readers in self.readers:
            ending = r"\.\d+" if readers.experts else ""
            yield Place(
                rf"{re.escape(self.path)}\.(?P<block>\d+)\.{either(readers)}{ending}",
                self.component,
                readers.type,
                before,
            )


@dataclass(frozen=True)
class Inserted:
    """A module between two vision blocks: its full name, and what it is behind.

    It belongs to the tower, and to none of its blocks; `behind` is not the last one.
    """

    path: str
    behind: int
    readers: tuple[Readers, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """Patterns of its linears."""
        path = re.escape(self.path)
        return tuple(
            Place(rf"{path}\.{either(each)}", "vision", each.type)
            for each in self.readers
        )


@dataclass(frozen=True)
class Layout:
    """Where the parts of an image-text model are.

    `connector` are linears outside any block, by full name. `reads` are the numbers of
    the vision blocks whose outcome the connector reads (negative: from the end).
    `between` is told module, state, block number and outcome of each language block,
    and gives what the next one reads, where that is something else. `behind` turns what
    the output head gives into the logits, where they are something else. `norm` is the
    name of the norm behind the language blocks, beside their list. `inserted` stands
    within the tower. `idle` are modules that are there and never run, by full name.
    """

    vision: Row
    connector: tuple[Readers, ...]
    language: Row
    rests: tuple[Rest, ...] = ()
    reads: tuple[int, ...] = (-1,)
    between: Callable[[Any, State, int, Any], Any] | None = None
    behind: Callable[[Any], Any] | None = None
    norm: str = "norm"
    inserted: Inserted | None = None
    idle: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[Place, ...]:
        """Patterns that put every grouped linear in its place."""
        of_blocks = (
            place for row in (self.vision, self.language) for place in row.places()
        )
        of_connector = (
            Place(either(readers), "connector", readers.type)
            for readers in self.connector
        )
        of_inserted = () if self.inserted is None else self.inserted.places
        return (*of_blocks, *of_inserted, *of_connector)


def either(readers: Readers) -> str:
    """A pattern for any of their names."""
    return f"({'|'.join(map(re.escape, readers.names.split()))})"


def siblings_of(
    module: Any, readers: Readers, prefix: str = ""
) -> tuple[Siblings, ...]:
    """The readers below a prefix, with the module their scale folds into.

    One set; of experts one for each; none where the module has none of them.
    """
    names = tuple(prefix + name for name in readers.names.split())
    names = tuple(name for name in names if _has(module, name))
    if readers.experts:
        return tuple(
            Siblings((f"{stack}.{number}",), pool=stack)
            for stack in names
            for number in range(len(module.get_parameter(stack)))
        )
    if not names:
        return ()
    fold = None if readers.fold is None else prefix + readers.fold
    if fold is not None:
        given = getattr(module.get_submodule(fold), "out_features", None)
        if given not in (None, module.get_submodule(names[0]).in_features):
            fold = None
    return (Siblings(names, fold, added=readers.added),)


def _has(module: Any, name: str) -> bool:
    """Whether a module has a linear, or a parameter, of this full name."""
    owner, _, last = name.rpartition(".")
    try:
        # transformers leaves None where a kind of block lacks one
        return getattr(module.get_submodule(owner), last, None) is not None
    except AttributeError:
        return False


@dataclass(frozen=True)
class Cut:
    """A model cut along a layout."""

    module: Any
    layout: Layout

    def stages(self) -> tuple[Stage, ...]:
        """All stages in execution order."""
        layout, around = self.layout, self._around()
        connector = tuple(
            s for each in layout.connector for s in siblings_of(self.module, each)
        )
        words = embeddings_read(self.module)
        return (
            Stage("vision.embed", "vision", self._see, around["vision"]),
            *self._tower(),
            Stage("connector", "connector", self._connect, around["vision"], connector),
            Stage("language.embed", "language", self._start, around["language"], words),
            *self._blocks(layout.language, "attention_mask"),
            self._head(),
        )

    def _around(self) -> dict[str, tuple[str, ...]]:
        """Full names of the tensors outside the blocks, by the side they are on."""
        paths = (self.layout.vision.path, self.layout.language.path)
        inside = tuple(f"{path}." for path in (*paths, *self.layout.idle))
        text = self.layout.language.path.rpartition(".")[0] + "."
        named = [
            *(name for name, _ in self.module.named_parameters()),
            *(name for name, _ in self.module.named_buffers()),
        ]
        outside = [name for name in named if not name.startswith(inside)]
        words = [name for name in outside if name.startswith(text)]
        seen = [n for n in outside if n not in words and not n.startswith(f"{HEAD}.")]
        # transformers takes a model's first weight for the type that all of them have
        return {"vision": tuple(seen), "language": (*words, named[0])}

    def _list(self, row: Row) -> Sequence[Any]:
        blocks: Sequence[Any] = self.module.get_submodule(row.path)
        return blocks

    def _blocks(self, row: Row, mask: str | None) -> list[Stage]:
        return [
            self._block(row, number, mask) for number in range(len(self._list(row)))
        ]

    def _tower(self) -> list[Stage]:
        """The vision blocks, and what stands between two of them."""
        stages, within = self._blocks(self.layout.vision, None), self.layout.inserted
        if within is None:
            return stages
        blocks = self._list(self.layout.vision)
        see = self.module.model.get_image_features

        def run(state: State) -> State:
            given = self._given(see, state)
            hidden = read_behind(
                blocks, within.behind, state["hidden"], lambda: see(**given)
            )
            return {**state, "hidden": hidden}

        own = (siblings_of(self.module, r, f"{within.path}.") for r in within.readers)
        sets, uses = tuple(chain.from_iterable(own)), self._around()["vision"]
        stage = Stage(within.path, "vision", run, uses, sets)
        return [*stages[: within.behind + 1], stage, *stages[within.behind + 1 :]]

    def _block(self, row: Row, number: int, mask: str | None) -> Stage:
        block, name = self._list(row)[number], f"{row.path}.{number}"
        reads = row.component == "vision" and number in self._reads()
        between = self.layout.between if row.component == "language" else None

        def run(state: State) -> State:
            given, left = state["calls"].call(
                block, number, state["hidden"], state.get(LEFT, {})
            )
            hidden = given[0] if isinstance(given, tuple) else given
            if between is not None:
                hidden = between(self.module, state, number, hidden)
            kept = {f"read.{number}": hidden} if reads else {}
            return {**state, "hidden": hidden, **kept, **({LEFT: left} if left else {})}

        groups = tuple(
            s
            for each in row.readers
            for s in siblings_of(self.module, each, f"{name}.")
        )
        return Stage(name, row.component, run, (name,), groups, mask)

    def _reads(self) -> set[int]:
        count = len(self._list(self.layout.vision))
        return {number % count for number in self.layout.reads}

    def _see(self, state: State) -> State:
        """Images up to the first vision block."""
        given = self._given(self.module.model.get_image_features, state)
        blocks = self._list(self.layout.vision)
        hidden, calls = caught(
            blocks, lambda: self.module.model.get_image_features(**given)
        )
        return {**state, "hidden": hidden, "calls": calls}

    def _connect(self, state: State) -> State:
        """What comes behind the vision blocks, up to what the language model reads."""
        given = self._given(self.module.model.get_image_features, state)
        outcomes = {number: state[f"read.{number}"] for number in self._reads()}
        with fed(self._list(self.layout.vision), outcomes):
            found = self.module.model.get_image_features(**given, return_dict=True)
        wanted = {key: found[key] for key in FEATURES if found.get(key) is not None}
        # nobody reads the pixels again, nor the masks of them that some models have
        past = ("read.", "pixel_")
        kept = {k: v for k, v in state.items() if not k.startswith(past)}
        for key in ("hidden", "calls", LEFT):
            kept.pop(key, None)
        return {**kept, "features": type(found)(**wanted)}

    def _start(self, state: State) -> State:
        """Words with the image features laid in, up to the first language block."""
        laid = of_samples(state, self.module.config.image_token_id)
        given = self._given(self.module.model.forward, laid)
        # a state whose features were kept still has its pixels
        given.pop(PIXELS, None)
        given["mm_encoder_outputs"] = {"image": laid["features"]}
        hidden, calls = caught(
            self._list(self.layout.language),
            lambda: self.module.model(**given, use_cache=False),
        )
        kept = dict(state)
        if self.layout.between is None:
            # nobody reads them again
            kept.pop("features")
        return {**kept, "hidden": hidden, "calls": calls}

    def _head(self) -> Stage:
        text = self.layout.language.path.rpartition(".")[0]
        name = f"{text}.{self.layout.norm}"
        norm = self.module.get_submodule(name)

        def run(state: State) -> State:
            past = ("hidden", "calls", LEFT)
            kept = {k: v for k, v in state.items() if k not in past}
            logits = self.module.lm_head(norm(read_positions(state)))
            behind = self.layout.behind
            return {**kept, "logits": logits if behind is None else behind(logits)}

        return Stage(
            "language.head",
            "language",
            run,
            (name, HEAD),
            (Siblings((HEAD,)),),
            "attention_mask",
        )

    def _given(self, function: Any, state: State) -> dict[str, Any]:
        """Those values of a state that a function has arguments for."""
        known = inspect.signature(function).parameters
        return {key: value for key, value in state.items() if key in known}
