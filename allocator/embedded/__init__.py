"""The trained small models that come with the package, and how model names are read."""

from __future__ import annotations

from pathlib import Path

from allocator.core.errors import ModelError, UnknownNameError, first_line
from allocator.core.waiting import check_answers

HERE = Path(__file__).parent


def embedded_models() -> tuple[str, ...]:
    """Names of the models in the package."""
    return tuple(sorted(f.parent.name for f in HERE.glob("*/config.json")))


def is_embedded(name: str) -> bool:
    """Whether a model name stands for one of the package's own."""
    return name in embedded_models()


def model_folder(name: str, *, weights: bool = True) -> Path:
    """Folder of a model: embedded, on disk, or fetched from the hub.

    A name without a slash is an embedded model, anything else a folder or a hub id.
    Without `weights` the hub is asked for the configuration alone.

    Raises:
        UnknownNameError: a bare name that is not embedded (the network is not asked).
        ModelError: a folder or hub id that cannot be had.
        DataError: something in the folder is no file, and would never end.
    """
    if is_embedded(name):
        return HERE / name
    if "/" not in name:
        if name and Path(name).is_dir():
            raise ModelError(f"model {name!r}: write ./{name} for a folder")
        raise UnknownNameError("embedded model", name, embedded_models())
    folder = Path(name).expanduser()
    check_answers(folder)
    if folder.is_dir():
        return folder.resolve()
    if folder.is_file():
        raise ModelError(f"{name} is a file: a model is the folder with its files")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(f"there is no model folder {name}")
    return _fetch(name, weights)


def _fetch(name: str, weights: bool) -> Path:
    """Download a hub model, or find it in the hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.errors import LocalEntryNotFoundError as NotCached

    wanted = ["*.json", "*.txt", "*.model", "*.jinja"]
    if weights:
        wanted.append("*.safetensors")
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, NotCached, OSError) as error:
        reason = first_line(error)
        raise ModelError(
            f"there is no folder {name}, and the hub does not give it: {reason}"
        ) from None
