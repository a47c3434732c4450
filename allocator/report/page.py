"""A report as one page that needs nothing else: no network, no server.

The charts are plotly's; its library stands in the page once. Text that comes from data
is escaped, in the page and in the data of the charts, and a policy in the page lets no
other script run and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from allocator.report import sections
from allocator.report import sections_surrogate as sections_models
from allocator.report.colours import DARK, LIGHT
from allocator.report.output import write_atomically
from allocator.report.sections import Charts, paragraph, plain, table
from allocator.report.summary import summary, tiles
from allocator.report.view import at

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Data = Mapping[str, Any]

SECTIONS = (
    ("front", "Size and score", sections.front_section),
    ("importance", "What matters", sections.importance_section),
    ("bits", "Which part gets how many bits", sections.bits_section),
    ("trials", "Everything measured", sections.trials_section),
    ("proxies", "What cheap looks are worth", sections_models.looks_section),
    ("waterfall", "Why this score", sections_models.waterfall_section),
    ("interactions", "What acts together", sections_models.interactions_section),
)
WORDS = {
    "bits per weight (bpw)": "the size of a model over the number of its parameters; "
    "16 is full precision.",
    "group": "linear layers that share one width and one method, named component, "
    "part of its blocks, layer type: vision.front.attn is the attention in the first "
    "third of the vision encoder, ff is feed-forward.",
    "allocation": "a width and a method for every group; uniform where all are alike.",
    "front": "the allocations that no other one beats in both size and score.",
    "method": "how numbers become few bits: uniform rounds to the nearest value, gptq "
    "and awq make up for some of what rounding loses.",
    "95 % interval": "what other samples of the same kind would plausibly give. Where "
    "the interval of a difference holds 0, the difference may be chance.",
}


def write_page(data: Data, out: Path) -> None:
    """Write a report as one HTML file, whole or not at all.

    Args:
        data: what `allocator.report.data` gives.
        out: the file.

    Raises:
        SpecError: `out` is a folder, or its folder does not exist.
        DataError: the file cannot be written.
    """
    write_atomically(out, lambda: page(data).encode())


def page(data: Data) -> str:
    """The page as text.

    Raises:
        DataError: a number among the data is not finite.
    """
    from plotly.offline import get_plotlyjs

    charts = Charts()
    links, body = _sections(data, charts)
    scripts = get_plotlyjs(), _asset("page.js")
    title = plain(data.get("title") or "Report")
    kept = {"figures": charts.figures, "light": LIGHT, "dark": DARK}
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{_style()}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the charts</a>
<header>
<p class="eyebrow">{plain(_source(data))}</p>
<h1>{title}</h1>
{paragraph(summary(data), "answer")}
{tiles(data)}
<nav aria-label="Sections">{links}</nav>
<noscript><p>The charts need JavaScript; the tables say the same.</p></noscript>
</header>
<main id="main">
{body}
</main>
<footer>{_footer()}</footer>
<script type="application/json" id="charts">{embedded(kept)}</script>
<script>{scripts[0]}</script>
<script>{scripts[1]}</script>
</body>
</html>
"""


def _sections(data: Data, charts: Charts) -> tuple[str, str]:
    """Links to the sections that have something to show, and the sections."""
    drawn = [(key, name, section(data, charts)) for key, name, section in SECTIONS]
    drawn = [each for each in drawn if each[2]]
    drawn += [
        ("words", "In words", _sentences(data)),
        ("again", "How to reproduce it", _commands(data)),
    ]
    links = "".join(f'<a href="#s-{key}">{name}</a>' for key, name, _ in drawn)
    body = "\n".join(
        f'<section id="s-{key}" aria-labelledby="h-{key}">'
        f'<h2 id="h-{key}">{name}</h2>{inner}</section>'
        for key, name, inner in drawn
    )
    return links, body


def embedded(value: Any) -> str:
    r"""JSON that ends no script element, whatever its strings hold.

    >>> embedded("</script>")
    '"\\u003c/script\\u003e"'
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise DataError("a number of the report is not finite") from None
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _policy(scripts: tuple[str, ...]) -> str:
    """What the page may do: run these scripts, and fetch nothing."""
    hashes = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(h).decode()}'" for h in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return files("allocator.report").joinpath(name).read_text("utf-8")


def _style() -> str:
    light, dark = (
        "".join(f"--{name}:{value};" for name, value in palette.items())
        for palette in (LIGHT, DARK)
    )
    return (
        f":root{{color-scheme:light;{light}}}\n"
        "@media screen and (prefers-color-scheme: dark)"
        f"{{:root{{color-scheme:dark;{dark}}}}}\n{_asset('page.css')}"
    )


def _source(data: Data) -> str:
    study, told = at(data, "found", "study"), at(data, "explained", "table")
    if study:
        return f"allocate, study {study}"
    return f"allocate, a search of the table {told}" if told else "allocate"


def _sentences(data: Data) -> str:
    said = [
        *(at(data, "explained", "notes") or []),
        *(at(data, "explained", "sentences") or []),
    ]
    narrowed = at(data, "explained", "narrowed") or []
    items = "".join(f"<li>{plain(sentence)}</li>" for sentence in said)
    found = f'<ul class="told">{items}</ul>' if items else ""
    rows = [(each["group"], each["choice"], each["reason"]) for each in narrowed]
    if rows:
        found += "<h3>Fixed during the search</h3>"
        found += table(("group", "fixed at", "why"), rows)
    return found or paragraph("There is no explanation of these measurements.")


def _commands(data: Data) -> str:
    commands = data.get("commands") or ()
    if not commands:
        return paragraph("The command behind this report was not kept.")
    lead = ""
    if at(data, "found", "study"):
        kept = "Everything measured is kept; asked again, it is not repeated."
        lead = paragraph(kept)
    return lead + "".join(f"<pre><code>{plain(each)}</code></pre>" for each in commands)


def _footer() -> str:
    words = "".join(
        f"<dt>{plain(word)}</dt><dd>{plain(told)}</dd>" for word, told in WORDS.items()
    )
    return (
        f'<h2>Words used here</h2><dl class="words">{words}</dl>'
        "<p>This page needs no network. Charts: plotly.js, MIT license.</p>"
    )
