"""Pins: groups kept as they are, or within bounds, by patterns over their keys.

`vision.*=16` is a rule: a shell pattern (`fnmatch`), a width, and for a pin perhaps a
method. All rules that match a group hold at once; rules that exclude each other are
refused, none comes before another.
"""

from __future__ import annotations

import difflib
import itertools
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import FULL, WIDTHS, Choice
from allocator.core.errors import SpecError
from allocator.core.spec import EXTRAS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

# names of the fields of `StudySpec` and of `Pins`; options have a hyphen
PIN, LEAST, MOST = KINDS = ("pin", "at_least", "at_most")
RULE = re.compile(r"\s*([^=,]*[^=,\s])\s*=\s*(\d{1,4})\s*(?:/\s*([^\s,=]+)\s*)?")
# characters of a rule
LONGEST = 1_000
# keys that an error lists; near misses of a pattern
LISTED, NEAR = 20, 3


@dataclass(frozen=True)
class Rule:
    """What some groups may get: exactly some bits, or no fewer, or no more.

    `kind` is "pin", "at_least" or "at_most"; `method` is None where any will do.
    """

    kind: str
    text: str
    pattern: str
    bits: int
    method: str | None = None

    @staticmethod
    def parse(kind: str, text: str) -> Rule:
        """Read "vision.*=16", or for a pin also "vision.*=4/gptq".

        Raises:
            SpecError: anything else, or a width that there is none of.

        >>> Rule.parse("pin", "vision.*=4/gptq").method
        'gptq'
        """
        found = RULE.fullmatch(text) if len(text) <= LONGEST else None
        if found is None:
            form = " or PATTERN=BITS/METHOD" if kind == PIN else ""
            raise SpecError(
                f"{said(kind, text)} is not PATTERN=BITS{form}, such as 'vision.*=8', "
                "one each time"
            )
        pattern, bits, method = found.groups()
        rule = Rule(kind, text, pattern, int(bits), method)
        rule.check_width()
        return rule

    def check_width(self) -> None:
        """Refuse a width that there is none of, and a method where none belongs."""
        if self.bits not in WIDTHS:
            allowed = ", ".join(map(str, WIDTHS))
            raise SpecError(f"{self}: width {self.bits} is not one of {allowed}")
        if self.method and self.kind != PIN:
            raise SpecError(f"{self}: a bound is a width alone, without a method")
        if self.method and self.bits == FULL:
            raise SpecError(f"{self}: 16 bits take no method")

    def __str__(self) -> str:
        return said(self.kind, self.text)

    @property
    def needs_full(self) -> bool:
        """Whether it leaves nothing but 16 bits, which need no bank."""
        return self.kind != MOST and self.bits == FULL

    def matches(self, key: str) -> bool:
        """Whether it is about a group."""
        return fnmatchcase(key, self.pattern)

    def permits(self, choice: Choice) -> bool:
        """Whether a group that it matches may get a choice."""
        if self.kind == LEAST:
            return choice.bits >= self.bits
        if self.kind == MOST:
            return choice.bits <= self.bits
        return choice.bits == self.bits and self.method in (None, choice.method)


@dataclass(frozen=True)
class Pins:
    """Which groups are kept at a choice, and which within bounds; none by default.

    Raises:
        SpecError: a text that is no rule.
    """

    pin: tuple[str, ...] = ()
    at_least: tuple[str, ...] = ()
    at_most: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _ = self.rules

    def __bool__(self) -> bool:
        return bool(self.rules)

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, read."""
        return tuple(
            Rule.parse(kind, text) for kind in KINDS for text in getattr(self, kind)
        )

    def to_json(self) -> dict[str, list[str]]:
        """Plain data: the texts of each kind."""
        return {kind: list(getattr(self, kind)) for kind in KINDS}

    @staticmethod
    def from_json(kept: Mapping[str, Any] | None) -> Pins:
        """Read what `to_json` wrote; None, as kept before there were any, is none."""
        return Pins(**{kind: tuple(texts) for kind, texts in (kept or {}).items()})

    def check(self, widths: Sequence[int], methods: Sequence[str]) -> None:
        """Refuse what no group could get in a search.

        Args:
            widths: of the search; 16 bits may be asked for all the same.
            methods: of the search.

        Raises:
            SpecError: names the rule, and what there is.
        """
        for rule in self.rules:
            if rule.method and rule.method not in methods:
                raise SpecError(
                    f"{rule} names a method that is not among those of this search, "
                    f"{', '.join(methods)} (--methods)"
                )
            same = (Choice(b, None if b == FULL else rule.method or "") for b in widths)
            if not rule.needs_full and not any(map(rule.permits, same)):
                raise SpecError(
                    f"{rule} allows none of the widths of this search, "
                    f"{', '.join(map(str, widths))} (--widths)"
                )

    def allowed(
        self, keys: Sequence[str], choices: tuple[Choice, ...]
    ) -> dict[str, tuple[Choice, ...]]:
        """What each group may get, in the order of the choices.

        Args:
            keys: the groups.
            choices: what a group may get that nothing pins.

        Raises:
            SpecError: a rule matches no group, or two leave a group nothing.
        """
        for rule in self.rules:
            if not any(map(rule.matches, keys)):
                raise SpecError(f"{rule} matches no group{_hint(rule.pattern, keys)}")
        return {key: self._of(key, choices) for key in keys}

    def _of(self, key: str, choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
        rules = [rule for rule in self.rules if rule.matches(key)]
        if any(rule.needs_full for rule in rules):
            choices = tuple(dict.fromkeys((*choices, Choice(FULL))))
        for two in itertools.combinations_with_replacement(rules, 2):
            if not _left(choices, two):
                told = " and ".join(map(str, dict.fromkeys(two)))
                widths = ", ".join(map(str, dict.fromkeys(c.bits for c in choices)))
                raise SpecError(f"{told} leave {key} nothing of the widths {widths}")
        return _left(choices, rules)


NO_PINS = Pins()


def said(kind: str, text: str) -> str:
    """A rule as the command line has it."""
    return f"--{kind.replace('_', '-')} {text!r}"


def _left(choices: tuple[Choice, ...], rules: Collection[Rule]) -> tuple[Choice, ...]:
    return tuple(c for c in choices if all(rule.permits(c) for rule in rules))


def _hint(pattern: str, keys: Sequence[str]) -> str:
    """What may have been meant, and which groups there are."""
    parts = [key.split(".") for key in keys]
    starts = {".".join(p[:n]) + ".*" for p in parts for n in range(1, len(p))}
    near = difflib.get_close_matches(pattern, [*keys, *sorted(starts)], n=NEAR)
    told = f" (groups: {', '.join(keys[:LISTED])}"
    if len(keys) > LISTED:
        told += f" and {len(keys) - LISTED} more, which `allocate inspect` lists"
    told += ")"
    if any(kind[:5] in pattern for kind in EXTRAS) and pattern not in starts:
        told += f"; {' and '.join(EXTRAS)} are groups only with --include"
    if near:
        told += f". Did you mean {' or '.join(map(repr, near))}?"
    return told


def in_words(pins: Mapping[str, Any] | None) -> str:
    """Pins as `Pins.to_json` has them, in a line; nothing where there are none.

    >>> in_words({"pin": ["vision.*=16"], "at_least": ["language.*=3"], "at_most": []})
    'vision.*=16, language.* at least 3'
    """
    leads = {PIN: "=", LEAST: " at least ", MOST: " at most "}
    return ", ".join(
        text.replace("=", leads[kind])
        for kind in KINDS
        for text in (pins or {}).get(kind, ())
    )
