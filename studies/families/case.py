"""One architecture, from its default configuration to an export: how far it gets.

    python -m studies.families.case qwen3_vl --out row.json

A random model of the shrunk configuration is saved to a folder and handled as any
checkpoint is. The row is written anew after each step, so that whoever stops this knows
how far it was. `studies.families.coverage` asks all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
import traceback
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers.models.auto import modeling_auto

from allocator.bench.workbench import Workbench
from allocator.core.allocation import Allocation, Choice, Scheme
from allocator.core.errors import AllocateError, SpecError, reason
from allocator.core.plan import plan_json
from allocator.core.plugins import load
from allocator.core.ports import Decoding
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.core.weights import key_of, weight_of
from allocator.exporters import exporter_of
from allocator.exporters._driver import write_export
from allocator.exporters._export import Export
from allocator.families import family_of
from allocator.families._made_inputs import made_inputs
from allocator.families._shrunk import shrunk
from evals.tasks.vqav2 import PLUGIN as VQAV2
from quant.bank import Recipe
from studies.families.defaults import default_config
from tests.exporters.models import checkpoint_of
from tests.states import bank_of, copied, logits_of, prefixed

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.ports import Family, State
    from allocator.core.spec import ModelSpec
    from quant.bank import Bank

CLASSES = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
FULL = Choice(16)
METHODS = ("uniform", "gptq")
TOKENS = 6
FORMATS = ("compressed-tensors", "plan")
# bytes of addresses that a process may take, and seconds of a processor
MEMORY, SECONDS = 16 * 2**30, 100


class Unlike(Exception):
    """Two things differ that must not, or do not that must."""


@dataclass
class Case:
    """An architecture under way; what one step makes the next ones use."""

    name: str
    root: Path
    found: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def folder(self) -> Path:
        """Where the checkpoint is."""
        return self.root / "model"

    @cached_property
    def config(self) -> Any:
        """The shrunk configuration."""
        return shrunk(default_config(self.name))

    @cached_property
    def module(self) -> Any:
        """A random module; none of its matrices and gates is all zeros."""
        torch.manual_seed(0)
        module = getattr(transformers, CLASSES[self.name])(self.config).eval()
        for name, parameter in module.named_parameters():
            if not parameter.any() and not name.endswith("bias"):
                parameter.data.normal_(std=0.1)
        return module

    @cached_property
    def state(self) -> State:
        """Two prompts for it."""
        return made_inputs(self.module)

    @cached_property
    def family(self) -> Family:
        """The family that reads its folder."""
        return family_of(self.folder)

    @cached_property
    def spec(self) -> ModelSpec:
        """Groups and sizes."""
        return self.family.spec(self.folder)

    @cached_property
    def model(self) -> Any:
        """As the family loads it: a `Model`, which replies."""
        return self.family.load(self.folder, "cpu")

    @cached_property
    def bank(self) -> Bank:
        """Its bank, calibrated on the two prompts."""
        methods = {name: load("quant.methods", name) for name in METHODS}
        recipe = Recipe("weights", ("a", "b"), Scheme(), methods, (2, 4, 16))
        made = copied(self.model), self.spec, dict(self.state)
        return bank_of(self.root / "bank", recipe, *made)

    def shrinks(self) -> None:
        """A configuration that transformers takes, a module and inputs of it."""
        self.found["parameters"] = sum(p.numel() for p in self.module.parameters())
        assert self.state

    def forwards(self) -> None:
        """A pass gives numbers, which pictures change."""
        module, state = self.module, self.state
        with torch.no_grad():
            logits = module(**state).logits
            pixels = {k: 0.5 * v for k, v in state.items() if v.is_floating_point()}
            other = module(**{**state, **pixels}).logits
        if not bool(logits.isfinite().all()):
            raise Unlike("logits are not finite")
        if torch.equal(logits, other):
            raise Unlike("pictures change nothing")

    def generates(self) -> None:
        """It writes; then it is saved as a checkpoint."""
        with torch.no_grad():
            self.module.generate(**self.state, max_new_tokens=TOKENS, do_sample=False)
        self.module.half().save_pretrained(self.folder)
        del self.module

    def inspects(self) -> None:
        """Every linear has a place, or a reason."""
        self.found["family"] = self.spec.family
        self.found["groups"] = len(self.spec.groups)
        self.found["linears"] = len(self.spec.linears)

    def composes(self) -> None:
        """The stages together are the forward pass."""
        module = self.model.module
        with torch.inference_mode():
            wanted = module(**self.state).logits
        found = logits_of(self.model, self.state)
        mask = self.state.get("attention_mask")
        seen = torch.ones(wanted.shape[:2], dtype=torch.bool)
        if mask is not None and mask.shape == seen.shape:
            seen = mask.bool()
        torch.testing.assert_close(found[seen], wanted[seen])

    def banks(self) -> None:
        """Cells of both methods at both widths."""
        assert self.bank

    def applies(self) -> None:
        """A group at 2 bits changes its matrices alone; back at 16 nothing is left."""
        bench = Workbench(copied(self.model), self.spec, VQAV2, self.bank)
        module, full = bench.model.module, Allocation.uniform(self.spec, FULL)
        wanted = logits_of(bench.model, self.state)
        before = {name: p.clone() for name, p in module.named_parameters()}
        for group in self.spec.groups:
            bench.apply(full.replace({group.key: Choice(2, "gptq")}))
            parameters = dict(module.named_parameters())
            changed = {n for n, p in parameters.items() if not p.equal(before[n])}
            if changed != {key_of(module, x.name) for x in group.linears}:
                raise Unlike(f"{group.key} changes other parameters than its own")
            originals = self.model.module
            for linear in group.linears:
                new, old = (weight_of(m, linear.name) for m in (module, originals))
                if new.equal(old):
                    raise Unlike(f"{linear.name} is as it was at 2 bits")
        for choice in (Choice(4, "uniform"), FULL):
            bench.apply(Allocation.uniform(self.spec, choice))
        if not logits_of(bench.model, self.state).equal(wanted):
            raise Unlike("back at 16 bits it gives something else")

    def replies(self) -> None:
        """Greedy replies are those of transformers."""
        state = {k: v for k, v in self.state.items() if not k.startswith("decoder_")}
        settings = {"max_new_tokens": TOKENS, "do_sample": False}
        module = self.model.module
        with torch.inference_mode():
            wanted = module.generate(**deepcopy(state), **settings)
            ready = prefixed(self.model, self.state)
            found = self.model.reply_ids(ready, Decoding(TOKENS))
        if not found.shape[1] or not found.equal(wanted[:, -found.shape[1] :]):
            raise Unlike("replies differ from transformers'")

    def exports(self) -> None:
        """A checkpoint that transformers reads as it was written, or a plan."""
        made = checkpoint_of(self.folder, (2, 4, 8), granularity="type")
        asked = StudySpec("4.0", "vqav2", widths=(2, 4, 8))
        plan = plan_json(asked, made.spec, made.allocation)
        export = Export(plan, lambda: made, command="allocate export study")
        refused = ""
        for fmt in FORMATS:
            out = self.root / fmt
            try:
                write_export(export, exporter_of(fmt), out, fmt=fmt, watch=Silent())
            except (SpecError, AllocateError) as error:
                refused = refused or f"{fmt}: {reason(error)}"
            else:
                self.found["format"] = fmt
                self.found["refused"] = self._plain(refused)
                return
        raise SpecError(refused)

    def _plain(self, text: str) -> str:
        return text.replace(f"{self.root}/", "")


# in order; the first four are needed by all that follow
STEPS: dict[str, Callable[[Case], None]] = {
    "shrunk": Case.shrinks,
    "forward": Case.forwards,
    "generate": Case.generates,
    "inspected": Case.inspects,
    "stages": Case.composes,
    "banked": Case.banks,
    "applied": Case.applies,
    "replies": Case.replies,
    "exported": Case.exports,
}
NEEDED = ("shrunk", "forward", "generate", "inspected")
OK = "ok"


def row(name: str, root: Path, out: Path, *, loud: bool = False) -> dict[str, Any]:
    """Take an architecture through all steps; of each OK, or why not."""
    case = Case(name, root, {"name": name, "steps": {}})
    began = time.process_time()
    for step, take in STEPS.items():
        case.found["steps"][step] = "takes too long"
        out.write_text(json.dumps(case.found))
        try:
            take(case)
        except Exception as error:
            if loud:
                traceback.print_exc()
            text = case._plain(reason(error))
            case.found["steps"][step] = text or type(error).__name__
            if step in NEEDED:
                break
        else:
            case.found["steps"][step] = OK
    case.found["seconds"] = round(time.process_time() - began, 1)
    out.write_text(json.dumps(case.found))
    return case.found


def limited(name: str, out: Path, *, loud: bool = False) -> None:
    """`row`, with limits on this process, and nothing on the screen unless asked."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    with ExitStack() as stack:
        root = stack.enter_context(tempfile.TemporaryDirectory())
        if not loud:
            null = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(redirect_stderr(null))
            stack.enter_context(redirect_stdout(null))
        row(name, Path(root), out, loud=loud)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    limited(asked.name, asked.out, loud=True)


if __name__ == "__main__":
    main()
