"""A loaded model as the rest of the project sees it: fed, cut into stages, asked."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from allocator.core.errors import (
    AllocateError,
    DataError,
    ModelError,
    in_one_sentence,
    reason,
)
from allocator.core.recurring import Recurring
from allocator.families._branching import MASK, branched, branches_of, texts_of
from allocator.families._generation import Ends, generate, named_ends
from allocator.families._guarding import guarded
from allocator.families._lengths import lengths_of, within_reach
from allocator.families._moving import moved
from allocator.families._pixels import PIXEL_BYTES, by_picture
from allocator.families._processor import (
    IMAGE_TOKEN,
    check_image_token,
    check_length,
    pad_,
    put_behind,
    read_processor,
    shortened,
    spelled,
)
from allocator.families._sharing import PICTURE, images_of, of_samples, share_
from allocator.families._wording import answer, check_text, reply_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Decoding, Sample, Stage, State
    from allocator.core.spec import Component
    from allocator.families._branching import Branches
    from allocator.families._wording import Wording


@dataclass(frozen=True)
class Pipeline:
    """A model that replies; see `allocator.core.ports.Model`.

    `lay_stages` gives the stages of a module. `wording` words each kind of question.
    `suffix` hands replies to the processor apart from the prompts: one that marks which
    is which. `prefix_lm`: a prompt is read both ways, so that what the model makes of
    a picture depends on the question. `lay_out`: see `branched`.
    """

    module: Any
    folder: Path
    device: str
    wording: Wording
    lay_stages: Callable[[Any], tuple[Stage, ...]]
    suffix: bool = False
    prefix: tuple[Component, ...] = ("vision", "connector")
    prefix_lm: bool = False
    lay_out: Callable[[Any, Any], None] | None = None
    # an encoder wants to know where what it reads ends
    _ends_prompts: ClassVar[bool] = False
    _kept: dict[str, Any] = field(default_factory=dict)

    @property
    def processor(self) -> Any:
        """Read at first use: random-weight models for tests may have none."""
        if "processor" not in self._kept:
            processor = self._kept["processor"] = read_processor(self.folder)
            with in_one_sentence(f"the tokenizer of {self.folder} fails"):
                pad_(processor, self.ends.ids)
                share_(processor)
                self._kept["behind"] = put_behind(processor.tokenizer)
        return self._kept["processor"]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of prompt it is asked in."""
        return tuple(self.wording.published)

    @property
    def ends(self) -> Ends:
        """What ends a reply, as the files of the checkpoint have it."""
        processor = self._kept.get("processor")
        if processor is None:
            return named_ends(self.folder, self._rows)
        if "ends" not in self._kept:
            named = named_ends(self.folder, self._rows, processor.tokenizer)
            self._kept["ends"] = named
        ends: Ends = self._kept["ends"]
        return ends

    @property
    def _rows(self) -> int:
        """Tokens that the embedding knows."""
        rows: int = self.module.get_input_embeddings().weight.shape[0]
        return rows

    def stages(self) -> tuple[Stage, ...]:
        """All stages in execution order; their composition is `forward`."""
        if "stages" not in self._kept:
            laid = self.lay_stages(self.module)
            self._kept["stages"] = tuple(guarded(self.folder, each) for each in laid)
        stages: tuple[Stage, ...] = self._kept["stages"]
        return stages

    def inputs(self, samples: Sequence[Sample], *, answered: bool = False) -> State:
        """Pixels and prompts of a batch, padded on the left.

        Pixels of a picture that several samples show are there once; then `picture`
        [batch] says which is whose. `answered` puts each sample's most frequent
        reference behind its prompt, as calibration wants: the model reads its own
        replies too. Nothing is shared there: each pair counts.

        Raises:
            ModelError: processor, template or prompts cannot be used.
            DataError: names a sample that cannot be shown to the model.
        """
        texts = self.texts(samples)
        if not answered:
            return self.processed(samples, texts, shared=True)
        replies = [reply_to(sample) for sample in samples]
        for sample, reply in zip(samples, replies, strict=True):
            check_text(sample, reply, str(self.processor.image_token))
        if self.suffix:
            return self.processed(samples, texts, suffix=replies)
        pairs = zip(texts, replies, strict=True)
        return self.processed(samples, [answer(*pair) for pair in pairs])

    def texts(self, samples: Sequence[Sample]) -> list[str]:
        """The prompts of samples, before the processor reads them.

        Raises:
            ModelError: template or prompts cannot be used.
        """
        texts = [self.worded(sample) for sample in samples]
        if not self.ends.ids:
            raise ModelError(
                f"{self.folder} names no token that ends a reply, in its tokenizer, "
                "generation_config.json or config.json: set eos_token_id in one of them"
            )
        self._check_open(texts)
        return texts

    def _check_open(self, texts: Sequence[str]) -> None:
        """Refuse prompts behind which nothing is left to say."""
        added = self.processor.tokenizer.added_tokens_decoder
        for end in (str(added[n]) for n in self.ends.ids if n in added):
            if any(text.rstrip().endswith(end) for text in texts):
                raise ModelError(
                    f"{self.folder} ends its prompts with {end}, which ends a reply: "
                    "take it out of its chat template, prompts.json or --prompt, or "
                    "bring a template that begins the reply (add_generation_prompt)"
                )

    def worded(self, sample: Sample) -> str:
        """A sample's question in the words the model knows; see `Wording`."""
        return self.wording.worded(sample, self.processor)

    def prompt(self, sample: Sample) -> str:
        """A sample's prompt as the model gets it, special tokens and all.

        Tokens in a row that are alike, those of an image, are counted.
        """
        state = self.inputs([sample])
        seen = state["input_ids"][0][state["attention_mask"][0].bool()].tolist()
        return spelled(seen, self.processor.tokenizer)

    def apart(self) -> Pipeline:
        """The same with a processor of its own, which another thread may use."""
        other = replace(self, _kept={"pixels": self.pixels})
        # read here: transformers is changed meanwhile, for all threads
        _ = other.processor
        return other

    @property
    def pixels(self) -> Recurring:
        """What the processor has made of pictures."""
        found: Recurring = self._kept.setdefault("pixels", Recurring(PIXEL_BYTES))
        return found

    def lengths(self, samples: Sequence[Sample]) -> list[int]:
        """Tokens of each sample's prompt, about; pictures are not read for it."""
        return lengths_of(self.processor, self.inputs, samples, self._kept)

    def processed(
        self,
        samples: Sequence[Sample],
        texts: Sequence[str],
        *,
        shared: bool = False,
        **more: Sequence[str],
    ) -> State:
        """What the checkpoint's processor makes of pictures and texts.

        `shared`: of equal pictures once. `more` are further texts that it takes, one
        for each sample.
        """
        images = [[image] for image in images_of(samples, shared=shared)]
        try:
            batch = self._batch(images, texts, more)
        except AllocateError:
            raise
        except Exception as error:
            raise self._unfit(error, samples, images, texts, more) from error
        undone = self._marks(texts) and not self._ends_prompts
        behind = self._kept["behind"] if undone else 0
        if behind and more:
            raise ModelError(
                f"the tokenizer of {self.folder} puts an end behind whatever it reads: "
                "take that out of the post_processor in its tokenizer.json"
            )
        if behind:
            batch = shortened(batch, behind)
        check_length(self.module, samples, batch)
        check_image_token(self.folder, self.module, self.processor, batch)
        self._check_tokens([f"sample {each.id}" for each in samples], batch)
        # labels are for training
        kept = {k: v for k, v in batch.items() if k != "labels"}
        return moved(kept, self.device)

    def _batch(
        self,
        images: Sequence[Any],
        texts: Sequence[str],
        more: Mapping[str, Sequence[str]],
    ) -> Any:
        processor = self.processor
        with by_picture(processor, self.pixels):
            return processor(
                images=list(images),
                text=list(texts),
                padding=True,
                return_tensors="pt",
                add_special_tokens=self._marks(texts),
                **{name: list(each) for name, each in more.items()},
            )

    def _marks(self, texts: Sequence[str]) -> bool:
        """Whether the tokenizer is to put marks around texts.

        Some chat templates write the first token themselves.
        """
        first = self.processor.tokenizer.bos_token
        return not first or not all(t.lstrip().startswith(first) for t in texts)

    def _unfit(
        self,
        error: Exception,
        samples: Sequence[Sample],
        images: Sequence[Any],
        texts: Sequence[str],
        more: Mapping[str, Sequence[str]],
    ) -> DataError:
        """What to say of samples that the processor does not take: which, and why."""
        named = f"samples {samples[0].id} to {samples[-1].id}"
        for n, sample in enumerate(samples):
            own = {name: [each[n]] for name, each in more.items()}
            try:
                self._batch([images[n]], [texts[n]], own)
            except Exception as alone:
                named, error = f"sample {sample.id} ({sample.image.name})", alone
                break
        return DataError(
            f"the processor of {self.folder} does not take {named}: {reason(error)}"
        )

    def _check_tokens(self, names: Sequence[str], batch: Any) -> None:
        """Refuse a token that the embedding does not know, unless it is masked.

        Raises:
            ModelError: names the token and one of the texts, which has it.
        """
        ids, rows = batch["input_ids"], self._rows
        # the image's stands for no row: features are laid in its place
        beyond = (ids >= rows) & (ids != getattr(self.module.config, IMAGE_TOKEN, -1))
        for n, place in (beyond & batch["attention_mask"].bool()).nonzero().tolist():
            number = int(ids[n, place])
            token = self.processor.tokenizer.convert_ids_to_tokens(number)
            raise ModelError(
                f"the tokenizer of {self.folder} makes token {number} ({token!r}) of "
                f"{names[n]}, and the model's embedding has {rows} rows: "
                "they do not belong together"
            )
        ids[beyond] = self.ends.ids[0] if self.ends.ids else 0

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
        tokenizer = self.processor.tokenizer
        replies: list[Any] = []
        self._kept["cut_off"] = 0
        for state in states:
            first = samples[len(replies)].id
            how = within_reach(self.module, state, decoding)
            with in_one_sentence(f"{self.folder} cannot reply to sample {first} ff."):
                ids = self.reply_ids(state, how).tolist()
            self._kept["cut_off"] += self.ends.lacking(ids, tokenizer, how)
            prompts = state["input_ids"].tolist()
            replies += self.ends.replies(ids, tokenizer, prompts)
            tick(len(replies))
        return replies

    @property
    def cut_off(self) -> int:
        """Replies of the last predictions that ended at the limit of new tokens."""
        return int(self._kept.get("cut_off", 0))

    def reply_ids(self, state: State, decoding: Decoding) -> Any:
        """Tokens of the replies alone: [batch, tokens]."""
        module, ends = self.module, self.ends
        found = self.branches(module, state, decoding)
        if found is None:
            whole = _asked(of_samples(state, module.config.image_token_id))
            ids = generate(module, decoding, ends, **whole)
            return ids[:, state["input_ids"].shape[1] :]
        first = {k: v for k, v in _asked(state).items() if k not in texts_of(state)}
        told = {**first, **found.begun}, found.whole
        ids = branched(module, decoding, ends, found, told, self.lay_out)
        return ids[:, found.whole[MASK].shape[1] :]

    def branches(
        self, module: Any, state: State, decoding: Decoding
    ) -> Branches | None:
        """Where prompts part from their pictures, if it helps; `module` generates."""
        if self.prefix_lm:
            return None
        image = self.module.config.image_token_id
        return branches_of(module, state, image, decoding)


def _asked(state: State) -> dict[str, Any]:
    """What a model is told of a batch that has run up to the language model."""
    gone = ("pixel_values", "features", PICTURE)
    told = {k: v for k, v in state.items() if k not in gone}
    # transformers repeats the features in place, once for each beam
    return {**told, "mm_encoder_outputs": {"image": copy(state["features"])}}
