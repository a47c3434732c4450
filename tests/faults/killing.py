"""Processes that kill themselves at a chosen point, and notes of what they finished."""

from __future__ import annotations

import json
import os
import signal
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.end_to_end.command import SERVER, environment

if TYPE_CHECKING:
    from collections.abc import Callable


def die() -> None:
    """Be killed: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def patched(name: str, around: Callable[[Any], Any]) -> None:
    """Put something around a function, "module:name" or "module:class.name"."""
    module, _, path = name.partition(":")
    *owners, last = path.split(".")
    owner = import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    setattr(owner, last, around(getattr(owner, last)))


def dying_at(call: int) -> Callable[[Any], Any]:
    """Around a function at whose so-many-th call the process is killed."""
    calls = [0]

    def around(inner: Any) -> Any:
        @wraps(inner)
        def outer(*args: Any, **more: Any) -> Any:
            calls[0] += 1
            if calls[0] == call:
                die()
            return inner(*args, **more)

        return outer

    return around


def noting(file: Path, told: Callable[..., Any]) -> Callable[[Any], Any]:
    """Around a function whose finished calls are noted, a line each."""

    def around(inner: Any) -> Any:
        @wraps(inner)
        def outer(*args: Any, **more: Any) -> Any:
            found = inner(*args, **more)
            with file.open("a") as notes:
                notes.write(json.dumps(told(*args, **more)) + "\n")
            return found

        return outer

    return around


def noted(file: Path) -> list[Any]:
    """What was noted, by whatever number of processes."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def killed(target: Callable[..., object], *args: Any) -> bool:
    """Run something in a process of its own; says whether that was killed."""
    process = SERVER.Process(target=target, args=args)
    process.start()
    process.join()
    code = process.exitcode
    process.close()
    return code == -signal.SIGKILL


def command(home: str, words: tuple[str, ...], point: str, call: int) -> None:
    """Be the command line, killed at a call of a function; "" lets it end.

    Cells, measurements and stages of finalizations that it finishes are noted in its
    home.
    """
    os.environ.update(environment(Path(home)))
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name, (where, told) in NOTED.items():
        patched(where, noting(Path(home) / name, told))
    if point:
        patched(point, dying_at(call))
    for number, name in ((1, "out"), (2, "err")):
        with (Path(home) / name).open("wb") as file:
            os.dup2(file.fileno(), number)
    from allocator.cli import main

    main(list(words), prog_name="allocate")


def _cells(_: Any, packed: dict[str, dict[str, Any]]) -> Any:
    return [[name, key] for name, own in packed.items() for key in own]


def _scored(bench: Any, allocation: Any, samples: Any, *_: Any) -> Any:
    some = [samples[0].id, samples[-1].id, len(samples)]
    return [bench.applied(allocation), *some]


def _looked(bench: Any, allocation: Any, samples: Any, *_: Any) -> Any:
    return [bench.applied(allocation), len(samples)]


# what is noted, and of which functions
NOTED = {
    "cells": ("quant.build:add_cells", lambda *a: _cells(*a)),
    "scored": ("allocator.bench.workbench:Workbench.predictions", _scored),
    "looked": ("allocator.bench.workbench:Workbench.divergence", _looked),
    "finalized": (
        "quant.sequential:add_cells",
        lambda folder, packed: [folder.name, sorted(packed)],
    ),
}
