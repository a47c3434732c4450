from __future__ import annotations

import json

import pytest

from allocator.core.allocation import Choice
from allocator.core.errors import SpecError
from allocator.core.pins import NO_PINS, Pins, in_words

KEYS = (
    *("vision.front.attn", "vision.front.ff", "vision.end.attn", "vision.end.ff"),
    *("connector.all.all", "language.front.ff", "language.end.ff"),
)
LOW = tuple(Choice(b, method) for b in (2, 3, 4, 8) for method in ("uniform", "gptq"))
CHOICES = (*LOW, Choice(16))


def labels(pins: Pins, key: str, choices: tuple[Choice, ...] = CHOICES) -> list[str]:
    return [str(choice) for choice in pins.allowed(KEYS, choices)[key]]


def test_a_pin_is_a_width_by_any_method_or_by_one() -> None:
    pins = Pins(("vision.*=16", "language.end.*=4/gptq", "connector.all.all=3"))
    assert labels(pins, "vision.end.attn") == ["16"]
    assert labels(pins, "language.end.ff") == ["4/gptq"]
    assert labels(pins, "connector.all.all") == ["3/uniform", "3/gptq"]
    assert labels(pins, "language.front.ff") == [str(choice) for choice in CHOICES]


def test_bounds_hold_at_both_ends() -> None:
    pins = Pins(at_least=("*.ff=3",), at_most=("vision.*=4",))
    both = ["3/uniform", "3/gptq", "4/uniform", "4/gptq"]
    assert labels(pins, "vision.end.ff") == both
    assert labels(pins, "language.end.ff") == [str(choice) for choice in CHOICES[2:]]
    assert labels(pins, "vision.end.attn") == [str(choice) for choice in CHOICES[:6]]
    # a bound need not be a width of the search
    five = Pins(at_least=("*=5",))
    assert labels(five, "vision.end.ff") == ["8/uniform", "8/gptq", "16"]


def test_sixteen_bits_may_be_pinned_where_they_are_no_choice() -> None:
    pins = Pins(("vision.*=16",), ("connector.*=16",))
    for key in ("vision.front.ff", "connector.all.all"):
        assert labels(pins, key, LOW) == ["16"]
    assert labels(pins, "language.end.ff", LOW) == [str(choice) for choice in LOW]
    # a lower bound below brings them in for nobody
    assert labels(Pins(at_least=("*=8",)), "vision.end.ff", LOW)[-1] == "8/gptq"


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("vision.*", 4),
        ("*", 7),
        ("*.ff", 4),
        ("vision.*.ff", 2),
        ("vision.end.??", 1),
        ("[cv]*", 5),
        ("[!v]*", 3),
        ("connector.all.all", 1),
    ],
)
def test_patterns_are_those_of_the_shell(pattern: str, count: int) -> None:
    allowed = Pins((f"{pattern}=8",)).allowed(KEYS, CHOICES)
    assert sum(len(own) == 2 for own in allowed.values()) == count


def test_space_around_the_parts_does_not_matter() -> None:
    assert labels(Pins((" vision.* = 4 / gptq ",)), "vision.end.ff") == ["4/gptq"]


@pytest.mark.parametrize(
    "text",
    [
        *("vision.*", "=16", "vision.*=", "vision.*=four", "vision.*=4.0", ""),
        *("vision.*=fp16", "vision.*=-4", "vision.*=4/", "vision.*=/gptq"),
        *("vision.*=4,connector.*=8", "vision.*,connector.*=8", "a=b=4"),
        *("vision.*=4/gptq/awq=2", "vision.*=" + 900 * "9"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_form(text: str) -> None:
    with pytest.raises(SpecError) as refused:
        Pins((text,))
    assert f"--pin {text!r} is not PATTERN=BITS or PATTERN=BITS/METHOD" in str(
        refused.value
    )
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("pins", "sentence"),
    [
        ({"pin": ("a=7",)}, r"--pin 'a=7': width 7 is not one of 2, 3, 4, 5, 6, 8, 16"),
        ({"at_most": ("a=32",)}, r"--at-most 'a=32': width 32 is not one of"),
        ({"pin": ("a=16/gptq",)}, "16 bits take no method"),
        ({"at_least": ("a=3/gptq",)}, "--at-least .* a bound is a width alone"),
    ],
)
def test_a_width_or_method_that_cannot_be_is_refused(
    pins: dict[str, tuple[str, ...]], sentence: str
) -> None:
    with pytest.raises(SpecError, match=sentence):
        Pins(**pins)


@pytest.mark.parametrize(
    ("pins", "sentence"),
    [
        ({"pin": ("*=5",)}, r"allows none of the widths .*, 2, 3, 4, 8 \(--widths\)"),
        ({"pin": ("*=4/awq",)}, r"--pin '\*=4/awq' .* uniform, gptq \(--methods\)"),
        ({"at_most": ("*=2",), "pin": ("x=6",)}, "--pin 'x=6' allows none"),
    ],
)
def test_what_no_search_like_this_can_give_is_refused(
    pins: dict[str, tuple[str, ...]], sentence: str
) -> None:
    with pytest.raises(SpecError, match=sentence):
        Pins(**pins).check((2, 3, 4, 8), ("uniform", "gptq"))


def test_bounds_beyond_the_widths_of_a_search_are_refused_unless_they_are_sixteen() -> (
    None
):
    with pytest.raises(SpecError, match="--at-least 'x=8' allows none"):
        Pins(at_least=("x=8",)).check((2, 4), ("gptq",))
    with pytest.raises(SpecError, match="--at-most 'x=2' allows none"):
        Pins(at_most=("x=2",)).check((4, 8), ("gptq",))
    Pins(("x=16",), ("y=16",), ("z=16",)).check((2, 4), ("gptq",))


@pytest.mark.parametrize(
    ("pins", "both"),
    [
        ({"pin": ("vision.*=16", "vision.end.*=4")}, ("vision.*=16", "vision.end.*=4")),
        ({"pin": ("*=4/gptq", "*.ff=4/uniform")}, ("*=4/gptq", "*.ff=4/uniform")),
        ({"pin": ("*.ff=3",), "at_least": ("vision.*=4",)}, ("*.ff=3", "vision.*=4")),
        ({"pin": ("*.ff=8",), "at_most": ("vision.*=4",)}, ("*.ff=8", "vision.*=4")),
        (
            {"at_least": ("*=8", "*=2"), "at_most": ("vision.*=4", "*=16")},
            ("*=8", "vision.*=4"),
        ),
        ({"pin": ("*=16",), "at_most": ("*.ff=8",)}, ("*=16", "*.ff=8")),
    ],
)
def test_rules_that_exclude_each_other_are_both_named(
    pins: dict[str, tuple[str, ...]], both: tuple[str, str]
) -> None:
    with pytest.raises(SpecError) as refused:
        Pins(**pins).allowed(KEYS, CHOICES)
    said = str(refused.value)
    assert all(repr(text) in said for text in both)
    assert said.count("--") == 2
    assert "leave vision." in said


def test_rules_that_agree_hold_together() -> None:
    pins = Pins(("vision.*=4", "vision.*=4", "*.ff=4/gptq"), ("*=3",), ("*=8",))
    assert labels(pins, "vision.end.ff") == ["4/gptq"]
    assert labels(pins, "vision.end.attn") == ["4/uniform", "4/gptq"]


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("vision", "'vision.*'"),
        ("visoin.*", "'vision.*'"),
        ("language.end", "'language.end.*'"),
        ("vision.end.attm", "'vision.end.attn'"),
        ("Vision.*", "'vision.*'"),
    ],
)
def test_a_pattern_that_matches_nothing_gets_its_near_miss(
    pattern: str, near: str
) -> None:
    with pytest.raises(SpecError, match="matches no group") as refused:
        Pins((f"{pattern}=8",)).allowed(KEYS, CHOICES)
    said = str(refused.value)
    assert near in said.partition("Did you mean")[2]
    assert ", ".join(KEYS) in said


def test_of_many_groups_the_first_are_listed() -> None:
    keys = [f"language.{block:02d}.ff" for block in range(64)]
    with pytest.raises(SpecError) as refused:
        Pins(("model.layers.*=8",)).allowed(keys, CHOICES)
    said = str(refused.value)
    assert "language.19.ff and 44 more, which `allocate inspect` lists" in said
    assert "language.20.ff" not in said


def test_what_is_no_group_unless_included_is_said_to_be_so() -> None:
    with pytest.raises(SpecError, match="embeddings are groups only with --include"):
        Pins(("*.head=8",)).allowed(KEYS, CHOICES)


def test_pins_survive_json_and_results_of_before_have_none() -> None:
    pins = Pins(("a.*=16",), ("b.*=3",), ("c.*=8", "d=4"))
    kept = json.loads(json.dumps(pins.to_json()))
    assert kept == {
        "pin": ["a.*=16"],
        "at_least": ["b.*=3"],
        "at_most": ["c.*=8", "d=4"],
    }
    assert Pins.from_json(kept) == pins
    assert Pins.from_json(None) == NO_PINS
    assert not NO_PINS
    assert in_words(kept) == "a.*=16, b.* at least 3, c.* at most 8, d at most 4"
    assert in_words(NO_PINS.to_json()) == in_words(None) == ""
