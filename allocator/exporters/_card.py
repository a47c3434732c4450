"""The card of an export: what it is, what it scores and stores, how to load it."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.bench.tasks import EMBEDDED, is_file_task
from allocator.core.allocation import FULL, nominal_bits
from allocator.core.exceptions import exceptions_said
from allocator.core.study import JOINED
from allocator.embedded import is_embedded
from allocator.exporters._place import CARD, MARK
from allocator.families import READERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allocator.core.exporting import Exporter
    from allocator.exporters._checkpoint import Checkpoint
    from allocator.exporters._export import Export

# of a plan, what its score depends on, and what it usually is
OPTIONS = {
    **{"fraction": None, "subset": None, "beams": 1, "rerank": None, "seed": 0},
    **{"metric": None, "columns": None, "prompt": None, "max_new_tokens": None},
}
NOT_CONFIRMED = "on the search set, not confirmed"


def write_card(
    export: Export, exporter: Exporter, draft: Path, name: str, found: Mapping[str, Any]
) -> None:
    """Write README.md into a finished draft.

    Args:
        export: what was written.
        exporter: says how it is loaded.
        draft: the folder.
        name: which the folder is going to have.
        found: sizes, loader and differences, as the driver has them.
    """
    usage = exporter.usage(export).replace("{out}", name).strip()
    parts = [
        _front_matter(export, found["format"]),
        f"# {name}",
        f"{exporter.description[:1].upper()}{exporter.description[1:]}.",
        _table(("", ""), _facts(export, found)),
        "## Bits",
        *_bits(export, found),
        "## How to load it",
        f"```python\n{usage}\n```",
        *_loaded(found),
        *_again(export.plan, found["format"], name),
        "## What made it",
        f"    {export.command}",
        MARK,
    ]
    (draft / CARD).write_text("\n\n".join(parts) + "\n")


def _again(plan: Mapping[str, Any], fmt: str, name: str) -> list[str]:
    """How its score is measured again, where this program reads the format."""
    task = plan.get("task")
    if fmt not in READERS or task is None or JOINED in task:
        return []
    words = ["allocate", "evaluate", "--model", f"./{name}", "--task", task]
    of_file = not task.startswith("lmms:") and is_file_task(task)
    if not task.startswith("lmms:"):
        drawn = is_embedded(plan["model"]) and not of_file
        words += ["--data", EMBEDDED if drawn else "DATA"]
    for option, usual in OPTIONS.items():
        if plan.get(option, usual) != usual:
            value = plan[option]
            listed = ",".join(value) if isinstance(value, list | tuple) else value
            words += [f"--{option.replace('_', '-')}", str(listed)]
    words += ["--skip-broken"] if plan.get("skip_broken") else []
    official = "the folder with the official files of the task"
    told = [f"DATA is {'the file, or its folder' if of_file else official}."]
    return [
        "## How to score it again",
        f"    {shlex.join(words)}",
        *(told if "DATA" in words else []),
    ]


def shown_model(model: str) -> str:
    """A model's hub id, or the last part of its folder: never the way there.

    >>> shown_model("/home/me/llava-1.5-7b"), shown_model("llava-hf/llava-1.5-7b-hf")
    ('llava-1.5-7b', 'llava-hf/llava-1.5-7b-hf')
    """
    is_hub = model.count("/") == 1 and model[0].isalnum() and not Path(model).exists()
    return model if is_hub else Path(model).name


def _front_matter(export: Export, fmt: str) -> str:
    model = shown_model(export.plan["model"])
    base = [f"base_model: {model}"] if "/" in model else []
    lines = ["---", *base, "tags:", f"- {fmt}", "- mixed-precision", "---"]
    return "\n".join(lines)


def _facts(export: Export, found: Mapping[str, Any]) -> list[tuple[str, str]]:
    plan, score = export.plan, export.score or {}
    facts = [("model", shown_model(plan["model"])), ("task", str(plan.get("task")))]
    if score:
        metric = score["metric"]
        facts += [("metric", metric), ("score", _score(score))]
        if score.get("full") is not None:
            facts.append(("full precision", f"{score['full']:.2f}"))
    else:
        facts.append(("score", "not measured"))
    if "bytes" in found:
        facts += [
            ("size", f"{found['bytes']:,} bytes"),
            ("bits per weight", f"{found['bpw']:.3f} of the whole model"),
            ("", f"{found['bpw_quantized']:.3f} of what is in groups"),
        ]
    return [*facts, ("scheme", _scheme(plan)), ("weights", _weights(plan))]


def _score(score: Mapping[str, Any]) -> str:
    mean = f"{score['score']:.2f}"
    if not score["confirmed"]:
        return f"{mean} {NOT_CONFIRMED}"
    low, high = score["ci95"]
    return f"{mean} (95 % interval {low:.2f} to {high:.2f})"


def _scheme(plan: Mapping[str, Any]) -> str:
    """Group sizes that the linears really have: not every row is cut as asked."""
    layers = plan.get("layers", {}).values()
    sizes = {each.get("group_size") for each in layers} - {None}
    # a plan by hand need not spell them out
    sizes = sizes or {plan["scheme"]["group_size"]}
    counts = sorted(size for size in sizes if isinstance(size, int))
    named = [f"{' or '.join(map(str, counts))} inputs"] if counts else []
    named += [f"a {size}" for size in sorted(sizes - set(counts))]
    kind = "symmetric" if plan["scheme"]["symmetric"] else "with zero-points"
    return f"one scale for {' or '.join(named)}, {kind}"


def _weights(plan: Mapping[str, Any]) -> str:
    if plan.get("finalized"):
        return "quantized in sequence, each linear behind quantized predecessors"
    return "each linear quantized on full-precision inputs"


def _bits(export: Export, found: Mapping[str, Any]) -> list[str]:
    """Bits by component; with the weights known, their mean too."""
    if "bytes" in found:
        return _of_weights(export.checkpoint)
    counts: dict[str, Counter[str]] = {}
    for key, choice in export.plan["groups"].items():
        counts.setdefault(key.split(".")[0], Counter())[_choice(choice)] += 1
    rows = ((part, _listed(each)) for part, each in counts.items())
    table = _table(("component", "groups at bits"), rows)
    own = {
        name: layer
        for name, layer in export.plan.get("layers", {}).items()
        if layer.get("exception")
    }
    return [table, *exceptions_said(own)]


def _of_weights(made: Checkpoint) -> list[str]:
    rows, chosen = [], made.choices
    for component in dict.fromkeys(group.component for group in made.spec.groups):
        groups = [g for g in made.spec.groups if g.component == component]
        own = [linear for group in groups for linear in group.linears]
        weights = sum(linear.weights for linear in own)
        bits = sum(x.weights * chosen[x.name].bits for x in own) / weights
        each = Counter(str(made.allocation[g.key]) for g in groups)
        rows.append((component, f"{weights:,}", f"{bits:.2f}", _listed(each)))
    mean = f"{nominal_bits(made.spec, made.allocation):.2f}"
    rows.append(("together", f"{made.spec.weights:,}", mean, ""))
    head = ("component", "weights", "mean bits of codes", "groups at bits/method")
    said = exceptions_said(made.allocation.layers_json())
    return [_table(head, rows), *said, "\n".join(_left_out(made))]


def _left_out(made: Checkpoint) -> list[str]:
    """What stays at 16 bits, and why."""
    reasons: dict[str, list[str]] = {}
    for each in made.spec.left_out:
        reasons.setdefault(each.reason, []).append(each.name)
    return [
        f"At {FULL} bits stay all {made.spec.rest:,} parameters outside the groups:\n",
        *(f"- {_few(names)}: {reason}" for reason, names in reasons.items()),
        "- embeddings, norms, biases and whatever else is no linear layer",
    ]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"`{name}`" for name in names[:3]) + more


def _choice(choice: Mapping[str, Any]) -> str:
    bits, method = choice["bits"], choice["method"]
    return f"{bits}" if method is None else f"{bits}/{method}"


def _listed(counts: Counter[str]) -> str:
    ordered = sorted(counts.items(), key=lambda each: int(each[0].split("/")[0]))
    return ", ".join(f"{count} at {choice}" for choice, count in ordered)


def _loaded(found: Mapping[str, Any]) -> list[str]:
    if "loader" not in found:
        return []
    logits = found["logits"]
    told = [f"Read again with {found['loader']} when it was written: "]
    off = found["weights"]
    close = f"codes equal, weights within {off:.2g} of a step"
    same = "equal to the last bit" if off == 0 else close
    told.append(f"{found['linears']} quantized linears, {same}")
    if logits is not None:
        equal = f"within {logits:.1e} of their range" if logits else "equal"
        told.append(f"; logits {equal}")
    return ["".join(told) + "."]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
