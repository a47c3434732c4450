"""What a block of experts takes: seconds and memory, and per expert beside a linear.

The cells of a block of Qwen3-VL-30B-A3B's size (128 experts of 2048 x 768, eight for
each token) with random weights, by all methods at all widths, as a bank makes them:
processor seconds of watching and of solving, peak memory. Beside it ordinary linears of
the same sizes, each of which reads as many tokens as an expert does on average. Each of
both runs in a process of its own, in turn, as often as asked; medians are compared.

    OMP_NUM_THREADS=1 python -m studies.bank.experts --out studies/results/experts.json
    OMP_NUM_THREADS=1 python -m studies.bank.experts --experts 8 --tokens 2048
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allocator.core.ports import Stage, State

HIDDEN, INNER, CHOSEN, BATCH = 2048, 768, 8, 2048
METHODS, WIDTHS = "awq,gptq,uniform", "2,3,4,5,6,8"
STACKS = ("experts.gate_up_proj", "experts.down_proj")
KINDS = ("experts", "linears")


@dataclass
class Block:
    """A block as a model of one stage."""

    module: Any
    sets: list[Any]

    def stages(self) -> tuple[Stage, ...]:
        """The one stage."""
        from allocator.core.ports import Stage

        def run(state: State) -> State:
            return {"hidden": self.module(state["hidden"])}

        return (Stage("block", "language", run, ("",), tuple(self.sets)),)


def of_experts(count: int) -> Block:
    """A router and its experts, as transformers has them."""
    from transformers import Qwen3VLMoeTextConfig
    from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import (
        Qwen3VLMoeTextSparseMoeBlock,
    )

    from allocator.core.ports import Siblings

    config = Qwen3VLMoeTextConfig(
        hidden_size=HIDDEN,
        moe_intermediate_size=INNER,
        num_experts=count,
        num_experts_per_tok=min(CHOSEN, count // 2),
    )
    config._experts_implementation = "grouped_mm"
    module = Qwen3VLMoeTextSparseMoeBlock(config)
    _randomize(module)
    return Block(
        module,
        [Siblings((f"{s}.{n}",), pool=s) for s in STACKS for n in range(count)],
    )


def of_linears(count: int) -> Block:
    """As many feed-forward parts, each of which reads its share of the tokens."""
    import torch
    from torch import nn

    from allocator.core.ports import Siblings

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ModuleList(
                nn.Linear(HIDDEN, 2 * INNER, bias=False) for _ in range(count)
            )
            self.down = nn.ModuleList(
                nn.Linear(INNER, HIDDEN, bias=False) for _ in range(count)
            )

        def forward(self, hidden: Any) -> Any:
            given = []
            parts = hidden[0].chunk(count)
            for rows, up, down in zip(parts, self.up, self.down, strict=True):
                gate, value = up(rows).chunk(2, -1)
                given.append(down(nn.functional.silu(gate) * value))
            return torch.cat(given)[None]

    module = Parts()
    _randomize(module)
    names = (f"{part}.{n}" for part in ("up", "down") for n in range(count))
    return Block(module, [Siblings((name,)) for name in names])


def _randomize(module: Any) -> None:
    import torch

    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.requires_grad_(False).normal_(std=0.02)


def tokens(count: int, share: float) -> Iterator[State]:
    """Batches of tokens with a few loud channels; of each batch a share."""
    import torch

    drawn = torch.Generator().manual_seed(1)
    loud = torch.rand(HIDDEN, generator=drawn).pow(-0.4)
    mix = torch.randn(HIDDEN, HIDDEN, generator=drawn) / HIDDEN**0.5
    for at in range(0, count, BATCH):
        rows = torch.randn(1, min(BATCH, count - at), HIDDEN, generator=drawn)
        yield {"hidden": (rows[:, : round(share * BATCH)] @ mix) * loud}


def measure(kind: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Make all cells of a block in this process; what that took."""
    experts, parts = asked.experts, asked.parts
    from allocator.core.allocation import Scheme
    from allocator.core.plugins import load
    from allocator.core.spec import Linear
    from allocator.core.weights import weight_of
    from quant.bank import Recipe, read_manifest
    from quant.build import Source, build_bank
    from quant.pooling import feeding

    number = experts if kind == "experts" else parts
    block: Any = of_experts(experts) if kind == "experts" else of_linears(parts)
    chosen = min(CHOSEN, experts // 2)
    share = 1.0 if kind == "experts" else parts * chosen / experts
    names = [name for each in block.sets for name in each.names]
    linears = [
        Linear(name, "language", 0, "ff", *weight_of(block.module, name).shape)
        for name in names
    ]
    methods = {name: load("quant.methods", name) for name in asked.methods.split(",")}
    widths = tuple(map(int, asked.widths.split(",")))
    recipe = Recipe("random", ("tokens",), Scheme(), methods, (*widths, 16))
    told: list[float] = []

    def progress(done: int, _: int) -> None:
        if done:
            told.append(time.process_time())

    batches = list(tokens(asked.tokens, share))
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        source = Source(lambda: block, lambda _: iter(batches))
        build_bank(Path(folder), recipe, linears, source, progress)
        ended = time.process_time()
        fed = feeding(read_manifest(Path(folder) / recipe.digest))
    # the first linear was solved in between: as long as those behind it on average
    solving = (ended - told[0]) * len(names) / (len(names) - 1)
    return {
        "kind": kind,
        "number": number,
        "watching_s": ended - began - solving,
        "solving_s": solving,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "mixed": fed.mixed if fed else None,
        "needed_times": fed.needed if fed else None,
    }


def in_a_process(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """The same in a process of its own, whose memory is nobody else's."""
    command = [sys.executable, "-m", "studies.bank.experts", "--kind", kind]
    for name in ("experts", "tokens", "parts", "methods", "widths"):
        command += [f"--{name}", str(getattr(options, name))]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return found


def each_s(run: dict[str, Any]) -> float:
    """Processor seconds for each expert, or for each pair of linears."""
    seconds: float = (run["watching_s"] + run["solving_s"]) / run["number"]
    return seconds


def main() -> None:
    """Print, or write, what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experts", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=2**16)
    parser.add_argument("--parts", type=int, default=4, help="ordinary ones beside")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--widths", default=WIDTHS)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        print(json.dumps(measure(options.kind, options)))
        return
    runs = [
        in_a_process(kind, options) for _ in range(options.repeats) for kind in KINDS
    ]
    medians = {
        kind: statistics.median(each_s(run) for run in runs if run["kind"] == kind)
        for kind in KINDS
    }
    found = {
        "experts": options.experts,
        "tokens": options.tokens,
        "methods": options.methods,
        "widths": options.widths,
        "seconds_each": medians,
        "expert_over_linear": medians["experts"] / medians["linears"],
        "runs": runs,
    }
    text = json.dumps(found, indent=1) + "\n"
    if options.out:
        options.out.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
