"""What every system is asked: models, budgets, calibration, and what widths cost.

Imported in the environments of other tools too: nothing here needs more than torch,
transformers and Pillow.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.allocation import (
    FULL,
    WIDTHS,
    Budget,
    Scheme,
    linear_bytes,
    rest_bytes,
)
from allocator.core.home import cache_home
from allocator.core.ports import Selection
from allocator.embedded import model_folder
from allocator.families import family_of
from evals.tasks.vqav2 import PLUGIN as VQAV2
from evals.world.files import ensure_world

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.ports import Model
    from allocator.core.spec import ModelSpec

RESULTS = Path(__file__).parents[1] / "results" / "rivals"
MODELS = ("tiny-llava", "tiny-blip2")
TASK = "vqav2"
# by which a rival's widths are tried
METHODS = ("gptq", "awq")
# bits per weight, evenly from the 2-bit size (3.33 and 3.47) towards the 5-bit one
# (6.14 and 6.25); from 5.2 on, the 4-bit size, nothing is lost that could be won
BUDGETS = (3.5, 3.84, 4.18, 4.52, 4.86, 5.2)
LOW = tuple(bits for bits in WIDTHS if bits != FULL)
# positions that the loss leaves out, as transformers has it
IGNORED = -100


@dataclass(frozen=True)
class Case:
    """A model on the bench of another tool.

    Attributes:
        name: of an embedded model.
        model: a family's, whose `module` is the transformers model in float32.
        spec: its linears in groups; those outside stay at 16 bits.
        scheme: the grids of all systems.
        samples: 128 calibration questions, those of a search with seed 0.
    """

    name: str
    model: Model
    spec: ModelSpec
    scheme: Scheme
    samples: tuple[Any, ...]

    @staticmethod
    def of(name: str) -> Case:
        """Load an embedded model and its calibration samples."""
        folder = model_folder(name)
        family = family_of(folder)
        data = ensure_world(cache_home())
        samples = VQAV2.samples(data, "calibration", Selection(seed=0))
        return Case(
            name,
            family.load(folder, "cpu"),
            family.spec(folder, "type", ()),
            Scheme(),
            samples,
        )

    @property
    def costs(self) -> dict[str, dict[int, int]]:
        """Stored bytes of every linear in a group, at every width."""
        return {
            linear.name: {
                bits: linear_bytes(linear, self.scheme, bits) for bits in WIDTHS
            }
            for linear in self.spec.linears
        }

    def room(self, bpw: float) -> float:
        """Bytes that a budget leaves for the linears in groups."""
        return Budget(bpw).bytes(self.spec) - rest_bytes(self.spec, self.scheme)

    def batches(self, size: int) -> list[dict[str, torch.Tensor]]:
        """Pictures, questions and their replies, with labels on the replies alone.

        Args:
            size: samples in a batch; what a batch is padded to is its longest.
        """
        found = []
        for at in range(0, len(self.samples), size):
            part = self.samples[at : at + size]
            asked = self.model.inputs(part)["attention_mask"].sum(1)
            state = self.model.inputs(part, answered=True)
            ids, mask = state["input_ids"], state["attention_mask"]
            # prompts are padded on the left, so a reply is what stands last
            replied = (mask.sum(1) - asked)[:, None]
            behind = ids.shape[1] - torch.arange(ids.shape[1])[None]
            labels = torch.where(behind <= replied, ids, IGNORED)
            found.append({**state, "labels": labels})
        return found

    def let_gradients_through(self) -> None:
        """Have every linear see a gradient, in whatever part of the model it lies.

        Tools ask for gradients of what they find in a language model, or in a tower;
        what reads nothing but learnt queries would score 0, as five linears of a
        Q-Former do.
        """
        inside = {linear.name for linear in self.spec.linears}

        def wanted(_module: Any, _args: Any, output: Any) -> None:
            # positions come as pairs
            if isinstance(output, torch.Tensor) and not output.requires_grad:
                output.requires_grad_()

        for name, module in self.model.module.named_modules():
            if name not in inside and not list(module.children()):
                module.register_forward_hook(wanted)


def telling(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logits that predict a reply's tokens: [tokens, vocabulary]."""
    return logits[:, :-1][labels[:, 1:] != IGNORED]


def write(file: Path, found: Mapping[str, Any]) -> None:
    """Keep what a tool said, numbers to six digits."""

    def short(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.6g}")
        if isinstance(value, dict):
            return {str(key): short(each) for key, each in value.items()}
        return value

    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(short(found), indent=1) + "\n")
