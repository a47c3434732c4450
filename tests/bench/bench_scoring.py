"""How fast a model is scored, beside a loop of `generate`; how fast weights change.

    python -m tests.bench.bench_scoring [--only tiny-blip2] [--out FILE]

Three models: both embedded ones on questions of their evaluation set, and a LLaVA of
0.3 B random weights in the proportions of LLaVA-1.5-7B (576 of 620 tokens are the
picture), made for the occasion, on as many questions a picture as VQAv2 has. The loop
is what anybody would write: batches of 8 in the order of the samples, the pictures of
each opened when its turn has come. The bench (`allocator.bench.workbench`) scores the
same samples twice: freshly loaded, and with whatever it kept of the first time, as each
further allocation of a search does. Then every weight is put in place at each width,
from cells made by rounding. All in the type that a model runs in on the device.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.utils.logging import disable_progress_bar

from allocator.bench.loading import open_full_precision
from allocator.bench.prepare import prepare
from allocator.bench.workbench import Workbench
from allocator.core.allocation import FULL, Allocation, Choice, Scheme
from allocator.core.plugins import load
from allocator.core.study import StudySpec
from allocator.families import family_of
from quant.bank import Bank, Recipe
from quant.build import Source, build_bank
from quant.grid import LOW_WIDTHS
from tests.models import MID, SMALL, Stored, save_llava, some_questions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from allocator.core.ports import Sample, Score
    from tests.models import Sizes

EMBEDDED = ("tiny-blip2", "tiny-llava")
RANDOM = "random-llava"
PLAIN_BATCH = 8
STORED = "stored"
# weights are exchanged in blocks as wide as those of 0.3 B, but few: a bank of all
# would take a minute to make
SWAPPED = replace(MID, language=replace(MID.language, blocks=2))


@dataclass(frozen=True)
class Scored:
    """A line of the first table: how fast, and whether it says the same.

    Attributes:
        seconds: by the clock.
        processor: those of all threads together, which tell more where others work.
        tokens: that passed through the language model.
        times: the loop's seconds over these.
        processor_times: its processor seconds over these.
        differing: replies that are not those of the loop.
    """

    model: str
    how: str
    samples: int
    pictures: int
    seconds: float
    processor: float
    tokens: int
    times: float = 1.0
    processor_times: float = 1.0
    differing: int = 0

    def told(self) -> str:
        return (
            f"{self.model}, {self.how}: {self.samples / self.seconds:,.2f} questions a "
            f"second ({self.samples:,} of {self.pictures:,} pictures in "
            f"{self.seconds:.1f} s), {self.times:.2f} x the loop "
            f"({self.processor_times:.2f} x in processor seconds), "
            f"{self.tokens / self.samples:.0f} tokens each, "
            f"{self.differing} replies differ"
        )


class Noting:
    """A task that keeps the replies it scores."""

    def __init__(self, task: Any) -> None:
        self.task, self.replies = task, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def score(self, predictions: Sequence[str], samples: Sequence[Sample]) -> Score:
        self.replies = list(predictions)
        return self.task.score(predictions, samples)


class Tokens:
    """Rows that pass through the first linear of the language model."""

    def __init__(self, bench: Workbench) -> None:
        self.rows = 0
        linears = bench.spec.linears
        first = next(x.name for x in linears if x.component == "language")
        layer = bench.model.module.get_submodule(first)
        layer.register_forward_pre_hook(self.count)

    def count(self, _: Any, given: Any) -> None:
        self.rows += given[0].shape[:-1].numel()

    def taken(self) -> int:
        """How many passed since this was asked last."""
        rows, self.rows = self.rows, 0
        return rows


def timed(run: Callable[[], Any], device: str) -> tuple[Any, float, float]:
    """What something gives, the seconds it takes, and those of the processor."""
    started, used = time.perf_counter(), time.process_time()
    made = run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return made, time.perf_counter() - started, time.process_time() - used


def plain(model: Any, samples: Sequence[Sample], new_tokens: int) -> list[str]:
    """Replies as anybody would have them from transformers."""
    from PIL import Image

    processor, module = model.processor, model.module
    replies: list[str] = []
    for at in range(0, len(samples), PLAIN_BATCH):
        batch = samples[at : at + PLAIN_BATCH]
        inputs = processor(
            images=[Image.open(each.image).convert("RGB") for each in batch],
            text=[model.worded(each) for each in batch],
            padding=True,
            return_tensors="pt",
        ).to(module.device, module.dtype)
        with torch.inference_mode():
            ids = module.generate(**inputs, max_new_tokens=new_tokens, do_sample=False)
        new = ids[:, inputs["input_ids"].shape[1] :].tolist()
        replies += [model.ends.reply(row, processor.tokenizer) for row in new]
    return replies


def scoring(name: str, bench: Workbench, samples: Sequence[Sample]) -> list[Scored]:
    """The lines of one model; the bench has scored nothing yet."""
    task = bench.task = Noting(bench.task)  # type: ignore[assignment]
    tokens = Tokens(bench)
    device = str(bench.model.module.device)
    full = Allocation.uniform(bench.spec, Choice(FULL))
    counts = len(samples), len({sample.image for sample in samples})
    # what happens once, to whoever comes first, is in no line
    plain(bench.model, samples[:1], 2)
    tokens.taken()
    wanted, seconds, used = timed(
        lambda: plain(bench.model, samples, task.max_new_tokens), device
    )
    rows = [
        Scored(
            name,
            f"generate at batch {PLAIN_BATCH}",
            *counts,
            seconds,
            used,
            tokens.taken(),
        )
    ]
    for how in ("scored", "scored again"):
        _, wall, mine = timed(lambda: bench.score(full, samples), device)
        pairs = zip(wanted, task.replies, strict=True)
        differing = sum(one != other for one, other in pairs)
        times = seconds / wall, used / mine
        own = wall, mine, tokens.taken(), *times, differing
        rows.append(Scored(name, how, *counts, *own))
    for row in rows:
        print(row.told(), flush=True)
    return rows


@contextmanager
def random_bench(
    sizes: Sizes, device: str, widths: Sequence[int] = ()
) -> Iterator[Workbench]:
    """A bench of a LLaVA made for the occasion, with a bank if there are widths."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        save_llava(folder, sizes)
        family = family_of(folder)
        spec, bank = family.spec(folder), None
        if widths:
            methods = {STORED: Stored()}
            recipe = Recipe("random", ("one",), Scheme(), methods, tuple(widths))
            one = some_questions(Path(name), 1)[:1]
            source = Source(
                lambda: family.load(folder, device, mapped=True),
                lambda model: [model.inputs(one, answered=True)],
                device,
            )
            build_bank(Path(name) / "bank", recipe, spec.linears, source)
            bank = Bank(Path(name) / "bank" / recipe.digest, recipe, spec)
        model = family.load(folder, device)
        yield Workbench(model, spec, load("evals.tasks", "vqav2"), bank)


def swapping(bench: Workbench) -> list[dict[str, Any]]:
    """Nanoseconds a weight, on one thread: read, checked, decoded, in place.

    `first` are cells that nobody has read before, `again` those that were in place
    six widths ago. Of the processor; of the clock where that waits for an accelerator.
    """
    device = str(bench.model.module.device)
    clock = 1 if device.startswith("cuda") else 2
    weights = sum(linear.weights for linear in bench.spec.linears)
    found: dict[str, dict[int, float]] = {}
    for when in ("first", "again"):
        for bits in LOW_WIDTHS:
            wanted = Allocation.uniform(bench.spec, Choice(bits, STORED))
            seconds = timed(lambda to=wanted: bench.apply(to), device)[clock]
            found.setdefault(when, {})[bits] = 1e9 * seconds / weights
    seconds = timed(bench.restore, device)[clock]
    rows = [{"bits": FULL, "again": 1e9 * seconds / weights, "weights": weights}]
    for bits in reversed(LOW_WIDTHS):
        own = {when: found[when][bits] for when in found}
        rows.insert(0, {"bits": bits, **own, "weights": weights})
    for row in rows:
        figures = ", ".join(f"{k} {row[k]:.2f}" for k in ("first", "again") if k in row)
        print(f"swap to {row['bits']} bits: {figures} ns a weight", flush=True)
    return rows


def embedded(name: str, device: str, most: int) -> list[Scored]:
    """The lines of an embedded model."""
    asked = StudySpec("16", "vqav2", model=name, device=device)
    setup = prepare(asked, ("evaluation",))
    samples = setup.samples["evaluation"][:most]
    return scoring(name, open_full_precision(setup), samples)


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for."""
    rows: list[Scored] = []
    for name in asked.only:
        if name in EMBEDDED:
            rows += embedded(name, asked.device, asked.samples)
        elif name == RANDOM:
            with (
                random_bench(SMALL if asked.tiny else MID, asked.device) as bench,
                tempfile.TemporaryDirectory() as pictures,
            ):
                samples = some_questions(Path(pictures), asked.pictures)
                rows += scoring(name, bench, samples)
    found: dict[str, Any] = {"scoring": [asdict(row) for row in rows]}
    if "swaps" in asked.only:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        sizes = SMALL if asked.tiny else SWAPPED
        with random_bench(sizes, asked.device, (*LOW_WIDTHS, FULL)) as bench:
            found["swaps"] = swapping(bench)
        torch.set_num_threads(threads)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a step."""
    every = (*EMBEDDED, RANDOM, "swaps")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--samples", type=int, default=1000, help="of embedded models")
    parser.add_argument("--pictures", type=int, default=5, help="of the random LLaVA")
    parser.add_argument("--tiny", action="store_true", help="a random LLaVA for tests")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(arguments)
    disable_progress_bar()
    found = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": asked.device,
        **run(asked),
    }
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
