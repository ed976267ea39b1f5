"""`lab evaluate`: judge recorded sessions, or WFDB records, by a clinical protocol."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lab_api.asked import add_evidence_options, add_protocol_options, asked_evidence, asked_protocol
from lab_api.report.phrases import LANGUAGES
from protocols.errors import DefinitionError, StoreError

MAX_NOTES: Final = 6

if TYPE_CHECKING:
    from lab_api.evaluation import Evaluation


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lab evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="judge sessions or WFDB records by a clinical protocol",
        description="Judge sessions or WFDB records by a clinical protocol and say why. The exit code tells "
        "whether there is a verdict, not which one.",
    )
    add_evidence_options(parser)
    parser.add_argument(
        "--protocol", required=True, metavar="ID", help="such as ansi-aami-ec57, or a protocol's own file.toml"
    )
    add_protocol_options(parser)
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the evidence report there as a page")
    parser.add_argument("--pdf", type=Path, metavar="FILE", help="write the evidence report there as PDF")
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="of the report (en)")
    parser.add_argument(
        "--about",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="what the report is to say besides, such as firmware=1.4.2; shown, not judged",
    )
    parser.add_argument("--json", action="store_true", help="print the whole evaluation as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    evaluation = _evaluated(options)
    _write_reports(options, evaluation.document)
    if options.json:
        print(evaluation.to_json())
        return 0
    print("\n".join(described(evaluation.document)))
    return 0


def described(document: dict[str, Any]) -> list[str]:
    """Return an evaluation's document as lines for people."""
    sources = document["sources"]
    lines = [document["verdict"]["text"]]
    lines += [f"  {document['gaps']}"] if document["gaps"] else []
    counts = Counter((moment["quantity"], moment["reason"]) for moment in document["excluded"])
    lines += [f"  left out: {n} of {quantity}: {reason}" for (quantity, reason), n in counts.most_common()]
    lines += dict.fromkeys(
        f"  in detail, {c['title']}: {_named(c['details'])}" for c in _detailed(document["verdict"]["criteria"])
    )
    lines += [f"  source {s['id']}: {_figures(s)}sha256 {s['content_hash'][:16]}…" for s in sources]
    notes = Counter(note for source in sources for note in dict.fromkeys(source["notes"]))
    lines += [f"  note on {n} of {len(sources)} sources: {note}" for note, n in notes.most_common(MAX_NOTES)]
    if len(notes) > MAX_NOTES:
        lines.append(f"  and {len(notes) - MAX_NOTES} notes more: --json or --html show all")
    return [*lines, f"evaluation {document['id']}"]


def _write_reports(options: argparse.Namespace, document: dict[str, Any]) -> None:
    contents: list[tuple[Path, bytes]] = []
    if options.html:
        from lab_api.report.page import html

        contents.append((options.html, html(document, options.language).encode()))
    if options.pdf:
        from lab_api.report.paper import pdf

        contents.append((options.pdf, pdf(document, options.language)))
    for path, content in contents:
        try:
            path.write_bytes(content)
        except OSError as error:
            raise StoreError(f"report {path}: {error.strerror}") from error


def _about(options: argparse.Namespace) -> dict[str, str]:
    stated = {}
    for text in options.about:
        name, equals, said = text.partition("=")
        if not (name and equals):
            raise DefinitionError(f"--about {text}, expected NAME=TEXT")
        stated[name] = said
    return stated


def _evaluated(options: argparse.Namespace) -> Evaluation:
    from lab_api.evaluation import EvaluationFolder, evaluate
    from lab_api.settings import Settings, default_data_folder

    protocol = asked_protocol(options)
    evaluation = evaluate(asked_evidence(options, protocol), protocol, _about(options))
    if options.sessions:
        settings = Settings(data_folder=options.data or default_data_folder())
        EvaluationFolder(settings.evaluations_folder).keep(evaluation)
    return evaluation


def _detailed(criteria: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [criterion for criterion in criteria if criterion["details"]]


def _figures(source: dict[str, Any]) -> str:
    figures = _named(source["figures"])
    return f"{figures}, " if figures else ""


def _named(figures: dict[str, float | None]) -> str:
    return ", ".join(f"{n.replace('_', ' ')} {value:.5g}" for n, value in figures.items() if value is not None)
