"""ANLS: average normalized Levenshtein similarity, which forgives slips in reading.

Biten et al., "Scene Text Visual Question Answering" (ICCV 2019), and Mathew et al.,
"DocVQA" (WACV 2021): 1 - edits / length of the longer text, the best of the answers,
and 0 if that is below 0.5. As the evaluation of https://rrc.cvc.uab.es (also in
lmms-eval) does it, 0.5 itself counts, where the paper writes that it does not; capitals
and the number of blanks do not matter. The length is that of the texts compared; that
code takes it before superfluous blanks are dropped, so that these would raise a score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evals.metrics._edits import edits
from evals.metrics._scoring import PerReply, best_of
from evals.metrics._words import unified

if TYPE_CHECKING:
    from allocator.core.own import Metric

THRESHOLD = 0.5


def similarity(reply: str, reference: str) -> float:
    """Percent of similarity of a reply with an answer, 0 if below 50.

    >>> round(similarity("traffic 1ight", "Traffic light"), 1)
    92.3
    """
    one, other = (" ".join(unified(t).lower().split()) for t in (reply, reference))
    short, long = sorted((len(one), len(other)))
    # there are at least as many edits as one is longer
    if short < THRESHOLD * long:
        return 0.0
    found = 1 - edits(one, other) / long if long else 1.0
    return 100 * found if found >= THRESHOLD else 0.0


PLUGIN: Metric = PerReply("ANLS (%)", 1, best_of(similarity))
