"""What is asked and said about a scene."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from evals.world.scene import COLOURS, PLACES, SHAPES, SIZES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evals.world.scene import Scene, Thing

ONSETS = (
    *("bi", "de", "fi", "go", "hu", "ka", "le", "mi", "va"),
    *("pu", "ra", "se", "ti", "wo", "zu", "jo", "ny"),
)
CODAS = (
    *("bo", "da", "fu", "gu", "ki", "la", "mo", "ne", "pi"),
    *("ru", "so", "ta", "vu", "wi", "xa", "yo", "zi"),
)
ANSWERS = 10  # human answers of one VQAv2 question
CAPTIONS = 5  # reference captions of one picture


@dataclass(frozen=True)
class Question:
    """A question, its answer, a wrong answer somebody might give, and its kind."""

    text: str
    answer: str
    near_miss: str
    kind: str


def _names() -> dict[tuple[str, str], str]:
    """A name for each kind of thing (colour, shape), fixed for all time."""
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    names = [onset + coda for onset in ONSETS for coda in CODAS]
    Random(2601).shuffle(names)
    # as many names as kinds, and one to spare
    return dict(zip(kinds, names, strict=False))


NAMES = _names()


def _other(random: Random, values: Sequence[str], value: str) -> str:
    return random.choice([v for v in values if v != value])


def _alone(things: Sequence[Thing], read: Callable[[Thing], str]) -> list[Thing]:
    """Things whose attribute no other thing of the scene has."""
    counts = Counter(read(thing) for thing in things)
    return [thing for thing in things if counts[read(thing)] == 1]


def _colour_at(scene: Scene, random: Random) -> Question:
    thing = random.choice(scene.things)
    miss = _other(random, list(COLOURS), thing.colour)
    text = f"what color is the object in the {thing.place}?"
    return Question(text, thing.colour, miss, "what color is the")


def _shape_at(scene: Scene, random: Random) -> Question:
    thing = random.choice(scene.things)
    miss = _other(random, SHAPES, thing.shape)
    text = f"what shape is the object in the {thing.place}?"
    return Question(text, thing.shape, miss, "what")


def _size_at(scene: Scene, random: Random) -> Question:
    thing = random.choice(scene.things)
    miss = _other(random, list(SIZES), thing.size)
    text = f"what size is the object in the {thing.place}?"
    return Question(text, thing.size, miss, "what")


def _name_at(scene: Scene, random: Random) -> Question:
    thing = random.choice(scene.things)
    name = NAMES[thing.colour, thing.shape]
    miss = _other(random, list(NAMES.values()), name)
    return Question(
        f"what is the name of the object in the {thing.place}?", name, miss, "what is"
    )


def _count(scene: Scene, _: Random) -> Question:
    total = len(scene.things)
    return Question(
        "how many objects are there?",
        str(total),
        str(total % 4 + 1),
        "how many",
    )


def _count_some(scene: Scene, random: Random) -> Question:
    thing = random.choice(scene.things)
    if random.random() < 0.5:
        word, read = f"{thing.colour} objects", [t.colour for t in scene.things]
        count = read.count(thing.colour)
    else:
        size = random.choice(list(SIZES))
        word, count = f"{size} objects", [t.size for t in scene.things].count(size)
    return Question(
        f"how many {word} are there?", str(count), str(count + 1), "how many"
    )


def _exists(scene: Scene, random: Random) -> Question:
    thing = random.choice(scene.things)
    kind = (thing.colour, thing.shape)
    if random.random() < 0.5:
        if random.random() < 0.5:
            kind = (_other(random, list(COLOURS), thing.colour), thing.shape)
        else:
            kind = (thing.colour, _other(random, SHAPES, thing.shape))
    found = any((t.colour, t.shape) == kind for t in scene.things)
    answer, miss = ("yes", "no") if found else ("no", "yes")
    return Question(f"is there a {kind[0]} {kind[1]}?", answer, miss, "is there a")


def _where(scene: Scene, random: Random) -> Question | None:
    alone = _alone(scene.things, lambda t: t.colour + t.shape)
    if not alone:
        return None
    thing = random.choice(alone)
    miss = _other(random, PLACES, thing.place)
    text = f"where is the {thing.colour} {thing.shape}?"
    return Question(text, thing.place, miss, "where is the")


def _colour_of(scene: Scene, random: Random) -> Question | None:
    alone = _alone(scene.things, lambda t: t.shape)
    if not alone:
        return None
    thing = random.choice(alone)
    miss = _other(random, list(COLOURS), thing.colour)
    text = f"what color is the {thing.shape}?"
    return Question(text, thing.colour, miss, "what color is the")


def _shape_of(scene: Scene, random: Random) -> Question | None:
    alone = _alone(scene.things, lambda t: t.colour)
    if not alone:
        return None
    thing = random.choice(alone)
    miss = _other(random, SHAPES, thing.shape)
    text = f"what shape is the {thing.colour} object?"
    return Question(text, thing.shape, miss, "what")


def _beside(scene: Scene, random: Random) -> Question | None:
    """What lies next to a named thing: two steps, as GQA asks."""
    pairs = [
        (thing, other, word)
        for thing in _alone(scene.things, lambda t: t.shape)
        for other in scene.things
        if (word := _relation(other, thing))
    ]
    if not pairs:
        return None
    thing, other, word = random.choice(pairs)
    miss = _other(random, list(COLOURS), other.colour)
    text = f"what color is the object {word} the {thing.shape}?"
    return Question(text, other.colour, miss, "relS")


def _relation(other: Thing, thing: Thing) -> str | None:
    """Where `other` lies, seen from `thing`; None unless they are neighbours."""
    step = PLACES.index(other.place), PLACES.index(thing.place)
    words = {
        **dict.fromkeys(((0, 1), (2, 3)), "left of"),
        **dict.fromkeys(((1, 0), (3, 2)), "right of"),
        **dict.fromkeys(((0, 2), (1, 3)), "above"),
        **dict.fromkeys(((2, 0), (3, 1)), "below"),
    }
    return words.get(step)


def _verify(scene: Scene, random: Random) -> Question:
    thing = random.choice(scene.things)
    colour = thing.colour
    if random.random() < 0.5:
        colour = _other(random, list(COLOURS), colour)
    answer, miss = ("yes", "no") if colour == thing.colour else ("no", "yes")
    return Question(
        f"is the object in the {thing.place} {colour}?", answer, miss, "verifyAttr"
    )


def _choose(scene: Scene, random: Random) -> Question:
    thing = random.choice(scene.things)
    other = _other(random, SHAPES, thing.shape)
    first, second = random.sample([thing.shape, other], 2)
    text = f"is the object in the {thing.place} a {first} or a {second}?"
    return Question(text, thing.shape, other, "chooseAttr")


# how often each kind of question is asked
VQA: tuple[tuple[Callable[[Scene, Random], Question | None], int], ...] = (
    (_colour_at, 16),
    (_shape_at, 14),
    (_size_at, 10),
    (_name_at, 22),
    (_count, 4),
    (_count_some, 6),
    (_exists, 8),
    (_where, 8),
    (_colour_of, 6),
    (_shape_of, 6),
)
GQA: tuple[tuple[Callable[[Scene, Random], Question | None], int], ...] = (
    (_colour_at, 20),
    (_verify, 25),
    (_choose, 25),
    (_where, 15),
    (_beside, 15),
)


def ask(
    scene: Scene,
    random: Random,
    kinds: Sequence[tuple[Callable[[Scene, Random], Question | None], int]] = VQA,
) -> Question:
    """One question about a scene, its kind drawn by weight."""
    functions, weights = zip(*kinds, strict=True)
    while True:
        question: Question | None = random.choices(functions, weights)[0](scene, random)
        if question is not None:
            return question


def human_answers(question: Question, random: Random) -> tuple[str, ...]:
    """Ten answers, up to three of them wrong, as people give them."""
    wrong = random.choices((0, 1, 2, 3), (70, 15, 10, 5))[0]
    answers = [question.near_miss] * wrong + [question.answer] * (ANSWERS - wrong)
    random.shuffle(answers)
    return tuple(answers)


def _list(phrases: Sequence[str]) -> str:
    if len(phrases) == 1:
        return phrases[0]
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _plain(thing: Thing) -> str:
    article = "an" if thing.colour[0] in "aeiou" else "a"
    return f"{article} {thing.colour} {thing.shape}"


def _sized(thing: Thing) -> str:
    return f"a {thing.size} {thing.colour} {thing.shape}"


def _placed(thing: Thing) -> str:
    return f"{_plain(thing)} in the {thing.place}"


def captions(scene: Scene) -> tuple[str, ...]:
    """Five reference captions, things in reading order."""
    plain = _list([_plain(thing) for thing in scene.things])
    sized = _list([_sized(thing) for thing in scene.things])
    placed = _list([_placed(thing) for thing in scene.things])
    # where everything lies would be too long a sentence for a crowd
    last = placed if len(scene.things) <= 2 else f"{plain} on a dark ground"
    return (sized, plain, f"there is {sized}", f"there is {plain}", last)
