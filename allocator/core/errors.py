"""Every error a user can cause: one sentence, and the exit code it ends with."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from allocator.core.masking import masked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# characters of another library's message
LONGEST_REASON = 400
# characters of a sentence, and of a name that is compared with known ones
LONGEST, LONGEST_NAME = 20_000, 200
# whose messages are sentences without the name of the error before them
SPEAKING = (OSError, ValueError, RuntimeError, ImportError)


class AllocateError(Exception):
    """Base of all errors that a user sees: one sentence, without secrets."""

    exit_code = 2

    def __init__(self, sentence: str = "") -> None:
        if len(sentence) > LONGEST:
            # between words, so that no half of a secret is left
            sentence = f"{sentence[:LONGEST].rpartition(' ')[0]} ..."
        # names from outside may have line breaks; a sentence has none
        for each, shown in (("\n", "\\n"), ("\r", "\\r")):
            sentence = sentence.replace(each, shown)
        super().__init__(masked(sentence))


class SpecError(AllocateError, ValueError):
    """A model, group, scheme or study is described in an impossible way."""


class BudgetError(AllocateError, ValueError):
    """A budget that no allocation can keep."""


class ModelError(AllocateError):
    """A model folder that cannot be used."""


class DataError(AllocateError):
    """A data folder that lacks a file, or a file of another shape."""


class BankError(AllocateError):
    """A bank cell that is missing or damaged."""


class FullError(AllocateError, OSError):
    """A disk that is full; nothing half-written is left there."""


class StudyError(AllocateError):
    """A study that does not exist, or another one of the same name."""


class StorageError(StudyError):
    """A storage that fails in use: once it works, the same command goes on."""


class BusyError(StorageError):
    """A storage that another program holds, or that is away, for too long."""


class GoneError(StudyError, KeyError):
    """A study that somebody deleted while it was in use."""

    # a KeyError quotes what it says
    __str__ = Exception.__str__


class ReplyError(AllocateError, ValueError):
    """Predictions that do not match their samples."""


class NotReachedError(AllocateError):
    """A valid request that nothing measured could meet."""

    exit_code = 3


class UnknownNameError(AllocateError, KeyError):
    """A name that is not among the known ones; offers the near miss."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name[:LONGEST_NAME], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        self.sentence = masked(f"no {kind} {name!r} (known: {', '.join(known)}).{hint}")
        super().__init__(self.sentence)

    def __str__(self) -> str:
        return self.sentence


def first_line(error: BaseException) -> str:
    """The first line of another library's message: often its only sentence."""
    return str(error).strip().split("\n", maxsplit=1)[0]


def reason(error: BaseException) -> str:
    """Why another library failed: the first line it says, or the beginning of it."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    line, name = first_line(error).rstrip(), type(error).__name__
    if line.endswith(":"):
        # what it announces stands below it
        line = " ".join(str(error).split())
    if not isinstance(error, SPEAKING):
        line = f"{name}: {line}" if line else ""
    line = line or name
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]} ..."


@contextmanager
def in_one_sentence(
    beginning: str, kind: Callable[[str], AllocateError] = ModelError
) -> Iterator[None]:
    """Let what another library raises be one sentence of ours, with its reason.

    Errors of ours pass unchanged; the original one is kept as the cause.
    """
    try:
        yield
    except AllocateError:
        raise
    except Exception as error:
        raise kind(f"{beginning}: {reason(error)}") from error
