from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.allocation import Scheme
from allocator.core.plugins import load
from quant.bank import Recipe
from tests.quant.banks import FAMILY

if TYPE_CHECKING:
    from allocator.core.ports import Model
    from allocator.core.spec import ModelSpec


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, ModelSpec]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    FAMILY.tiny(folder)
    return FAMILY.load(folder, "cpu"), FAMILY.spec(folder)


@pytest.fixture
def recipe() -> Recipe:
    methods = {name: load("quant.methods", name) for name in ("uniform", "gptq")}
    return Recipe("weights", ("a", "b"), Scheme(), methods, (3, 4, 16))
