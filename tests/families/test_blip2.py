"""BLIP-2: published sizes, the T5 that replies, and rankings pair by pair."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.errors import ModelError
from allocator.core.ports import Decoding
from allocator.core.spec import EXTRAS
from allocator.families import _blip2_t5
from allocator.families.blip2 import PLUGIN, VARIANTS
from quant.calibration import calibrate
from quant.streaming import Spool
from tests.families.checkpoints import Published, check_sizes, tower
from tests.families.processors import (
    check_lengths,
    check_pixels,
    save_processor,
    start_with_bos,
    two_samples,
    word_tokenizer,
)
from tests.states import logits_of, made, prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Model

QUERYING = {"model_type": "blip_2_qformer"}
OPT = {
    "model_type": "opt",
    "hidden_size": 2560,
    "word_embed_proj_dim": 2560,
    "ffn_dim": 10240,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 50304,
}
FLAN_T5_XL = {
    "model_type": "t5",
    "d_model": 2048,
    "d_ff": 5120,
    "num_layers": 24,
    "num_heads": 32,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "decoder_start_token_id": 0,
}


def config(kind: str = "Blip2ForConditionalGeneration", **parts: Any) -> dict[str, Any]:
    """What config.json says where it is not what transformers supposes."""
    return {
        "model_type": "blip-2",
        "architectures": [kind],
        "num_query_tokens": 32,
        "image_token_index": 50265,
        "qformer_config": QUERYING,
        "vision_config": {"model_type": "blip_2_vision_model"},
        **parts,
    }


# 39 blocks of 1408
VISION = tower(39, 1408, 6144)
OUTPUT = ("language_projection", "language_model.lm_head")
# 12 layers of 768, every second one looking at the image
LOOKING = {
    ("connector", "attn"): 12 * 4 * 768**2 + 6 * (2 * 768**2 + 2 * 768 * 1408),
}
BLIP2_OPT = Published(
    config(text_config=OPT),
    3_744_761_856,
    {
        **VISION,
        **LOOKING,
        ("connector", "ff"): 12 * 2 * 768 * 3072,
        ("language", "attn"): 32 * 4 * 2560**2,
        ("language", "ff"): 32 * 2 * 2560 * 10240,
    },
    OUTPUT,
)
# as that with OPT, but for the projection, and for the language model: 2,651,678,720
# weights there; here those in groups, embedding and head, 122 norms, two tables of bias
FLAN_T5 = (
    24 * (4 * 2048**2 + 3 * 2048 * 5120)
    + 24 * (8 * 2048**2 + 3 * 2048 * 5120)
    + 2 * 32128 * 2048
    + 122 * 2048
    + 2 * 32 * 32
)
BLIP2_T5 = Published(
    config(text_config=FLAN_T5_XL),
    3_744_761_856 - 2_651_678_720 + FLAN_T5 - 769 * 2560 + 769 * 2048,
    {
        **VISION,
        **LOOKING,
        ("connector", "ff"): 12 * 2 * 768 * 3072,
        # the decoder attends twice, and the feed-forward has a gate
        ("language", "attn"): 24 * (4 + 8) * 2048**2,
        ("language", "ff"): 48 * 3 * 2048 * 5120,
    },
    OUTPUT,
)
# Salesforce/blip2-itm-vit-g-coco, which reads pictures of 364 pixels
BLIP2_ITM = Published(
    config(
        "Blip2ForImageTextRetrieval",
        qformer_config={
            **QUERYING,
            "use_qformer_text_input": True,
            "vocab_size": 30523,
        },
        vision_config={"model_type": "blip_2_vision_model", "image_size": 364},
    ),
    1_172_623_618,
    # text goes through a feed-forward of its own
    {**VISION, **LOOKING, ("connector", "ff"): 12 * 4 * 768 * 3072},
    ("vision_projection", "text_projection", "itm_head"),
)


@pytest.mark.parametrize("published", [BLIP2_OPT, BLIP2_T5, BLIP2_ITM])
def test_a_published_configuration_gives_the_published_counts(
    published: Published, tmp_path: Path
) -> None:
    check_sizes(PLUGIN, published, tmp_path)


def test_the_published_counts_are_those_of_the_papers() -> None:
    counts = {}
    for name, published in (("opt", BLIP2_OPT), ("itm", BLIP2_ITM)):
        total: Counter[str] = Counter()
        for (component, _), weights in published.weights.items():
            total[component] += weights
        counts[name] = dict(total)
    assert counts == {
        "opt": {
            "vision": 984_023_040,
            "connector": 104_988_672,
            "language": 2_516_582_400,
        },
        "itm": {"vision": 984_023_040, "connector": 161_611_776},
    }
    # https://huggingface.co/google/flan-t5-xl
    assert FLAN_T5 == 2_849_757_184


def test_the_decoder_stands_behind_the_encoder_in_one_row(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(BLIP2_T5.config))
    linears = PLUGIN.spec(tmp_path, "block").linears
    blocks = {x.name: x.block for x in linears if x.component == "language"}
    stack = "language_model.{}.block.{}.layer.{}.DenseReluDense.wo"
    assert blocks[stack.format("encoder", 23, 1)] == 23
    assert blocks[stack.format("decoder", 0, 2)] == 24
    assert set(blocks.values()) == set(range(48))


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_of_a_t5_is_its_own_unless_it_scales(
    tied: bool, tmp_path: Path
) -> None:
    text = {**FLAN_T5_XL, "tie_word_embeddings": tied}
    (tmp_path / "config.json").write_text(json.dumps(config(text_config=text)))
    plain, more = PLUGIN.spec(tmp_path), PLUGIN.spec(tmp_path, include=EXTRAS)
    extra = {"language.all.head"} | (set() if tied else {"language.all.embeddings"})
    assert set(more.keys) - set(plain.keys) == extra
    assert plain.parameters == BLIP2_T5.parameters - tied * 32128 * 2048


@pytest.mark.parametrize(
    ("feed_forward", "fold"),
    [("relu", "wi"), ("gelu", None), ("gated-gelu", "wi_1"), ("gated-silu", "wi_1")],
)
def test_any_t5_is_its_stages_and_folds_only_where_that_is_exact(
    feed_forward: str, fold: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {
        **_blip2_t5.tiny_language(),
        "feed_forward_proj": feed_forward,
        "scale_decoder_outputs": True,
        "num_decoder_layers": 3,
    }
    for derived in ("is_gated_act", "dense_act_fn"):
        small.pop(derived)
    tiny = VARIANTS["t5"]
    monkeypatch.setitem(VARIANTS, "t5", replace(tiny, tiny_config=lambda: small))
    state = made(PLUGIN, tmp_path, "t5")
    model = PLUGIN.load(tmp_path, "cpu")
    seen = state["decoder_attention_mask"].bool()
    with torch.inference_mode():
        wanted = model.module(**state).logits
    torch.testing.assert_close(logits_of(model, state)[seen], wanted[seen])
    out = [s for stage in model.stages() for s in stage.siblings if "wo" in s.names[0]]
    assert len(out) == 2 + 3
    for each in out:
        prefix = each.names[0].removesuffix("wo")
        assert each.fold == (None if fold is None else prefix + fold)


@pytest.fixture
def t5(tmp_path: Path) -> Model:
    made(PLUGIN, tmp_path, "t5")
    save_parts(tmp_path)
    return PLUGIN.load(tmp_path, "cpu")


def save_parts(folder: Path, *, start: bool = False) -> None:
    """A processor for a tiny T5: texts end in </s>; for an OPT they `start` in <s>."""
    from tokenizers.processors import TemplateProcessing
    from transformers import BlipImageProcessor

    tokenizer = word_tokenizer("<image>", ())
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 3)]
    )
    if start:
        tokenizer = start_with_bos(word_tokenizer("<image>", (), bos_token="<s>"))
    images = BlipImageProcessor(size={"height": 16, "width": 16})
    settings = {"processor_class": "Blip2Processor", "num_query_tokens": 4}
    save_processor(folder, tokenizer, images, settings, "")


def test_before_a_reply_the_decoder_reads_its_start_alone(
    t5: Model, tmp_path: Path
) -> None:
    samples = two_samples(tmp_path)
    state = t5.inputs(samples)
    check_lengths(t5, samples, state)
    check_pixels(t5, samples, state)
    assert state["decoder_input_ids"].tolist() == [[0], [0]]
    assert state["decoder_attention_mask"].tolist() == [[1], [1]]
    with torch.inference_mode():
        first = t5.module.generate(
            **{k: v for k, v in state.items() if not k.startswith("decoder_")},
            max_new_tokens=1,
            do_sample=False,
        )[:, 1]
    assert torch.equal(logits_of(t5, state)[:, -1].argmax(-1), first)


def test_replies_are_read_by_the_decoder_and_not_by_the_encoder(
    t5: Model, tmp_path: Path
) -> None:
    short, long = two_samples(tmp_path)
    samples = [short, replace(long, references=("the red",))]
    asked, state = t5.inputs(samples), t5.inputs(samples, answered=True)
    assert torch.equal(state["input_ids"], asked["input_ids"])
    red, the = (t5.processor.tokenizer.convert_tokens_to_ids(w) for w in ("red", "the"))
    # the start, then the reply without an end; padded on the right
    assert state["decoder_input_ids"].tolist() == [[0, red, 0], [0, the, red]]
    assert state["decoder_attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    with torch.inference_mode():
        wanted = t5.module(**state).logits
    seen = state["decoder_attention_mask"].bool()
    torch.testing.assert_close(logits_of(t5, state)[seen], wanted[seen])


def test_a_t5_replies_what_transformers_says(t5: Model, tmp_path: Path) -> None:
    samples = two_samples(tmp_path)
    state, told = t5.inputs(samples), []
    asked = {k: v for k, v in state.items() if not k.startswith("decoder_")}
    with torch.inference_mode():
        wanted = t5.module.generate(**asked, max_new_tokens=5, do_sample=False)
        found = t5.predict([prefixed(t5, state)], samples, Decoding(5), told.append)
    texts = t5.processor.tokenizer.batch_decode(wanted, skip_special_tokens=True)
    assert found == [text.strip() for text in texts]
    assert told == [2]


def test_a_t5_without_a_start_token_is_refused_when_it_is_fed(
    t5: Model, tmp_path: Path
) -> None:
    t5.module.language_model.generation_config.decoder_start_token_id = None
    with pytest.raises(ModelError, match=r"no text_config\.decoder_start_token_id"):
        t5.inputs(two_samples(tmp_path))


def test_statistics_count_what_each_linear_reads_of_real_positions(
    tmp_path: Path,
) -> None:
    counted = {}
    for variant in ("t5", "retrieval"):
        state = made(PLUGIN, tmp_path / variant, variant)
        model = PLUGIN.load(tmp_path / variant, "cpu")
        states = Spool(tmp_path, "cpu")
        states.append(dict(state))
        passing = calibrate(model, states, lambda s: s.siblings, model.stages())
        counted[variant] = {
            each.siblings.names[0]: each.inputs.tokens
            for stage in passing
            for each in stage
        }
    # prompts of 8 and 7 tokens, replies of 3 and 2
    block = "language_model.decoder.block.0.layer"
    assert counted["t5"][f"{block}.0.SelfAttention.q"] == 5
    assert counted["t5"][f"{block}.1.EncDecAttention.q"] == 5
    assert counted["t5"][f"{block}.1.EncDecAttention.k"] == 15
    # four queries before texts of 4 and 3 tokens, looking at five places of an image
    layer = "qformer.encoder.layer.0"
    assert counted["retrieval"][f"{layer}.attention.attention.query"] == 2 * 4 + 7
    assert counted["retrieval"][f"{layer}.crossattention.attention.query"] == 2 * 4
    assert counted["retrieval"][f"{layer}.crossattention.attention.key"] == 2 * 5
    assert counted["retrieval"][f"{layer}.intermediate_query.dense"] == 2 * 4
    assert counted["retrieval"][f"{layer}.intermediate.dense"] == 7


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            config(text_config={"model_type": "llama"}),
            "with a 'llama' language model; family blip2 reads "
            "Blip2ForConditionalGeneration with opt or t5, and "
            "Blip2ForImageTextRetrieval",
        ),
        (config("Blip2Model"), "is a Blip2Model with a 'opt' language model"),
        (config(image_token_index=None), "has no image_token_index: take a newer"),
        (
            config("Blip2ForImageTextRetrieval"),
            "has no qformer_config.use_qformer_text_input: take a newer",
        ),
    ],
)
def test_what_it_does_not_know_is_refused(
    wrong: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(wrong))
    for ask in (PLUGIN.gives, PLUGIN.spec, lambda folder: PLUGIN.load(folder, "cpu")):
        with pytest.raises(ModelError, match=said):
            ask(tmp_path)
