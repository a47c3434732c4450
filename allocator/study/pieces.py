"""Pieces that are kept until a study can be written: what they are, how they go in.

An attribute goes in where the study still has what it had when this process knew it
last: whoever wrote since knew better. A score goes to the trial that was begun for it,
which is known by the token it was added under.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial

from allocator.study.once import WRITTEN, written_as

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import optuna
    from optuna.trial import FrozenTrial

    Piece = dict[str, Any]

# kinds of pieces: an attribute of the study, and the score of a trial
ATTRIBUTE, SCORE = "attribute", "score"
DONE = (TrialState.RUNNING, TrialState.COMPLETE)


def attribute_of(name: str, values: Mapping[str, Any]) -> Piece:
    """An attribute of a study: its name, and all small values that it is kept as."""
    return {"kind": ATTRIBUTE, "key": name, "values": dict(values)}


def score_of(number: int, score: float, values: Mapping[str, Any]) -> Piece:
    """The score of a trial, and attributes of the trial that go with it."""
    return {"kind": SCORE, "number": number, "score": score, "values": dict(values)}


def with_context(
    piece: Piece, seen: Mapping[str, Any], begun: Mapping[int, FrozenTrial]
) -> Piece:
    """A piece with what tells later whether it is still wanted.

    Args:
        piece: as the functions above make them.
        seen: attributes of the study as they were last.
        begun: trials that this process began, by number.

    Raises:
        KeyError: the score of a trial that another process began.
    """
    if piece["kind"] == ATTRIBUTE:
        return {**piece, "before": _digest(seen.get(piece["key"]))}
    told = _described(begun[piece["number"]])
    return {**piece, "key": f"trial {told['token']}", "trial": told}


def hand_in(study: optuna.Study, piece: Piece) -> bool:
    """Write a piece into a study; False where it is there, or something newer.

    Raises:
        StudyError: the storage fails.
    """
    storage, study_id = study._storage, study._study_id
    if piece["kind"] == SCORE:
        return _hand_in_score(study, piece)
    kept = storage.get_study_system_attrs(study_id)
    if _digest(kept.get(piece["key"])) != piece["before"]:
        return False
    # in this order: whoever reads finds all of it or none
    for name, value in piece["values"].items():
        storage.set_study_system_attr(study_id, name, value)
    return True


def in_words(pieces: Sequence[Piece]) -> str:
    """How many pieces there are, and of which kind.

    >>> in_words([{"kind": SCORE}, {"kind": ATTRIBUTE}, {"kind": ATTRIBUTE}])
    '1 score and 2 other results'
    """
    scores = sum(piece["kind"] == SCORE for piece in pieces)
    others = len(pieces) - scores
    counts = ((scores, "score"), (others, "other result" if scores else "result"))
    told = [f"{n} {name}{'s' if n > 1 else ''}" for n, name in counts if n]
    return " and ".join(told)


def _digest(value: Any) -> str | None:
    if value is None:
        return None
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _described(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial has to be recorded with anew."""
    kinds = trial.distributions
    return {
        "token": trial.system_attrs[WRITTEN],
        "params": trial.params,
        "distributions": {name: distribution_to_json(kinds[name]) for name in kinds},
        "user": trial.user_attrs,
        "system": trial.system_attrs,
    }


def _hand_in_score(study: optuna.Study, piece: Piece) -> bool:
    told, storage = piece["trial"], study._storage
    trial = written_as(told["token"], study.get_trials(deepcopy=False))
    if trial is not None and trial.state == TrialState.RUNNING:
        try:
            for name, value in piece["values"].items():
                storage.set_trial_system_attr(trial._trial_id, name, value)
            storage.set_trial_state_values(
                trial._trial_id, TrialState.COMPLETE, [piece["score"]]
            )
        except UpdateFinishedTrialError:
            # given up at this moment
            return _recorded(study, piece)
        return True
    if trial is not None and trial.state == TrialState.COMPLETE:
        return False
    return _recorded(study, piece)


def _recorded(study: optuna.Study, piece: Piece) -> bool:
    """Record a score whose trial was given up, or is not there: in a database restored.

    Unless that allocation was measured since, or is being.
    """
    told = piece["trial"]
    digest = told["system"].get("digest")
    others = study.get_trials(deepcopy=False, states=DONE)
    if any(other.system_attrs.get("digest") == digest for other in others):
        return False
    kinds = told["distributions"]
    again = create_trial(
        value=piece["score"],
        params=told["params"],
        distributions={name: json_to_distribution(kinds[name]) for name in kinds},
        user_attrs=told["user"],
        system_attrs={**told["system"], **piece["values"]},
    )
    study.add_trial(again)
    return True
