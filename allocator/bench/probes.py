"""The prior of a search: what each group does when it alone is quantized."""

from __future__ import annotations

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
    followed = _followed(bench.spec.keys, choices, sensitivity)
    found = {} if found is None else found
    _probe(bench, samples, list(dict.fromkeys(followed.values())), tick, found)
    table = {}
    for (key, choice), probed in followed.items():
        ratio = 1.0
        if choice != probed[1]:
            own, other = (sensitivity.fisher[key, c] for c in (choice, probed[1]))
            ratio = own / other if other > 0 else 1.0
        table[key, choice] = found[probed] * ratio
    return finite_damage(table)


def _followed(
    keys: Sequence[str], choices: Sequence[Choice], sensitivity: Sensitivity
) -> dict[At, At]:
    """Which probe each choice of each group follows, itself where it is probed."""
    widths = sorted({choice.bits for choice in choices if choice.bits < FULL})
    by_width = {b: [c for c in choices if c.bits == b] for b in widths[:PROBED_WIDTHS]}
    followed = {}
    for key in keys:
        errors = {c: sensitivity.relative_error[key, c] for c in choices}
        probed = {
            bits: min(own, key=errors.__getitem__) for bits, own in by_width.items()
        }
        for choice in choices:
            bits = min(choice.bits, max(probed, default=FULL))
            at = choice if choice.bits == FULL else probed[bits]
            followed[key, choice] = key, at
    return followed


def _probe(
    bench: Workbench,
    samples: Sequence[Sample],
    wanted: Sequence[At],
    tick: Callable[[int], object],
    found: MutableMapping[At, float],
) -> None:
    """Take the probes that are not among those found."""
    full = Allocation.uniform(bench.spec, Choice(FULL))
    reference = bench.logits(full, samples)
    rows = known(reference)
    for at in wanted:
        if at in found:
            continue
        gap = 0.0
        if at[1].bits < FULL:
            other = bench.logits(full.replace(dict([at])), samples)
            gap = float(kl(reference, other)[rows].mean())
        found[at] = gap
        tick(len(found))
