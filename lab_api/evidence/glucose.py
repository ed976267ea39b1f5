"""Evidence of a glucose meter or sensor: pairs with rates of change, and by how much a sensor lags.

Pairs of sessions are those of `lab_api.evidence.paired`. Where both devices have readings all along, as a
sensor and a venous line, each pair also gets the rate of change of either up to its moment, and the lag of the
sensor behind the reference is estimated. In a table the columns `rate` and `reference_rate` say the same, in
the line's unit per minute.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.glucose_events import sensor_lag
from analysis.glucose_facts import GLUCOSE, RATE, REFERENCE_RATE
from analysis.glucose_rates import rates_at_mgdl_per_min
from analysis.paired_study import PLAUSIBLE
from lab_api.evidence import paired
from lab_api.evidence.examples import of_session
from lab_api.evidence.quantities import QUANTITIES
from lab_api.evidence.records import REFERENCE_ROLE, TEST_ROLE, Part, counted, the_device, the_stream
from lab_api.evidence.tables import Row, of_rows, read_table
from lab_api.store.session_store import Session, SessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.errors import DefinitionError

_NEEDED: Final = ("subject", "reference", "test")
_RATES: Final = (RATE, REFERENCE_RATE)
_OFFSET: Final = "offset_s"
"""Column: by how much the device's reading of a pair is later than the reference's; negative where earlier."""
_SECONDS_LAG: Final = "lag_s"
"""Figure of any pair of monitors; means nothing at a reading every few minutes."""
_AROUND_S: Final = 7200.0
"""A meal's rise and fall; a sensor has 49 readings in it."""
_LEAST_MGDL: Final = 36.0  # 2 mmol/L as mg/dL; as mmol/L, more than laboratories meet
_LATER: Final = "the reference was taken after the device's reading"

_Readings = tuple[NDArray[np.int64], NDArray[np.float64]]


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:
    """Return the pairs of one session, with their rates of change.

    Raises
    ------
    DefinitionError
        If a role, stream or unit is missing or there twice; says which.
    """
    part = paired.from_session(store, session, protocol)
    reference_ns, reference = _readings(store, session, REFERENCE_ROLE)
    test_ns, test = _readings(store, session, TEST_ROLE)
    study = part.measured
    columns = dict(study.columns)
    if protocol.pairing_rule.rule == "nearest":
        columns[_OFFSET] = np.where(np.isnan(study.test), np.nan, _offsets_s(study.times_ns, test_ns))
    columns[REFERENCE_RATE] = rates_at_mgdl_per_min(reference, times_ns=reference_ns, at_ns=study.times_ns)
    columns[RATE] = rates_at_mgdl_per_min(test, times_ns=test_ns, at_ns=study.times_ns)
    columns = {name: column for name, column in columns.items() if np.isfinite(column).any()}
    study = replace(study, columns=columns)
    lag = sensor_lag(test, reference, times_ns=test_ns, reference_times_ns=reference_ns)
    figures = {name: value for name, value in part.source.figures.items() if name != _SECONDS_LAG}
    if np.isfinite(lag.lag_min):
        figures["sensor_lag_min"] = round(lag.lag_min, 2)
        figures["sensor_lag_standard_error_min"] = round(lag.standard_error_min, 2)
    notes = [note for note in part.source.notes if "later than the device" not in note]
    later = int((columns.get(_OFFSET, np.empty(0)) < 0.0).sum())
    if later:
        notes.append(f"{counted(later, 'pair')}: {_LATER}, as the pairing allows")
    source = replace(part.source, figures=figures, notes=tuple(notes))
    readings = {GLUCOSE: {REFERENCE_ROLE: (reference_ns, reference), TEST_ROLE: (test_ns, test)}}
    examples = of_session(study, readings, around_s=_AROUND_S)
    return replace(part, source=source, measured=study, items=paired.items_of(study), examples=examples)


def from_table(path: Path, protocol: ClinicalProtocol) -> Part:
    """Return the pairs in a CSV file, their rates of change in mg/dL per minute.

    Raises
    ------
    StoreError
        If the file cannot be read.
    DefinitionError
        If the table has a mistake; names file, line and column. So if all of its references are below 36 mg/dL:
        no study has only those, and one in mmol/L has no others.
    """
    rows, sha256 = read_table(path, _NEEDED)
    rows = [_in_mgdl(row, f"{path.name}, line {number}") for number, row in enumerate(rows, start=2)]
    part = of_rows(rows, protocol, path=path, sha256=sha256)
    references = part.measured.reference[np.isfinite(part.measured.reference)]
    if references.size and 0 < references.max() < _LEAST_MGDL:
        raise DefinitionError(
            f"{path.name}: references up to {references.max():.3g} mg/dL, "
            "expected mg/dL, or mmol/L in a column unit"
        )
    return part


def _in_mgdl(row: Row, where: str) -> Row:
    """Return a line whose rates are in mg/dL per minute."""
    stated = {name: row[name] for name in _RATES if row.get(name)}
    if not stated:
        return row
    (quantity,) = QUANTITIES["glucose"]
    try:
        factor = quantity.convert(row.get("unit") or quantity.unit).factor
    except DefinitionError as error:
        raise DefinitionError(f"{where}: {error}") from error
    return {**row, **{name: repr(_number(text, name, where) * factor) for name, text in stated.items()}}


def _number(text: str, name: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        raise DefinitionError(f"{where}: {name} = {text!r}, expected a number in the line's unit per minute")
    return number


def _readings(store: SessionStore, session: Session, role: str) -> _Readings:
    """Return times and values in mg/dL that the device in a role measured, without impossible ones."""
    (quantity,) = QUANTITIES["glucose"]
    device = the_device(session, role)
    key, channel = the_stream(store, session, device, quantity.channels)
    reading = store.read(session.id, device.gateway, device.device, key.stream)
    times_ns = reading.times_ns()
    order = np.argsort(times_ns, kind="stable")
    values = reading.physical()[channel][order] * quantity.convert(key.stream.channels[channel].unit).factor
    low, high, _ = PLAUSIBLE[quantity.name]
    possible = (values >= low) & (values <= high)
    return times_ns[order][possible], values[possible]


def _offsets_s(moments_ns: NDArray[np.int64], times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return by how much the nearest of `times_ns`, the earlier of two as near, is later than each moment."""
    if times_ns.size == 0:
        return np.full(moments_ns.size, np.nan)
    after = np.minimum(np.searchsorted(times_ns, moments_ns), times_ns.size - 1)
    before = np.maximum(after - 1, 0)
    earlier = np.abs(times_ns[before] - moments_ns) <= np.abs(times_ns[after] - moments_ns)
    return np.asarray((times_ns[np.where(earlier, before, after)] - moments_ns) / 1e9)
