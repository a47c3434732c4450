"""A LLaVA of two blocks each, with the names of transformers 5; no weights."""

from __future__ import annotations

from allocator.core.spec import LeftOut, Linear, ModelSpec, build_groups

TOWER, TEXT = "model.vision_tower.encoder.layers", "model.language_model.layers"
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


def linears() -> list[Linear]:
    """18 in the language model's and 4 in the tower's blocks, and a projector."""
    found = []
    for block in range(2):
        for name in ("self_attn.q_proj", "mlp.fc1"):
            kind = "attn" if "attn" in name else "ff"
            full = f"{TOWER}.{block}.{name}"
            found.append(Linear(full, "vision", block, kind, 128, 128))
    projector = "model.multi_modal_projector.linear_1"
    found.append(Linear(projector, "connector", None, "all", 256, 128))
    for block in range(2):
        for kind, part, names in (
            ("attn", "self_attn", ATTENTION),
            ("ff", "mlp", FEED_FORWARD),
        ):
            found += [
                Linear(
                    f"{TEXT}.{block}.{part}.{name}", "language", block, kind, 256, 256
                )
                for name in names
            ]
    return found


def spec() -> ModelSpec:
    """The model in groups by type, its head at 16 bits."""
    groups = build_groups(linears())
    weights = sum(group.weights for group in groups)
    head = LeftOut("lm_head", 1000 * 256, "the output layer stays as it is")
    return ModelSpec("llava", weights + head.weights, groups, (head,))
