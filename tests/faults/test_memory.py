"""Memory that is out while a bank is made: fewer widths at once, or a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import Choice
from allocator.core.errors import BankError
from allocator.core.plugins import load
from quant.bank import read_manifest
from tests.quant.banks import Loaded, apart, build
from tests.quant.sequences import assigned, in_sequence

if TYPE_CHECKING:
    from pathlib import Path

    from quant.bank import Recipe

OUT = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")


class Narrow:
    """GPTQ where memory holds so many codes at a time."""

    version = load("quant.methods", "gptq").version

    def __init__(self, most: float) -> None:
        self.most, self.failed = most, list[int]()

    def quantize(self, weights: Any, x: Any, scheme: Any, widths: Any, **o: Any) -> Any:
        codes = sum(weight.numel() for weight in weights) * len(widths)
        if codes > self.most:
            self.failed.append(codes)
            raise OUT
        gptq = load("quant.methods", "gptq")
        return gptq.quantize(weights, x, scheme, widths, **o)


def test_a_set_is_solved_at_fewer_widths_and_others_are_not_tried_again(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    wide = replace(recipe, widths=(2, 3, 4, 8, 16))
    made = {}
    largest = max(
        sum(linear.weights for linear in loaded[1].linears if linear.name in s.names)
        for stage in loaded[0].stages()
        for s in stage.siblings
    )
    methods = {"whole": Narrow(float("inf")), "halves": Narrow(largest)}
    for name, method in methods.items():
        own = replace(wide, methods={"gptq": method})
        build(tmp_path / name, own, apart(loaded))
        made[name] = read_manifest(tmp_path / name / own.digest)["linears"]
    # the same cells, one width after the other
    assert made["halves"] == made["whole"]
    failed = methods["halves"].failed
    # each failure halves what is tried from then on: none is repeated
    assert failed
    assert failed == sorted(set(failed), reverse=True)


def test_a_set_that_does_not_fit_at_one_width_is_named(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    own = replace(recipe, methods={"gptq": Narrow(0)})
    with pytest.raises(BankError) as caught:
        build(tmp_path, own, apart(loaded))
    said = str(caught.value)
    assert said.startswith("quantizing model.vision_tower")
    assert "weights) at 3 bits takes more memory than there is" in said
    assert "you tried to allocate" in said


def starving(loaded: Loaded) -> Loaded:
    """A model whose second block needs more memory than there is."""
    model, spec = apart(loaded)

    def starve(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    name = next(x.name for x in spec.linears if ".layers.1." in x.name)
    model.module.get_submodule(name).register_forward_pre_hook(starve)
    return model, spec


def test_a_stage_that_does_not_fit_is_named_with_what_it_asked_for(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    said = r"running model\.vision\S* of the model takes more memory .* 2\.00 GiB"
    own = replace(recipe, methods={"gptq": load("quant.methods", "gptq")})
    with pytest.raises(BankError, match=said):
        build(tmp_path, own, starving(loaded))


def test_so_is_one_of_a_finalization(tmp_path: Path, loaded: Loaded) -> None:
    wanted = assigned(loaded[1], Choice(2, "gptq"))
    with pytest.raises(BankError, match=r"quantizing \S+ in sequence .* 2\.00 GiB"):
        in_sequence(tmp_path, wanted, starving(loaded))
    # the stage before it is finished, and stays so
    assert list(tmp_path.rglob(".underway.json"))
