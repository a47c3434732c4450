"""Train the embedded models: `python studies/embedded/train.py tiny-llava`.

Two stages: the vision tower (and the Q-Former) learns what lies in each quarter, then
everything learns to answer, to describe and, for tiny-blip2, to match pictures with
captions. Seeded; checkpoints every few minutes; run it again to go on after a stop.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from data import Pool, make_pool, pack, prefix
from models import IMAGE, INIT, PAD, PATCHES, QUERIES, build, make_tokenizer
from models import save as save_model
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from evals.world.scene import COLOURS, SHAPES, SIZES

if TYPE_CHECKING:
    from collections.abc import Iterator

CLASSES = (len(COLOURS) + 1, len(SHAPES) + 1, len(SIZES) + 1)
QUARTERS = 4
POOL = 48_000
# things counted in steps so that a seed reproduces
STEPS = {"tiny-llava": (3_000, 4_000), "tiny-blip2": (3_500, 4_500)}
BATCH = (64, 64)
RATE = (2e-3, 2e-3)
TOWER_RATE = 0.25  # of the rate, once the language model joins
ASKED = 6  # questions for each picture of a batch
CHECKPOINT_SECONDS = 180


class Student(nn.Module):
    """A model with the heads that only training needs."""

    def __init__(self, name: str, vocabulary: int) -> None:
        super().__init__()
        self.name = name
        self.model, self.twin = build(name, vocabulary)
        # two query outputs, or the mean of four patches, tell of one quarter
        self.patch_heads = nn.ModuleList(nn.Linear(64, n) for n in CLASSES)
        self.query_heads = nn.ModuleList(nn.Linear(128, n) for n in CLASSES)
        self.temperature = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        if self.twin is not None:
            # all zero as they come, and equal queries would stay equal
            nn.init.normal_(self.model.query_tokens, std=0.5)
            nn.init.normal_(self.model.language_projection.weight, std=INIT)
            self._share()

    def _share(self) -> None:
        """Let the twin use the model's own tower, queries and Q-Former."""
        ours, twins = self.model.qformer.encoder.layer, self.twin.qformer.encoder.layer
        for mine, other in zip(ours, twins, strict=True):
            for part in ("attention", "crossattention"):
                setattr(other, part, getattr(mine, part))
            other.intermediate_query = mine.intermediate_query
            other.output_query = mine.output_query
        self.twin.qformer.layernorm = self.model.qformer.layernorm
        self.twin.vision_model = self.model.vision_model
        self.twin.query_tokens = self.model.query_tokens

    @property
    def tower(self) -> nn.Module:
        """The vision encoder."""
        if self.twin is None:
            return self.model.model.vision_tower
        return self.model.vision_model

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vision outputs [b, 1 + patches, width]."""
        normal = (pixels.float() / 255 - 0.5) / 0.25
        return self.tower(pixel_values=normal).last_hidden_state

    def queries(self, seen: torch.Tensor) -> torch.Tensor:
        """Q-Former outputs [b, queries, width]."""
        tokens = self.model.query_tokens.expand(len(seen), -1, -1)
        return self.model.qformer(
            query_embeds=tokens, encoder_hidden_states=seen
        ).last_hidden_state

    def quarter_loss(self, seen: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of what lies in each quarter, from its four patches."""
        side = math.isqrt(PATCHES)
        grid = seen[:, 1:].unflatten(1, (2, side // 2, 2, side // 2))
        return self._classify(self.patch_heads, grid.mean((2, 4)).flatten(1, 2), cells)

    def query_loss(self, read: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """The same from two queries for each quarter."""
        pairs = read[:, : 2 * QUARTERS].unflatten(1, (QUARTERS, 2)).flatten(2)
        return self._classify(self.query_heads, pairs, cells)

    @staticmethod
    def _classify(
        heads: nn.ModuleList, read: torch.Tensor, cells: torch.Tensor
    ) -> torch.Tensor:
        return sum(
            functional.cross_entropy(head(read).flatten(0, 1), cells[..., i].flatten())
            for i, head in enumerate(heads)
        )

    def answer_loss(self, read: torch.Tensor, packed: Any) -> torch.Tensor:
        """Cross-entropy of the replies, given what the connector hands on."""
        if self.twin is None:
            shown = self.model.model.multi_modal_projector(read[:, 1:])
            language, head = self.model.model.language_model, self.model.lm_head
        else:
            shown = self.model.language_projection(read)
            language = self.model.language_model.model
            head = self.model.language_model.lm_head
        words = language.get_input_embeddings()(packed.ids)
        at = (packed.ids == IMAGE).unsqueeze(-1)
        words = words.masked_scatter(at, shown.to(words.dtype))
        states = language(
            inputs_embeds=words,
            attention_mask=packed.mask,
            position_ids=packed.positions,
            use_cache=False,
        ).last_hidden_state
        labels = packed.labels[:, 1:]
        asked = labels >= 0
        return functional.cross_entropy(head(states[:, :-1][asked]), labels[asked])

    def match_loss(
        self, seen: torch.Tensor, read: torch.Tensor, texts: torch.Tensor
    ) -> torch.Tensor:
        """Contrastive loss of the batch, and matching against hard negatives."""
        twin, attended = self.twin, (texts != PAD).long()
        told = twin.qformer(
            query_embeds=twin.embeddings(input_ids=texts),
            query_length=0,
            attention_mask=attended,
        ).last_hidden_state[:, 0]
        images = functional.normalize(twin.vision_projection(read), dim=-1)
        captions = functional.normalize(twin.text_projection(told), dim=-1)
        alike = (images @ captions.T).max(1).values
        logits = alike * self.temperature.exp().clamp(max=100)
        truth = torch.arange(len(seen))
        contrast = functional.cross_entropy(logits, truth)
        contrast = contrast + functional.cross_entropy(logits.T, truth)
        return contrast + self._judge(seen, texts, attended, logits.detach())

    def _judge(
        self,
        seen: torch.Tensor,
        texts: torch.Tensor,
        attended: torch.Tensor,
        logits: torch.Tensor,
    ) -> torch.Tensor:
        some = len(seen) // 4
        others = logits.masked_fill(torch.eye(len(seen), dtype=torch.bool), -1e4)
        picture = torch.multinomial(others[:some].softmax(1), 1)[:, 0]
        caption = torch.multinomial(others.T[:some].softmax(1), 1)[:, 0]
        here = torch.arange(some)
        image = torch.cat([here, here, caption])
        text = torch.cat([here, picture, here])
        tokens = self.twin.query_tokens.expand(len(image), -1, -1)
        ones = torch.ones(len(image), QUERIES, dtype=torch.long)
        states = self.twin.qformer(
            query_embeds=self.twin.embeddings(
                input_ids=texts[text], query_embeds=tokens
            ),
            query_length=QUERIES,
            attention_mask=torch.cat([ones, attended[text]], 1),
            encoder_hidden_states=seen[image],
        ).last_hidden_state
        judged = self.twin.itm_head(states[:, :QUERIES]).mean(1)
        truth = torch.zeros(len(image), dtype=torch.long)
        truth[:some] = 1
        return functional.cross_entropy(judged, truth)


def batches(size: int, seed: int) -> Iterator[torch.Tensor]:
    """Endless shuffled indices of the pool."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(POOL, generator=generator).split(size)[:-1]


def loss_of(student: Student, pool: Pool, index: torch.Tensor, stage: int) -> Any:
    """Training loss of one batch in one of the two stages."""
    seen = student.patches(pool.pixels[index])
    loss = student.quarter_loss(seen, pool.cells[index]) * (0.1 if stage else 1.0)
    read = seen
    if student.twin is not None:
        read = student.queries(seen)
        loss = loss + student.query_loss(read, pool.cells[index]) * (
            0.1 if stage else 1.0
        )
        texts = pool.texts[index, torch.randint(5, index.shape)].long()
        texts = texts[:, : int((texts != PAD).sum(1).max())]
        loss = loss + 0.5 * student.match_loss(seen, read, texts)
    if stage == 0:
        return loss
    asked = torch.stack([torch.randperm(12)[:ASKED] for _ in index])
    rows = index[:, None]
    questions = pool.questions[rows, asked]
    prompts = pool.question_prompts[rows, asked]
    segments = [(questions[:, i], prompts[:, i]) for i in range(ASKED)]
    told = torch.randint(5, index.shape)
    segments.append((pool.captions[index, told], pool.caption_prompts[index, told]))
    packed = pack(student.prefix_ids, segments)
    return loss + student.answer_loss(read, packed)


def optimizer_of(student: Student, stage: int) -> torch.optim.Optimizer:
    """AdamW without decay; the tower learns slower in the second stage."""
    tower = {id(p) for p in student.tower.parameters()}
    if student.twin is not None and stage:
        tower |= {id(p) for p in student.model.qformer.parameters()}
    ours = list(dict.fromkeys(student.parameters()))
    slow = [p for p in ours if id(p) in tower]
    fast = [p for p in ours if id(p) not in tower]
    rate = RATE[stage]
    slow_rate = rate * TOWER_RATE if stage else rate
    groups = [{"params": fast, "lr": rate}, {"params": slow, "lr": slow_rate}]
    return torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.98))


def schedule(step: int, steps: int) -> float:
    """Warm-up over 200 steps, then a cosine to nothing."""
    return min(1.0, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * step / steps))


@dataclass
class Run:
    """One training run: where it stands, and the checkpoint that says so."""

    student: Student
    pool: Pool
    folder: Path
    seed: int
    scale: float
    stage: int = 0
    step: int = 0
    saved: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of the current stage."""
        return round(STEPS[self.student.name][self.stage] * self.scale)

    def begin(self) -> None:
        """A fresh optimizer for the current stage."""
        self.optimizer = optimizer_of(self.student, self.stage)
        steps = self.steps
        self.rates = LambdaLR(self.optimizer, lambda step: schedule(step, steps))

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        file = self.folder / "checkpoint.pt"
        state = torch.load(file, weights_only=True) if file.exists() else None
        if state:
            self.stage, self.step = state["stage"], state["step"]
            self.student.load_state_dict(state["student"])
        self.begin()
        if state:
            self.optimizer.load_state_dict(state["optimizer"])
            self.rates.load_state_dict(state["rates"])

    def save(self) -> None:
        """Write the checkpoint whole, and the model as it is now."""
        keep = {
            "stage": self.stage,
            "step": self.step,
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict(),
        }
        draft = self.folder / "checkpoint.part"
        torch.save(keep, draft)
        draft.replace(self.folder / "checkpoint.pt")
        student = self.student
        save_model(student.name, self.folder / "model", student.model, student.twin)
        self.saved = time.monotonic()

    def train_stage(self) -> None:
        """Take the steps that are left of the current stage."""
        first, started, mean = self.step, time.monotonic(), 0.0
        stream = self.seed + 100 * self.stage + self.step
        order = batches(BATCH[self.stage], stream)
        while self.step < self.steps:
            torch.manual_seed(self.seed * 1_000_003 + self.stage * 500_009 + self.step)
            loss = self.update(next(order))
            self.step += 1
            done = self.step - first
            mean += (loss - mean) / min(100, done)
            if self.step % 100 == 0:
                pace = (time.monotonic() - started) / done
                left = (self.steps - self.step) * pace / 60
                print(
                    f"stage {self.stage} step {self.step}/{self.steps} loss {mean:.3f} "
                    f"{pace * 1000:.0f} ms/step, {left:.0f} min left",
                    flush=True,
                )
            if time.monotonic() - self.saved > CHECKPOINT_SECONDS:
                self.save()

    def update(self, index: torch.Tensor) -> float:
        """One step of the optimizer; returns the loss."""
        loss = loss_of(self.student, self.pool, index, self.stage)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.rates.step()
        return loss.item()

    def train(self) -> None:
        """Both stages, from wherever the last checkpoint left them."""
        self.resume()
        self.train_stage()
        if self.stage == 0:
            self.stage, self.step = 1, 0
            self.begin()
            self.save()
            self.train_stage()
        self.save()


def main() -> None:
    """Read the command line and train one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(STEPS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="of the step counts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    runs = options.out / options.name
    runs.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(options.name)
    pool = make_pool(options.name, tokenizer, POOL, options.seed)
    student = Student(options.name, len(tokenizer))
    student.prefix_ids = prefix(options.name, tokenizer)
    Run(student, pool, runs, options.seed, options.scale).train()


if __name__ == "__main__":
    main()
