"""Write an export, reopen it, compare it, and only then let it take its place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from allocator.bench.sums import write_sums
from allocator.core.errors import ModelError, SpecError, in_one_sentence
from allocator.core.full import naming_the_disk
from allocator.exporters._card import write_card
from allocator.exporters._claim import check_budget, claim_of
from allocator.exporters._place import CARD, check_place, check_room, draft_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.exporting import Exporter
    from allocator.core.watch import Watch
    from allocator.exporters._claim import Claim
    from allocator.exporters._export import Export

PHASES = ("prepare", "export", "check")


def write_export(
    export: Export,
    exporter: Exporter,
    out: Path,
    *,
    fmt: str,
    watch: Watch,
    force: bool = False,
) -> dict[str, Any]:
    """Write into a folder that a runtime loads; what it loads is what was measured.

    Args:
        export: what is to be written.
        exporter: writes it.
        out: the folder.
        fmt: name of the format, for messages.
        watch: is shown the phases "export" and "check".
        force: whether an earlier export makes room, and a budget may be passed.

    Returns:
        Plain data: `path`; `bytes` and `bpw`; the `loader`, and what it read compared
        with what was to be written; `seconds`.

    Raises:
        AllocateError: what cannot be written, or does not read back as it should; then
            nothing stays, and `out` is as it was.
    """
    times = [time.monotonic()]
    check_place(out, force=force)
    exporter.check(export)
    claim = claim_of(export, exporter)
    if claim is not None:
        if told := check_budget(claim, export, fmt, force=force):
            watch.say(told)
        check_room(out, claim.size.model_bytes)
    times.append(time.monotonic())
    of = out.resolve()
    disk = of.parent, of.name, None if claim is None else claim.size.model_bytes
    with naming_the_disk(*disk), draft_of(out) as draft:
        # within it, what a library says of a full disk is heard first
        sentence = in_one_sentence(f"cannot write {out}", SpecError)
        with sentence, naming_the_disk(*disk), watch.phase("export") as tell:
            exporter.write(export, draft, tell)
            _readable(draft)
        times.append(time.monotonic())
        found = {"format": fmt, **_sizes(claim, exporter, draft, fmt)}
        found |= _reopened(export, exporter, draft, fmt, watch)
        write_card(export, exporter, draft, out.resolve().name, found)
        path = _alone(out, draft) if claim is None else out
    return {"path": str(path), **found, "seconds": _seconds(times)}


def _seconds(times: Sequence[float]) -> dict[str, float]:
    """How long each phase took, by when each began."""
    took = zip(PHASES, times, [*times[1:], time.monotonic()], strict=True)
    return {name: round(end - start, 2) for name, start, end in took}


def _readable(draft: Path) -> None:
    """Let others read what libraries write for its owner alone, as other files are."""
    for file in draft.rglob("*"):
        if file.is_file():
            file.chmod(0o644)


def _alone(out: Path, draft: Path) -> Path:
    """The one file that was written beside the card, or the folder."""
    files = [file.name for file in draft.iterdir() if file.is_file()]
    alone = [name for name in files if name != CARD]
    return out / alone[0] if len(alone) == 1 else out


def _sizes(
    claim: Claim | None, exporter: Exporter, draft: Path, fmt: str
) -> dict[str, Any]:
    """Sizes claimed, which are those on disk.

    Raises:
        ModelError: they are not.
    """
    if claim is None:
        return {}
    stored, size = exporter.stored(draft), claim.size
    if stored != size.model_bytes:
        raise ModelError(
            f"{fmt} was to store {size.model_bytes:,} bytes and has stored "
            f"{stored or 0:,}: this is a fault of the exporter's, nothing is kept of it"
        )
    return {
        "bytes": stored,
        "bpw": size.bpw("model"),
        "bpw_quantized": size.bpw("quantized"),
        "searched_bpw": claim.searched.bpw("model"),
        "over_budget": claim.over,
    }


def _reopened(
    export: Export, exporter: Exporter, draft: Path, fmt: str, watch: Watch
) -> dict[str, Any]:
    """What was written, read again and compared; its checksums are written then.

    Raises:
        ModelError: it reads as something else.
    """
    with (
        in_one_sentence(f"{fmt} does not load again", ModelError),
        watch.phase("check") as tell,
    ):
        reopened = exporter.reopen(export, draft)
        if reopened is None:
            return {}
        # brings torch, which a plan does not need
        from allocator.exporters._compare import compare

        compared = compare(export, reopened, tell)
    for line in compared.pop("said"):
        watch.say(line)
    write_sums(draft)
    return {"loader": reopened.loader, **compared}
