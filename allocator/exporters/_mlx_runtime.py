"""Opens an exported folder in mlx-vlm and answers what is asked of it, line by line.

Run by itself, in a Python that has mlx-vlm: `python -I _mlx_runtime.py FOLDER`. It
imports nothing of this program. mlx-vlm puts processors of its own into transformers
when it is imported, so it never shares a process with the model it is compared to.

Each line that it reads is a JSON object, and so is each answer. {"weight": PATH, "to":
FILE, "keep": ""} writes a weight [out, in] as float32 in numpy's format, and forgets
it unless "keep" says something. {"logits": FILE, "to": FILE, "dtype": TYPE} reads one
prompt's inputs and writes the logits behind it, after what is not quantized was cast to
that type ("": as loaded, which is 16 bits). Its first line says which linears are
quantized. Where something fails it says {"error": TEXT} and ends.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, TextIO

# what mlx-vlm works out by itself
UNUSED = ("mm_token_type_ids", "token_type_ids")


class Loaded:
    """A folder as mlx-vlm has loaded it."""

    def __init__(self, folder: Path) -> None:
        self.mx: Any = import_module("mlx.core")
        self.numpy: Any = import_module("numpy")
        # what was freed is not held for later
        self.mx.set_cache_limit(0)
        utils = import_module("mlx_vlm.utils")
        # weights stay in the files until they are used
        self.model = utils.load_model(folder, lazy=True)
        self.modules = dict(self.model.named_modules())

    def linears(self) -> dict[str, list[int]]:
        """Bits and group size of every quantized module, by path."""
        found = {}
        for path, module in self.modules.items():
            if type(module).__name__.startswith("Quantized"):
                found[path] = [module.bits, module.group_size]
        return found

    def weight(self, path: str, to: str, keep: str) -> None:
        """What a quantized module multiplies by: [out, in] float32."""
        mx, module = self.mx, self.modules[path]
        read = mx.dequantize(
            module.weight,
            module.scales.astype(mx.float32),
            module.biases.astype(mx.float32),
            group_size=module.group_size,
            bits=module.bits,
        )
        self.numpy.save(to, self.numpy.array(read))
        if not keep:
            for part in ("weight", "scales", "biases"):
                del module[part]

    def logits(self, file: str, to: str, dtype: str) -> None:
        """Logits behind one prompt: [vocabulary] float32; see above for the type."""
        mx, model = self.mx, self.model
        if dtype:
            model.set_dtype(getattr(mx, dtype))
        with self.numpy.load(file) as stored:
            given = {name: mx.array(stored[name]) for name in stored.files}
        ids, pixels = given.pop("input_ids"), given.pop("pixel_values")
        mask = given.pop("attention_mask")
        for name in UNUSED:
            given.pop(name, None)
        features = model.get_input_embeddings(ids, pixels, mask=mask, **given)
        more = {k: v for k, v in features.to_dict().items() if v is not None}
        embedded = more.pop("inputs_embeds")
        found = model.language_model(ids, inputs_embeds=embedded, mask=None, **more)
        self.numpy.save(to, self.numpy.array(found.logits[0, -1].astype(mx.float32)))


def answer(loaded: Loaded, asked: dict[str, str]) -> dict[str, Any]:
    """Do what a line asks for."""
    if "weight" in asked:
        loaded.weight(asked["weight"], asked["to"], asked["keep"])
    else:
        loaded.logits(asked["logits"], asked["to"], asked["dtype"])
    return {}


def serve(folder: Path, lines: TextIO, answers: TextIO) -> None:
    """Load a folder, then answer line by line."""

    def say(told: dict[str, Any]) -> None:
        answers.write(json.dumps(told) + "\n")
        answers.flush()

    try:
        loaded = Loaded(folder)
        versions = (f"{name} {metadata.version(name)}" for name in ("mlx-vlm", "mlx"))
        say({"loader": ", ".join(versions), "linears": loaded.linears()})
        for line in lines:
            say(answer(loaded, json.loads(line)))
    except Exception as error:
        # some go over several lines
        said = " ".join(str(error).split())
        say({"error": f"{type(error).__name__}: {said}"})


if __name__ == "__main__":
    # libraries print too: answers have a stream of their own
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(Path(sys.argv[1]), sys.stdin, own)
