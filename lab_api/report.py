"""An evaluation's document as one page of HTML: the verdict, what it rests on, and what is missing from that.

The page follows from the document alone, so the same evaluation gives the same page byte for byte. It loads
nothing from elsewhere and runs no scripts.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = (
    "body{font:15px/1.45 sans-serif;max-width:62em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:.5em 0 1.5em}td,th{border:1px solid #bbb;padding:.25em .6em;"
    "text-align:left;vertical-align:top}td{overflow-wrap:anywhere}pre{white-space:pre-wrap}.missing{background:#fff3d6}"
    "code{font-size:85%;word-break:break-all}"
)


def html(document: Mapping[str, Any]) -> str:
    """Return an evaluation's document as an HTML page."""
    verdict = document["verdict"]
    title = f"{verdict['outcome']}: {verdict['title']}"
    said_of_gaps, gaps = document.get("gaps", ""), _all_gaps(document)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<pre>{escape(verdict['text'])}</pre>",
        f"<p class={'missing' if gaps else 'whole'}>{escape(said_of_gaps)}</p>" if said_of_gaps else "",
        "<h2>Sources</h2>",
        _table(("source", "subject", "figures", "notes", "SHA-256"), map(_source, document["sources"])),
        "<h2>Streams</h2>",
        _table(("source", "stream", "samples", "missing", "without count", "there"), _streams(document)),
        "<h2>Gaps</h2>",
        _table(("source", "stream", "from", "lasting", "samples", "reason"), gaps) or "<p>None.</p>",
        _origin(document),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    body = "\n".join(filter(None, parts))
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _origin(document: Mapping[str, Any]) -> str:
    return (
        f"<p>Evaluation <code>{escape(document['id'])}</code>, protocol <code>"
        f"{escape(document['protocol_hash'])}</code>, software {escape(document['software_version'])}.</p>"
    )


def _source(source: Mapping[str, Any]) -> tuple[str, ...]:
    figures = ", ".join(
        f"{n.replace('_', ' ')} {value:.5g}" for n, value in source["figures"].items() if value is not None
    )
    return source["id"], source["subject"], figures, "; ".join(source["notes"]), source["content_hash"]


def _streams(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            source["id"],
            _name(stream),
            str(stream["n_samples"]),
            str(stream["missing_samples"]),
            f"{stream['uncounted_ns'] / 1e9:.3f} s",
            "unknown" if stream["completeness"] is None else f"{100 * stream['completeness']:.3f} %",
        )
        for source in document["sources"]
        for stream in source.get("streams", ())
    ]


def _all_gaps(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            source["id"],
            _name(stream),
            _utc(gap["start_ns"]),
            f"{(gap['end_ns'] - gap['start_ns']) / 1e9:.3f} s",
            "uncounted" if gap["n_samples"] is None else str(gap["n_samples"]),
            gap["reason"] + (", goes on beyond the session" if gap["is_part"] else ""),
        )
        for source in document["sources"]
        for stream in source.get("streams", ())
        for gap in stream["gaps"]
    ]


def _name(stream: Mapping[str, Any]) -> str:
    return f"{stream['gateway']}/{stream['device']}/{stream['stream']}"


def _utc(time_ns: int) -> str:
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest_ns // 1_000_000:03} UTC"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table, or nothing if it has no rows."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    return f"<table><tr>{head}</tr>\n{body}</table>" if body else ""
