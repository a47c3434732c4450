"""Where the parts of a model are: a file for each family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.errors import ModelError
from allocator.core.plugins import available, load
from allocator.families._checkpoint import read_config as read_config
from allocator.families._checkpoint import read_plain_config
from allocator.families._files import checkpoint_files as checkpoint_files
from allocator.families._files import unread_files as unread_files
from allocator.families._modules import computing_type as computing_type
from allocator.families._modules import scale_type as scale_type
from allocator.families._packed import packed_by as packed_by
from allocator.families._packed import packed_type as packed_type
from allocator.families._packed import parameters_of as parameters_of
from allocator.families._pictures import read_image as read_image
from allocator.families._quantized import READERS as READERS
from allocator.families._sharing import PICTURE as PICTURE
from allocator.families._weights import INDEX as INDEX
from allocator.families._weights import SINGLE as SINGLE
from allocator.families._weights import check_weights as check_weights
from allocator.families._weights import has_weights as has_weights
from allocator.families._weights import tensor_bytes as tensor_bytes
from allocator.families._weights import weight_files as weight_files
from allocator.families._wording import has_switch as has_switch

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family

# the family of every architecture that no other one names
AUTO = "auto"


def family_of(folder: Path, *, packed: bool = False) -> Family:
    """The family that handles a checkpoint, by its configuration alone.

    `packed` allows weights that are quantized already: see `Family.load_packed`.

    Raises:
        ModelError: no model folder, or a kind no family handles.
    """
    kind = (read_config if packed else read_plain_config)(folder)["model_type"]
    known: dict[str, Family] = {}
    for name in available(__name__):
        if name != AUTO:
            family: Family = load(__name__, name)
            known.update(dict.fromkeys(family.model_types, family))
    if kind in known:
        return known[kind]
    # its types are transformers' own: it is asked last
    auto: Family = load(__name__, AUTO)
    if kind not in auto.model_types:
        raise ModelError(
            f"{folder} is a {kind!r} model; supported are {', '.join(sorted(known))}, "
            "and by its structure any image-text-to-text architecture of transformers"
        )
    return auto


def declaration_of(folder: Path) -> str | None:
    """How a model that no family names is placed, written as one would declare it.

    None where a family names it.

    Raises:
        ModelError: see `family_of`, or its structure cannot be found.
    """
    from allocator.families._declaring import declared
    from allocator.families.auto import Auto

    family = family_of(folder)
    return declared(family.structure(folder)) if isinstance(family, Auto) else None
