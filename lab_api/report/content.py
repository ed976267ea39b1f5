"""What the evidence report says, part by part, from an evaluation's document alone: for a page and for paper.

The same document gives the same report byte for byte. A table that would fill many pages is cut, and says how
much is left: the whole is in the document itself.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from analysis.figures import Figure
from analysis.metrics import STUDIES
from lab_api.report.document_figures import agreement_figures, recruitment, worst_figures
from lab_api.report.phrases import Phrases

_MOST_ROWS: Final = 60
_LISTED: Final = ("qrs", "spirometry", "usability", "use_errors")
"""Measurands whose single items are shown as a table, as they make no pairs to draw."""
_OWN_WORDS: Final = (
    "acceptable_fev1",
    "acceptable_fvc",
    "critical",
    "residual_risk",
    "result",
    "score",
    "severity",
)
"""Columns of items with words of the platform's own; in others stand pseudonyms and people's words."""
_BEATS: Final = "NSVFQOX"
_NOTHING: Final = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 to 3."""

    level: int
    words: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Some sentences; `tone` is `plain`, `warning` or one of the outcomes."""

    words: str
    tone: str = "plain"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of words under heads; `widths` are shares of the page's width."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure."""

    figure: Figure


Block: TypeAlias = Heading | Paragraph | Table | Drawing


def content(document: Mapping[str, Any], say: Phrases) -> list[Block]:
    """Return the blocks of a report, in order."""
    return [
        block
        for part in (
            _head,
            _verdict,
            _design,
            _sample,
            _figures,
            _worst,
            _singly,
            _exclusions,
            _quality,
            _method,
        )
        for block in part(document, say)
    ]


def title_of(document: Mapping[str, Any], say: Phrases) -> str:
    """Return the report's title: outcome and protocol."""
    verdict = document["verdict"]
    return f"{say(verdict['outcome'])}{say('colon')}{say.title(verdict)}"


def _head(document: Mapping[str, Any], say: Phrases) -> Iterator[Block]:
    verdict = document["verdict"]
    yield Heading(1, title_of(document, say))
    yield Paragraph(say(f"outcome_{verdict['outcome']}"), verdict["outcome"])
    status = (
        say(verdict["status"], by=verdict["superseded_by"])
        if verdict["superseded_by"]
        else say(verdict["status"])
    )
    yield Paragraph(
        f"{say('protocol')}{say('colon')}{say.title(verdict)}, {say('edition')} {verdict['edition']}, {status}."
    )
    for name, stated in document.get("about", {}).items():
        yield Paragraph(f"{name}{say('colon')}{stated}")
    yield Paragraph(_said_of_gaps(document, say), "warning" if _gaps(document) else "plain")
    yield Paragraph(say("not_a_device"))


def _verdict(document: Mapping[str, Any], say: Phrases) -> Iterator[Block]:
    verdict = document["verdict"]
    yield Heading(2, say("criteria"))
    heads = tuple(
        say(h) for h in ("criterion", "outcome", "value", "interval", "n", "limit", "clause", "confidence")
    )
    rows = tuple(_criterion(criterion, say) for criterion in verdict["criteria"])
    yield Table(heads, rows, (0.2, 0.14, 0.1, 0.12, 0.07, 0.11, 0.16, 0.1))
    cautions = verdict["cautions_fr"] if say.language == "fr" else verdict["cautions"]
    if cautions:
        yield Heading(2, say("cautions"))
        yield from (Paragraph(caution) for caution in cautions)


def _criterion(criterion: Mapping[str, Any], say: Phrases) -> tuple[str, ...]:
    unit = criterion["unit"]
    value = criterion["label"] or _NOTHING
    if not criterion["label"] and criterion["value"] is not None:
        value = say.with_unit(criterion["value"], unit)
    interval = _NOTHING
    if criterion["low"] is not None and criterion["high"] is not None:
        interval = f"{say.number(criterion['low'])} … {say.number(criterion['high'])}"
    n = _NOTHING if criterion["n"] is None else say.number(criterion["n"])
    if criterion["n_poor"]:
        n += f" ({say('poor', n=criterion['n_poor'])})"
    if criterion["comparison"] == "report":
        limit = say("to_be_reported")
    else:
        side = {"value": "", "low": say("low_end"), "high": say("high_end")}[criterion["judged"]]
        bound = say.with_unit(criterion["limit"], unit)
        limit = f"{side}{_sign(criterion['comparison'])} {bound}"
    clause = ", ".join(filter(None, (criterion["clause"], criterion["source"])))
    return (
        say.title(criterion),
        say(criterion["outcome"]),
        value,
        interval,
        n,
        limit,
        clause,
        say(criterion["confidence"]),
    )


def _design(document: Mapping[str, Any], say: Phrases) -> Iterator[Block]:
    design = document["verdict"]["design"]
    if not design:
        return
    yield Heading(2, say("design"))
    rows = tuple(
        (
            say.title(rule),
            say.with_unit(rule["value"], rule["unit"]),
            f"{_sign(rule['comparison'])} {say.with_unit(rule['limit'], rule['unit'])}",
            say("yes" if rule["met"] else "no"),
            ", ".join(filter(None, (rule["clause"], rule["source"]))),
            say(rule["confidence"]),
        )
        for rule in design
    )
    heads = tuple(say(name) for name in ("requirement", "has", "wanted", "met", "clause", "confidence"))
    yield Table(heads, rows, (0.3, 0.12, 0.12, 0.08, 0.24, 0.14))
    figure = recruitment(document, say)
    if figure is not None:
        yield Drawing(figure)


def _sample(document: Mapping[str, Any], say: Phrases) -> Iterator[Block]:
    facts = {name: value for name, value in document["facts"].items() if value is not None}
    if facts:
        yield Heading(2, say("sample"))
        rows = tuple(_fact(name, value, document, say) for name, value in facts.items())
        yield Table((say("fact"), say("value")), rows, (0.7, 0.3))
    detailed = []
    for criterion in document["verdict"]["criteria"]:
        details = dict(criterion["details"])
        matrix = {name: details.pop(name) for name in [*details] if _is_cell(name)}
        if matrix:
            yield Heading(2, say("beat_table"))
            yield _beat_table(matrix, say)
        detailed += [(say.title(criterion), say(name), say.number(value)) for name, value in details.items()]
    if detailed:
        yield Heading(2, say("details"))
        yield from _cut((say("criterion"), say("metric"), say("value")), detailed, (0.5, 0.3, 0.2), say)


def _is_cell(name: str) -> bool:
    return len(name) == 2 and name[0] in _BEATS and name[1].upper() in _BEATS and name[1].islower()


def _beat_table(cells: Mapping[str, float], say: Phrases) -> Table:
    """Return beats by reference class (rows) and test class (columns); o: no beat."""
    columns = [letter for letter in _BEATS if any(name[1].upper() == letter for name in cells)]
    rows = tuple(
        (row, *(say.number(cells[key]) if (key := row + column.lower()) in cells else "" for column in columns))
        for row in _BEATS
        if any(name[0] == row for name in cells)
    )
    share = 0.8 / len(columns)
    return Table(
        (say("reference"), *(column.lower() for column in columns)), rows, (0.2, *(share for _ in columns))
    )


def _fact(name: str, value: float, document: Mapping[str, Any], say: Phrases) -> tuple[str, str]:
    study = STUDIES.get(document.get("measurand", ""))  # older documents do not say
    if study is None or name not in study.facts:
        return say(name), say.number(value)
    return say.fact(study.facts[name]), say.with_unit(value, study.facts[name].unit)


def _figures(document: Mapping[str, Any], say: Phrases) -> Iterator[Block]:
    figures = agreement_figures(document)
    if figures:
        yield Heading(2, say("figures"))
        yield from (Drawing(figure) for figure in figures)


def _worst(document: Mapping[str, Any], say: Phrases) -> Iterator[Block]:
    examples = document.get("examples", ())
    if not examples:
        return
    yield Heading(2, say("worst"))
    rows = [
        (
            say(example["quantity"]),
            example["subject"],
            example["session"],
            _utc(example["time_ns"]),
            say.number(example["reference"]),
            say.number(example["test"]),
        )
        for example in examples
    ]
    heads = tuple(say(name) for name in ("quantity", "subject", "session", "moment", "reference", "device"))
    yield Table(heads, tuple(rows), (0.16, 0.12, 0.28, 0.22, 0.11, 0.11))
    yield from (Drawing(figure) for figure in worst_figures(document))


def _singly(document: Mapping[str, Any], say: Phrases) -> Iterator[Block]:
    """List what a study without pairs is made of: manoeuvres, scores, findings."""
    items = document["items"]
    if document.get("measurand") not in _LISTED or not items:
        return
    yield Heading(2, say("singly"))
    columns = [[_cell(cell, name, say) for cell in column] for name, column in items.items()]
    rows = list(zip(*columns, strict=True))
    yield from _cut(tuple(map(say, items)), rows, (1.0 / len(columns),) * len(columns), say)


def _cell(cell: object, column: str, say: Phrases) -> str:
    if cell is None or cell == "":
        return _NOTHING
    if isinstance(cell, str):
        return say(cell).lower() if column in _OWN_WORDS else cell
    return say.number(float(str(cell)))


def _exclusions(document: Mapping[str, Any], say: Phrases) -> Iterator[Block]:
    excluded = document.get("excluded", ())
    yield Heading(2, say("exclusions"))
    if not excluded:
        yield Paragraph(say("none"))
        return
    counts = Counter((moment["quantity"], moment["reason"]) for moment in excluded)
    rows = tuple((say(quantity), say(reason), say.number(n)) for (quantity, reason), n in counts.most_common())
    yield Table((say("quantity"), say("reason"), say("number")), rows, (0.25, 0.6, 0.15))
    each = [
        (say(m["quantity"]), m["subject"], m["session"], _utc(m["time_ns"]), say(m["reason"])) for m in excluded
    ]
    heads = tuple(say(name) for name in ("quantity", "subject", "session", "moment", "reason"))
    yield from _cut(heads, each, (0.14, 0.12, 0.26, 0.2, 0.28), say)


def _quality(document: Mapping[str, Any], say: Phrases) -> Iterator[Block]:
    yield Heading(2, say("quality"))
    yield Heading(3, say("sources"))
    sources = [_source(source, say) for source in document["sources"]]
    heads = (say("source"), say("subject"), say("figures"), say("notes"), "SHA-256")
    yield from _cut(heads, sources, (0.16, 0.1, 0.22, 0.24, 0.28), say)
    streams = [
        _stream(source, stream, say) for source in document["sources"] for stream in source.get("streams", ())
    ]
    if streams:
        yield Heading(3, say("streams"))
        named = ("source", "stream", "samples", "missing", "uncounted", "there", "uncertainty")
        yield from _cut(tuple(map(say, named)), streams, (0.2, 0.22, 0.12, 0.1, 0.12, 0.12, 0.12), say)
    gaps = _gaps(document)
    if gaps:
        yield Heading(3, say("gaps"))
        listed = [_gap(source, stream, gap, say) for source, stream, gap in gaps]
        heads_of_gaps = ("source", "stream", "from", "lasting", "samples", "reason")
        yield from _cut(tuple(map(say, heads_of_gaps)), listed, (0.2, 0.22, 0.2, 0.1, 0.1, 0.18), say)


def _method(document: Mapping[str, Any], say: Phrases) -> Iterator[Block]:
    yield Heading(2, say("method"))
    rows = [(say.title(c), c["method"]) for c in document["verdict"]["criteria"] if c["method"]]
    if rows:
        yield Table((say("criterion"), say("method")), tuple(rows), (0.4, 0.6))
    statistics = document.get("statistics")
    if statistics:
        yield Paragraph(
            say(
                "statistics_says",
                level=statistics["confidence_level"],
                replicates=statistics["bootstrap_replicates"],
                seed=statistics["seed"],
            )
        )
    pairing = document.get("pairing")
    if pairing:
        yield Paragraph(say("pairing_says", rule=say(pairing["rule"]), window=say.number(pairing["window_s"])))
    yield Heading(2, say("origin"))
    yield Paragraph(
        say(
            "origin_says",
            id=document["id"],
            protocol_hash=document["protocol_hash"],
            software_version=document["software_version"],
        )
    )


def _cut(
    heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], widths: tuple[float, ...], say: Phrases
) -> Iterator[Block]:
    yield Table(heads, tuple(rows[:_MOST_ROWS]), widths)
    if len(rows) > _MOST_ROWS:
        yield Paragraph(say("more_rows", n=say.number(len(rows) - _MOST_ROWS)))


def _source(source: Mapping[str, Any], say: Phrases) -> tuple[str, ...]:
    figures = ", ".join(
        f"{say(name)} {say.number(value)}" for name, value in source["figures"].items() if value is not None
    )
    return source["id"], source["subject"], figures, "; ".join(source["notes"]), source["content_hash"]


def _stream(source: Mapping[str, Any], stream: Mapping[str, Any], say: Phrases) -> tuple[str, ...]:
    fraction, uncertainty_ns = stream["completeness"], stream.get("largest_uncertainty_ns")
    return (
        source["id"],
        _name(stream),
        say.number(stream["n_samples"]),
        say.number(stream["missing_samples"]),
        f"{say.number(stream['uncounted_ns'] / 1e9)} s",
        say("unknown") if fraction is None else f"{say.number(100.0 * fraction)} %",
        say("unknown") if uncertainty_ns is None else f"{say.number(uncertainty_ns / 1e6)} ms",
    )


def _gap(
    source: Mapping[str, Any], stream: Mapping[str, Any], gap: Mapping[str, Any], say: Phrases
) -> tuple[str, ...]:
    return (
        source["id"],
        _name(stream),
        _utc(gap["start_ns"]),
        f"{say.number((gap['end_ns'] - gap['start_ns']) / 1e9)} s",
        say.number(gap["n_samples"]),
        gap["reason"],
    )


def _gaps(document: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]]:
    return [
        (source, stream, gap)
        for source in document["sources"]
        for stream in source.get("streams", ())
        for gap in stream["gaps"]
    ]


def _said_of_gaps(document: Mapping[str, Any], say: Phrases) -> str:
    gaps = _gaps(document)
    if not gaps:
        return say("whole")
    n_sources = len({source["id"] for source, _, _ in gaps})
    key = "with_a_gap" if len(gaps) == 1 else "with_gaps"
    return say(key, n=len(gaps), sources=n_sources, all=len(document["sources"]))


def _name(stream: Mapping[str, Any]) -> str:
    return f"{stream['gateway']}/{stream['device']}/{stream['stream']}"


def _sign(comparison: str) -> str:
    return {"<=": "≤", ">=": "≥"}.get(comparison, comparison)


def _utc(time_ns: int) -> str:
    if time_ns < 1_000_000_000_000_000:
        return f"{time_ns}"  # a table without times counts its lines
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest_ns // 1_000_000:03} UTC"
