"""What scored allocations say about a model: which parts matter, and which together."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.core.allocation import FULL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation
    from surrogate.importance import Analysis, Importance
    from surrogate.interactions import Interactions
    from surrogate.measures import Effort

    Array = NDArray[np.float64]

LEVELS = ("component", "block_group", "layer_type", "group")
# columns that are asked in pairs whether they hurt more together, where no component is
MOST_PARTS = 4
MEASURES = ("impurity", "permutation", "shap")
BESIDE = ("out_of_fold_permutation", "xgboost_shap")


@dataclass(frozen=True, eq=False)
class Evidence:
    """Scored allocations as numbers.

    `bits` is [n, k] for the k groups `keys`, `scores` [n] in the metric's unit, higher
    is better; `weights` are the groups' sizes in any unit, None where nobody knows.
    `methods` [n, m] are codes of the methods of the m groups `by_method`, those that
    did not always get the same.
    """

    keys: tuple[str, ...]
    bits: Array
    scores: Array
    weights: tuple[float, ...] | None = None
    seed: int = 0
    by_method: tuple[str, ...] = ()
    methods: Array | None = None

    @staticmethod
    def of(
        keys: Sequence[str],
        scored: Sequence[tuple[Allocation, float]],
        weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> Evidence:
        """Evidence of scored allocations."""
        from surrogate.features import bit_matrix, method_matrix

        allocations = [allocation for allocation, _ in scored]
        by_method, methods = method_matrix(keys, allocations)
        return Evidence(
            tuple(keys),
            bit_matrix(keys, allocations),
            np.array([score for _, score in scored], dtype=np.float64),
            None if weights is None else tuple(weights),
            seed,
            by_method,
            methods,
        )

    @property
    def table(self) -> Array:
        """What models are fitted to, [n, k + m]: bits, and methods where they vary."""
        return (
            self.bits if self.methods is None else np.hstack([self.bits, self.methods])
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `table`."""
        return (*self.keys, *(f"{key} method" for key in self.by_method))

    def per_column(self, owners: Sequence[str]) -> list[str]:
        """Owners of the groups as owners of the columns."""
        own = dict(zip(self.keys, owners, strict=True))
        return [*owners, *(own[key] for key in self.by_method)]

    @property
    def levels(self) -> dict[str, list[str]]:
        """For each level the owner of every group; groups alone where no name tells.

        Names of three parts, `component.part.type` or `vit_front_attn` or with `_bits`
        behind, tell the component, the block group and the layer type.
        """
        names = [parts_of(key) for key in self.keys]
        levels = {"group": list(self.keys)}
        if all(len(name) == 3 for name in names):
            levels = {
                "component": [name[0] for name in names],
                "block_group": [f"{name[0]}.{name[1]}" for name in names],
                "layer_type": [f"{name[0]}.{name[2]}" for name in names],
                **levels,
            }
        return levels

    @property
    def owners(self) -> list[str]:
        """The component of every group, or the group itself where none is named."""
        levels = self.levels
        return levels.get("component", levels["group"])


def parts_of(key: str) -> list[str]:
    """The parts a group's name tells: component, part and layer type, or fewer.

    >>> parts_of("vit_front_attn_bits")
    ['vit', 'front', 'attn']
    """
    return key.split(".") if "." in key else key.removesuffix("_bits").split("_")


def explain(
    evidence: Evidence, progress: Callable[[int, int], object] | None = None
) -> dict[str, Any]:
    """Importance, interactions and joint effects, as `--json` prints them."""
    from surrogate.measures import THOROUGH

    found = analysed(evidence, THOROUGH, progress)
    pairs = acting_together(evidence, "group")
    named = "component" in evidence.levels
    components = acting_together(evidence, "component").pairs if named else ()
    return {
        "importance": importance_json(found, evidence),
        "interactions": {
            "group": [asdict(pair) for pair in pairs.pairs],
            "component": [asdict(pair) for pair in components],
            "holdout_r2": pairs.holdout_r2,
            "reason": pairs.reason,
        },
        "together": joint_effects(evidence),
    }


def acting_together(evidence: Evidence, level: str) -> Interactions:
    """Pairs of a level's names whose effects depend on each other."""
    from surrogate.interactions import interactions

    return interactions(
        evidence.table,
        evidence.scores,
        evidence.columns,
        owners=evidence.per_column(evidence.levels[level]),
        seed=evidence.seed,
    )


def analysed(
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
        seed=evidence.seed,
        effort=effort,
        progress=progress,
    )


def importance(evidence: Evidence) -> dict[str, Any]:
    """Importance alone, with less effort: what a search ends with."""
    from surrogate.measures import QUICK

    return importance_json(analysed(evidence, QUICK), evidence)


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
        interval = found.impurity_ci95
        shares[name]["impurity_ci95"] = (
            None if interval is None else interval[at].tolist()
        )
    return shares


def joint_effects(evidence: Evidence) -> list[dict[str, Any]]:
    """Whether quantizing two components together costs more than each alone."""
    from surrogate.interaction_contrast import together

    owners = list(dict.fromkeys(evidence.owners))
    if len(owners) > MOST_PARTS:
        return []
    effects = []
    for first, second in itertools.combinations(owners, 2):
        found = together(
            evidence.bits,
            evidence.scores,
            evidence.owners,
            first,
            second,
            full=float(FULL),
            weights=evidence.weights,
            seed=evidence.seed,
        )
        if found is not None:
            effects.append({**asdict(found), "ci95": list(found.ci95)})
    return effects


def contributions_json(evidence: Evidence, at: int) -> dict[str, Any]:
    """What each group adds to the predicted score of row `at`, in the metric's unit.

    SHAP values of the forest that importance comes from: they add up to `predicted`
    less `mean`, the forest's mean prediction.
    """
    from surrogate.contributions import contributions

    table = evidence.table
    found = contributions(
        table, evidence.scores, table[at : at + 1], seed=evidence.seed
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
