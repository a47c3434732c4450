"""NVIDIA ModelOpt's `auto_quantize` on an embedded model: scores and allocations.

    PYTHONPATH=. ENV/bin/python -m studies.rivals.tool_modelopt --model tiny-llava

in an environment with nvidia-modelopt. Theirs: the scores of single linears by both
methods, and the solver that belongs to each. Ours: the model, calibration, grid, and
what a width costs, which replaces their effective bits before the solver is called.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from allocator.core.allocation import FULL
from studies.rivals.case import BUDGETS, LOW, MODELS, RESULTS, Case, telling
from studies.rivals.case import write as keep

BATCH = 32
METHODS = {"gradient": "modelopt gradient", "kl_div": "modelopt kl"}
BACKEND = "allocator"
# a little more is taken off the room each time until the solver's answer fits
STEP = 0.002


def formats() -> list[dict[str, Any]]:
    """Our grids as formats of theirs: weights alone, by a backend of our own."""
    return [
        {
            "quant_cfg": [
                {"quantizer_name": "*", "enable": False},
                {
                    "quantizer_name": "*weight_quantizer",
                    "cfg": {"num_bits": bits, "axis": 0, "backend": BACKEND},
                    "enable": True,
                },
            ],
            "algorithm": "max",
        }
        for bits in LOW
    ]


def scored(case: Case, method: str) -> dict[str, Any]:
    """Let `auto_quantize` score every linear at every width; its candidates."""
    import modelopt.torch.quantization as mtq
    from modelopt.torch.quantization.algorithms import _AutoQuantizeBaseSearcher

    # q, k, v and gate, up may differ, as they may for everyone else
    _AutoQuantizeBaseSearcher.quant_grouping_rules.clear()
    batches = case.batches(BATCH)
    if method == "gradient":
        case.let_gradients_through()
    inside = {linear.name for linear in case.spec.linears}
    outside = [
        name
        for name, module in case.model.module.named_modules()
        if hasattr(module, "weight") and name not in inside
    ]

    def forward(model: Any, batch: Any) -> Any:
        output = model(**batch)
        return telling(output.logits, batch["labels"]) if method == "kl_div" else output

    _, state = mtq.auto_quantize(
        case.model.module,
        constraints={"effective_bits": 4.0},
        quantization_formats=formats(),
        data_loader=batches,
        forward_step=forward,
        loss_func=lambda output, _: output.loss,
        disabled_layers=outside,
        num_calib_steps=1,
        num_score_steps=len(batches),
        method=method,
    )
    stats: dict[str, Any] = state["candidate_stats"]
    kept = {k: each for k, each in stats.items() if each["module_names"][0] in inside}
    assert {each["module_names"][0] for each in kept.values()} == inside
    # nothing counts as without loss that was not looked at
    assert all(each["scores"][0] > 0 for each in kept.values())
    return kept


def register(case: Case) -> None:
    """Make our min-max grid a backend of theirs."""
    from modelopt.torch.quantization.nn import register_quant_backend

    from quant.grid import dequantize, round_to_nearest

    def rounded(weight: Any, quantizer: Any) -> Any:
        cell = round_to_nearest(weight.detach(), case.scheme, quantizer.num_bits)
        return dequantize(cell).to(weight.dtype)

    register_quant_backend(BACKEND, rounded)


def solved(
    case: Case, method: str, stats: dict[str, Any], bpw: float
) -> dict[str, int]:
    """Their solver's answer within a budget of stored bytes: bits of each linear."""
    from modelopt.torch.quantization.algorithms import (
        AutoQuantizeGradientSearcher,
        AutoQuantizeKLDivSearcher,
    )

    kinds = {
        "gradient": AutoQuantizeGradientSearcher,
        "kl_div": AutoQuantizeKLDivSearcher,
    }
    searcher, room = kinds[method](), case.room(bpw)
    searcher.candidate_stats, wanted = stats, room
    while True:
        picked, _ = searcher.run_search_with_stats(wanted)
        if sum(each["costs"] for each in picked.values()) <= room:
            return {
                stats[key]["module_names"][0]: width(each["format"])
                for key, each in picked.items()
            }
        wanted -= STEP * room


def width(recipe: Any) -> int:
    """Bits of a format of theirs; "do not quantize" is 16."""
    return int(recipe.num_bits)


def run(name: str, method: str) -> dict[str, Any]:
    """Score once, solve for every budget."""
    case = Case.of(name)
    register(case)
    since = time.process_time()
    stats = scored(case, method)
    seconds = time.process_time() - since
    costs, scores = case.costs, {}
    for each in stats.values():
        (linear,) = each["module_names"]
        bits = [width(recipe) for recipe in each["formats"]]
        each["costs"] = [float(costs[linear][b]) for b in bits]
        scores[linear] = dict(zip(bits, map(float, each["scores"]), strict=True))
    assert set(bits) == {*LOW, FULL}
    return {
        "system": METHODS[method],
        "version": f"nvidia-modelopt {version('nvidia-modelopt')}",
        "model": name,
        "seconds": seconds,
        "scores": scores,
        "bits": {bpw: solved(case, method, stats, bpw) for bpw in BUDGETS},
    }


def main() -> None:
    """Write a file for each method, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--method", choices=METHODS, nargs="*", default=list(METHODS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    try:
        version("nvidia-modelopt")
    except PackageNotFoundError:
        print("skipped: nvidia-modelopt is not installed here", file=sys.stderr)
        return
    for method in asked.method:
        found = run(asked.model, method)
        slug = found["system"].replace(" ", "_")
        keep(asked.out / f"{asked.model}-{slug}.json", found)


if __name__ == "__main__":
    main()
