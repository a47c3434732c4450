"""A replay of a table as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from allocator.report.console import PlainConsole, say
from allocator.report.text_explanation import print_explanation
from allocator.space.directions import best

if TYPE_CHECKING:
    from collections.abc import Mapping


def print_replay(found: Mapping[str, Any], explained: Mapping[str, Any]) -> None:
    """Print a replay's outcome, as `to_json` gives it, and its explanation."""
    console = PlainConsole()
    console.print(_scores(found))
    console.print(_bits(found["recommended"]["allocation"]))
    for sentence in sentences(found):
        say(console, sentence)
    print_explanation(explained)


def _scores(found: Mapping[str, Any]) -> Table:
    """Uniform rows that were read or fit, and the recommended row."""
    lower = "" if found["higher_is_better"] else ", lower is better"
    title = f"{found['table']['name']}: {found['metric']}"
    table = Table(title=f"{title}{lower}")
    table.add_column("allocation")
    table.add_column("bpw", justify="right")
    table.add_column("score", justify="right")
    for each in found["uniform"]:
        if each["fits"]:
            unread = "failed" if each["failed"] else "unread"
            score = unread if each["score"] is None else _score(each["score"])
            name = f"uniform allocation, {each['bits']}"
            table.add_row(name, f"{each['bpw']:.3f}", score)
    chosen = found["recommended"]
    cells = "recommended", f"{chosen['bpw']:.3f}", _score(chosen["score"])
    table.add_row(*cells, style="bold")
    return table


def _score(score: float) -> str:
    """A score in figures that tell; of losses below a thousandth too."""
    return f"{score:.4f}" if 1e-2 <= abs(score) < 1e6 or not score else f"{score:.4g}"


def _bits(allocation: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="recommended bits")
    table.add_column("group")
    table.add_column("bits", justify="right")
    for key, choice in allocation.items():
        table.add_row(key, str(choice["bits"]))
    return table


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The outcome in words: what was read, and what was gained over uniform."""
    about, chosen = found["table"], found["recommended"]
    said = [
        f"Budget {found['budget']['bpw']:.3f} bpw: {chosen['bpw']:.3f} used. "
        f"{found['trials']['complete']} scores read; {about['fitting']} of "
        f"{about['rows']} rows fit."
    ]
    if about["repeats"]:
        count = about["repeats"]
        repeat = "A row repeats" if count == 1 else f"{count} rows repeat"
        said.append(
            f"{repeat} the bits of another: of equal bits the smallest row was kept, "
            "the first where sizes are equal too."
        )
    return [*said, _gain(found)]


def _gain(found: Mapping[str, Any]) -> str:
    read = [u for u in found["uniform"] if u["score"] is not None]
    if not read:
        return "The table has no uniform row that fits: there is nothing to compare to."
    higher = found["higher_is_better"]
    rival = read[best([(u["bpw"], u["score"]) for u in read], higher)]
    widths = {choice["bits"] for choice in found["recommended"]["allocation"].values()}
    if widths == {rival["bits"]}:
        return (
            f"Nothing better than {rival['bits']} bits everywhere was found: it is the "
            "recommendation."
        )
    gain = found["recommended"]["vs_best_uniform"]["difference"]
    over = "over" if higher else "(lower is better) against"
    return (
        f"{gain:+.4g} {found['metric']} {over} {rival['bits']} bits everywhere, "
        "the best uniform row that was read; the table has no intervals."
    )
