"""What a model is made of and what it can be quantized to, from its configuration."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.bench.prepare import model_for, spec_of, tell_unread
from allocator.bench.tasks import task_of
from allocator.core.allocation import FULL, Choice
from allocator.core.layouts import LAYOUTS
from allocator.core.ports import Sample
from allocator.core.prompts import check_prompt, filled
from allocator.core.spec import COMPONENTS
from allocator.core.targets import TARGETS
from allocator.embedded import model_folder
from allocator.families import declaration_of, family_of, has_weights
from allocator.space.model import ModelSpace
from evals.taskset import TaskSet, tasks_of

if TYPE_CHECKING:
    from allocator.core.ports import Task
    from allocator.core.spec import ModelSpec
    from allocator.core.study import StudySpec
    from allocator.core.targets import Target
    from allocator.core.watch import Watch

# asked to show how questions are asked
QUESTION = "What color is the circle?"


def inspect_model(
    asked: StudySpec,
    task: str | None = None,
    *,
    prompt: bool | str = False,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Groups, sizes and what is left out, as plain data; no weights are loaded.

    Args:
        asked: the model, and how it would be quantized.
        task: a model with a retrieval twin is that for a task that ranks.
        prompt: also how it is asked each kind of question, or those of the task; with
            a text, how it is asked that.
        watch: is told what lies in the folder and is not read.

    Raises:
        AllocateError: a model that cannot be had, or cannot do the task.
    """
    folder = model_folder(asked.model, weights=False)
    known = None if task is None else task_of(task)
    if known is not None:
        folder, _ = model_for(known, folder, asked.model)
    tell_unread(folder, watch)
    prompts = {"prompts": prompts_of(folder, known, prompt)} if prompt else {}
    spec = spec_of(asked, folder, family_of(folder))
    space = ModelSpace(spec, asked.scheme, asked.choices, asked.limit, asked.pins)
    sizes = _sizes(space, asked)
    scope = "bpw" if asked.budget_scope == "model" else "bpw_quantized"
    return {
        "model": asked.model,
        "target": target_json(TARGETS[asked.target]),
        "family": spec.family,
        "declaration": declaration_of(folder),
        "parameters": spec.parameters,
        "quantized_weights": spec.weights,
        "components": _components(spec),
        "groups": _groups(spec),
        "group_sizes": _group_sizes(spec, asked),
        "left_out": [asdict(each) for each in spec.left_out],
        "other_parameters": spec.rest - sum(x.weights for x in spec.left_out),
        "pins": asked.pins.to_json(),
        "uniform": sizes,
        "head": _head(spec, assumed=not has_weights(folder)),
        "smallest_bpw": min(size[scope] for size in sizes),
        "budget_scope": asked.budget_scope,
        **prompts,
    }


def target_json(target: Target) -> dict[str, Any]:
    """What a target allows, as plain data."""
    return {
        "name": target.name,
        "description": target.description,
        "layout": LAYOUTS[target.layout].description,
        "widths": list(target.widths),
        "notes": {str(bits): note for bits, note in target.notes.items()},
        "group_sizes": list(target.group_sizes),
        "symmetric": list(target.symmetries),
        "fused": [list(names) for names in target.fused],
    }


def _groups(spec: ModelSpec) -> list[dict[str, Any]]:
    """Each group with its weights and linears."""
    return [
        {"key": g.key, "weights": g.weights, "linears": [x.name for x in g.linears]}
        for g in spec.groups
    ]


def _head(spec: ModelSpec, *, assumed: bool) -> dict[str, Any] | None:
    """Whether head and embeddings are one matrix, and what they are otherwise.

    Weights decide it. Where there is a configuration alone it is assumed.
    """
    if not spec.head:
        return None
    other = spec.parameters + (spec.head if spec.tied else -spec.head)
    return {
        "tied": spec.tied,
        "assumed": assumed,
        "parameters_otherwise": other if assumed else None,
    }


def _group_sizes(spec: ModelSpec, asked: StudySpec) -> list[dict[str, Any]]:
    """Linears by the length of their rows, and the group size that each takes."""
    lengths = sorted({linear.in_features for linear in spec.linears})
    return [
        {
            "in_features": length,
            "group_size": asked.scheme.group_size_of(length),
            "asked": asked.group_size,
            "linears": [x.name for x in spec.linears if x.in_features == length],
        }
        for length in lengths
    ]


def _sizes(space: ModelSpace, asked: StudySpec) -> list[dict[str, Any]]:
    """Bits per weight and bytes of every width everywhere."""
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
    return sizes


def prompts_of(
    folder: Path, task: Task | TaskSet | None, given: bool | str = True
) -> dict[str, str]:
    """Each kind of prompt, exactly as the model gets it, for a question of ours.

    Special tokens are shown, those of the picture counted. A text that is `given` is
    asked instead, as `--prompt` of a search is.

    Raises:
        AllocateError: the model cannot be asked so.
    """
    from PIL import Image

    if isinstance(given, str):
        check_prompt(given)
    model = family_of(folder).outline(folder)
    kinds = model.kinds
    if task is not None:
        several = tasks_of(task)
        own = {sample.prompt for each in several for sample in each.examples}
        kinds = tuple(kind for kind in kinds if kind in own) or kinds
    asked = {kind: "" if kind == "caption" else QUESTION for kind in kinds}
    if isinstance(given, str):
        asked = {"plain": filled(given, QUESTION)}
    with tempfile.TemporaryDirectory() as scratch:
        picture = Path(scratch) / "picture.png"
        Image.new("RGB", (640, 480), "grey").save(picture)
        samples = [
            Sample(kind, picture, kind, text, (QUESTION,))
            for kind, text in asked.items()
        ]
        return {sample.prompt: model.prompt(sample) for sample in samples}


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
