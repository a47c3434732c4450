"""Blocks of 7B's widths quantized: by themselves, as a bank, in sequence."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.allocation import FULL, Choice, Scheme
from allocator.core.plugins import load
from allocator.families import family_of
from quant.assignment import Assignment
from quant.bank import Recipe
from quant.build import Source, build_bank
from quant.hessian import InputStatistics
from quant.sequential import quantize_in_sequence
from studies.gpu._session import BLOCKS
from tests.models import make_llava, some_questions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allocator.core.ports import Model, State
    from allocator.core.spec import ModelSpec
    from studies.gpu._session import Session

METHODS, WIDTHS = ("uniform", "gptq", "awq"), (2, 3, 4)
# samples and tokens of a calibration; samples that run at once
SAMPLES, TOKENS, AT_ONCE = 128, 620, 2
# of the seconds that the methods alone would take; what a bank of four blocks may take
AROUND, MOST = 1.6, 80.0


def sets(session: Session) -> list[tuple[str, list[tuple[int, int]]]]:
    """Linears of a block that read one input: shapes [out, in]."""
    own = session.whole.language
    return [
        ("q, k, v", [(own.width, own.width)] * 3),
        ("o", [(own.width, own.width)]),
        ("gate, up", [(own.inner, own.width)] * 2),
        ("down", [(own.width, own.inner)]),
    ]


def solving(session: Session) -> dict[str, Any]:
    """Each method on a block, set by set; and gathering what these read."""
    total = dict.fromkeys((*METHODS, "gather"), 0.0)
    parts: dict[str, dict[str, float]] = {}
    block = 0
    for name, shapes in sets(session):
        own = solved(session, shapes)
        parts[name] = own
        for key, seconds in own.items():
            total[key] += seconds
        block += sum(rows * columns for rows, columns in shapes)
    units = {
        ("gather" if key == "gather" else f"solve {key}"): {
            "each": seconds / block,
            "of": f"a weight, {len(WIDTHS)} widths"
            if key != "gather"
            else f"a weight, {SAMPLES * TOKENS:,} tokens",
        }
        for key, seconds in total.items()
    }
    guess = AROUND * sum(total.values())
    session.kept["blocks"] = max(1, min(BLOCKS, int(MOST / max(guess, 1e-9))))
    session.guesses["bank"] = 10.0 + guess * session.kept["blocks"]
    return {"weights": block, "seconds by set": parts, **units}


def solved(session: Session, shapes: list[tuple[int, int]]) -> dict[str, float]:
    """Seconds of each method on one set, once it has run before."""
    columns, dtype = shapes[0][1], getattr(torch, session.dtype)
    generator = torch.Generator(session.device).manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=session.device)

    rows = AT_ONCE * TOKENS
    # inputs of very different loudness, as real ones are
    x = (drawn(rows, columns) * drawn(columns).exp()).to(dtype)
    inputs = InputStatistics.empty(columns, session.device)
    inputs.add(x)
    adding = session.median(lambda: inputs.add(x))
    found = {"gather": adding * SAMPLES * TOKENS / rows}
    weights = [(drawn(*shape) / columns**0.5).to(dtype) for shape in shapes]
    # what is loaded or compiled at first use is not counted
    few = [weight[:128] for weight in weights]
    for name in METHODS:
        method: Any = load("quant.methods", name)
        how = {"scheme": Scheme(), "widths": WIDTHS, "foldable": True}
        method.quantize(few, inputs, **how)
        found[name] = session.seconds(
            lambda to=method, how=how: to.quantize(weights, inputs, **how)
        )
    return found


def checkpoint(session: Session) -> tuple[Source, ModelSpec]:
    """A few blocks of each kind as a checkpoint, and what calibrates it; made once."""
    if "checkpoint" not in session.kept:
        count = session.kept.get("blocks", BLOCKS)
        folder = session.folder / "blocks"
        sizes = session.cut(count, count)
        made = make_llava(folder, sizes, dtype=session.dtype, device=session.device)
        made.save_pretrained(folder, max_shard_size="1GB")
        pictures = 2 if session.small else SAMPLES
        asked = some_questions(session.folder / "calibration", pictures)
        samples = list({sample.image: sample for sample in asked}.values())

        def batches(model: Model) -> Iterator[State]:
            for at in range(0, len(samples), AT_ONCE):
                yield model.inputs(samples[at : at + AT_ONCE], answered=True)

        family, device = family_of(folder), session.device
        source = Source(
            lambda: family.load(folder, device, mapped=True), batches, device, AT_ONCE
        )
        session.kept["checkpoint"] = source, family.spec(folder)
    found: tuple[Source, ModelSpec] = session.kept["checkpoint"]
    return found


def recipe() -> Recipe:
    """What a bank of three methods at three widths holds."""
    methods = {name: load("quant.methods", name) for name in METHODS}
    return Recipe("random", ("calibration",), Scheme(), methods, (*WIDTHS, FULL))


class Marks:
    """When how many linears were done, and when the first could begin."""

    def __init__(self, source: Source) -> None:
        self.begun = 0.0
        self.done: list[tuple[float, int]] = []
        self.source = Source(source.model, self.batches, source.device, source.size)
        self.own = source

    def batches(self, model: Model) -> Iterator[State]:
        """The batches; behind the last of them work begins."""
        yield from self.own.batches(model)
        self.begun = time.perf_counter()

    def note(self, done: int, total: int) -> None:
        """Be told how far it is."""
        del total
        self.done.append((time.perf_counter(), done))

    def between(self, first: int, last: int) -> float:
        """Seconds from so many linears to so many."""
        if first == last:
            return 0.0
        at = [self.begun if n == 0 else self.reached(n) for n in (first, last)]
        return at[1] - at[0]

    def reached(self, count: int) -> float:
        """When so many were done."""
        return next(when for when, done in self.done if done >= count)


def extrapolated(
    session: Session, spec: ModelSpec, run: Callable[[Marks], object]
) -> dict[str, Any]:
    """What a few blocks take, and all of them by the seconds of each component."""
    source, _ = checkpoint(session)
    marks, own = Marks(source), session.whole
    taken = session.seconds(lambda: run(marks))
    made, whole, place = {}, 0.0, 0
    blocks = session.kept.get("blocks", BLOCKS)
    every = own.vision.blocks, own.language.blocks
    for component, all_blocks in (
        ("vision", own.vision.blocks),
        ("connector", 1),
        ("language", own.language.blocks),
    ):
        count = sum(linear.component == component for linear in spec.linears)
        seconds = marks.between(place, place + count)
        has = 1 if component == "connector" else min(blocks, all_blocks)
        made[component], place = seconds, place + count
        whole += seconds * all_blocks / has
    return {
        "blocks": "+".join(str(min(blocks, n)) for n in every),
        "seconds taken": taken,
        "seconds by component": made,
        "extrapolated": True,
        "extrapolated to blocks": "+".join(map(str, every)),
        "seconds of the whole": whole + taken - sum(made.values()),
    }


def all_weights(session: Session) -> int:
    """Weights in groups of the whole model."""
    own, head = session.whole, session.whole.vision.width
    wide, inner = own.language.width, own.language.inner
    tower = own.vision.blocks * (4 * head**2 + 2 * head * own.vision.inner)
    language = own.language.blocks * (4 * wide**2 + 3 * wide * inner)
    return tower + head * wide + wide**2 + language


def bank(session: Session) -> dict[str, Any]:
    """A bank of a few blocks, through the files that a search reads."""
    session.kept.pop("bench", None)
    session.end()
    _, spec = checkpoint(session)
    folder = session.folder / "bank"
    found = extrapolated(
        session,
        spec,
        lambda marks: build_bank(
            folder, recipe(), spec.linears, marks.source, marks.note
        ),
    )
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    scale = all_weights(session) / spec.weights
    each = found["seconds of the whole"] / all_weights(session)
    session.guesses["finalization"] = 10.0 + found["seconds taken"]
    return {
        **found,
        "bytes": size,
        "bytes of the whole": round(size * scale),
        "bank": {"each": each, "of": "a weight, all methods and widths, extrapolated"},
    }


def finalization(session: Session) -> dict[str, Any]:
    """An allocation of a few blocks, quantized in sequence."""
    _, spec = checkpoint(session)
    mixed = (Choice(3, "gptq"), Choice(4, "awq"), Choice(4, "gptq"), Choice(2, "gptq"))
    choices = {
        linear.name: mixed[at % len(mixed)]
        for at, group in enumerate(spec.groups)
        for linear in group.linears
    }
    wanted = Assignment(recipe(), choices)
    found = extrapolated(
        session,
        spec,
        lambda marks: quantize_in_sequence(
            session.folder / "finalized",
            wanted,
            spec.linears,
            marks.source,
            marks.note,
        ),
    )
    each = found["seconds of the whole"] / all_weights(session)
    return {
        **found,
        "finalize": {"each": each, "of": "a weight of an allocation, extrapolated"},
    }
