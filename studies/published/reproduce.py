"""The published study, again: `python studies/published/reproduce.py --out DIR`.

Prints our consensus importance beside the printed one (Table 1 of arXiv 2601.15287),
and what the uniform sweep says about knobs that were wired to nothing; writes both as
DIR/tables.md and, without `--no-plot`, the figures beside it.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sweep
from cases import CASES, FOLDER, Case

from allocator.explain.evidence import Evidence
from allocator.explain.importance import effects, importance

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SEEDS = 10
NAMES = {"vit_bits": "ViT", "qformer_bits": "Q-Former", "llm_bits": "LLM"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute, tell, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--no-plot", action="store_true")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    explained = {case: effects(case.evidence) for case in CASES}
    runs = sweep.read()
    found = {
        "applied": effects(runs.evidence(believed=False)),
        "requested": effects(runs.evidence(believed=True)),
    }
    parts = _consensus(explained), _models(explained), _joint(explained)
    text = "\n".join(itertools.chain(*parts, _finding(runs), _believed(found)))
    (asked.out / "tables.md").write_text(text.rstrip() + "\n")
    print(text)
    if not asked.no_plot:
        from figures import draw

        draw(asked.out, explained, runs, found)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def _shares(found: dict[str, Any], level: str = "group") -> dict[str, Any]:
    shares: dict[str, Any] = found["importance"][level]
    return shares


def _range(share: dict[str, Any]) -> str:
    low, high = share["ci95"]
    return f"{share['consensus']:.1f} [{low:.1f}, {high:.1f}]"


def _consensus(explained: dict[Case, dict[str, Any]]) -> list[str]:
    """Ours beside the printed one, and how far seeds move it."""
    rows = []
    for case, found in explained.items():
        shares = _shares(found)
        seeds = np.array([_by_seed(case, seed) for seed in range(SEEDS)])
        for at, (key, share) in enumerate(shares.items()):
            printed = "" if case.printed is None else f"{case.printed[at]:.1f}"
            cells = (
                f"{share[each]:.1f}" for each in ("impurity", "permutation", "shap")
            )
            low, high = seeds[:, at].min(), seeds[:, at].max()
            name = case.title if at == 0 else ""
            spread = f"{low:.1f} to {high:.1f}"
            rows.append([name, NAMES[key], printed, _range(share), spread, *cells])
    header = [
        *("table", "component", "printed", "consensus [95 %]", f"{SEEDS} seeds"),
        *("impurity", "permutation", "SHAP"),
    ]
    return ["## Consensus importance, percent", "", *table(header, rows)]


def _by_seed(case: Case, seed: int) -> list[float]:
    one = case.evidence
    found = importance(Evidence(one.keys, one.bits, one.scores, seed=seed))
    return [share["consensus"] for share in found["group"].values()]


def _models(explained: dict[Case, dict[str, Any]]) -> list[str]:
    rows = []
    for case, found in explained.items():
        models = found["importance"]["models"]
        agreement = found["importance"]["agreement"]["group"]
        cells = [f"{models[n]['r2']:.3f}" for n in ("forest", "xgboost", "linear")]
        ranks = [f"{models[n]['spearman']:.3f}" for n in ("forest", "linear")]
        rows.append([case.title, *cells, *ranks, f"{agreement:.2f}"])
    header = [
        *("table", "forest R2", "XGBoost R2", "linear R2"),
        *("forest Spearman", "linear Spearman", "agreement of the measures"),
    ]
    said = ["## On rows held out, five folds", ""]
    return said + table(header, rows)


def _joint(explained: dict[Case, dict[str, Any]]) -> list[str]:
    rows = [
        [
            case.title,
            f"{NAMES[each['first']]} and {NAMES[each['second']]}",
            f"{each['excess']:+.3g} [{each['ci95'][0]:+.3g}, {each['ci95'][1]:+.3g}]",
            str(each["count"]),
        ]
        for case, found in explained.items()
        for each in found["together"]
    ]
    header = ["table", "pair", "lost beyond the sum [95 %]", "comparisons"]
    return ["## Quantized together: more than the sum?", "", *table(header, rows)]


def _finding(runs: sweep.Sweep) -> list[str]:
    """What was asked for and never applied."""
    several = runs.repeated
    same = sum(len(set(runs.same_captions[each])) == 1 for each in several)
    extra = max(float(np.ptp(runs.scores[each])) for each in several)
    alone = [differing(runs.requested[each]) <= set(runs.dead) for each in several]
    placed = sum(len(set(runs.patterns[each])) > 1 for each in several)
    lines = [
        f"- {len(runs.scores)} runs are {int(runs.models.sum())} distinct models.",
        f"- Asked for and never applied: {', '.join(runs.dead)}.",
        f"- {len(several)} models were run under several requests, {placed} of them "
        "under requests that name different block groups. "
        f"{sum(alone)} differ in the groups above alone, and {same} gave identical "
        f"captions every time (largest difference in CIDEr: {extra:g}).",
    ]
    return ["## Knobs wired to nothing", "", *lines, ""]


def differing(requests: Any) -> set[str]:
    """Groups in which requests differ."""
    apart = np.ptp(requests, axis=0) > 0
    return set(np.array(sweep.KEYS)[apart].tolist())


def _believed(found: dict[str, dict[str, Any]]) -> list[str]:
    """Importance by the bits applied, and by those asked for."""
    lines = ["## What one would have believed", ""]
    for level in ("component", "layer_type", "block_group", "group"):
        true, asked = (_shares(found[kind], level) for kind in ("applied", "requested"))
        rows = [[name, _range(true[name]), _range(asked[name])] for name in true]
        lines += table([level.replace("_", " "), "applied", "requested"], rows)
    for kind, each in found.items():
        fit = each["importance"]["models"]
        lines.append(
            f"- {kind}: {each['importance']['rows']} distinct rows; on rows held out "
            f"R2 {fit['forest']['r2']:.3f} (linear {fit['linear']['r2']:.3f}); "
            f"constant: {', '.join(each['importance']['constant']) or 'none'}."
        )
    return [*lines, ""]


if __name__ == "__main__":
    main()
