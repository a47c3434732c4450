"""What vLLM answers: run by a Python that has it, and nothing of this project.

    cd studies/export/inside_vllm; PYTHONPATH=. python ask.py JOBS

JOBS is JSON, a list of {"folder", "questions", "out"}; questions are [picture, text].
"out" becomes JSON: the tokens of each reply, the log-probability of every token of the
vocabulary at each of them, the same of a second time, and how many layers vLLM computes
with which scheme and kernel; or the error that it ended with.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

from sitecustomize import layers

TOKENS = 8


def asked(folder: str, questions: list[list[str]]) -> dict[str, Any]:
    """Load a checkpoint and ask it."""
    # by its name: no environment of the project has it
    vllm = import_module("vllm")

    start = time.perf_counter()
    told = json.loads((Path(folder) / "tokenizer.json").read_text())
    words = len(told["model"]["vocab"]) + len(told["added_tokens"])
    model = vllm.LLM(
        folder,
        dtype="auto",
        max_model_len=512,
        max_num_seqs=1,
        enable_prefix_caching=False,
        max_logprobs=words,
        enforce_eager=True,
        limit_mm_per_prompt={"image": 1},
        disable_log_stats=True,
    )
    loaded = time.perf_counter() - start
    wanted = vllm.SamplingParams(
        temperature=0, max_tokens=TOKENS, logprobs=words, ignore_eos=True
    )

    # one at a time: what is computed together depends on who came first
    def say() -> list[Any]:
        said = (model.chat([message(*each)], wanted) for each in questions)
        return [each[0].outputs[0] for each in said]

    replies = say()
    found = {
        "version": vllm.__version__,
        "seconds": round(loaded, 1),
        "tokens": [list(reply.token_ids) for reply in replies],
        "logprobs": [logprobs(reply, words) for reply in replies],
        "again": [logprobs(reply, words) for reply in say()],
        "layers": dict(sorted(Counter(model.apply_model(layers)[0]).items())),
    }
    model.llm_engine.engine_core.shutdown()
    return found


def message(picture: str, text: str) -> list[dict[str, Any]]:
    """A conversation of one question."""
    from PIL import Image

    shown = {"type": "image_pil", "image_pil": Image.open(picture)}
    return [{"role": "user", "content": [shown, {"type": "text", "text": text}]}]


def logprobs(reply: Any, words: int) -> list[list[float]]:
    """Log-probabilities before each token of a reply: [tokens, vocabulary]."""
    return [[step[n].logprob for n in range(words)] for step in reply.logprobs]


def main() -> None:
    """One job after the other."""
    for job in json.loads(Path(sys.argv[1]).read_text()):
        try:
            found = asked(job["folder"], job["questions"])
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        Path(job["out"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
