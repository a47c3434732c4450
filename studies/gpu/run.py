"""What things take on a GPU: unit costs of a search at 7B, in one call of four minutes.

    python studies/gpu/run.py --out DIR [--device cpu --small]

Random weights in the sizes of LLaVA-1.5-7B, made on the device: pictures, prompts and
replies with and without branching, swaps of 2.7 G weights, GPTQ and AWQ of real widths,
bank and finalization of four blocks of each kind (extrapolated to all of them, and
marked so), numbers that overflow. Prints a line a step and writes `gpu_NAME.json`,
anew after each: what a run that is cut off has measured stays. A step that fails is
told, and the others go on; one for which no time is left is left out, which is told
too. `python studies/scale/cost.py` reads the file.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    # run by its path, from anywhere
    sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from studies.gpu._session import Session

# seconds in all, and by how many the last step may be late before it is stopped
BUDGET, LATE = 225.0, 15.0


@dataclass(frozen=True)
class Step:
    """What is measured: its name, how, and the seconds that it may take."""

    name: str
    run: Callable[[Session], dict[str, Any]]
    seconds: float


@dataclass
class Report:
    """What is written: how each step went, and the unit costs found.

    Attributes:
        about: card, versions, what was asked.
        steps: figures of each step that went well, its seconds and peak memory.
        units: seconds of one of each thing, by name.
        left_out: steps for which no time was left.
        failed: a sentence for each step that failed.
    """

    about: dict[str, Any]
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    units: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        """Write it, whole or not at all."""
        draft = file.with_name(f".{file.name}")
        draft.write_text(json.dumps(vars(self), indent=1) + "\n")
        draft.replace(file)


def about(device: str, *, small: bool) -> dict[str, Any]:
    """The card and what drives it."""
    import torch
    import transformers

    found: dict[str, Any] = {
        "card": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "driver": None,
        "memory_bytes": None,
        "small": small,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    if device.startswith("cuda"):
        own = torch.cuda.get_device_properties(torch.device(device))
        found |= {"card": own.name, "memory_bytes": own.total_memory}
        found["driver"] = _driver()
    return found


def _driver() -> str | None:
    """The driver's version; None where nobody tells."""
    asked = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip().splitlines()[0]


def name_of(card: str) -> str:
    """A card's name as part of a file's.

    >>> name_of("NVIDIA H100 80GB HBM3")
    'nvidia-h100-80gb-hbm3'
    """
    return re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Stop what takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"stopped after {seconds:.0f} s")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def take(report: Report, session: Session, step: Step, left: float) -> None:
    """Take one step, and say in a line what came of it."""
    name, started = step.name, time.perf_counter()
    session.begin()
    try:
        with within(left + LATE):
            found = step.run(session)
    except Exception as error:
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        report.failed[name] = said
        print(f"{name}: FAILED, {said}", flush=True)
        return
    finally:
        session.end()
    seconds = time.perf_counter() - started
    units = {key: found.pop(key) for key in list(found) if is_unit(found[key])}
    report.units |= units
    report.steps[name] = {**found, "seconds": seconds, "peak_bytes": session.peak}
    figures = {**found, **{key: unit["each"] for key, unit in units.items()}}
    told = ", ".join(f"{k} {shown(v)}" for k, v in figures.items() if is_plain(v))
    print(f"{name}: {seconds:.1f} s, {session.peak / 1e9:.1f} GB; {told}", flush=True)


def is_unit(value: Any) -> bool:
    """Whether a figure is what one of something takes."""
    return isinstance(value, dict) and {"each", "of"} <= value.keys()


def is_plain(value: Any) -> bool:
    """Whether a figure fits into a line."""
    return isinstance(value, int | float | str)


def shown(value: float | str) -> str:
    """A figure in a line."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the steps; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes, for a CPU")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds in all")
    parser.add_argument("--only", nargs="+", help="names of steps")
    asked = parser.parse_args(arguments)
    started = time.perf_counter()
    from studies.gpu._session import Session
    from studies.gpu._steps import STEPS

    known = [name for name, _, _ in STEPS]
    unknown = sorted(set(asked.only or ()) - set(known))
    if unknown:
        parser.error(f"there is no step {unknown[0]!r}; there are {', '.join(known)}")
    report = Report(about(asked.device, small=asked.small))
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / f"gpu_{name_of(report.about['card'])}.json"
    with tempfile.TemporaryDirectory() as folder:
        session = Session(asked.device, asked.small, Path(folder))
        for step in (Step(*each) for each in STEPS):
            if asked.only and step.name not in asked.only:
                continue
            left = asked.budget - (time.perf_counter() - started)
            needed = session.needed(step.name, step.seconds)
            if needed > left:
                why = f"takes about {needed:.0f} s, and {max(0.0, left):.0f} s are left"
                report.left_out[step.name] = why
                print(f"{step.name}: left out, it {why}", flush=True)
            else:
                take(report, session, step, left)
            report.about["seconds"] = time.perf_counter() - started
            report.write(file)
    print(f"{file}: {len(report.steps)} steps, {len(report.failed)} failed", flush=True)
    return int(bool(report.failed))


if __name__ == "__main__":
    sys.exit(main())
