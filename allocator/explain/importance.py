"""What scored allocations say about a model: which parts matter, and which together."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.core.allocation import FULL
from allocator.explain.evidence import LEVELS, Evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from surrogate.importance import Analysis, Importance
    from surrogate.interactions import Interactions
    from surrogate.measures import Effort

# columns that are asked in pairs whether they hurt more together, where no component is
MOST_PARTS = 4
MEASURES = ("impurity", "permutation", "shap")
BESIDE = ("out_of_fold_permutation", "xgboost_shap")


def effects(
    evidence: Evidence,
    progress: Callable[[int, int], object] | None = None,
    everything: Evidence | None = None,
) -> dict[str, Any]:
    """Importance, interactions and joint effects, as `--json` prints them.

    Joint effects are those of `everything`, where that is more: they compare with what
    stays at full precision.
    """
    from surrogate.measures import THOROUGH

    found = analysis_of(evidence, THOROUGH, progress)
    pairs = interactions_between(evidence, "group")
    named = "component" in evidence.levels
    components = interactions_between(evidence, "component").pairs if named else ()
    return {
        "importance": importance_json(found, evidence),
        "interactions": {
            "group": [asdict(pair) for pair in pairs.pairs],
            "component": [asdict(pair) for pair in components],
            "holdout_r2": pairs.holdout_r2,
            "reason": pairs.reason,
        },
        "together": interaction_contrasts(everything or evidence),
    }


def interactions_between(evidence: Evidence, level: str) -> Interactions:
    """Pairs of a level's names whose effects depend on each other."""
    from surrogate.interactions import interactions

    return interactions(
        evidence.table,
        evidence.scores,
        evidence.columns,
        owners=evidence.per_column(evidence.levels[level]),
        seed=evidence.seed,
    )


def analysis_of(
    evidence: Evidence,
    effort: Effort,
    progress: Callable[[int, int], object] | None = None,
) -> Analysis:
    """Importance at every level that the names of the groups tell."""
    from surrogate.importance import analyse

    levels = evidence.levels.items()
    return analyse(
        evidence.table,
        evidence.scores,
        evidence.columns,
        levels={level: evidence.per_column(owners) for level, owners in levels},
        clusters=evidence.clusters,
        imputation=evidence.imputation,
        seed=evidence.seed,
        effort=effort,
        progress=progress,
    )


def importance(evidence: Evidence) -> dict[str, Any]:
    """Importance alone, with less effort: what a search ends with."""
    from surrogate.measures import QUICK

    return importance_json(analysis_of(evidence, QUICK), evidence)


def importance_json(found: Analysis, evidence: Evidence) -> dict[str, Any]:
    """Plain data, as `--json` prints it: shares in percent at every level."""
    none = "The names of the groups tell none."
    return {
        **{
            level: _shares(found.levels[level]) if level in found.levels else {}
            for level in LEVELS
        },
        "unreliable": {
            level: found.reason if level in found.levels else none for level in LEVELS
        },
        "agreement": {level: each.agreement for level, each in found.levels.items()},
        "models": {name: asdict(fit) for name, fit in found.models.items()},
        "rows": found.rows,
        "measured": measured_rows(found, evidence),
        "worth": found.worth,
        "constant": [
            name
            for name in found.constant
            if name in evidence.keys and name not in evidence.by_method
        ],
        "warning": found.warning,
    }


def _shares(found: Importance) -> dict[str, Any]:
    shares: dict[str, Any] = {}
    for at, name in enumerate(found.names):
        shares[name] = {
            "consensus": float(found.consensus[at]),
            "ci95": found.ci95[at].tolist(),
            **{each: float(getattr(found, each)[at]) for each in MEASURES},
        }
        for each in BESIDE:
            values = getattr(found, each)
            shares[name][each] = None if values is None else float(values[at])
        shares[name]["impurity_ci95"] = found.impurity_ci95[at].tolist()
    return shares


def measured_rows(found: Analysis, evidence: Evidence) -> int:
    """How many of the rows were measured; the others were looked at."""
    if evidence.imputation is None:
        return found.rows
    return int(evidence.imputation.measured.sum())


def interaction_contrasts(evidence: Evidence) -> list[dict[str, Any]]:
    """Whether quantizing two components together costs more than each alone."""
    from surrogate.interaction_contrast import interaction_contrast

    owners = list(dict.fromkeys(evidence.owners))
    if len(owners) > MOST_PARTS:
        return []
    # what is lost where scores are better when lower is what they rise by
    scores = evidence.scores if evidence.higher_is_better else -evidence.scores
    full = max(float(FULL), float(evidence.bits.max()))
    effects = []
    for first, second in itertools.combinations(owners, 2):
        found = interaction_contrast(
            evidence.bits,
            scores,
            evidence.owners,
            first,
            second,
            full=full,
            weights=evidence.weights,
            seed=evidence.seed,
        )
        if found is not None:
            effects.append({**asdict(found), "ci95": list(found.ci95)})
    return effects


def contributions_json(
    evidence: Evidence, at: int, *, is_new: bool = False
) -> dict[str, Any]:
    """What each group adds to the predicted score of row `at`, in the metric's unit.

    From a row that `is_new`, with no score of its own, nothing is learned.
    SHAP values of the forest that importance comes from: they add up to `predicted`
    less `mean`, the forest's mean prediction.
    """
    from surrogate.contributions import contributions

    table, scores = evidence.table, evidence.scores
    known = np.arange(len(scores)) != at if is_new else np.full(len(scores), True)
    found = contributions(
        table[known], scores[known], table[at : at + 1], seed=evidence.seed
    )
    parts = dict.fromkeys(evidence.keys, 0.0)
    owners = evidence.per_column(evidence.keys)
    for key, part in zip(owners, found.parts[0], strict=True):
        parts[key] += float(part)
    return {
        "predicted": float(found.predicted[0]),
        "mean": float(found.mean),
        "contributions": parts,
    }
