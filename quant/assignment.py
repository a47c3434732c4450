"""What each linear of a model is to become when it is finalized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import FULL, digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.allocation import Choice
    from quant.bank import Recipe
    from quant.tuning import Tuning

# counts up whenever finalized weights change
VERSION = 2


@dataclass(frozen=True)
class Assignment:
    """What each linear of a model is to become.

    Attributes:
        recipe: as of a bank; has every method that is used.
        choices: bits and method of every linear in a group, by full name.
        corrected: whether weights make up for what their inputs have lost
            (`quant.drift`) before they are quantized.
        tune: how cells are learned from there on (`quant.tuning`); None: not at all.
    """

    recipe: Recipe
    choices: Mapping[str, Choice]
    corrected: bool = True
    tune: Tuning | None = None

    @property
    def keys(self) -> dict[str, str]:
        """Names of the cells wanted, by linear; those at 16 bits have none."""
        return {
            name: self.recipe.key(choice.method, choice.bits)
            for name, choice in self.choices.items()
            if choice.method is not None
        }

    @property
    def settings(self) -> list[Any]:
        """All that cells depend on beside the choices: plain data."""
        tuned = self.tune.described if self.tune else None
        return settings_of(self.recipe.digest, self.corrected, tuned)

    @property
    def digest(self) -> str:
        """Name of the folder: of the settings and of each linear's cell."""
        return name_of(self.settings, list(self.choices), self.keys)


def settings_of(recipe: str, corrected: bool, tuned: Any) -> list[Any]:
    """Plain data of all that cells depend on beside the choices."""
    return [VERSION, recipe, corrected, *([tuned] if tuned else [])]


def name_of(settings: list[Any], linears: list[str], keys: Mapping[str, str]) -> str:
    """Digest of settings, and of the cell that each linear gets."""
    wanted = {name: keys.get(name, str(FULL)) for name in linears}
    return digest([*settings, wanted])
