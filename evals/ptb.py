r"""Caption tokens as coco-caption makes them, without Java.

CIDEr, BLEU and their kin are published on tokens of PTBTokenizer in Stanford CoreNLP
3.4.1, called with `-preserveLines -lowerCase` by
https://github.com/tylin/coco-caption (pycocoevalcap/tokenizer/ptbtokenizer.py). That
tokenizer is a scanner: of all rules that match at a place the one that reads furthest
wins, what it looks ahead at included, and of two that read as far the one listed first.
The rules below say anew what that grammar is known to do, corrected until both agreed
on made-up captions of many kinds; word lists and character classes are in
`data/ptb_tables.json`, which says how they were found.

Rules see a shadow of the text, in which "é" stands for every letter beyond ASCII,
"\u0301" for every mark that only a word may hold, "٣" for every digit and "¡" for every
symbol that stands alone. A character that no rule knows is dropped.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Candidate = tuple[Callable[[str, int], re.Match[str] | None], Callable[[str], str]]

STANDS_FOR = {"letters": "é", "marks": "\u0301", "digits": "٣", "symbols": "¡"}

# Pieces of rules; repeated groups are atomic, "(?>", because Python 3.11.2 misreads
# possessive ones. "(?i:" where the tokenizer takes both cases, and only there.
L, D, LD = "[A-Za-zé]", "[0-9٣]", "[A-Za-zé0-9٣]"
ACCENTED = "&[aeiouAEIOU](?i:acute|grave|uml);"
LETTER = rf"(?:[A-Za-zé\u0301\xad]|{ACCENTED})"
IN_WORD = rf"(?:[A-Za-zé\u0301\xad0-9٣]|{ACCENTED})"
WORD = rf"(?>{LETTER}{IN_WORD}*(?:[.!?]{LETTER}{IN_WORD}*)*)"
APOS = r"(?:['\x92\u2019]|&(?i:apos);)"
QUOTE_IN_WORD = rf"(?:{APOS}|[`\x91\u2018\u201b])"
ENDING = rf"{APOS}(?i:[msd]|re|ve|ll)"
NEGATION = rf"(?i:n){QUOTE_IN_WORD}(?i:t)"
NAME = rf"(?:[dDoOlL]{QUOTE_IN_WORD}{LD})?{LD}++"
THING = rf"(?>{NAME}(?:[-_\u058a\u2010\u2011]{NAME})*)"
CAPITALS = "[A-Z]++(?:(?:&(?i:amp);|[+&])[A-Z]++)+"
BLANK = r"[ \t\xa0\u2000-\u200a\u3000\n]"
DOTTED = r"[A-Za-z](?:\.[A-Za-z])"
NATIONS = r"(?i:(?:canada|sino|korean|eu|japan|non)-u\.s|u\.s\.-(?:u\.k|u\.s\.s\.r))"
MIXED = (
    r"[A-Za-z0-9][A-Za-z0-9.,\xad]*+"
    rf"(?:-(?:(?:{NATIONS}|{DOTTED}+)\.|[A-Za-z0-9\xad]++))+"
)
NUMBER = rf"(?>{D}*(?:[.:,\xad\u066b\u066c]{D}+)+|{D}+)"
HYPHENED = "[A-Za-z0-9]++(?:-[A-Za-z]++){0,2}"
TELEPHONE = (
    r"(?:\([0-9]{2,3}\)[ \xa0]?"
    r"|(?:\+\+?)?(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])"
    r"[0-9]{3,4}[- \xa0]?[0-9]{3,5}"
    r"|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"
)
QUOTED = r"\"[^\"\r\n]*+\"|'[^'\r\n]*+'"
TAG_NAME = "[A-Za-z][A-Za-z0-9_:.-]*+"
TAG = (
    rf"<(?:[!?][A-Za-z-][^>\r\n]*+|/{TAG_NAME} *+"
    rf"|{TAG_NAME}(?>(?: ++{TAG_NAME}(?: *= *(?:{QUOTED}))?)*) *+/? *+)>"
)
# what a web or mail address cannot hold anywhere, and where it cannot end
URL, URL_END = r'[^ \t\n\f\r"<>|()]', r'[^ \t\n\f\r"<>|.!?(){},-]'
PATH = f"/{URL}+{URL_END}"
HOST = r'[^ \t\n\f\r"<>|.!?(){},]'
# ",-_" is a range, by accident as it seems: no capital and no digit before ".com"
BARE_HOST = r"[^ \t\n\f\r\"`'<>|.!?(){},-_$]"
BARE_END = r"\.(?i:com|net|org|edu)"
MAIL, MAIL_HOST = r'[^ \t\n\f\r"<>|()\xa0{}]', r'[^ \t\n\f\r"<>|(){}.\xa0]'
MAIL_PATTERN = (
    rf"(?:<|&(?i:lt);)?[a-zA-Z0-9]{MAIL}*@"
    rf"(?:{MAIL_HOST}++\.)*{MAIL_HOST}++(?:>|&(?i:gt);)?"
)
FACE = r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]"
EYES = (
    r"[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)"
    r"|\([\^x=~<>']-[\^x=~<>'`]\)"
)
# classes of first characters: rules that cannot match are not tried
APOS_FIRST = r"'\x92\u2019&"
WORD_FIRST = r"A-Za-zé\u0301\xad&"
THING_FIRST = "A-Za-zé0-9٣"
# A word that only a table could make more than a word.
PLAIN = re.compile(r" *+([A-Za-z]++)(?=[ \n]|[.,][ \n])")


@dataclass(frozen=True)
class Rule:
    """What a rule reads, what must follow, and how its token is written."""

    # the characters that the head can start with, as inside a class
    starts: str
    head: str
    ahead: str = ""
    write: Callable[[str], str] = str
    # a pattern without which anywhere the rule cannot match
    needs: str = ""


@cache
def tables() -> dict[str, Any]:
    """Read word lists and character classes."""
    source = files("evals").joinpath("data", "ptb_tables.json")
    content: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    content["spellings"] = str.maketrans(content["spellings"])
    content["punctuation"] = frozenset(content["punctuation"])
    return content


@cache
def shadows() -> dict[int, str]:
    """What stands for each character in the shadow of a text."""
    found = dict.fromkeys(map(ord, "\r\v\f\u2028\u2029"), "\n")
    for name, spans in tables()["characters"].items():
        for span in spans.split():
            first, _, last = span.partition("-")
            codes = range(int(first, 16), int(last or first, 16) + 1)
            found.update(dict.fromkeys(codes, STANDS_FOR[name]))
    return found


def respell(text: str) -> str:
    """Write typographic signs in ASCII, brackets as words."""
    return text.replace("&apos;", "'").translate(tables()["spellings"])


def soft(text: str) -> str:
    """Leave out soft hyphens; of nothing else a hyphen remains."""
    return text.replace("\xad", "") or "-"


def join(text: str) -> str:
    """Keep one token in one piece: its blanks become no-break spaces."""
    return text.replace(" ", "\xa0")


def join_brackets(text: str) -> str:
    """The same for a token with round brackets."""
    return join(text).replace("(", "-lrb-").replace(")", "-rrb-")


def entity(text: str) -> str:
    """Write the three entities of markup as their signs."""
    for name, sign in (("amp", "&"), ("lt", "<"), ("gt", ">")):
        text = re.sub(f"&{name};", sign, text, flags=re.IGNORECASE)
    return text


def always(token: str) -> Callable[[str], str]:
    """A rule's token that is the same whatever was read."""
    return lambda _: token


def quote(token: str) -> Callable[[str], str]:
    """A double quote that opens or closes; an entity in capitals stays."""
    return lambda text: text if "&" in text and text != "&quot;" else token


def one_of(words: Iterable[str]) -> str:
    """A pattern of words: the longest first, because the first that fits is taken."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


def one_of_capital(words: Iterable[str]) -> str:
    """A pattern of words of which only the first letter has to be a capital."""
    return "|".join(f"{word[0]}(?i:{re.escape(word[1:])})" for word in words)


def word_rules() -> Iterator[Rule]:
    """Words, and what an apostrophe does in them."""
    for word, cut in tables()["splits"].items():
        yield Rule("A-Za-z'", f"(?i:{word[:cut]})", f"(?i:{word[cut:]})")
    yield Rule("CcFf", r"(?i:c\+\+|[cf]#)")
    yield Rule("<", TAG, write=join, needs=">")
    dash = r"&(?i:md|mdash|ndash);|[\x96\x97\u2013\u2014\u2015]"
    yield Rule(r"&\x96\x97\u2013\u2014\u2015", dash, write=always("--"))
    yield Rule("&", "&(?i:amp);", write=entity)
    yield Rule("&", "&(?:(?i:ht|tl|ur|lr|qc|ql|qr|odq|cdq)|#[0-9]+);")
    yield Rule(WORD_FIRST, WORD, ENDING, soft)
    yield Rule(r"A-Za-z\xad", r"[A-Za-z\xad]*[A-MO-Za-mo-z]\xad*", NEGATION, soft)
    yield Rule(WORD_FIRST, WORD, write=soft)
    yield Rule(f"{APOS_FIRST}lLdDjJ", f"{APOS}(?i:n){APOS}?|[lLdDjJ]{APOS}")
    yield Rule("A-Za-z", f"(?i:{one_of(tables()['clipped'])}){APOS}")
    yield Rule(APOS_FIRST, f"{APOS}(?i:em|[2-9]0s|till?|cause)")
    yield Rule("A-Za-zé", f"{L}+[aeiouyAEIOUY]{QUOTE_IN_WORD}[aeiouA-Z]{L}*+")
    yield Rule("A-Zn", f"[A-HJ-XZn]{QUOTE_IN_WORD}{L}{L}++")
    yield Rule("oO", f"[oO]{QUOTE_IN_WORD}[oO]")
    yield Rule("A-Za-z", f"(?i:{one_of(tables()['apostrophe_words'])})")
    yield Rule("yY", f"[yY]{APOS}", L)
    yield from address_rules()
    yield Rule(APOS_FIRST, ENDING, "[^A-Za-z]", respell)
    yield Rule("nN", NEGATION, write=respell)


def address_rules() -> Iterator[Rule]:
    """Addresses of the web, of mail and of chats."""
    yield Rule("hH", f"(?i:https?)://{URL}+{URL_END}", needs="://")
    host = rf"(?i:www)\.(?:{HOST}++\.)+[a-zA-Z]{{2,4}}"
    bare = rf"(?:{BARE_HOST}++\.)*{BARE_HOST}++{BARE_END}"
    for path in ("", PATH):
        yield Rule("wW", host + path)
        yield Rule("^0-9", bare + path, needs=BARE_END)
    yield Rule("<&a-zA-Z0-9", MAIL_PATTERN, needs=f"@{MAIL_HOST}")
    yield Rule("@#", f"@[a-zA-Z_][a-zA-Z_0-9]*+|#(?>{LETTER}+)")


def number_rules() -> Iterator[Rule]:
    """Dates, numbers, fractions, names with digits and money."""
    yield Rule("0-9٣", f"{D}{{1,2}}[-/]{D}{{1,2}}[-/]{D}{{2,4}}")
    yield Rule(r"-+0-9٣.:,\xad\u066b\u066c", f"[-+]?{NUMBER}", write=soft)
    yield Rule("⁺⁻₊₋⁰¹²³⁴-⁹₀-₉", "[⁺⁻₊₋]?(?:[⁰¹²³⁴-⁹]++|[₀-₉]++)")
    parts = rf"(?:{D}{{1,4}}[- \xa0])?{D}{{1,4}}(?:\\?/|\u2044){D}{{1,4}}"
    yield Rule("0-9٣", parts, write=join)
    yield Rule("¼½¾⅓⅔", "[¼½¾⅓⅔]", write=respell)
    odd = r"-[RL][RCS]B-|C\.D\.s|pro-|anti-|S(?:&|&amp;)(?:P-500|Ls)"
    yield Rule("-A-Za-z", f"(?i:{odd})", write=entity)
    yield Rule("Cc", f"(?i:cap){APOS}(?i:n)|[Cc]{APOS}(?i:est)")
    yield Rule("A-Za-z0-9", rf"{HYPHENED}(?:\\?/{HYPHENED}){{1,2}}", needs="/")
    yield Rule("A-Z$#", r"[A-Z]*+\$|#")
    yield Rule(r"¢£¤€₠\x80", r"[¢£¤€₠\x80]", write=respell)


def abbreviation_rules() -> Iterator[Rule]:
    """Words that keep their period, and telephone numbers."""
    lists = tables()
    capital = one_of_capital(lists["sentence_final_if_capital"])
    final = rf"(?:(?i:{one_of(lists['sentence_final'])})|{capital}|(?i:pp?t)[ey])\."
    yield Rule("A-Za-z", final, r"[\s\S]{2}")
    yield Rule("A-Za-z", final)
    inner = f"(?i:{one_of(lists['inner'])})|(?i:m)[ft](?i:g)"
    yield Rule("A-Za-z", rf"(?:{inner})\.")
    yield Rule("A-Za-z", rf"(?:{DOTTED}*|{NATIONS})\.")
    starts = one_of_capital(lists["sentence_starts"])
    yield Rule("A-Za-z", "[A-Za-z]", rf"\.{BLANK}++(?:{starts}|{TAG}){BLANK}")
    yield Rule("A-Za-z", f"{DOTTED}+|{NATIONS}", BLANK)
    number = rf"(?i:{one_of(lists['before_number'])})\."
    yield Rule("A-Za-z", number, f"{BLANK}?{D}")
    yield Rule(APOS_FIRST, f"{APOS}{D}{{2}}", BLANK)
    word, pause = rf"(?:{WORD}|{THING}|{MIXED})\.", "[,;:、]"
    yield Rule(WORD_FIRST + "0-9٣", word, pause, soft, rf"\.{pause}")
    yield Rule("A-Z", rf"{CAPITALS}\.", pause, entity, rf"\.{pause}")
    yield Rule("(+0-9", TELEPHONE, write=join_brackets)


def mark_rules() -> Iterator[Rule]:
    """Quotes, faces, brackets, dashes, and whatever stands alone."""
    yield Rule('"&', '"|&(?i:quot);', "[A-Za-z0-9$]", quote("``"))
    yield Rule('"&', '"|&(?i:quot);', write=quote("''"))
    yield Rule("<>&", "[<>]|&(?i:lt|gt);", write=entity)
    yield Rule("<>:;=", FACE, "[^A-Za-z0-9]", join_brackets)
    yield Rule(r"-\^x=~<>'(", EYES, write=join_brackets)
    yield Rule(r"()\[\]{}", r"[()\[\]{}]", write=respell)
    yield Rule("-", "-{3,4}", write=always("--"))
    yield Rule("-", "-++")
    dots = r"\.{3,5}|(?:\.[ \xa0]){2,4}\.|[\x85…]"
    yield Rule(r".…\x85", dots, write=always("..."))
    yield Rule(r"@#_*\\", r"@++|#++|_++|\*++|(?:\\\*){1,3}")
    yield Rule(",;:、?!<>", "[,;:、]|[?!]++|<<|>>")
    dotted = rf"\.(?i:{one_of(tables()['file_endings'])})"
    after = f"(?:{BLANK}|[.?!,])"
    file = rf"{LD}++(?:\.{LD}++)*{dotted}"
    yield Rule(THING_FIRST, file, after, needs=dotted + after)
    yield Rule("A-Za-z0-9", MIXED, write=soft, needs="-")
    yield Rule(THING_FIRST, THING, write=soft)
    yield Rule("A-Z", CAPITALS, write=entity, needs="[+&]")
    yield Rule("'", "'", r"[A-Za-z][^ \t\n\r\xa0]", always("`"))
    yield Rule(APOS_FIRST, ENDING, write=respell)
    quotes = r"`\u2018\u2019\u201a\u201b“”\x91-\x94„‟\u2039\u203a«»"
    yield Rule(f"{quotes}'&", f"''|[{quotes}]{{1,2}}|{APOS}", write=respell)
    yield Rule(r".¡+%&~\^|\\/=⁺⁻₊₋\u2044", r"[.¡+%&~^|\\/=⁺⁻₊₋\u2044]")
    yield Rule("&", "&(?i:nbsp);", write=always(""))


@cache
def rules() -> tuple[Rule, ...]:
    """All rules, in the order that decides between two that read as far."""
    makers = (word_rules, number_rules, abbreviation_rules, mark_rules)
    return tuple(rule for maker in makers for rule in maker())


@cache
def needed() -> tuple[re.Pattern[str], ...]:
    """What some rules cannot match without."""
    patterns = sorted({rule.needs for rule in rules() if rule.needs})
    return tuple(map(re.compile, patterns))


@lru_cache(maxsize=1 << 12)
def candidates(first: str, absent: tuple[str, ...]) -> tuple[Candidate, ...]:
    """What to try at a character, in a text that lacks some patterns."""
    return tuple(
        (re.compile(f"({rule.head})(?:{rule.ahead})").match, rule.write)
        for rule in rules()
        if rule.needs not in absent and re.match(f"[{rule.starts}]", first)
    )


@cache
def more_than_words() -> tuple[frozenset[str], frozenset[str]]:
    """Words that are split, and words that may keep a period."""
    lists = tables()
    names = ("before_number", "sentence_final", "sentence_final_if_capital", "inner")
    periods = {word.lower() for name in names for word in lists[name]}
    others = set(ascii_lowercase) | {"ppte", "ppty", "pte", "pty", "mfg", "mtg"}
    splits = frozenset(lists["splits"])
    return splits, splits | periods | others


def scan(text: str) -> Iterator[str]:
    """Yield the tokens of one line, punctuation included."""
    shadow = text.translate(shadows()) + "\n"
    absent = tuple(need.pattern for need in needed() if not need.search(shadow))
    split, period = more_than_words()
    place = 0
    while place < len(text):
        plain = PLAIN.match(shadow, place)
        if plain and plain[1].lower() not in (
            period if shadow[plain.end()] == "." else split
        ):
            yield plain[1].lower()
            place = plain.end()
            continue
        furthest, end, writer = place, place + 1, None
        for match, write in candidates(shadow[place], absent):
            found = match(shadow, place)
            if found and found.end() > furthest:
                furthest, end, writer = found.end(), found.end(1), write
        if writer is not None and (token := writer(text[place:end])):
            yield token.lower()
        place = end


def tokenize_caption(text: str) -> list[str]:
    """Split a caption as coco-caption does: lower case, punctuation dropped.

    A caption stands alone here. In a file of coco-caption the next line can matter:
    "size M." keeps its period, unless what follows begins with "A", "The" or the like.

    >>> tokenize_caption("Dogs can't wait, it's 10 a.m. (NY).")
    ['dogs', 'ca', "n't", 'wait', 'it', "'s", '10', 'a.m.', '-lrb-', 'ny', '-rrb-']
    """
    dropped = tables()["punctuation"]
    return [word for word in scan(text.replace("\n", " ")) if word not in dropped]
