"""What the steps share: device, sizes, a folder, the models that are made there."""

from __future__ import annotations

import gc
import resource
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from transformers.utils.logging import disable_progress_bar

from allocator.bench.counting import count_tokens
from allocator.bench.workbench import Workbench
from allocator.core.plugins import load
from allocator.families import family_of
from tests.models import SEVEN_B, SMALL, make_llava

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allocator.core.ports import Model
    from allocator.core.spec import ModelSpec
    from tests.models import Sizes

# blocks of each kind whose bank is made, and those of the language model whose weights
# are exchanged: 2.7 G weights, as many as a candidate changes of 7B on average
BLOCKS, SWAPPED = 4, 13


@dataclass
class Session:
    """A device, and what is made on it.

    `peak` are bytes at most in the last step: of the device, or of the process.
    `guesses` are seconds that a step is known to take better than by the table.
    """

    device: str
    small: bool
    folder: Path
    peak: int = 0
    guesses: dict[str, float] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        disable_progress_bar()

    @property
    def is_cuda(self) -> bool:
        """Whether it is an accelerator of NVIDIA's."""
        return self.device.startswith("cuda")

    @property
    def dtype(self) -> str:
        """The type that the model runs in."""
        return "float16" if self.is_cuda else "float32"

    @property
    def whole(self) -> Sizes:
        """The model whose search is counted."""
        return SMALL if self.small else SEVEN_B

    def cut(self, vision: int, language: int) -> Sizes:
        """The same with at most so many blocks."""
        own = self.whole
        return replace(
            own,
            vision=replace(own.vision, blocks=min(vision, own.vision.blocks)),
            language=replace(own.language, blocks=min(language, own.language.blocks)),
        )

    def needed(self, name: str, seconds: float) -> float:
        """Seconds that a step may take; a few where everything is small."""
        return self.guesses.get(name, 2.0 if self.small else seconds)

    def begin(self) -> None:
        """A step begins: its memory is counted from here."""
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)

    def end(self) -> None:
        """A step has ended: what it left behind is let go of."""
        self.peak = (
            torch.cuda.max_memory_allocated(self.device)
            if self.is_cuda
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()

    def seconds(self, run: Callable[[], object]) -> float:
        """What something takes on the device."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)
        started = time.perf_counter()
        run()
        if self.is_cuda:
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - started

    def median(self, run: Callable[[], object], repeats: int = 3) -> float:
        """The same once it has run before, in the middle of a few."""
        run()
        return sorted(self.seconds(run) for _ in range(repeats))[repeats // 2]

    def made(self, name: str, sizes: Sizes) -> tuple[Model, ModelSpec]:
        """A model made on the device and its groups; no weights on disk.

        It never ends a reply by itself, so that these are as long as they may be.
        """
        folder = self.folder / name
        module = make_llava(
            folder, sizes, dtype=self.dtype, device=self.device, ends=False
        )
        family = family_of(folder)
        outline: Any = family.outline(folder)
        model = replace(outline, module=module, device=self.device, _kept={})
        return model, family.spec(folder)

    def bench(self) -> Workbench:
        """The whole model on a bench, made once."""
        if "bench" not in self.kept:
            model, spec = self.made("whole", self.whole)
            bench = Workbench(model, spec, load("evals.tasks", "vqav2"))
            count_tokens(model.module, spec.linears, bench.cost)
            self.kept["bench"] = bench
        found: Workbench = self.kept["bench"]
        return found
