"""How checkpoints of each kind are published: names of tensors, and config.json.

transformers 5 saves some parts under other names and another layout of config.json.
What is published was saved by transformers 4, and other runtimes read that.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXT, VISION, ROPE = "text_config", "vision_config", "rope_parameters"
# what transformers 5 has for vision towers whose positions are no setting elsewhere
AXIAL = {"rope_type": "axial", "rope_theta": 10000.0}


@dataclass(frozen=True)
class Published:
    """The names and the layout that a kind of model is published with.

    Attributes:
        renamed: patterns of names that transformers 5 may store, and what is published
            in their place; published names match none.
        flat: settings of the language model lie beside the others in config.json.
        tower: `model_type` of `vision_config`; None: as transformers has it.
        rope: type of `rope_scaling` where it cuts a head in sections.
        as_saved: config.json stays as transformers 5 has it, which is what reads it.
    """

    renamed: tuple[tuple[str, str], ...] = ()
    flat: bool = False
    tower: str | None = None
    rope: str | None = None
    as_saved: bool = False

    def key(self, name: str) -> str:
        """The published name of a tensor."""
        for pattern, new in self.renamed:
            name = re.sub(pattern, new, name)
        return name


# as stored with `save_original_format=False`
LLAVA = (
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.", ""),
)
# CLIP and SigLIP, since transformers 5.2
TOWER = ((r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model."),)
QWEN = (
    (r"^model\.language_model\.", "model."),
    (r"^model\.visual\.", "visual."),
)
# by `model_type`, each with a checkpoint on huggingface.co that is named so
PUBLISHED = {
    "llava": Published(LLAVA + TOWER),  # llava-hf/llava-1.5-7b-hf
    "llava_next": Published(LLAVA + TOWER),  # llava-hf/llava-v1.6-mistral-7b-hf
    "llava_onevision": Published(LLAVA + TOWER),  # llava-hf/llava-onevision-qwen2-7b-ov
    "gemma3": Published(LLAVA + TOWER),  # google/gemma-3-4b-it
    "paligemma": Published(LLAVA + TOWER),  # google/paligemma2-3b-mix-448
    "internvl": Published(LLAVA),  # OpenGVLab/InternVL3-1B-hf
    "qwen2_vl": Published(QWEN, True, "qwen2_vl", "mrope"),  # Qwen/Qwen2-VL-7B-Instruct
    "qwen2_5_vl": Published(QWEN, True, "qwen2_5_vl", "mrope"),  # Qwen/Qwen2.5-VL-7B-..
    "qwen3_vl": Published(tower="qwen3_vl"),  # Qwen/Qwen3-VL-2B-Instruct
    "idefics3": Published(),  # HuggingFaceM4/Idefics3-8B-Llama3
    "smolvlm": Published(),  # HuggingFaceTB/SmolVLM2-2.2B-Instruct
    # transformers 5.24 renames nothing of these when it reads them
    # (conversion_mapping.py), so that what is published has the names of its modules
    **dict.fromkeys(("glm4v", "glm46v", "qwen3_5"), Published(as_saved=True)),
    "mistral3": Published(LLAVA, as_saved=True),  # mistralai/Ministral-3-3B-Instruct-..
    "gemma4": Published(as_saved=True),  # google/gemma-4-E2B-it
    "minicpmv4_6": Published(as_saved=True),  # openbmb/MiniCPM-V-4.6
    "blip-2": Published(),  # Salesforce/blip2-opt-2.7b, Salesforce/blip2-flan-t5-xl
}


def published_as(config: Mapping[str, Any]) -> Published:
    """How the kind of model that a config.json describes is published.

    Raises:
        ModelError: transformers 5 saved it, and that is not known.
    """
    kind = config["model_type"]
    if kind in PUBLISHED:
        return PUBLISHED[kind]
    version = str(config.get("transformers_version", ""))
    if version and int(version.split(".", maxsplit=1)[0]) >= 5:
        raise ModelError(
            f"transformers {version} saved this {kind!r} model, and under which names "
            f"such models are published is known of {', '.join(PUBLISHED)} only"
        )
    return Published()


def published_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json in the layout in which its kind is published.

    One that is published already stays as it is.

    Raises:
        ModelError: a part has no known place there; names it.
    """
    published, kind = published_as(config), config["model_type"]
    made = deepcopy(dict(config))
    if published.as_saved:
        return made
    parts = {f"{name}.": part for name, part in made.items() if isinstance(part, dict)}
    for name, part in {"": made, **parts}.items():
        if ROPE in part:
            where = f"{name}{ROPE} of a {kind!r} model"
            part.update(_rope(part.pop(ROPE), published, where))
    vision = made.get(VISION)
    if published.tower and isinstance(vision, dict):
        vision["model_type"] = published.tower
    if published.flat and isinstance(made.get(TEXT), dict):
        text = made.pop(TEXT)
        text.pop("model_type", None)
        # some have both, and what is read is the part
        made |= {k: v for k, v in text.items() if v is not None or k not in made}
    return made


def _rope(given: Mapping[str, Any], published: Published, where: str) -> dict[str, Any]:
    """Settings of rotary positions as they were before they became one."""
    given = dict(given)
    if given == AXIAL:
        return {}
    if "full_attention" in given:
        full, sliding = given.pop("full_attention"), given.pop("sliding_attention", {})
        local = sliding.pop("rope_theta", None)
        if given or local is None or sliding != {"rope_type": "default"}:
            raise ModelError(f"{where} has no place in a published config.json")
        return {**_rope(full, published, where), "rope_local_base_freq": local}
    if given.get("rope_type") == AXIAL["rope_type"]:
        raise ModelError(f"{where} has no place in a published config.json")
    theta = {"rope_theta": given.pop("rope_theta")} if "rope_theta" in given else {}
    if given == {"rope_type": "default"}:
        return theta
    if published.rope and given.get("rope_type") == "default":
        given = {"type": published.rope} | {
            k: v for k, v in given.items() if k != "rope_type"
        }
    return {**theta, "rope_scaling": given}
