"""Passwords and tokens are left out of all that is shown or kept."""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"
# of a secret that is looked for by itself: shorter ones are words
SHORTEST = 4
# A password ends at the last @ before a query; one that should have been escaped may
# hold anything, so where what follows is no query it ends at the last of all.
_BEFORE = r"(?P<before>\w[\w+.-]{0,40}://[^\s:/@]*:)"
_NAMES = (
    r"(?P<before>(?:pass(?:word|wd|phrase|code)?|pwd|secret|credentials?"
    r"|api_?key|access_?key|account_?key|signature|\b(?:\w*auth|access|api)?[_-]?token)"
    r"(?:=|%3D))"
)
_QUERY = r"(?!\?(?![\w.-]+=))"
# in a sentence: a URL ends at a space, a value at a quote too
_IN_TEXT = (
    re.compile(_BEFORE + r"(?:[^\s?]*(?=@[^\s@?]*+" + _QUERY + r")|\S*(?=@))"),
    re.compile(_NAMES + r"[^\s&;'\"]+?(?=%3B|[\s&;'\"]|$)", re.IGNORECASE),
)
_IN_URL = (
    re.compile(
        _BEFORE + r"(?P<secret>[^?]*(?=@[^@?]*+" + _QUERY + r")|.*(?=@))", re.DOTALL
    ),
    # one that lacks its kind, or a stroke of it
    re.compile(
        r"^(?P<before>(?:\w+:/)?[^\s:/@]+:)(?!//)(?P<secret>.+)(?=@)", re.DOTALL
    ),
    re.compile(_NAMES + r"(?P<secret>[^&;]+?)(?=%3B|[&;]|$)", re.IGNORECASE),
)
# What is longer than any URL is no word of ours, and would take its time; of its
# beginning is shown what cannot be a secret.
_LONG, _PLAIN = re.compile(r"\S{2000,}"), re.compile(r"[^:@=%]{0,100}")
# of this process: secrets that were given, and URLs by how they are shown
_secrets: set[str] = set()
_given: dict[str, str] = {}


def masked(text: str) -> str:
    """A text without passwords: of URLs in it, named ones, those of `remember`.

    >>> masked("postgresql://me:secret@host/studies?sslpassword=a&sslmode=require")
    'postgresql://me:***@host/studies?sslpassword=***&sslmode=require'
    """
    text = _LONG.sub(_shortened, text)
    return _without(hidden(text), _IN_TEXT)


def hidden(text: str) -> str:
    """A text without the secrets of `remember`: whatever else it says stays."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return text


def _shortened(found: re.Match[str]) -> str:
    beginning = _PLAIN.match(found[0])
    kept = beginning[0] if beginning else ""
    return f"{kept}... ({len(found[0]):,} characters)"


def remember(url: str) -> str:
    """Note the secrets of a URL that was given; returns how it is shown.

    Drivers may say them in words of their own, as they are or unescaped.
    """
    shown = _without(url, _IN_URL)
    if shown == url:
        return url
    _given[shown] = url
    raw = [m["secret"] for pattern in _IN_URL for m in pattern.finditer(url)]
    for secret in {each for one in raw for each in (one, unquote(one))}:
        # a password that is the user's name, say, is no secret to look for
        if len(secret) >= SHORTEST and secret not in shown:
            _secrets.add(secret)
    return shown


def given(shown: str) -> str | None:
    """The URL that was given in this process, by how it is shown."""
    return _given.get(shown)


def _without(text: str, patterns: tuple[re.Pattern[str], ...]) -> str:
    for pattern in patterns:
        text = pattern.sub(lambda found: found["before"] + HIDDEN, text)
    return text
