"""All image-text-to-text architectures of transformers: how far each gets.

    python -m studies.families.coverage --out studies/results/families_coverage.json

It also writes `coverage.md` here. Names of architectures ask for these alone; rows of
all others that are in the file stay. Each runs in a process of its own
(`studies.families.case`), with a limit of time and of memory.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import tempfile
import textwrap
import time
from pathlib import Path
from signal import SIGKILL, SIGXCPU
from typing import TYPE_CHECKING, Any

from quant.files import replace_file
from studies.families.case import CLASSES, OK, STEPS, limited
from studies.families.defaults import OTHERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

TABLE = Path(__file__).with_name("coverage.md")
# of a clock; a process ends itself after fewer of a processor
SECONDS = 900
SLOW = "takes too long"
# what a process would take seconds to import
FIRST = ("compressed_tensors", "transformers.models.llava.modeling_llava")
# up to the replies
WHOLE = list(STEPS)[: list(STEPS).index("replies") + 1]
# characters of a reason in the table
LONGEST = 160

TEXT = """# Which architectures work

Written by `python -m studies.families.coverage`; do not edit. transformers {version}
names {count} architectures in `MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES`. Of each a
random model of the shrunk default configuration (`allocator/families/_shrunk.py`, with
what defaults lack from `defaults.py`) is saved to a folder, and goes through:

- **shrunk**: transformers takes the small configuration; inputs are made without a
  processor (`allocator/families/_made_inputs.py`);
- **forward**: logits are finite, and pictures change them;
- **generate**: transformers writes six tokens greedily;
- **inspected**: every linear is in a group, or left out with a reason;
- **stages**: their composition equals transformers' forward pass;
- **banked**: uniform and GPTQ, at 2 and 4 bits;
- **applied**: each group at 2 bits changes all its matrices and nothing else, and back
  at 16 bits the logits are bit-identical;
- **replies**: six greedy tokens equal those of `generate`;
- **exported**: as compressed-tensors, which transformers reads as it was written, else
  as a plan.

{totals}

| architecture | family | parameters | {head} | s |
|---|---|---|{line}---|
{rows}

## Why not

{reasons}
"""


class Child:
    """An architecture in a process of its own: forked, since imports take seconds."""

    def __init__(self, name: str) -> None:
        self.name, self.began = name, time.monotonic()
        self.root = tempfile.TemporaryDirectory()
        self.out = Path(self.root.name) / "row.json"
        fork = multiprocessing.get_context("fork")
        self.process = fork.Process(target=limited, args=(name, self.out))
        self.process.start()

    @property
    def over(self) -> bool:
        """Whether it has ended, or was ended since it takes too long."""
        if time.monotonic() - self.began > SECONDS:
            self.process.kill()
            self.process.join()
        return not self.process.is_alive()

    def row(self) -> dict[str, Any]:
        """How far it got."""
        found: dict[str, Any] = {"name": self.name, "steps": {WHOLE[0]: SLOW}}
        if self.out.is_file():
            found = json.loads(self.out.read_text())
        if code := self.process.exitcode:
            said = SLOW if -code in (SIGXCPU, SIGKILL) else f"ends with code {code}"
            # the step that it was in
            found["steps"][list(found["steps"])[-1]] = said
        self.root.cleanup()
        return found


def rows_of(names: Sequence[str], jobs: int) -> Iterator[dict[str, Any]]:
    """Rows of some architectures, as they end."""
    waiting, running = list(names), list[Child]()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Child(waiting.pop(0)))
        for child in [each for each in running if each.over]:
            running.remove(child)
            yield child.row()
        time.sleep(0.1)


def passes(row: Mapping[str, Any], steps: Sequence[str]) -> bool:
    """Whether an architecture passes some steps."""
    return all(row["steps"].get(step) == OK for step in steps)


def totals(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many pass what, in words."""
    whole = sum(passes(row, WHOLE) for row in rows)
    auto = sum(passes(row, WHOLE) and row.get("family") == "auto" for row in rows)
    packed = sum(row.get("format") == "compressed-tensors" for row in rows)
    counts = ", ".join(
        f"{step} {sum(passes(r, [step]) for r in rows)}" for step in STEPS
    )
    seconds = sum(row.get("seconds", 0) for row in rows)
    return (
        f"**{whole} of {len(rows)} pass everything up to the replies**, {auto} of them "
        f"placed by their structure (family `auto`). By step: {counts}; {packed} are "
        f"exported as compressed-tensors. In all {seconds / 60:.0f} minutes of one "
        "processor."
    )


def told(row: Mapping[str, Any]) -> str:
    """A row of the table."""
    marks = []
    for step in STEPS:
        said = row["steps"].get(step)
        mark = "yes" if said == OK else "" if said is None else "**no**"
        if step == "exported" and said == OK:
            mark = row["format"]
        marks.append(mark)
    count = row.get("parameters")
    shown = "" if count is None else f"{count:,}"
    start = f"| {row['name']} | {row.get('family', '')} | {shown} |"
    return f"{start} {' | '.join(marks)} | {row.get('seconds', '')} |"


def reasons(row: Mapping[str, Any]) -> list[str]:
    """What stands in an architecture's way, step by step."""
    said = [(step, text) for step, text in row["steps"].items() if text != OK]
    if row["name"] in OTHERS:
        return [f"- {row['name']}: {OTHERS[row['name']]}"]
    return [f"- {row['name']}, {step}: {_short(text)}" for step, text in said]


def _short(text: str) -> str:
    return textwrap.shorten(text.replace("|", "/"), LONGEST, placeholder=" ...")


def rendered(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown."""
    import transformers

    return TEXT.format(
        version=transformers.__version__,
        count=len(CLASSES),
        totals=totals(rows),
        head=" | ".join(STEPS),
        line="---|" * len(STEPS),
        rows="\n".join(map(told, rows)),
        reasons="\n".join(line for row in rows for line in reasons(row)),
    )


def keep(rows: Iterable[Mapping[str, Any]], out: Path) -> None:
    """Write what there is: as JSON, and the table."""
    order = list(CLASSES)
    ordered = sorted(rows, key=lambda row: order.index(row["name"]))
    lines = ",\n".join(json.dumps(row) for row in ordered)
    replace_file(out, lambda draft: draft.write_text(f"[\n{lines}\n]\n"))
    replace_file(TABLE, lambda draft: draft.write_text(rendered(ordered)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="all, if none")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    given = parser.parse_args()
    rows: dict[str, Any] = {}
    if given.out.is_file():
        rows = {row["name"]: row for row in json.loads(given.out.read_text())}
    for name in FIRST:
        importlib.import_module(name)
    for row in rows_of(given.names or list(CLASSES), given.jobs):
        rows[row["name"]] = row
        failed = [f"{k}: {v}" for k, v in row["steps"].items() if v != OK]
        print(row["name"], row.get("seconds"), *(failed or [OK]), flush=True)
        keep(rows.values(), given.out)


if __name__ == "__main__":
    main()
