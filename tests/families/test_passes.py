"""Stages of models whose forward passes have something of their own: small ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from allocator.core.errors import ModelError
from allocator.core.ports import POSITIONS
from allocator.families._blocks import Readers, Row
from allocator.families._course import Course
from allocator.families._passes import Passes
from allocator.families._rehearsal import rehearsed
from allocator.families._structure import Outside, Structure

WIDTH, WORDS = 8, 16


class Block(nn.Module):
    """Adds what a linear makes of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Any:
        return hidden + self.inner(hidden).tanh()


class Tuple(Block):
    """Gives its outcome in a tuple."""

    def forward(self, hidden: Tensor) -> Any:
        return (super().forward(hidden), None)


class Biased(Block):
    """Gives what the next block is told too."""

    def forward(self, hidden: Tensor, bias: Tensor | None = None) -> Any:
        bias = hidden.mean(1, keepdim=True) if bias is None else bias + 1
        return super().forward(hidden + bias), bias


class Named(Block):
    """Is called by keyword alone."""

    def forward(self, states: Tensor, scale: float) -> Any:
        return super().forward(states * scale)


class Leaving(Block):
    """Leaves for the next what it has read."""

    def forward(self, hidden: Tensor, left: dict[str, Tensor]) -> Any:
        given = super().forward(hidden + left.get("read", 0))
        left["read"] = hidden
        return given


class Toy(nn.Module):
    """Pixels through a row, a linear, and with words through another row."""

    block: type[Block] = Block

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = SimpleNamespace(model_type="toy", is_encoder_decoder=False)
        self.vision = nn.ModuleList(Block() for _ in range(2))
        self.connector = nn.Linear(WIDTH, WIDTH)
        self.words = nn.Embedding(WORDS, WIDTH)
        self.language = nn.ModuleList(self.block() for _ in range(3))
        self.head = nn.Linear(WIDTH, WORDS, bias=False)

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor, **_: Any
    ) -> dict[str, Tensor]:
        del attention_mask
        hidden = self.laid(self.words(input_ids), self.seen(pixel_values))
        return {"logits": self.head(self.read(hidden))}

    def seen(self, pixels: Tensor) -> Tensor:
        for block in self.vision:
            pixels = block(pixels)
        return self.connector(pixels)

    def laid(self, words: Tensor, picture: Tensor) -> Tensor:
        return words + picture.mean(1, keepdim=True)

    def read(self, hidden: Tensor) -> Tensor:
        for block in self.language:
            hidden = block(hidden)
        return hidden


class InTuples(Toy):
    block = Tuple

    def read(self, hidden: Tensor) -> Tensor:
        for block in self.language:
            hidden = block(hidden)[0]
        return hidden


class WithBias(Toy):
    block = Biased

    def read(self, hidden: Tensor) -> Tensor:
        bias = None
        for block in self.language:
            hidden, bias = block(hidden, bias)
        return hidden


class ByName(Toy):
    block = Named

    def read(self, hidden: Tensor) -> Tensor:
        for number, block in enumerate(self.language):
            hidden = block(scale=number + 1.0, states=hidden)
        return hidden


class Shared(Toy):
    block = Leaving

    def read(self, hidden: Tensor) -> Tensor:
        left: dict[str, Tensor] = {}
        for block in self.language:
            hidden = block(hidden, left=left)
        return hidden


class Added(Toy):
    """Something is added between two blocks."""

    def read(self, hidden: Tensor) -> Tensor:
        first = hidden
        for number, block in enumerate(self.language):
            hidden = block(hidden)
            if number == 1:
                hidden = hidden + first
        return hidden


class InPlace(Toy):
    """What a block gave is written into."""

    def read(self, hidden: Tensor) -> Tensor:
        for block in self.language:
            hidden = block(hidden)
            hidden[:, 0] *= 2
        return hidden


class EachPicture(Toy):
    """Each picture runs by itself, connector and all."""

    def seen(self, pixels: Tensor) -> Tensor:
        return torch.cat([super(EachPicture, self).seen(x[None]) for x in pixels])


class Skipping(Toy):
    """A block is not called."""

    def read(self, hidden: Tensor) -> Tensor:
        return self.language[2](self.language[0](hidden))


class Twice(Toy):
    """Blocks run again on what they gave."""

    def read(self, hidden: Tensor) -> Tensor:
        return super().read(super().read(hidden))


def parts(*rows: str) -> Structure:
    inner = (Readers("inner", "all"),)
    components = {"vision": "vision", "language": "language"}
    return Structure(
        tuple(Row(components[path], path, inner) for path in rows),  # type: ignore[arg-type]
        tuple((-1,) for _ in rows),
        (Outside("connector", Readers("connector", "all")),),
    )


STRUCTURE = parts("vision", "language")
NAMES = [
    "vision.embed",
    *("vision.0", "vision.1", "connector", "language.embed"),
    *("language.0", "language.1", "language.2", "language.head"),
]


def prompts() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "pixel_values": torch.randn(2, 4, WIDTH),
        "input_ids": torch.tensor([[1, 2, 3, 4, 5], [0, 6, 7, 8, 9]]),
        "attention_mask": torch.tensor([[1] * 5, [0, 1, 1, 1, 1]]),
    }


def run(passes: Passes, state: dict[str, Any]) -> dict[str, Any]:
    """A state behind all stages; each gives the same when it runs again."""
    with torch.inference_mode():
        for stage in passes.stages():
            behind, again = (tree_leaves(stage.run(dict(state))) for _ in range(2))
            tensors = [
                pair
                for pair in zip(behind, again, strict=True)
                if torch.is_tensor(pair[0])
            ]
            assert all(torch.equal(*pair) for pair in tensors)
            state = stage.run(state)
    return state


@pytest.mark.parametrize(
    "kind",
    [Toy, InTuples, WithBias, ByName, Shared, Added, InPlace, EachPicture, Skipping],
)
def test_stages_give_what_the_whole_pass_gives(kind: type[Toy]) -> None:
    module, state = kind().eval(), prompts()
    course = rehearsed(module, STRUCTURE, state)
    passes = Passes(module, STRUCTURE, course)
    assert [stage.name for stage in passes.stages()] == NAMES
    with torch.inference_mode():
        wanted = module(**state)["logits"]
    torch.testing.assert_close(run(passes, state)["logits"], wanted)
    assert course.prefix == ("vision", "connector")
    assert course.masks == {"language": "attention_mask", "head": "attention_mask"}


@pytest.mark.parametrize(
    ("kind", "again"),
    [(Toy, 0), (InTuples, 1), (ByName, 0), (Shared, 0), (WithBias, 2), (Added, 1)],
)
def test_blocks_are_entered_anew_only_where_something_happens_between(
    kind: type[Toy], again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = kind().eval()
    course = rehearsed(module, STRUCTURE, prompts())
    assert course.again == ({"language"} if again else set())
    entered: list[int] = []
    usual = Passes._enter_again
    monkeypatch.setattr(
        Passes, "_enter_again", lambda *x: (entered.append(x[3]), usual(*x))[1]
    )
    state: dict[str, Any] = dict(prompts())
    with torch.inference_mode():
        for stage in Passes(module, STRUCTURE, course).stages():
            state = stage.run(state)
    assert len(entered) == again


@pytest.mark.parametrize("kind", [Toy, Added, WithBias, InPlace])
def test_every_linear_runs_in_its_own_stage_alone(kind: type[Toy]) -> None:
    module, state = kind().eval(), dict(prompts())
    passes = Passes(module, STRUCTURE, rehearsed(module, STRUCTURE, state))
    ran: list[str] = []
    linears = {n: m for n, m in module.named_modules() if isinstance(m, nn.Linear)}
    for name, linear in linears.items():
        usual = linear.forward
        monkey = lambda x, n=name, f=usual: (ran.append(n), f(x))[1]  # noqa: E731
        linear.forward = monkey  # type: ignore[method-assign]
    with torch.inference_mode():
        for stage in passes.stages():
            ran.clear()
            state = stage.run(state)
            assert set(ran) <= set(stage.linears), stage.name


def test_what_is_called_twice_is_known_and_each_call_has_its_own_outcome() -> None:
    module, state = EachPicture().eval(), prompts()
    course = rehearsed(module, STRUCTURE, state)
    assert course.several == {"vision"}
    kept = Passes(module, STRUCTURE, course)
    given: dict[str, Any] = dict(state)
    with torch.inference_mode():
        for stage in kept.stages()[:4]:
            given = stage.run(given)
    assert {k: len(v) for k, v in given["features"].items()} == {
        "vision.1": 2,
        "connector": 2,
    }


def test_blocks_that_run_on_what_they_gave_are_refused() -> None:
    with pytest.raises(ModelError, match="again on what they gave"):
        rehearsed(Twice().eval(), STRUCTURE, prompts())


def test_a_row_that_does_not_run_is_named() -> None:
    module = Toy().eval()
    module.add_module("other", nn.ModuleList([Block()]))
    with pytest.raises(ModelError, match="no block of other runs"):
        rehearsed(
            module,
            Structure(
                (*STRUCTURE.rows, Row("language", "other", ())),
                (*STRUCTURE.reads, (-1,)),
                STRUCTURE.outside,
            ),
            prompts(),
        )


def test_what_a_small_model_did_not_show_is_an_error() -> None:
    course = Course(("vision", "connector", "language"), prefix=("vision", "connector"))
    with pytest.raises(ModelError, match="in front of number 2, and in a small model"):
        run(Passes(Added().eval(), STRUCTURE, course), prompts())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_passed_on_as_what_it_is(value: float) -> None:
    module, state = Toy().eval(), prompts()
    passes = Passes(module, STRUCTURE, rehearsed(module, STRUCTURE, state))
    with torch.inference_mode():
        module.words.weight[7] = value
        wanted = module(**state)["logits"]
        for stage in passes.stages():
            state = stage.run(state)
    torch.testing.assert_close(state["logits"], wanted, equal_nan=True)
    assert 0 < wanted.isnan().sum() < wanted.numel()


def test_the_head_reads_the_positions_that_are_named() -> None:
    module, state = Toy().eval(), prompts()
    passes = Passes(module, STRUCTURE, rehearsed(module, STRUCTURE, state))
    places = torch.tensor([[-1, 0], [-1, -2]])
    found = run(passes, {**state, POSITIONS: places})["logits"]
    wanted = module(**state)["logits"]
    torch.testing.assert_close(found, wanted[torch.tensor([[0], [1]]), places])
