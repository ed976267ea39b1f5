"""A figure laid out on paper: its marks as lines, dots, boxes and words in points, for SVG and PDF alike.

The origin is at the top left. Nothing is told by colour alone: limits are dashed, groups differ in shape, and
every line that matters carries its value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from analysis.figures import Axis, Bars, Figure, Letter, Line, Points, Span

WIDTH: Final = 480.0
HEIGHT: Final = 300.0
"""Of a sheet, unless it has many bars: see `height_of`."""
SHAPES: Final = ("circle", "square", "triangle", "cross")

_LEFT, _LEFT_OF_BARS, _RIGHT, _TOP, _BOTTOM = 62.0, 170.0, 46.0, 26.0, 44.0
_FONT: Final = 9.0
_TICKS: Final = 5
_ROW: Final = 26.0  # three lines of a bar's label
_TALLEST: Final = 660.0  # fits on a page of A4
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


def height_of(figure: Figure) -> float:
    """Return the height of a figure's sheet: `HEIGHT`, or what the labels of many bars need."""
    rows = sum(len(mark.labels) for mark in figure.marks if isinstance(mark, Bars))
    return min(max(HEIGHT, _TOP + _BOTTOM + _ROW * rows), _TALLEST)


def layout(figure: Figure, *, say: Callable[[str], str], number: Callable[[float], str]) -> list[Primitive]:
    """Return what to draw, on a sheet of `WIDTH` by `height_of(figure)`.

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
    title = say(figure.kind) + (f"{say('colon')}{say(figure.of)}" if figure.of else "")
    drawn: list[Primitive] = [Text(_LEFT, 14.0, title, size=10.0)]
    drawn += [
        _box(sheet.left, sheet.y(span.high), sheet.right, sheet.y(span.low), _SPAN)
        for span in figure.marks
        if isinstance(span, Span)
    ]
    drawn += _axes(figure, sheet, say, number)
    for mark in figure.marks:
        if isinstance(mark, Line):
            drawn += _line(mark, sheet, number)
        elif isinstance(mark, Letter):
            drawn.append(Text(sheet.x(mark.x), sheet.y(mark.y) + 4, mark.letter, "middle", 12.0))
        elif isinstance(mark, Points):
            drawn += _points(mark, sheet)
        elif isinstance(mark, Bars):
            drawn += _bars(mark, sheet, number)
    drawn += _legend(figure, say)
    return drawn


class _Sheet:
    """Places on paper of values on the axes: the room that a figure's frame has, and the scales in it."""

    def __init__(self, figure: Figure) -> None:
        self._x, self._y = figure.x, figure.y
        bars = any(isinstance(mark, Bars) for mark in figure.marks)
        self.left = _LEFT_OF_BARS if bars else _LEFT
        self.height = height_of(figure)
        self.right, self.bottom = WIDTH - _RIGHT, self.height - _BOTTOM
        if figure.square:
            self.right = self.left + self.bottom - _TOP

    def x(self, value: float) -> float:
        share = (value - self._x.low) / (self._x.high - self._x.low or 1.0)
        return round(self.left + min(max(share, 0.0), 1.0) * (self.right - self.left), 2)

    def y(self, value: float) -> float:
        share = (value - self._y.low) / (self._y.high - self._y.low or 1.0)
        return round(self.bottom - min(max(share, 0.0), 1.0) * (self.bottom - _TOP), 2)


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
    figure: Figure, sheet: _Sheet, say: Callable[[str], str], number: Callable[[float], str]
) -> Iterator[Primitive]:
    left, right, bottom = sheet.left, sheet.right, sheet.bottom
    yield Stroke(((left, _TOP), (left, bottom), (right, bottom)))
    if figure.y.label:
        for value in ticks(figure.y):
            at = sheet.y(value)
            yield Stroke(((left - 4, at), (left, at)))
            yield Text(left - 6, at + 3, number(value), "end")
        yield Text(14.0, (_TOP + bottom) / 2, _named(figure.y, say), "middle", upright=True)
    for value in ticks(figure.x):
        at = sheet.x(value)
        yield Stroke(((at, bottom), (at, bottom + 4)))
        yield Text(at, bottom + 14, number(value), "middle")
    yield Text((left + right) / 2, sheet.height - 8, _named(figure.x, say), "middle")


def _named(axis: Axis, say: Callable[[str], str]) -> str:
    return say(axis.label) + (f" ({say(axis.unit)})" if axis.unit not in ("", "1") else "")


def _line(line: Line, sheet: _Sheet, number: Callable[[float], str]) -> Iterator[Primitive]:
    places = tuple((sheet.x(x), sheet.y(y)) for x, y in zip(line.x, line.y, strict=True))
    yield Stroke(places, _GREY if line.dashed else "#222222", 1.0, dashed=line.dashed)
    if line.told:
        yield Text(places[-1][0] + 3, places[-1][1] + 3, number(line.y[-1]))


def _points(points: Points, sheet: _Sheet) -> Iterator[Primitive]:
    step = max(1, math.ceil(len(points.x) / _MOST_POINTS))
    shape, colour = SHAPES[points.group % len(SHAPES)], _COLOURS[points.group % len(_COLOURS)]
    for x, y in zip(points.x[::step], points.y[::step], strict=True):
        yield Dot(sheet.x(x), sheet.y(y), shape, colour)


def _bars(bars: Bars, sheet: _Sheet, number: Callable[[float], str]) -> Iterator[Primitive]:
    n = len(bars.labels)
    for row, (label, value) in enumerate(zip(bars.labels, bars.values, strict=True)):
        top, bottom = sheet.y(n - row - 0.2), sheet.y(n - row - 0.8)
        middle = (top + bottom) / 2
        if math.isfinite(value):
            yield _box(sheet.left, top, sheet.x(value), bottom, _COLOURS[0])
            yield Text(sheet.x(value) + 4, middle + 3, number(value))
        lines = _wrapped(label, 34)
        for line, words in enumerate(lines):
            yield Text(sheet.left - 6, middle + 3 + 8 * (line - (len(lines) - 1) / 2), words, "end", size=7.5)
    if bars.limit is not None:
        at = sheet.x(bars.limit)
        yield Stroke(((at, _TOP - 2), (at, sheet.bottom)), "#222222", 1.0, dashed=True)


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
