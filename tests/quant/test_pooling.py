from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from allocator.core.plugins import load
from allocator.families._any_resolution import prompts
from quant.bank import read_manifest
from quant.build import build_bank
from quant.calibration import calibrate
from quant.cells import file_of, read_cell
from quant.hessian import InputStatistics
from quant.pooling import Feeding, Pool, fed_manifest, feeding, keep_fed
from quant.streaming import Spool
from tests.quant.mixtures import (
    BLOCK,
    CHOSEN,
    EXPERTS,
    STACKS,
    Mixture,
    before,
    by_hand,
    mixture,
    sourced,
    unused,
)
from tests.quant.sequences import recipe_of

if TYPE_CHECKING:
    from pathlib import Path

    from quant.bank import Recipe
    from quant.calibration import Observed


def statistics(tokens: int, features: int = 3, seed: int = 0) -> InputStatistics:
    drawn = torch.Generator().manual_seed(seed)
    found = InputStatistics.empty(features)
    found.add(torch.randn(tokens, features, generator=drawn))
    return found


def test_a_pool_is_what_all_experts_read_together() -> None:
    drawn = torch.Generator().manual_seed(0)
    rows = [torch.randn(n, 3, generator=drawn) for n in (5, 0, 2)]
    each = [InputStatistics.empty(3) for _ in rows]
    whole = InputStatistics.empty(3)
    for own, read in zip(each, rows, strict=True):
        own.add(read)
        whole.add(read)
    pool = Pool.of("stack", each)
    assert pool.tokens == (5, 0, 2)
    assert pool.inputs.tokens == 7
    assert torch.allclose(pool.inputs.hessian, whole.hessian)
    assert torch.allclose(pool.inputs.mean_abs, whole.mean_abs)


def test_an_expert_that_saw_too_few_tokens_is_mixed_with_all() -> None:
    few, enough, unseen = statistics(2), statistics(6, seed=1), statistics(0)
    pool = Pool.of("stack", [few, enough, unseen])
    # 2 of 2 x 3 tokens: a third its own
    found = pool.mixed(few)
    assert torch.allclose(found.hessian, few.hessian / 3 + pool.inputs.hessian * 2 / 3)
    assert torch.allclose(
        found.mean_abs, few.mean_abs / 3 + pool.inputs.mean_abs * 2 / 3
    )
    assert pool.mixed(enough) is enough
    assert pool.mixed(unseen) is pool.inputs


def test_where_no_expert_saw_anything_every_column_counts_the_same() -> None:
    pool = Pool.of("stack", [statistics(0), statistics(0)])
    assert torch.equal(pool.inputs.hessian, 2 * torch.eye(3))
    assert pool.mixed(statistics(0)) is pool.inputs
    assert pool.tokens == (0, 0)


def calibrated(model: Mixture, folder: Path, **chosen: Any) -> dict[str, Observed]:
    """What is observed of the first block's experts, by linear."""
    states = Spool(folder, "cpu")
    states.append(prompts())
    only = chosen.get("only", "")

    def wanted(stage: Any) -> list[Any]:
        return [s for s in stage.siblings if s.pool and only in s.names[0]]

    own: Any = model
    passing = calibrate(own, states, wanted, model.stages())
    found = [each for stage in passing for each in stage]
    return {each.siblings.names[0]: each for each in found if BLOCK in str(each)}


def test_statistics_are_those_of_the_tokens_routed(tmp_path: Path) -> None:
    model = mixture()
    found = calibrated(model, tmp_path)
    expected = by_hand(model, *before(model, BLOCK, prompts()))
    assert len(found) == len(STACKS) * EXPERTS
    for name, each in found.items():
        rows = expected.get(name, torch.empty(0, len(each.inputs.mean_abs)))
        assert each.inputs.tokens == len(rows)
        if len(rows):
            hessian = 2 / len(rows) * rows.T @ rows
            assert torch.allclose(each.inputs.hessian, hessian, atol=1e-4)
            assert torch.allclose(each.inputs.mean_abs, rows.abs().mean(0), atol=1e-5)
    real = int(prompts()["attention_mask"].sum())
    assert {sum(each.pool.tokens) for each in found.values() if each.pool} == {
        CHOSEN * real
    }


def test_one_expert_that_is_made_again_borrows_as_it_did(tmp_path: Path) -> None:
    whole = calibrated(mixture(), tmp_path)
    name = f"{BLOCK}.{STACKS[0]}.2"
    alone = calibrated(mixture(), tmp_path, only=name)
    assert alone.keys() == {name}
    one, other = whole[name].filled().inputs, alone[name].filled().inputs
    assert torch.equal(one.hessian, other.hessian)
    assert torch.equal(one.mean_abs, other.mean_abs)


def built(root: Path, recipe: Recipe, model: Mixture) -> Path:
    build_bank(root, recipe, model.spec.linears, sourced(model))
    return root / recipe.digest


@pytest.mark.parametrize("method", ["awq", "gptq", "uniform"])
def test_an_experts_cell_is_that_of_a_linear_of_its_own(
    tmp_path: Path, method: str
) -> None:
    model, recipe = mixture(), recipe_of(method, widths=(3, 16))
    folder = built(tmp_path, recipe, model)
    solver = load("quant.methods", method)
    for name, each in calibrated(model, tmp_path).items():
        stack, _, number = name.rpartition(".")
        weight = model.module.get_parameter(stack)[int(number)]
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight.data.copy_(weight)
        cell = solver.quantize(
            [linear.weight], each.filled().inputs, recipe.scheme, [3]
        )[3][0]
        [key] = recipe.keys
        if method != "uniform":
            found = read_cell(file_of(folder, name), key)
            assert torch.equal(found.codes, cell.codes)
            assert torch.equal(found.scale, cell.scale)


def test_a_manifest_says_how_far_experts_were_fed(tmp_path: Path) -> None:
    model, recipe = unused(mixture(), 3), recipe_of("gptq", widths=(3, 16))
    manifest = read_manifest(built(tmp_path, recipe, model))
    stacks = manifest["experts"]["stacks"]
    assert len(stacks) == len(STACKS) * 2
    up = stacks[f"{BLOCK}.{STACKS[0]}"]
    plain = mixture()
    expected = by_hand(plain, *before(plain, BLOCK, prompts()))
    counts = Counter({n: len(rows) for n, rows in expected.items()})
    assert up["inputs"] == 64
    assert up["tokens"] == [
        0 if number == 3 else counts[f"{BLOCK}.{STACKS[0]}.{number}"]
        for number in range(EXPERTS)
    ]
    # 15 tokens are too few for all of them; one more token for the one that saw none
    # would be one in two samples
    found = feeding(manifest)
    assert found == Feeding(2 * EXPERTS, 2 * EXPERTS, 1, 2 * 64 * 2)


@pytest.mark.parametrize(
    ("least", "expected"),
    # of 20 tokens that ten inputs need, in three samples
    [(5, (2, 1, 0, 12)), (30, (2, 0, 0, 2)), (0, (2, 1, 1, 60))],
)
def test_samples_that_would_feed_all_follow_the_least_used_expert(
    tmp_path: Path, least: int, expected: tuple[int, ...]
) -> None:
    inputs = {"a.up": 10, "a.down": 4}
    for stack, features in inputs.items():
        own = InputStatistics.empty(features)
        keep_fed(tmp_path, Pool.whole(stack, own, [40, least]))
    names = [f"{stack}.{number}" for stack in inputs for number in range(2)]
    assert feeding(fed_manifest(tmp_path, names, 3)) == Feeding(*expected)


def test_a_bank_without_experts_says_nothing_of_them(tmp_path: Path) -> None:
    model, recipe = mixture(), recipe_of("gptq", widths=(3, 16))
    dense = [x for x in model.spec.linears if ".experts." not in x.name]
    build_bank(tmp_path, recipe, dense, sourced(model))
    assert "experts" not in read_manifest(tmp_path / recipe.digest)
