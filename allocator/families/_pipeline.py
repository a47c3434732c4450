"""A loaded model as the rest of the project sees it: fed, cut into stages, asked."""

from __future__ import annotations

from collections import Counter
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError, ModelError
from allocator.families._checkpoint import read_processor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Decoding, Sample, Stage, State
    from allocator.core.spec import Component


@dataclass(frozen=True)
class Pipeline:
    """A model that replies; see `allocator.core.ports.Model`.

    `lay_stages` gives the stages of a module. `prompts` word each kind of question;
    `chat` puts them into the checkpoint's own chat template. `suffix` hands replies to
    the processor apart from the prompts: one that marks which is which.
    """

    module: Any
    folder: Path
    device: str
    prompts: Mapping[str, str]
    lay_stages: Callable[[Any], tuple[Stage, ...]]
    chat: bool = False
    suffix: bool = False
    prefix: tuple[Component, ...] = ("vision", "connector")
    _kept: dict[str, Any] = field(default_factory=dict)

    @property
    def processor(self) -> Any:
        """Read at first use: random-weight models for tests may have none."""
        if "processor" not in self._kept:
            self._kept["processor"] = read_processor(self.folder)
        return self._kept["processor"]

    def stages(self) -> tuple[Stage, ...]:
        """All stages in execution order; their composition is `forward`."""
        if "stages" not in self._kept:
            self._kept["stages"] = self.lay_stages(self.module)
        stages: tuple[Stage, ...] = self._kept["stages"]
        return stages

    def inputs(self, samples: Sequence[Sample], *, answered: bool = False) -> State:
        """Pixels and prompts of a batch, padded on the left.

        `answered` puts each sample's most frequent reference behind its prompt, as
        calibration wants: the model reads its own replies too.
        """
        texts = [self.worded(sample) for sample in samples]
        if not answered:
            return self.processed(samples, texts)
        replies = [reply_to(sample) for sample in samples]
        if self.suffix:
            return self.processed(samples, texts, suffix=replies)
        pairs = zip(texts, replies, strict=True)
        return self.processed(samples, [answer(*pair) for pair in pairs])

    def worded(self, sample: Sample) -> str:
        """A sample's question in the words the model knows.

        Raises:
            ModelError: the model has no wording for it, or lacks its chat template.
            DataError: the question holds what stands for an image.
        """
        image = getattr(self.processor, "image_token", None)
        if image is not None and str(image) in sample.text:
            raise DataError(
                f"sample {sample.id} asks {sample.text!r}, and {image} stands for a "
                "picture: take it out"
            )
        if sample.prompt not in self.prompts:
            raise ModelError(
                f"{self.folder} has no prompt {sample.prompt!r}; it has "
                f"{', '.join(sorted(self.prompts))}"
            )
        text = self.prompts[sample.prompt].format(sample.text).strip()
        if not self.chat:
            return text
        if not getattr(self.processor, "chat_template", None):
            raise ModelError(f"{self.folder} has no chat template for its prompts")
        content = [{"type": "image"}, {"type": "text", "text": text}]
        said: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return said

    def processed(
        self, samples: Sequence[Sample], texts: Sequence[str], **more: Any
    ) -> State:
        """What the checkpoint's processor makes of pictures and texts."""
        images = [[read_image(sample.image)] for sample in samples]
        first = self.processor.tokenizer.bos_token
        batch = self.processor(
            images=images,
            text=list(texts),
            padding=True,
            return_tensors="pt",
            # some chat templates write the first token themselves
            add_special_tokens=not (first and texts[0].startswith(first)),
            **more,
        )
        _check_length(self.module, samples, batch)
        # labels are for training
        return {k: v.to(self.device) for k, v in batch.items() if k != "labels"}

    def features(self, state: State) -> Any:
        """What the language model reads of the images, after the connector."""
        return state["features"]

    def predict(
        self,
        states: Iterable[State],
        samples: Sequence[Sample],
        decoding: Decoding,
        tick: Callable[[int], object],
    ) -> list[Any]:
        """Replies, from batches that have run up to the language model."""
        del samples
        tokenizer = self.processor.tokenizer
        replies: list[Any] = []
        self._kept["cut_off"] = 0
        for state in states:
            ids = self.reply_ids(state, decoding)
            self._kept["cut_off"] += cut_off(self.module, tokenizer, ids, decoding)
            texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
            replies += [text.strip() for text in texts]
            tick(len(replies))
        return replies

    @property
    def cut_off(self) -> int:
        """Replies of the last predictions that ended at the limit of new tokens."""
        return int(self._kept.get("cut_off", 0))

    def reply_ids(self, state: State, decoding: Decoding) -> Any:
        """Tokens of the replies alone: [batch, tokens]."""
        asked = {
            k: v for k, v in state.items() if k not in ("pixel_values", "features")
        }
        ids = self.module.generate(
            **asked,
            # transformers repeats the features in place, once for each beam
            mm_encoder_outputs={"image": copy(state["features"])},
            **settings(self.module, decoding),
        )
        return ids[:, state["input_ids"].shape[1] :]


def _check_length(module: Any, samples: Sequence[Sample], batch: Any) -> None:
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


def settings(module: Any, decoding: Decoding) -> dict[str, Any]:
    """How to generate: never at random, whatever the checkpoint suggests."""
    config = module.generation_config
    padding = config.pad_token_id
    if padding is None:
        end = config.eos_token_id
        padding = end[0] if isinstance(end, list) else end
    return {
        "max_new_tokens": decoding.max_new_tokens,
        "num_beams": decoding.beams,
        # transformers warns of it where there is no beam
        "length_penalty": decoding.length_penalty if decoding.beams > 1 else None,
        "do_sample": False,
        "temperature": None,
        "top_p": None,
        "top_k": None,
        "pad_token_id": padding,
    }


def cut_off(module: Any, tokenizer: Any, ids: Any, decoding: Decoding) -> int:
    """How many replies [batch, tokens] have no end: their last token is a word."""
    if ids.shape[1] < decoding.max_new_tokens:
        return 0
    ends = set(tokenizer.all_special_ids)
    for part in (module, getattr(module, "language_model", None)):
        end = getattr(getattr(part, "generation_config", None), "eos_token_id", None)
        ends |= set(end if isinstance(end, list) else [end]) - {None}
    return sum(int(last) not in ends for last in ids[:, -1])


def reply_to(sample: Sample) -> str:
    """The reference that most people gave."""
    return Counter(sample.references).most_common(1)[0][0]


def answer(text: str, reply: str) -> str:
    """A reply behind its prompt, as the model would give it.

    >>> answer("Short answer:", "yes")
    'Short answer: yes'

    Chat templates end in a line of its own for the reply.
    """
    return f"{text}{'' if text[-1:].isspace() else ' '}{reply}"


def read_image(file: Path) -> Any:
    """A picture in RGB.

    Raises:
        DataError: the file is no picture.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except OSError as error:
        raise DataError(f"{file} cannot be read as a picture: {error}") from None


def embed(module: Any, state: State) -> Any:
    """Prompt embeddings [batch, tokens, width] with the image features laid in.

    Raises:
        ModelError: the prompts leave another number of image tokens than features.
    """
    ids = state["input_ids"]
    words = module.get_input_embeddings()(ids)
    shown = state["features"].to(words.dtype)
    at = (ids == module.config.image_token_id).unsqueeze(-1)
    if int(at.sum()) != shown.shape[0] * shown.shape[1]:
        raise ModelError(
            f"the prompts hold {int(at.sum())} image tokens for "
            f"{shown.shape[0] * shown.shape[1]} image features: "
            "model and processor do not belong together"
        )
    return words.masked_scatter(at, shown)
