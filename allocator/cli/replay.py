"""The command `allocate replay`."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click
import cloup

from allocator.cli.options import (
    CONTEXT,
    FILE,
    as_json,
    given_of,
    minimize,
    narrowing,
    seed,
    strategy,
)
from allocator.core.masking import masked

if TYPE_CHECKING:
    from pathlib import Path


@cloup.command(context_settings=CONTEXT)
@cloup.argument("table", metavar="TABLE.csv", type=FILE)
@cloup.option_group(
    "Goal",
    cloup.option(
        "--budget", required=True, metavar="4.5", help="Bits per weight of a row."
    ),
)
@cloup.option_group(
    "Columns",
    cloup.option(
        "--score", required=True, metavar="CIDEr", help="What was measured of a row."
    ),
    minimize,
    cloup.option("--bpw", metavar="bpw", help="Bits per weight.  [default: bpw]"),
    cloup.option(
        "--bits",
        metavar="'vit_*,llm_*'",
        help="Bits of groups.  [default: those named *_bits]",
    ),
)
@cloup.option_group(
    "Search",
    strategy,
    cloup.option(
        "--trials",
        type=int,
        metavar="40",
        help="Scores to read at most.  [default: 20]",
    ),
    narrowing,
    seed,
)
@cloup.option_group(
    "Output",
    cloup.option("--out", type=FILE, metavar="report.html", help="Also write a page."),
    as_json,
)
def replay(table: Path, out: Path | None, as_json: bool, **options: Any) -> None:
    """Search a table of what was measured before.

    As if each score had to be measured: it counts once it is read, and rows over the
    budget are never read. Columns named *_bits are the groups, unless --bits names
    them; any positive width will do.
    """
    from allocator.report.progress import Bars
    from allocator.report.render import render
    from allocator.report.text_replay import print_replay
    from allocator.tables.replay import replay_request, run

    asked = replay_request(table, given_of(options))
    show = render(out) if out else None
    bars = Bars()
    with bars.phase("replay") as tell:
        done = run(asked, tell)
    for note in done.notes:
        bars.say(note)
    if as_json:
        click.echo(json.dumps(done.to_json()))
    else:
        print_replay(done.to_json(), done.explained)
    # behind what was found: a full disk does not take that away
    if show:
        from allocator.report.data import replay_report

        show(replay_report(done, masked(shlex.join(["allocate", *sys.argv[1:]]))))
