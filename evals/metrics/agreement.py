"""Agreement: the share of replies that are the model's own at full precision.

What quantizing changed of what a deployed model says, where nobody has answers. Dutta
et al., "Accuracy is Not All You Need" (arXiv 2407.09141), count answers that "flip"
and take the divergence of their tokens, for equal accuracies hide both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from allocator.core.errors import DataError
from evals.tasks._official import score_replies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Sample, Score

UNIT = "agreement with full precision (%)"


def comparable(reply: str) -> str:
    """A reply without what does not change what it says.

    Unicode composed (NFC), capitals folded, white space at the ends taken away and
    elsewhere one blank, and one period at the end taken away. Nothing else: no article,
    no mark, no digit, so that different numbers stay different.

    >>> comparable(" Two  dogs. "), comparable("1,5 m²"), comparable("...")
    ('two dogs', '1,5 m²', '...')
    """
    # folding may leave characters in pieces
    folded = normalize("NFC", normalize("NFC", reply).casefold())
    text = " ".join(folded.split())
    if text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip() or text
    return text


def agreeing(replies: Sequence[str], others: Sequence[str]) -> tuple[float, ...]:
    """For each pair of replies 100 where they say the same, or 0."""
    pairs = zip(replies, others, strict=True)
    return tuple(100.0 * (comparable(a) == comparable(b)) for a, b in pairs)


class Agreement:
    """Percent of samples whose reply says what the reference does."""

    unit = UNIT
    version = 1
    needs = "nothing"

    def score(self, replies: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score replies, one per sample, in order.

        Raises:
            ReplyError: not one text per sample, or none at all.
            DataError: a sample without a reference: nobody asked full precision yet.
        """
        for sample in samples:
            if not sample.references:
                raise DataError(
                    f"sample {sample.id} has no reply of full precision to agree with"
                )
        return score_replies(
            replies, samples, lambda reply, own: agreeing([reply], own[:1])[0]
        )


PLUGIN = Agreement()
