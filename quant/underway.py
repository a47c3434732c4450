"""Finalized weights under way: the stages that are done, to go on after a kill.

After each stage a small file says which cells are there, and parameters that folding
has changed lie beside them. It counts only as long as all of that is what was written.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from allocator.core.drafts import DRAFT
from allocator.core.errors import FullError
from allocator.core.full import full
from quant.cells import SUFFIX, checksum, file_of, is_whole, stored_cells
from quant.files import replace_file
from quant.needs import finalized_bytes
from quant.room import clear
from quant.streaming import SPOOLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from allocator.core.spec import Linear
    from quant.assignment import Assignment

# what reading raises of JSON that is another
MISSHAPEN = (KeyError, TypeError, AttributeError)
UNDERWAY, FOLDED = ".underway.json", f".folded{SUFFIX}"
REMEDY = (
    "free some, or let XDG_DATA_HOME name a larger disk, and give the same command "
    "again; the stages that are finished are kept"
)


@dataclass(frozen=True)
class Underway:
    """What is done of an assignment.

    Attributes:
        folder: where its cells are.
        stages: how many are done, from the first.
        keys: names of the cells that these have, by linear.
        sums: their checksums.
        changed: parameters that folding has changed so far, by full name.
    """

    folder: Path
    stages: int = 0
    keys: Mapping[str, str] = field(default_factory=dict)
    sums: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def of(folder: Path, wanted: Assignment) -> Underway:
        """What a process that died has done; the folder holds nothing else of use.

        Call it under the lock of who makes the weights.
        """
        found = _read(folder, wanted)
        if not found.stages:
            clear(folder)
            forget_underway(folder)
        for pattern in (f"{DRAFT}*", f"{SPOOLED}*"):
            for file in folder.glob(pattern):
                file.unlink()
        return found

    def after(
        self, stages: int, keys: Mapping[str, str], changed: Mapping[str, Tensor]
    ) -> Underway:
        """The same with more stages, whose cells are in the folder."""
        sums = dict(self.sums)
        for name in keys.keys() - sums.keys():
            sums[name] = stored_cells(file_of(self.folder, name))[keys[name]]["sum"]
        return Underway(self.folder, stages, dict(keys), sums, changed)

    def keep(self, digest: str) -> None:
        """Write it down, under the digest of the assignment.

        Raises:
            FullError: the disk is full.
        """
        stored = {name: x.cpu().contiguous() for name, x in self.changed.items()}
        if stored:
            replace_file(self.folder / FOLDED, lambda draft: save_file(stored, draft))
        said = {
            "digest": digest,
            "stages": self.stages,
            "keys": self.keys,
            "sums": self.sums,
            "changed": {name: checksum(value) for name, value in stored.items()},
        }
        text = json.dumps(said)
        replace_file(self.folder / UNDERWAY, lambda draft: draft.write_text(text))


def _read(folder: Path, wanted: Assignment) -> Underway:
    """What was written down of an assignment; nothing where any of it is damaged."""
    nothing = Underway(folder)
    try:
        said: dict[str, Any] = json.loads((folder / UNDERWAY).read_bytes())
        keys, sums, folded = said["keys"], said["sums"], said["changed"]
        changed = load_file(folder / FOLDED) if folded else {}
        whole = (
            said["digest"] == wanted.digest
            and all(wanted.keys.get(name) == key for name, key in keys.items())
            and all(is_whole(file_of(folder, n), keys[n], sums[n]) for n in keys)
            and {name: checksum(x) for name, x in changed.items()} == folded
        )
        found = Underway(folder, int(said["stages"]), keys, sums, changed)
    except (OSError, SafetensorError, ValueError, *MISSHAPEN):
        return nothing
    return found if whole else nothing


def forget_underway(folder: Path) -> None:
    """Nothing is under way in a folder any more."""
    for name in (UNDERWAY, FOLDED):
        (folder / name).unlink(missing_ok=True)


@contextmanager
def saying_what_is_needed(
    folder: Path, wanted: Assignment, left: Iterable[Linear]
) -> Iterator[None]:
    """Where the disk is full, say what the weights take that are `left`.

    Raises:
        FullError: it is.
    """
    try:
        yield
    except FullError as error:
        needed = finalized_bytes(wanted, left)
        what = "an allocation that is quantized in sequence"
        raise full(folder, what, needed, REMEDY) from error
