"""Primitives of a figure as an SVG element."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lab_api.report.drawing import HEIGHT, WIDTH, Dot, Primitive, Stroke, Text


def svg(primitives: Sequence[Primitive], *, title: str, height: float = HEIGHT) -> str:
    """Return a drawing as an SVG element whose title says what it shows."""
    body = "".join(_element(primitive) for primitive in primitives)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH:g} {height:g}" '
        f'font-family="sans-serif"><title>{escape(title)}</title>{body}</svg>'
    )


def _element(primitive: Primitive) -> str:
    if isinstance(primitive, Stroke):
        return _stroke(primitive)
    if isinstance(primitive, Dot):
        return _dot(primitive)
    return _text(primitive)


def _stroke(stroke: Stroke) -> str:
    places = " ".join(f"{x:g},{y:g}" for x, y in stroke.points)
    if stroke.fill:
        return f'<polygon points="{places}" fill="{stroke.colour}"/>'
    dashes = ' stroke-dasharray="5 3"' if stroke.dashed else ""
    return (
        f'<polyline points="{places}" fill="none" stroke="{stroke.colour}" '
        f'stroke-width="{stroke.width:g}"{dashes}/>'
    )


def _dot(dot: Dot) -> str:
    x, y = dot.x, dot.y
    path = {
        "circle": f"M{x - 2:g} {y:g}a2 2 0 1 0 4 0a2 2 0 1 0-4 0z",
        "square": f"M{x - 2:g} {y - 2:g}h4v4h-4z",
        "triangle": f"M{x:g} {y - 2.4:g}l2.4 4.2h-4.8z",
        "cross": f"M{x - 2:g} {y - 2:g}l4 4m0-4l-4 4",
    }[dot.shape]
    return f'<path d="{path}" fill="none" stroke="{dot.colour}" stroke-width="0.9"/>'


def _text(text: Text) -> str:
    turned = f' transform="rotate(-90 {text.x:g} {text.y:g})"' if text.upright else ""
    return (
        f'<text x="{text.x:g}" y="{text.y:g}" font-size="{text.size:g}" text-anchor="{text.anchor}"{turned}>'
        f"{escape(text.words)}</text>"
    )
