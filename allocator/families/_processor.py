"""A checkpoint's processor: pictures and texts in, what the model reads out.

Read as transformers pairs its parts; what older folders lack is taken from config.json.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError, ModelError, in_one_sentence
from allocator.families._checkpoint import part_of_config, quiet, read_config
from allocator.families._files import check_small_files
from allocator.families._json import is_there, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Sample

# towers whose features have one of a class before those of the patches
CLASSED = ("clip_vision_model",)
# read to find out what a tokenizer puts around whatever it reads
SOME_TEXT = "a"
# read to find out whether two tokenizers are the same
SENTENCE = "what colour is the small circle on the left"
# where configurations keep the number of the token that stands for an image
IMAGE_TOKEN = "image_token_id"  # nosec B105: no password
# tokens in a row that are told by their number
MANY = 4


def read_processor(folder: Path) -> Any:
    """The checkpoint's image processor and tokenizer, as transformers pairs them.

    Prompts are padded on the left.

    Raises:
        ModelError: a part is missing or cannot be read; names the file where it can.
    """
    from transformers import AutoProcessor

    check_small_files(folder)
    unusable = f"{folder} has no usable processor"
    with (
        in_one_sentence(unusable),
        quiet(),
        _without_videos(),
    ):
        processor = AutoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None:
        raise ModelError(f"{unusable}: it lacks a tokenizer")
    with in_one_sentence(unusable):
        _template_(processor, folder)
        _check_words(folder, tokenizer)
    _check_tokenizer(folder, tokenizer)
    _complete_(processor, read_config(folder))
    tokenizer.padding_side = "left"
    return processor


def _check_tokenizer(folder: Path, tokenizer: Any) -> None:
    """Refuse a tokenizer of a class that nobody named and that reads in its own way.

    Where tokenizer_config.json is lost, transformers goes by the kind of model, and
    some classes take no more than the words of tokenizer.json.

    Raises:
        ModelError: it makes other tokens of a text than tokenizer.json does.
    """
    file, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    known = read_json(settings) if is_there(settings) else {}
    if known.get("tokenizer_class") or not is_there(file):
        return
    from tokenizers import Tokenizer

    own = Tokenizer.from_file(str(file))
    own.no_truncation()
    own.no_padding()
    read = tokenizer(SENTENCE, add_special_tokens=False).input_ids
    if own.encode(SENTENCE, add_special_tokens=False).ids != read:
        raise ModelError(
            f"{settings} names no tokenizer_class, and that of the model's kind, "
            f"{type(tokenizer).__name__}, does not read as tokenizer.json does: copy "
            "the file that belongs there"
        )


def pad_(processor: Any, ends: Sequence[int]) -> None:
    """Let prompts be padded with an end where no other token is named, or the image's.

    What is padded is masked: any token does that stands for no picture.
    """
    tokenizer, image = processor.tokenizer, str(getattr(processor, "image_token", ""))
    if tokenizer.pad_token in (None, image) and ends:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(ends[0])


def put_behind(tokenizer: Any) -> int:
    """How many tokens a tokenizer puts behind whatever it reads."""
    plain = tokenizer(SOME_TEXT, add_special_tokens=False).input_ids
    whole = tokenizer(SOME_TEXT).input_ids
    for behind in range(len(whole) - len(plain) + 1):
        if whole[: len(whole) - behind][-len(plain) :] == plain:
            return behind
    return 0


def spelled(ids: Sequence[int], tokenizer: Any) -> str:
    """Tokens as text, special ones shown, many alike in a row as "[<image> x 576]"."""
    told, between = [], []
    for number, run in groupby(ids):
        count = len(list(run))
        if count < MANY:
            between += [number] * count
            continue
        token = tokenizer.convert_ids_to_tokens(number)
        told += [tokenizer.decode(between), f"[{token} x {count}]"]
        between = []
    return "".join([*told, tokenizer.decode(between)])


def shortened(batch: Any, count: int) -> Any:
    """A batch without the last tokens of each row, which is padded on the left."""
    shape = batch["input_ids"].shape
    return {k: v[:, :-count] if v.shape == shape else v for k, v in batch.items()}


def check_length(module: Any, samples: Sequence[Sample], batch: Any) -> None:
    """Refuse a prompt longer than the language model can read.

    Raises:
        DataError: names the sample.
    """
    text = module.config.get_text_config()
    most = getattr(text, "max_position_embeddings", None)
    lengths = batch["attention_mask"].sum(1)
    if most is not None and int(lengths.max()) > most:
        raise DataError(
            f"sample {samples[int(lengths.argmax())].id} makes {int(lengths.max())} "
            f"tokens, and the model reads {most}"
        )


def check_image_token(folder: Path, module: Any, processor: Any, batch: Any) -> None:
    """Refuse prompts in which a model would see no picture.

    Raises:
        ModelError: names the token that it looks for, and the processor's.
    """
    wanted = getattr(module.config, IMAGE_TOKEN, None)
    if wanted is None or bool((batch["input_ids"] == wanted).any(1).all()):
        return
    token = getattr(processor, "image_token", None)
    raise ModelError(
        f"the processor of {folder} shows a picture as {str(token)!r}, and "
        f"its config.json says that token {wanted} is the image token, which is in "
        "no prompt: they do not belong together"
    )


def _complete_(processor: Any, config: Mapping[str, Any]) -> None:
    """Give a processor what config.json has, and older folders lack there.

    Without it, it does not know how many tokens stand for a picture.
    """
    tower = part_of_config(config, "vision_config")
    # of LLaVA 1.5 and NeXT, whose configurations leave out what is usual
    strategy = "default" if hasattr(processor, "patch_size") else None
    known = {
        "patch_size": tower.get("patch_size"),
        "vision_feature_select_strategy": config.get(
            "vision_feature_select_strategy", strategy
        ),
        "num_query_tokens": config.get("num_query_tokens"),
    }
    for name, value in known.items():
        if getattr(processor, name, value) is None:
            setattr(processor, name, value)
    more = getattr(processor, "num_additional_image_tokens", None)
    if more == 0 and tower.get("model_type") in CLASSED:
        processor.num_additional_image_tokens = 1


def _template_(processor: Any, folder: Path) -> None:
    """Give a processor the chat template of its files, which some classes drop."""
    if getattr(processor, "chat_template", None) is None:
        found, _ = processor.get_processor_dict(folder, local_files_only=True)
        processor.chat_template = found.get("chat_template")


def _check_words(folder: Path, tokenizer: Any) -> None:
    """Refuse an ordinary word as a special token: replies would come without it."""
    file = folder / "tokenizer.json"
    # others than words are nobody's answer
    words = {n: t for n, t in tokenizer.special_tokens_map.items() if str(t).isalnum()}
    if not words or not is_there(file):
        return
    kept = read_json(file)
    added = {each["content"] for each in kept["added_tokens"]}
    for name, token in words.items():
        if token not in added and token in kept["model"]["vocab"]:
            raise ModelError(
                f"{folder}/tokenizer_config.json makes {token!r} its {name}, and it is "
                "a word that replies may hold: name another token, or none"
            )


class _NoVideos(dict[str, Any]):
    """Stands for a part that is not there: transformers writes parts out as dicts."""

    model_input_names = ()
    # SmolVLM's and MiniCPM's processors look at these, whatever they are given
    num_frames = fps = slice_mode = downsample_mode = None


@contextmanager
def _without_videos() -> Iterator[None]:
    """Let processors be read without their part for videos, which needs torchvision."""
    from transformers import ProcessorMixin
    from transformers.models.auto.video_processing_auto import AutoVideoProcessor

    check = ProcessorMixin.check_argument_for_proper_class
    read = AutoVideoProcessor.__dict__["from_pretrained"]

    def checked(processor: Any, name: str, part: Any) -> Any:
        return None if name == "video_processor" else check(processor, name, part)

    ProcessorMixin.check_argument_for_proper_class = checked
    AutoVideoProcessor.from_pretrained = lambda *_, **__: _NoVideos()
    try:
        yield
    finally:
        ProcessorMixin.check_argument_for_proper_class = check
        AutoVideoProcessor.from_pretrained = read
