"""Names of linears as other tools have them, and which of ours they stand for.

Ours are those of transformers 5. Files of before, of text models and of published
checkpoints have others: each layout renames them all at once, and a pattern is read in
the first layout in which it matches anything. A name may lack its beginning where one
linear alone ends with it.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from allocator.bench.imported._expressions import expression
from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from allocator.bench.imported._said import Pattern, Rule
    from allocator.core.spec import ModelSpec

# transformers 4 and published checkpoints, in the order in which they are tried: LLaVA
# and all that are built as it is, their towers with and without a part of the name;
# Qwen-VL; text models; without and with what stands before all names
LANGUAGE = (r"^model\.language_model\.", "language_model.model.")
HEAD = (r"^lm_head$", "language_model.lm_head")
PLAIN = (r"^model\.", "")
TOWER = (r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.")
LAYOUTS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (LANGUAGE, HEAD, PLAIN, TOWER),
    (LANGUAGE, HEAD, PLAIN),
    ((r"^model\.language_model\.", "model."), (r"^model\.visual\.", "visual.")),
    (PLAIN,),
    ((r"^", "model."),),
)
# what ModelOpt puts into a linear
WEIGHT_QUANTIZER = ".weight_quantizer"
ENDINGS = (".weight", ".qweight")
# names of each kind that an error lists
LISTED = 3


@dataclass(frozen=True)
class Names:
    """The linears of a model, by any name that a file may have for them."""

    spec: ModelSpec

    @cached_property
    def all(self) -> tuple[str, ...]:
        """Full names of the linears in groups, and of those that stay at 16 bits."""
        grouped = (linear.name for linear in self.spec.linears)
        return (*grouped, *(left.name for left in self.spec.left_out))

    @cached_property
    def layouts(self) -> tuple[Mapping[str, str], ...]:
        """For each layout, ours by its names."""
        return tuple(
            {_renamed(name, layout): name for name in self.all} for layout in LAYOUTS
        )

    def of(self, rule: Rule) -> tuple[str, ...]:
        """The linears that a rule is about, by full name.

        Raises:
            SpecError: there are none, or a name stands for several.
        """
        found = self._matching(rule.pattern)
        near = {name for each in rule.within for name in self._matching(each)}
        if kept := tuple(name for name in found if name in near):
            return kept
        if not found and not rule.optional:
            raise SpecError(f"names {self._unknown(rule.pattern)}")
        return found

    def _matching(self, pattern: Pattern) -> tuple[str, ...]:
        kind, text = pattern.kind, pattern.text
        if kind in ("blocks", "class"):
            return self._in_blocks(text) if kind == "blocks" else self._of_class(text)
        if kind in ("name", "exact"):
            name = _without_ending(text)
            found = self._exact(name)
            return found or (self._ending(name) if kind == "name" else ())
        return self._first(_test(kind, text))

    def _exact(self, text: str) -> tuple[str, ...]:
        named = (layout[text] for layout in self.layouts if text in layout)
        return tuple(dict.fromkeys(named))[:1]

    def _ending(self, text: str) -> tuple[str, ...]:
        """The one linear whose name ends so, in whatever layout.

        Raises:
            SpecError: there are several.
        """
        found = {
            ours: None
            for layout in self.layouts
            for name, ours in layout.items()
            if name.endswith(f".{text}")
        }
        if len(found) > 1:
            some = ", ".join(list(found)[:LISTED])
            raise SpecError(f"names {text!r}, which may be any of {some}")
        return tuple(found)

    def _first(self, test: Callable[[str], object]) -> tuple[str, ...]:
        """What matches in the first layout in which anything does."""
        for layout in self.layouts:
            if found := tuple(ours for name, ours in layout.items() if test(name)):
                return found
        return ()

    def _in_blocks(self, component: str) -> tuple[str, ...]:
        return tuple(
            linear.name
            for linear in self.spec.linears
            if linear.block is not None and component in ("", linear.component)
        )

    def _of_class(self, text: str) -> tuple[str, ...]:
        """Linears by the class of their modules; those of embeddings have another."""
        looked_up = {x.name for x in self.spec.linears if x.type == "embeddings"}
        if text == "Embedding":
            return tuple(name for name in self.all if name in looked_up)
        if text == "Linear":
            return tuple(name for name in self.all if name not in looked_up)
        return ()

    def _unknown(self, pattern: Pattern) -> str:
        names = [name for layout in self.layouts for name in layout]
        near = difflib.get_close_matches(pattern.text[:200], names, n=1)
        hint = f"; did it mean {near[0]!r}?" if near else ""
        return f"{pattern.text!r:.200}, which is no linear of this model{hint}"


def _renamed(name: str, layout: Iterable[tuple[str, str]]) -> str:
    for pattern, new in layout:
        name = re.sub(pattern, new, name)
    return name


def _without_ending(text: str) -> str:
    """A name without that of its tensor."""
    for ending in ENDINGS:
        text = text.removesuffix(ending)
    return text


def _test(kind: str, text: str) -> Callable[[str], object]:
    """What tells whether a name is meant.

    Raises:
        SpecError: the text is no regular expression, or one that may take forever.
    """
    if kind in ("glob", "quantizer"):
        ending = WEIGHT_QUANTIZER if kind == "quantizer" else ""
        return lambda name: fnmatchcase(name + ending, text)
    if kind == "start":
        return lambda name: name.startswith(text)
    found = expression(text)
    return found.match if kind == "match" else found.search


def in_short(names: Collection[str]) -> str:
    """Names for a sentence: the first ones, and how many more there are."""
    some = ", ".join(list(names)[:LISTED])
    more = len(names) - LISTED
    return f"{some} and {more:,} more" if more > 0 else some
