"""Modules of transformers: built of a configuration alone, fitted to files, or read.

What a file holds decides: which weights there are, and whether output head and input
embeddings are one matrix. All three ways read the same files, which `_weights` checks.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError, in_one_sentence
from allocator.families._checkpoint import part_of_config, quiet, read_config
from allocator.families._generation import ADVICE, KEPT, read_advice
from allocator.families._weights import (
    check_weights,
    common_type,
    has_weights,
    read_headers,
    refuse_misfits,
    stored_names,
    weight_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

TIED = "tie_word_embeddings"
FEW_ROWS = 16
# one expert after the other: as fast as all at once on a CPU, and by plain products,
# which take weights wherever they lie. An accelerator is left to transformers, whose
# kernels for all experts at once it waits for much less
EXPERTS_ON_CPU = {"experts_implementation": "eager"}


class AsStored:
    """A tensor that stays as it is stored, whatever transformers would make of it.

    It casts every weight to one type; weights that are read to be mapped keep theirs,
    so that none overflows and none is copied.
    """

    def __init__(self, part: Any) -> None:
        self._part = part

    def __getitem__(self, _: Any) -> AsStored:
        return self

    def to(self, **_: Any) -> Any:
        """The tensor itself, a view of its file."""
        return self._part[...]


def model_class(name: str) -> Any:
    """A class of transformers."""
    import transformers

    return getattr(transformers, name)


def build(kind: Any, folder: Path, *, tied: bool | None = None) -> Any:
    """A module without values: of a folder's weights, or else its configuration alone.

    Args:
        kind: the class in transformers.
        folder: the checkpoint's.
        tied: whether head and embeddings are one matrix where neither weights nor
            config.json say so; None: as transformers has it.

    Raises:
        ModelError: transformers cannot build what config.json describes, or the weights
            do not fit it.
    """
    module = _on_meta(kind, folder)
    if has_weights(folder):
        _fit(module, folder)
    else:
        _assume(module, folder, tied)
    return module


def _on_meta(kind: Any, folder: Path) -> Any:
    import torch
    from transformers import AutoConfig

    said = f"{folder}/config.json describes no model"
    with in_one_sentence(said), quiet(), torch.device("meta"):
        return kind(
            AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        )


def _fit(module: Any, folder: Path) -> None:
    """Put views of the stored weights into a module, as loading them would.

    This is what `from_pretrained` does, without making what is missing at random: that
    takes minutes and the memory of a whole model before it can be refused.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import convert_and_load_state_dict_in_model
    from transformers.modeling_utils import LoadStateDictConfig

    from allocator.families._stacks import converted, nowhere

    files = weight_files(folder)
    stored = read_headers(folder, files)
    said = f"{folder} cannot be loaded"
    with in_one_sentence(said), quiet(), _tensors(files, True) as tensors:
        plain = get_model_conversion_mapping(module)
        renamed = LoadStateDictConfig(
            weight_mapping=converted(plain, module, folder, stored, nowhere)
        )
        found, _ = convert_and_load_state_dict_in_model(module, tensors, renamed)
        _refuse_shapes(folder, found.mismatched_keys)
        module.tie_weights(missing_keys=found.missing_keys, recompute_mapping=False)
        module._adjust_missing_and_unexpected_keys(found)
        _check_head(module, folder, tensors, found.missing_keys)
        refuse_misfits(folder, found.missing_keys, found.unexpected_keys)
    _tie_equal(module)


def _tie_equal(module: Any) -> None:
    """Make head and embeddings one matrix where they are stored twice and alike.

    transformers does so only where a configuration says that they are one.
    """
    import torch

    head, words = module.get_output_embeddings(), module.get_input_embeddings()
    if head is None or words is None or head.weight is words.weight:
        return
    wide = torch.promote_types(head.weight.dtype, words.weight.dtype)
    # mostly equal in shape alone: a few rows tell
    for rows in (slice(0, FEW_ROWS), slice(None)):
        here, there = (each.weight.detach()[rows].to(wide) for each in (head, words))
        if not torch.equal(here, there):
            return
    head.weight = words.weight


def _refuse_shapes(folder: Path, other: Any) -> None:
    names = sorted(key for key, *_ in other)
    if names:
        raise ModelError(
            f"{folder} has {len(names)} weights of another shape than its config.json "
            f"says, {names[0]} among them"
        )


def _check_head(
    module: Any, folder: Path, names: Iterable[str], missing: set[str]
) -> None:
    """Count a head as missing that config.json says is a matrix of its own.

    transformers ties some heads whatever is said of them.
    """
    head = _head_of(module)
    if head and _said_tied(folder, head) is False and not _stores(names, head):
        missing.add(f"{head}.weight")


def _head_of(module: Any) -> str | None:
    """Full name of the output head, where there are embeddings too."""
    head, words = module.get_output_embeddings(), module.get_input_embeddings()
    if head is None or words is None:
        return None
    names: dict[Any, str] = {child: name for name, child in module.named_modules()}
    return names[head]


def _stores(names: Iterable[str], head: str) -> bool:
    """Whether a head is among stored tensors, whose names may begin otherwise."""
    last = f"{head.rpartition('.')[2]}.weight"
    return any(name == last or name.endswith(f".{last}") for name in names)


def _said_tied(folder: Path, head: str, default: bool | None = None) -> bool | None:
    """Whether head and embeddings are said to be one matrix; None: ask transformers.

    It knows what config.json says of the whole model, but not always what it says of
    the language model.
    """
    config = read_config(folder)
    if "." not in head and isinstance(config.get(TIED), bool):
        return None
    said = part_of_config(config, "text_config").get(TIED)
    return said if isinstance(said, bool) else default


def _assume(module: Any, folder: Path, default: bool | None) -> None:
    """Tie head and embeddings, or part them, where there is a configuration alone."""
    from torch import nn

    head, names = _head_of(module), stored_names(folder)
    if head is None:
        return
    # an index may be there although its files are not
    tied = _stores(names, head) is False if names else _said_tied(folder, head, default)
    own, words = module.get_output_embeddings(), module.get_input_embeddings()
    if tied is None or own.weight.shape != words.weight.shape:
        return
    if tied and own.weight is not words.weight:
        own.weight = words.weight
    elif not tied and own.weight is words.weight:
        own.weight = nn.Parameter(words.weight.detach().clone(), requires_grad=False)


def read_checkpoint(
    kind: Any, folder: Path, device: str, *, mapped: bool = False
) -> Any:
    """Load weights for inference: fp32 on a CPU, the stored type on an accelerator.

    Mapped, they are views of the checkpoint's files and take no memory of ours. Each
    keeps the type it is stored in for a CPU, which computes in fp32 whatever that is;
    for an accelerator the few that have another type than most are copied.

    Raises:
        ModelError: the weights do not fit the configuration or cannot be read.
    """
    check_weights(folder)
    on_cpu = device.startswith("cpu")
    dtype = running_type(folder) if mapped else computing_type(folder, device)
    module = _read(kind, folder, dtype, mapped=mapped, on_cpu=on_cpu)
    return module if mapped else module.to(device)


def computing_type(folder: Path, device: str) -> str:
    """The type in which a checkpoint runs on a device, in torch's words."""
    return "float32" if device.startswith("cpu") else running_type(folder)


def scale_type(folder: Path) -> str:
    """The type in which a checkpoint keeps scales once its weights are packed.

    That of its other tensors where it is bfloat16, else float16.
    """
    stored = common_type(read_headers(folder, weight_files(folder)))
    return stored if stored == "bfloat16" else "float16"


def running_type(folder: Path) -> str:
    """The type in which an accelerator runs a checkpoint, in torch's words.

    The one that most weights are stored in; float32 where another weight has values
    beyond it.
    """
    import torch

    files = weight_files(folder)
    headers = read_headers(folder, files)
    dtype = common_type(headers)
    most = torch.finfo(getattr(torch, dtype)).max
    with _tensors(files) as tensors:
        for name, stored in headers.items():
            if common_type({name: stored}) == dtype:
                continue
            values = tensors[name][...]
            if values.numel() and bool(
                (values.isfinite() & (values.abs() > most)).any()
            ):
                return "float32"
    return dtype


def _read(kind: Any, folder: Path, dtype: str, *, mapped: bool, on_cpu: bool) -> Any:
    import torch
    from transformers import AutoConfig

    from allocator.families._stacks import converted, converting, on_disk

    files = weight_files(folder)
    stored, room = read_headers(folder, files), on_disk if mapped else None

    def change(module: Any, plain: list[Any]) -> list[Any]:
        return converted(plain, module, folder, stored, room)

    said = f"{folder} cannot be loaded"
    tensors = _tensors(files, as_stored=mapped and on_cpu)
    with in_one_sentence(said), quiet(), tensors as given, converting(change):
        module, loaded = kind.from_pretrained(
            None,
            config=AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            ),
            trust_remote_code=False,
            # the files that were checked, and no others that lie in the folder
            state_dict=dict(given),
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            # they are refused below, by name
            ignore_mismatched_sizes=True,
            **(EXPERTS_ON_CPU if on_cpu else {}),
        )
        _refuse_shapes(folder, loaded["mismatched_keys"])
        _check_head(module, folder, given, loaded["missing_keys"])
        refuse_misfits(folder, loaded["missing_keys"], loaded["unexpected_keys"])
        if module.can_generate() and (folder / ADVICE).is_file():
            module.generation_config = generation_config(folder)
    _tie_equal(module)
    return module.eval().requires_grad_(False)


def generation_config(folder: Path) -> Any:
    """A checkpoint's advice on generation; of what transformers refuses, what counts.

    It refuses some of what is about the shape of an outcome, which does not count here.
    """
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception:
        counts = (*KEPT, "eos_token_id", "pad_token_id")
        advice = read_advice(folder).items()
        return GenerationConfig(**{k: v for k, v in advice if k in counts})


@contextmanager
def _tensors(files: Sequence[Path], as_stored: bool = False) -> Iterator[Any]:
    """Every tensor of some files by its name, read only when it is asked for."""
    from safetensors import safe_open

    with ExitStack() as stack:
        found: dict[str, Any] = {}
        for file in files:
            opened = stack.enter_context(
                safe_open(file, framework="pt", backend="mmap")
            )
            for name in opened.keys():  # noqa: SIM118, it is no dictionary
                part = opened.get_slice(name)
                found[name] = AsStored(part) if as_stored else part
        yield found
