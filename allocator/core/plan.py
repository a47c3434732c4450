"""A plan: an allocation written down as JSON, by a search or by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import FULL, Allocation, Choice, Scheme
from allocator.core.bounded import read_json
from allocator.core.errors import SpecError
from allocator.core.holding import check_fused
from allocator.core.study import CALIBRATION_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from allocator.core.spec import ModelSpec
    from allocator.core.study import StudySpec

# what defines the score of a plan beside its model, samples and groups
ALWAYS = ("task", "fraction", "subset", "beams", "rerank")
ASKED = (*ALWAYS, "metric", "columns", "prompt", "max_new_tokens", "skip_broken")
FORM = 'it has "model", "scheme" and "groups": {key: {"bits": 4, "method": "gptq"}}'
# folder beside a plan file, with its finalized weights
FINALIZED = "finalized"


@dataclass(frozen=True)
class Plan:
    """Model, scheme and a choice for each group.

    `seed` and `calibration` are those the search chose its calibration samples with:
    others quantize differently. `asked` are task, fraction, subset, beams and rerank of
    the search, for its score to be measured again; `layers` and `group_sizes` are what
    the file says of single linears, `exceptions` those that it says to differ from
    their groups. `finalized` names the weights beside the file that
    were quantized in sequence for it (`quant.sequential`); None: the cells of a bank.
    """

    model: str
    scheme: Scheme
    groups: Mapping[str, Choice]
    seed: int = 0
    calibration: int = CALIBRATION_SIZE
    asked: Mapping[str, Any] = field(default_factory=dict)
    layers: Mapping[str, Choice] = field(default_factory=dict)
    finalized: str | None = None
    group_sizes: Mapping[str, int | str] = field(default_factory=dict)
    exceptions: frozenset[str] = frozenset()

    @staticmethod
    def read(file: Path) -> Plan:
        """Read a plan file.

        Raises:
            SpecError: the file is missing, is not JSON, or lacks or misspells a part.
        """
        try:
            data = read_json(file)
        except FileNotFoundError:
            raise SpecError(f"there is no plan file {file}") from None
        except (OSError, ValueError) as error:
            raise SpecError(f"{file} cannot be read as JSON: {error}") from None
        return Plan.from_json(data, str(file))

    @staticmethod
    def from_json(data: Any, source: str) -> Plan:
        """Read what `plan_json` made, or a person.

        Raises:
            SpecError: it lacks or misspells a part; names the source.
        """
        if not isinstance(data, dict):
            raise SpecError(f"{source} is not a plan (no object of JSON); {FORM}")
        try:
            scheme = data.get("scheme", {})
            symmetric = _typed(scheme.get("symmetric", False), bool)
            layers = data.get("layers", {})
            return Plan(
                _typed(data["model"], str),
                Scheme(
                    scheme.get("group_size", 128),
                    symmetric,
                    target=_typed(scheme.get("target", "none"), str),
                ),
                _choices(data["groups"]),
                _typed(data.get("seed", 0), int),
                _typed(data.get("calibration", CALIBRATION_SIZE), int),
                {key: data[key] for key in ASKED if data.get(key) is not None},
                _choices(layers),
                _typed(data.get("finalized"), str, type(None)),
                _group_sizes(layers),
                _exceptions(layers),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise SpecError(
                f"{source} is not a plan ({type(error).__name__}: {error}); {FORM}"
            ) from None
        except SpecError as error:
            raise SpecError(f"{source}: {error}") from None

    def allocation(self, spec: ModelSpec) -> Allocation:
        """The plan's choices for the groups of a model.

        Raises:
            SpecError: the groups are not the model's, a layer that is no exception
                contradicts its group, or any the scheme or its target.
        """
        self._check_group_sizes(spec)
        own = {linear.name: g.key for g in spec.groups for linear in g.linears}
        for name, choice in self.layers.items():
            group = self.groups.get(own.get(name, ""))
            if choice != group and (name not in self.exceptions or group is None):
                raise SpecError(
                    f"the plan's layer {name} has {choice}, and its group {group}: "
                    "change the groups, the layers only spell them out, but for those "
                    'that say "exception": true'
                )
        whole = Allocation.of(spec.keys, self.groups)
        if not self.exceptions:
            return whole
        chosen = whole.of_linears(spec)
        chosen |= {name: self.layers[name] for name in self.exceptions}
        check_fused(spec, self.scheme, chosen)
        layers = {n: c for n, c in chosen.items() if c != self.groups[own[n]]}
        return whole.but(layers)

    def _check_group_sizes(self, spec: ModelSpec) -> None:
        """Refuse a plan that was made when rows were cut into groups otherwise."""
        for linear in spec.linears:
            own = self.scheme.group_size_of(linear.in_features)
            said = self.group_sizes.get(linear.name, own)
            # one group as long as a row is one scale a row
            row = ("channel", linear.in_features)
            if said != own and not (said in row and own in row):
                raise SpecError(
                    f"the plan's layer {linear.name} has group size {said}, and its "
                    f"rows of {linear.in_features} take {own}: search again, or take "
                    "the layers out to quantize the groups so"
                )

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods the plan uses."""
        return tuple(sorted({c.method for c in self._used if c.method}))

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths the plan uses below 16, rising; 16 beside them."""
        return tuple(sorted({c.bits for c in self._used} | {FULL}))

    @property
    def _used(self) -> set[Choice]:
        """Choices of groups and exceptions."""
        return {*self.groups.values(), *(self.layers[name] for name in self.exceptions)}


def _choices(items: Any) -> dict[str, Choice]:
    found = {}
    for key, item in items.items():
        method = _typed(item.get("method"), str, type(None))
        try:
            found[key] = Choice(item["bits"], method)
        except SpecError as error:
            raise SpecError(f"{key}: {error}") from None
    return found


def _group_sizes(layers: Any) -> dict[str, int | str]:
    """What a plan says of its layers' group sizes, where it does."""
    given = {name: item.get("group_size") for name, item in layers.items()}
    return {name: size for name, size in given.items() if size is not None}


def _exceptions(layers: Any) -> frozenset[str]:
    """Layers that a plan says to differ from their groups."""
    kinds = {n: _typed(x.get("exception", False), bool) for n, x in layers.items()}
    return frozenset(name for name, is_one in kinds.items() if is_one)


def _typed(value: Any, *kinds: type) -> Any:
    # JSON's true is no number
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(f"{value!r} is not a {kinds[0].__name__}")
    return value


def plan_json(
    asked: StudySpec,
    spec: ModelSpec,
    allocation: Allocation,
    finalized: str | None = None,
) -> dict[str, Any]:
    """A plan as plain data; `layers` spells it out for each linear by full name.

    One that differs from its group is marked as an exception, with the group's key.
    `finalized` is the digest of its weights, if they were quantized in sequence.
    """
    chosen, scheme = allocation.of_linears(spec), asked.scheme
    exceptions = {name for name, _ in allocation.layers}
    groups = {x.name: group.key for group in spec.groups for x in group.linears}
    layers = {
        linear.name: {
            "bits": chosen[linear.name].bits,
            "method": chosen[linear.name].method,
            "group_size": None
            if chosen[linear.name].bits == FULL
            else scheme.group_size_of(linear.in_features),
            **_exception(groups[linear.name], is_one=linear.name in exceptions),
        }
        for linear in spec.linears
    }
    return {
        "model": asked.model,
        "scheme": scheme.to_json(),
        "seed": asked.seed,
        "calibration": asked.calibration,
        **{
            key: getattr(asked, key)
            for key in ASKED
            if key in ALWAYS or getattr(asked, key)
        },
        "finalized": finalized,
        "groups": allocation.to_json(),
        "layers": layers,
    }


def _exception(group: str, *, is_one: bool) -> dict[str, Any]:
    return {"exception": True, "group": group} if is_one else {}
