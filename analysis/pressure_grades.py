"""Grades of blood pressure monitors: IEEE 1708, British Hypertension Society, ESH International Protocol.

Pressures are in mmHg; errors are test minus reference; a pair with a NaN is left out and counted. "Within"
includes the edge. Limits are secondary (a public table of protocols, PMC6431352, table 3), but for what all
three counts of the ESH protocol have to reach and that two of the other three suffice: unconfirmed. That
table has D begin at 7 mmHg, where C ends; here 7 mmHg is C. A grade is "" where there are no pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.pressure_accuracy import pressure_pairs
from protocols.errors import SignalError

GRADES: Final = ("A", "B", "C", "D")
WITHIN_MMHG: Final = (5.0, 10.0, 15.0)
MAD_LIMITS_MMHG: Final = {"A": 5.0, "B": 6.0, "C": 7.0}
"""IEEE 1708: largest mean absolute difference of a grade."""
LARGEST_MEAN_MMHG: Final = 5.0
"""IEEE 1708-2025: largest absolute mean error of grades B and C."""
BHS_PERCENT: Final = {"A": (60, 85, 95), "B": (50, 75, 90), "C": (40, 65, 85)}
"""British Hypertension Society 1993: least shares within 5, 10 and 15 mmHg, all three needed."""
ESH_2010_TWO_OF: Final = (73, 87, 96)
"""ESH International Protocol 2010, part 1: of 99 pairs within 5, 10 and 15 mmHg, two of these."""
ESH_2010_ALL_OF: Final = (65, 81, 93)
"""ESH International Protocol 2010, part 1: and all of these."""
ESH_2010_MOST_WITHIN: Final = 24
"""ESH International Protocol 2010, part 2: least subjects with two of three pairs within 5 mmHg."""
ESH_2010_NONE_WITHIN: Final = 3
"""ESH International Protocol 2010, part 2: most subjects with no pair within 5 mmHg."""
_ROUNDING_MMHG: Final = 1e-9  # of differences of decimals: 92.3 - 87.3 is a little more than 5
_ESH_2010_SUBJECTS: Final = 33
_ESH_2010_PAIRS_EACH: Final = 3


@dataclass(frozen=True, slots=True)
class PressureGrades:
    """How far a monitor is off, and what two bodies call that.

    Parameters
    ----------
    mean, sd, mad
        Mean error, its standard deviation (n - 1), mean absolute difference, in mmHg.
    mapd_percent
        Mean absolute difference in percent of the reference.
    within
        Pairs within 5, 10 and 15 mmHg.
    within_percent
        Their shares.
    ieee_2014, ieee_2025, bhs
        Grades A to D.
    n_pairs, excluded
        Pairs judged, and pairs left out because a value is missing.
    """

    mean: float
    sd: float
    mad: float
    mapd_percent: float
    within: tuple[int, int, int]
    within_percent: tuple[float, float, float]
    ieee_2014: str
    ieee_2025: str
    bhs: str
    n_pairs: int
    excluded: int


@dataclass(frozen=True, slots=True)
class EshProtocol:
    """The two parts of the ESH International Protocol 2010 for one of systolic and diastolic pressure.

    Parameters
    ----------
    within
        Pairs of 99 within 5, 10 and 15 mmHg.
    part_1
        Two of 73, 87, 96 and all of 65, 81, 93.
    subjects_with_two, subjects_with_none
        Subjects with at least two of their three pairs within 5 mmHg, and with none.
    part_2
        At least 24 of the former, at most 3 of the latter.
    complete
        33 subjects with three pairs each; without that neither part says anything.
    """

    within: tuple[int, int, int]
    part_1: bool
    subjects_with_two: int
    subjects_with_none: int
    part_2: bool
    n_pairs: int
    n_subjects: int
    excluded: int
    complete: bool


def pressure_grades(test_mmhg: ArrayLike, reference_mmhg: ArrayLike) -> PressureGrades:
    """Return deviations, shares within 5, 10 and 15 mmHg, and grades.

    Parameters
    ----------
    test_mmhg, reference_mmhg
        Paired pressures, shape (n,).

    Raises
    ------
    SignalError
        If lengths differ, a value is infinite, or a pressure is not above 0 and up to 400 mmHg.

    References
    ----------
    IEEE 1708-2014 (grade by the mean absolute difference alone), IEEE 1708-2025 (B and C also need a mean
    error within 5 mmHg; the worst of measurands and pressure categories decides: `worst_grade`), O'Brien et
    al. 1993.
    """
    test, reference, _, excluded = pressure_pairs(test_mmhg, reference_mmhg, np.zeros(np.size(test_mmhg)))
    error = test - reference
    n = error.size
    within = _within(error)
    if n == 0:
        nan = float("nan")
        return PressureGrades(nan, nan, nan, nan, within, (nan, nan, nan), "", "", "", 0, excluded)
    mean, mad = float(error.mean()), float(np.abs(error).mean())
    by_mad = next((grade for grade, limit in MAD_LIMITS_MMHG.items() if mad <= limit + _ROUNDING_MMHG), "D")
    bhs = next(
        (
            grade
            for grade, least in BHS_PERCENT.items()
            if all(100 * count >= percent * n for count, percent in zip(within, least, strict=True))
        ),
        "D",
    )
    return PressureGrades(
        mean=mean,
        sd=float(error.std(ddof=1)) if n > 1 else float("nan"),
        mad=mad,
        mapd_percent=float(100.0 * (np.abs(error) / reference).mean()),
        within=within,
        within_percent=(100.0 * within[0] / n, 100.0 * within[1] / n, 100.0 * within[2] / n),
        ieee_2014=by_mad,
        ieee_2025=by_mad if abs(mean) <= LARGEST_MEAN_MMHG else "D",
        bhs=bhs,
        n_pairs=n,
        excluded=excluded,
    )


def worst_grade(grades: Iterable[str]) -> str:
    """Return the worst of grades A to D, "" if one is missing or there is none.

    Raises
    ------
    SignalError
        If a grade is none of these.
    """
    found = list(grades)
    for grade in found:
        if grade not in ("", *GRADES):
            raise SignalError(f"grade {grade!r}, expected A to D, or nothing where there is none")
    return "" if "" in found else max(found, default="")


def esh_2010(test_mmhg: ArrayLike, reference_mmhg: ArrayLike, *, subject: ArrayLike) -> EshProtocol:
    """Return the counts of the ESH International Protocol 2010, and whether they reach what it asks.

    Parameters
    ----------
    test_mmhg, reference_mmhg
        Paired pressures, shape (n,): 99 of 33 subjects.
    subject
        Whose pair it is, shape (n,).

    Raises
    ------
    SignalError
        As `pressure_grades`, or if there is not one subject for every pair.
    """
    test, reference, numbers, excluded = pressure_pairs(test_mmhg, reference_mmhg, subject)
    error = test - reference
    within = _within(error)
    numbers = np.unique(numbers, return_inverse=True)[1]
    pairs_each = np.bincount(numbers)
    close_each = np.bincount(numbers, weights=np.abs(error) <= WITHIN_MMHG[0] + _ROUNDING_MMHG)
    with_two, with_none = int((close_each >= 2).sum()), int((close_each == 0).sum())
    complete = pairs_each.size == _ESH_2010_SUBJECTS and bool((pairs_each == _ESH_2010_PAIRS_EACH).all())
    two_of = sum(count >= least for count, least in zip(within, ESH_2010_TWO_OF, strict=True)) >= 2
    all_of = all(count >= least for count, least in zip(within, ESH_2010_ALL_OF, strict=True))
    return EshProtocol(
        within=within,
        part_1=complete and two_of and all_of,
        subjects_with_two=with_two,
        subjects_with_none=with_none,
        part_2=complete and with_two >= ESH_2010_MOST_WITHIN and with_none <= ESH_2010_NONE_WITHIN,
        n_pairs=error.size,
        n_subjects=pairs_each.size,
        excluded=excluded,
        complete=complete,
    )


def _within(error: NDArray[np.float64]) -> tuple[int, int, int]:
    distance = np.abs(error)
    first, second, third = (int((distance <= limit + _ROUNDING_MMHG).sum()) for limit in WITHIN_MMHG)
    return first, second, third
