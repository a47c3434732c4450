"""The command `allocate replay`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from allocator.options import json_option


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
    as_json: bool,
) -> None:
    """Search a table of measurements as if each score had to be measured.

    Columns named *_bits that hold widths are the groups; a score counts once it is
    read. Rows over the budget are never read.
    """
    from allocator.replay import ReplayRequest, run
    from allocator.report.progress import Bars
    from allocator.report.replay import print_replay

    asked = ReplayRequest(table, score, budget, bpw, trials, seed, strategy)
    with Bars().phase("replay") as tell:
        found = run(asked, tell).to_json()
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_replay(found)
