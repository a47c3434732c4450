"""What a file of another tool says of a model: rules over names, in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from allocator.core.layouts import FULL

if TYPE_CHECKING:
    from collections.abc import Mapping

# How a text stands for linears: as a name, or its end; as a name and nothing else
# ("exact"); as a regular expression at the beginning of a name ("match") or anywhere in
# it ("search"); as a shell pattern, of names or of the quantizers of their weights; as
# what names begin with; as the class of a module; as a component, whose linears in
# blocks are meant ("": of every component)
Kind = Literal[
    "name", "exact", "match", "search", "glob", "quantizer", "start", "class", "blocks"
]


@dataclass(frozen=True)
class Wanted:
    """What a linear is to get, in the words of a file.

    Attributes:
        bits: of a weight, as the file counts them; 16 and more: as it is.
        floating: the numbers have exponents, as FP8 and NVFP4.
        method: of `quant.methods`; None where the file names none.
        group_size: -1 is one group a row; None where the file does not say.
        symmetric: None where the file does not say.
    """

    bits: float
    floating: bool = False
    method: str | None = None
    group_size: int | None = None
    symmetric: bool | None = None


AS_IT_IS = Wanted(FULL)


@dataclass(frozen=True)
class Pattern:
    """A text that stands for linears, and how."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Rule:
    """What the linears of a pattern are to get.

    Attributes:
        pattern: which linears.
        wanted: what they get.
        within: where any of these hold linears of the pattern, only those are meant.
        optional: the tool adds it to every file, so that it may match nothing.
    """

    pattern: Pattern
    wanted: Wanted
    within: tuple[Pattern, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Said:
    """All that a file says, and whose words these are.

    Of two rules for a linear the first one counts where they are `ordered`; otherwise
    they must not differ.
    """

    tool: str
    rules: tuple[Rule, ...]
    ordered: bool = True


class Reader(Protocol):
    """Reads what one tool writes."""

    description: str

    def knows(self, data: Mapping[str, Any]) -> bool:
        """Whether this is what the tool writes."""

    def said(self, data: Mapping[str, Any]) -> Said:
        """What the content of a file says.

        Raises:
            SpecError: a part of it cannot be meant, or is not read here.
            AttributeError, KeyError, TypeError, ValueError: it is of another form.
        """


def quantization_config(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config.json that tells how it was quantized, or a file of its own.

    Raises:
        TypeError: it is no object.
    """
    own = data.get("quantization_config", data)
    found: Mapping[str, Any] = typed(own, "quantization_config", dict)
    return found


def typed(value: Any, name: str, *kinds: type) -> Any:
    """A value of one of the given types.

    Raises:
        TypeError: it is of another; names it.
    """
    # JSON's true is no number
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(f"{name} is {value!r:.60}")
    return value


def listed(value: Any, name: str) -> list[str]:
    """One text or a list of them, as a list.

    Raises:
        TypeError: it is neither.
    """
    values = [value] if isinstance(value, str) else typed(value, name, list)
    return [typed(each, name, str) for each in values]


def object_of(value: Any, name: str) -> dict[str, Any]:
    """An object of JSON, {} for null.

    Raises:
        TypeError: it is something else.
    """
    found: dict[str, Any] = {} if value is None else typed(value, name, dict)
    return found


def overridden(base: Wanted, own: Mapping[str, Any], name: str) -> Wanted:
    """A file's `bits`, `group_size`, `sym` and `data_type` over what it has for all.

    Raises:
        TypeError: one of them is of the wrong type.
    """
    found = base
    if own.get("bits") is not None:
        bits = typed(own["bits"], f"bits of {name}", int, float)
        found = replace(found, bits=bits)
    if own.get("group_size") is not None:
        size = typed(own["group_size"], f"group_size of {name}", int)
        found = replace(found, group_size=size)
    if own.get("sym") is not None:
        symmetric = typed(own["sym"], f"sym of {name}", bool)
        found = replace(found, symmetric=symmetric)
    if own.get("data_type") is not None:
        kind = typed(own["data_type"], f"data_type of {name}", str)
        # "int", "int_asym_dq", "fp", "mx_fp", "nv_fp4_with_static_gs"
        found = replace(found, floating="int" not in kind)
    return found
