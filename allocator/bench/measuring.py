"""A few seconds of each kind of work: what one of each thing takes on this device.

A batch of the search set is read, encoded, looked at and replied to; of each component
one stage stands for all (`allocator.bench.stage_costs`). Longer work follows in
proportion. Nothing is counted, and nothing is kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.reading import INPUT_BYTES
from allocator.bench.stage_costs import stage_costs
from allocator.bench.timing import timed
from allocator.bench.workbench import Workbench
from allocator.core.memory import share
from allocator.core.unit_costs import Lengths, Unit, UnitCosts
from allocator.families import PICTURE
from quant.lru_cache import LRUCache, size_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Sequence

    from allocator.bench.prepare import Setup
    from allocator.core.forecast import Savings
    from allocator.core.ports import Sample, State

# seconds that a batch may take: a large model is asked a part of it
BATCH = 2.0
# samples of a look
LOOKED = 32
# seconds that a proposal takes beside what is looked at for it, as studies/LOG.md has
# it of one core
PROPOSAL = 0.5


@dataclass(frozen=True)
class Measured:
    """What things take here, and how long it took to find out.

    `branches` says that questions share the tokens of their picture, `kept` is the
    share of the search set's features that stay in memory; `inputs` and `features` are
    bytes of a sample's.
    """

    units: UnitCosts
    lengths: Lengths
    branches: bool
    kept: float
    inputs: float
    features: float
    seconds: float

    def savings(self, usual: Savings) -> Savings:
        """What is encoded anew, where not all features stay in memory."""

        def anew(share: float) -> float:
            return 1 - self.kept * (1 - share)

        # looks are spread over a set, and hardly two of them show one picture
        return replace(
            usual,
            encoded_scored=anew(usual.encoded_scored) / self.lengths.questions,
            encoded_looked=anew(usual.encoded_looked),
            branches=self.branches,
        )


def measure(setup: Setup, bench: Workbench) -> Measured:
    """Take the time of a little of everything.

    Args:
        setup: the request.
        bench: a model, at 16 bits behind it; its counters stay as they are.

    Raises:
        AllocateError: a sample that the model cannot reply to, weights that are no
            numbers.
    """
    started, before = time.monotonic(), bench.cost.copy()
    bench.restore()
    try:
        read = _Read.of(setup, bench)
        stages = stage_costs(setup, bench.model)
    finally:
        vars(bench.cost).update(vars(before))
    solve = {name: Unit(each, True) for name, each in stages.solve.items()}
    units = UnitCosts(
        picture=Unit(read.picture, True),
        prompt=Unit(read.looked / read.lengths.prompt, True),
        reply=Unit(read.replied / read.lengths.reply, True),
        look=Unit(read.look, True),
        # forward, backward twice as long, and all outputs again under each choice
        gradient=Unit(read.looked * (3 + len(setup.asked.choices))),
        swap=Unit(stages.swap, True),
        gather=Unit(stages.gather, True),
        solve=solve,
        finalize=Unit(stages.finalize, True),
        tune=Unit(stages.tune, True),
        proposal=Unit(PROPOSAL),
        start=Unit(read.once, True),
    )
    taken = time.monotonic() - started
    kept = read.kept, read.inputs, read.features
    return Measured(units, read.lengths, read.branches, *kept, taken)


@dataclass(frozen=True)
class _Read:
    """Seconds a sample: its picture, its prompt, what replies and looks take beyond."""

    picture: float
    looked: float
    replied: float
    look: float
    lengths: Lengths
    branches: bool
    kept: float
    inputs: float
    features: float
    once: float

    @staticmethod
    def of(setup: Setup, bench: Workbench) -> _Read:
        """Read a batch, or as much of one as does not take long."""
        batches = list(bench.batches(setup.samples["search"]))
        # they are sorted by length
        batch = batches[len(batches) // 2]
        one = _Timed(setup, bench, batch[:1])
        count = min(len(batch), max(1, int(BATCH / one.seconds)))
        return (one if count == 1 else _Timed(setup, bench, batch[:count])).read()


class _Timed:
    """A batch, and what was measured of it, in seconds for all of it."""

    def __init__(self, setup: Setup, bench: Workbench, few: Sequence[Sample]) -> None:
        self.setup, self.bench, self.few = setup, bench, few
        model, tokens, device = bench.model, bench.cost.tokens, setup.device
        tokens.clear()
        self.inputs, state = timed(device, lambda: model.inputs(few))
        self.encoded, features = timed(device, lambda: self._encode(state), tokens)
        self.state = {**state, "features": features}
        self.bytes = size_of(state), size_of(features)
        behind = {stage.component for stage in model.stages()} - set(model.prefix)
        self.looked, _ = timed(device, lambda: self._run(self.state, behind), tokens)
        self.rows = {name: tokens[name] / len(few) for name in tokens}
        before = tokens["language"]
        self.replied, self.said = self._replied(tokens)
        self.run = (tokens["language"] - before) / len(few)
        self.looking = self._looking()

    def _encode(self, state: State) -> Any:
        model = self.bench.model
        return model.features(self._run(state, model.prefix))

    @torch.inference_mode()
    def _run(self, state: State, components: Collection[str]) -> State:
        """Run the stages of some components."""
        for stage in self.bench.model.stages():
            if stage.component in components:
                state = stage.run(state)
        return state

    def _aside(self, features: LRUCache) -> Workbench:
        """A bench of its own for the same model: it keeps features apart."""
        own = self.bench
        return Workbench(
            own.model,
            own.spec,
            own.task,
            beams=own.beams,
            rerank=own.rerank,
            halving=own.halving,
            features=features,
        )

    def _replied(self, tokens: Counter[Any]) -> tuple[float, list[Any]]:
        """Seconds of replying, pictures encoded before; and what was said."""
        aside = self._aside(LRUCache(self._kept_bytes))
        with torch.inference_mode():
            aside.prefixed(self.few)
        full = self.setup.space.full
        before = tokens.copy()
        tokens.clear()
        seconds, said = timed(
            self.setup.device, lambda: aside.predictions(full, self.few), tokens
        )
        tokens.update(before)
        return seconds, said

    def _looking(self) -> float:
        """Seconds that a look takes for a sample beside picture and prompt."""
        count, some = len(self.few), self.few[:LOOKED]
        aside, full = self._aside(LRUCache(0)), self.setup.space.full
        # the first time what looks are held against is taken too
        aside.divergence(full, some)
        seconds, _ = timed(self.setup.device, lambda: aside.divergence(full, some))
        return max(0.0, seconds / len(some) - (self.encoded + self.looked) / count)

    @property
    def seconds(self) -> float:
        """For everything."""
        return self.inputs + self.encoded + self.looked + self.replied

    def read(self) -> _Read:
        """The same for a sample."""
        count, rows = len(self.few), self.rows
        shown = {(sample.image, sample.upright) for sample in self.few}
        # where pictures are shared, each is processed and encoded once
        pictures = len(shown) if PICTURE in self.state else count
        prompt = max(1.0, rows.get("language", 1.0))
        lengths = Lengths(
            vision=rows.get("vision", 0.0) * count / pictures,
            connector=rows.get("connector", 0.0) * count / pictures,
            prompt=prompt,
            picture=self._picture(),
            reply=self._reply_tokens(),
            questions=count / pictures,
        )
        branches = self.run < prompt
        run = lengths.branched if branches else prompt
        begun = self.looked / count * run / prompt
        inputs, features = (each / count for each in self.bytes)
        wanted = features * len(self.setup.samples["search"])
        # inputs of all samples are made once where all are kept
        total = sum(map(len, self.setup.samples.values()))
        is_kept = inputs * total <= share(1 / 16, INPUT_BYTES)
        return _Read(
            (self.encoded + (0.0 if is_kept else self.inputs)) / pictures,
            self.looked / count,
            max(0.0, self.replied / count - begun),
            self.looking,
            lengths,
            branches,
            min(1.0, self._kept_bytes / max(wanted, 1.0)),
            inputs,
            features,
            self.inputs / count * total if is_kept else 0.0,
        )

    @property
    def _kept_bytes(self) -> int:
        """Bytes of features that stay in memory."""
        return share(1 / 8, self.setup.asked.cache_bytes)

    def _picture(self) -> float:
        """Tokens up to the last of the picture's, padding left out."""
        token = getattr(self.bench.model.module.config, "image_token_id", None)
        ids, mask = self.state["input_ids"], self.state["attention_mask"].bool()
        if token is None:
            return 0.0
        # of what stands behind the last of them, all are counted from the right
        behind = (ids == token).flip(1).int().argmax(1)
        found = mask.sum(1) - behind
        return float(found[(ids == token).any(1)].float().mean().nan_to_num())

    def _reply_tokens(self) -> float:
        """Tokens of a mean reply, with its end."""
        texts = [each for each in self.said if isinstance(each, str)]
        if not texts:
            return 1.0
        ids = self.bench.model.processor.tokenizer(texts, add_special_tokens=False)
        return 1.0 + sum(map(len, ids["input_ids"])) / len(texts)
