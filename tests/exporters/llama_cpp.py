"""llama.cpp on what was exported, and on the same weights as its converter has them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from allocator.exporters._gguf_convert import converter
from allocator.exporters._hub import hub_of
from allocator.exporters._shards import write_shards
from tests.exporters.models import random_model
from tests.exporters.pieces import save_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from allocator.core.ports import Sample
    from allocator.exporters._checkpoint import Checkpoint

FILES = ("model.gguf", "mmproj.gguf")
# of transformers' own initialization, for the standard deviation of random models
CALM = 0.02 / 0.05


def save_model(
    folder: Path, kind: str, width: int = 256, dtype: torch.dtype = torch.float16
) -> None:
    """A random model whose tokenizer llama.cpp's converter knows.

    Blocks change what passes through them as little as in trained models: noise in
    activations does not grow on its way.
    """
    random_model(folder, kind, width, dtype=dtype)
    save_pieces(folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name, value in tensors.items():
        if value.dim() > 1:
            tensors[name] = value * (2 if "embed_tokens" in name else CALM)
    if kind == "qwen3-vl":
        # llama.cpp ends where features are added to the last block of language
        tensors = {k: v for k, v in tensors.items() if "merger_list.1." not in k}
        config = json.loads((folder / "config.json").read_text())
        config["vision_config"]["deepstack_visual_indexes"] = [0]
        (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, file, metadata={"format": "pt"})


def write_reference(checkpoint: Checkpoint, out: Path) -> None:
    """Decoded weights in fp32 through llama.cpp's converter, as anyone would do it."""
    source = out / "published"
    source.mkdir(parents=True)
    hub = hub_of(checkpoint)
    hub.copy(source)
    (source / "config.json").write_text(json.dumps(hub.config))

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for name, value in checkpoint.rest():
            yield hub.keys[name], value.float()
        for name in checkpoint.low:
            yield hub.keys[f"{name}.weight"], checkpoint.weight(name)

    write_shards(source, tensors())
    for file in FILES:
        more = ["--mmproj"] if file == "mmproj.gguf" else []
        subprocess.run(
            [
                *(sys.executable, converter(), source),
                *("--outfile", out / file, "--outtype", "f32", *more),
            ],
            check=True,
            capture_output=True,
        )


def tensors_of(file: Path) -> dict[str, Any]:
    """Tensors of a GGUF file by name: type, and values as gguf reads them."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    return {
        each.name: (each.tensor_type.name, dequantize(each.data, each.tensor_type))
        for each in GGUFReader(file).tensors
    }


ASK = """
import json, sys, xllamacpp
model, mmproj, asked, tokens, template = json.load(sys.stdin)
params = xllamacpp.CommonParams()
params.model.path, params.mmproj.path = model, mmproj
params.n_ctx, params.n_parallel, params.verbosity = 1024, 1, -1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
if template:
    params.chat_template = template
server = xllamacpp.Server(params)
replies = []
for picture, text in asked:
    url = "data:image/png;base64," + picture
    content = [{"type": "image_url", "image_url": {"url": url}},
               {"type": "text", "text": text}]
    reply = server.handle_chat_completions({
        "messages": [{"role": "user", "content": content}], "max_tokens": tokens,
        "temperature": 0, "logprobs": True, "top_logprobs": 10**6,
        # no bytes that are no text by themselves: their probabilities are not told
        "logit_bias": [[n, False] for n in range(128, 256)]})
    found = reply["choices"][0]["logprobs"]["content"]
    first = {each["id"]: each["logprob"] for each in found[0]["top_logprobs"]}
    replies.append([[first[k] for k in sorted(first)], [each["id"] for each in found]])
json.dump(replies, open(1, "w"))
"""


# nothing but picture and text
BARE = (
    "{% for message in messages %}{% if message.content is string %}"
    "{{ message.content }}{% else %}{% for part in message.content %}{{ part.text }}"
    "{% endfor %}{% endif %}{% endfor %}"
)


def ask(
    out: Path, samples: Sequence[Sample], tokens: int, template: str = ""
) -> tuple[Tensor, list[list[int]]]:
    """What llama.cpp gives for samples: [samples, vocabulary] log-probabilities.

    And the tokens of its greedy replies. An empty template is that of the file.
    """
    asked = [
        (base64.b64encode(sample.image.read_bytes()).decode(), sample.text)
        for sample in samples
    ]
    ran = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps(
            [*(str(out / file) for file in FILES), asked, tokens, template]
        ),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    replies = json.loads(ran.stdout)
    return torch.tensor([first for first, _ in replies]), [ids for _, ids in replies]
