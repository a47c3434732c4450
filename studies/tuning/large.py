"""One block of Llama at 7B width, tuned on a CPU: seconds and memory.

    python -m studies.tuning.large [--steps 2] [--samples 2] [--tokens 128]

Random weights of 4,096 and 11,008 in float32, 4 bits by rounding in groups of 128.
Seconds of a step are the difference between runs of two lengths, so that what happens
once is told apart; a block of so many steps is their extrapolation.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from allocator.core.allocation import Scheme
from allocator.core.ports import Siblings, Stage, State
from quant.grid import decode, round_to_nearest
from quant.streaming import Spool
from quant.tuning import Around, Tuning, tuned


def block() -> tuple[Any, Stage]:
    """A block and its stage."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import (
        LlamaDecoderLayer,
        LlamaRotaryEmbedding,
    )

    config = LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_attention_heads=32
    )
    config._attn_implementation = "sdpa"
    layer, rotary = LlamaDecoderLayer(config, 0), LlamaRotaryEmbedding(config)
    module = torch.nn.Module()
    module.block = layer.requires_grad_(False)

    def run(state: State) -> State:
        hidden = state["hidden"]
        places = torch.arange(hidden.shape[1])[None]
        around = rotary(hidden, places)
        given = layer(hidden, position_ids=places, position_embeddings=around)
        return {"hidden": given[0] if isinstance(given, tuple) else given}

    names = [n for n, m in module.named_modules() if isinstance(m, torch.nn.Linear)]
    sets = tuple(Siblings((name,)) for name in names)
    return module, Stage("block", "language", run, ("block",), sets)


def peak() -> float:
    """Most memory this process ever held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    given = parser.parse_args()
    torch.manual_seed(0)
    module, stage = block()
    weights = {n: module.get_parameter(f"{n}.weight").data for n in stage.linears}
    cells = {n: round_to_nearest(w, Scheme(128), 4) for n, w in weights.items()}
    before = peak()
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        states, targets = (Spool(Path(name), "cpu") for _ in range(2))
        for _ in range(6):
            hidden = torch.randn(given.samples, given.tokens, 4096)
            states.append({"hidden": hidden})
            targets.append(stage.run({"hidden": hidden}))
        around, seconds = Around(states, targets, 5), []
        for steps in (given.steps, 2 * given.steps):
            started = time.process_time()
            tuned(module, stage, cells, weights, around, Tuning(steps, batches=4))
            seconds.append(time.process_time() - started)
    step = (seconds[1] - seconds[0]) / given.steps
    found = {
        "weights": sum(w.numel() for w in weights.values()),
        "tokens in a step": 4 * given.samples * given.tokens,
        "processor seconds of a step": step,
        "processor seconds once": seconds[0] - given.steps * step,
        "of 100 steps": seconds[0] + (100 - given.steps) * step,
        "GB before": before,
        "GB at most": peak(),
        "GB of float32 weights": sum(w.nbytes for w in weights.values()) / 1e9,
        "decoded": float(sum(decode(c.codes, c).sum() for c in cells.values())) != 0,
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
