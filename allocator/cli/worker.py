"""The command `allocate worker`."""

from __future__ import annotations

from typing import Any

import click
import cloup

from allocator.cli.echo import echo
from allocator.cli.options import CONTEXT, given_of, storage_timeout
from allocator.cli.values import Duration
from allocator.search.crew.devices import STORAGE


@cloup.command(context_settings=CONTEXT)
@cloup.option(
    "--study", "name", required=True, metavar="NAME", help="The study to help with."
)
@cloup.option_group(
    "Where it is kept",
    cloup.option(
        "--storage",
        envvar=STORAGE,
        metavar="sqlite:///my.db",
        help=f"Database URL, or FILE.log, unless {STORAGE} in the environment is one.  "
        "[default: the user's data folder]",
    ),
    storage_timeout,
)
@cloup.option(
    "--wait",
    type=Duration(),
    metavar="5m",
    help="How long to wait for the study to be begun.  [default: 0s]",
)
@cloup.option_group(
    "What is here",
    cloup.option("--model", metavar="FOLDER", help="Where the model is here."),
    cloup.option("--data", metavar="DIR", help="Where the data are here."),
    cloup.option(
        "--device",
        metavar="cuda:1",
        help="cpu, cuda, cuda:1, mps; by default the fastest there is.",
    ),
    cloup.option(
        "--mixed-devices",
        "mixed",
        is_flag=True,
        default=None,
        help="Help on another kind of device, too: its numbers differ.",
    ),
)
@click.pass_context
def worker(ctx: click.Context, /, name: str, **options: Any) -> None:
    """Help with a search that goes on elsewhere.

    It ends when nothing is left to do. Any number of workers, on any machine that
    reaches the storage, share the bank, probes, looks and evaluations of `allocate ...
    --storage URL`. Where the process that leads the search dies, one takes its place.
    """
    del ctx
    from allocator.report.progress import Bars
    from allocator.search.join import join

    given = given_of(options)
    url, timeout = given.pop("storage", None), given.pop("storage_timeout", None)
    more = {} if timeout is None else {"timeout": timeout}
    more |= {"wait": wait} if (wait := given.pop("wait", None)) else {}
    own = {"device": "auto", **given}
    echo(join(name, url, own, Bars(), **more))
