"""Pictures, prompts and replies of the whole model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.allocation import FULL, Allocation, Choice
from quant.lru_cache import LRUCache
from tests.models import some_questions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Sample, State
    from studies.gpu._session import Session

# of the batches in which parts of the model are timed: samples of one prompt each
BATCH = 8
# pictures whose questions are answered, and tokens of short and of long replies
PICTURES, SHORT, MIDDLE, LONG = 8, 1, 3, 10


class Replying:
    """A task with replies of so many tokens."""

    def __init__(self, task: Any, tokens: int) -> None:
        self.task, self.max_new_tokens = task, tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)


def model(session: Session) -> dict[str, Any]:
    """Make the whole model on the device."""
    spec = session.bench().spec
    return {"parameters": spec.parameters, "weights": spec.weights}


def questions(session: Session, name: str = "pictures") -> list[Sample]:
    """Pictures with as many questions each as VQAv2 has."""
    count = 2 if session.small else PICTURES
    return some_questions(session.folder / name, count)


def apart(
    session: Session, samples: Sequence[Sample], name: str = "apart"
) -> list[Sample]:
    """The same questions, each of a picture of its own: nothing is shared."""
    folder = session.folder / name
    folder.mkdir(exist_ok=True)
    return [
        replace(each, image=shutil.copy(each.image, folder / f"{each.id}.jpg"))
        for each in samples
    ]


def one_batch(session: Session) -> list[Sample]:
    """As many samples as parts are timed with, each of a picture of its own."""
    return apart(session, questions(session))[:BATCH]


def vision(session: Session) -> dict[str, Any]:
    """What a picture takes: read and processed on the host, encoded on the device."""
    bench, samples = session.bench(), one_batch(session)
    model = bench.model
    state = model.inputs(samples)
    # others, since what was read last is at hand
    fresh = apart(session, questions(session), "fresh")[:BATCH]
    host = session.seconds(lambda: model.inputs(fresh)) / len(fresh)
    encoded = session.median(lambda: run(session, state, prefix=True)) / len(samples)
    return {
        "picture": {"each": host + encoded, "of": "a picture, one after the other"},
        "picture processed": {"each": host, "of": "a picture, by one thread"},
        "picture encoded": {"each": encoded, "of": "a picture, in front of language"},
    }


@torch.inference_mode()
def run(session: Session, state: State, *, prefix: bool) -> State:
    """The stages in front of the language model, or its own."""
    model = session.bench().model
    for stage in model.stages():
        if (stage.component in model.prefix) == prefix:
            state = stage.run(state)
    return state


def prompts(session: Session) -> dict[str, Any]:
    """What a token of a prompt takes, all its logits made."""
    model, samples = session.bench().model, one_batch(session)
    state = run(session, model.inputs(samples), prefix=True)
    tokens = int(state["attention_mask"].numel())
    whole = session.median(lambda: run(session, state, prefix=False))
    return {
        "tokens": tokens,
        "prompt": {"each": whole / tokens, "of": f"a token, {len(samples)} prompts"},
        "whole prompt": {"each": whole / len(samples), "of": "a prompt"},
    }


def generation(session: Session) -> dict[str, Any]:
    """Replies by the bench, where questions share pictures and where they do not.

    Of pictures that are encoded already, so that it is the language model that counts.
    """
    samples = questions(session)
    found: dict[str, Any] = {}
    for name, own in (("branching", samples), ("apart", apart(session, samples))):
        taken = {n: replying(session, own, n) for n in (SHORT, LONG)}
        steps = (LONG - SHORT) * len(own)
        each = (taken[LONG][0] - taken[SHORT][0]) / steps
        found[f"tokens {name}"] = taken[SHORT][1]
        found |= {
            f"reply {name}": {"each": each, "of": "a token of a reply, in its batch"},
            f"first token {name}": {
                "each": taken[SHORT][0] / len(own),
                "of": "a sample up to the first token of its reply",
            },
        }
    found["reply"] = found["reply branching"]
    # pictures that nobody has read yet
    others = questions(session, "others")
    whole = session.seconds(lambda: answer(session, others, MIDDLE))
    found["question"] = {
        "each": whole / len(samples),
        "of": f"a question with {MIDDLE} tokens of reply, its picture read and encoded",
    }
    return {
        "samples": len(samples),
        "pictures": len({s.image for s in samples}),
        **found,
    }


def replying(
    session: Session, samples: Sequence[Sample], tokens: int
) -> tuple[float, int]:
    """Seconds for replies of so many tokens, and tokens read of all prompts."""
    bench = session.bench()
    # large enough for whatever is looked at here
    bench.features = LRUCache(2**33)
    answer(session, samples, tokens)
    before = bench.cost.tokens["language"]
    seconds = session.seconds(lambda: answer(session, samples, tokens))
    read = bench.cost.tokens["language"] - before
    return seconds, read - len(samples) * (tokens - 1)


def answer(session: Session, samples: Sequence[Sample], tokens: int) -> None:
    """Score full precision on samples, with replies of so many tokens."""
    bench = session.bench()
    usual, bench.task = bench.task, Replying(bench.task, tokens)  # type: ignore[assignment]
    try:
        bench.score(Allocation.uniform(bench.spec, Choice(FULL)), samples)
    finally:
        bench.task = usual
