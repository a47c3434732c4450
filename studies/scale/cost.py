"""What a search takes at full size: counts of the code times what one of each takes.

    python studies/scale/cost.py --model CONFIG --task vqav2 --device h100

`--model` is a folder with a config.json, of any family and without weights, or the name
of one in `configs/`. The protocol is the published one: 128 calibration pairs, 1,000
search questions, 21,435 evaluation questions, a budget of 4.0 bits per weight, three
methods, 20 proposals, no refinement, no tuning. `--gpu FILE` takes unit costs from what
`studies/gpu/run.py` has measured; all others are assumed (`devices.py`), and each says
which it is; `--assume FIGURE VALUE` assumes otherwise. `--before` counts the code as it
was at commit e7424a3.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

# run by its path, from anywhere
sys.path.insert(0, str(Path(__file__).parents[2]))

from allocator.core.allocation import FULL, Scheme
from allocator.core.errors import AllocateError
from allocator.core.forecast import Forecast, Part, Savings
from allocator.core.plugins import load
from allocator.core.study import StudySpec
from allocator.families import family_of
from allocator.search.forecast import forecast
from quant.bank import Recipe
from quant.needs import missing_bytes
from studies.scale.devices import ASSUMED, DEVICES, assumed, assuming
from studies.scale.lengths import QUESTIONS, lengths_of
from studies.scale.units import Case, assumed_units, with_measured

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from allocator.core.spec import ModelSpec
    from allocator.core.unit_costs import UnitCosts

HERE = Path(__file__).parent
SETS = {"vqav2": {"calibration": 128, "search": 1_000, "evaluation": 21_435}}
# states at cuts save nothing, as --cache-memory holds those of a few samples
LARGE = replace(Savings(), encoded_looked=1.0, looked=1.0)
# the code as it was encoded each picture for each question, and branched nowhere
EARLIER = replace(LARGE, encoded_scored=1.0, branches=False)
NOW = replace(LARGE, encoded_scored=1 / QUESTIONS, branches=True)


@dataclass(frozen=True)
class Row:
    """A line of the table: so many of something, and the hours that they take."""

    part: str
    count: str
    each: str
    hours: float
    source: str


@dataclass(frozen=True)
class Counted:
    """A search, counted, with what one of each thing takes."""

    case: Case
    found: Forecast
    units: UnitCosts
    told: dict[str, str]
    bytes: int
    most: float | None = None

    def seconds(self, **counts: Any) -> float:
        """What a part of such counts takes."""
        alone = Forecast((Part("own", **counts),), self.found.weights, self.savings)
        return alone.seconds(self.units, self.case.lengths)["own"]

    @property
    def savings(self) -> Savings:
        """Shares of what could be done that is done."""
        return self.found.savings

    def source(self, *names: str) -> str:
        """Whether what one takes is measured; both where some is."""
        named = self.units.named()
        kinds = {named[name].source for name in names if named[name].seconds}
        return " and ".join(sorted(kinds, reverse=True))

    def rows(self) -> Iterator[Row]:
        """The table, without parts that are not there."""
        done, ms = self.found.total, 1e3
        each = {
            "picture": self.savings.encoded_scored * self.units.picture.seconds,
            "prompt": self.prompt * self.units.prompt.seconds,
            "reply": self.case.lengths.reply * self.units.reply.seconds,
        }
        parts = ", ".join(f"{name} {ms * value:.1f}" for name, value in each.items())
        yield Row(
            "scoring",
            f"{done.scored:,.0f} samples",
            f"{ms * sum(each.values()):.1f} ms ({parts})",
            self.seconds(scored=done.scored) / 3600,
            self.source("picture", "prompt", "reply"),
        )
        yield Row(
            "weight swaps",
            f"{done.swaps:,.0f}, of {done.swapped / 1e9:,.0f} G weights",
            f"{1e9 * self.units.swap.seconds:.3g} ns a weight",
            self.seconds(swapped=done.swapped) / 3600,
            self.source("swap"),
        )
        yield Row(
            "looks and probes",
            f"{done.looked:,.0f} samples",
            f"{ms * self.seconds(looked=1.0):.1f} ms",
            self.seconds(looked=done.looked) / 3600,
            self.source("picture", "prompt"),
        )
        yield from self.made(done)
        left = {
            "gradients": "gradient",
            "tuned": "tune",
            "proposals": "proposal",
        }
        for count, unit in left.items():
            if getattr(done, count):
                taken = self.seconds(**{count: getattr(done, count)})
                one = f"{getattr(self.units, unit).seconds:.3g} s"
                yield Row(
                    count,
                    f"{getattr(done, count):,.0f}",
                    one,
                    taken / 3600,
                    self.source(unit),
                )
        start = self.units.start.seconds
        yield Row("start", "1", f"{start:.0f} s", start / 3600, self.source("start"))

    def made(self, done: Part) -> Iterator[Row]:
        """Bank and finalization."""
        low = len(StudySpec("4.0", "vqav2").widths) - 1
        cells = low * len(done.solved)
        taken = self.seconds(gathered=done.gathered, solved=done.solved)
        yield Row(
            "bank",
            f"{len(self.case.spec.linears)} linears x {cells} cells, "
            f"{self.bytes / 1e9:.0f} GB",
            f"{1e9 * taken / max(done.gathered, 1):.3g} ns a weight",
            taken / 3600,
            self.source("gather", *(f"solve {name}" for name in done.solved)),
        )
        wanted = done.finalized / self.found.weights
        made = wanted if self.most is None else min(wanted, self.most)
        taken = self.seconds(finalized=made * self.found.weights)
        counted = f"{made:.1f} of the whole model"
        yield Row(
            "finalization",
            counted + (f" (the code asks for {wanted:.1f})" if made < wanted else ""),
            f"{self.found.weights * self.units.finalize.seconds:.0f} s",
            taken / 3600,
            self.source("finalize"),
        )

    @property
    def prompt(self) -> float:
        """Tokens of a prompt that a sample is counted with."""
        own = self.case.lengths
        return own.branched if self.savings.branches else own.prompt


def model_folder(given: str) -> Path:
    """The folder of a configuration, by its path or its name."""
    folder = Path(given)
    folder = folder.parent if folder.name == "config.json" else folder
    named = HERE / "configs" / given.lower()
    return named if not folder.is_dir() and named.is_dir() else folder


def counted(asked: argparse.Namespace) -> Counted:
    """Count what was asked for.

    Raises:
        AllocateError: no configuration that a family reads.
    """
    folder = model_folder(asked.model)
    spec = family_of(folder).spec(folder)
    config = json.loads((folder / "config.json").read_text())
    steps = assumed("steps of a batch" if asked.before else "steps of a large batch")
    case = Case(
        spec, config, DEVICES[asked.device], lengths_of(config, steps), asked.before
    )
    request = StudySpec("4.0", asked.task, model=str(folder), refine=False, tune=False)
    if asked.before:
        found = earlier(folder.name)
    else:
        found = forecast(request, spec, SETS[asked.task], savings=NOW)
    units, told = assumed_units(case)
    if asked.gpu:
        units, told = with_measured(
            case, units, told, json.loads(asked.gpu.read_text())
        )
    size = bank_bytes(spec, request, asked.before)
    return Counted(case, found, units, told, size, asked.finalizations)


def earlier(name: str) -> Forecast:
    """What the code at commit e7424a3 did, as it was counted then."""
    file = HERE / "before" / f"{name}.json"
    if not file.is_file():
        known = ", ".join(sorted(each.stem for each in file.parent.glob("*.json")))
        raise SystemExit(f"nobody counted {name} before; there are {known}")
    told = json.loads(file.read_text())
    known_fields = {each.name for each in fields(Part)}
    parts = [
        Part(**{k: v for k, v in part.items() if k in known_fields})
        for part in told["parts"]
    ]
    return Forecast(tuple(parts), told["weights"], EARLIER)


def bank_bytes(spec: ModelSpec, request: StudySpec, before: bool) -> int:
    """Bytes of all cells of a bank; before, rounded ones were stored too."""
    methods = {name: load("quant.methods", name) for name in request.methods}
    if before:
        methods["uniform"] = load("quant.methods", "gptq")
    recipe = Recipe("", (), Scheme(), methods, (*request.widths, FULL))
    lacking = {linear.name: list(recipe.keys) for linear in spec.linears}
    return missing_bytes(recipe, spec.linears, lacking)


def table(found: Counted, title: str) -> list[str]:
    """The table, and what each unit cost is from, in Markdown."""
    rows = list(found.rows())
    total = sum(row.hours for row in rows)
    lines = [f"## {title}: {total:.2f} hours", ""]
    lines += ["| part | count | each | hours | unit costs |", "|---|---|---|---|---|"]
    for row in rows:
        own = (row.part, row.count, row.each, f"{row.hours:.3f}", row.source)
        lines.append(f"| {' | '.join(own)} |")
    lines += ["", "| unit | seconds | | |", "|---|---|---|---|"]
    for name, unit in found.units.named().items():
        if unit.seconds:
            own = name, f"{unit.seconds:.3g}", unit.source, found.told[name]
            lines.append(f"| {' | '.join(own)} |")
    return lines


def figures(device: str) -> list[str]:
    """Every figure that nobody measured."""
    own = DEVICES[device]
    lines = [
        f"Assumed: {own.name} with {own.flops / 1e12:.0f} and "
        f"{own.plain_flops / 1e12:.0f} TFLOPS (half precision, dense, and float32), "
        f"{own.bandwidth / 1e12:.2f} TB/s, {own.link / 1e9:.0f} GB/s to the host "
        f"({own.source}).",
        "",
    ]
    lines += [f"- {k}: {f.value:g}, {f.reason}" for k, f in ASSUMED.items()]
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder, or name in configs/")
    parser.add_argument("--task", choices=sorted(SETS), default="vqav2")
    parser.add_argument("--device", choices=sorted(DEVICES), default="h100")
    parser.add_argument("--gpu", type=Path, help="what studies/gpu/run.py wrote")
    parser.add_argument("--finalizations", type=float, help="count at most so many")
    parser.add_argument("--before", action="store_true", help="as at commit e7424a3")
    parser.add_argument("--out", type=Path, help="a Markdown file to write")
    parser.add_argument(
        "--assume", nargs=2, action="append", default=[], metavar=("FIGURE", "VALUE")
    )
    asked = parser.parse_args(arguments)
    unknown = sorted({name for name, _ in asked.assume} - ASSUMED.keys())
    if unknown:
        known = ", ".join(ASSUMED)
        parser.error(f"there is no figure {unknown[0]!r}; there are {known}")
    try:
        with assuming({name: float(value) for name, value in asked.assume}):
            found = counted(asked)
    except AllocateError as error:
        sys.exit(str(error))
    when = " at commit e7424a3" if asked.before else ""
    title = f"{model_folder(asked.model).name} on one {DEVICES[asked.device].name}"
    text = "\n".join([*table(found, title + when), "", *figures(asked.device), ""])
    print(text)
    if asked.out:
        asked.out.write_text(text)


if __name__ == "__main__":
    main()
