"""The language model of Qwen3.5, which other families have too.

Gated delta networks (arXiv 2412.06464) stand in three of four blocks, attention whose
output is gated in the fourth.
"""

from __future__ import annotations

import re
from dataclasses import replace

from allocator.families._any_resolution import TINY_TEXT
from allocator.families._blocks import Readers
from allocator.families._decoders import LLAMA
from allocator.families._places import Rest

# the norm in front of them feeds the gates too, which stay at 16 bit, and what the
# output projection reads has been through a norm, a head at a time: no scale folds
RECURRENT = (
    Readers("linear_attn.in_proj_qkv linear_attn.in_proj_z", "attn"),
    Readers("linear_attn.out_proj", "attn"),
)
# norms scale by 1 plus their weight; half of what queries give is the output's gate,
# which multiplies what the values gave, a channel at a time
ATTENTION = (replace(LLAMA[0], added=1.0), LLAMA[1])
DENSE = (replace(LLAMA[2], added=1.0), LLAMA[3])
TEXT = "model.language_model.layers"
GATES = Rest(
    rf"{re.escape(TEXT)}\.\d+\.linear_attn\.in_proj_[ab]",
    "a row a head, which says how fast a recurrent state is forgotten and rewritten",
)


TINY_HYBRID = {
    **TINY_TEXT,
    "head_dim": 32,
    # a quarter of each head is turned
    "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]},
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
