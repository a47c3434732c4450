"""Numbers beyond the type that a model runs in: found, told, refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.workbench import Workbench
from allocator.core.allocation import Scheme
from allocator.core.errors import ModelError
from allocator.core.plugins import load
from allocator.families import family_of
from quant.bank import Recipe
from quant.build import Source, build_bank
from tests.models import SMALL, make_llava, some_questions

if TYPE_CHECKING:
    from studies.gpu._session import Session

# so large that sums of a few hundred products leave the type, and the weight does not
SHARE = 0.25


@torch.no_grad()
def overflow(session: Session) -> dict[str, Any]:
    """A model whose activations leave the type: what the bench and the bank say."""
    folder = session.folder / "overflow"
    module = make_llava(folder, SMALL, dtype=session.dtype, device=session.device)
    weight = module.get_parameter("model.language_model.layers.0.mlp.down_proj.weight")
    weight.mul_(SHARE * torch.finfo(weight.dtype).max / weight.abs().max())
    module.save_pretrained(folder)
    samples = some_questions(session.folder / "overflowing", 1)[:2]
    family, device = family_of(folder), session.device
    spec = family.spec(folder)
    model = family.load(folder, device)
    told = Workbench(model, spec, load("evals.tasks", "vqav2")).fault(samples)
    if told is None:
        raise ValueError("the bench found nothing wrong with logits that overflow")
    methods = {"gptq": load("quant.methods", "gptq")}
    recipe = Recipe("random", ("one",), Scheme(), methods, (4, 16))
    source = Source(
        lambda: family.load(folder, device, mapped=True),
        lambda own: [own.inputs(samples, answered=True)],
        device,
    )
    try:
        build_bank(session.folder / "refused", recipe, spec.linears, source)
    except ModelError as error:
        return {"type": session.dtype, "bench": told, "bank": str(error)}
    raise ValueError("a bank was made of activations that overflow")
