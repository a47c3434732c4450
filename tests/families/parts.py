"""Processors for the tiny models of every family, as the tests of each make them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.families import test_blip2 as blip2
from tests.families import test_gemma3 as gemma3
from tests.families import test_gemma4 as gemma4
from tests.families import test_glm4v as glm4v
from tests.families import test_internvl as internvl
from tests.families import test_llava as llava
from tests.families import test_minicpmv4_6 as minicpmv4_6
from tests.families import test_paligemma as paligemma
from tests.families import test_qwen3_5 as qwen3_5
from tests.families import test_qwen_vl as qwen_vl
from tests.families import test_smolvlm as smolvlm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _blip2(folder: Path, variant: str) -> None:
    blip2.save_parts(folder, start=variant == "opt")


# by family; each is told the folder and the variant
PARTS: dict[str, Callable[[Path, str], None]] = {
    "blip2": _blip2,
    "gemma3": lambda folder, _: gemma3.save_parts(folder),
    "gemma4": lambda folder, _: gemma4.save_parts(folder),
    "glm4v": glm4v.save_parts,
    "internvl": lambda folder, _: internvl.save_parts(folder),
    "llava": lambda folder, variant: llava.SAVE[variant](folder),
    "minicpmv4_6": lambda folder, _: minicpmv4_6.save_parts(folder),
    "paligemma": lambda folder, _: paligemma.save_parts(folder),
    "qwen3_5": lambda folder, _: qwen3_5.save_parts(folder),
    "qwen_vl": lambda folder, _: qwen_vl.save_parts(folder),
    "smolvlm": smolvlm.save_parts,
}
