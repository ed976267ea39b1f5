"""Accuracy of intermittent blood pressure monitors: the statistics of ISO 81060-2.

Pressures are in mmHg; errors are test minus reference; a pair with a NaN is left out and counted. Several
pairs of a subject resemble one another, so the subject is always asked for. The limits are a clinical
protocol's, except the one that depends on the result: the largest standard deviation of subject means, table
1 of ISO 81060-2. Grades are in `analysis.pressure_grades`, continuous monitors in
`analysis.continuous_pressure`. No standard's text was at hand: what each function rests on, and how sure we
are of it, stands in its docstring.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_series, as_signal
from analysis.bootstrap import subject_numbers
from protocols.errors import SignalError

SUBJECT_SD_LIMITS_MMHG: Final = (
    *(6.95, 6.95, 6.95, 6.95, 6.93, 6.92, 6.91, 6.90, 6.89, 6.88),
    *(6.87, 6.86, 6.84, 6.82, 6.80, 6.78, 6.76, 6.73, 6.71, 6.68),
    *(6.65, 6.62, 6.58, 6.55, 6.51, 6.47, 6.43, 6.39, 6.34, 6.30),
    *(6.25, 6.20, 6.14, 6.09, 6.03, 5.97, 5.89, 5.83, 5.77, 5.70),
    *(5.64, 5.56, 5.49, 5.41, 5.33, 5.25, 5.16, 5.08, 5.01, 4.90),
    4.79,
)
"""Largest standard deviation of subject means for mean errors of 0.0, 0.1 ... 5.0 mmHg.

ISO 81060-2, table 1 (secondary: a public transcription). Each entry s solves P(-10 < N(m, s) < 10) = 0.85 to
within 0.03; the table, not the equation, is the standard's.
"""
LARGEST_MEAN_ERROR_MMHG: Final = 5.0
"""ISO 81060-2, criterion 1; table 1 ends here."""
SAME_ARM_RANGE_MMHG: Final = {"sbp": 12.0, "dbp": 8.0}
"""ISO 81060-2, same-arm sequential: a subject whose reference varies by more is excluded (unconfirmed)."""
OBSERVERS_APART_MMHG: Final = 4.0
"""ISO 81060-2: two observers who differ by more do not count (unconfirmed)."""
_LARGEST_MMHG: Final = 400.0  # above what any cuff or line is rated for: the unit is wrong
_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PressureErrors:
    """Errors of a monitor over all pairs and over subjects, in mmHg; NaN where there are too few.

    Parameters
    ----------
    mean, sd
        Of all errors, n - 1 (criterion 1 of ISO 81060-2).
    subject_sd
        Standard deviation of the subjects' mean errors about the pooled mean, number of subjects - 1
        (criterion 2).
    subject_sd_limit
        What table 1 allows at this mean; NaN where the mean rounds to above 5.0.
    n_pairs, n_subjects, excluded
        Pairs judged, subjects they are of, pairs left out because a value is missing.
    """

    mean: float
    sd: float
    subject_sd: float
    subject_sd_limit: float
    n_pairs: int
    n_subjects: int
    excluded: int


def subject_sd_limit_mmhg(mean_error_mmhg: float) -> float:
    """Return the largest standard deviation of subject means that ISO 81060-2 allows at a mean error, in mmHg.

    The absolute mean error is rounded to 0.1 mmHg, halves up. NaN above 5.0, where criterion 1 has failed.

    Raises
    ------
    SignalError
        If the mean error is infinite.
    """
    if math.isinf(mean_error_mmhg):
        raise SignalError(f"mean_error_mmhg={mean_error_mmhg!r}, expected a finite mean in mmHg")
    if math.isnan(mean_error_mmhg):
        return float("nan")
    tenths = math.floor(10.0 * abs(mean_error_mmhg) + 0.5 + 1e-9)  # 0.25 is 2.4999... in tenths of sums
    return SUBJECT_SD_LIMITS_MMHG[tenths] if tenths < len(SUBJECT_SD_LIMITS_MMHG) else float("nan")


def iso_81060_2(test_mmhg: ArrayLike, reference_mmhg: ArrayLike, *, subject: ArrayLike) -> PressureErrors:
    """Return the statistics of criteria 1 and 2 of ISO 81060-2.

    Parameters
    ----------
    test_mmhg, reference_mmhg
        Paired pressures, shape (n,).
    subject
        Whose pair it is, shape (n,).

    Raises
    ------
    SignalError
        If lengths differ, a value is infinite, or a pressure is not above 0 and up to 400 mmHg.
    """
    test, reference, numbers, excluded = pressure_pairs(test_mmhg, reference_mmhg, subject)
    return pressure_errors(test - reference, subject=numbers, excluded=excluded)


def pressure_errors(error_mmhg: ArrayLike, *, subject: ArrayLike, excluded: int = 0) -> PressureErrors:
    """Return the statistics of `iso_81060_2` from errors, such as those of `invasive_errors`.

    Raises
    ------
    SignalError
        If an error is infinite or there is not one subject for each.
    """
    errors = as_series(error_mmhg, name="error_mmhg")
    numbers = subject_numbers(subject, errors.size)
    present = ~np.isnan(errors)
    excluded += int((~present).sum())
    errors, numbers = errors[present], np.unique(numbers[present], return_inverse=True)[1]
    n, counts = errors.size, np.bincount(numbers)
    mean = float(errors.mean()) if n else float("nan")
    sd = float(errors.std(ddof=1)) if n > 1 else float("nan")
    subject_sd = float("nan")
    if counts.size > 1:
        means = np.bincount(numbers, weights=errors) / counts
        subject_sd = float(np.sqrt(((means - mean) ** 2).sum() / (counts.size - 1)))
    return PressureErrors(mean, sd, subject_sd, subject_sd_limit_mmhg(mean), n, counts.size, excluded)


def invasive_errors(
    test_mmhg: ArrayLike, reference_mean_mmhg: ArrayLike, reference_sd_mmhg: ArrayLike
) -> _Floats:
    """Return errors against an arterial line, in mmHg, shape (n,): the distance to its mean +- SD, 0 within.

    Parameters
    ----------
    test_mmhg
        Readings of the monitor, shape (n,).
    reference_mean_mmhg, reference_sd_mmhg
        Mean and standard deviation of the arterial pressure over each reading, shape (n,).

    Raises
    ------
    SignalError
        If lengths differ, a value is infinite, a pressure is out of range, or a standard deviation is negative.

    References
    ----------
    ISO 81060-2, clause on reference invasive monitoring (secondary). Criterion 2 is not asked for there.
    """
    test = as_pressure_mmhg(test_mmhg, name="test_mmhg")
    mean = as_pressure_mmhg(reference_mean_mmhg, name="reference_mean_mmhg")
    sd = as_series(reference_sd_mmhg, name="reference_sd_mmhg")
    if not test.size == mean.size == sd.size:
        raise SignalError(f"{test.size} readings for {mean.size} means and {sd.size} SDs, expected one of each")
    if (sd < 0.0).any():
        raise SignalError(f"reference_sd_mmhg holds {np.nanmin(sd):g}, expected 0 and above")
    error = test - mean
    return np.asarray(np.sign(error) * np.maximum(np.abs(error) - sd, 0.0))


def sequential_reference_mmhg(reference_mmhg: ArrayLike) -> _Floats:
    """Return the reference of each test reading between two reference readings: their mean (unconfirmed).

    Parameters
    ----------
    reference_mmhg
        Reference readings of same-arm sequential measurement in their order, shape (n_subjects, n_readings).

    Returns
    -------
    Shape (n_subjects, n_readings - 1).

    Raises
    ------
    SignalError
        If the shape is another, a value is infinite or out of range.
    """
    readings = as_pressure_mmhg(reference_mmhg, name="reference_mmhg", dimensions=2)
    return np.asarray((readings[:, 1:] + readings[:, :-1]) / 2.0)


def unsteady_subjects(reference_sbp_mmhg: ArrayLike, reference_dbp_mmhg: ArrayLike) -> NDArray[np.bool_]:
    """Return which subjects same-arm sequential measurement excludes (unconfirmed), shape (n_subjects,).

    Parameters
    ----------
    reference_sbp_mmhg, reference_dbp_mmhg
        Reference readings, shape (n_subjects, n_readings), NaN where missing.

    Returns
    -------
    True where the readings range over more than 12 mmHg systolic or 8 mmHg diastolic.

    Raises
    ------
    SignalError
        If shapes differ, a value is infinite or out of range.
    """
    sbp = as_pressure_mmhg(reference_sbp_mmhg, name="reference_sbp_mmhg", dimensions=2)
    dbp = as_pressure_mmhg(reference_dbp_mmhg, name="reference_dbp_mmhg", dimensions=2)
    if sbp.shape != dbp.shape:
        raise SignalError(f"reference_sbp_mmhg {sbp.shape}, reference_dbp_mmhg {dbp.shape}, expected one shape")
    ranges = [
        np.fmax.reduce(readings, axis=1, initial=-np.inf) - np.fmin.reduce(readings, axis=1, initial=np.inf)
        for readings in (sbp, dbp)
    ]
    unsteady = (ranges[0] > SAME_ARM_RANGE_MMHG["sbp"]) | (ranges[1] > SAME_ARM_RANGE_MMHG["dbp"])
    return np.asarray(unsteady)


def observers_agree(first_mmhg: ArrayLike, second_mmhg: ArrayLike) -> NDArray[np.bool_]:
    """Return which readings of two observers lie within 4 mmHg of one another (unconfirmed); False if missing.

    Raises
    ------
    SignalError
        If lengths differ, a value is infinite or out of range.
    """
    first = as_pressure_mmhg(first_mmhg, name="first_mmhg")
    second = as_pressure_mmhg(second_mmhg, name="second_mmhg")
    if first.size != second.size:
        raise SignalError(f"{first.size} readings of one observer for {second.size}, expected pairs")
    return np.abs(first - second) <= OBSERVERS_APART_MMHG


def pressure_pairs(
    test_mmhg: ArrayLike, reference_mmhg: ArrayLike, subject: ArrayLike
) -> tuple[_Floats, _Floats, NDArray[np.intp], int]:
    """Return test, reference and subject number of the pairs without NaN, and how many were left out.

    Raises
    ------
    SignalError
        If lengths differ, a value is infinite, or a pressure is not above 0 and up to 400 mmHg.
    """
    test = as_pressure_mmhg(test_mmhg, name="test_mmhg")
    reference = as_pressure_mmhg(reference_mmhg, name="reference_mmhg")
    if test.size != reference.size:
        raise SignalError(f"{test.size} test_mmhg for {reference.size} reference_mmhg, expected pairs")
    numbers = subject_numbers(subject, test.size)
    present = ~(np.isnan(test) | np.isnan(reference))
    return test[present], reference[present], numbers[present], int((~present).sum())


def as_pressure_mmhg(values: ArrayLike, *, name: str, dimensions: int = 1) -> _Floats:
    """Return pressures as float64 of so many dimensions, NaN where missing.

    Raises
    ------
    SignalError
        If the shape is another, or a value is infinite or not above 0 and up to 400 mmHg.
    """
    pressure = np.asarray(as_signal(values, name=name), dtype=np.float64)
    if pressure.ndim != dimensions:
        raise SignalError(f"{name} of shape {pressure.shape}, expected {dimensions} dimensions")
    if pressure.size:
        least, largest = float(np.fmin.reduce(pressure, axis=None)), float(np.fmax.reduce(pressure, axis=None))
        if least <= 0.0 or largest > _LARGEST_MMHG:
            raise SignalError(f"{name} from {least:g} to {largest:g}, expected mmHg above 0, to 400")
    return pressure
