"""A model that was placed by its structure, as the rest of the project sees it.

Correct before quick: pictures of equal content are not shared, and questions do not
branch from theirs. What the prefix has made of pictures is fed while it replies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.families._calls import replaced
from allocator.families._generation import generate
from allocator.families._passes import FEATURES, OWN, Passes
from allocator.families._pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Decoding, Sample, State
    from allocator.families._branching import Branches
    from allocator.families._course import Course
    from allocator.families._structure import Structure


@dataclass(frozen=True)
class Whole(Pipeline):
    """A model that replies; see `allocator.core.ports.Model`.

    `structure` and `course` say how it is cut.
    """

    structure: Structure | None = None
    course: Course | None = None

    def processed(
        self,
        samples: Sequence[Sample],
        texts: Sequence[str],
        *,
        shared: bool = False,
        **more: Sequence[str],
    ) -> State:
        """What the checkpoint's processor makes of pictures and texts, each its own."""
        del shared
        return super().processed(samples, texts, **more)

    def branches(
        self, module: Any, state: State, decoding: Decoding
    ) -> Branches | None:
        """None: questions are asked as they are."""
        del module, state, decoding
        return None

    def reply_ids(self, state: State, decoding: Decoding) -> Any:
        """Tokens of the replies alone: [batch, tokens].

        What the prefix has made is fed, unless there are beams: transformers repeats
        the inputs for each.
        """
        assert self.structure is not None
        assert self.course is not None
        module = self.module
        passes = Passes(module, self.structure, self.course)
        forwards = passes.prefix(state) if decoding.beams == 1 else {}
        told = {k: v for k, v in state.items() if k not in OWN and not _is_reply(k)}
        parts = [module.get_submodule(name) for name in forwards]
        with replaced(parts, list(forwards.values())):
            ids = generate(module, decoding, self.ends, **told)
        return _behind(ids, state["input_ids"], module.config)


def _is_reply(name: str) -> bool:
    return name.startswith("decoder_")


def _behind(ids: Any, prompts: Any, config: Any) -> Any:
    """Tokens behind the prompts, if a model repeats these."""
    count = prompts.shape[1]
    if ids.shape[1] > count and bool((ids[:, :count] == prompts).all()):
        return ids[:, count:]
    # a decoder repeats what it begins with
    return ids[:, 1:] if config.is_encoder_decoder else ids
