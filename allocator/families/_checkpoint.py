"""What every family shares: reading checkpoints, feeding prompts, replying.

torch and transformers are imported inside the functions, so that naming the families
costs nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Sample, Stage, State

PROMPTS_FILE = "prompts.json"


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json.

    Raises:
        ModelError: the folder has none, or it is not JSON.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(f"{folder} is not a model folder: it has no config.json")
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{file} names no model_type")
    return config


def check_weights(folder: Path) -> tuple[Path, ...]:
    """Safetensors files of a checkpoint, each opened once to see that it is whole.

    Raises:
        ModelError: there is none, one listed in the index is missing, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            listed = set(json.loads(index.read_text())["weight_map"].values())
            files = tuple(folder / name for name in sorted(listed))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{index} lists no weights: {error}") from None
    else:
        files = (folder / "model.safetensors",)
    for file in files:
        if not file.is_file():
            raise ModelError(
                f"{folder} lacks {file.name}: only safetensors weights are loaded"
            )
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{file} is damaged or cut short ({error}): copy it again"
            ) from None
    return files


def read_prompts(folder: Path, published: Mapping[str, str]) -> dict[str, str]:
    """Prompts by kind: the folder's own, or the published ones.

    A model trained on other words brings `prompts.json`, {"vqa": "... {} ..."}.
    """
    file = folder / PROMPTS_FILE
    if not file.is_file():
        return dict(published)
    try:
        own = json.loads(file.read_text())
    except ValueError as error:
        raise ModelError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(own, dict) or not all(isinstance(v, str) for v in own.values()):
        raise ModelError(
            f'{file} is not of the form {{"vqa": "Question: {{}} Answer:"}}'
        )
    return {**published, **own}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own bars and advice off the user's screen."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    with ExitStack() as stack:
        stack.callback(logging.set_verbosity, before)
        if logging.is_progress_bar_enabled():
            stack.callback(logging.enable_progress_bar)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        yield


def build_on_meta(model_class: Any, folder: Path) -> Any:
    """A model without weights, from the configuration alone.

    Raises:
        ModelError: transformers cannot build what config.json describes.
    """
    import torch
    from transformers import AutoConfig

    try:
        with quiet(), torch.device("meta"):
            return model_class(AutoConfig.from_pretrained(folder))
    except Exception as error:
        # what a wrong config.json raises depends on which part of it is wrong
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ModelError(f"{folder}/config.json describes no model: {reason}") from None


def read_checkpoint(
    model_class: Any, folder: Path, device: str, *, mapped: bool = False
) -> Any:
    """Load weights for inference: fp32 on a CPU, the stored type on an accelerator.

    Mapped, they are views of the checkpoint's files: safetensors maps a file, and
    transformers copies a tensor only to change its type. Read in the type they are
    stored in, weights take no memory of ours.

    Raises:
        ModelError: the weights do not fit the configuration or cannot be read.
    """
    import torch

    files = check_weights(folder)
    if mapped:
        return _read(model_class, folder, _stored_type(files))
    dtype = torch.float32 if device.startswith("cpu") else "auto"
    return _read(model_class, folder, dtype).to(device)


def _stored_type(files: Sequence[Path]) -> Any:
    """The floating point type that most tensors of a checkpoint have."""
    from safetensors import safe_open

    found: Counter[Any] = Counter()
    for file in files:
        with safe_open(file, framework="pt") as opened:
            names = list(opened.keys())
            # one look a file: a tensor is mapped, not read
            found.update(opened.get_tensor(name).dtype for name in names)
    floating = [dtype for dtype, _ in found.most_common() if dtype.is_floating_point]
    return floating[0] if floating else "auto"


def _read(model_class: Any, folder: Path, dtype: Any) -> Any:
    from safetensors import SafetensorError

    try:
        with quiet():
            module, loaded = model_class.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ModelError(f"{folder} cannot be loaded: {reason}") from None
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder} lacks {len(missing)} weights, {missing[0]} among them"
        )
    return module.eval().requires_grad_(False)


def read_processor(folder: Path) -> Any:
    """The checkpoint's image processor and tokenizer, as transformers pairs them."""
    from transformers import AutoProcessor

    try:
        with quiet():
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ModelError(f"{folder} has no usable processor: {reason}") from None
    processor.tokenizer.padding_side = "left"
    return processor


@dataclass(frozen=True)
class Pipeline:
    """A loaded model as a row of stages; see `allocator.core.ports.Model`.

    `lay_stages` gives the stages of a module, `generator` the submodule whose
    `generate` continues from embeddings.
    """

    module: Any
    folder: Path
    device: str
    prompts: Mapping[str, str]
    lay_stages: Callable[[Any], tuple[Stage, ...]]
    generator: Callable[[Any], Any]
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
        texts = [self.prompts[s.prompt].format(s.text) for s in samples]
        if answered:
            replies = [Counter(s.references).most_common(1)[0][0] for s in samples]
            texts = [f"{t} {r}" for t, r in zip(texts, replies, strict=True)]
        images = [read_image(sample.image) for sample in samples]
        batch = self.processor(
            images=images, text=texts, padding=True, return_tensors="pt"
        )
        keys = ("pixel_values", "input_ids", "attention_mask")
        return {key: batch[key].to(self.device) for key in keys}

    def features(self, state: State) -> Any:
        """What the language model reads of the images, after the connector."""
        return state["features"]

    def generate(self, state: State, max_new_tokens: int) -> list[str]:
        """Greedy replies, from a state that has run up to the language model."""
        tokenizer = self.processor.tokenizer
        ids = self.generator(self.module).generate(
            inputs_embeds=embed(self.module, state),
            attention_mask=state["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=tokenizer.pad_token_id,
        )
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]


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
