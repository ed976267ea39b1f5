"""Evidence of spirometry: forced expirations of a session's flow, or of a table of flows or of values.

A session has a stream with a channel `flow` of its device in the role `test`, expiration positive; its
manoeuvres are found in it. A table has `subject`, `manoeuvre` and either `time_s` and `flow` for every sample,
or `fev1`, `fvc` and `bev` (back-extrapolated volume) for every manoeuvre, with `last_second` (volume of the
last second), `fet` (expiratory time in s) and `fivc` where they are known. Either may have `session`,
`age_years`, `usable` (yes or no: what the operator says) and `unit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analysis.expirations import find_expirations
from analysis.paired_study import Excluded
from analysis.spirometry import Expiration, measure_expiration
from analysis.spirometry_study import Manoeuvre, Spirogram, SpirometryStudy
from lab_api.evidence import cells
from lab_api.evidence.records import TEST_ROLE, Part, Source, StreamAccount, the_device, the_stream
from lab_api.evidence.tables import Row, read_table
from lab_api.evidence.waveforms import read_waveform
from lab_api.store.session_store import Session, SessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.subjects import SUBJECT_FACTS, SubjectFacts
from protocols.errors import DefinitionError, SignalError

_FLOW_UNITS: Final = {"L/s": 1.0, "mL/s": 1e-3, "L/min": 1.0 / 60.0}
_VOLUME_UNITS: Final = {"L": 1.0, "mL": 1e-3}
_VALUES: Final = ("fev1", "fvc", "bev")
_YES_NO: Final = {"": True, "yes": True, "no": False}
_UNEVEN: Final = 0.01
"""Share of a sample's distance by which times may be off the even ones: they were rounded when written."""
_UNSEEN: Final = "coughs, leaks and glottic closure are for the operator to see; they were not looked for"


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Sessions as a source gives them, before the subjects' ages are known."""

    spirograms: tuple[Spirogram, ...]
    excluded: tuple[Excluded, ...] = ()


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:  # noqa: ARG001
    """Return the forced expirations of one session.

    Raises
    ------
    DefinitionError
        If the device under test has no channel `flow`, has it twice, in a unit that cannot be converted, or at
        a rate that is too low.
    """
    device = the_device(session, TEST_ROLE)
    key, number = the_stream(store, session, device, ("flow", "flow_lps"))
    channel = key.stream.channels[number]
    if channel.unit not in _FLOW_UNITS:
        expected = ", ".join(_FLOW_UNITS)
        raise DefinitionError(
            f"flow of {device.gateway}/{device.device} in {channel.unit!r}, expected {expected}"
        )
    waveform = read_waveform(store, session, key, number)
    flow = (waveform.values * channel.scale + channel.offset) * _FLOW_UNITS[channel.unit]
    rate_hz = key.stream.rate_hz or 0.0
    try:
        manoeuvres = tuple(
            Manoeuvre(str(place), measure_expiration(flow[start:end], rate_hz=rate_hz))
            for place, (start, end) in enumerate(find_expirations(flow, rate_hz=rate_hz), start=1)
        )
    except SignalError as error:
        raise DefinitionError(f"flow of session {session.id}: {error}") from error
    account = StreamAccount.of(store, session, key, waveform.n_stored)
    source = Source(
        session.id,
        session.subject,
        store.content_hash(session.id),
        {"manoeuvres": float(len(manoeuvres))},
        (_UNSEEN, *account.notes()),
        (account,),
    )
    return Part(source, _Recorded((Spirogram(session.subject, session.id, manoeuvres),)))


def from_table(path: Path, protocol: ClinicalProtocol) -> Part:  # noqa: ARG001
    """Return the manoeuvres in a CSV file.

    Raises
    ------
    StoreError
        If the file cannot be read.
    DefinitionError
        If the table has a mistake; names file, line and column.
    """
    rows, sha256 = read_table(path, ("subject", "manoeuvre"))
    columns = rows[0] if rows else {}
    as_flow = "flow" in columns
    needed = ("time_s", "flow") if as_flow else _VALUES
    lacking = [column for column in needed if rows and column not in columns]
    if lacking:
        expected = "time_s and flow, or fev1, fvc and bev"
        raise DefinitionError(f"{path.name}, line 1: no column {', '.join(lacking)}, expected {expected}")
    grouped: dict[tuple[str, str], dict[str, list[tuple[str, Row]]]] = {}
    for line, row in enumerate(rows, start=2):
        where = f"{path.name}, line {line}"
        key = cells.name(row, "subject", where=where), row.get("session") or path.stem
        of_session = grouped.setdefault(key, {})
        of_session.setdefault(cells.name(row, "manoeuvre", where=where), []).append((where, row))
    excluded: list[Excluded] = []
    spirograms = tuple(
        _spirogram(subject, session, manoeuvres, as_flow, excluded)
        for (subject, session), manoeuvres in grouped.items()
    )
    figures = {
        "sessions": float(len(spirograms)),
        "manoeuvres": float(sum(len(spirogram.manoeuvres) for spirogram in spirograms)),
    }
    source = Source(path.name, "", sha256, figures, ("manoeuvres as a table gives them; not recorded here",))
    return Part(source, _Recorded(spirograms, tuple(excluded)))


def joined(parts: Sequence[Part], subjects: SubjectFacts) -> SpirometryStudy:
    """Return the sessions of all sources, graded by the age of their subjects."""
    spirograms = [spirogram for part in parts for spirogram in part.measured.spirograms]
    known = {spirogram.subject for spirogram in spirograms}
    return SpirometryStudy.of_sessions(
        spirograms,
        {subject: facts for subject, facts in subjects.items() if subject in known},
        (one for part in parts for one in part.measured.excluded),
    )


def items(study: SpirometryStudy) -> Mapping[str, Sequence[Any]]:
    """Return the manoeuvres as columns, each with what it came to and the grades of its session."""
    rows = [
        {
            "session": graded.spirogram.session,
            "subject": graded.spirogram.subject,
            "age_years": graded.spirogram.age_years,
            "manoeuvre": manoeuvre.name,
            "fev1_l": _plain(manoeuvre.expiration.fev1_l),
            "fvc_l": _plain(manoeuvre.expiration.fvc_l),
            "bev_l": _plain(manoeuvre.expiration.extrapolated_l),
            "acceptable_fev1": "yes" if graded.acceptable_fev1[place] else "no",
            "acceptable_fvc": "yes" if graded.acceptable_fvc[place] else "no",
            "session_fev1_grade": graded.grades.fev1,
            "session_fvc_grade": graded.grades.fvc,
        }
        for graded in study.sessions
        for place, manoeuvre in enumerate(graded.spirogram.manoeuvres)
    ]
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}


def _spirogram(
    subject: str,
    session: str,
    manoeuvres: Mapping[str, list[tuple[str, Row]]],
    as_flow: bool,
    excluded: list[Excluded],
) -> Spirogram:
    found: list[Manoeuvre] = []
    ages: set[float] = set()
    for number, (name, rows) in enumerate(manoeuvres.items(), start=1):
        where, row = rows[0]
        if as_flow:
            expiration = _of_flow(rows)
        else:
            expiration = _of_values(row, where)
            twice = Excluded(subject, session, number, "manoeuvre", "the manoeuvre is there twice")
            excluded += [twice] * (len(rows) - 1)
        usable = _YES_NO[cells.word(row, "usable", _YES_NO, where=where)]
        found.append(Manoeuvre(name, expiration, usable))
        age_years = cells.number(row, "age_years", where=where)
        if np.isfinite(age_years):
            try:
                SUBJECT_FACTS["age_years"].check("age_years", age_years)
            except DefinitionError as error:
                raise DefinitionError(f"{where}: {error}") from error
            ages.add(age_years)
    if len(ages) > 1:
        raise DefinitionError(
            f"{where}: age_years of {subject} in {session} is {sorted(ages)}, expected one age"
        )
    return Spirogram(subject, session, tuple(found), *ages)


def _of_values(row: Row, where: str) -> Expiration:
    factor = _factor(row, _VOLUME_UNITS, where)
    nothing = Expiration(*[float("nan")] * len(fields(Expiration)))
    return replace(
        nothing,
        fev1_l=cells.number(row, "fev1", where=where) * factor,
        fvc_l=cells.number(row, "fvc", where=where) * factor,
        extrapolated_l=cells.number(row, "bev", where=where) * factor,
        last_second_l=cells.number(row, "last_second", where=where) * factor,
        expiratory_s=cells.number(row, "fet", where=where),
        fivc_l=cells.number(row, "fivc", where=where) * factor,
    )


def _of_flow(rows: Sequence[tuple[str, Row]]) -> Expiration:
    """Return the figures of a manoeuvre whose samples are the lines of a table."""
    where, first = rows[0]
    factor = _factor(first, _FLOW_UNITS, where)
    for at, row in rows:
        if row.get("unit") != first.get("unit"):
            expected = f"{first.get('unit')!r} as in the first line of the manoeuvre"
            raise DefinitionError(f"{at}: unit = {row.get('unit')!r}, expected {expected}")
    times_s = np.array([cells.number(row, "time_s", where=at) for at, row in rows])
    flow = np.array([cells.number(row, "flow", where=at) for at, row in rows]) * factor
    try:
        return measure_expiration(flow, rate_hz=_rate_hz(times_s, where))
    except SignalError as error:
        raise DefinitionError(f"{where}: {error}") from error


def _rate_hz(times_s: NDArray[np.float64], where: str) -> float:
    steps_s = np.diff(times_s)
    step_s = float(np.mean(steps_s)) if steps_s.size else float("nan")
    if not step_s > 0.0 or (np.abs(steps_s - step_s) > max(_UNEVEN * step_s, 1.1e-3)).any():
        raise DefinitionError(
            f"{where}: time_s of the manoeuvre is not even, expected one sample after another"
        )
    return 1.0 / step_s


def _factor(row: Row, units: Mapping[str, float], where: str) -> float:
    unit = row.get("unit") or next(iter(units))
    if unit not in units:
        raise DefinitionError(f"{where}: unit = {unit!r}, expected one of {', '.join(units)}")
    return units[unit]


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)
