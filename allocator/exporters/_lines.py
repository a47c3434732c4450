"""The lines that load a compressed-tensors checkpoint in transformers, for its card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from allocator.exporters._checkpoint import Checkpoint

# transformers runs the parts of a model one by one where it generates
UNPACK = """\
# unpacks the weights: transformers does it when the model first runs as a whole, which
# `generate` may not
model.hf_quantizer.compressor.decompress_model(model)"""
VIDEOS = "# it reads videos too, and so needs torchvision"
CAREFUL = """
# transformers 5.24 goes through all modules to initialize what no file had, and some
# of SigLIP and T5 ask for weights that are packed; here nothing is missing
initialize = PreTrainedModel._initialize_weights


def careful(self, module, *more):
    try:
        initialize(self, module, *more)
    except AttributeError:
        pass


PreTrainedModel._initialize_weights = careful
"""
# classes of transformers whose `_init_weights` asks for weights by name
ASKING = ("SiglipPreTrainedModel", "T5PreTrainedModel")


def _stumbles(made: Checkpoint) -> bool:
    """Whether transformers cannot load it by itself: see `families._packed`."""
    module = made.model.module
    if any(isinstance(module.get_submodule(k), nn.Embedding) for k in made.low):
        return True
    asking = tuple(
        f"{name}."
        for name, part in module.named_modules()
        if any(kind.__name__ in ASKING for kind in type(part).__mro__)
    )
    return any(name.startswith(asking) for name in made.low)


def transformers_lines(made: Checkpoint) -> str:
    """Python that runs as printed beside the folder "{out}"."""
    kind = type(made.model.module).__name__
    auto = kind if kind.endswith("Retrieval") else "AutoModelForImageTextToText"
    careful = _stumbles(made)
    names = ["AutoProcessor", auto, *(["PreTrainedModel"] if careful else [])]
    reads_videos = any(name.startswith("video_token") for name in vars(made.config))
    lines = (
        f"from transformers import {', '.join(sorted(names))}",
        CAREFUL if careful else "",
        *([VIDEOS] if reads_videos else []),
        'processor = AutoProcessor.from_pretrained("{out}")',
        f'model = {auto}.from_pretrained("{{out}}", dtype="auto")',
        UNPACK,
    )
    return "\n".join(lines)
