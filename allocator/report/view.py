"""What a report shows of its data: the same for the page and for single figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.records import rival_name
from allocator.explain import sentences
from allocator.explain.evidence import parts_of
from allocator.explain.sentences import unit_of
from allocator.report.text_gains import choice_text, on_part, uniform_text
from allocator.space.directions import best

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Data = Mapping[str, Any]

# characters of a name on an axis
LONGEST = 26
# lines of an allocation in a few words
MOST_LINES = 14
# behind the width of a group in which single linears differ
MARK = "*"
# below this width axes are in bits; 16 is full precision
FULL_BITS = 16
LEVELS = {
    "component": "Component",
    "block_group": "Block group",
    "layer_type": "Layer type",
    "group": "Group",
}


def at(data: Any, *keys: str) -> Any:
    """A value deep inside of data, None where anything on the way is missing.

    >>> at({"found": {"model": None}}, "found", "model", "name") is None
    True
    """
    for key in keys:
        if not isinstance(data, dict):
            return None
        data = data.get(key)
    return data


def short(name: str, most: int = LONGEST) -> str:
    """A name with its middle left out where it is long.

    >>> short("language.middle.attn", 11)
    'langu….attn'
    """
    name = " ".join(name.split())
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[len(name) - end :]}"


def number(value: float | None, metric: str, *, sign: bool = False) -> str:
    """A score in the figures its metric deserves."""
    if value is None:
        return "unknown"
    return sentences.number(value, unit_of(metric), sign=sign)


def interval(ci95: Sequence[float] | None, metric: str, *, sign: bool = False) -> str:
    """An interval behind its value; nothing where there is none."""
    if not ci95:
        return ""
    low, high = (number(end, metric, sign=sign) for end in ci95)
    return f" [{low}, {high}]"


def owner_of(keys: Sequence[str]) -> dict[str, str]:
    """The component of every group; nothing where the names tell none."""
    parts = {key: parts_of(key) for key in keys}
    if keys and all(len(part) == 3 for part in parts.values()):
        return {key: part[0] for key, part in parts.items()}
    return {}


def compact(allocation: Data | None, most: int = MOST_LINES) -> list[str]:
    """An allocation in few lines: by block group, or counted by component.

    >>> compact({"vision.front.attn": {"bits": 2, "method": "awq"},
    ...          "vision.front.ff": {"bits": 16, "method": None}})
    ['vision.front: attn 2 awq, ff 16']
    """
    if not allocation:
        return []
    rows: dict[str, list[str]] = {}
    for key, choice in allocation.items():
        parts = parts_of(key)
        told = len(parts) == 3
        name = ".".join(parts[:2]) if told else short(key)
        rows.setdefault(name, []).append(
            f"{parts[2]} {choice_text(choice)}" if told else choice_text(choice)
        )
    if len(rows) > most:
        return _counted(allocation)
    return [f"{short(name)}: {', '.join(row)}" for name, row in rows.items()]


def _counted(allocation: Data) -> list[str]:
    owners = owner_of(list(allocation))
    counts: dict[str, Counter[str]] = {}
    for key, choice in allocation.items():
        name = owners.get(key, "groups")
        counts.setdefault(name, Counter())[choice_text(choice)] += 1
    return [
        f"{short(name)}: "
        + ", ".join(f"{count} at {text}" for text, count in own.most_common(6))
        for name, own in counts.items()
    ]


@dataclass(frozen=True)
class Point:
    """A scored allocation: a trial, a front member, a uniform allocation or a rival.

    `kind` is what differences to the last two are kept under.
    """

    name: str
    bpw: float
    score: float
    ci95: tuple[float, float] | None = None
    allocation: Data = field(default_factory=dict)
    digest: str = ""
    method: str = ""
    kind: str = "best_uniform"
    samples: str = ""


def _point(name: str, each: Data, **more: Any) -> Point:
    ci95 = each.get("ci95")
    return Point(
        name,
        each["bpw"],
        each["score"],
        tuple(ci95) if ci95 else None,
        each.get("allocation") or {},
        each.get("digest") or "",
        samples=each.get("samples") or "",
        **more,
    )


def _known(rows: Iterable[Data] | None) -> list[Data]:
    kept = [row for row in rows or () if None not in (row["bpw"], row.get("score"))]
    return sorted(kept, key=lambda row: (row["bpw"], row["score"]))


def members(data: Data) -> list[Point]:
    """The front, smallest first."""
    rows = _known(data.get("front"))
    return [_point(f"front, {row['bpw']:.3f} bpw", row) for row in rows]


def front_name(points: Sequence[Point]) -> str:
    """What a front is called: that of a study is scored as the bank has the weights."""
    told = any(point.samples for point in points)
    return "front before finalization" if told else "front"


def small_members(data: Data) -> list[Point]:
    """The front without full precision, which is a line of its own in a figure."""
    front = members(data)
    return [point for point in front if point.bpw < FULL_BITS] or front


def uniforms(data: Data) -> list[Point]:
    """Uniform allocations that were measured, smallest first."""
    return [
        _point(uniform_text(row), row, method=row.get("method") or "")
        for row in _known(_in_part(data, data.get("uniform")))
    ]


def rivals(data: Data) -> list[Point]:
    """Even mix and additive optimum, where they were measured."""
    rows = _known(_in_part(data, at(data, "found", "rivals")))
    return [_point(rival_name(row["name"]), row, kind=row["name"]) for row in rows]


def _in_part(data: Data, rows: Iterable[Data] | None) -> list[Data]:
    """Rows with their samples in words, where those are not all."""
    total = at(data, "found", "recommended", "samples")
    return [{**row, "samples": on_part(row, total)} for row in rows or ()]


def where(points: Sequence[Point]) -> str:
    """Where uniform allocations are so: pins may have decided some groups."""
    return "everywhere else" if any("else" in p.name for p in points) else "everywhere"


def trials(data: Data) -> list[Point]:
    """Trials with a score, full precision left out, in the order they were made.

    What was chosen by its score is shown with one that does not know (`explain.shown`).
    """
    rows = [
        {**row, "score": row.get("shown", row["score"])}
        for row in data.get("trials") or ()
        if row.get("score") is not None
        and row.get("bpw") is not None
        and row.get("kind") != "full"
    ]
    kinds = [rival_name(row["kind"]) for row in rows]
    return [
        _point(f"trial {row['number']}, {kind}", row)
        for row, kind in zip(rows, kinds, strict=True)
    ]


def recommended(data: Data) -> Point | None:
    """What is recommended, None where nothing is."""
    found = at(data, "found", "recommended")
    if not found or None in (found.get("bpw"), found.get("score")):
        return None
    return _point("recommended", found)


def metric_of(data: Data) -> str:
    """What scores are counted in."""
    told = at(data, "found", "metric") or at(data, "explained", "metric")
    return str(told or "score")


def lower_is_better(data: Data) -> bool:
    """Whether the best score is the lowest one."""
    told = at(data, "found", "higher_is_better")
    return (
        at(data, "explained", "higher_is_better") if told is None else told
    ) is False


def score_label(data: Data) -> str:
    """What scores are counted in, and which side is the better one where it is below.

    >>> score_label({"found": {"metric": "perplexity", "higher_is_better": False}})
    'perplexity, lower is better'
    """
    lower = ", lower is better" if lower_is_better(data) else ""
    return f"{metric_of(data)}{lower}"


def best_of(points: Sequence[Point], data: Data) -> Point | None:
    """The best of some points, the smallest of equals; None where there are none."""
    if not points:
        return None
    sizes = [(point.bpw, point.score) for point in points]
    return points[best(sizes, not lower_is_better(data))]


def size_label(data: Data) -> str:
    """What sizes are counted in."""
    scope = at(data, "found", "budget", "scope")
    return f"bits per weight ({scope})" if scope else "bits per weight"


@dataclass(frozen=True)
class Share:
    """How much a part matters, in percent, with its 95 % interval."""

    name: str
    percent: float
    low: float
    high: float
    more: str


def importance(data: Data, level: str) -> list[Share]:
    """A level's parts, the most important first."""
    shares = at(data, "explained", "importance", level) or {}
    kept = [
        _share(name, each)
        for name, each in shares.items()
        if each.get("consensus") is not None and _has_varied(each)
    ]
    return sorted(kept, key=lambda share: -share.percent)


def _has_varied(each: Data) -> bool:
    return bool((each.get("ci95") or (0, 1))[1] > 0)


def _share(name: str, each: Data) -> Share:
    low, high = each.get("ci95") or (each["consensus"], each["consensus"])
    return Share(name, each["consensus"], low, high, _measures(each))


def _measures(each: Data) -> str:
    named = {"impurity": "impurity", "permutation": "permutation", "shap": "SHAP"}
    told = [
        f"{name} {each[key]:.1f} %"
        for key, name in named.items()
        if each.get(key) is not None
    ]
    return ", ".join(told)


def unreliable(data: Data, level: str) -> str | None:
    """Why a level's importance is not shown."""
    told = at(data, "explained", "importance", "unreliable", level)
    return str(told) if told else None


@dataclass(frozen=True)
class BitsMap:
    """Groups times allocations: of the front, and the recommended one.

    `exceptions` are linears of the recommended one that differ, by group and name.
    """

    groups: list[str]
    columns: list[Point]
    chosen: int | None
    exceptions: Data = field(default_factory=dict)

    def within(self, group: str, column: int) -> Data:
        """Linears of a group that differ from it in a column, by name."""
        own: Data = self.exceptions.get(group, {}) if column == self.chosen else {}
        return own

    def text(self, group: str, column: int) -> str:
        """The width of a group in a column, marked where some of its linears differ."""
        choice = self.columns[column].allocation.get(group)
        mark = MARK if self.within(group, column) else ""
        return f"{choice['bits']}{mark}" if choice else ""


def bits_map(data: Data) -> BitsMap:
    """The allocations to compare, smallest first, and which of them is recommended."""
    columns = [member for member in members(data) if member.allocation]
    best = recommended(data)
    if best and best.allocation:
        # its score is another set's: the front's own column stands for it
        if best.digest not in {column.digest for column in columns}:
            columns.append(best)
            columns.sort(key=lambda column: column.bpw)
        chosen = [column.digest for column in columns].index(best.digest)
    else:
        chosen = None
    groups = list(dict.fromkeys(key for column in columns for key in column.allocation))
    return BitsMap(groups, columns, chosen, at(data, "exceptions") or {})
