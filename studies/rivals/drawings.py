"""Questions that no search has seen: the drawn world once more, from other seeds."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from allocator.core.ports import Sample
from evals.world.files import VERSION, Part, file_name, part_scenes
from evals.world.language import ask, human_answers
from evals.world.scene import jpeg

if TYPE_CHECKING:
    from pathlib import Path

# as many as in the evaluation set
PICTURES, QUESTIONS = 1_000, 2
DRAWINGS = (1, 2, 3)
# of the first picture, behind those of the world's own parts
FIRST = 1_000_000


def part(number: int) -> Part:
    """A part of the world like `evaluation`; its name is the seed of all its draws."""
    return Part(f"fresh {number}", "val2014", PICTURES, QUESTIONS, FIRST * number)


def drawing(folder: Path, number: int) -> tuple[Sample, ...]:
    """Questions of a fresh drawing, the two of a picture one behind the other.

    Args:
        folder: where its pictures are written, unless they are there.
        number: which drawing.
    """
    own, random = part(number), Random(f"vqav2/fresh {number}/{VERSION}")
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for image_id, scene in part_scenes("coco", own):
        image = folder / file_name(own, image_id)
        image.write_bytes(jpeg(scene))
        for each in range(QUESTIONS):
            asked = ask(scene, random)
            answers = tuple(human_answers(asked, random))
            name = f"{image_id * 10 + each}"
            found.append(Sample(name, image, "vqa", asked.text, answers, upright=False))
    return tuple(found)
