"""Learned rounding beside the auto-round package: same blocks, samples and steps.

    python -m studies.tuning.against_auto_round [--steps 50] [--out FILE.json]

Each block of the embedded models alone, in front of it and behind it full precision.
auto-round's own wrappers, optimizer and schedule run on our batches, and start from
whole ranges as it does; ours starts there too, and from GPTQ's cells. Errors are those
of what the block gives, padding left out, relative to it: on the batches that steps
see, and on others. Skips where auto-round is not installed (0.16.1 was).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.loading import judges_of, recipe_of, source_of
from allocator.bench.prepare import prepare
from allocator.core.plugins import load
from allocator.core.study import StudySpec
from quant.calibration import Observed, no_inputs, watch
from quant.grid import decode
from quant.streaming import Spool, in_memory
from quant.tuning import Around, Tuning, _Trial, tuned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allocator.bench.prepare import Setup
    from allocator.core.ports import Stage
    from quant.grid import Cell

MODELS = ("tiny-llava", "tiny-blip2")
WIDTHS = (2, 3, 4)
Row = dict[str, Any]


def blocks(setup: Setup) -> Iterator[tuple[Any, Stage, Around, dict[str, Any]]]:
    """Each block with the states around it and the statistics of what its sets read."""
    source = source_of(setup, tuned=True)
    model = source.model()
    with tempfile.TemporaryDirectory() as name:
        states, behind = (Spool(Path(name), source.device) for _ in range(2))
        for state in source.batches(model):
            states.append(state)
            behind.append(state)
        calibrated = len(states) - source.judging
        for stage in model.stages():
            with in_memory(model.module, stage.uses, source.device):
                observed = [
                    Observed(own, no_inputs(model.module, own.names[0]))
                    for own in stage.siblings
                ]
                for n in range(len(states)):
                    seen = observed if n < calibrated else []
                    behind[n] = watch(model.module, stage, seen, states[n])
                if stage.linears and stage.name.rpartition(".")[2].isdigit():
                    around = Around(states, behind, calibrated)
                    inputs = {n: o.inputs for o in observed for n in o.siblings.names}
                    yield model.module, stage, around, inputs
            for n in range(len(states)):
                states[n] = behind[n]


def cells_of(setup: Setup, module: Any, inputs: dict[str, Any], how: Any) -> Any:
    """Cells of a block by one method at one width."""
    method, bits = how
    scheme, quantize = recipe_of(setup).scheme, load("quant.methods", method).quantize
    return {
        name: quantize([module.get_parameter(f"{name}.weight")], own, scheme, [bits])[
            bits
        ][0]
        for name, own in inputs.items()
    }


class Errors:
    """Errors of a block under some weights."""

    def __init__(self, module: Any, stage: Stage, around: Around) -> None:
        self.module, self.around = module, around
        self.trial = _Trial(module, stage, around, stage.linears)

    def of(self, cells: dict[str, Cell] | None = None) -> tuple[float, float]:
        """On batches that are seen and others; None: of what is in place."""
        values = None
        if cells is not None:
            values = [decode(cells[n].codes, cells[n]) for n in self.trial.names]
        with self.trial.learning(), torch.no_grad():
            if values is not None:
                self.trial.put(values)
            return self._on(self.around.seen), self._on(self.around.held)

    def _on(self, batches: list[int]) -> float:
        with torch.enable_grad():
            found = [self.trial._squares(number) for number in batches]
        return sum(float(e) for e, _ in found) / sum(float(p) for _, p in found)


def auto_round(
    module: Any, stage: Stage, around: Around, bits: int, steps: int
) -> tuple[float, float]:
    """Errors after its wrappers and optimizer, as `SignRoundQuantizer` uses them."""
    from auto_round.algorithms.quantization.sign_round.sign_sgd import SignSGD
    from auto_round.compressors.utils import IndexSampler, collect_best_params
    from auto_round.wrapper import unwrapper_block, wrapper_block

    block = module.get_submodule(stage.name)
    layers = [module.get_submodule(name) for name in stage.linears]
    before = [layer.weight.data for layer in layers]
    given = {
        **{"bits": bits, "group_size": 128, "sym": False, "data_type": "int"},
        **{"act_bits": 16, "act_group_size": -1, "act_sym": False},
        **{"act_data_type": "float", "act_dynamic": True},
        "scale_dtype": torch.float16,
    }
    for layer, weight in zip(layers, before, strict=True):
        layer.weight.data = weight.clone()
        for key, value in given.items():
            setattr(layer, key, value)
    wrapper_block(block, True, False, enable_torch_compile=False, device="cpu")
    wrapped = [m for m in block.modules() if hasattr(m, "orig_layer")]
    values = [each for m in wrapped for each in m.params.values()]
    optimizer = SignSGD(values, lr=1 / steps, weight_decay=0)
    linear = torch.optim.lr_scheduler.LinearLR
    schedule = linear(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)
    trial = _Trial(module, stage, around, ())
    random.seed(0)
    sampler, least, best = IndexSampler(len(around.seen), 1), math.inf, {}
    for _ in range(steps):
        with torch.enable_grad():
            error, power = trial._squares(around.seen[sampler.next_batch()[0]])
            loss = error / power
            loss.backward()
        if float(loss.detach()) < least:
            least, best = float(loss.detach()), collect_best_params(block)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    unwrapper_block(block, best)
    found = Errors(module, stage, around).of()
    for layer, weight in zip(layers, before, strict=True):
        layer.weight.data = weight
    return found


def compared(setup: Setup, steps: int) -> Iterator[Row]:
    """A row for each block and width."""
    for module, stage, around, inputs in blocks(setup):
        errors = Errors(module, stage, around)
        weights = {n: module.get_parameter(f"{n}.weight").data for n in inputs}
        for bits in WIDTHS:
            row: Row = {"model": setup.asked.model, "block": stage.name, "bits": bits}
            for method in ("uniform", "gptq"):
                cells = cells_of(setup, module, inputs, (method, bits))
                row[method] = errors.of(cells)
                found = tuned(module, stage, cells, weights, around, Tuning(steps))
                row[f"{method} tuned"] = errors.of(found)
            row["auto-round"] = auto_round(module, stage, around, bits, steps)
            yield row


def means(rows: list[Row]) -> dict[str, list[float]]:
    """Geometric means over rows, beside auto-round: seen, held out."""
    kinds = [key for key in rows[0] if key not in ("model", "block", "bits")]
    return {
        kind: [
            math.exp(
                sum(math.log(row[kind][at] / row["auto-round"][at]) for row in rows)
                / len(rows)
            )
            for at in (0, 1)
        ]
        for kind in kinds
    }


def main() -> None:
    """Print a row for each block, and means for each width."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--models", nargs="+", default=MODELS)
    given = parser.parse_args()
    if find_spec("auto_round") is None:
        print("skipped: auto-round is not installed")
        return
    rows: list[Row] = []
    for name in given.models:
        setup = prepare(StudySpec("4.0", "vqav2", name))
        assert judges_of(setup)
        for row in compared(setup, given.steps):
            rows.append(row)
            print(json.dumps(row), flush=True)
    found = {
        f"{bits} bits": means([row for row in rows if row["bits"] == bits])
        for bits in WIDTHS
    }
    print(json.dumps(found, indent=1))
    if given.out:
        text = json.dumps({"means": found, "rows": rows}, indent=1)
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
