"""How far a model is from full precision, token by token of what that replies."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from allocator.bench.divergence import kl
from allocator.core.finite import is_number
from allocator.core.memory import share
from allocator.core.ports import POSITIONS
from allocator.core.records import TokenDivergence
from evals.subsets import Subsets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from allocator.bench.workbench import Workbench
    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample, State

# samples that are read at most, and bytes of what full precision says of them
MOST, BYTES = 1_000, 2**30
# of a state: which tokens a decoder reads that has an encoder in front of it
DECODED = "decoder_attention_mask"


def some_of(
    bench: Workbench, samples: Sequence[Sample], parts: Sequence[int], seed: int
) -> list[Sample]:
    """A fair part of an evaluation set, whose tokens a memory holds.

    Args:
        bench: whose model replied.
        samples: with full precision's replies as their references.
        parts: sizes of parts of the set that stand one behind the other.
        seed: of the order.
    """
    order = Subsets.of([s.image for s in samples], parts, seed).order[:MOST]
    tokenizer = bench.model.processor.tokenizer
    said = [samples[place].references[0] for place in order]
    rows = bench.model.module.get_input_embeddings().weight.shape[0]
    # and the end of each
    counts = (1 + len(tokenizer(t, add_special_tokens=False).input_ids) for t in said)
    most = share(1 / 8, BYTES) // (4 * rows)
    count = sum(total <= most for total in accumulate(counts))
    return [samples[place] for place in sorted(order[: max(1, count)])]


def token_divergence(
    full: Sequence[Tensor], other: Sequence[Tensor]
) -> TokenDivergence | None:
    """Mean KL(full || other) of tokens, in nats; None where it is no finite number.

    Args:
        full: log-probabilities of full precision, [tokens, vocabulary] a sample.
        other: the same of what is held against it.
    """
    pairs = zip(full, other, strict=True)
    gaps = torch.cat([kl(a, b) for a, b in pairs]).double()
    mean = float(gaps.mean())
    if not is_number(mean):
        return None
    return TokenDivergence(mean, len(gaps), len(full))


def log_probabilities(
    bench: Workbench,
    allocation: Allocation,
    samples: Sequence[Sample],
    tick: Callable[[int], object] = lambda _: None,
) -> list[Tensor]:
    """Of each token of the references and of their end: [tokens, vocabulary] a sample.

    The model reads the references, whatever it would reply itself. Samples are in the
    order in which they run; all is in memory at once, in float32.
    """
    bench.apply(allocation)
    bench.cost.looked += len(samples)
    found: list[Tensor] = []
    for batch in bench.batches(samples):
        for piece in bench.halving.run(batch, partial(_read, bench), "said"):
            found += piece
        tick(len(found))
    return found


@torch.inference_mode()
def _read(bench: Workbench, samples: Sequence[Sample]) -> list[Tensor]:
    """Log-probabilities of samples that run at once."""
    state = bench.model.inputs(samples, answered=True)
    if DECODED in state:
        # a decoder reads replies alone, what starts them first
        mask = state[DECODED].bool()
    else:
        plain = bench.reader.inputs(samples)
        count = _tokens(state) - _tokens(plain)
        places = torch.arange(int(count.max()) + 1, device=count.device)
        state[POSITIONS] = (places - 1 - count[:, None]).clamp(max=-1)
        mask = places <= count[:, None]
        # some processors put the end there, behind which nothing is said
        end = bench.model.processor.tokenizer.eos_token_id
        mask &= places < (count + (state["input_ids"][:, -1] != end))[:, None]
    for stage in bench.model.stages():
        state = stage.run(state)
    said = state["logits"].float().log_softmax(-1)
    return [row[own.to(row.device)].cpu() for row, own in zip(said, mask, strict=True)]


def _tokens(state: State) -> Tensor:
    tokens: Tensor = state["attention_mask"].sum(1)
    return tokens
