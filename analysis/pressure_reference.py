"""The reference of a blood pressure study: two observers, readings before and after, what decides nothing.

A pair may say more of its reference than one number; columns of a `PairedStudy` hold it, in mmHg:

* `observer_1`, `observer_2`: what each of two observers read. The reference is their mean; where they differ by
  more than 4 mmHg the pair is excluded, as a reading that one of them did not hear well.
* `observers_apart`: by how much the observers differ at most in the readings that made the pair, where several
  did (same-arm sequential measurement).
* `reference_before`, `reference_after`: readings of the reference around the device's. The reference is their
  mean. `reference_change` is the later minus the earlier.

Subjects whose reference was not steady are excluded where the protocol says so, each within a session: a
subject may be measured anew on another day. Nothing is excluded silently; every pair is listed with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.paired_study import PairedStudy
from analysis.pressure_accuracy import OBSERVERS_APART_MMHG, SAME_ARM_RANGE_MMHG

_Floats: TypeAlias = NDArray[np.float64]

PRESSURE_COLUMNS: Final = (
    *("observer_1", "observer_2", "observers_apart"),
    *("reference_before", "reference_after", "reference_change", "reference_sd"),
    *("reference_baseline", "test_baseline"),
)
"""Columns of a pair that are pressures."""
LIMB_COLUMNS: Final = ("limb_low_cm", "limb_high_cm")
"""Smallest and largest circumference of the limbs that the device's cuffs are for, the same in all pairs."""
UNSTEADY_SUBJECTS: Final = "unsteady_subjects"
"""Name of the fact that a protocol limits where it excludes subjects whose reference was not steady."""
LEAST_CIRCUMFERENCE: Final = "smallest_circumference_cm"
LARGEST_CIRCUMFERENCE: Final = "largest_circumference_cm"
"""Names of the facts that a protocol limits by the range of the device's cuffs."""
_ROUNDING_MMHG: Final = 1.0
"""A stated reference may be the mean of two readings rounded to the next even number."""

OBSERVERS_DIFFER: Final = f"the observers differ by more than {OBSERVERS_APART_MMHG:g} mmHg"
ONE_OBSERVER: Final = "one of the two observers has no reading"
NOT_THE_MEAN: Final = "the stated reference is not the mean of its two readings"
UNSTEADY: Final = (
    "the reference of the subject varied by more than "
    f"{SAME_ARM_RANGE_MMHG['sbp']:g} mmHg systolic or {SAME_ARM_RANGE_MMHG['dbp']:g} mmHg diastolic"
)


def with_reference(study: PairedStudy) -> PairedStudy:
    """Return a study whose reference is what two observers, or readings before and after, make of it.

    Pairs of observers that differ, or of which one is missing, and pairs whose stated reference contradicts its
    readings are excluded and listed.
    """
    for first, second in (("observer_1", "observer_2"), ("reference_before", "reference_after")):
        one, other = (_column(study, name) for name in (first, second))
        mean = (one + other) / 2.0
        stated = study.reference
        contradicted = np.abs(stated - mean) > _ROUNDING_MMHG + 1e-9
        reference = np.where(np.isnan(mean) | contradicted, stated, mean)
        study = replace(study, reference=reference).without(contradicted, NOT_THE_MEAN)
    before, after = (_column(study, name) for name in ("reference_before", "reference_after"))
    if np.isfinite(after - before).any():
        change = _column(study, "reference_change")
        columns = {
            **study.columns,
            "reference_change": np.where(np.isnan(after - before), change, after - before),
        }
        study = replace(study, columns=columns)
    first_read, second_read = (~np.isnan(_column(study, name)) for name in ("observer_1", "observer_2"))
    study = study.without(first_read != second_read, ONE_OBSERVER)
    return study.without(_observers_apart(study) > OBSERVERS_APART_MMHG + 1e-9, OBSERVERS_DIFFER)


def steady(study: PairedStudy) -> PairedStudy:
    """Return the study without both pressures of subjects whose reference varied too much within a session."""
    return study.without(unsteady(study), UNSTEADY)


def unsteady(study: PairedStudy) -> NDArray[np.bool_]:
    """Return which pairs are of a subject and session whose reference readings vary too much, shape (n,).

    Only readings before and after those of the device can tell: without `reference_change` nothing is unsteady.

    References
    ----------
    ISO 81060-2, same-arm sequential: 12 mmHg systolic, 8 mmHg diastolic (unconfirmed).
    """
    half = _column(study, "reference_change") / 2.0
    low, high = study.reference - np.abs(half), study.reference + np.abs(half)
    keys = np.array(
        [f"{subject}\0{session}" for subject, session in zip(study.subjects, study.sessions, strict=True)],
        dtype=np.str_,
    )
    beyond = np.zeros(study.n_pairs, dtype=bool)
    for quantity, limit in SAME_ARM_RANGE_MMHG.items():
        told = (study.quantities == quantity) & np.isfinite(half)
        if not told.any():
            continue
        names, numbers = np.unique(keys[told], return_inverse=True)
        least, largest = np.full(names.size, np.inf), np.full(names.size, -np.inf)
        np.minimum.at(least, numbers, low[told])
        np.maximum.at(largest, numbers, high[told])
        beyond |= np.isin(keys, names[largest - least > limit + 1e-9])
    return beyond


def nearer_errors(study: PairedStudy) -> _Floats:
    """Return test minus the nearer of the readings before and after, shape (n,); minus the reference without.

    The first of two as near.

    References
    ----------
    ESH International Protocol (unconfirmed).
    """
    half = _column(study, "reference_change") / 2.0
    before, after = study.differences + half, study.differences - half
    nearer = np.where(np.abs(before) <= np.abs(after), before, after)
    return np.where(np.isnan(half), study.differences, nearer)


def for_cuffs(study: PairedStudy, least_cm: float, largest_cm: float) -> PairedStudy:
    """Return the study with the range of limbs that the device's cuffs are for."""
    limbs = {
        name: np.full(study.n_pairs, value)
        for name, value in zip(LIMB_COLUMNS, (least_cm, largest_cm), strict=True)
    }
    return replace(study, columns={**study.columns, **limbs})


def prepared(study: PairedStudy, limits: Mapping[str, float]) -> PairedStudy:
    """Return the pairs as a protocol has them judged.

    Parameters
    ----------
    study
        As sessions or tables give it.
    limits
        What the protocol's requirements limit, by name of the fact: they say whether unsteady subjects are
        excluded, and which limbs the cuffs are for.
    """
    study = with_reference(study)
    if UNSTEADY_SUBJECTS in limits:
        study = steady(study)
    if LEAST_CIRCUMFERENCE in limits and LARGEST_CIRCUMFERENCE in limits:
        study = for_cuffs(study, limits[LEAST_CIRCUMFERENCE], limits[LARGEST_CIRCUMFERENCE])
    return study


def _observers_apart(study: PairedStudy) -> _Floats:
    apart = np.abs(_column(study, "observer_1") - _column(study, "observer_2"))
    return np.fmax(apart, _column(study, "observers_apart"))


def _column(study: PairedStudy, name: str) -> _Floats:
    column = study.columns.get(name)
    return np.full(study.n_pairs, np.nan) if column is None else np.asarray(column)
