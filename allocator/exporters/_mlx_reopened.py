"""What was written for MLX, read again: by mlx-vlm, or by a reader of our own.

mlx-vlm is asked where this Python has it, or the one that `ALLOCATE_MLX_PYTHON` names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from allocator.core.errors import ModelError
from allocator.exporters import _mlx_runtime
from allocator.families import weight_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from allocator.core.exporting import Tolerance
    from allocator.core.ports import Model, Sample

PYTHON = "ALLOCATE_MLX_PYTHON"


def runtime_python() -> str | None:
    """A Python that has mlx-vlm; None: none is known."""
    if PYTHON in os.environ:
        return os.environ[PYTHON]
    return sys.executable if find_spec("mlx_vlm") else None


class Runtime:
    """mlx-vlm in a process of its own, which ends when this is dropped."""

    def __init__(self, python: str, folder: Path) -> None:
        self._folder = folder
        with ExitStack() as stack:
            self._drafts = Path(stack.enter_context(TemporaryDirectory()))
            self._said = stack.enter_context(TemporaryFile())
            try:
                # isolated: a file beside the script is called as MLX's package is
                self._process = subprocess.Popen(  # nosec B603: a Python, code of ours
                    [python, "-I", _mlx_runtime.__file__, str(folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._said,
                    text=True,
                )
            except OSError as error:
                raise ModelError(
                    f"{PYTHON} names {python}, which is no Python: {error.strerror}"
                ) from None
            # of the process alone: this object is gone with its last reference
            stack.callback(_end, self._process)
            self._stack = stack.pop_all()
        self.told = self._answer()

    def ask(self, **asked: str) -> np.ndarray:
        """The array that a request is answered with; see `_mlx_runtime`.

        Raises:
            ModelError: says what mlx-vlm says.
        """
        file = self._drafts / "answer.npy"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({**asked, "to": str(file)}) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended, and its last answer says why
        self._answer()
        found: np.ndarray = np.load(file, allow_pickle=False)
        file.unlink()
        return found

    def put(self, arrays: Mapping[str, np.ndarray]) -> str:
        """Write arrays where the runtime reads them; the file's name."""
        file = self._drafts / "asked.npz"
        np.savez(file, allow_pickle=False, **arrays)
        return str(file)

    def close(self) -> None:
        """End the process."""
        self._stack.close()

    def __del__(self) -> None:
        if hasattr(self, "_stack"):
            self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        told: dict[str, Any] = json.loads(line) if line else {"error": self._last_words}
        if "error" in told:
            raise ModelError(f"mlx-vlm does not load {self._folder}: {told['error']}")
        return told

    @property
    def _last_words(self) -> str:
        """The last line of its errors."""
        self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it ended")


def _end(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.terminate()
    process.wait()


@dataclass(frozen=True, eq=False)
class InRuntime:
    """As mlx-vlm has loaded it; see `allocator.core.ports.Reopened`.

    Attributes:
        runtime: runs it.
        model: makes inputs of samples.
        paths: of the linears below 16 bits in mlx-vlm, by full name.
        tolerance: as the protocol has it.
        large: each weight is asked for once and nothing else is.
    """

    runtime: Runtime
    model: Model
    paths: Mapping[str, str]
    tolerance: Tolerance
    large: bool = False

    @property
    def loader(self) -> str:
        """mlx-vlm and MLX, with their versions."""
        return str(self.runtime.told["loader"])

    def check(self, wanted: Mapping[str, tuple[int, int]]) -> None:
        """Refuse other linears than were written, or other widths.

        Args:
            wanted: bits and group size by path.

        Raises:
            ModelError: names the first.
        """
        read = {k: tuple(each) for k, each in self.runtime.told["linears"].items()}
        for path in sorted(wanted.keys() | read.keys()):
            if wanted.get(path) != read.get(path):
                raise ModelError(
                    f"mlx-vlm has {_shown(read.get(path))} in {path}, and "
                    f"{_shown(wanted.get(path))} were written"
                )

    def weight(self, linear: str) -> Tensor:
        """What a quantized linear multiplies by: [out, in] float32."""
        keep = "" if self.large else "yes"
        return torch.from_numpy(self.runtime.ask(weight=self.paths[linear], keep=keep))

    def logits(self, samples: Sequence[Sample], dtype: str = "float32") -> Tensor:
        """Logits of the next token behind prompts: [samples, vocabulary] float32.

        Of the inputs that the model here gets, one sample at a time. Computed in
        `dtype`; "" is as mlx-vlm has loaded it, and cannot be had once another was.
        """
        found = []
        for sample in samples:
            state = self.model.inputs([sample])
            file = self.runtime.put({k: v.cpu().numpy() for k, v in state.items()})
            found.append(torch.from_numpy(self.runtime.ask(logits=file, dtype=dtype)))
        return torch.stack(found)


def _shown(linear: tuple[int, ...] | None) -> str:
    if linear is None:
        return "no codes"
    bits, group_size = linear
    return f"codes of {bits} bits in groups of {group_size}"


@dataclass(frozen=True, eq=False)
class Read:
    """As a reader of our own has it, which shares nothing with what wrote it.

    `shapes` are bits and group size of the linears below 16 bits, by path.
    """

    folder: Path
    paths: Mapping[str, str]
    shapes: Mapping[str, tuple[int, int]]
    tolerance: Tolerance

    @property
    def loader(self) -> str:
        """That it is no runtime."""
        return f"a reader of MLX's layout (no mlx-vlm here; {PYTHON} may name one)"

    def weight(self, linear: str) -> Tensor:
        """Codes x scales + biases: [out, in] float32."""
        path = self.paths[linear]
        bits, group_size = self.shapes[path]
        words = self._tensor(f"{path}.weight").view(np.uint8)
        stream = np.unpackbits(words, axis=1, bitorder="little")
        digits = stream.reshape(len(words), -1, bits)
        codes = digits @ (1 << np.arange(bits)).astype(np.float32)
        scales, biases = (
            self._tensor(f"{path}.{part}").astype(np.float32)[..., None]
            for part in ("scales", "biases")
        )
        groups = codes.reshape(len(codes), -1, group_size)
        return torch.from_numpy((groups * scales + biases).reshape(codes.shape))

    def logits(self, samples: Sequence[Sample]) -> None:
        """None: it runs nothing."""
        del samples

    @cached_property
    def _files(self) -> dict[str, Path]:
        from safetensors import safe_open

        found: dict[str, Path] = {}
        for file in weight_files(self.folder):
            with safe_open(file, framework="np") as opened:
                found |= dict.fromkeys(opened.keys(), file)
        return found

    def _tensor(self, name: str) -> Any:
        """One tensor as an array.

        Raises:
            ModelError: it is not there.
        """
        from safetensors import safe_open

        if name not in self._files:
            raise ModelError(f"{self.folder} holds no {name}")
        with safe_open(self._files[name], framework="np") as opened:
            return opened.get_tensor(name)
