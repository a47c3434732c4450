"""Structure and course of an architecture, found once for each configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from allocator.core.errors import in_one_sentence
from allocator.families._checkpoint import quiet
from allocator.families._fitting import fitted
from allocator.families._made_inputs import made_inputs
from allocator.families._rehearsal import rehearsed
from allocator.families._shrunk import shrunk
from allocator.families._traced import traced

if TYPE_CHECKING:
    from allocator.families._course import Course
    from allocator.families._structure import Structure

SEED = 0
# what says how weights are stored, and nothing of the architecture
STORED = ("quantization_config", "dtype", "torch_dtype", "transformers_version")


@dataclass(frozen=True)
class Found:
    """Where the parts of a model are, and in which order its pass comes to them."""

    structure: Structure
    course: Course

    def fitted(self, module: Any) -> Found:
        """The same for a module of full size; its weights may be on "meta".

        Raises:
            SpecError: linears that hold more than 2 % of the weights have no place.
        """
        return replace(self, structure=fitted(self.structure, module))


_known: dict[str, Found] = {}


def found_of(kind: Any, config: Any) -> Found:
    """What a small random model of a configuration shows.

    Args:
        kind: the class in transformers.
        config: it stays as it is.

    Raises:
        ModelError: it cannot be shrunk, run, placed or cut; says which.
    """
    small = shrunk(config)
    if getattr(small, "quantization_config", None) is not None:
        small.quantization_config = None
    key = f"{kind.__name__} {_plain(small.to_dict())}"
    if key not in _known:
        _known[key] = _watched(kind, small)
    return _known[key]


def _plain(config: Any) -> Any:
    """A configuration, and its parts, without what says how weights are stored."""
    if not isinstance(config, dict):
        return config
    return {k: _plain(v) for k, v in config.items() if k not in STORED}


def _watched(kind: Any, config: Any) -> Found:
    import torch

    said = f"no small {config.model_type!r} model can be built"
    # whoever watches looks at gradients, and at versions of tensors
    with torch.random.fork_rng(devices=()), torch.inference_mode(mode=False):
        torch.manual_seed(SEED)
        with in_one_sentence(said), quiet():
            module = kind(config).float().eval().requires_grad_(False)
        state = made_inputs(module)
        structure = traced(module, state)
        own = fitted(structure, module, most=1.0)
        return Found(structure, rehearsed(module, own, state))
