r"""What commands take of memory that were given a limit: limit, peak, ratio.

Each runs alone, in a process and in folders of its own, and is looked at from outside
fifty times a second: what it takes of anonymous and shared pages (RssAnon, RssShmem),
which are what a container's limit counts and the kernel cannot drop.

    OMP_NUM_THREADS=1 python studies/scale/memory_limits.py --folder /tmp/limited \
        --out studies/results/limits_memory.json

`--made` takes a model with random weights (`write_checkpoint`) in place of an embedded
one, which is searched on a few drawn questions.
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

from studies.bank.large import EMBEDDED
from studies.bank.large import _write_processor as write_processor

# limits in MB, of the embedded models and of the one that is made; 0: none
SMALL, LARGE = (0, 1000, 800, 640), (0, 3000, 2500, 2000)
COUNTED = ("RssAnon", "RssShmem")
# where there is no room for what was asked for
REFUSED = 2


def write_checkpoint(folder: Path, blocks: int, width: int) -> None:
    """Save a random LLaVA with the embedded tokenizer, in float16."""
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=512,
            intermediate_size=2048,
            num_hidden_layers=4,
            num_attention_heads=8,
            image_size=336,
            patch_size=56,
            projection_dim=512,
        ),
        text_config=LlamaConfig(
            # half of its parameters, which cost a look-up
            vocab_size=96_256,
            hidden_size=width,
            intermediate_size=11 * width // 4,
            num_hidden_layers=blocks,
            num_attention_heads=width // 64,
            # what it replies hangs on what it is asked
            initializer_range=0.1,
        ),
        image_token_index=4,
        image_seq_length=36,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    model = LlavaForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    tokenizer = json.loads((EMBEDDED / "tokenizer.json").read_text())
    # other tokens are no words
    model.lm_head.weight.data[len(tokenizer["model"]["vocab"]) :] = 0
    model.save_pretrained(folder)
    write_processor(folder)
    about = json.loads((folder / "processor_config.json").read_text())
    about["patch_size"] = 56
    (folder / "processor_config.json").write_text(json.dumps(about))


def taken(pid: int) -> int:
    """Bytes of a process that the kernel cannot drop."""
    total = 0
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(":")
        if name in COUNTED:
            total += 1024 * int(value.split()[0])
    return total


def limited(
    folder: Path, words: list[str], limit: int | None, told: bool = False
) -> dict[str, Any]:
    """One command under a limit in MB, as plain data."""
    limits = [] if limit is None else ["--memory", f"{limit}MB"]
    command = [sys.executable, "-m", "allocator.cli", *words, *limits, "--json"]
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_DATA_HOME": str(folder / "data"),
    }
    started, peak, lines = time.monotonic(), 0, list[tuple[int, str]]()
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:

        def read() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                lines.append((taken(process.pid) // 10**6, line.rstrip()))

        reader = threading.Thread(target=read)
        reader.start()
        while process.poll() is None:
            peak = max(peak, taken(process.pid))
            time.sleep(0.02)
        reader.join()
    for size, line in lines if told else ():
        print(f"{size:6d} MB {line}", file=sys.stderr)
    return {
        "command": words,
        "limit_mb": limit,
        "peak_mb": round(peak / 1e6),
        "ratio": None if limit is None else peak / 1e6 / limit,
        "code": process.returncode,
        "seconds": time.monotonic() - started,
        "said": lines[-1][1] if process.returncode and lines else "",
    }


def row(model: str, found: dict[str, Any]) -> str:
    """A line of a table."""
    ratio = "" if found["ratio"] is None else f"{found['ratio']:.2f}"
    what = "done" if found["code"] == 0 else found["said"]
    return (
        f"| {model} | {found['limit_mb'] or 'none'} | {found['peak_mb']} | {ratio} | "
        f"{found['seconds']:.0f} | {what} |"
    )


def main() -> None:
    """Search under each limit, print and keep what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for what is made")
    parser.add_argument("--models", nargs="*", default=["tiny-blip2"])
    parser.add_argument("--made", action="store_true")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--limits", nargs="+", type=int)
    parser.add_argument("--words", default="", help="further options of the search")
    parser.add_argument("--told", action="store_true", help="also what is said, when")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    models, limits = list(asked.models), SMALL
    if asked.made:
        made = asked.folder / "model"
        if not made.exists():
            write_checkpoint(made, asked.blocks, asked.width)
        models, limits = [str(made)], LARGE
    found = []
    print("| model | limit, MB | peak, MB | ratio | seconds | |")
    print("|---|---|---|---|---|---|", flush=True)
    for model in models:
        words = ["--budget", "4.0", "--task", "vqav2", "--model", model]
        words += asked.words.split()
        for limit in asked.limits or limits:
            own = asked.folder / "run"
            found.append(limited(own, words, limit or None, asked.told))
            shutil.rmtree(own, ignore_errors=True)
            print(row(Path(model).name, found[-1]), flush=True)
            if asked.out:
                asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
