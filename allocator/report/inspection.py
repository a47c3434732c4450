"""What a model is made of and what it can be quantized to, from its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from allocator.bench.prepare import model_for, task_of
from allocator.core.allocation import FULL, Choice
from allocator.core.pins import in_words
from allocator.core.spec import COMPONENTS
from allocator.embedded import model_folder
from allocator.families import family_of
from allocator.space.model import ModelSpace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.spec import ModelSpec
    from allocator.core.study import StudySpec


def inspect_model(asked: StudySpec, task: str | None = None) -> dict[str, Any]:
    """Groups, sizes and what is left out, as plain data; no weights are loaded.

    Args:
        asked: the model, and how it would be quantized.
        task: a model with a retrieval twin is that for a task that ranks.

    Raises:
        AllocateError: a model that cannot be had, or cannot do the task.
    """
    folder = model_folder(asked.model, weights=False)
    if task is not None:
        folder, _ = model_for(task_of(task), folder, asked.model)
    spec = family_of(folder).spec(folder, asked.granularity, asked.include)
    space = ModelSpace(spec, asked.scheme, asked.choices, asked.limit, asked.pins)
    sizes = []
    for bits in asked.widths:
        # the stored size does not depend on the method
        choice = Choice(bits, None if bits == FULL else asked.methods[0])
        size = space.size(space.near(choice))
        sizes.append(
            {
                "bits": bits,
                "bpw": size.bpw("model"),
                "bpw_quantized": size.bpw("quantized"),
                "bytes": size.model_bytes,
            }
        )
    scope = "bpw" if asked.budget_scope == "model" else "bpw_quantized"
    return {
        "model": asked.model,
        "family": spec.family,
        "parameters": spec.parameters,
        "quantized_weights": spec.weights,
        "components": _components(spec),
        "groups": [
            {"key": g.key, "weights": g.weights, "linears": [x.name for x in g.linears]}
            for g in spec.groups
        ],
        "left_out": [
            {"name": x.name, "weights": x.weights, "reason": x.reason}
            for x in spec.left_out
        ],
        "other_parameters": spec.rest - sum(x.weights for x in spec.left_out),
        "pins": asked.pins.to_json(),
        "uniform": sizes,
        "smallest_bpw": min(size[scope] for size in sizes),
        "budget_scope": asked.budget_scope,
    }


def _components(spec: ModelSpec) -> list[dict[str, Any]]:
    """Groups, linears and weights of each component that has any."""
    found = []
    for name in COMPONENTS:
        groups = [group for group in spec.groups if group.component == name]
        if groups:
            found.append(
                {
                    "name": name,
                    "groups": len(groups),
                    "linears": sum(len(group.linears) for group in groups),
                    "weights": sum(group.weights for group in groups),
                }
            )
    return found


def print_inspection(found: Mapping[str, Any]) -> None:
    """Print what `inspect_model` found."""
    console = Console()
    console.print(
        f"{found['model']} ({found['family']}): {found['parameters']:,} parameters, "
        f"{found['quantized_weights']:,} weights in groups",
        highlight=False,
    )
    parts = Table("component", "groups", "linears", "weights", "of all parameters")
    for part in found["components"]:
        share = 100 * part["weights"] / found["parameters"]
        parts.add_row(
            part["name"],
            str(part["groups"]),
            str(part["linears"]),
            f"{part['weights']:,}",
            f"{share:.1f} %",
        )
    console.print(parts)
    groups = Table("group", "linears", "weights")
    for group in found["groups"]:
        groups.add_row(
            group["key"], str(len(group["linears"])), f"{group['weights']:,}"
        )
    console.print(groups)
    left = Table("left at 16 bit", "weights", "why")
    for each in found["left_out"]:
        left.add_row(each["name"], f"{each['weights']:,}", each["reason"])
    other = f"{found['other_parameters']:,}"
    left.add_row("everything else", other, "embeddings, norms, biases: no linear layer")
    console.print(left)
    pins = in_words(found["pins"])
    width = "width everywhere else" if pins else "uniform width"
    sizes = Table(width, "bpw (model)", "bpw (quantized)", "bytes")
    for size in found["uniform"]:
        sizes.add_row(
            str(size["bits"]),
            f"{size['bpw']:.3f}",
            f"{size['bpw_quantized']:.3f}",
            f"{size['bytes']:,}",
        )
    console.print(sizes)
    console.print(
        f"smallest possible budget: {found['smallest_bpw']:.4f} bpw "
        f"({found['budget_scope']} scope{', ' * bool(pins)}{pins})",
        highlight=False,
        markup=False,
    )
