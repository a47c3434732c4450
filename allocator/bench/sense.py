"""Whether what a model says at full precision makes sense, or what is wrong with it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evals.metrics.agreement import comparable
from evals.taskset import TaskSet, parts_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.core.ports import Sample, Score, Task

# a share of replies cut off that is worth a word
MANY_CUT = 0.1
# of what always giving one answer scores: less is worth a word, and with replies that
# are all cut off it is no score of a model that was asked rightly
FEW = 0.5
# characters of a reply that is shown
SHOWN = 40
CAUSES = (
    "likely causes: prompts or a chat template that are not this model's, quantized "
    "or missing weights, answers of another data set or language, a wrong end token"
)
# of replies that are all references: the share of one that says nothing of a model, and
# one that is worth a word
CONSTANT, USUAL = 0.98, 0.75
SAME = (
    "likely causes: prompts or a chat template that are not this model's, quantized "
    "or missing weights, questions that all have one answer, a wrong end token"
)


@dataclass(frozen=True)
class Said:
    """What predictions for a task were like.

    `count` of them, `empty` ones, those `cut` off at `limit` tokens, and an example
    with what was wanted.
    """

    count: int
    empty: int = 0
    cut: int = 0
    limit: int = 0
    example: str = ""
    wanted: str = ""

    @staticmethod
    def of(
        predictions: Sequence[Any], samples: Sequence[Sample], limit: int, cut: int
    ) -> Said:
        """What predictions were like; rankings are only counted."""
        replies = [each for each in predictions if isinstance(each, str)]
        if not replies:
            return Said(len(samples))
        wanted = samples[0].references[:1] or ("",)
        empty = sum(not reply for reply in replies)
        return Said(len(replies), empty, cut, limit, replies[0], wanted[0])

    @property
    def sentence(self) -> str:
        """The most telling of it."""
        whole, cut = self.count, f"cut off at {self.limit} tokens"
        if self.empty and self.empty == whole:
            why = f", {cut} before they say anything" if self.cut == whole else ""
            return f"all replies are empty{why}"
        if self.cut and self.cut == whole:
            return f"all replies are {cut}{self._shown}"
        if self.cut > MANY_CUT * whole:
            return f"{self.cut} of {whole} replies are {cut}{self._silent}{self._shown}"
        return f"{whole} samples{self._shown}"

    @property
    def _silent(self) -> str:
        return f" and {self.empty} are empty" if self.empty else ""

    @property
    def causes(self) -> str:
        """What may have made them so, where they are odd."""
        longer = "thoughts or answers that need more --max-new-tokens"
        many = self.cut > MANY_CUT * self.count
        return f"{CAUSES}, {longer}" if many else CAUSES

    @property
    def _shown(self) -> str:
        if not self.example:
            return ""
        example, wanted = self.example[:SHOWN], self.wanted[:SHOWN]
        return f", such as {example!r} where {wanted!r} is wanted"


@dataclass(frozen=True)
class Verdict:
    """What is wrong with scores at full precision: refused, or worth a word."""

    refused: str | None = None
    warnings: tuple[str, ...] = ()


def judge(
    model: str,
    tasks: Mapping[str, tuple[float, Said]],
    constant: Mapping[str, tuple[str, float]],
) -> Verdict:
    """Judge scores of one model.

    Args:
        model: its name, for sentences.
        tasks: score and predictions by task.
        constant: by task the most frequent answer and what it alone scores, where
            that is known.
    """
    warnings: list[str] = []
    for task, (score, said) in tasks.items():
        scores = f"{model} scores {score:.4g} on {task} at full precision"
        answer, least = constant.get(task, ("", 0.0))
        low = least > 0 and score < FEW * least
        empty, cut = (n == said.count > 0 for n in (said.empty, said.cut))
        if not math.isfinite(score) or score == 0 or empty or (cut and low):
            return Verdict(
                f"{scores} ({said.sentence}): {said.causes}", tuple(warnings)
            )
        if low:
            warnings.append(
                f"{scores} ({said.sentence}), less than half of the {least:.4g} that "
                f"always replying {answer!r} would; {said.causes}"
            )
        elif said.cut > MANY_CUT * said.count:
            warnings.append(f"{scores}: {said.sentence}; {said.causes}")
    return Verdict(None, tuple(warnings))


def judge_replies(model: str, replies: Sequence[str], cut: int, limit: int) -> Verdict:
    """Judge what a model says at full precision, where nothing else is right.

    Args:
        model: its name, for sentences.
        replies: to all samples that are scored.
        cut: how many of them were cut off at `limit` tokens.
        limit: tokens of the longest reply.
    """
    reply, times = Counter(map(comparable, replies)).most_common(1)[0]
    count, share = len(replies), times / len(replies)
    said = f"{reply[:SHOWN]!r}" if reply else "nothing"
    told = f"{model} replies {said} to {times} of {count} samples at full precision"
    if share >= CONSTANT:
        return Verdict(f"{told}, and agreement with that means nothing: {SAME}")
    warnings = []
    if share >= USUAL:
        warnings.append(
            f"{told}: whatever always says so agrees with {100 * share:.0f} % of them"
        )
    if cut:
        warnings.append(
            f"{cut} of {count} replies of full precision are cut off at {limit} "
            "tokens, and are compared as far as they go"
        )
    return Verdict(None, tuple(warnings))


def scores_of(
    task: Task | TaskSet, score: Score, said: Mapping[str, Said]
) -> dict[str, tuple[float, Said]]:
    """Score and predictions of each task, as `judge` takes them."""
    if isinstance(task, TaskSet):
        means = {name: value for name, value in score.details.items() if name in said}
    else:
        means = {task.name: score.mean}
    return {name: (mean, said.get(name, Said(0))) for name, mean in means.items()}


def constant_scores(
    task: Task | TaskSet, calibration: Sequence[Sample], samples: Sequence[Sample]
) -> dict[str, tuple[str, float]]:
    """By task the most frequent calibration answer, and what it alone would score."""
    found = {}
    known = {part.name: own for part, own in parts_of(task, calibration)}
    for part, own in parts_of(task, samples):
        answers = Counter(a for s in known.get(part.name, ()) for a in s.references)
        # a task of lmms-eval may ask a judge that costs money
        if part.needs == "reply" and answers and not part.name.startswith("lmms:"):
            answer = answers.most_common(1)[0][0]
            found[part.name] = answer, part.score([answer] * len(own), own).mean
    return found
