"""The prior of a search: what each group does when it alone is quantized."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from allocator.bench.divergence import kl, known
from allocator.core.allocation import FULL, Allocation, Choice
from allocator.core.finite import finite_damage

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from allocator.bench.sensitivity import Sensitivity
    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Sample

    At = tuple[str, Choice]

# of the widths of each group the narrowest, which are probed where others follow
PROBED_WIDTHS = 3


def damages(
    bench: Workbench,
    samples: Sequence[Sample],
    choices: Sequence[Choice],
    tick: Callable[[int], object] = lambda _: None,
    found: MutableMapping[At, float] | None = None,
) -> dict[At, float]:
    """KL to the full-precision model when one group alone gets a choice.

    Mean over samples and positions of KL(full || quantized) of the next token, in nats
    (`allocator.bench.workbench.Workbench.logits`). It adds up over groups only
    roughly: a prior, not a score. What is among those `found` before is not probed
    again; the others go there as they are, each before `tick` is told how many there
    are. What is returned has a large number, beyond all the others, where logits
    overflowed (`allocator.core.finite.finite_damage`).
    """
    wanted = [(key, choice) for key in bench.spec.keys for choice in choices]
    found = {} if found is None else found
    _probe(bench, samples, wanted, tick, found)
    return finite_damage(found)


def few_damages(
    bench: Workbench,
    samples: Sequence[Sample],
    choices: Sequence[Choice],
    sensitivity: Sensitivity,
    tick: Callable[[int], object] = lambda _: None,
    found: MutableMapping[At, float] | None = None,
) -> dict[At, float]:
    """The same from few probes, for groups so many that each choice were too dear.

    Of each group the three narrowest widths are probed, by the method of the smallest
    relative output error. All other choices follow from the nearest of these, in
    proportion to the Fisher-weighted errors.

    Args:
        bench: its groups are probed.
        samples: as for `damages`.
        choices: of every group.
        sensitivity: of the same groups at the same choices.
        tick: is told how many probes are among those found.
        found: probes that were taken, and are; not what follows from them.
    """
    follows = followed(bench.spec.keys, choices, sensitivity)
    found = {} if found is None else found
    _probe(bench, samples, list(dict.fromkeys(follows.values())), tick, found)
    whole = (choice for choice in choices if choice.bits == FULL)
    table = {(key, choice): 0.0 for choice in whole for key in bench.spec.keys}
    for (key, choice), probed in follows.items():
        ratio = 1.0
        if choice != probed[1]:
            own, other = (sensitivity.fisher[key, c] for c in (choice, probed[1]))
            ratio = own / other if other > 0 else 1.0
        table[key, choice] = found[probed] * ratio
    return finite_damage(table)


def followed(
    keys: Sequence[str], choices: Sequence[Choice], sensitivity: Sensitivity
) -> dict[At, At]:
    """Which probe each choice below 16 bits follows, itself where it is one."""
    low = [choice for choice in choices if choice.bits < FULL]
    widths = sorted({choice.bits for choice in low})
    by_width = [[c for c in low if c.bits == b] for b in widths[:PROBED_WIDTHS]]
    follows: dict[At, At] = {}
    for key in keys:
        errors = {choice: sensitivity.relative_error[key, choice] for choice in low}
        best = [min(own, key=errors.__getitem__) for own in by_width]
        for choice in low:
            at = min(widths.index(choice.bits), len(best) - 1)
            follows[key, choice] = key, best[at]
    return follows


def _probe(
    bench: Workbench,
    samples: Sequence[Sample],
    wanted: Sequence[At],
    tick: Callable[[int], object],
    found: MutableMapping[At, float],
) -> None:
    """Take the probes that are not among those found.

    In order of execution: what lies in front of a change is full precision, and kept.
    """
    full = Allocation.uniform(bench.spec, Choice(FULL))
    probes = {at: full.replace(dict([at])) for at in wanted if at not in found}
    low = [at for at in probes if at[1].bits < FULL]
    low.sort(key=lambda at: bench.depths[at[0]])
    found.update({at: 0.0 for at in probes if at[1].bits == FULL})
    first = probes[low[0]] if low else None
    reference = bench.logits(full, samples, first)
    rows = known(reference)
    for at, ahead in zip_longest(low, (probes[at] for at in low[1:])):
        other = bench.logits(probes[at], samples, ahead)
        found[at] = float(kl(reference, other)[rows].mean())
        tick(len(found))
    # in one order, whoever took which of them before: ties are broken by it
    whole = [at for at in wanted if at[1].bits == FULL]
    taken = [at for at in wanted if at[1].bits < FULL]
    for at in (*whole, *sorted(taken, key=lambda each: bench.depths[each[0]])):
        found[at] = found.pop(at)
