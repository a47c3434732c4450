"""vLLM's kernel for 4 bits on a CPU beside its plain one, on one linear.

    cd studies/export/inside_vllm; PYTHONPATH=. python kernel.py OUT

Drawn codes, zero-points and scales, and the float16 weights that they stand for. OUT
becomes JSON: for rows of each length and each grid the share of outputs, of 1, 16 and
36 inputs, that are equal to the last bit, and the largest difference.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

OUTPUTS, INPUTS = 256, (1, 16, 36)
ROWS, GROUPS = (256, 512, 1024, 2048), (32, 64, 128, -1)
AT = "vllm.model_executor.kernels.linear.mixed_precision"


def words(codes: torch.Tensor) -> torch.Tensor:
    """Codes [rows, n] of 4 bits as int32 [rows, n / 8], the first in the low bits."""
    octets = codes.to(torch.int64).view(len(codes), -1, 8)
    found = (octets << 4 * torch.arange(8)).sum(-1)
    return torch.where(found >= 2**31, found - 2**32, found).to(torch.int32)


def parameter(value: torch.Tensor, **places: int) -> Any:
    """A parameter that says which of its dimensions is which."""
    found = torch.nn.Parameter(value, requires_grad=False)
    for name, place in places.items():
        setattr(found, name, place)
    return found


def compared(row: int, group: int, symmetric: bool) -> dict[str, Any]:
    """One linear of OUTPUTS rows, by both kernels."""
    ops, types = import_module("vllm._custom_ops"), import_module("vllm.scalar_type")
    size = row if group == -1 else group
    torch.manual_seed(0)
    codes = torch.randint(16, (OUTPUTS, row))
    scale = (torch.rand(OUTPUTS, row // size) * 0.02 + 0.001).half()
    zero = torch.randint(16, scale.shape)
    if symmetric:
        zero.fill_(8)
    apart = codes - zero.repeat_interleave(size, 1)
    weight = (apart * scale.float().repeat_interleave(size, 1)).half()
    layer: Any = torch.nn.Module()
    layer.bias, bias = None, torch.randn(OUTPUTS).half() * 0.1
    layer.packed = parameter(words(codes), input_dim=1, output_dim=0, packed_dim=1)
    layer.scale = parameter(scale, input_dim=1, output_dim=0)
    if not symmetric:
        down = words(zero.T.contiguous()).T.contiguous()
        layer.zero = parameter(down, input_dim=1, output_dim=0, packed_dim=0)
    kinds = types.scalar_types
    config = import_module(f"{AT}.MPLinearKernel").MPLinearLayerConfig(
        full_weight_shape=(row, OUTPUTS),
        partition_weight_shape=(row, OUTPUTS),
        weight_type=kinds.uint4b8 if symmetric else kinds.uint4,
        act_type=torch.float16,
        group_size=group,
        zero_points=not symmetric,
    )
    kernel = import_module(f"{AT}.cpu").CPUWNA16LinearKernel(
        config, w_q_param_name="packed", w_s_param_name="scale", w_zp_param_name="zero"
    )
    kernel.process_weights_after_loading(layer)
    plain = ops.create_onednn_mm(weight.t(), 32)
    equal, most = [], 0.0
    for count in INPUTS:
        given = torch.randn(count, row).half()
        low = kernel.apply_weights(layer, given, bias)
        wanted = ops.onednn_mm(plain, given, bias)
        equal.append((low == wanted).float().mean().item())
        most = max(most, float((low - wanted).abs().max()))
    return {"equal": [round(each, 4) for each in equal], "largest_difference": most}


def name(row: int, group: int, symmetric: bool) -> str:
    """What a grid is called."""
    size = "channel" if group == -1 else str(group)
    return f"{row}-{size}-{'symmetric' if symmetric else 'asymmetric'}"


def main() -> None:
    """All rows and grids."""
    found = {
        name(row, group, symmetric): compared(row, group, symmetric)
        for row in ROWS
        for group in GROUPS
        for symmetric in (False, True)
    }
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
