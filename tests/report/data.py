"""Data of reports: a search of eighteen groups as it was kept, and a replay."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from allocator.report.data import replay_report
from allocator.tables.replay import ReplayRequest, run

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "studies" / "published" / "blip2_coco_awq.csv"
MARKUP = "<script>document.title='run'</script></script><img src=x onerror=alert(1)>"


def search_data() -> dict[str, Any]:
    """A short search of the embedded BLIP-2: three components, 50 trials."""
    found: dict[str, Any] = json.loads((HERE / "search.json").read_text())
    return found


def paired_data() -> dict[str, Any]:
    """The search with pairs that act together, by group and by component."""
    data = search_data()
    pair = {"first": "vision.end.ff", "second": "language.end.ff"}
    other = {"first": "vision.end.attn", "second": "connector.end.ff"}
    parts = {"first": "vision", "second": "language", "strength": 2.0, "share": 11.0}
    data["explained"]["interactions"] = {
        "group": [
            {**pair, "strength": 1.25, "share": 7.5},
            {**other, "strength": 0.5, "share": 3.0},
        ],
        "component": [parts],
        "holdout_r2": 0.6,
        "reason": None,
    }
    return data


def exceptional_data(name: str = "language_model.layers.0.q_proj") -> dict[str, Any]:
    """The search with two single linears that differ from their groups."""
    data = search_data()
    layers = {
        name: {"bits": 8, "method": "awq"},
        "vision_model.layers.0.fc1": {"bits": 16, "method": None},
    }
    groups = ("language.front.attn", "vision.front.ff")
    pairs = zip(groups, layers.items(), strict=True)
    data["exceptions"] = {group: {linear: own} for group, (linear, own) in pairs}
    data["found"]["recommended"] |= {"layers": layers, "digest": "of its own"}
    return data


@cache
def _replayed() -> str:
    request = ReplayRequest(TABLE, "CIDEr", "5", trials=12)
    return json.dumps(replay_report(run(request), "allocate replay TABLE.csv"))


def replay_data() -> dict[str, Any]:
    """Twelve rows read of the published captioning table."""
    found: dict[str, Any] = json.loads(_replayed())
    return found


def hostile_data() -> dict[str, Any]:
    """The search with markup in every text that a user gives."""
    data = exceptional_data(MARKUP)
    data["title"] = data["found"]["model"] = data["found"]["metric"] = MARKUP
    data["explained"]["metric"] = MARKUP
    data["explained"]["sentences"].append(MARKUP)
    data["commands"].append(MARKUP)
    text = json.dumps(data).replace("language.front.attn", json.dumps(MARKUP)[1:-1])
    found: dict[str, Any] = json.loads(text)
    return found


def bare_data() -> dict[str, Any]:
    """A report of which nearly everything is unknown."""
    nothing: dict[str, Any] = {"component": {}, "group": {}, "unreliable": {}}
    return {
        "title": "bare",
        "found": {"metric": "score", "recommended": None, "budget": None},
        "explained": {"importance": nothing, "allocation": None, "sentences": []},
        "trials": [],
        "front": [],
        "uniform": [],
        "commands": [],
    }
