"""Pieces that are kept until a study can be written: what they are, how they go in.

An attribute goes in where the study still has what it had when this process read it
last: whoever wrote since knew better. A score goes to the trial that was begun for it,
which is known by the token it was added under.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import TrialState, create_trial

from allocator.study.once import WRITTEN, written_as

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import optuna
    from optuna.trial import FrozenTrial

    Deed = Callable[..., None]
    Entry = dict[str, Any]

# names of the functions that write them: an attribute, and the score of a trial
ATTRIBUTE, SCORE = "keep_with", "complete_trial"
BEGUN, DONE = (TrialState.RUNNING,), (TrialState.RUNNING, TrialState.COMPLETE)
# functions that write pieces, by their names
deeds: dict[str, Deed] = {}


def entry_of(
    deed: str,
    given: Sequence[Any],
    seen: Mapping[str, Any],
    begun: Mapping[int, FrozenTrial],
) -> Entry:
    """A piece as plain data.

    Args:
        deed: name of the function that writes it.
        given: what that is given, behind the study.
        seen: attributes of the study as they were last.
        begun: trials that this process began, by number.

    Raises:
        KeyError: the score of a trial that another process began.
    """
    entry = {"deed": deed, "given": list(given)}
    if deed == ATTRIBUTE:
        name = given[0]
        return {**entry, "key": f"{deed} {name}", "before": _digest(seen.get(name))}
    if deed == SCORE:
        trial = _described(begun[given[0]])
        return {**entry, "key": f"{deed} {trial['token']}", "trial": trial}
    return {**entry, "key": f"{deed} {_digest(list(given))}"}


def hand_in(study: optuna.Study, entry: Entry) -> bool:
    """Write a piece into a study; False where it is there, or something newer.

    Raises:
        StudyError: the storage fails.
        KeyError: the piece is of a kind that is not known.
    """
    write, given = deeds[entry["deed"]], entry["given"]
    if entry["deed"] == ATTRIBUTE:
        kept = study._storage.get_study_system_attrs(study._study_id)
        if _digest(kept.get(given[0])) != entry["before"]:
            return False
    elif entry["deed"] == SCORE:
        number = _number(study, entry["trial"])
        if number is None:
            return False
        given = [number, *given[1:]]
    write(study, *given)
    return True


def in_words(entries: Sequence[Entry]) -> str:
    """How many pieces there are, and of which kind.

    >>> in_words([{"deed": SCORE}, {"deed": ATTRIBUTE}, {"deed": ATTRIBUTE}])
    '1 score and 2 other results'
    """
    scores = sum(entry["deed"] == SCORE for entry in entries)
    others = len(entries) - scores
    kind = "other result" if scores else "result"
    counts = ((scores, "score"), (others, kind))
    told = [f"{n} {name}{'s' if n > 1 else ''}" for n, name in counts if n]
    return " and ".join(told)


def _digest(value: Any) -> str | None:
    if value is None:
        return None
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _described(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial has to be begun with anew."""
    kinds = trial.distributions
    return {
        "token": trial.system_attrs[WRITTEN],
        "params": trial.params,
        "distributions": {name: distribution_to_json(kinds[name]) for name in kinds},
        "user": trial.user_attrs,
        "system": trial.system_attrs,
    }


def _number(study: optuna.Study, told: Mapping[str, Any]) -> int | None:
    """The trial that a score is of: begun anew where the study does not know it.

    So it is where a database was restored. None where that allocation is measured, or
    is being.
    """
    trial = written_as(told["token"], study.get_trials(deepcopy=False))
    if trial is not None:
        return None if trial.state == TrialState.COMPLETE else trial.number
    digest = told["system"].get("digest")
    others = study.get_trials(deepcopy=False, states=DONE)
    if any(other.system_attrs.get("digest") == digest for other in others):
        return None
    kinds = told["distributions"]
    again = create_trial(
        state=TrialState.RUNNING,
        params=told["params"],
        distributions={name: json_to_distribution(kinds[name]) for name in kinds},
        user_attrs=told["user"],
        system_attrs=told["system"],
    )
    found = study._storage.create_new_trial(study._study_id, again)
    return study._storage.get_trial(found).number
