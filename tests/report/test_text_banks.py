from __future__ import annotations

import pytest

from allocator.report.text_banks import print_build, print_garbage, print_verification

BANK = {
    "bank": "/somewhere/bank/0123abcd",
    "finished": True,
    "linears": 3,
    "cells": 12,
    "bytes": 5_000_000,
    "damaged": [{"file": "/somewhere/bank/0123abcd/a.safetensors", "cell": "gptq.2.4"}],
}


def test_a_damaged_cell_is_named_with_its_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_verification({"banks": [BANK], "cells": 12, "damaged": 1})
    said = capsys.readouterr().out
    assert "0123abcd" in said
    assert "0.005" in said
    assert "damaged: /somewhere/bank/0123abcd/a.safetensors gptq.2.4" in said


def test_finalized_weights_are_counted_and_named_beside_banks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = [{"file": "/data/finalized/0a/b.safetensors", "cell": "awq.3.3"}]
    one = {"finalized": "/data/finalized/0a", "cells": 41, "damaged": bad}
    print_verification({"banks": [], "finalized": [one], "cells": 41, "damaged": 1})
    said = capsys.readouterr().out
    assert "finalized allocations: 1 of 41 cells" in said
    assert "damaged: /data/finalized/0a/b.safetensors awq.3.3" in said


def test_no_bank_at_all_is_said_with_the_command_that_makes_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_verification({"banks": [], "cells": 0, "damaged": 0})
    assert "allocate bank build" in capsys.readouterr().out


def test_a_build_says_what_was_made_and_what_fell_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = {
        **{"bank": "/somewhere", "linears": 3, "cells": 12, "made": 4, "damaged": 0},
        **{"fallbacks": {"a": {"gptq.2.2": "uniform"}}, "bytes": 2e9, "seconds": 3.2},
        "experts": {"experts": 2, "mixed": 1, "unseen": 1, "needed": 640},
    }
    print_build(found)
    said = capsys.readouterr().out
    assert "1 of 2 experts saw few tokens (1 of them none) and borrow" in said
    assert "more than 640 samples would feed all" in said
    assert "12 cells of 3 linears: 4 made now in 3 s" in said
    assert "1 are plain rounding, which was better" in said
    assert "damaged" not in said
    assert "2.000 GB in /somewhere" in said


@pytest.mark.parametrize(("dry", "verb"), [(True, "would remove"), (False, "removed")])
def test_garbage_is_listed_with_its_size(
    dry: bool, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    removed = [{"what": "/somewhere/.part-x", "bytes": 1_500_000}]
    print_garbage({"removed": removed, "dry_run": dry})
    assert f"{verb} /somewhere/.part-x (1.50 MB)" in capsys.readouterr().out
    print_garbage({"removed": [], "dry_run": dry})
    assert "nothing to remove" in capsys.readouterr().out
