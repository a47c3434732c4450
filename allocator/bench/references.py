"""References of a task that a model itself answers: its replies at full precision.

They are made once: what decides them names them, and they are remembered below the
cache, so that a bank, an evaluation and a search calibrate on the same. A study keeps
its own, which count before what is remembered: it goes on where the cache is gone, and
in whatever process.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from allocator.bench.loading import judges_of, open_full_precision
from allocator.bench.sense import judge_replies
from allocator.bench.tasks import sample_digest, without_references
from allocator.core.allocation import digest
from allocator.core.bounded import LARGEST_UNPACKED, read_json
from allocator.core.drafts import clear_drafts
from allocator.core.errors import ModelError
from allocator.core.home import cache_home
from allocator.core.own import refers_to_itself
from evals.metrics.agreement import agreeing
from evals.taskset import tasks_of
from quant.files import locked, replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Sample
    from allocator.core.watch import Watch
    from allocator.study.journal import Journal

    Sets = Mapping[str, tuple[Sample, ...]]

# phase and part of a forecast
PHASE = "references"
# an attribute of a study, by what decides the replies; counts up when that changes
KEPT, FORMAT = "full precision replies:", 1
# further calibration samples, which judge what was tuned on the others
JUDGES = "judges"
# samples that are asked once more, among others, and how full precision is scored
AGAIN, SCORED = 32, ("search", "evaluation")
# stands for replies that nobody knows yet, where only their length counts
SOME_REPLY = "yes"


@dataclass(frozen=True)
class Replies:
    """What full precision replied to a set of samples, `cut` of it cut off."""

    texts: tuple[str, ...]
    cut: int

    def to(self, samples: Sequence[Sample]) -> tuple[Sample, ...]:
        """Samples whose reference is what was replied to them."""
        pairs = zip(samples, self.texts, strict=True)
        return tuple(replace(sample, references=(said,)) for sample, said in pairs)

    @staticmethod
    def read(kept: Any, count: int) -> Replies | None:
        """Replies as plain data; None for what is none of so many samples."""
        try:
            texts, cut = tuple(kept["texts"]), int(kept["cut"])
        except (TypeError, KeyError, ValueError):
            return None
        is_whole = len(texts) == count and all(isinstance(t, str) for t in texts)
        return Replies(texts, cut) if is_whole else None


def referred(
    setup: Setup,
    watch: Watch,
    bench: Workbench | None = None,
    journal: Journal | None = None,
) -> Setup:
    """A setup whose samples have references, if its task leaves them to the model.

    Args:
        setup: the request.
        watch: is shown the phase "references" where the model has to be asked.
        bench: the model, loaded; by default it is loaded where it has to be asked.
        journal: the study that keeps them.

    Raises:
        ModelError: the model replies nothing, or the same to everything: then
            agreement with it means nothing.
    """
    if not refers_to_itself(setup.task) or _is_referred(setup):
        return setup
    sets = _sets(setup)
    found = replies_to(setup, sets, watch, bench, journal)
    scored = [name for name in SCORED if name in sets]
    if scored:
        said = [text for name in scored for text in found[name].texts]
        cut = sum(found[name].cut for name in scored)
        (longest,) = _longest(setup)
        verdict = judge_replies(setup.asked.model, said, cut, longest)
        for line in verdict.warnings:
            watch.say(line)
        if verdict.refused:
            raise ModelError(verdict.refused)
    return _with(setup, {name: found[name].to(own) for name, own in sets.items()})


def foretold(setup: Setup) -> tuple[Setup, int | None]:
    """A setup whose samples have references, remembered or, in length, about right.

    Returns:
        The setup, and for how many samples the model has yet to be asked (None: its
        task does not leave references to the model).
    """
    if not refers_to_itself(setup.task) or _is_referred(setup):
        return setup, 0 if refers_to_itself(setup.task) else None
    sets, lacking = _sets(setup), 0
    told: dict[str, tuple[Sample, ...]] = {}
    for name, own in sets.items():
        known = _recall(_named(setup, own), len(own))
        lacking += 0 if known else len(own)
        told[name] = (known or Replies((SOME_REPLY,) * len(own), 0)).to(own)
    return _with(setup, told), lacking


def replies_to(
    setup: Setup,
    sets: Sets,
    watch: Watch,
    bench: Workbench | None = None,
    journal: Journal | None = None,
) -> dict[str, Replies]:
    """What full precision replies to sets of samples; each set is asked as a whole.

    The arguments are those of `referred`.
    """
    names = {name: _named(setup, own) for name, own in sets.items()}
    if journal is not None:
        _adopt(journal, {names[name]: len(own) for name, own in sets.items()})
    found = {name: _recall(names[name], len(own)) for name, own in sets.items()}
    lacking = {n: without_references(sets[n]) for n, each in found.items() if not each}
    if lacking:
        bench = bench or open_full_precision(setup)
        total, done = sum(map(len, lacking.values())), 0
        with watch.phase(PHASE) as progress:
            for name, own in lacking.items():

                def tell(more: int, before: int = done) -> object:
                    return progress(before + more, total)

                found[name] = _asked(setup, bench, names[name], own, tell)
                done += len(own)
                progress(done, total)
            _tell_unsteady(setup, bench, watch, lacking, found)
    return {
        name: _agreed(journal, names[name], each)
        for name, each in found.items()
        if each is not None
    }


def _asked(
    setup: Setup, bench: Workbench, name: str, samples: Sequence[Sample], tell: Any
) -> Replies:
    """What full precision replies, remembered; another process may have it by now."""
    folder = _home()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{name}.lock"):
        known = _recall(name, len(samples))
        if known is not None:
            return known
        texts = tuple(bench.predictions(setup.space.full, samples, tell))
        # nobody is to judge them as replies that are scored
        found = Replies(texts, sum(said.cut for said in bench.said.values()))
        bench.said.clear()
        _remember(name, found)
        return found


def _tell_unsteady(
    setup: Setup,
    bench: Workbench,
    watch: Watch,
    asked: Sets,
    found: Mapping[str, Replies | None],
) -> None:
    """Say where full precision itself replies otherwise among other samples.

    Numbers are rounded otherwise in batches of other sizes, in 16 bits most of all.
    """
    for which in SCORED:
        own, known = asked.get(which), found.get(which)
        if not own or known is None:
            continue
        # every second at most: all of them would be the same batches once more
        places = range(0, len(own), max(2, len(own) // AGAIN))[:AGAIN]
        again = bench.predictions(setup.space.full, [own[at] for at in places])
        bench.said.clear()
        values = agreeing(again, [known.texts[at] for at in places])
        if other := values.count(0.0):
            watch.say(
                f"asked again among other samples, {setup.asked.model} at full "
                f"precision gives {other} of {len(values)} other replies: differences "
                "in agreement of that order mean nothing"
            )
        return


def adopt(setup: Setup, journal: Journal) -> None:
    """Remember the references that a study keeps, if its task has such."""
    if refers_to_itself(setup.task):
        own = _sets(setup).values()
        _adopt(journal, {_named(setup, samples): len(samples) for samples in own})


def kept_replies(setup: Setup, journal: Journal) -> dict[str, Any]:
    """What a study keeps of references, for who cannot reach it: `adopt` takes it."""
    if not refers_to_itself(setup.task):
        return {}
    names = [KEPT + _named(setup, own) for own in _sets(setup).values()]
    return {name: journal.attribute(name) for name in names}


def _adopt(journal: Journal, counts: Mapping[str, int]) -> None:
    """Let what a study keeps count, whatever is remembered."""
    for name, count in counts.items():
        kept = Replies.read(journal.attribute(KEPT + name), count)
        if kept is not None and kept != _recall(name, count):
            _remember(name, kept)


def _agreed(journal: Journal | None, name: str, own: Replies) -> Replies:
    """What the study keeps, whoever came first; ours where that is nobody."""
    if journal is None:
        return own
    kept = journal.attribute(KEPT + name)
    if kept is None:
        journal.set_attribute(KEPT + name, asdict(own))
        # another process may have been at it as well
        kept = journal.attribute(KEPT + name)
    found = Replies.read(kept, len(own.texts)) or own
    if found != own:
        _remember(name, found)
    return found


def _sets(setup: Setup) -> dict[str, tuple[Sample, ...]]:
    """Sets of samples that need references."""
    sets: dict[str, tuple[Sample, ...]] = {k: own for k, own in setup.samples.items()}
    asked = setup.asked
    # who only evaluates tunes nothing
    if "search" in sets and asked.finalize and asked.tunes(setup.model.parameters):
        sets[JUDGES] = judges_of(setup)
    return {name: own for name, own in sets.items() if own}


def _with(setup: Setup, sets: Sets) -> Setup:
    samples = {split: sets.get(split, ()) for split in setup.samples}
    return replace(setup, samples=samples, judges=sets.get(JUDGES, ()))


def _is_referred(setup: Setup) -> bool:
    return all(s.references for own in setup.samples.values() for s in own)


def _named(setup: Setup, samples: Sequence[Sample]) -> str:
    """Digest of all that decides what is replied: who is asked, how, and with whom."""
    held = setup.contents.of([sample.image for sample in samples], "pictures")
    asked = without_references(samples)
    return digest(
        {
            "format": FORMAT,
            "weights": setup.weights,
            "arithmetic": setup.arithmetic,
            "decoding": [setup.asked.beams, *_longest(setup)],
            "samples": [sample_digest(each, held[each.image]) for each in asked],
        }
    )


def _longest(setup: Setup) -> list[int]:
    """Tokens of the longest reply, by task."""
    return [each.max_new_tokens for each in tasks_of(setup.task)]


def _home() -> Path:
    return cache_home() / "replies"


def _recall(name: str, count: int) -> Replies | None:
    """Replies that are remembered; None where the file is not what was written."""
    try:
        kept = read_json(_home() / f"{name}.json", LARGEST_UNPACKED)
        whole = kept.pop("digest") == digest(kept)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None
    return Replies.read(kept, count) if whole else None


def _remember(name: str, replies: Replies) -> None:
    """Remember replies; where nothing can be written, they are asked for again."""
    kept = asdict(replies)
    text = json.dumps({**kept, "digest": digest(kept)})
    with suppress(OSError):
        clear_drafts(_home())
        replace_file(_home() / f"{name}.json", lambda draft: draft.write_text(text))
