"""Questions branch from their picture: what stands in front of both runs once.

The keys and values of each picture's prompts, up to where these part, are made once,
and every question (every beam of it) goes on from them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from allocator.families._generation import generate
from allocator.families._sharing import PICTURE, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from allocator.core.ports import Decoding, State
    from allocator.families._generation import Ends

MASK = "attention_mask"
# of the tokens that run without branches, at most so many make them worth two passes
WORTH = 0.9
# of advice, what weighs words by those in front of them
IN_A_ROW = ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids")
# kinds of rotary embedding that depend on the length of what is read at once
BY_LENGTH = ("dynamic", "longrope")


@dataclass(frozen=True)
class Branches:
    """Prompts cut where those of one picture part.

    Attributes:
        begun: texts up to there, padded on the left: [pictures, begun tokens] each.
        whole: the same, then what follows it, padded in between: [batch, tokens] each.
        picture: the row of each sample's picture: [batch].
    """

    begun: State
    whole: State
    picture: Any

    @property
    def length(self) -> int:
        """Tokens that are begun with, padding included."""
        return int(self.begun[MASK].shape[1])


def texts_of(state: State) -> State:
    """What a state has for each token of each prompt."""
    shape = state["input_ids"].shape
    return {k: v for k, v in state.items() if getattr(v, "shape", None) == shape}


def branches_of(
    module: Any, state: State, image: int, decoding: Decoding
) -> Branches | None:
    """Where the prompts of a batch part; None where they had better run as they are.

    Args:
        module: of transformers, which generates.
        state: the prompts, padded anywhere.
        image: the token that stands for a picture's features.
        decoding: how replies are made.
    """
    # words in a row would be torn apart by padding between them
    if any(getattr(module.generation_config, name, None) for name in IN_A_ROW):
        return None
    found = cut(state, image, decoding.beams)
    if found is None:
        return None
    longest = found.whole[MASK].shape[1] + decoding.max_new_tokens
    return found if can_branch(module, longest) else None


def cut(state: State, image: int, beams: int) -> Branches | None:
    """Where prompts are cut for the fewest tokens; None where that saves nothing.

    It is behind the picture, the same number of tokens for all, as far as the prompts
    of a picture agree. Where they part in front of it, there is nothing to share.

    Args:
        state: prompts of a batch, padded anywhere.
        image: the token that stands for a picture's features.
        beams: that go on from each prompt.
    """
    import torch

    texts = texts_of(state)
    mask = texts[MASK].bool()
    # what is real comes first
    order = (~mask).long().argsort(dim=1, stable=True)
    ids, lengths = texts["input_ids"].gather(1, order), mask.sum(1)
    count = len(ids)
    picture = state.get(PICTURE, torch.arange(count, device=ids.device))
    firsts = torch.tensor(rows_of(picture.tolist())[0], device=ids.device)
    places = torch.arange(ids.shape[1], device=ids.device)
    # the last token of a prompt is left to go on with
    alike = (ids == ids[firsts[picture]]) & (places < lengths[:, None] - 1)
    own = alike.long().cumprod(1).sum(1)
    most = torch.full_like(firsts, ids.shape[1])
    most = most.scatter_reduce(0, picture, own, "amin")
    shown = (ids[firsts] == image) & (places < lengths[firsts][:, None])
    ends = ((places + 1) * shown).amax(1)
    if bool((most < ends).any()):
        return None
    further = torch.arange(int((most - ends).max()) + 1, device=ids.device)
    # for each number of tokens further: of each picture, then of each prompt
    begun = torch.minimum(ends + further[:, None], most)
    left = lengths - begun[:, picture]
    taken = len(firsts) * begun.amax(1) + count * beams * left.amax(1)
    best = int(taken.argmin())
    if float(taken[best]) > WORTH * count * beams * ids.shape[1]:
        return None
    return _laid_out(texts, order, lengths, firsts, picture, begun[best])


def _laid_out(
    texts: State, order: Any, lengths: Any, firsts: Any, picture: Any, begun: Any
) -> Branches:
    """Lay out what is begun with and what follows.

    Args:
        texts: [batch, tokens] each.
        order: places of their tokens, real ones first: [batch, tokens].
        lengths: real tokens: [batch].
        firsts: the row of the first prompt of each picture: [pictures].
        picture: the row of each prompt's picture: [batch].
        begun: tokens to begin with: [pictures].
    """
    import torch

    def laid(rows: Any, start: Any, end: Any) -> State:
        """Tokens of some rows from one place to another, padded on the left."""
        width = int((end - start).max())
        at = end[:, None] - width + torch.arange(width, device=end.device)
        real = at >= start[:, None]
        # no picture stands last in a prompt: none appears where there is padding
        at = torch.where(real, at, lengths[rows][:, None] - 1)
        at = order[rows].gather(1, at)
        found = {k: v[rows].gather(1, at) for k, v in texts.items()}
        return {**found, MASK: real.to(texts[MASK].dtype)}

    front = laid(firsts, torch.zeros_like(begun), begun)
    every = torch.arange(len(lengths), device=lengths.device)
    behind = laid(every, begun[picture], lengths)
    whole = {k: torch.cat([front[k][picture], behind[k]], 1) for k in texts}
    return Branches(front, whole, picture)


def can_branch(module: Any, length: int) -> bool:
    """Whether a language model may go on behind padding with keys it made before.

    Args:
        module: of transformers.
        length: tokens of the longest sequence, replies included.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicSlidingWindowLayer

    config = module.config.get_text_config(decoder=True)
    layers = DynamicCache(config=config).layers
    windows = [
        layer.sliding_window
        for layer in layers
        if isinstance(layer, DynamicSlidingWindowLayer)
    ]
    # a window counts padding too
    short = any(window < length for window in windows)
    return not short and all(map(_attends, layers)) and not _by_length(config)


def _attends(layer: Any) -> bool:
    """Whether what a layer keeps can be masked: keys and values, or nothing at all.

    A recurrent state, or the end of what a convolution read, has padding in it.
    """
    from transformers.cache_utils import (
        DummyLayer,
        DynamicLayer,
        DynamicSlidingWindowLayer,
    )

    kinds = (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer)
    return type(layer) in kinds


def _by_length(config: Any) -> bool:
    found = getattr(config, "rope_parameters", None) or {}
    several = [found, *(each for each in found.values() if isinstance(each, dict))]
    return any(each.get("rope_type") in BY_LENGTH for each in several)


def branched(
    module: Any,
    decoding: Decoding,
    ends: Ends,
    branches: Branches,
    told: tuple[Mapping[str, Any], Mapping[str, Any]],
    lay_out: Callable[[Any, Any], None] | None = None,
) -> Any:
    """Tokens that a transformers module generates, each prompt from its picture's.

    Args:
        module: generates.
        decoding: how.
        ends: of a reply.
        branches: the prompts.
        told: what it reads of each picture, then of each prompt from the beginning.
        lay_out: is told module and `branches.picture` in between, and lays out by
            sample what a module keeps of pictures beside keys and values.
    """
    name = cache_name(module)
    begin = replace(decoding, max_new_tokens=1, beams=1)
    given = generate(module, begin, ends, **told[0], return_dict_in_generate=True)
    cache, picture = given[name], branches.picture
    # the token that it gave was not read: there are keys of the prompts, and no more
    cache.reorder_cache(picture.repeat_interleave(decoding.beams))
    if lay_out is not None:
        lay_out(module, picture)
    return generate(module, decoding, ends, **told[1], **{name: cache})


def cache_name(module: Any) -> str:
    """What a module calls the keys and values made before."""
    import inspect

    known = inspect.signature(type(module).forward).parameters
    return "cache" if "cache" in known else "past_key_values"
