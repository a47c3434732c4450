"""Finding, checking and loading a task of lmms-eval, which need not be installed."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from allocator.core.errors import AllocateError, DataError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PREFIX = "lmms:"
SUPPORTED = (
    "supported are generate_until tasks: one picture, no examples, one greedy reply"
)


def load(base: str, include: Path | None = None) -> Any:
    """The task object; what can be refused is refused before data are downloaded.

    Raises:
        DataError: lmms-eval is missing or cannot load the task, or it is of a kind
            that is not supported.
    """
    with explained(f"lmms-eval cannot load {base}"):
        tasks, utils = _imported(base)
        path = None if include is None else str(include)
        manager = tasks.TaskManager("ERROR", include_path=path)
        entry = manager.task_index.get(base)
        if entry is None:
            near = difflib.get_close_matches(base, manager.all_tasks, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(f"lmms-eval has no task {base!r}{hint}")
        if entry["type"] != "task":
            alike = [each for each in manager.all_subtasks if each.startswith(base)]
            hint = f", such as {', '.join(alike[:5])}" if alike else ""
            raise DataError(
                f"{base} is a {entry['type']} of lmms-eval, not one task{hint}"
            )
        _check_kind(base, utils.load_yaml_config(entry["yaml_path"], mode="simple"))
        return manager.load_task_or_group(base)[base]


def _imported(base: str) -> tuple[Any, Any]:
    """Its modules of tasks and of settings; they take seconds to import."""
    try:
        import_module("lmms_eval")
        # it would tell of every file that it reads
        import_module("loguru").logger.disable("lmms_eval")
        return import_module("lmms_eval.tasks"), import_module("lmms_eval.utils")
    except ImportError as error:
        raise DataError(
            f"task {PREFIX}{base} needs lmms-eval: pip install 'allocate-vlm[lmms]' "
            f"({error})"
        ) from None


def _check_kind(base: str, config: Mapping[str, Any]) -> None:
    settings = config.get("generation_kwargs") or {}
    kind = config.get("output_type", "generate_until")
    reasons = {
        f"is of output_type {kind}": kind != "generate_until",
        "shows no picture": not config.get("doc_to_visual"),
        "puts examples in front": bool(config.get("num_fewshot")),
        "asks several times": (config.get("repeats") or 1) != 1,
        "samples its replies": bool(settings.get("do_sample")),
        "searches with beams": (settings.get("num_beams") or 1) != 1,
    }
    refused = [reason for reason, applies in reasons.items() if applies]
    if refused:
        raise DataError(f"{PREFIX}{base} {refused[0]}; {SUPPORTED}")


def metric_of(source: Any, base: str, asked: str) -> str:
    """The metric asked for, or the first that the task lists.

    Raises:
        AllocateError: it has no such metric, or lower values of it are better.
    """
    known = list(source.aggregation())
    metric = asked or next(iter(known), "")
    if metric not in known:
        raise UnknownNameError(f"metric of {PREFIX}{base}", metric, known)
    if source.higher_is_better().get(metric) is not True:
        raise DataError(
            f"{metric} of {PREFIX}{base} is not stated to be better when it is higher; "
            "a search needs a metric that is"
        )
    return metric


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Make one sentence of whatever other people's code raises.

    Raises:
        DataError: says what was tried, and the reason.
    """
    try:
        yield
    except AllocateError:
        raise
    except Exception as error:
        # lmms-eval tries some things again and wraps what the last try raised
        last = getattr(error, "last_attempt", None)
        cause = error if last is None else last.exception()
        lines = str(cause).strip().splitlines() or [""]
        raise DataError(f"{what}: {type(cause).__name__}: {lines[0]}") from error


def installed() -> str:
    """Version of lmms-eval."""
    try:
        return metadata.version("lmms-eval")
    except metadata.PackageNotFoundError:
        return "from source"
