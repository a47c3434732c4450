"""The command `allocate replay`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import click

from allocator.cli.options import json_option


@click.command()
@click.argument("table", metavar="TABLE.csv", type=Path)
@click.option("--score", required=True, metavar="COLUMN", help="Higher is better.")
@click.option(
    "--bpw", default="bpw", metavar="COLUMN", help="Bits per weight.  [default: bpw]"
)
@click.option("--budget", required=True, metavar="BPW", help="Bits per weight: 4.5.")
@click.option("--trials", default=20, help="Scores to read at most.  [default: 20]")
@click.option("--seed", default=0, help="Of everything random.  [default: 0]")
@click.option(
    "--strategy", default="surrogate", help="How rows are chosen.  [default: surrogate]"
)
@click.option("--bits", metavar="COLUMNS", help="Of groups: 'vit_*,llm_*'.")
@click.option(
    "--out", type=Path, metavar="FILE", help="Also write a page: report.html."
)
@click.option("--narrowing/--no-narrowing", default=True, help="As in a search.")
@json_option
def replay(  # noqa: PLR0913, one for each option
    *,
    table: Path,
    score: str,
    bpw: str,
    budget: str,
    trials: int,
    seed: int,
    strategy: str,
    bits: str | None,
    out: Path | None,
    narrowing: bool,
    as_json: bool,
) -> None:
    """Search a table of measurements as if each score had to be measured.

    Columns named *_bits that hold widths are the groups, unless --bits names them; a
    score counts once it is read. Rows over the budget are never read.
    """
    from allocator.report.progress import Bars
    from allocator.report.render import render
    from allocator.report.text_replay import print_replay
    from allocator.tables.replay import ReplayRequest, run

    asked = ReplayRequest(
        table, score, budget, bpw, trials, seed, strategy, bits, narrowing
    )
    show = render(out) if out else None
    with Bars().phase("replay") as tell:
        done = run(asked, tell)
    if show:
        from allocator.report.data import replay_report

        show(replay_report(done, shlex.join(["allocate", *sys.argv[1:]])))
    if as_json:
        click.echo(json.dumps(done.to_json()))
    else:
        print_replay(done.to_json(), done.explained)
