"""What a recommendation is held against, by name, and what it gains, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.allocation import FULL
from allocator.core.records import RIVALS, rival_name
from allocator.explain.sentences import unit_of
from evals.metrics.agreement import UNIT

if TYPE_CHECKING:
    from collections.abc import Mapping


def choice_text(choice: Mapping[str, Any]) -> str:
    """Bits and method, short."""
    if choice["method"] is None:
        return f"{choice['bits']}"
    return f"{choice['bits']} {choice['method']}"


def uniform_text(each: Mapping[str, Any]) -> str:
    """A uniform allocation; pins may have left some groups something else."""
    return f"{choice_text(each)} everywhere{' else' if each.get('pinned') else ''}"


def finalized(each: Mapping[str, Any]) -> str:
    """Said of what was quantized once more in sequence, its rounding learned or not."""
    if not each.get("finalized"):
        return ""
    return ", tuned" if each.get("tuned") else ", finalized"


def on_part(each: Mapping[str, Any], total: int | None) -> str:
    """On how many samples of the evaluation set something stopped, if it did.

    Results of before were all scored on everything.
    """
    samples = each.get("samples") or 0
    return f"{samples:,} samples" if 0 < samples < (total or 0) else ""


def beside(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What a recommendation stands beside, by its name in words.

    Uniform allocations, the narrow first, then the rivals, which results of before did
    not have.
    """
    told = [(uniform_text(each), each) for each in found["uniform"]]
    return told + [(rival_name(each["name"]), each) for each in found.get("rivals", [])]


def compared(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The same, of what has a score, with its weights, and its samples if not all."""
    told = [
        (f"{name}{finalized(each)}{', on ' * bool(part)}{part}", each)
        for name, each in beside(found)
        for part in (on_part(each, found["recommended"].get("samples")),)
    ]
    return [(name, each) for name, each in told if each["score"] is not None]


def gains(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What the recommendation gains over the best uniform allocation and the rivals."""
    best, rival = found["recommended"], best_uniform(found)
    told = [(uniform_text(rival), best["vs_best_uniform"])] if rival else []
    told += [
        (f"the {name}", best[f"vs_{kind}"])
        for kind, name in RIVALS.items()
        if best.get(f"vs_{kind}")
    ]
    return [(name, gain) for name, gain in told if gain["ci95"]]


def gained(gain: Mapping[str, Any], unit: str = "") -> str:
    """A difference with its interval."""
    low, high = gain["ci95"]
    return f"{gain['difference']:+.2f}{unit} [{low:+.2f}, {high:+.2f}]"


def best_uniform(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The uniform allocation that a recommendation is held against, or None."""
    fitting: list[Mapping[str, Any]]
    fitting = [each for each in found["uniform"] if each["score"] is not None]
    if found.get("goal", "budget") != "budget":
        size = found["recommended"]["bpw"]
        fitting = [each for each in fitting if each["bpw"] <= size]
    if found["recommended"]["vs_best_uniform"]["ci95"] is None:
        return None
    return max(fitting, key=lambda each: (each["score"], -each["bpw"]), default=None)


def gains_said(found: Mapping[str, Any]) -> list[str]:
    """What was gained over the best uniform allocation and each rival, or nothing."""
    best, rival = found["recommended"], best_uniform(found)
    unit = unit_of(found["metric"])
    said = ["No uniform allocation that fits has a score to compare to."]
    if rival:
        name = f"{uniform_text(rival)}{finalized(rival)}"
        said = [_gain(name, best["vs_best_uniform"], unit, is_uniform(best, rival))]
    for each in found.get("rivals", []):
        gain = best.get(f"vs_{each['name']}")
        if not gain or gain["ci95"] is None:
            continue
        name, alike = f"the {rival_name(each['name'])}", _alike(each, found)
        is_it = best["digest"] == each["digest"]
        if is_it and alike:
            said.append(f"{name.capitalize()} of this size is {alike}, too.")
            continue
        name += f" ({alike})" if alike else finalized(each)
        said.append(_gain(name, gain, unit, is_it))
    return said


def _gain(name: str, gain: Mapping[str, Any], unit: str, is_it: bool) -> str:
    if is_it:
        return f"Nothing better than {name} was found: it is the recommendation."
    told = f"{gained(gain, f' {unit}')} over {name}"
    noise = "" if gain["ci95"][0] > 0 else ": within the noise of these samples"
    return f"{told}{noise}."


def _alike(rival: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The uniform allocation that a rival is; nothing where it is none."""
    for each in found["uniform"]:
        if each.get("digest") == rival["digest"]:
            return f"{uniform_text(each)}{finalized(each)}"
    return f"{FULL} everywhere" if rival["bpw"] >= FULL else ""


def is_uniform(best: Mapping[str, Any], uniform: Mapping[str, Any]) -> bool:
    """Whether an allocation is a uniform one; results of before had no digest."""
    if uniform.get("digest"):
        return bool(best["digest"] == uniform["digest"])
    return all(choice == choice_of(uniform) for choice in best["allocation"].values())


def choice_of(uniform: Mapping[str, Any]) -> dict[str, Any]:
    """A uniform result's choice, as allocations spell it."""
    return {"bits": uniform["bits"], "method": uniform["method"]}


def ends(rung: Mapping[str, Any]) -> str:
    """The interval of a rank correlation; results of before had none."""
    ends = rung.get("ci95")
    return f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else ""


def alike_said(found: Mapping[str, Any], best: Mapping[str, Any]) -> list[str]:
    """How far something says what full precision does, where that is known.

    Args:
        found: the JSON of a search or an evaluation.
        best: of it what is told of: `details`, `samples` and `divergence`.
    """
    # results of before, and tables, have none
    said, share = [], (best.get("details") or {}).get(UNIT)
    # where that is the score, it stands elsewhere
    if share is not None and found.get("metric") != UNIT:
        said.append(f"{share:.1f} % of the replies are what full precision replies")
    if far := best.get("divergence"):
        said.append(
            f"the tokens of full precision's replies diverge by {far['nats']:.4g} nats "
            f"each ({far['tokens']:,} tokens of {far['samples']:,} samples)"
        )
    told = ", ".join(said)
    return [f"{told[:1].upper()}{told[1:]}."] if told else []
