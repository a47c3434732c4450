"""The two embedded models: their tokenizer, configurations and prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    OPTConfig,
    PreTrainedTokenizerFast,
)

from evals.world.language import CODAS, ONSETS
from evals.world.scene import CELL, COLOURS, PLACES, SHAPES, SIDE, SIZES

if TYPE_CHECKING:
    from pathlib import Path

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
PAD, BOS, EOS, UNK, IMAGE = range(5)
WORDS = (
    "what color shape size name is are the of object objects in how many there a an "
    "where left right above below or and on dark ground describe picture photo "
    "question answer user assistant yes no 0 1 2 3 4 5 ? : , ."
)
WIDTH, BLOCKS, HEADS, FEED_FORWARD = 64, 3, 4, 128
PATCH = CELL // 2
PATCHES = (SIDE // PATCH) ** 2
QUERIES = 12  # two for each quarter of the picture, four free
INIT = 0.08


@dataclass(frozen=True)
class Wording:
    """Prompts as the family's processor reads them; `{}` takes the question."""

    vqa: str
    caption: str


WORDINGS = {
    "tiny-blip2": Wording("Question: {} Answer:", "a photo of"),
    "tiny-llava": Wording(
        "USER: <image>\n{} ASSISTANT:", "USER: <image>\ndescribe the picture ASSISTANT:"
    ),
}


def make_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Words of the world as WordPiece, names as two syllables.

    LLaVA's tokenizer names its image token; BLIP-2's processor adds it by itself.
    """
    named = {"extra_special_tokens": {"image_token": "<image>"}}
    words = {*WORDS.split(), *COLOURS, *SHAPES, *SIZES, *" ".join(PLACES).split()}
    pieces = [*SPECIAL, *sorted(words), *ONSETS, *(f"##{coda}" for coda in CODAS)]
    assert len(set(pieces)) == len(pieces)
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=64,
        **(named if name == "tiny-llava" else {}),
    )


def _tokens(vocabulary: int) -> dict[str, int]:
    return {
        "vocab_size": vocabulary,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }


def llava_config(vocabulary: int) -> LlavaConfig:
    """CLIP tower, two-layer projector, Llama."""
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=WIDTH,
    )
    text = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=INIT,
        **_tokens(vocabulary),
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE,
        image_seq_length=PATCHES,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )


def blip2_config(vocabulary: int, *, text_branch: bool = False) -> Blip2Config:
    """ViT, Q-Former with cross-attention in every layer, OPT."""
    return Blip2Config(
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": FEED_FORWARD,
            "num_hidden_layers": BLOCKS,
            "num_attention_heads": HEADS,
            "image_size": SIDE,
            "patch_size": PATCH,
            "initializer_range": INIT,
        },
        qformer_config={
            "hidden_size": WIDTH,
            "intermediate_size": FEED_FORWARD,
            "num_hidden_layers": BLOCKS,
            "num_attention_heads": HEADS,
            "encoder_hidden_size": WIDTH,
            "cross_attention_frequency": 1,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "max_position_embeddings": 48,
            "vocab_size": vocabulary,
            "pad_token_id": PAD,
            "use_qformer_text_input": text_branch,
            "initializer_range": INIT,
        },
        text_config=OPTConfig(
            hidden_size=WIDTH,
            word_embed_proj_dim=WIDTH,
            ffn_dim=FEED_FORWARD,
            num_hidden_layers=BLOCKS,
            num_attention_heads=HEADS,
            max_position_embeddings=56,
            dropout=0.0,
            attention_dropout=0.0,
            init_std=INIT,
            tie_word_embeddings=True,
            **_tokens(vocabulary),
        ).to_dict(),
        num_query_tokens=QUERIES,
        image_text_hidden_size=WIDTH,
        image_token_index=IMAGE,
        tie_word_embeddings=True,
    )


def make_processor(name: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The processor transformers pairs with the model."""
    sides = {"height": SIDE, "width": SIDE}
    plain = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    if name == "tiny-llava":
        images = CLIPImageProcessorPil(
            size={"shortest_edge": SIDE}, crop_size=sides, **plain
        )
        return LlavaProcessor(
            images,
            tokenizer,
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            image_token="<image>",
        )
    images = BlipImageProcessorPil(size=sides, **plain)
    return Blip2Processor(images, tokenizer, num_query_tokens=QUERIES)


def save(name: str, folder: Path, model: Any, twin: Any = None) -> None:
    """Write a model folder as transformers does, in fp16, with its prompts."""
    tokenizer = make_tokenizer(name)
    wording = WORDINGS[name]
    for place, part in ((folder, model), (folder / "retrieval", twin)):
        if part is None:
            continue
        part.half().save_pretrained(place)
        part.float()
        make_processor(name, tokenizer).save_pretrained(place)
    prompts = {"vqa": wording.vqa, "caption": wording.caption}
    (folder / "prompts.json").write_text(json.dumps(prompts, indent=2) + "\n")


def build(name: str, vocabulary: int) -> tuple[Any, Any]:
    """Fresh model and, for tiny-blip2, its retrieval twin (else None)."""
    if name == "tiny-llava":
        return LlavaForConditionalGeneration(llava_config(vocabulary)), None
    model = Blip2ForConditionalGeneration(blip2_config(vocabulary))
    twin = Blip2ForImageTextRetrieval(blip2_config(vocabulary, text_branch=True))
    return model, twin
