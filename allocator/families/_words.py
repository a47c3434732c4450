"""Wordings that several families share."""

from __future__ import annotations

# LLaVA-1.5's, which later models are evaluated with too (arXiv 2310.03744)
_SHORT = "{}\nAnswer the question using a single word or phrase."
SHORT_ANSWERS = {
    "vqa": _SHORT,
    "gqa": _SHORT,
    "caption": "Provide a one-sentence caption.",
    # a task's own words
    "plain": "{}",
}
