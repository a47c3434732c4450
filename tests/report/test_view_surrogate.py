from __future__ import annotations

from typing import Any

from allocator.report.view_surrogate import looks

NAME = "divergence on 32 samples"


def studied(**more: Any) -> dict[str, Any]:
    """A study of one baseline and two proposals, with what its looks are worth."""
    rung = {"kind": "divergence", "samples": 32, "count": 9, "spearman": 0.25, **more}
    kinds = ("uniform", "proposal", "proposal")
    return {
        "found": {"rungs": [rung]},
        "trials": [
            {
                "number": at,
                "kind": kind,
                "score": 90.0 + at,
                "looks": {NAME: 0.1 / (at + 1)},
            }
            for at, kind in enumerate(kinds)
        ],
    }


def test_dots_are_of_what_the_correlation_is_of() -> None:
    (look,) = looks(studied(ci95=[-0.5, 0.75], controls=4))
    assert look.trials == ["trial 1", "trial 2"]
    assert (look.correlation, look.count, look.ends) == (0.25, 9, " [-0.50, 0.75]")


def test_in_studies_of_before_all_were_judged() -> None:
    (look,) = looks(studied())
    assert look.trials == ["trial 0", "trial 1", "trial 2"]
    assert look.ends == ""
