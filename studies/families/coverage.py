"""All image-text-to-text architectures of transformers: how far each gets.

    python -m studies.families.coverage --out studies/results/families_coverage.json

It also writes `coverage.md` here. Names of architectures ask for these alone; rows of
all others that are in the file stay. Each runs in a process of its own
(`studies.families.case`), with a limit of time and of memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from signal import SIGXCPU
from typing import TYPE_CHECKING, Any

from transformers.models.auto import modeling_auto

from quant.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CLASSES = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
TABLE = Path(__file__).with_name("coverage.md")
# of a clock; a process ends itself after fewer of a processor
SECONDS = 900
OK, SLOW = "ok", "takes too long"
# as `studies.families.case` takes them; the last that a reply needs
STEPS = (
    *("shrunk", "forward", "generate", "inspected", "stages", "banked", "applied"),
    *("replies", "exported"),
)
UP_TO_REPLIES = STEPS[: STEPS.index("replies") + 1]
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


def asked(name: str, seconds: float) -> dict[str, Any]:
    """An architecture's row, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "row.json"
        command = [sys.executable, "-m", "studies.families.case", name, "--out", out]
        found: dict[str, Any] = {"name": name, "steps": {}}
        try:
            done = subprocess.run(
                command, timeout=seconds, capture_output=True, text=True, check=False
            )
            said = (done.stderr.strip().splitlines() or ["it ended"])[-1]
            said = SLOW if done.returncode == -SIGXCPU else said
        except subprocess.TimeoutExpired:
            done, said = None, SLOW
        if out.is_file():
            found = json.loads(out.read_text())
        if done is None or done.returncode:
            # the step that it was in
            found["steps"][list(found["steps"] or STEPS[:1])[-1]] = said
    return found


def passes(row: Mapping[str, Any], steps: Sequence[str]) -> bool:
    """Whether an architecture passes some steps."""
    return all(row["steps"].get(step) == OK for step in steps)


def totals(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many pass what, in words."""
    whole = sum(passes(row, UP_TO_REPLIES) for row in rows)
    auto = sum(
        passes(row, UP_TO_REPLIES) and row.get("family") == "auto" for row in rows
    )
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
    return [f"- {row['name']}, {step}: {_short(text)}" for step, text in said]


def _short(text: str) -> str:
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


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
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each")
    given = parser.parse_args()
    rows: dict[str, Any] = {}
    if given.out.is_file():
        rows = {row["name"]: row for row in json.loads(given.out.read_text())}
    with ThreadPoolExecutor(given.jobs) as pool:
        wanted = given.names or list(CLASSES)
        begun = [pool.submit(asked, name, given.seconds) for name in wanted]
        for done in as_completed(begun):
            row = done.result()
            rows[row["name"]] = row
            failed = [f"{k}: {v}" for k, v in row["steps"].items() if v != OK]
            print(row["name"], row.get("seconds"), *(failed or [OK]), flush=True)
            keep(rows.values(), given.out)


if __name__ == "__main__":
    main()
