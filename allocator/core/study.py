"""What is asked of a search, on the command line or as TOML."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import FULL, SCOPES, WIDTHS, Budget, Choice, Scheme
from allocator.core.amounts import read_bytes
from allocator.core.checks import check_among, check_choosable
from allocator.core.errors import SpecError, StudyError, UnknownNameError
from allocator.core.options import read_toml, typed_options
from allocator.core.own import named_columns
from allocator.core.pins import Pins
from allocator.core.ports import Selection
from allocator.core.prompts import check_prompt
from allocator.core.spec import EXTRAS, GRANULARITIES
from allocator.core.targets import TARGETS, target_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from allocator.core.allocation import Scope
    from allocator.core.spec import Granularity

# image-text pairs of the task's training set, as published (arXiv 2601.15287)
CALIBRATION_SIZE = 128
# seconds to wait while another program holds the storage
STORAGE_TIMEOUT = 60.0
# between the names of several tasks
JOINED = "+"
# memory grows with them, and published evaluations use 5
MOST_BEAMS = 64
# tokens of a reply: models that think take thousands before they answer
MOST_TOKENS = 32_768
# parameters from which rounding is learned only where that is asked for
TUNED = 10**8
# proposals that are asked for before one of them has a score
MOST_AT_ONCE = 512
# steps of learned rounding for each block, and the most that make sense
TUNE_STEPS, MOST_STEPS = 50, 100_000
# probability with which a minimal score is kept
CONFIDENCE = 0.95
# a search is for one of them
GOALS = {"budget", "front", "min_score"}
STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class StudySpec:
    """Everything a search is asked; the defaults are the command line's.

    What is wanted is one of three: the best score within a `budget`, text such as "4.0"
    or "3.5GiB"; the whole `front` of sizes and scores; the smallest model that keeps
    `min_score` of the full-precision score with probability `confidence`. `task` may
    join several with "+". With `rungs` candidates are looked at on few samples before
    one is measured in full, with `narrowing` groups that hardly matter stay as they
    are. `target` is the runtime that the model is quantized for: it sets widths, group
    size and symmetry where none are given (`read`), what they can be, and what counts
    as size.
    `finalize` quantizes what may be recommended once more in sequence; `refine` then
    lets single linears differ from their groups, and `tune` (None: for models of less
    than TUNED parameters) learns the rounding in `tune_steps` steps a block; with
    `race`, what cannot win any more stops after a part of the evaluation set.
    `at_once` are proposals that are looked at and measured side by side.
    `trials` are proposals to measure in full (None: `allocator.search.propose`).
    Of a task that is a user's own file, `metric` is how it is scored, `columns` say
    what columns hold ("question=prompt"), and with `skip_broken` a few samples whose
    pictures cannot be read are left out. `prompt`, with a "{question}", is asked in
    place of a task's own words; a reply has at most `max_new_tokens`.
    `candidates` are files of allocations that take part in the end; `pin`, `at_least`,
    `at_most` keep groups as they are or within bounds (`Pins`). Nones mean: the
    embedded data, the published fraction and set, the published depth of ranking, the
    default study name, the default storage, no time limit, the whole `memory` of the
    machine or its container for this process (`allocator.core.memory`).
    """

    budget: str | None
    task: str
    model: str = "tiny-blip2"
    data: str | None = None
    fraction: float | None = None
    subset: str | None = None
    metric: str | None = None
    columns: tuple[str, ...] = ()
    prompt: str | None = None
    max_new_tokens: int | None = None
    skip_broken: bool = False
    beams: int = 1
    rerank: int | None = None
    methods: tuple[str, ...] = ("uniform", "gptq", "awq")
    widths: tuple[int, ...] = WIDTHS
    group_size: int | str = 128
    symmetric: bool = False
    target: str = "none"
    granularity: Granularity = "type"
    include: tuple[str, ...] = ()
    budget_scope: Scope = "model"
    strategy: str = "surrogate"
    trials: int | None = None
    seconds: float | None = None
    memory: str | None = None
    study: str | None = None
    storage: str | None = field(default=None, repr=False)
    storage_timeout: float = STORAGE_TIMEOUT
    device: str = "auto"
    seed: int = 0
    calibration: int = CALIBRATION_SIZE
    front: bool = False
    min_score: float | None = None
    confidence: float = CONFIDENCE
    rungs: bool = True
    narrowing: bool = True
    cache_memory: str = "256MiB"
    finalize: bool = True
    refine: bool = True
    tune: bool | None = None
    tune_steps: int = TUNE_STEPS
    race: bool = True
    candidates: tuple[str, ...] = ()
    pin: tuple[str, ...] = ()
    at_least: tuple[str, ...] = ()
    at_most: tuple[str, ...] = ()
    at_once: int = 1
    engine: str = "none"
    ray_address: str | None = None

    def __post_init__(self) -> None:
        check_choosable(self.widths)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise SpecError(f"methods {self.methods} must be one or more, each once")
        check_among("granularity", self.granularity, GRANULARITIES)
        check_among("budget scope", self.budget_scope, SCOPES)
        for kind in self.include:
            check_among("part to include", kind, EXTRAS)
        self._check_evaluation()
        if self.seed < 0:
            raise SpecError(f"the seed must not be negative, as {self.seed} is")
        self._check_counts()
        if self.study is not None:
            check_study_name(self.study)
        self._check_times()
        self._check_goal()
        self.pins.check(self.widths, self.methods)
        # all refuse what they cannot read
        self.scheme.check(self.methods)
        TARGETS[self.target].check_widths(self.widths)
        _ = self.limit, self.cache_bytes, self.memory_bytes

    def _check_counts(self) -> None:
        if not 1 <= self.calibration <= CALIBRATION_SIZE:
            raise SpecError(
                f"calibration samples must be 1 to {CALIBRATION_SIZE}, "
                f"not {self.calibration}"
            )
        if not 1 <= self.tune_steps <= MOST_STEPS:
            raise SpecError(
                f"steps of learned rounding must be 1 to {MOST_STEPS:,}, "
                f"not {self.tune_steps}"
            )
        if self.trials is not None and self.trials < 1:
            raise SpecError(f"trials must be 1 or more, not {self.trials}")
        if not 1 <= self.at_once <= MOST_AT_ONCE:
            raise SpecError(
                f"proposals at once must be 1 to {MOST_AT_ONCE}, not {self.at_once}"
            )

    def _check_times(self) -> None:
        if self.seconds is not None and not self.seconds > 0:
            raise SpecError(f"the time limit must be positive, not {self.seconds:g} s")
        if not 0 <= self.storage_timeout < math.inf:
            raise SpecError(
                "the time to wait for a storage must be 0 s or more, not "
                f"{self.storage_timeout:g} s"
            )

    def _check_goal(self) -> None:
        wanted = {
            "a budget": self.budget is not None,
            "the front": self.front,
            "a minimal score": self.min_score is not None,
        }
        given = [name for name, is_wanted in wanted.items() if is_wanted]
        if len(given) != 1:
            raise SpecError(
                f"a search is for one of {', '.join(wanted)}, not for "
                f"{' and '.join(given) or 'none of them'}"
            )
        if self.min_score is not None and not 0 < self.min_score <= 1:
            raise SpecError(
                "the minimal score is a share of full precision's, above 0 and at most "
                f"1, such as 0.98, not {self.min_score:g}"
            )
        if not 0.5 <= self.confidence < 1:
            raise SpecError(
                "the confidence is a probability from 0.5 on and below 1, such as "
                f"0.95, not {self.confidence:g}"
            )
        if self.min_score is None and self.confidence != CONFIDENCE:
            raise SpecError(
                f"a confidence ({self.confidence:g}) goes with a minimal score alone, "
                f"not with {given[0]}"
            )

    def _check_evaluation(self) -> None:
        tasks = self.tasks
        if not all(tasks) or len(set(tasks)) < len(tasks):
            raise SpecError(f"tasks {self.task!r} must be one or more, each once")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise SpecError(
                f"the fraction must be above 0 and at most 1, not {self.fraction:g}"
            )
        if not 1 <= self.beams <= MOST_BEAMS:
            raise SpecError(f"beams must be 1 to {MOST_BEAMS}, not {self.beams}")
        if self.rerank is not None and self.rerank < 1:
            raise SpecError(f"rerank must be 1 or more, not {self.rerank}")
        longest = 1 if self.max_new_tokens is None else self.max_new_tokens
        if not 1 <= longest <= MOST_TOKENS:
            raise SpecError(
                f"the longest reply must be 1 to {MOST_TOKENS:,} tokens, not {longest}"
            )
        if self.prompt is not None:
            check_prompt(self.prompt)
        # refuses what it cannot read
        named_columns(self.columns)

    def tunes(self, parameters: int) -> bool:
        """Whether the rounding of a model of so many parameters is learned."""
        return parameters < TUNED if self.tune is None else self.tune

    @property
    def refines(self) -> bool:
        """Whether single linears may differ from their groups."""
        return self.refine and self.granularity != "component"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks asked."""
        return tuple(self.task.split(JOINED))

    @property
    def selection(self) -> Selection:
        """Which samples of the task are wanted."""
        return Selection(self.seed, self.fraction, self.subset)

    @property
    def scheme(self) -> Scheme:
        """The grid apart from its width."""
        return Scheme(self.group_size, self.symmetric, target=self.target)

    @property
    def pins(self) -> Pins:
        """What is asked of single groups, read."""
        return Pins(self.pin, self.at_least, self.at_most)

    @property
    def limit(self) -> Budget:
        """The budget, read; without one, what everything keeps."""
        # some layouts have vectors in 32 bits
        most = FULL if self.target == "none" else 2 * FULL
        return Budget.parse(self.budget or str(most), self.budget_scope)

    @property
    def cache_bytes(self) -> int:
        """Bytes that states between blocks, encoded images most of all, may take."""
        return read_bytes(self.cache_memory)

    @property
    def memory_bytes(self) -> int | None:
        """Bytes of the host's memory that the process may take; None: all there is."""
        return None if self.memory is None else read_bytes(self.memory)

    @property
    def low_widths(self) -> tuple[int, ...]:
        """Widths that need a bank."""
        return tuple(bits for bits in self.widths if bits != FULL)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """What each group may get, narrow to wide."""
        low = [Choice(bits, m) for bits in self.low_widths for m in self.methods]
        return (*low, Choice(FULL)) if FULL in self.widths else tuple(low)

    @staticmethod
    def from_toml(file: Path, changes: Mapping[str, Any]) -> StudySpec:
        """Read a study written down as TOML; `changes` override it, a goal any goal.

        Raises:
            SpecError: the file is missing, is not TOML, or has an unknown key.
        """
        values = read_toml(file)
        if GOALS & set(changes):
            asked = GOALS if "min_score" in changes else {*GOALS, "confidence"}
            values = {k: v for k, v in values.items() if k not in asked}
        values = {**values, **changes}
        check_options(values)
        if "task" not in values:
            raise SpecError(f"{file} names no task")
        if not GOALS & set(values):
            raise SpecError(f"{file} names no budget, and neither front nor min_score")
        return StudySpec.read(values, file)

    @staticmethod
    def read(values: Mapping[str, Any], file: Path | None = None) -> StudySpec:
        """A study from values that may come from a file.

        What they do not say of widths and grids, the target does.

        Raises:
            SpecError: a value has another type than its option needs.
            UnknownNameError: an option that there is none of.
        """
        check_options(values)
        typed = typed_options(values, file)
        target = target_of(typed.get("target", "none"))
        return StudySpec(**{**target.defaults, **typed})

    def to_json(self) -> dict[str, Any]:
        """Plain data that `StudySpec(**...)` reads again, tuples as lists."""
        return asdict(self)


def check_options(names: Iterable[str], known: Collection[str] = ()) -> None:
    """Refuse names that are no options: by default, no fields of `StudySpec`.

    Raises:
        UnknownNameError: names the known ones, and the near miss.
    """
    known = known or [field.name for field in fields(StudySpec)]
    for name in names:
        if name not in known:
            raise UnknownNameError("study option", name, known)


def check_study_name(name: str) -> str:
    """Return a study name that can be a file's name as well.

    Raises:
        StudyError: anything else.
    """
    if not isinstance(name, str) or not STUDY_NAME.fullmatch(name):
        raise StudyError(
            f"study name {name!r} may have letters, digits, '.', '_' and '-' only, "
            "a letter or digit first, at most 100"
        )
    return name
