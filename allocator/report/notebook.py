"""What a notebook shows of a recommendation and of a study: a table and the front."""

from __future__ import annotations

import base64
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from allocator.core import records
from allocator.core.errors import SpecError
from allocator.core.exceptions import exceptions_said
from allocator.core.text import visible
from allocator.report.figures import drawn
from allocator.report.sections import paragraph, plain, table
from allocator.report.text_gains import compared, finalized, gains_said
from allocator.report.text_search import pins_said, scored, sentences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Data = Mapping[str, Any]

WIDTH = 620  # pixels of the figure


class Recommendation(records.Recommendation):
    """The outcome of a search, which a notebook shows as a table and its front."""

    @staticmethod
    def of(found: records.Recommendation) -> Recommendation:
        """The same, for a notebook."""
        names = (field.name for field in fields(found))
        return Recommendation(**{name: getattr(found, name) for name in names})

    def __repr__(self) -> str:
        return visible(
            f"Recommendation({self.model} on {self.task}: {self.metric} "
            f"{scored(self.score.mean, self.score.ci95)} at {self.bpw:.3f} bpw, "
            f"study {self.study})"
        )

    def _repr_html_(self) -> str:
        told = self.to_json()
        front = [
            {**member, "allocation": each.allocation.to_json()}
            for each, member in zip(self.front, told["front"], strict=True)
        ]
        return recommendation_html(told, front)


def recommendation_html(found: Data, front: Sequence[Data] = ()) -> str:
    """A recommendation as HTML that stands alone; names are shown as they are.

    Args:
        found: what `Recommendation.to_json` gives.
        front: members of the front: digest, bpw, score, ci95, allocation.
    """
    full, best = found["full_precision"], found["recommended"]
    rows = [
        ("full precision", f"{full['bpw']:.3f}", scored(full["score"], full["ci95"]))
    ]
    rows += [
        (name, f"{each['bpw']:.3f}", f"{each['score']:.2f}")
        for name, each in compared(found)
    ]
    name = f"recommended{finalized(best)}"
    rows.append((name, f"{best['bpw']:.3f}", scored(best["score"], best["ci95"])))
    scope = found["budget"]["scope"]
    told = [
        *sentences(found)[:1],
        *exceptions_said(best.get("layers")),
        *gains_said(found),
        *pins_said(found),
    ]
    return "".join(
        (
            f"<div><strong>{plain(found['model'])}, {plain(found['task'])}</strong>",
            table(
                ("allocation", f"bpw ({scope})", f"{found['metric']} [95 %]"),
                rows,
                numbers=(1, 2),
                marked=len(rows) - 1,
            ),
            *map(paragraph, told),
            front_image({"found": found, "front": front, "uniform": found["uniform"]}),
            paragraph(f"Study {found['study']} in {found['storage']}"),
            "</div>",
        )
    )


def front_image(data: Data) -> str:
    """The figure of a front as an image within HTML, nothing where there is none.

    Args:
        data: `found`, `front`, `uniform` and `trials` as in `allocator.report.data`.
    """
    try:
        picture = base64.b64encode(drawn(data, "front", "png")).decode()
    except SpecError:
        return ""
    about = "Front: score against bits per weight"
    return f'<img width="{WIDTH}" alt="{about}" src="data:image/png;base64,{picture}"/>'
