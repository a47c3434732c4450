"""Every family, found by itself, keeps the rules a family has to keep."""

from __future__ import annotations

import math
import re
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from allocator.bench.cuts import Cuts
from allocator.bench.forward import Forward
from allocator.bench.in_place import InPlace
from allocator.core.cost import Cost
from allocator.core.plugins import load
from allocator.core.ports import POSITIONS, Decoding
from allocator.core.spec import EXTRAS, GRANULARITIES
from allocator.core.weights import key_of, slice_of, weight_of
from quant.folding import Folds
from quant.lru_cache import LRUCache
from quant.streaming import Spool, in_memory
from tests.states import EVERY, copied, logits_of, made, prefixed, stored_by

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from allocator.core.ports import Family, Model, Stage, State


@dataclass(frozen=True)
class Case:
    """A tiny model on disk, and two prompts for it."""

    family: Family
    folder: Path
    state: State
    loaded: Model

    @property
    def extras(self) -> tuple[str, ...]:
        return EXTRAS if self.family.gives(self.folder) == "reply" else ()


@pytest.fixture(params=EVERY, ids="-".join, scope="module")
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    name, variant = request.param
    family = load("allocator.families", name)
    folder = tmp_path_factory.mktemp(name)
    state = made(family, folder, variant)
    return Case(family, folder, state, family.load(folder, "cpu"))


@pytest.fixture
def model(case: Case) -> Model:
    return copied(case.loaded)


def forward(model: Model, state: State) -> torch.Tensor:
    """What transformers' own forward pass gives: [batch, tokens, vocabulary].

    A model that ranks says of each pair whether it matches: [batch, 1, 2].
    """
    with torch.inference_mode():
        if "language" in {stage.component for stage in model.stages()}:
            return model.module(**state).logits
        given = model.module(**state, use_image_text_matching_head=True)
        return given.logits_per_image.unsqueeze(1)


def test_every_linear_is_in_one_group_or_left_out_with_a_reason(
    case: Case, model: Model
) -> None:
    spec = case.family.spec(case.folder)
    linears = {n for n, m in model.module.named_modules() if isinstance(m, nn.Linear)}
    grouped = {linear.name for linear in spec.linears}
    left = {left.name for left in spec.left_out}
    assert grouped | left >= linears
    # experts, and matrices that are no linear layers, are named beside them
    assert all(weight_of(model.module, n).dim() == 2 for n in grouped | left)
    assert not grouped & left
    assert all(left.reason for left in spec.left_out)
    wanted = {"vision", "connector", "language"}
    if case.family.gives(case.folder) == "ranking":
        wanted.remove("language")
    if not any(stage.linears for stage in connecting(model)):
        # a connector may be a bare matrix
        wanted.remove("connector")
    assert {group.component for group in spec.groups} == wanted


def test_what_begins_at_any_cut_ends_as_the_whole_pass(
    case: Case, model: Model
) -> None:
    spec = case.family.spec(case.folder, include=case.extras).by_linear()
    in_place, cuts = InPlace(model.module, spec.linears), Cuts.of(model, spec)
    forward = Forward(model, in_place, cuts, LRUCache(2**28), Cost())
    name = ("all", "2")
    wanted = forward.logits(name, case.state, None)
    torch.testing.assert_close(wanted, logits_of(model, case.state)[:, -1:])
    left = list(forward.kept.values)
    assert len(left) == len(cuts.places) >= len(model.prefix)
    while left:
        # each pass begins a cut earlier, the last one at the pixels
        assert torch.equal(forward.logits(name, case.state, None), wanted)
        del forward.kept.values[left.pop()]


def connecting(model: Model) -> list[Stage]:
    return [stage for stage in model.stages() if stage.component == "connector"]


def test_the_spec_counts_what_the_checkpoint_holds(case: Case, model: Model) -> None:
    spec = case.family.spec(case.folder, include=case.extras)
    stored = stored_by(model.module)
    assert spec.parameters == sum(value.numel() for value in stored.values())
    assert spec.rest == sum(math.prod(shape) for _, shape in spec.others)
    assert spec.model_type == model.module.config.model_type
    for name, shape in spec.others:
        assert stored[name].shape == shape
    for linear in spec.linears:
        weight = weight_of(model.module, linear.name)
        assert weight.shape == (linear.out_features, linear.in_features)


def test_every_granularity_splits_the_same_linears(case: Case) -> None:
    specs = [case.family.spec(case.folder, each) for each in GRANULARITIES]
    assert len({frozenset(linear.name for linear in s.linears) for s in specs}) == 1
    sizes = [len(spec.groups) for spec in specs]
    assert sizes == sorted(sizes)
    components, blocks = specs[0], specs[-1]
    assert len(components.groups) == len({g.component for g in components.groups})
    one_block = {(x.component, x.block, x.type) for x in blocks.linears}
    assert len(blocks.groups) == len(one_block)


def test_head_and_embeddings_are_groups_of_their_own_if_asked(case: Case) -> None:
    if not case.extras:
        pytest.skip("a model that ranks has neither")
    for granularity in GRANULARITIES:
        plain = case.family.spec(case.folder, granularity)
        more = case.family.spec(case.folder, granularity, EXTRAS)
        added = set(more.keys) - set(plain.keys)
        assert added in (
            {"language.all.head"},
            {"language.all.head", "language.all.embeddings"},
        )
        assert more.rest < plain.rest


def test_the_stages_together_are_the_forward_pass(case: Case, model: Model) -> None:
    wanted = forward(model, case.state)
    seen = attended(case.state, wanted)
    torch.testing.assert_close(logits_of(model, case.state)[seen], wanted[seen])


def attended(state: State, logits: torch.Tensor) -> torch.Tensor:
    """Positions of the logits that count: [batch, tokens] bool."""
    mask = state.get("decoder_attention_mask", state["attention_mask"]).bool()
    if logits.dim() == 2:
        return torch.ones(len(logits), dtype=torch.bool)
    return mask if mask.shape == logits.shape[:2] else torch.ones(logits.shape[:2]) > 0


def test_the_head_reads_the_positions_that_are_named_and_no_others(
    case: Case, model: Model
) -> None:
    wanted = logits_of(model, case.state)
    # of each sample others, one of them from the front; one that ranks has no such head
    rows, places = torch.tensor([[0], [1]]), torch.tensor([[-1, 0], [-1, -2]])
    read: list[torch.Size] = []
    head = model.module.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(lambda _, args: read.append(args[0].shape[:2]))
    found = logits_of(model, {**case.state, POSITIONS: places})
    if head is None:
        assert torch.equal(found, wanted)
        return
    assert read == [(2, 2)]
    torch.testing.assert_close(found, wanted[rows, places])


def test_a_mapped_model_gives_the_same_stage_by_stage(
    case: Case, model: Model, tmp_path: Path
) -> None:
    wanted = forward(model, case.state)
    mapped = case.family.load(case.folder, "cpu", mapped=True)
    # so little memory that everything is moved to disk in between
    spool = Spool(tmp_path, "cpu", limit=1)
    spool.append(dict(case.state))
    with torch.inference_mode():
        for stage in mapped.stages():
            with in_memory(mapped.module, stage.uses, "cpu"):
                spool[0] = stage.run(spool[0])
    seen = attended(case.state, wanted)
    torch.testing.assert_close(spool[0]["logits"][seen], wanted[seen])


@pytest.mark.parametrize("beams", [1, 3])
def test_replies_are_those_of_transformers(
    case: Case, model: Model, beams: int
) -> None:
    if case.family.gives(case.folder) == "ranking":
        pytest.skip("it ranks")
    prompt = {k: v for k, v in case.state.items() if not k.startswith("decoder_")}
    settings = {"max_new_tokens": 6, "num_beams": beams, "do_sample": False}
    with torch.inference_mode():
        wanted = model.module.generate(**deepcopy(prompt), **settings)
        found = model.reply_ids(prefixed(model, case.state), Decoding(6, beams))
    assert torch.equal(found, wanted[:, -found.shape[1] :])
    assert found.shape[1] >= 1


def test_what_the_prefix_leaves_is_all_that_is_kept_of_an_image(
    case: Case, model: Model
) -> None:
    """A search keeps the features of a batch, and reads the rest of the state anew."""
    features = model.features(prefixed(model, case.state))
    with torch.inference_mode():
        rejoined = {**case.state, "features": features}
        for stage in model.stages():
            if stage.component not in model.prefix:
                rejoined = stage.run(rejoined)
    torch.testing.assert_close(rejoined["logits"], logits_of(model, case.state))


def test_the_stages_name_every_grouped_linear_once(case: Case, model: Model) -> None:
    named = [n for stage in model.stages() for s in stage.siblings for n in s.names]
    spec = case.family.spec(case.folder, include=case.extras)
    assert sorted(named) == sorted(linear.name for linear in spec.linears)


def test_siblings_read_one_input_and_run_in_the_stage_that_names_them(
    case: Case, model: Model
) -> None:
    state = dict(case.state)
    for stage in model.stages():
        inputs: dict[str, torch.Tensor] = {}
        hooks = [
            model.module.get_submodule(name).register_forward_pre_hook(
                lambda _, args, name=name, inputs=inputs: inputs.__setitem__(
                    name, args[0]
                )
            )
            for name in stage.linears
            # experts are called by the module that they are in
            if slice_of(model.module, name) is None
        ]
        with torch.inference_mode():
            state = stage.run(state)
        for hook in hooks:
            hook.remove()
        for group in stage.siblings:
            if group.names[0] not in inputs:
                assert group.pool == key_of(model.module, *group.names)
                continue
            first = inputs[group.names[0]]
            assert all(torch.equal(inputs[name], first) for name in group.names)


def test_a_scale_folds_into_its_predecessor_without_changing_the_output(
    case: Case, model: Model
) -> None:
    parameters = dict(model.module.named_parameters(remove_duplicate=False))
    generator = torch.Generator().manual_seed(2)
    for value in parameters.values():
        # new biases are zeros, and new norms all alike
        if value.dim() == 1:
            value.data.add_(torch.randn(value.shape, generator=generator) / 5)
    before = logits_of(model, case.state)
    folds = [s for stage in model.stages() for s in stage.siblings if s.fold]
    told = 0
    for group in folds:
        width = model.module.get_submodule(group.names[0]).in_features
        scale = 0.25 + 4 * torch.rand(width, generator=generator)
        folding = Folds(parameters, torch.float32)
        folding.add(group, scale, low=())
        kept = {name: parameters[name].detach().clone() for name in folding.changed}
        place(parameters, folding.changed)
        after = logits_of(model, case.state)
        assert relative(after, before) <= 5e-5, group
        # without what comes before the set would be another, where it is read at all
        place(parameters, {k: v for k, v in kept.items() if k.startswith(group.fold)})
        told += relative(logits_of(model, case.state), before) > 1e-4
        place(parameters, kept)
    # nothing reads their last vision block
    unread = 3 if re.match("LlavaNext|VipLlava", type(model.module).__name__) else 0
    assert told == len(folds) - unread > 0


def relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def place(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)


def test_a_scale_folds_into_what_the_same_stage_has_solved_before(
    model: Model,
) -> None:
    for stage in model.stages():
        passed: set[str] = set()
        for group in stage.siblings:
            if group.fold is not None:
                assert any(
                    f"{group.fold}.".startswith(f"{used}.")
                    or used.startswith(f"{group.fold}.")
                    for used in stage.uses
                )
                assert group.fold in passed or group.fold not in stage.linears
            passed |= set(group.names)


def test_the_output_is_bit_identical_when_weights_come_back(
    case: Case, model: Model
) -> None:
    before = logits_of(model, case.state)
    for group in case.family.spec(case.folder, include=case.extras).groups:
        weights = [weight_of(model.module, x.name) for x in group.linears]
        kept = [weight.clone() for weight in weights]
        for weight in weights:
            weight.zero_()
        assert not torch.equal(logits_of(model, case.state), before), group.key
        for weight, old in zip(weights, kept, strict=True):
            weight.copy_(old)
    assert torch.equal(logits_of(model, case.state), before)
