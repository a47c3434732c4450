"""Scenes and their pictures."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from random import Random

CELL = 12  # pixels of one quarter's side
SIDE = 2 * CELL
OVERSAMPLE = 4
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "maroon": (140, 25, 45),
    "orange": (245, 135, 30),
    "brown": (145, 85, 35),
    "yellow": (245, 225, 60),
    "olive": (135, 130, 30),
    "lime": (150, 235, 60),
    "green": (40, 150, 60),
    "teal": (25, 130, 130),
    "cyan": (80, 225, 235),
    "blue": (60, 90, 235),
    "navy": (35, 45, 140),
    "purple": (145, 55, 195),
    "pink": (250, 140, 195),
    "coral": (250, 125, 105),
    "rust": (185, 70, 30),
    "gold": (215, 165, 35),
    "tan": (205, 170, 130),
    "mint": (140, 235, 180),
    "sky": (120, 180, 245),
    "indigo": (85, 50, 165),
    "magenta": (215, 50, 160),
    "white": (245, 245, 245),
    "gray": (140, 140, 145),
}
SIZES: dict[str, float] = {  # radius in pixels
    "tiny": 2.6,
    "small": 3.3,
    "medium": 4.0,
    "large": 4.7,
    "huge": 5.4,
}
PLACES = ("top left", "top right", "bottom left", "bottom right")


def _regular(corners: int, turn: float = 0.0) -> tuple[tuple[float, float], ...]:
    angles = [turn + 2 * math.pi * i / corners - math.pi / 2 for i in range(corners)]
    return tuple((math.cos(a), math.sin(a)) for a in angles)


def _star() -> tuple[tuple[float, float], ...]:
    radii = (1.15, 0.45)
    angles = [math.pi * i / 5 - math.pi / 2 for i in range(10)]
    return tuple(
        (radii[i % 2] * math.cos(a), radii[i % 2] * math.sin(a))
        for i, a in enumerate(angles)
    )


# corners around (0, 0) in units of the radius; y points down
POLYGONS: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    "triangle": ((0.0, -1.0), (1.05, 0.85), (-1.05, 0.85)),
    "diamond": ((0.0, -1.1), (0.75, 0.0), (0.0, 1.1), (-0.75, 0.0)),
    "star": _star(),
    "bar": ((-0.4, -1.05), (0.4, -1.05), (0.4, 1.05), (-0.4, 1.05)),
    "plank": ((-1.05, -0.4), (1.05, -0.4), (1.05, 0.4), (-1.05, 0.4)),
    "cross": (
        *((-0.35, -1.0), (0.35, -1.0), (0.35, -0.35), (1.0, -0.35)),
        *((1.0, 0.35), (0.35, 0.35), (0.35, 1.0), (-0.35, 1.0)),
        *((-0.35, 0.35), (-1.0, 0.35), (-1.0, -0.35), (-0.35, -0.35)),
    ),
    "arrow": (
        *((0.0, -1.1), (0.95, 0.0), (0.38, 0.0), (0.38, 1.0)),
        *((-0.38, 1.0), (-0.38, 0.0), (-0.95, 0.0)),
    ),
    "pentagon": _regular(5),
}
SHAPES = ("circle", "ring", "moon", *POLYGONS)


@dataclass(frozen=True)
class Thing:
    """One object: what it is, the quarter it lies in, and how it is drawn there."""

    colour: str
    shape: str
    size: str
    place: str
    shift: tuple[float, float]
    tint: tuple[int, int, int]


@dataclass(frozen=True)
class Scene:
    """One to four things in different quarters, in reading order."""

    things: tuple[Thing, ...]
    background: tuple[int, int, int]


def draw_scene(random: Random, fewest: int = 1) -> Scene:
    """A scene with at least `fewest` things."""
    count = random.choice([n for n in (1, 2, 2, 3, 3, 4) if n >= fewest])
    places = sorted(random.sample(PLACES, count), key=PLACES.index)
    dark = random.randint(8, 40)
    return Scene(
        tuple(_thing(random, place) for place in places),
        (dark, dark, dark + random.randint(0, 10)),
    )


def _thing(random: Random, place: str) -> Thing:
    return Thing(
        colour=random.choice(list(COLOURS)),
        shape=random.choice(SHAPES),
        size=random.choice(list(SIZES)),
        place=place,
        shift=(random.uniform(-0.6, 0.6), random.uniform(-0.6, 0.6)),
        tint=(random.randint(-7, 7), random.randint(-7, 7), random.randint(-7, 7)),
    )


def render(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB picture of `SIDE` x `SIDE` pixels."""
    side = SIDE * OVERSAMPLE
    picture = Image.new("RGB", (side, side), scene.background)
    pen = ImageDraw.Draw(picture)
    for thing in scene.things:
        _paint(pen, thing, scene.background)
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)


def _paint(pen: ImageDraw.ImageDraw, thing: Thing, background: tuple[int, ...]) -> None:
    index = PLACES.index(thing.place)
    x = ((index % 2 + 0.5) * CELL + thing.shift[0]) * OVERSAMPLE
    y = ((index // 2 + 0.5) * CELL + thing.shift[1]) * OVERSAMPLE
    radius = SIZES[thing.size] * OVERSAMPLE
    colour = tuple(
        min(255, max(0, c + t))
        for c, t in zip(COLOURS[thing.colour], thing.tint, strict=True)
    )
    if thing.shape in POLYGONS:
        corners = [(x + radius * a, y + radius * b) for a, b in POLYGONS[thing.shape]]
        pen.polygon(corners, fill=colour)
        return
    pen.ellipse(_box(x, y, radius), fill=colour)
    if thing.shape == "ring":
        pen.ellipse(_box(x, y, 0.5 * radius), fill=background)
    elif thing.shape == "moon":
        pen.ellipse(_box(x + 0.55 * radius, y, 0.8 * radius), fill=background)


def _box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return (x - radius, y - radius, x + radius, y + radius)


def jpeg(scene: Scene) -> bytes:
    """The picture as JPEG bytes, as a data set stores it."""
    buffer = io.BytesIO()
    render(scene).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()
