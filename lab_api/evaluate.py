"""`lab evaluate`: judge recorded sessions, or WFDB records, by a clinical protocol."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from protocols.clinical.subjects import NOTHING_KNOWN
from protocols.errors import DefinitionError, StoreError

MAX_NOTES: Final = 6
DASK_VARIABLE: Final = "LAB_DASK_SCHEDULER"

if TYPE_CHECKING:
    from lab_api.evaluation import Evaluation
    from protocols.clinical.criteria import ClinicalProtocol


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lab evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="judge sessions or WFDB records by a clinical protocol",
        description="Judge sessions or WFDB records by a clinical protocol and say why. The exit code tells "
        "whether there is a verdict, not which one.",
    )
    parser.add_argument("sessions", nargs="*", metavar="SESSION", help="id of a recorded session")
    parser.add_argument(
        "--wfdb", nargs="+", metavar="RECORD", default=[], help="WFDB records (path without ending) instead"
    )
    parser.add_argument(
        "--pairs",
        nargs="+",
        metavar="FILE",
        type=Path,
        default=[],
        help="tables of pairs (CSV with subject, reference, test) instead",
    )
    parser.add_argument(
        "--subjects", type=Path, metavar="FILE", help="what is known of the subjects (CSV with subject, sex, …)"
    )
    parser.add_argument(
        "--protocol", required=True, metavar="ID", help="such as ansi-aami-ec57, or a protocol's own file.toml"
    )
    parser.add_argument("--variant", help="kind of device, where the protocol distinguishes")
    parser.add_argument(
        "--set",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="a number that the protocol leaves open, such as a maker's claim",
    )
    parser.add_argument("--data", type=Path, help="folder of everything kept (LAB_DATA, else .lab)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the evidence report there as a page")
    parser.add_argument("--json", action="store_true", help="print the whole evaluation as JSON")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes side by side (one for each core)")
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        default=os.environ.get(DASK_VARIABLE),
        help=f"let the workers of this scheduler take the sessions ({DASK_VARIABLE}), such as "
        "tcp://10.0.0.5:8786; they need the data under the same path",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if sum(map(bool, (options.sessions, options.wfdb, options.pairs))) != 1:
        raise DefinitionError("name either sessions or, with --wfdb, records or, with --pairs, tables")
    evaluation = _evaluated(options)
    if options.html:
        _write_page(options.html, evaluation)
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
    lines += dict.fromkeys(
        f"  in detail: {_named(c['details'])}" for c in _detailed(document["verdict"]["criteria"])
    )
    lines += [f"  source {s['id']}: {_figures(s)}sha256 {s['content_hash'][:16]}…" for s in sources]
    notes = Counter(note for source in sources for note in dict.fromkeys(source["notes"]))
    lines += [f"  note on {n} of {len(sources)} sources: {note}" for note, n in notes.most_common(MAX_NOTES)]
    if len(notes) > MAX_NOTES:
        lines.append(f"  and {len(notes) - MAX_NOTES} notes more: --json or --html show all")
    return [*lines, f"evaluation {document['id']}"]


def _write_page(path: Path, evaluation: Evaluation) -> None:
    from lab_api.report import html

    try:
        path.write_text(html(evaluation.document), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"report {path}: {error.strerror}") from error


def _evaluated(options: argparse.Namespace) -> Evaluation:
    from lab_api.evaluation import EvaluationFolder, evaluate
    from lab_api.evidence import sources
    from lab_api.evidence.tables import read_subjects
    from lab_api.settings import Settings, default_data_folder

    protocol = asked_protocol(options)
    subjects = read_subjects(options.subjects) if options.subjects else NOTHING_KNOWN
    settings = Settings(data_folder=options.data or default_data_folder())
    if options.pairs:
        return evaluate(sources.from_tables(options.pairs, protocol, subjects), protocol)
    with sources.workers(jobs=_jobs(options), dask=options.dask) as workers:
        if options.wfdb:
            # workers of a scheduler have a working folder of their own
            paths = [Path(record).absolute() for record in options.wfdb]
            return evaluate(sources.from_record_files(paths, protocol, workers=workers), protocol)
        folder = settings.sessions_folder.absolute()
        evaluation = evaluate(
            sources.from_folder(folder, options.sessions, protocol, subjects, workers=workers), protocol
        )
    EvaluationFolder(settings.evaluations_folder).keep(evaluation)
    return evaluation


def asked_protocol(options: argparse.Namespace) -> ClinicalProtocol:
    """Return the clinical protocol that was asked for: by id, or a lab's own by its file."""
    from lab_api.evaluation import applied, clinical_protocol
    from protocols.clinical.library import load

    parameters = dict(map(_parameter, options.parameters))
    if options.protocol.endswith(".toml"):
        return applied(load(Path(options.protocol)), options.variant, parameters)
    return clinical_protocol(options.protocol, options.variant, parameters)


def _parameter(text: str) -> tuple[str, float]:
    name, equals, number = text.partition("=")
    try:
        return name, float(number if equals else "")
    except ValueError as error:
        raise DefinitionError(f"--set {text}, expected NAME=NUMBER") from error


def _jobs(options: argparse.Namespace) -> int:
    """Return how many processes to start: none stands idle for want of sessions."""
    n_sources = len(options.sessions) + len(options.wfdb)
    if options.jobs is not None and options.jobs < 1:
        raise DefinitionError(f"--jobs {options.jobs}, expected at least 1")
    return max(1, min(n_sources, options.jobs or os.cpu_count() or 1))


def _detailed(criteria: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [criterion for criterion in criteria if criterion["details"]]


def _figures(source: dict[str, Any]) -> str:
    figures = _named(source["figures"])
    return f"{figures}, " if figures else ""


def _named(figures: dict[str, float | None]) -> str:
    return ", ".join(f"{n.replace('_', ' ')} {value:.5g}" for n, value in figures.items() if value is not None)
