"""The evidence report as one page of HTML. It loads nothing from elsewhere and runs no scripts."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

from lab_api.report.content import Block, Drawing, Heading, Paragraph, Table, content, title_of
from lab_api.report.drawing import height_of, layout
from lab_api.report.phrases import Phrases
from lab_api.report.svg import svg

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 sans-serif; max-width: 66em; margin: 2em auto; padding: 0 1em; }
body { color: #1c1c1c; background: #fff; }
h1 { font-size: 1.6em; } h2 { font-size: 1.25em; margin-top: 2em; } h3 { font-size: 1.05em; }
table { border-collapse: collapse; width: 100%; margin: .5em 0 1.5em; font-size: .92em; }
td, th { border: 1px solid #999; padding: .3em .55em; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; }
th { background: #eef1f5; color: #1c1c1c; }
figure { margin: 1em 0; max-width: 46em; background: #fff; border: 1px solid #ccc; }
svg { display: block; width: 100%; height: auto; }
p { max-width: 50em; }
.warning { border-left: .4em solid #b35900; padding-left: .8em; }
.outcome { border: 2px solid #444; padding: .7em 1em; font-weight: bold; }
.FAIL { border-style: double; border-width: 5px; }
@media (prefers-color-scheme: dark) { body { color: #e8e8e8; background: #16181b; } }
@media print { body { margin: 0; font-size: 11px; } table, figure { break-inside: avoid-page; } }
"""


def html(document: Mapping[str, Any], language: str = "en") -> str:
    """Return an evaluation's document as a page in one of `LANGUAGES`."""
    say = Phrases(language)
    title = escape(title_of(document, say))
    body = "\n".join(_element(block, say) for block in content(document, say))
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style>"
    )
    return f'<!DOCTYPE html>\n<html lang="{language}"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _element(block: Block, say: Phrases) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(block.words)}</h{block.level}>"
    if isinstance(block, Paragraph):
        if block.tone == "plain":
            return f"<p>{escape(block.words)}</p>"
        style = "warning" if block.tone == "warning" else f"outcome {block.tone}"
        return f'<p class="{style}">{escape(block.words)}</p>'
    if isinstance(block, Drawing):
        return _figure(block, say)
    return _table(block)


def _figure(drawing: Drawing, say: Phrases) -> str:
    figure = drawing.figure
    title = say(figure.kind) + (f"{say('colon')}{say(figure.of)}" if figure.of else "")
    drawn = svg(layout(figure, say=say, number=say.number), title=title, height=height_of(figure))
    return f"<figure>{drawn}</figure>"


def _table(table: Table) -> str:
    columns = "".join(f'<col width="{100 * width:.0f}%">' for width in table.widths)
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in table.rows)
    return f"<table><colgroup>{columns}</colgroup><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
