"""A figure laid out on paper: its marks as lines, dots, boxes and words in points, for SVG and PDF alike.

The origin is at the top left. Nothing is told by colour alone: limits are dashed, groups differ in shape, and
every line that matters carries its value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from analysis.figures import Axis, Bars, Figure, Line, Points, Span

WIDTH: Final = 480.0
HEIGHT: Final = 300.0
SHAPES: Final = ("circle", "square", "triangle", "cross")

_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 46.0, 26.0, 44.0
_FONT: Final = 9.0
_TICKS: Final = 5
_MOST_POINTS: Final = 5_000  # more hide one another, and make a page that no browser wants


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line through points; `fill` closes and fills it."""

    points: tuple[tuple[float, float], ...]
    colour: str = "#222222"
    width: float = 0.8
    dashed: bool = False
    fill: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """A small mark of one of `SHAPES`."""

    x: float
    y: float
    shape: str
    colour: str


@dataclass(frozen=True, slots=True)
class Text:
    """Words whose `anchor` (`start`, `middle`, `end`) is at a place; `upright` words run upwards."""

    x: float
    y: float
    words: str
    anchor: str = "start"
    size: float = _FONT
    upright: bool = False


Primitive: TypeAlias = Stroke | Dot | Text
_COLOURS: Final = ("#1f4e8c", "#b35900", "#4d7a2f", "#7a3f8c")
_GREY: Final = "#8a8a8a"
_SPAN: Final = "#dde6f2"


def layout(figure: Figure, *, say: Callable[[str], str], number: Callable[[float], str]) -> list[Primitive]:
    """Return what to draw, on a sheet of `WIDTH` by `HEIGHT`.

    Parameters
    ----------
    figure
        What is shown.
    say
        Puts a key (a kind of figure, an axis, a quantity) into a reader's words.
    number
        Writes a number.
    """
    sheet = _Sheet(figure)
    title = say(figure.kind) + (f": {say(figure.of)}" if figure.of else "")
    drawn: list[Primitive] = [Text(_LEFT, 14.0, title, size=10.0)]
    bars = any(isinstance(mark, Bars) for mark in figure.marks)
    drawn += [
        _box(_LEFT, sheet.y(span.high), WIDTH - _RIGHT, sheet.y(span.low), _SPAN)
        for span in figure.marks
        if isinstance(span, Span)
    ]
    drawn += _axes(figure, sheet, say, number, with_x=not bars)
    for mark in figure.marks:
        if isinstance(mark, Line):
            drawn += _line(mark, sheet)
        elif isinstance(mark, Points):
            drawn += _points(mark, sheet)
        elif isinstance(mark, Bars):
            drawn += _bars(mark, sheet, number)
    drawn += _legend(figure, say)
    return drawn


class _Sheet:
    """Places on paper of values on the axes."""

    def __init__(self, figure: Figure) -> None:
        self._x, self._y = figure.x, figure.y

    def x(self, value: float) -> float:
        share = (value - self._x.low) / (self._x.high - self._x.low or 1.0)
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 2)

    def y(self, value: float) -> float:
        share = (value - self._y.low) / (self._y.high - self._y.low or 1.0)
        return round(HEIGHT - _BOTTOM - min(max(share, 0.0), 1.0) * (HEIGHT - _TOP - _BOTTOM), 2)


def ticks(axis: Axis) -> list[float]:
    """Return round numbers along an axis, some five of them."""
    span = axis.high - axis.low
    if not (math.isfinite(span) and span > 0):
        return [axis.low]
    rough = span / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough * 0.999)
    first = math.ceil(axis.low / step - 1e-9)
    return [round(k * step, 10) + 0.0 for k in range(first, math.floor(axis.high / step + 1e-9) + 1)]


def _axes(
    figure: Figure,
    sheet: _Sheet,
    say: Callable[[str], str],
    number: Callable[[float], str],
    *,
    with_x: bool,
) -> Iterator[Primitive]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    yield Stroke(((_LEFT, _TOP), (_LEFT, bottom), (right, bottom)))
    for value in ticks(figure.y):
        at = sheet.y(value)
        yield Stroke(((_LEFT - 4, at), (_LEFT, at)))
        yield Text(_LEFT - 6, at + 3, number(value), "end")
    yield Text(14.0, (_TOP + bottom) / 2, _named(figure.y, say), "middle", upright=True)
    if not with_x:
        return
    for value in ticks(figure.x):
        at = sheet.x(value)
        yield Stroke(((at, bottom), (at, bottom + 4)))
        yield Text(at, bottom + 14, number(value), "middle")
    yield Text((_LEFT + right) / 2, HEIGHT - 8, _named(figure.x, say), "middle")


def _named(axis: Axis, say: Callable[[str], str]) -> str:
    return say(axis.label) + (f" ({axis.unit})" if axis.unit not in ("", "1") else "")


def _line(line: Line, sheet: _Sheet) -> Iterator[Primitive]:
    places = tuple((sheet.x(x), sheet.y(y)) for x, y in zip(line.x, line.y, strict=True))
    yield Stroke(places, _GREY if line.dashed else "#222222", 1.0, dashed=line.dashed)
    if line.label:
        yield Text(places[-1][0] + 3, places[-1][1] + 3, line.label)


def _points(points: Points, sheet: _Sheet) -> Iterator[Primitive]:
    step = max(1, math.ceil(len(points.x) / _MOST_POINTS))
    shape, colour = SHAPES[points.group % len(SHAPES)], _COLOURS[points.group % len(_COLOURS)]
    for x, y in zip(points.x[::step], points.y[::step], strict=True):
        yield Dot(sheet.x(x), sheet.y(y), shape, colour)


def _bars(bars: Bars, sheet: _Sheet, number: Callable[[float], str]) -> Iterator[Primitive]:
    for place, (label, value) in enumerate(zip(bars.labels, bars.values, strict=True)):
        left, right = sheet.x(place + 0.2), sheet.x(place + 0.8)
        middle, bottom = (left + right) / 2, HEIGHT - _BOTTOM
        if math.isfinite(value):
            yield _box(left, sheet.y(value), right, bottom, _COLOURS[0])
            yield Text(middle, sheet.y(value) - 3, number(value), "middle")
        room = max(6, round((right - left) / 0.6 / 4.6))
        for line, words in enumerate(_wrapped(label, room)):
            yield Text(middle, bottom + 11 + 9 * line, words, "middle", size=7.5)
    if bars.limit is not None:
        at = sheet.y(bars.limit)
        yield Stroke(((_LEFT, at), (WIDTH - _RIGHT, at)), "#222222", 1.0, dashed=True)
        yield Text(WIDTH - _RIGHT + 3, at + 3, number(bars.limit))


def _legend(figure: Figure, say: Callable[[str], str]) -> Iterator[Primitive]:
    at = WIDTH - _RIGHT
    for number, group in reversed(list(enumerate(figure.groups))):
        words = say(group)
        at -= 5.0 * len(words)
        yield Text(at, 14.0, words)
        yield Dot(at - 6, 11.0, SHAPES[number % len(SHAPES)], _COLOURS[number % len(_COLOURS)])
        at -= 18.0


def _box(left: float, top: float, right: float, bottom: float, colour: str) -> Stroke:
    return Stroke(((left, top), (right, top), (right, bottom), (left, bottom)), colour, 0.0, fill=True)


def _wrapped(text: str, room: int) -> list[str]:
    """Return at most three lines of about `room` letters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return [*lines[:2], lines[2] + "…"] if len(lines) > 3 else lines
