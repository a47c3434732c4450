"""A forward pass cut into stages whatever the model: each is a pass up to a place.

Every stage that is no block is transformers' own pass over the inputs, in which what
has run before is fed: it gives again what it gave. The pass ends where the next row of
blocks is called. So nothing is said of masks, positions or pictures, and no linear runs
in two stages: those outside the blocks are fed behind their stage as blocks are.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.core.ports import POSITIONS, Siblings, Stage
from allocator.families._blocks import siblings_of
from allocator.families._calls import ReachedError, replaced
from allocator.families._catching import MORE, Catching, first_of, form_of
from allocator.families._course import HEAD, Course, Part, parts_of
from allocator.families._feeding import fed, gathered, noted, stopped
from allocator.families._places import embeddings_read, head_and_embeddings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from allocator.core.ports import State
    from allocator.families._structure import Structure

# of a state: what parts gave, by full name, a list of one for each call: parts of the
# prefix, and others. And the row that is under way
FEATURES, MADE, RUNNING = "features", "made", "running"
OWN = (FEATURES, MADE, RUNNING, POSITIONS, "logits")


@dataclass(frozen=True)
class Passes:
    """A model cut along its structure.

    `course` says what its forward pass comes to in which order. `again` notes the rows
    between whose blocks something happened.
    """

    module: Any
    structure: Structure
    course: Course
    again: set[str] = field(default_factory=set)

    def stages(self) -> tuple[Stage, ...]:
        """All stages in execution order."""
        found: list[Stage] = []
        for part in parts_of(self.structure, self.course):
            if part.next_row == len(self.structure.rows):
                found.append(self._behind(part) if part.enters else self._part(part))
                continue
            found.append(self._part(part))
            if part.enters:
                count = len(self._list(part.next_row))
                found += [self._block(part.next_row, n) for n in range(count)]
        return tuple(found)

    def _list(self, at: int) -> Sequence[Any]:
        blocks: Sequence[Any] = self.module.get_submodule(self.structure.rows[at].path)
        return blocks

    def _names(self, at: int) -> list[str]:
        path = self.structure.rows[at].path
        return [f"{path}.{number}" for number in range(len(self._list(at)))]

    def _siblings(self, part: Part) -> tuple[Siblings, ...]:
        """What is quantized outside the blocks."""
        readers = [self.structure.outside[n].readers for n in part.outside]
        found = tuple(s for each in readers for s in siblings_of(self.module, each))
        return (*embeddings_read(self.module), *found) if part.reads_words else found

    def _part(self, part: Part) -> Stage:
        """What runs outside the blocks, up to the next row."""
        siblings, where = self._siblings(part), self._where(part.component)
        own = [name for found in siblings for name in found.names]
        if part.component == "language" and part.enters:
            # a decoder looks words up too
            own = list(dict.fromkeys((*own, _words(self.module))))

        def run(state: State) -> State:
            return self._enter(state, part, where, own)

        return Stage(part.name, part.component, run, self._outside(), siblings)

    def _behind(self, part: Part) -> Stage:
        """What runs behind all rows."""
        siblings = self._siblings(part)
        head = head_and_embeddings(self.module).get("head")
        # a head that nobody names may be the embeddings
        uses = self._outside(words=head is None)
        if head is not None:
            siblings, uses = (*siblings, Siblings((head,))), (*uses, head)
        mask = self.course.masks.get(HEAD)
        return Stage(part.name, part.component, self._give, uses, siblings, mask)

    def _where(self, component: Any) -> str:
        return FEATURES if component in self.course.prefix else MADE

    def _block(self, at: int, number: int) -> Stage:
        row, name = self.structure.rows[at], self._names(at)[number]
        block = self._list(at)[number]

        def run(state: State) -> State:
            if state[RUNNING]["end"] <= number:
                state = self._enter_again(state, at, number)
            running = dict(state[RUNNING])
            pairs = zip(running["chains"], running["hidden"], strict=True)
            found = [chain.call(block, number, hidden) for chain, hidden in pairs]
            given = [each for each, _ in found]
            running["hidden"] = [first_of(each) for each in given]
            running["chains"] = [chain for _, chain in found]
            running["form"] = max(form_of(each) for each in given)
            if MORE in map(form_of, given):
                running |= {"form": MORE, "end": number + 1}
            return self._kept({**state, RUNNING: running}, at, number, given)

        groups = tuple(
            s
            for each in row.readers
            for s in siblings_of(self.module, each, f"{name}.")
        )
        uses: tuple[str, ...] = (name,)
        if row.path in self.course.again:
            uses = (name, *self._outside(words=row.component != "language"))
        mask = self.course.masks.get(row.path)
        return Stage(name, row.component, run, uses, groups, mask)

    def _kept(self, state: State, at: int, number: int, given: list[Any]) -> State:
        """A state with what a block gave, as far as somebody reads it."""
        row, names = self.structure.rows[at], self._names(at)
        count = len(names)
        read = {names[n % count] for n in (*self.structure.reads[at], -1)}
        where = self._where(row.component)
        known = dict(state.get(where, {}))
        if names[number] in read or row.path in self.course.again:
            known[names[number]] = given
        found = {**state, where: known}
        if number == count - 1:
            found.pop(RUNNING)
            unread = set(names) - read
            found[where] = {k: v for k, v in known.items() if k not in unread}
        return found

    def _enter(self, state: State, part: Part, where: str, own: Sequence[str]) -> State:
        """A pass up to a row; linears outside run that are not fed yet."""
        forwards = self._fed(state, part.next_row)
        made: dict[str, list[Any]] = {}
        for name in own:
            forward = forwards.get(name, self.module.get_submodule(name).forward)
            forwards[name] = noted(forward, name, made)
        if part.enters:
            begun = {RUNNING: self._catch(state, forwards, part.next_row, 0, {})}
        else:
            begun = {}
            for row in range(part.next_row, len(self.structure.rows)):
                forwards |= dict.fromkeys(self._names(row), stopped)
            self._run(state, forwards)
        return {**state, **begun, where: {**state.get(where, {}), **made}}

    def _enter_again(self, state: State, at: int, number: int) -> State:
        """A pass up to a block, for something happened between it and the one before.

        Raises:
            ModelError: the small model did not show it, so parts are not in memory.
        """
        path = self.structure.rows[at].path
        self.again.add(path)
        if path not in self.course.again:
            raise ModelError(
                f"something happens between the blocks of {path} in front of number "
                f"{number}, and in a small model of the same kind nothing does"
            )
        forwards = self._fed(state, at)
        running = self._catch(state, forwards, at, number, state[RUNNING])
        return {**state, RUNNING: running}

    def _catch(
        self,
        state: State,
        forwards: dict[str, Any],
        at: int,
        number: int,
        before: dict[str, Any],
    ) -> dict[str, Any]:
        """How blocks of a row are called, from one of them on."""
        path, names = self.structure.rows[at].path, self._names(at)
        form = before.get("form", 0)
        several = path in self.course.several
        catching = Catching(self._list(at), number, form, several)
        forwards |= {names[n]: each for n, each in catching.forwards().items()}
        for later in range(at + 1, len(self.structure.rows)):
            forwards |= dict.fromkeys(self._names(later), stopped)
        try:
            self._run(state, forwards)
        except Exception:
            # what went on with other values may fail
            if not catching.failed():
                raise
        told = [chain.told for chain in before.get("chains", ())]
        hidden, chains = catching.chains(told)
        return {"hidden": hidden, "chains": chains, "end": catching.end, "form": form}

    def _give(self, state: State) -> State:
        """Logits, all rows fed."""
        head = self.module.get_output_embeddings()
        with gathered(head, state.get(POSITIONS)):
            found = self._run(state, self._fed(state, len(self.structure.rows)))
        kept = {k: v for k, v in state.items() if k not in OWN}
        return {**kept, "logits": found["logits"]}

    def prefix(self, state: State) -> dict[str, Callable[..., Any]]:
        """What takes the place of the prefix's parts, however often it is run."""
        rows = self.structure.rows
        count = sum(row.component in self.course.prefix for row in rows)
        return self._fed({FEATURES: state[FEATURES]}, count, around=True)

    def _fed(
        self, state: State, before: int, *, around: bool = False
    ) -> dict[str, Callable[..., Any]]:
        """What gives again what it gave, all blocks in front of a row among them."""
        known = {**state.get(FEATURES, {}), **state.get(MADE, {})}
        found = {}
        for name, outcomes in known.items():
            is_block = name.startswith(self._inside)
            own = None if is_block else self.module.get_submodule(name).forward
            found[name] = fed(outcomes, own, around=around)
        for row in range(before):
            names = self._names(row)
            last = [name for name in names if name in known][-1]
            for name in names:
                # nobody reads it: any value of the same form will do
                found.setdefault(name, fed(known[last], around=around))
        return found

    def _run(self, state: State, forwards: Mapping[str, Callable[..., Any]]) -> Any:
        """The model's own pass, some parts replaced; None where that ended it."""
        given = {key: value for key, value in state.items() if key not in OWN}
        parts = [self.module.get_submodule(name) for name in forwards]
        with replaced(parts, list(forwards.values())), suppress(ReachedError):
            return self.module(**given, use_cache=False, return_dict=True)
        return None

    @property
    def _inside(self) -> tuple[str, ...]:
        return tuple(f"{row.path}." for row in self.structure.rows)

    def _outside(self, *, words: bool = True) -> tuple[str, ...]:
        """Full names of the tensors outside the rows but the output head's.

        `words`: those of the input embeddings too.
        """
        known = head_and_embeddings(self.module)
        without = self._inside
        if "head" in known:
            without += (f"{known['head']}.",)
        if not words:
            without += (f"{_words(self.module)}.",)
        named = [
            *(name for name, _ in self.module.named_parameters()),
            *(name for name, _ in self.module.named_buffers()),
        ]
        found = [name for name in named if not name.startswith(without)]
        # transformers takes a model's first weight for the type that all of them have
        return tuple(dict.fromkeys((*found, named[0])))


def _words(module: Any) -> str:
    """Full name of the input embeddings."""
    words = module.get_input_embeddings()
    found: str = next(n for n, child in module.named_modules() if child is words)
    return found
