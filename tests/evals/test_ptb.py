from __future__ import annotations

import gzip
import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import evals.text
from evals import ptb
from evals.ptb import scan, tables, tokenize_caption

SHARED = Path(__file__).parents[3] / "shared/data/captions/ptb_pairs.jsonl.gz"
# its first line says how it was made
COMMITTED = Path(__file__).parent / "data/ptb_pairs.jsonl"
PIECES = st.lists(
    st.sampled_from(
        [
            "a",
            "dog",
            "S",
            "5",
            "é",
            " ",
            " ",
            "'",
            "\u2019",
            "``",
            '"',
            ".",
            ",",
            "-",
            "&",
            "amp;",
            "n't",
            "u.s.",
            "etc",
            "(",
            ")",
            "<",
            ">",
            "/",
            "@",
            "#",
            "_",
            "!",
            ":",
        ]
    )
)


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("", []),
        (" \n\t ", []),
        ("A dog\nruns.", ["a", "dog", "runs"]),
        # the list of punctuation has "-LRB-", but tokens are in lower case by then
        ("a (red) dog", ["a", "-lrb-", "red", "-rrb-", "dog"]),
        # what is no token of its own is no punctuation either
        ("\u201d\u201d", ["''''"]),
        ("can't cannot gonna", ["ca", "n't", "can", "not", "gon", "na"]),
        ("'tis y'all o'clock", ["'t", "is", "y'", "all", "o'clock"]),
        ("the dog\u2019s, dogs'", ["the", "dog", "'s", "dogs"]),
        # "no." keeps its period before a number only
        ("No. 5, no. Mr. X", ["no.", "5", "no", "mr.", "x"]),
        # a state's short form needs its capital
        ("Mass. has mass. too", ["mass.", "has", "mass", "too"]),
        ("size M. The dog", ["size", "m", "the", "dog"]),
        ("size M. the dog", ["size", "m.", "the", "dog"]),
        ("1 1/2 cups", ["1\xa01/2", "cups"]),
        ("10:30a.m. on 5/6/2014", ["10:30", "a.m.", "on", "5/6/2014"]),
        ("it's $3.50, 50\u20ac", ["it", "'s", "$", "3.50", "50", "$"]),
        ("a.jpg 5ab.jpg 5ab.cd", ["a.jpg", "5ab.jpg", "5ab", "cd"]),
        ("smile :-) <br>", ["smile", ":--rrb-", "<br>"]),
        # a character without a class divides and is lost
        ("a\ufffdb \U0001f600 c\ue000", ["a", "b", "c"]),
        ("co\xadop \xad", ["coop"]),
        ("a ---- b ----- c", ["a", "b", "-----", "c"]),
    ],
)
def test_a_caption_is_split_as_published(caption: str, tokens: list[str]) -> None:
    assert tokenize_caption(caption) == tokens


def test_captions_are_split_the_same_as_by_the_jar() -> None:
    rows = COMMITTED.read_text(encoding="utf-8").splitlines()[1:]
    pairs = [json.loads(row) for row in rows]
    assert len(pairs) > 600
    assert [" ".join(tokenize_caption(text)) for text, _ in pairs] == [
        good for _, good in pairs
    ]


def test_recorded_captions_are_split_the_same_as_by_the_jar() -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not there")
    with gzip.open(SHARED, "rt", encoding="utf-8") as rows:
        pairs = [json.loads(row) for row in rows]
    kinds = Counter(kind for _, _, kind in pairs)
    right = Counter(
        kind for text, good, kind in pairs if " ".join(tokenize_caption(text)) == good
    )
    assert kinds.keys() == {"human", "model", "hand"}
    assert right == kinds


@given(st.text())
def test_tokens_are_words_in_lower_case(text: str) -> None:
    for token in tokenize_caption(text):
        assert token == token.lower()
        assert token
        assert " " not in token
        assert token not in tables()["punctuation"]


@given(PIECES.map("".join))
def test_rules_left_out_by_what_a_text_holds_would_not_have_matched(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        tokens = list(scan(text))
        everything = tuple(
            (re.compile(f"({rule.head})(?:{rule.ahead})").match, rule.write)
            for rule in ptb.rules()
        )
        patch.setattr(ptb, "candidates", lambda _first, _absent: everything)
        patch.setattr(ptb, "PLAIN", re.compile("(?!)"))
        assert list(scan(text)) == tokens


@given(st.lists(st.from_regex("[a-z]{2,9}", fullmatch=True)))
def test_tokens_of_plain_words_stay_as_they_are(words: list[str]) -> None:
    tokens = tokenize_caption(" ".join(words))
    assert tokenize_caption(" ".join(tokens)) == tokens
    assert "".join(tokens) == "".join(words)


@given(PIECES.map("".join))
def test_blanks_around_a_caption_do_not_matter(text: str) -> None:
    assert tokenize_caption(f"  {text} ") == tokenize_caption(text + " ")


@pytest.mark.parametrize(
    "piece",
    [
        *"\"'a-.~&é",
        "a.",
        "a'",
        "a,",
        "a-",
        "1 ",
        "5a.",
        "a@.",
        "<a ",
        "<!a",
        "n't",
        "www.",
        "\u2019\u2019s",
        "a!",
        "1/",
        "(555) ",
        "http://",
        '<a b="',
        "a&lt;",
        "a*.com",
    ],
)
def test_a_long_repetition_takes_no_time(piece: str) -> None:
    text = (piece * 10_000)[:10_000]
    start = time.perf_counter()
    tokenize_caption(text)
    # 0.1 s on a machine that does nothing else
    assert time.perf_counter() - start < 1


def test_the_tokenizer_is_found_among_the_texts() -> None:
    assert evals.text.tokenize_caption is tokenize_caption
