"""What a small model's forward pass comes to, found by running it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.families._course import HEAD, Course, key_of
from allocator.families._passes import MADE, RUNNING, Passes
from allocator.families._watching import random_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from allocator.core.ports import State
    from allocator.core.spec import Component
    from allocator.families._structure import Structure

MASKS = ("attention_mask", "decoder_attention_mask")


def rehearsed(module: Any, structure: Structure, state: State) -> Course:
    """The course of a small model's forward pass, checked against the pass itself.

    Args:
        module: small, with random weights, on a CPU.
        structure: its parts.
        state: two prompts for it, whose last two tokens stand for no picture.

    Raises:
        ModelError: it cannot be cut into stages that give what the whole gives.
    """
    import torch

    # new ones are so small that some blocks would change nothing
    with random_weights(module), torch.inference_mode():
        watch, logits = _watched(module, structure, state)
        paths = [row.path for row in structure.rows]
        several = frozenset(path for (path, _), n in watch.calls.items() if n > 1)
        course = Course(tuple(watch.order), {}, several, frozenset(paths))
        first = Passes(module, structure, course)
        masks, prefix = dict(_masks(first, state)), _prefix(first, state)
        passes = Passes(module, structure, replace(course, masks=masks, prefix=prefix))
        found = dict(state)
        for stage in passes.stages():
            found = stage.run(found)
    _check(module, state, found["logits"], logits, sorted(several))
    return replace(passes.course, again=frozenset(passes.again))


def _check(
    module: Any, state: State, found: Any, wanted: Any, several: Sequence[str]
) -> None:
    """Refuse stages that together are another model.

    Raises:
        ModelError: logits differ where a token is read.
    """
    import torch

    fitting = _fitting(state, wanted.shape[:2], is_last=True)
    seen = torch.ones(wanted.shape[:2]) if fitting is None else state[fitting]
    near = torch.isclose(found, wanted, rtol=1e-3, atol=1e-4)
    if not bool(near[seen.bool()].all()):
        why = f": blocks of {' and '.join(several)} may run again on what they gave"
        raise ModelError(
            f"a small {module.config.model_type!r} model gives something else in "
            f"stages than as a whole{why if several else ''}"
        )


@dataclass
class _Watch:
    """What is called first, second, ...; how often each block; which row in turn."""

    order: dict[str, None] = field(default_factory=dict)
    calls: Counter[tuple[str, int]] = field(default_factory=Counter)
    turns: list[str] = field(default_factory=list)

    def of_block(self, path: str, number: int) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            self.order.setdefault(path)
            self.calls[path, number] += 1
            if self.turns[-1:] != [path]:
                self.turns.append(path)

        return enter

    def of_linear(self, name: str) -> Callable[..., None]:
        return lambda *_: self.order.setdefault(key_of(name))


def _watched(module: Any, structure: Structure, state: State) -> tuple[_Watch, Any]:
    """What a pass comes to, and its logits.

    Raises:
        ModelError: a row does not run, or rows take turns.
    """
    watch, hooks = _Watch(), []
    for row in structure.rows:
        for number, block in enumerate(module.get_submodule(row.path)):
            enter = watch.of_block(row.path, number)
            hooks.append(block.register_forward_pre_hook(enter))
    for name in [n for each in structure.outside for n in each.readers.names.split()]:
        own = module.get_submodule(name)
        hooks.append(own.register_forward_pre_hook(watch.of_linear(name)))
    try:
        logits = module(**state, use_cache=False, return_dict=True)["logits"]
    finally:
        for hook in hooks:
            hook.remove()
    idle = [row.path for row in structure.rows if row.path not in watch.order]
    if idle:
        raise ModelError(f"no block of {idle[0]} runs where a picture is read")
    if len(watch.turns) > len(structure.rows):
        raise ModelError(
            f"blocks of {' and '.join(dict.fromkeys(watch.turns))} take turns"
        )
    return watch, logits


def _masks(passes: Passes, state: State) -> Iterator[tuple[str, str | None]]:
    """Of each row of language blocks, and the head, the mask that fits its input."""
    rows = [row.path for row in passes.structure.rows if row.component == "language"]
    stages = passes.stages()
    for stage, following in zip(stages, (*stages[1:], None), strict=True):
        state = stage.run(state)
        path = next((p for p in rows if following and following.name == f"{p}.0"), None)
        if path is not None:
            shape = state[RUNNING]["hidden"][0].shape[:2]
            yield path, _fitting(state, shape, is_last=path == rows[-1])
    yield HEAD, _fitting(state, state["logits"].shape[:2], is_last=True)


def _fitting(state: State, shape: Any, *, is_last: bool) -> str | None:
    """The mask of a shape; what a decoder reads comes first in the last row."""
    keys = MASKS[::-1] if is_last else MASKS
    return next((k for k in keys if k in state and state[k].shape == shape), None)


def _prefix(passes: Passes, state: State) -> tuple[Component, ...]:
    """Components whose stages come first and do not hear of the words."""
    import torch
    from torch.utils._pytree import tree_leaves

    others = _reworded(state)
    stages, found = passes.stages(), []
    order = list(dict.fromkeys(stage.component for stage in stages))
    for component in order:
        own = [n for n, stage in enumerate(stages) if stage.component == component]
        if own != [*range(own[0], own[0] + len(own))] or component == "language":
            break
        for n in own:
            state, others = stages[n].run(state), stages[n].run(others)
        made = (tree_leaves(each.get(MADE)) for each in (state, others))
        pairs = [pair for pair in zip(*made, strict=True) if pair[0] is not None]
        if not all(torch.equal(here, there) for here, there in pairs):
            break
        found.append(component)
    return tuple(found)


def _reworded(state: State) -> State:
    """The same prompts with the last two tokens of each exchanged."""
    words = state.get("input_ids", state.get("decoder_input_ids"))
    if words is None:
        return state
    shape = words.shape
    order = [*range(shape[1] - 2), shape[1] - 1, shape[1] - 2]
    return {
        k: v[:, order] if getattr(v, "shape", None) == shape else v
        for k, v in state.items()
    }
