"""Unit costs of a model on a device: measured where a file has them, else assumed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from allocator.bench.batching import MOST, SHARE
from allocator.bench.reading import CPUS, THREADS
from allocator.core.unit_costs import Unit, UnitCosts
from studies.scale.devices import assumed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.spec import ModelSpec
    from allocator.core.unit_costs import Lengths
    from studies.scale.devices import Device

CALIBRATION = 128
# threads that read pictures while a device computes, on a host of 16
READERS = min(THREADS, 16 // CPUS)
# tokens of a reply that a batch has room for
LONGEST = 10
# what a measurement of LLaVA-1.5-7B says of any model: seconds a weight
OF_WEIGHTS = ("swap", "gather", "finalize")
METHODS = ("uniform", "gptq", "awq")
# they read what another linear of their block reads
SIBLINGS = ("k_proj", "v_proj", "up_proj", "key", "value")


@dataclass(frozen=True)
class Case:
    """A model on a device, and what a mean sample is."""

    spec: ModelSpec
    config: Mapping[str, Any]
    device: Device
    lengths: Lengths
    before: bool

    @property
    def weights(self) -> dict[str, int]:
        """Weights in groups of each component."""
        found: Counter[str] = Counter()
        for linear in self.spec.linears:
            found[linear.component] += linear.weights
        return dict(found)

    @property
    def text(self) -> Mapping[str, Any]:
        """The language model's part of the configuration."""
        own: Mapping[str, Any] = self.config.get("text_config", self.config)
        return own

    @property
    def blocks(self) -> int:
        """Blocks of the language model."""
        names = {x.name for x in self.spec.linears if x.component == "language"}
        return len({name.split(".layers.")[-1].split(".")[0] for name in names})

    @property
    def batch(self) -> int:
        """Samples that reply at once: as many as a quarter of the memory holds."""
        if self.before:
            return 8
        language = [x for x in self.spec.linears if x.component == "language"]
        width = min(linear.in_features for linear in language)
        inner = max(linear.in_features for linear in language)
        heads = self.text.get("num_attention_heads", 32)
        kept = width * self.text.get("num_key_value_heads", heads) / heads
        token = 2 * (2 * self.blocks * kept + 8 * width + 3 * inner)
        longest = self.lengths.prompt + LONGEST
        fit = int(SHARE * self.device.memory / (token * longest))
        return max(1, min(fit, MOST))

    @property
    def read(self) -> list[int]:
        """Inputs of each set of linears that read the same."""
        found: Counter[tuple[str, int]] = Counter()
        for linear in self.spec.linears:
            block, _, name = linear.name.rpartition(".")
            found[block, linear.in_features] += name not in SIBLINGS
        return [columns for (_, columns), sets in found.items() for _ in range(sets)]

    @property
    def columns(self) -> float:
        """Columns that a loop over columns goes through, once for each set."""
        return float(sum(self.read))


def assumed_units(case: Case) -> tuple[UnitCosts, dict[str, str]]:
    """All of them from data sheets and assumed figures, and how."""
    flops = assumed("share of flops") * case.device.flops
    found, told = dict[str, Unit](), dict[str, str]()

    def put(name: str, seconds: float, text: str) -> None:
        found[name], told[name] = Unit(seconds), text

    weights, share = case.weights, f"{assumed('share of flops'):.0%} of the flops"
    encoded = 2 * weights.get("vision", 0) * case.lengths.vision
    encoded += 2 * weights.get("connector", 0) * case.lengths.connector
    device = encoded / flops
    host = assumed("seconds a picture")
    put("prompt", 2 * weights["language"] / flops, f"two flops a weight at {share}")
    if case.before:
        text = f"{1e3 * host:.0f} ms on the host, then {1e3 * device:.2f} ms at {share}"
        put("picture", host + device, text)
    else:
        asked = case.lengths.questions * case.lengths.branched
        waits = max(0.0, host / READERS - asked * found["prompt"].seconds)
        text = f"{1e3 * device:.2f} ms at {share}; read meanwhile by {READERS} threads"
        put("picture", waits + device, text)
    step = case.blocks * assumed("seconds a block and step")
    put(
        "reply",
        step / case.batch,
        f"{1e3 * step:.0f} ms a step for {case.batch} samples at once",
    )
    put("look", 0.0, "nothing beside picture and prompt")
    put("gradient", 4 * case.lengths.prompt * found["prompt"].seconds, "not taken")
    _quantizing(case, put)
    solve = {name: found.pop(f"solve {name}") for name in METHODS}
    return UnitCosts(solve=solve, **found), told


def _quantizing(case: Case, put: Any) -> None:
    """Swaps, bank and finalization."""
    total = sum(case.weights.values())
    moved = assumed("share of bandwidth") * case.device.bandwidth
    if case.before:
        put("swap", 6.3 / 2.7e9, "6.3 s for 2.7 G weights: hash, unpack, float32, copy")
    else:
        link = assumed("packed bits") / 8 / case.device.link
        each = assumed("bytes moved a weight") / moved + link
        starts = len(case.spec.linears) * assumed("kernels a linear") / total
        each += starts * assumed("seconds a launch")
        put("swap", each, "40 bytes moved a weight, codes from pinned memory, launches")
    launch = case.columns * assumed("seconds a launch") / total
    plain = assumed("share of plain flops") * case.device.plain_flops
    # of one width, for each weight: two flops a column, half of them behind it
    swept = assumed("sweeps") * sum(
        x.weights * x.in_features for x in case.spec.linears
    )
    swept /= plain * total
    for name, widths, rounds in (("GPTQ", 6, "rounds of rows"), ("AWQ", 3, "once")):
        now = "" if case.before else " now"
        kernels = assumed(f"kernels a column of {name}{now}")
        kernels *= assumed(rounds) if case.before else 1
        text = f"{kernels:.0f} kernels a column, {case.columns:,.0f} columns, sweeps"
        put(f"solve {name.lower()}", kernels * launch + widths * swept, text)
    put("solve uniform", assumed("bytes moved a weight") / moved, "moved once a width")
    products = sum(2 * columns**2 for columns in case.read)
    tokens = CALIBRATION * case.lengths.prompt
    gather = products * tokens / plain / total
    put("gather", gather, "Hessians in float32")
    if case.before:
        put("finalize", 360 / 6.8e9, "6 minutes for 6.8 G weights")
    else:
        passes = assumed("passes of a finalization")
        forward = passes * tokens * 2 / (assumed("share of flops") * case.device.flops)
        kernels = assumed("kernels a column of a finalization")
        each = assumed("rounds of a finalization") * gather + forward
        each += kernels * launch + swept
        put("finalize", each, "Hessians three times, six passes, one width solved")
    put("tune", 0.0, "not taken")
    put("proposal", 0.7, "as the log has it of one core")
    put("start", 30.0, "the model read from a disk")


def with_measured(
    case: Case,
    units: UnitCosts,
    told: dict[str, str],
    found: Mapping[str, Any],
) -> tuple[UnitCosts, dict[str, str]]:
    """The same with what `studies/gpu/run.py` measured on LLaVA-1.5-7B.

    Of another model that is scaled: by weights and tokens. What a search now does
    counts: questions that branch, weights from where the bank keeps them.
    """
    card, own = found["about"]["card"], found["units"]
    is_same = case.config["model_type"] == "llava" and case.blocks == 32
    told, changes = dict(told), dict[str, Unit]()
    scale = case.weights["language"] / LANGUAGE
    factors = {"prompt": scale, "reply": scale, **dict.fromkeys(OF_WEIGHTS, 1.0)}
    names = {"reply": "reply branching"}
    for name, factor in factors.items():
        measured = own.get(names.get(name, name))
        if measured is None:
            continue
        changes[name] = Unit(measured["each"] * factor, is_same or name in OF_WEIGHTS)
        exact = changes[name].measured
        told[name] = f"{card}" if exact else f"LLaVA-1.5-7B on {card}, by its weights"
    if "picture encoded" in own and is_same:
        # read meanwhile
        changes["picture"] = Unit(own["picture encoded"]["each"], True)
        told["picture"] = card
    solve = dict(units.solve)
    for name in METHODS:
        if measured := own.get(f"solve {name}"):
            solve[name] = Unit(measured["each"], True)
            told[f"solve {name}"] = card
    return replace(units, solve=solve, **changes), told


# weights of LLaVA-1.5-7B's language model
LANGUAGE = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
