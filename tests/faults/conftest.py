from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Scheme
from allocator.core.plugins import load
from quant.bank import Recipe
from tests.quant.banks import FAMILY
from tests.states import made

if TYPE_CHECKING:
    from allocator.core.ports import Model
    from allocator.core.spec import ModelSpec


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, ModelSpec]:
    folder = tmp_path_factory.mktemp("model")
    made(FAMILY, folder)
    return FAMILY.load(folder, "cpu"), FAMILY.spec(folder)


@pytest.fixture
def recipe() -> Recipe:
    methods = {name: load("quant.methods", name) for name in ("uniform", "gptq")}
    return Recipe("weights", ("a", "b"), Scheme(), methods, (3, 4, 16))
