"""What the embedded models lose when they are quantized: the landscape of a search.

    python studies/embedded/landscape.py [tiny-blip2 tiny-llava] [--out FILE.json]

Scores VQAv2's evaluation questions at full precision, under every uniform allocation,
and with single components at 2 bits; captions and retrieval at full precision. CIDEr is
pycocoevalcap's (extra `test`), on tokens split at blanks, since the drawn captions hold
plain words and commas only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench import open_bench
from allocator.core.allocation import Allocation, Choice
from allocator.core.ports import Sample
from allocator.core.spec import COMPONENTS
from allocator.core.study import StudySpec
from allocator.prepare import data_folder, prepare
from allocator.report.progress import Bars

if TYPE_CHECKING:
    from allocator.prepare import Setup
    from allocator.trial import Workbench

CAPTIONED, RETRIEVED, RERANKED = 500, 500, 16


def vqa(setup: Setup, bench: Workbench) -> dict[str, Any]:
    """VQA accuracy of every allocation the landscape is judged by."""
    space, samples = setup.space, setup.samples["evaluation"]

    def score(allocation: Allocation) -> float:
        return round(bench.score(allocation, samples).mean, 2)

    full = score(space.full)
    print(f"{setup.asked.model}: full precision {full}", flush=True)
    uniform = []
    for choice, allocation in zip(space.choices, space.uniform, strict=False):
        row = {"bits": choice.bits, "method": choice.method}
        row |= {"bpw": round(space.bpw(allocation), 3), "score": score(allocation)}
        uniform.append(row)
        print(f"  {choice}: {row['score']} at {row['bpw']} bpw", flush=True)
    components = {}
    for component in COMPONENTS:
        changes = {
            group.key: Choice(2, "uniform")
            for group in space.spec.groups
            if group.component == component
        }
        components[component] = score(space.full.replace(changes))
        print(f"  {component} alone at 2 bits: {components[component]}", flush=True)
    return {"full": full, "uniform": uniform, "component at 2 bits": components}


def verdicts(found: dict[str, Any]) -> dict[str, bool]:
    """The demands on an embedded model, each met or not."""
    full = found["full"]
    at = {(row["bits"], row["method"]): row["score"] for row in found["uniform"]}
    losses = [full - score for score in found["component at 2 bits"].values()]
    plain = {bits: at[bits, "uniform"] for bits in (2, 3, 4, 8)}
    gains = [
        at[bits, method] - plain[bits] for bits in (2, 3) for method in ("gptq", "awq")
    ]
    sizes = sorted({row["bpw"] for row in found["uniform"]})
    below = max(size for size in sizes if size <= 4.0)
    return {
        "full precision at least 85": full >= 85,
        "8 bits within 1 point": full - plain[8] <= 1,
        "4 bits lose at most 8": full - plain[4] <= 8,
        "3 bits lose 4 more than 4 bits": plain[4] - plain[3] >= 4,
        "2 bits lose at least 35": full - plain[2] >= 35,
        "components differ by 10 at 2 bits": max(losses) - min(losses) >= 10,
        "gptq or awq gain 5 at 2 or 3 bits": max(gains) >= 5,
        "4.0 bpw is 0.2 above a uniform size": 4.0 - below >= 0.2,
    }


def captions(setup: Setup, bench: Workbench) -> float:
    """CIDEr of greedy captions of the evaluation images."""
    from pycocoevalcap.cider.cider import Cider

    data = data_folder(setup.asked)
    told = json.loads((data / "annotations/captions_val2014.json").read_text())
    chosen = json.loads((data / "coco_splits.json").read_text())["evaluation"]
    references: dict[int, list[str]] = {}
    for row in told["annotations"]:
        text = row["caption"].replace(",", "")
        references.setdefault(row["image_id"], []).append(text)
    samples = [
        Sample(
            str(i), data / f"val2014/COCO_val2014_{i:012d}.jpg", "caption", "", ("",)
        )
        for i in chosen[:CAPTIONED]
    ]
    bench.apply(setup.space.full)
    replies: list[str] = []
    with torch.inference_mode():
        for start in range(0, len(samples), 250):
            state = bench.model.inputs(samples[start : start + 250])
            for stage in bench.model.stages():
                state = stage.run(state) if stage.component != "language" else state
            replies += bench.model.generate(state, 30)
    said = {i: [r.replace(",", "")] for i, r in zip(chosen, replies, strict=False)}
    cider, _ = Cider().compute_score({i: references[i] for i in said}, said)
    return round(float(cider), 3)


def retrieval(setup: Setup) -> dict[str, float]:
    """Recall at 1 both ways, contrastive first, then re-ranked by matching."""
    from PIL import Image
    from transformers import AutoProcessor, Blip2ForImageTextRetrieval

    folder = setup.folder / "retrieval"
    twin = Blip2ForImageTextRetrieval.from_pretrained(
        folder, dtype=torch.float32
    ).eval()
    processor = AutoProcessor.from_pretrained(folder)
    data = data_folder(setup.asked) / "flickr30k"
    rows = json.loads((data / "dataset_flickr30k.json").read_text())["images"]
    rows = [row for row in rows if row["split"] == "test"][:RETRIEVED]
    images = [Image.open(data / "flickr30k-images" / r["filename"]) for r in rows]
    texts = [s["raw"] for row in rows for s in row["sentences"]]
    owner = torch.tensor([i for i, row in enumerate(rows) for _ in row["sentences"]])
    pixels = processor.image_processor(images, return_tensors="pt")["pixel_values"]
    words = processor.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        scores, seen = _contrast(twin, pixels, words)
        found = {
            "text": _rerank(twin, scores, seen, words, by_text=False),
            "image": _rerank(twin, scores, seen, words, by_text=True),
        }
    text_hits = owner[found["text"]] == torch.arange(len(rows))
    image_hits = found["image"] == owner
    return {
        "text recall at 1": round(100 * text_hits.float().mean().item(), 1),
        "image recall at 1": round(100 * image_hits.float().mean().item(), 1),
    }


def _contrast(twin: Any, pixels: Any, words: Any) -> tuple[Any, Any]:
    """Similarities [images, texts] and the vision outputs."""
    seen = twin.vision_model(pixels).last_hidden_state
    tokens = twin.query_tokens.expand(len(seen), -1, -1)
    read = twin.qformer(query_embeds=tokens, encoder_hidden_states=seen)
    images = twin.vision_projection(read.last_hidden_state)
    told = twin.qformer(
        query_embeds=twin.embeddings(input_ids=words["input_ids"]),
        query_length=0,
        attention_mask=words["attention_mask"],
    ).last_hidden_state[:, 0]
    texts = torch.nn.functional.normalize(twin.text_projection(told), dim=-1)
    images = torch.nn.functional.normalize(images, dim=-1)
    return (images @ texts.T).max(1).values, seen


def _rerank(twin: Any, scores: Any, seen: Any, words: Any, *, by_text: bool) -> Any:
    """Best image of each text, or best text of each image, among the nearest."""
    table = scores.T if by_text else scores
    nearest = table.topk(RERANKED, dim=1)
    best = []
    for row, (near, likes) in enumerate(
        zip(nearest.indices, nearest.values, strict=True)
    ):
        own = torch.full((RERANKED,), row)
        text, image = (own, near) if by_text else (near, own)
        tokens = twin.query_tokens.expand(RERANKED, -1, -1)
        ones = torch.ones(RERANKED, tokens.shape[1], dtype=torch.long)
        states = twin.qformer(
            query_embeds=twin.embeddings(
                input_ids=words["input_ids"][text], query_embeds=tokens
            ),
            query_length=tokens.shape[1],
            attention_mask=torch.cat([ones, words["attention_mask"][text]], 1),
            encoder_hidden_states=seen[image],
        ).last_hidden_state
        match = twin.itm_head(states[:, : tokens.shape[1]]).mean(1).softmax(-1)[:, 1]
        best.append(near[(match + likes).argmax()])
    return torch.stack(best)


def survey(model: str) -> dict[str, Any]:
    """Everything about one embedded model."""
    setup = prepare(StudySpec(budget="16", task="vqav2", model=model))
    bench = open_bench(setup, Bars())
    found = vqa(setup, bench)
    found["CIDEr"] = captions(setup, bench)
    print(f"  CIDEr {found['CIDEr']}")
    if (setup.folder / "retrieval").is_dir():
        found |= retrieval(setup)
        print(
            f"  text recall at 1 {found['text recall at 1']}, image "
            f"{found['image recall at 1']}"
        )
    found["verdicts"] = verdicts(found)
    for demand, met in found["verdicts"].items():
        print(f"  {'met' if met else 'NOT MET'}: {demand}")
    return found


def main() -> None:
    """Read the command line and survey the models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["tiny-blip2", "tiny-llava"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {model: survey(model) for model in options.models}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
