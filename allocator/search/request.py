"""What a search is asked, read from options and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError
from allocator.core.pins import KINDS as PINS
from allocator.core.plugins import available
from allocator.core.study import GOALS, StudySpec, check_options
from allocator.search.engines import engine_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# what decides the groups of a model and their sizes
SIZES = (
    *("model", "methods", "widths", "group_size", "symmetric", "target"),
    *("granularity", "include", "budget_scope", *PINS),
)


def read_request(given: Mapping[str, Any], spec_file: Path | None = None) -> StudySpec:
    """What a search is asked, by options and perhaps a file; options come first.

    Args:
        given: fields of `StudySpec`.
        spec_file: a study written as TOML.

    Raises:
        SpecError: neither names a goal and a task; an option of the wrong type.
        UnknownNameError: an option that there is none of.
    """
    asked = _read_request(given, spec_file)
    engine_of(asked)
    return asked


def _read_request(given: Mapping[str, Any], spec_file: Path | None) -> StudySpec:
    check_options(given)
    if spec_file is not None:
        return StudySpec.from_toml(spec_file, given)
    missing = [] if "task" in given else ["--task"]
    if not GOALS & set(given):
        missing = ["--budget", *missing]
    if missing:
        raise SpecError(
            f"a search needs --budget and --task; {' and '.join(missing)} missing "
            f"(tasks: {', '.join(available('evals.tasks'))}; instead of a budget: "
            "--front or --min-score)"
        )
    return StudySpec.read(given)


def sizes_request(given: Mapping[str, Any]) -> StudySpec:
    """A request whose sizes alone are asked for: a budget that everything fits.

    Args:
        given: the model, and how it would be quantized.

    Raises:
        SpecError: an option of the wrong type, or an impossible one.
        UnknownNameError: an option that has nothing to do with sizes.
    """
    check_options(given, SIZES)
    return StudySpec.read({"budget": "16", "task": "vqav2", **given})
