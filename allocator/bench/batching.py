"""Which samples run at once: what memory holds, and no more than is fastest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.bench.devices import total_memory
from allocator.core.memory import spare_bytes

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from allocator.core.ports import Model, State

# of a device's memory, what a batch may take: weights, packed codes and what is kept
# between trials want the rest
SHARE = 1 / 4
# a CPU gains nothing by more tokens at once, nor by more samples where these are long,
# although each token of a reply reads all weights once for all (studies/LOG.md)
TOKENS_ON_CPU, SAMPLES_ON_CPU = 10_000, 16
# more gain nothing anywhere
MOST = 512
# numbers that a block holds of a token while it runs, in widths and in inner widths
WIDTHS, INNER_WIDTHS = 8, 3
# what configurations of vision towers call their widths
HIDDEN, INNER = ("hidden_size", "embed_dim"), ("intermediate_size",)
CHANNELS = 3


@dataclass(frozen=True)
class Room:
    """What a batch may take.

    Attributes:
        bytes: that it may take.
        token: bytes of a token of a prompt or reply.
        sample: bytes of a sample beside its tokens: its picture, its logits.
        tokens: more gain nothing, where `samples` run at once; None: more always do.
        samples: see there.
    """

    bytes: int
    token: int
    sample: int
    tokens: int | None = None
    samples: int = 1

    def most(self, tokens: int) -> int:
        """Samples of at most so many tokens that run at once."""
        fit = self.bytes // (tokens * self.token + self.sample)
        if self.tokens is not None:
            fit = min(fit, max(self.tokens // tokens, self.samples))
        return max(1, min(fit, MOST))

    @staticmethod
    def of(model: Model, state: State, positions: int) -> Room:
        """The room for a model, where its weights are.

        From the device's whole memory, not from what is free: so that one machine
        gives one result, whatever else it runs.

        Args:
            model: decides by its sizes.
            state: inputs of one sample.
            positions: whose logits are read.
        """
        module = model.module
        weight = next(module.parameters())
        size, device = weight.element_size(), weight.device
        text = module.config.get_text_config()
        layers = getattr(text, "num_hidden_layers", 1)
        # of some, layers differ, and the whole will not speak for them
        own = getattr(text, "is_heterogeneous", False)
        each = list(text.per_layer_config) if own else [text] * layers
        token = 2 * sum(map(_keys, each)) + _numbers(text)
        # probabilities are of 32 bits, and there are two of each
        logits = 2 * 4 * positions * int(getattr(text, "vocab_size", 0))
        is_cpu = device.type == "cpu"
        whole = int(SHARE * total_memory(str(device)))
        return Room(
            # where it computes, the rest of the host's is for the model
            min(whole, spare_bytes() // 2) if is_cpu else whole,
            size * token,
            size * _of_picture(module.config, state) + logits,
            TOKENS_ON_CPU if is_cpu else None,
            SAMPLES_ON_CPU,
        )


def _keys(layer: Any) -> int:
    """Numbers in the keys that a layer keeps of a token."""
    # some speak of it as another kind of model does
    heads = getattr(layer, "num_attention_heads", 1)
    own = getattr(layer, "head_dim", None) or layer.hidden_size // heads
    return int((getattr(layer, "num_key_value_heads", None) or heads) * own)


def _numbers(config: Any) -> int:
    """Numbers that a block holds of a token while it runs."""
    width = next((n for n in (getattr(config, x, None) for x in HIDDEN) if n), 0)
    inner = next((n for n in (getattr(config, x, None) for x in INNER) if n), 4 * width)
    return int(WIDTHS * width + INNER_WIDTHS * inner)


def _of_picture(config: Any, state: State) -> int:
    """Numbers that a vision tower's block holds of one picture."""
    pixels = state.get("pixel_values")
    tower = getattr(config, "vision_config", None)
    side = getattr(tower, "patch_size", None)
    if pixels is None or not side:
        return 0
    side = side if isinstance(side, int) else max(side)
    return int(pixels.numel() // (CHANNELS * side**2) * _numbers(tower))


def batched(
    lengths: Sequence[int], pictures: Sequence[Hashable], room: Room
) -> list[list[int]]:
    """Places of samples that run at once: longest first, a picture's together.

    Of equally long ones the first comes first. Batches are about equally large.

    Args:
        lengths: tokens of each sample, its reply counted.
        pictures: what tells each sample's picture from others.
        room: for a batch.
    """
    greedy = _filled(lengths, pictures, room, len(lengths))
    return _filled(lengths, pictures, room, math.ceil(len(lengths) / len(greedy)))


def _filled(
    lengths: Sequence[int], pictures: Sequence[Hashable], room: Room, enough: int
) -> list[list[int]]:
    """Batches that are closed as soon as they have enough samples."""
    found: list[list[int]] = []
    batch: list[int] = []
    for places in _by_picture(lengths, pictures):
        # what is left of a picture may be shorter than what comes next
        most = room.most(max(lengths[n] for n in batch + places))
        if batch and (len(batch) >= enough or len(batch) + len(places) > most):
            found.append(batch)
            batch, most = [], room.most(lengths[places[0]])
        batch = batch + places
        while len(batch) > most:
            found.append(batch[:most])
            batch = batch[most:]
    return [*found, batch] if batch else found


def _by_picture(
    lengths: Sequence[int], pictures: Sequence[Hashable]
) -> Iterator[list[int]]:
    """Places of each picture's samples, longest first."""
    own: dict[Hashable, list[int]] = {}
    for place in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        own.setdefault(pictures[place], []).append(place)
    yield from own.values()
