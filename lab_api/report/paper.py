"""The evidence report as a PDF document, byte for byte the same for the same evaluation."""

from __future__ import annotations

import io
from collections.abc import Mapping
from html import escape
from typing import Any, Final

from reportlab.lib import colors
from reportlab.lib.enums import TA_LEFT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, LongTable, SimpleDocTemplate, Spacer, TableStyle
from reportlab.platypus import Paragraph as Words

from lab_api.report.content import Block, Drawing, Heading, Paragraph, Table, content, title_of
from lab_api.report.drawing import HEIGHT, WIDTH, Dot, Primitive, Stroke, Text, height_of, layout
from lab_api.report.phrases import Phrases

_FONT, _BOLD = "Vera", "VeraBd"  # come with reportlab and have the accents and signs that the report needs
_MARGIN: Final = 16 * mm
_PAGE_WIDTH: Final = A4[0] - 2 * _MARGIN
_CORNERS: Final[Mapping[str, tuple[tuple[float, float], ...]]] = {
    "square": ((-2, -2), (2, -2), (2, 2), (-2, 2)),
    "triangle": ((0, 2.4), (2.4, -1.8), (-2.4, -1.8)),
}
_SIZES: Final = {1: 15.0, 2: 11.5, 3: 9.5}


def pdf(document: Mapping[str, Any], language: str = "en") -> bytes:
    """Return an evaluation's document as PDF in one of `LANGUAGES`."""
    for name in (_FONT, _BOLD):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, f"{name}.ttf"))
    say = Phrases(language)
    title = title_of(document, say)
    into = io.BytesIO()
    paper = SimpleDocTemplate(
        into,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=title,
        author="Living Lab",
        subject=document["id"],
        lang=language,
        invariant=1,
    )
    foot = _Foot(f"{say('report')} {document['id'][:16]}", say)
    blocks = [flowable for block in content(document, say) for flowable in _flowables(block, say)]
    paper.build(blocks, onFirstPage=foot, onLaterPages=foot)
    return into.getvalue()


class _Foot:
    """Writes which report and which page it is under each page."""

    def __init__(self, words: str, say: Phrases) -> None:
        self._words, self._say = words, say

    def __call__(self, canvas: Canvas, _paper: SimpleDocTemplate) -> None:
        canvas.setFont(_FONT, 7)
        canvas.drawString(_MARGIN, 9 * mm, self._words)
        canvas.drawRightString(A4[0] - _MARGIN, 9 * mm, self._say("page", n=canvas.getPageNumber()))


class _Sheet(Flowable):  # type: ignore[misc]  # reportlab has no types
    """A figure on the page, its origin turned to the bottom left."""

    def __init__(self, primitives: list[Primitive], height: float) -> None:
        super().__init__()
        self._primitives = primitives
        self._scale = min(1.0, _PAGE_WIDTH / WIDTH)
        self._lift = height - HEIGHT
        self.width, self.height = WIDTH * self._scale, height * self._scale

    def wrap(self, _width: float, _height: float) -> tuple[float, float]:
        return self.width, self.height + 6

    def draw(self) -> None:
        canvas = self.canv
        canvas.scale(self._scale, self._scale)
        canvas.translate(0, self._lift)
        for primitive in self._primitives:
            if isinstance(primitive, Stroke):
                _stroke(canvas, primitive)
            elif isinstance(primitive, Dot):
                _dot(canvas, primitive)
            else:
                _text(canvas, primitive)


def _flowables(block: Block, say: Phrases) -> list[Flowable]:
    if isinstance(block, Heading):
        style = _style(_SIZES[block.level], bold=True, before=12 - 3 * block.level)
        style.keepWithNext = 1
        return [Words(escape(block.words), style)]
    if isinstance(block, Paragraph):
        bold = block.tone not in ("plain", "warning")
        return [Words(escape(block.words), _style(8.5, bold=bold, before=2))]
    if isinstance(block, Drawing):
        return [
            _Sheet(layout(block.figure, say=say, number=say.number), height_of(block.figure)),
            Spacer(1, 6),
        ]
    return [_table(block), Spacer(1, 6)]


def _table(table: Table) -> LongTable:
    cell, head = _style(6.6, wrap=True), _style(6.6, bold=True, wrap=True)
    rows = [[Words(escape(words), head) for words in table.heads]]
    rows += [[Words(escape(words), cell) for words in row] for row in table.rows]
    share = sum(table.widths)
    drawn = LongTable(rows, colWidths=[_PAGE_WIDTH * width / share for width in table.widths], repeatRows=1)
    drawn.setStyle(
        TableStyle(
            [
                ("GRID", (0, 0), (-1, -1), 0.4, colors.HexColor("#999999")),
                ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#eef1f5")),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 3),
                ("RIGHTPADDING", (0, 0), (-1, -1), 3),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
            ]
        )
    )
    return drawn


def _style(size: float, *, bold: bool = False, before: float = 0.0, wrap: bool = False) -> ParagraphStyle:
    return ParagraphStyle(
        "words",
        fontName=_BOLD if bold else _FONT,
        fontSize=size,
        leading=1.3 * size,
        alignment=TA_LEFT,
        spaceBefore=before,
        spaceAfter=2,
        splitLongWords=1 if wrap else 0,
    )


def _stroke(canvas: Canvas, stroke: Stroke) -> None:
    path = canvas.beginPath()
    (first_x, first_y), *rest = stroke.points
    path.moveTo(first_x, HEIGHT - first_y)
    for x, y in rest:
        path.lineTo(x, HEIGHT - y)
    colour = colors.HexColor(stroke.colour)
    if stroke.fill:
        path.close()
        canvas.setFillColor(colour)
        canvas.drawPath(path, stroke=0, fill=1)
        return
    canvas.setStrokeColor(colour)
    canvas.setLineWidth(stroke.width)
    canvas.setDash([5, 3] if stroke.dashed else [])
    canvas.drawPath(path, stroke=1, fill=0)


def _dot(canvas: Canvas, dot: Dot) -> None:
    x, y = dot.x, HEIGHT - dot.y
    canvas.setStrokeColor(colors.HexColor(dot.colour))
    canvas.setLineWidth(0.9)
    canvas.setDash([])
    if dot.shape == "circle":
        canvas.circle(x, y, 2, stroke=1, fill=0)
        return
    path = canvas.beginPath()
    if dot.shape == "cross":
        path.moveTo(x - 2, y - 2)
        path.lineTo(x + 2, y + 2)
        path.moveTo(x - 2, y + 2)
        path.lineTo(x + 2, y - 2)
    else:
        corners = _CORNERS[dot.shape]
        path.moveTo(x + corners[0][0], y + corners[0][1])
        for dx, dy in corners[1:]:
            path.lineTo(x + dx, y + dy)
        path.close()
    canvas.drawPath(path, stroke=1, fill=0)


def _text(canvas: Canvas, text: Text) -> None:
    canvas.setFont(_FONT, 0.9 * text.size)  # Vera runs wider than a browser's sans-serif
    canvas.setFillColor(colors.black)
    canvas.saveState()
    canvas.translate(text.x, HEIGHT - text.y)
    if text.upright:
        canvas.rotate(90)
    draw = {"start": canvas.drawString, "middle": canvas.drawCentredString, "end": canvas.drawRightString}
    draw[text.anchor](0, 0, text.words)
    canvas.restoreState()
