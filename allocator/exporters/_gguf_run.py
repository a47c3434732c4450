"""llama.cpp itself, in a process of its own: what it does not like ends the process."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from allocator.core.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

# the card's lines are what is run; a context as long as the model's may not fit memory
USAGE = """\
# pip install xllamacpp
# or: llama-server -m {out}/model.gguf --mmproj {out}/mmproj.gguf -c 4096
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.mmproj.path = "{out}/model.gguf", "{out}/mmproj.gguf"
params.n_ctx = 4096
server = xllamacpp.Server(params)

# about a picture: content is a list of {"type": "image_url", "image_url": {"url":
# "data:image/png;base64,..."}} and {"type": "text", "text": "..."}
messages = [{"role": "user", "content": "What colour is the sky?"}]
reply = server.handle_chat_completions({"messages": messages, "max_tokens": 16})
print(reply["choices"][0]["message"]["content"])
"""


def run_card(out: Path) -> str | None:
    """Load a written folder in llama.cpp and let it answer, by the card's lines.

    Returns:
        Who did, with its version; None where xllamacpp is not installed.

    Raises:
        ModelError: it does not; says what it says.
    """
    if find_spec("xllamacpp") is None:
        return None
    ran = subprocess.run(  # nosec B603: Python itself, with code of ours
        [sys.executable, "-c", USAGE.replace("{out}", out.name)],
        cwd=out.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    loader = f"xllamacpp {version('xllamacpp')}"
    if ran.returncode != 0:
        raise ModelError(f"{loader} does not run it: {_reason(ran)}")
    return loader


def _reason(ran: subprocess.CompletedProcess[str]) -> str:
    """The line that says most: a failed assertion, an error, or the last."""
    lines = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
    for word in ("GGML_ASSERT", "rror:"):
        for line in lines:
            if word in line:
                return line
    return lines[-1] if lines else f"exit code {ran.returncode}"
