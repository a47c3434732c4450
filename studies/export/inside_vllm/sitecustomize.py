"""What every process of vLLM imports when it starts, as this folder is on its path."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

import torch


def declare_operators() -> None:
    """Let torchvision be imported where its own operators do not load.

    Package indexes may have it for CUDA alone beside a torch for CPUs. It then asks for
    two operators when it is imported, which nobody calls here.
    """
    try:
        import_module("torchvision")
    except RuntimeError:
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        KEPT.append(library)
        for name in ("nms", "qnms"):
            with suppress(RuntimeError):
                library.define(
                    f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )


def layers(module: Any) -> list[str]:
    """Class, scheme and kernel of each layer that has a method of quantization."""
    found = []
    for layer in module.modules():
        method = getattr(layer, "quant_method", None)
        if method is not None:
            scheme = getattr(layer, "scheme", None)
            parts = (layer, scheme or method, getattr(scheme, "kernel", None))
            named = [type(part).__name__ for part in parts if part is not None]
            found.append(" ".join(named))
    return found


KEPT: list[Any] = []
declare_operators()
