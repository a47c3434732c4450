"""Which releases of compressed-tensors read what is exported, and whether it says so.

Writes a tiny LLaVA with every width, symmetric or not, in groups and channels, for
transformers and for vLLM, and loads each through the release that is installed, or
that comes first in PYTHONPATH:

    pip install --no-deps --target /tmp/ct-0.20.0 compressed-tensors==0.20.0
    PYTHONPATH=/tmp/ct-0.20.0 python -m studies.export.releases
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from allocator.core.allocation import Scheme
from allocator.core.errors import ModelError
from allocator.core.plugins import load
from allocator.exporters import _loaded
from allocator.exporters.compressed_tensors import (
    LIBRARY,
    effective,
    release_here,
    unread,
)
from tests.exporters.models import checkpoint_of
from tests.exporters.written import written
from tests.states import made

SIZES = (32, "channel")
GRIDS = product((False, True), ("none", "vllm"), ((2, 4, 8), (3, 5, 6)), SIZES)


def main() -> int:
    """Print a line for each grid; 1 where a release does otherwise than is said."""
    release, wrong = release_here(), 0
    with TemporaryDirectory() as name:
        source = Path(name) / "source"
        made(load("allocator.families", "llava"), source)
        for n, (symmetric, target, widths, size) in enumerate(GRIDS):
            scheme = Scheme(size, symmetric, target=target)
            checkpoint = checkpoint_of(source, widths, scheme=scheme)
            out = Path(name) / str(n)
            written(checkpoint, out)
            said = unread(checkpoint, release)
            try:
                loaded = _loaded.load(out, LIBRARY, read=effective)
                low = checkpoint.low
                same = (
                    torch.equal(loaded.weight(k), checkpoint.weight(k)) for k in low
                )
                found = "exact" if all(same) else "read, and other weights"
            except ModelError:
                found = "refused"
            wrong += (found == "exact") != (said is None)
            kind = "symmetric" if symmetric else "asymmetric"
            bits = ", ".join(map(str, widths))
            print(f"{release}: {kind}, {size}, {bits} bits, for {target}: {found}")
    print(f"{wrong} otherwise than the exporter says")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
