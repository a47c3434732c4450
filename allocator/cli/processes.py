"""Options for searches in several processes, which a search starts itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cloup

from allocator.cli.values import completing, listed
from allocator.core.errors import SpecError
from allocator.search.crew.devices import Devices
from allocator.search.engines import engine_names, sources_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.bench.prepare import Setup
    from allocator.core.watch import Heard, Watch
    from allocator.search.crew.crew import Source
    from allocator.search.crew.leading import More
    from allocator.study.journal import Journal


process_options = cloup.option_group(
    "In several processes",
    cloup.option(
        "--at-once",
        type=int,
        metavar="8",
        help="Proposals asked for before one has a score.  [default: 1]",
    ),
    cloup.option(
        "--devices",
        metavar="0,1,2,3",
        help="Devices of this machine, a process on each: 0,1 or cpu,cpu.",
    ),
    cloup.option(
        "--engine",
        shell_complete=completing(engine_names()),
        metavar="ray",
        help=f"Who does pieces elsewhere: {listed(engine_names())}.  [default: none]",
    ),
    cloup.option(
        "--ray-address",
        metavar="auto",
        help="A Ray cluster, auto or host:port.  [default: $RAY_ADDRESS, or a new one]",
    ),
)


def led_on(devices: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a search that leads on the first of several devices, if any.

    Raises:
        SpecError: another option says who computes, too.
    """
    if not devices:
        return dict(given)
    for name in ("device", "engine"):
        if given.get(name, "none") != "none":
            raise SpecError(
                f"--devices and --{name} both say who computes a search; give one"
            )
    return {**given, "device": devices[0]}


def workers_on(devices: Sequence[str], watch: Heard) -> More:
    """Where hands come from, workers on all devices but the first among them."""

    def more(setup: Setup, journal: Journal, own: Watch) -> list[Source]:
        found = sources_of(setup, journal, own)
        if len(devices) > 1:
            found.append(Devices.begun(devices, setup, journal, watch))
        return found

    return more
