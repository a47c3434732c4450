"""Images and texts ranked by a BLIP-2, as its authors' evaluation does it.

`compute_sim_matrix` of https://github.com/salesforce/LAVIS (lavis/models/blip2_models):
everything is compared by cosine; the best candidates of each image, and of each text,
are scored again by the matching head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError, in_one_sentence
from allocator.core.ports import Ranked
from allocator.families._pipeline import Pipeline
from allocator.families._pixels import by_picture
from allocator.families._sharing import images_of
from allocator.families._wording import check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from allocator.core.ports import Decoding, Sample, State
    from allocator.core.spec import Component

# tokens of a text that are read
LONGEST = 35
# of what was not scored again
OUT = -100.0
# texts run at once: as many as are ranked again in the published evaluation
TEXTS = 128


@dataclass(frozen=True)
class Ranking(Pipeline):
    """A BLIP-2 that says how well images and texts fit."""

    prefix: tuple[Component, ...] = ("vision",)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Texts are read as they are."""
        return ("text",)

    @property
    def _rows(self) -> int:
        rows: int = self.module.embeddings.word_embeddings.weight.shape[0]
        return rows

    def inputs(self, samples: Sequence[Sample], *, answered: bool = False) -> State:
        """Pixels and the first text of each sample, padded on the right."""
        del answered
        for sample in samples:
            check_text(sample, sample.references[0])
        images = images_of(samples, shared=False)
        named = f"samples {samples[0].id} to {samples[-1].id}"
        with (
            in_one_sentence(
                f"the processor of {self.folder} does not take {named}", DataError
            ),
            by_picture(self.processor, self.pixels),
        ):
            pixels = self.processor.image_processor(images, return_tensors="pt")
            ids, mask = self._tokens([sample.references[0] for sample in samples])
        return {
            "pixel_values": pixels.pixel_values.to(self.device),
            **self._behind_image(ids, mask),
        }

    def lengths(self, samples: Sequence[Sample]) -> list[int]:
        """Tokens of the longest text that is read, for each: they run in order."""
        queries: int = self.module.query_tokens.shape[1]
        return [queries + LONGEST] * len(samples)

    def predict(
        self,
        states: Iterable[State],
        samples: Sequence[Sample],
        decoding: Decoding,
        tick: Callable[[int], object],
    ) -> list[Any]:
        """Similarities of each sample's image and texts to everything."""
        import torch

        n_own = [len(sample.references) for sample in samples]
        texts = [text for sample in samples for text in sample.references]
        for sample in samples:
            check_text(sample, "\n".join(sample.references))
        with in_one_sentence(f"{self.folder} cannot rank"), torch.inference_mode():
            ids, mask = self._tokens(texts)
            seen = [state["features"] for state in states]
            likeness = self._likeness(seen, self._said(ids, mask))
            by_image, by_text = _best(likeness, decoding.rerank)
            match: Any = torch.full_like(likeness, OUT)
            images = (image for batch in seen for image in batch.split(1))
            for n, image in enumerate(images):
                some = (by_image[n] | by_text[n]).nonzero().squeeze(1)
                scores = self._matched(image, ids[some], mask[some])
                match[n, some] = scores + likeness[n, some]
                tick(n + 1)
        of_images = match.masked_fill(~by_image, OUT).cpu()
        of_texts = match.masked_fill(~by_text, OUT).T.cpu().split(n_own)
        return [
            Ranked(row.numpy(), rows.numpy())
            for row, rows in zip(of_images, of_texts, strict=True)
        ]

    def _tokens(self, texts: list[str]) -> tuple[Any, Any]:
        """Tokens and mask of texts, padded on the right: [texts, tokens] each."""
        batch = self.processor.tokenizer(
            texts,
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=LONGEST,
            return_tensors="pt",
        )
        self._check_tokens([repr(text) for text in texts], batch)
        mask = batch.attention_mask.to(self.device)
        return batch.input_ids.to(self.device), mask

    def _behind_image(self, ids: Any, mask: Any) -> State:
        """Texts as the matching pass reads them; see `behind_image`."""
        token = self.module.config.image_token_index
        if token is not None:
            import torch

            shape = (len(ids), self.module.query_tokens.shape[1])
            ids = torch.cat([ids.new_full(shape, token), ids], dim=1)
            mask = torch.cat([mask.new_ones(shape), mask], dim=1)
        return {"input_ids": ids, "attention_mask": mask}

    def _said(self, ids: Any, mask: Any) -> Any:
        """Directions of the texts in the common space: [texts, width]."""
        import torch
        from torch.nn.functional import normalize

        module = self.module
        found = torch.empty(
            len(ids), module.text_projection.out_features, device=ids.device
        )
        for chunk, length in _chunks(mask):
            read = module.qformer(
                query_embeds=module.embeddings(input_ids=ids[chunk, :length]),
                query_length=0,
                attention_mask=mask[chunk, :length],
            ).last_hidden_state[:, 0]
            given = module.text_projection(read.to(module.text_projection.weight.dtype))
            found[chunk] = normalize(given, dim=-1).float()
        return found

    def _likeness(self, seen: Sequence[Any], said: Any) -> Any:
        """Cosine of each image's best query with each text: [images, texts]."""
        import torch
        from torch.nn.functional import normalize

        module, rows = self.module, []
        for features in seen:
            read = module.qformer(
                query_embeds=module.query_tokens.expand(len(features), -1, -1),
                encoder_hidden_states=features,
            ).last_hidden_state
            given = module.vision_projection(
                read.to(module.vision_projection.weight.dtype)
            )
            shown = normalize(given, dim=-1).float()
            # an image at a time: all at once would be queries times as much
            rows += [(each @ said.T).amax(0) for each in shown]
        return torch.stack(rows)

    def _matched(self, image: Any, ids: Any, mask: Any) -> Any:
        """The matching head's logit that an image [1, tokens, width] fits: [texts]."""
        stages = [stage for stage in self.stages() if stage.component == "connector"]
        found = image.new_empty(len(ids), dtype=self.module.itm_head.weight.dtype)
        for chunk, length in _chunks(mask):
            # the blocks make keys and values of the one image once for all texts
            state = self._behind_image(ids[chunk, :length], mask[chunk, :length])
            state["features"] = image
            for stage in stages:
                state = stage.run(state)
            found[chunk] = state["logits"][:, 0, 1]
        return found.float()


def _chunks(mask: Any) -> Iterator[tuple[Any, int]]:
    """Numbers of texts to run at once, longest first, and the longest's length."""
    lengths = mask.sum(1)
    for chunk in lengths.argsort(descending=True).split(TEXTS):
        yield chunk, int(lengths[chunk[0]])


def _best(likeness: Any, count: int) -> tuple[Any, Any]:
    """Which texts are among the best of an image, and which images of a text."""
    found = []
    for dim in (1, 0):
        best = likeness.topk(min(count, likeness.shape[dim]), dim).indices
        found.append(likeness.new_zeros(likeness.shape, dtype=bool))
        found[-1].scatter_(dim, best, True)
    return found[0], found[1]
