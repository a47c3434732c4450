"""Cells that were measured as a table and a figure: `table.md`, `figure.png`.

Run as `python -m studies.rivals.report`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from studies.rivals.case import BUDGETS
from studies.rivals.cells import Cells
from studies.rivals.compare import CELLS, OURS
from studies.rivals.drawings import DRAWINGS, PICTURES, QUESTIONS
from studies.rivals.figure import draw
from studies.rivals.intervals import LEVEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from studies.rivals.intervals import Floats

HERE = Path(__file__).parent
# what a lead may be anywhere, and what ours has to be ahead by at the smallest budgets
LEAD, SMALLEST, WANTED = 1.0, 2, 0.5


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *body]
    return [f"| {' | '.join(line)} |" for line in lines]


def answers(found: Cells) -> list[str]:
    """What the comparison was made for."""
    rivals = found.systems[1:]
    ahead = [
        f"{rival}, {model} at {bpw}: {each}"
        for rival in rivals
        for (model, bpw), each in zip(found.cells, found.against(rival), strict=True)
        if each.high < 0
    ]
    largest, where = found.leads(found.fresh)
    one = max(
        (*found.leads(found.values[:, :, 1 + at].mean(2)), f"drawing {number}")
        for at, number in enumerate(DRAWINGS)
    )
    every = range(len(found.cells))
    means = {rival: found.mean_against(rival, every) for rival in rivals}
    closest = min(means, key=lambda rival: means[rival].mean)
    few = [at for at in every if found.cells[at][1] in BUDGETS[:SMALLEST]]
    small = {rival: found.mean_against(rival, few) for rival in rivals}
    best = min(small, key=lambda rival: small[rival].mean)
    met = {True: "yes", False: "**no**"}
    return [
        f"- No rival ahead with an interval of {100 - 100 * LEVEL:.0f} %, by Holm over "
        f"the cells of each: {met[not ahead]}{''.join(f'; {each}' for each in ahead)}.",
        f"- None ahead by more than {LEAD} anywhere: {met[largest <= LEAD]}, the "
        f"nearest by {largest:+.2f} ({where}); on a single drawing of 2,000 questions "
        f"by {one[0]:+.2f} ({one[1]}, {one[2]}).",
        f"- Mean over the cells above each rival's: {met[means[closest].mean > 0]}, "
        f"least over {closest}: {means[closest]}.",
        f"- At the {SMALLEST} smallest budgets above the best rival by {WANTED}: "
        f"{met[small[best].mean >= WANTED]}, {small[best]} over {best}, chosen in "
        "hindsight.",
    ]


def score_table(found: Cells, model: str, scores: Floats) -> list[str]:
    """Scores of a model: a row a system, a column a budget."""
    own = [at for at, cell in enumerate(found.cells) if cell[0] == model]
    best = scores[own].max(1)

    def cell(at: int, system: int) -> str:
        text = f"{scores[at, system]:.2f}"
        return f"**{text}**" if scores[at, system] == best[own.index(at)] else text

    body = [
        [name, *(cell(at, place) for at in own)]
        for place, name in enumerate(found.systems)
    ]
    return rows([model, *(f"{found.cells[at][1]:g}" for at in own)], body)


def difference_table(found: Cells, model: str) -> list[str]:
    """Ours less each rival's, with adjusted intervals."""
    own = [at for at, cell in enumerate(found.cells) if cell[0] == model]
    body = []
    for rival in found.systems[1:]:
        each = found.against(rival)
        body.append([rival, *(str(each[at]) for at in own)])
    return rows([model, *(f"{found.cells[at][1]:g}" for at in own)], body)


def mean_table(found: Cells) -> list[str]:
    """Means over all cells, over the smallest budgets, and on the evaluation set."""
    every = range(len(found.cells))
    few = [at for at in every if found.cells[at][1] in BUDGETS[:SMALLEST]]
    evaluation = found.values[:, :, 0].mean(2)
    head = [
        *("", "mean", "ours less it", f"{SMALLEST} smallest budgets"),
        *("ours less it there", "evaluation set"),
    ]
    body = []
    for at, name in enumerate(found.systems):
        less = [
            "" if name == OURS else str(found.mean_against(name, own))
            for own in (every, few)
        ]
        body.append(
            [
                *(name, f"{found.fresh[:, at].mean():.2f}", less[0]),
                *(f"{found.fresh[few, at].mean():.2f}", less[1]),
                f"{evaluation[:, at].mean():.2f}",
            ]
        )
    return rows(head, body)


def table(found: Cells) -> str:
    """The whole table."""
    models = list(dict.fromkeys(model for model, _ in found.cells))
    evaluation = found.values[:, :, 0].mean(2)
    fresh = QUESTIONS * PICTURES * len(DRAWINGS)
    return "\n".join(
        [
            "# Ours and rivals at equal stored bytes",
            "",
            f"{len(found.cells)} cells, a model and a budget in bits per weight each; "
            "VQA accuracy in percent. Written by `python -m studies.rivals.report`.",
            "",
            *answers(found),
            "",
            f"## Fresh questions ({fresh:,} that no search has seen)",
            "",
            "Below each model's scores ours less each rival's, with intervals of 95 %, "
            "adjusted over the cells of a rival (Holm); 20,000 draws of pictures.",
            *(
                line
                for name in models
                for lines in (
                    score_table(found, name, found.fresh),
                    difference_table(found, name),
                )
                for line in ["", *lines]
            ),
            "",
            "## Means over the cells",
            "",
            *mean_table(found),
            "",
            "## Evaluation set (2,000; ours was chosen among its finalists on it)",
            *(
                line
                for name in models
                for line in ["", *score_table(found, name, evaluation)]
            ),
            "",
        ]
    )


def main() -> None:
    """Write table and figure."""
    found = Cells.read(CELLS)
    (HERE / "table.md").write_text(table(found))
    draw(found, HERE / "figure.png")


if __name__ == "__main__":
    main()
