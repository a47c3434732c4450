"""The T5 (Flan-T5) language model of a BLIP-2: an encoder, and a decoder that replies.

Its blocks are one row, the decoder's behind the encoder's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from allocator.core.errors import ModelError
from allocator.core.ports import Siblings, Stage
from allocator.families._blip2_image import PLACES as IMAGE_PLACES
from allocator.families._blip2_reply import PROJECTION, Replying, embed, lay_image
from allocator.families._places import Place, Rest, embeddings_read, siblings
from allocator.families._positions import read_positions
from allocator.families._tiny import VOCABULARY
from allocator.families._translating import REPLIED, decoded
from allocator.families._wording import reply_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Decoding, Sample, State
    from allocator.families._branching import Branches

ENCODER, DECODER = "language_model.encoder", "language_model.decoder"
WORDS = "language_model.shared"
RESTS = (
    PROJECTION,
    Rest(r"language_model\.lm_head", "output head, kept at 16 bit unless included"),
)
ASKED = "attention_mask"


def places(module: Any) -> tuple[Place, ...]:
    """Where the linears of a BLIP-2 with T5 belong."""
    found = list(IMAGE_PLACES)
    for stack, before in ((ENCODER, 0), (DECODER, len(_blocks(module, ENCODER)))):
        block = stack.replace(".", r"\.") + r"\.block\.(?P<block>\d+)\.layer\.\d\."
        attention = block + r"(SelfAttention|EncDecAttention)\.[qkvo]"
        feed_forward = block + r"DenseReluDense\.(wi|wi_0|wi_1|wo)"
        found += [
            Place(attention, "language", "attn", before),
            Place(feed_forward, "language", "ff", before),
        ]
    return tuple(found)


def tiny_language() -> dict[str, Any]:
    """Configuration of a small Flan-T5."""
    from transformers import T5Config

    config: dict[str, Any] = T5Config(
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        vocab_size=VOCABULARY,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        tie_word_embeddings=False,
    ).to_dict()
    return config


def tiny_replies() -> State:
    """What the decoder reads beside two prompts, the second reply padded."""
    import torch

    return decoded([[0, 7, 8], [0, 9]], 0, torch.device("cpu"))


def part_head(module: Any) -> None:
    """Give a T5 whose head is not the embedding a head of its own.

    transformers ties them whatever the configuration says, until a checkpoint that has
    both is read; what is tied in truth scales the decoder's outcome.
    """
    from torch import nn

    language = module.language_model
    tied = language.lm_head.weight is language.shared.weight
    if tied and not language.config.scale_decoder_outputs:
        own = language.shared.weight.detach().clone()
        language.lm_head.weight = nn.Parameter(own, requires_grad=False)
        module.all_tied_weights_keys.pop("language_model.lm_head.weight", None)


class Translating(Replying):
    """A BLIP-2 whose decoder replies to what its encoder read."""

    _ends_prompts: ClassVar[bool] = True

    def inputs(self, samples: Sequence[Sample], *, answered: bool = False) -> State:
        """Pixels and prompts of a batch; replies are what the decoder reads."""
        # each pair counts where replies are read: nothing is shared there
        state = self.processed(samples, self.texts(samples), shared=not answered)
        start = self._start()
        replies = [[start] for _ in samples]
        if answered:
            said = self.processor.tokenizer(
                [reply_to(sample) for sample in samples], add_special_tokens=False
            )
            replies = [[start, *ids] for ids in said.input_ids]
        padding = self.processor.tokenizer.pad_token_id
        return {**state, **decoded(replies, padding, self.device)}

    def reply_ids(self, state: State, decoding: Decoding) -> Any:
        """Tokens of the replies alone, without the one that starts them."""
        return super().reply_ids(state, decoding)[:, 1:]

    def branches(
        self, module: Any, state: State, decoding: Decoding
    ) -> Branches | None:
        """None: an encoder reads a prompt both ways."""
        del module, state, decoding
        return None

    def _start(self) -> int:
        start: int | None = (
            self.module.language_model.generation_config.decoder_start_token_id
        )
        if start is None:
            raise ModelError(
                f"{self.folder}/config.json has no text_config.decoder_start_token_id: "
                "take a newer revision of the checkpoint"
            )
        return start


def lay_stages(module: Any) -> tuple[Stage, ...]:
    """Cut the forward pass into stages, in execution order."""
    language = module.language_model

    def start(state: State) -> State:
        from transformers.masking_utils import create_bidirectional_mask

        words = embed(module, state)
        mask = create_bidirectional_mask(
            config=language.encoder.config,
            inputs_embeds=words,
            attention_mask=state[ASKED],
        )
        kept = {k: v for k, v in state.items() if k != "features"}
        return {**kept, "hidden": words, "mask": mask, "bias": None}

    def turn(state: State) -> State:
        encoded = language.encoder.final_layer_norm(state["hidden"])
        return {**state, **_turned(language.decoder, state, encoded)}

    def finish(state: State) -> State:
        gone = ("hidden", "mask", "bias", "encoded", "encoded_mask")
        kept = {k: v for k, v in state.items() if k not in gone}
        hidden = language.decoder.final_layer_norm(read_positions(state))
        if language.config.scale_decoder_outputs:
            hidden = hidden * language.model_dim**-0.5
        return {**kept, "logits": language.lm_head(hidden)}

    turned, ended = (f"{each}.final_layer_norm" for each in (ENCODER, DECODER))
    head = "language_model.lm_head"
    read = embeddings_read(module)
    return (
        *lay_image(module),
        Stage("language.embed", "language", start, (WORDS,), read),
        *_lay_stack(module, ENCODER, ASKED),
        Stage("language.turn", "language", turn, (turned, WORDS)),
        *_lay_stack(module, DECODER, REPLIED),
        Stage(
            "language.head",
            "language",
            finish,
            (ended, head),
            (Siblings((head,)),),
            REPLIED,
        ),
    )


def _turned(decoder: Any, state: State, encoded: Any) -> State:
    """What the decoder's blocks start from."""
    from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

    words = decoder.embed_tokens(state["decoder_input_ids"])
    # by position: what comes last, the cache, goes by two names
    mask = create_causal_mask(decoder.config, words, state[REPLIED], None)
    encoded_mask = create_bidirectional_mask(
        config=decoder.config,
        inputs_embeds=words,
        attention_mask=state[ASKED],
        encoder_hidden_states=encoded,
    )
    return {
        "hidden": words,
        "mask": mask,
        "bias": None,
        "encoded": encoded,
        "encoded_mask": encoded_mask,
    }


def _blocks(module: Any, stack: str) -> Any:
    return module.get_submodule(f"{stack}.block")


def _lay_stack(module: Any, stack: str, mask: str) -> list[Stage]:
    ff = _feed_forward(module.language_model.config)
    return [
        _lay_block(block, f"{stack}.block.{number}", mask, ff)
        for number, block in enumerate(_blocks(module, stack))
    ]


def _lay_block(block: Any, name: str, mask: str, ff: tuple[str, str | None]) -> Stage:
    def run(state: State) -> State:
        # the first block makes the position bias that all of its stack add
        hidden, bias, _ = block(
            state["hidden"],
            state["mask"],
            state["bias"],
            state.get("encoded"),
            state.get("encoded_mask"),
        )
        return {**state, "hidden": hidden, "bias": bias}

    parts = [
        siblings(f"{name}.layer.0", _each("SelfAttention", "q k v"), "layer_norm"),
        siblings(f"{name}.layer.0.SelfAttention", "o", "v"),
    ]
    if block.is_decoder:
        # the norm of the encoder's outcome feeds all blocks: nothing folds into it
        cross = f"{name}.layer.1"
        parts += [
            siblings(cross, "EncDecAttention.q", "layer_norm"),
            siblings(f"{cross}.EncDecAttention", "k v", mask=ASKED),
            siblings(f"{cross}.EncDecAttention", "o", "v"),
        ]
    last, (given, fold) = f"{name}.layer.{len(block.layer) - 1}", ff
    parts += [
        siblings(last, _each("DenseReluDense", given), "layer_norm"),
        siblings(f"{last}.DenseReluDense", "wo", fold),
    ]
    return Stage(name, "language", run, (name,), tuple(parts), mask)


def _feed_forward(config: Any) -> tuple[str, str | None]:
    """What reads the input of a feed-forward, and what a scale folds into behind it."""
    if config.is_gated_act:
        return "wi_0 wi_1", "wi_1"
    # a scale passes a ReLU, and no other activation
    return "wi", "wi" if config.dense_act_fn == "relu" else None


def _each(prefix: str, names: str) -> str:
    return " ".join(f"{prefix}.{name}" for name in names.split())
