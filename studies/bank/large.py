"""The bank of a checkpoint that would not fit into memory with its Hessians.

Writes a LLaVA of the widths of LLaVA-1.5-7B with random weights (vision tower and
projector whole, fewer language blocks) as float16 shards of at most 1 GB, builds its
bank with `allocate bank build` in a process of its own, and samples that process's
anonymous memory (RssAnon) ten times a second. The bound is 0.35 S + 2 GB for a
checkpoint of S bytes.

    python studies/bank/large.py --folder /tmp/large --out studies/results/large.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

EMBEDDED = Path(__file__).parents[2] / "allocator" / "embedded" / "tiny-llava"
RUNS = (
    ("uniform,gptq", "2,3,4,5,6,8"),
    ("awq", "4"),
)


def write_checkpoint(folder: Path, blocks: int) -> int:
    """Save the random model with the embedded tokenizer; returns its bytes."""
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=336,
            patch_size=14,
            projection_dim=768,
        ),
        text_config=LlamaConfig(
            vocab_size=32064,
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=blocks,
            num_attention_heads=32,
        ),
        # what the embedded tokenizer gives for <image>
        image_token_index=4,
        image_seq_length=576,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    model = LlavaForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="1GB")
    _write_processor(folder)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _write_processor(folder: Path) -> None:
    """The embedded tokenizer beside an image processor of 336 pixels."""
    for name in ("tokenizer.json", "tokenizer_config.json", "prompts.json"):
        shutil.copy(EMBEDDED / name, folder / name)
    about = json.loads((EMBEDDED / "processor_config.json").read_text())
    about["patch_size"] = 14
    about["image_processor"]["crop_size"] = {"height": 336, "width": 336}
    about["image_processor"]["size"] = {"shortest_edge": 336}
    (folder / "processor_config.json").write_text(json.dumps(about))


def resident(pid: int) -> dict[str, int]:
    """Bytes of anonymous and of file-backed memory of a process."""
    found = {"RssAnon": 0, "RssFile": 0}
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    return found


def watched(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Run a command; its output as JSON, its seconds and its peak memory."""
    started = time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        peak = {"RssAnon": 0, "RssFile": 0}

        def sample() -> None:
            while process.poll() is None:
                for name, size in resident(process.pid).items():
                    peak[name] = max(peak[name], size)
                time.sleep(0.1)

        thread = threading.Thread(target=sample)
        thread.start()
        output = process.communicate()[0]
        thread.join()
    if process.returncode:
        sys.exit(process.returncode)
    return {**json.loads(output), "peak": peak, "wall": time.monotonic() - started}


def main() -> None:
    """Write the checkpoint, build its bank, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="has 30 GB free")
    parser.add_argument("--blocks", type=int, default=7, help="of the language model")
    parser.add_argument("--samples", type=int, default=4, help="calibration samples")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--keep", action="store_true", help="leave the bank there")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    model = asked.folder / "model"
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    size = size or write_checkpoint(model, asked.blocks)
    bound = 0.35 * size + 2e9
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(asked.folder / "cache"),
        "XDG_DATA_HOME": str(asked.folder / "data"),
    }
    world = asked.folder / "cache" / "allocate" / "world-1"
    if not world.exists():
        from evals.world.files import ensure_world

        ensure_world(asked.folder / "cache" / "allocate")
    found = {"checkpoint_bytes": size, "bound_bytes": bound, "builds": []}
    for methods, widths in RUNS:
        command = [
            *(sys.executable, "-m", "allocator.cli", "bank", "build", "--json"),
            *("--model", str(model), "--task", "vqav2", "--data", str(world)),
            *("--methods", methods, "--widths", widths, "--device", asked.device),
            *("--calibration", str(asked.samples)),
        ]
        built = watched(command, environment)
        built = {k: v for k, v in built.items() if k not in ("bank", "model")}
        built = {"methods": methods, "widths": widths, **built}
        found["builds"].append(built)
        print(
            f"{methods} at {widths}: {built['made']:,} cells, {built['wall']:,.0f} s, "
            f"peak RssAnon {built['peak']['RssAnon'] / 1e9:.2f} GB of "
            f"{bound / 1e9:.2f} allowed ({size / 1e9:.2f} GB checkpoint), "
            f"announced {built['announced_bytes'] / 1e9:.2f} GB, "
            f"bank {built['bytes'] / 1e9:.2f} GB",
            flush=True,
        )
        if asked.out:
            asked.out.write_text(json.dumps(found, indent=1) + "\n")
    if not asked.keep:
        shutil.rmtree(asked.folder / "cache" / "allocate" / "bank")


if __name__ == "__main__":
    main()
