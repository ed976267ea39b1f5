"""What a command was asked to judge, and by what: options of `lab evaluate` and of `lab protocol plan`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from protocols.clinical.library import load, shipped
from protocols.clinical.subjects import NOTHING_KNOWN
from protocols.errors import DefinitionError

DASK_VARIABLE: Final = "LAB_DASK_SCHEDULER"

if TYPE_CHECKING:
    from lab_api.evidence.records import Evidence
    from protocols.clinical.clinical_protocol import ClinicalProtocol


def add_protocol_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say by what is judged, but for the protocol's name."""
    parser.add_argument("--variant", help="kind of device, where the protocol distinguishes")
    parser.add_argument(
        "--set",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="a number that the protocol leaves open, such as a maker's claim",
    )


def add_evidence_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is judged."""
    parser.add_argument("sessions", nargs="*", metavar="SESSION", help="id of a recorded session")
    parser.add_argument(
        "--wfdb", nargs="+", metavar="RECORD", default=[], help="WFDB records (path without ending) instead"
    )
    parser.add_argument(
        "--annotator",
        metavar="SUFFIX",
        help="with --wfdb: the device's own annotations beside each record, judged in place of this software's "
        "detector, such as qrs",
    )
    parser.add_argument(
        "--pairs",
        nargs="+",
        metavar="FILE",
        type=Path,
        default=[],
        help="tables instead (CSV; of pairs, with subject, reference, test)",
    )
    parser.add_argument(
        "--subjects", type=Path, metavar="FILE", help="what is known of the subjects (CSV with subject, sex, …)"
    )
    parser.add_argument("--data", type=Path, help="folder of everything kept (LAB_DATA, else .lab)")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes side by side (one for each core)")
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        default=os.environ.get(DASK_VARIABLE),
        help=f"let the workers of this scheduler take the sessions ({DASK_VARIABLE}), such as "
        "tcp://10.0.0.5:8786; they need the data under the same path",
    )


def add_power_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that ask for sample sizes."""
    parser.add_argument(
        "--power", type=float, metavar="SHARE", help="how probably the device is to pass, such as 0.9"
    )
    parser.add_argument(
        "--expect",
        dest="expected",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="what is expected of the device and the study: bias, sd, subject_sd (a part of sd), within_share "
        "(percent), pairs_per_subject; with a quantity before it where two differ, such as sbp_bias",
    )


def asked_expectations(options: argparse.Namespace) -> dict[str, float]:
    """Return what was said to be expected.

    Raises
    ------
    DefinitionError
        If it is no number, is said twice, or is said without a wanted power.
    """
    expected: dict[str, float] = {}
    for text in options.expected:
        name, value = _named_number(text, option="--expect")
        if name in expected:
            raise DefinitionError(f"--expect {name} is there twice, expected each once")
        expected[name] = value
    if expected and options.power is None:
        raise DefinitionError("--expect without --power, expected a wanted power such as --power 0.9")
    return expected


def named_protocol(name: str) -> ClinicalProtocol:
    """Return a shipped clinical protocol by its id, or a lab's own by its file, as it stands.

    Raises
    ------
    DefinitionError
        If there is no such protocol, or the file does not describe one.
    """
    if name.endswith(".toml"):
        return load(Path(name))
    protocols = shipped()
    if name not in protocols:
        raise DefinitionError(f"clinical protocol {name!r}, expected one of {', '.join(sorted(protocols))}")
    return protocols[name]


def asked_protocol(options: argparse.Namespace) -> ClinicalProtocol:
    """Return the clinical protocol that was asked for, its variant selected and its parameters settled.

    Raises
    ------
    DefinitionError
        If there is no such protocol, variant or parameter, or a needed one was not named.
    """
    protocol = named_protocol(options.protocol)
    return protocol.applied(
        options.variant, dict(_named_number(text, option="--set") for text in options.parameters)
    )


def asked_evidence(options: argparse.Namespace, protocol: ClinicalProtocol) -> Evidence:
    """Return the evidence that was asked for.

    Raises
    ------
    DefinitionError
        If not exactly one kind of source was named, or one lacks what the protocol needs.
    """
    from lab_api.evidence import sources
    from lab_api.evidence.tables import read_subjects
    from lab_api.settings import Settings, default_data_folder

    if sum(map(bool, (options.sessions, options.wfdb, options.pairs))) != 1:
        raise DefinitionError("name either sessions or, with --wfdb, records or, with --pairs, tables")
    subjects = read_subjects(options.subjects) if options.subjects else NOTHING_KNOWN
    if options.pairs:
        return sources.from_tables(options.pairs, protocol, subjects)
    with sources.workers(jobs=_jobs(options), dask=options.dask) as workers:
        if options.wfdb:
            # workers of a scheduler have a working folder of their own
            paths = [Path(record).absolute() for record in options.wfdb]
            return sources.from_record_files(paths, protocol, workers=workers, annotator=options.annotator)
        folder = Settings(data_folder=options.data or default_data_folder()).sessions_folder.absolute()
        return sources.from_folder(folder, options.sessions, protocol, subjects, workers=workers)


def _named_number(text: str, *, option: str) -> tuple[str, float]:
    name, equals, number = text.partition("=")
    try:
        return name, float(number if equals else "")
    except ValueError as error:
        raise DefinitionError(f"{option} {text}, expected NAME=NUMBER") from error


def _jobs(options: argparse.Namespace) -> int:
    """Return how many processes to start: none stands idle for want of sessions."""
    n_sources = len(options.sessions) + len(options.wfdb)
    if options.jobs is not None and options.jobs < 1:
        raise DefinitionError(f"--jobs {options.jobs}, expected at least 1")
    return max(1, min(n_sources, options.jobs or os.cpu_count() or 1))
