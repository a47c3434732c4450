"""Explanations and comparisons as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from allocator.explain.evidence import LEVELS
from allocator.explain.sentences import varied
from allocator.report.console import PlainConsole, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Explained = Mapping[str, Any]

# rows of a table of groups or pairs
TOP = 12
PAIRS = 5


def print_explanation(explained: Explained) -> None:
    """Print what `--json` gives, as tables and sentences."""
    console = PlainConsole()
    importance = explained["importance"]
    if importance["unreliable"]["group"] is None:
        console.print(_importance(importance))
        console.print(_models(importance))
    pairs = explained["interactions"]["group"][:PAIRS]
    if pairs and not explained["interactions"]["reason"]:
        console.print(_pairs(explained, pairs))
    if explained["allocation"] and importance["unreliable"]["group"] is None:
        console.print(_waterfall(explained))
    for sentence in explained["sentences"]:
        say(console, sentence)
    for each in explained["narrowed"]:
        say(console, f"{each['group']} was fixed at {each['choice']}: {each['reason']}")


def name_of(explained: Explained) -> str:
    """The study or the table that is explained."""
    return str(explained["study"] or explained["table"])


def _range(ci95: Iterable[float]) -> str:
    low, high = ci95
    return f"{low:.1f} to {high:.1f}"


def _importance(importance: Mapping[str, Any]) -> Table:
    table = Table(title="what matters: consensus of forest, permutation and SHAP")
    for name in ("part", "percent", "95 %", "impurity", "permutation", "SHAP"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for level in LEVELS:
        shares = varied(importance[level])
        for name in sorted(shares, key=lambda n: -shares[n]["consensus"])[:TOP]:
            share = shares[name]
            cells = (share[each] for each in ("impurity", "permutation", "shap"))
            table.add_row(
                name,
                f"{share['consensus']:.1f}",
                _range(share["ci95"]),
                *(f"{cell:.1f}" for cell in cells),
            )
        if len(shares) > TOP:
            table.add_row(f"{len(shares) - TOP} more", "", "", "", "", "")
        table.add_section()
    return table


def _models(importance: Mapping[str, Any]) -> Table:
    rows = importance["rows"]
    table = Table(title=f"models on rows held out, of {rows} distinct ones")
    table.add_column("model")
    table.add_column("R2", justify="right")
    table.add_column("rank correlation", justify="right")
    for name, fit in importance["models"].items():
        cells = (fit["r2"], fit["spearman"])
        table.add_row(name, *("" if cell is None else f"{cell:.2f}" for cell in cells))
    return table


def _pairs(explained: Explained, pairs: Iterable[Mapping[str, Any]]) -> Table:
    metric = explained["metric"]
    table = Table(title=f"pairs that act together ({metric})")
    table.add_column("pair")
    table.add_column("strength", justify="right")
    table.add_column("percent of all effects", justify="right")
    for pair in pairs:
        cells = f"{pair['strength']:.3g}", f"{pair['share']:.1f}"
        table.add_row(f"{pair['first']} x {pair['second']}", *cells)
    return table


def _waterfall(explained: Explained) -> Table:
    chosen = explained["allocation"]
    lower = "" if explained["higher_is_better"] else ", lower is better"
    table = Table(title=f"what the forest expects of the chosen allocation{lower}")
    table.add_column("from")
    table.add_column("score", justify="right")
    table.add_row("mean of all", f"{chosen['mean']:.4g}")
    parts = chosen["contributions"]
    order = sorted(parts, key=lambda name: -abs(parts[name]))
    for name in order[:TOP]:
        table.add_row(name, f"{parts[name]:+.3g}")
    if rest := order[TOP:]:
        total = sum(parts[name] for name in rest)
        table.add_row(f"{len(rest)} more", f"{total:+.3g}")
    table.add_row("predicted", f"{chosen['predicted']:.4g}", style="bold")
    return table


def print_comparison(found: Mapping[str, Any]) -> None:
    """Print two explanations side by side."""
    console = PlainConsole()
    first, second = (name_of(each) for each in found["compared"])
    for level, told in found["levels"].items():
        table = Table(title=f"consensus by {level.replace('_', ' ')}, in percent")
        table.add_column("part")
        table.add_column(first, justify="right", overflow="fold")
        table.add_column(second, justify="right", overflow="fold")
        table.add_column("difference", justify="right")
        for row in told["rows"]:
            difference = row["difference"]
            apart = " *" if row["apart"] else ""
            last = "" if difference is None else f"{difference:+.1f}{apart}"
            shares = _share(row["first"]), _share(row["second"])
            table.add_row(row["name"], *shares, last)
        console.print(table)
    say(console, "* the 95 % intervals do not overlap")
    for explained in found["compared"]:
        if reason := explained["importance"]["unreliable"]["group"]:
            say(console, f"{name_of(explained)} is not to be relied on: {reason}")
    for sentence in found["sentences"]:
        say(console, sentence)


def _share(share: Mapping[str, Any] | None) -> str:
    if share is None:
        return ""
    return f"{share['consensus']:.1f} ({_range(share['ci95'])})"
