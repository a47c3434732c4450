"""AutoRound's `AutoScheme` on an embedded model: scores and allocations.

    PYTHONPATH=. ENV/bin/python -m studies.rivals.tool_autoscheme --model tiny-llava

in an environment with auto-round. Theirs: the score of a single linear at a width
(gradient times what rounding changes, by AutoRound's own min-max grid, which is the
same as ours) and the dynamic programming over scores. Ours: the model, the calibration
(theirs finds no pictures of its own without a network) and what a width costs.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from allocator.core.allocation import FULL
from studies.rivals.case import BUDGETS, LOW, MODELS, RESULTS, Case
from studies.rivals.case import write as keep

# as theirs where everything runs at once; their advice for 2 bits is 128 samples or
# more, which is all there are
BATCH = 1


def scored(case: Case) -> dict[str, dict[int, float]]:
    """AutoScheme's loss of every linear at every width."""
    from auto_round.auto_scheme import delta_loss
    from auto_round.auto_scheme.utils import apply_quant_scheme, remove_quant_scheme
    from auto_round.schemes import QuantizationScheme

    names = [linear.name for linear in case.spec.linears]
    batches, module = case.batches(BATCH), case.model.module.eval()
    case.let_gradients_through()
    delta_loss.get_dataloader = lambda *_, **__: batches
    found: dict[str, dict[int, float]] = {name: {FULL: 0.0} for name in names}
    for bits in LOW:
        scheme = QuantizationScheme(bits, case.scheme.group_size, False, act_bits=16)
        apply_quant_scheme(module, names, {}, asdict(scheme))
        scores = delta_loss.get_score_for_scheme(
            module,
            None,
            names,
            {},
            "ours",
            nsamples=len(case.samples),
            need_weight_grad=True,
            enable_torch_compile=False,
            low_gpu_mem_usage=False,
            batch_size=BATCH,
        )
        remove_quant_scheme(module)
        for name in names:
            found[name][bits] = float(scores[name][1])
    assert all(losses[bits] > 0 for losses in found.values() for bits in LOW)
    return found


def solved(
    case: Case, scores: dict[str, dict[int, float]], bpw: float
) -> dict[str, int]:
    """Their dynamic programming within a budget of stored bytes: bits of linears."""
    from auto_round.auto_scheme.delta_loss import choose_bits_per_layer_with_path

    costs = case.costs
    layers = {
        name: [
            (bits, 8 * costs[name][bits], loss, [name]) for bits, loss in own.items()
        ]
        for name, own in scores.items()
    }
    _, path = choose_bits_per_layer_with_path(layers, int(8 * case.room(bpw)))
    return {name: bits for (name,), bits in path}


def run(name: str) -> dict[str, Any]:
    """Score once, solve for every budget."""
    case = Case.of(name)
    since = time.process_time()
    scores = scored(case)
    return {
        "system": "autoscheme",
        "version": f"auto-round {version('auto-round')}",
        "model": name,
        "seconds": time.process_time() - since,
        "scores": {
            k: {b: float(v) for b, v in own.items()} for k, own in scores.items()
        },
        "bits": {bpw: solved(case, scores, bpw) for bpw in BUDGETS},
    }


def main() -> None:
    """Write the file, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    try:
        version("auto-round")
    except PackageNotFoundError:
        print("skipped: auto-round is not installed here", file=sys.stderr)
        return
    keep(asked.out / f"{asked.model}-autoscheme.json", run(asked.model))


if __name__ == "__main__":
    main()
