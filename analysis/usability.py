"""Usability questionnaires: SUS, UEQ and NASA-TLX.

Answers come with items last, shape (..., n_items), people on any leading axis; NaN is an item not answered. Use
errors by IEC 62366 are in `analysis.use_errors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.arrays import as_series, as_signal
from analysis.estimates import as_share
from protocols.errors import SignalError

SUS_GRADES: Final = (
    ("A+", 84.1),
    ("A", 80.8),
    ("A-", 78.9),
    ("B+", 77.2),
    ("B", 74.1),
    ("B-", 72.6),
    ("C+", 71.1),
    ("C", 65.0),
    ("C-", 62.7),
    ("D", 51.7),
    ("F", 0.0),
)
"""Grade and its least score, Sauro & Lewis' curved scale (secondary).

A score between two printed bands (80.75) has the lower grade.
"""
SUS_MEAN: Final = 68.0
"""Mean score of the systems that the scale was made from (secondary)."""

UEQ_SCALES: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "attractiveness": (1, 12, 14, 16, 24, 25),
        "perspicuity": (2, 4, 13, 21),
        "efficiency": (9, 20, 22, 23),
        "dependability": (8, 11, 17, 19),
        "stimulation": (5, 6, 7, 18),
        "novelty": (3, 10, 15, 26),
    }
)
"""Scale -> its items, counted from 1 (secondary)."""
UEQ_POSITIVE_LEFT: Final = (3, 4, 5, 9, 10, 12, 17, 18, 19, 21, 23, 24)
"""Items whose positive word stands on the left, counted from 1 (secondary)."""

TLX_SCALES: Final = ("mental", "physical", "temporal", "performance", "effort", "frustration")
"""Order of the six ratings of NASA-TLX."""

_SUS_ITEMS, _UEQ_ITEMS, _TLX_PAIRS = 10, 26, 15
_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SusSummary:
    """Scores of a group; NaN and "" where there are too few.

    Parameters
    ----------
    mean, sd
        Of the scores (n - 1).
    low, high, level
        Interval of the mean by Student's t, kept within 0 to 100.
    grade
        Of the mean. It alone says more than a small group knows: give the other two with it.
    grade_low, grade_high
        Of the ends of the interval.
    n, excluded
        People with a score, and people who left an item out.
    """

    mean: float
    sd: float
    low: float
    high: float
    level: float
    grade: str
    grade_low: str
    grade_high: str
    n: int
    excluded: int


def sus_scores(answers: ArrayLike) -> _Floats:
    """Return scores of the System Usability Scale, 0 to 100, shape (...); NaN where an item is missing.

    Parameters
    ----------
    answers
        1 (strongly disagree) to 5 (strongly agree) to the ten items in their order, shape (..., 10).

    Raises
    ------
    SignalError
        If there are not ten items, or an answer is not a whole number from 1 to 5.

    References
    ----------
    Brooke 1996: 2.5 times the sum of (answer - 1) for odd items and (5 - answer) for even ones. Brooke's rule
    of counting a missing item as 3 is not followed.
    """
    items = _as_answers(answers, _SUS_ITEMS, 5)
    return np.asarray(2.5 * ((items[..., 0::2] - 1.0).sum(axis=-1) + (5.0 - items[..., 1::2]).sum(axis=-1)))


def sus_grade(score: float) -> str:
    """Return the grade of a score or of a mean of scores, A+ to F; "" for NaN.

    Raises
    ------
    SignalError
        If the score is not within 0 to 100.

    References
    ----------
    Lewis & Sauro 2018, Journal of Usability Studies 13(3). Not to be mixed with Bangor's adjectives and
    school marks.
    """
    if np.isnan(score):
        return ""
    if not 0.0 <= score <= 100.0:
        raise SignalError(f"score={score!r}, expected 0 to 100")
    return next(grade for grade, least in SUS_GRADES if score >= least)


def sus_summary(scores: ArrayLike, *, level: float = 0.95) -> SusSummary:
    """Return mean, interval and grades of the scores of a group.

    Parameters
    ----------
    scores
        One for each person, shape (n,), NaN where there is none.
    level
        Confidence level of the interval.

    Raises
    ------
    SignalError
        If a score is not within 0 to 100, or the level is not between 0 and 1.
    """
    as_share(level, name="level")
    given = as_series(scores, name="scores")
    present = given[~np.isnan(given)]
    if present.size and (present.min() < 0.0 or present.max() > 100.0):
        raise SignalError(f"scores from {present.min():g} to {present.max():g}, expected 0 to 100")
    n, excluded = present.size, given.size - present.size
    mean = float(present.mean()) if n else float("nan")
    sd = float(present.std(ddof=1)) if n > 1 else float("nan")
    reach = float(special.stdtrit(n - 1, 0.5 + 0.5 * level)) * sd / n**0.5 if n > 1 else float("nan")
    low, high = (float(np.clip(end, 0.0, 100.0)) for end in (mean - reach, mean + reach))
    grades = sus_grade(mean), sus_grade(low), sus_grade(high)
    return SusSummary(mean, sd, low, high, level, *grades, n=n, excluded=excluded)


def ueq_scales(answers: ArrayLike) -> dict[str, _Floats]:
    """Return the six scales of the User Experience Questionnaire, -3 (worst) to 3, each of shape (...).

    Parameters
    ----------
    answers
        1 (left word) to 7 (right word) to the 26 items in their order, shape (..., 26).

    Returns
    -------
    Mean of the answered items of each scale; NaN where under half of them are answered.

    Raises
    ------
    SignalError
        If there are not 26 items, or an answer is not a whole number from 1 to 7.

    References
    ----------
    Laugwitz, Held & Schrepp 2008, doi:10.1007/978-3-540-89350-9_6. Its benchmark of products is not included:
    the cut-offs were not at hand.
    """
    items = _ueq_items(answers)
    scales = {}
    for name, numbers in UEQ_SCALES.items():
        part = items[..., np.array(numbers) - 1]
        answered = np.isfinite(part).sum(axis=-1)
        enough = 2 * answered >= len(numbers)
        scales[name] = np.asarray(np.nansum(part, axis=-1) / np.where(enough, answered, np.nan))
    return scales


def ueq_inconsistent_scales(answers: ArrayLike) -> NDArray[np.int_]:
    """Return in how many scales a person's best and worst item differ by more than 3, shape (...).

    Three or more suggest answers at random (the UEQ handbook; unconfirmed).

    Raises
    ------
    SignalError
        As `ueq_scales`.
    """
    items = _ueq_items(answers)
    spread = [
        np.fmax.reduce(part, axis=-1) - np.fmin.reduce(part, axis=-1)
        for part in (items[..., np.array(numbers) - 1] for numbers in UEQ_SCALES.values())
    ]
    return np.asarray((np.stack(spread) > 3.0).sum(axis=0))


def tlx_raw(ratings: ArrayLike) -> _Floats:
    """Return the raw NASA-TLX, the mean of six ratings, shape (...); NaN where one is missing.

    Parameters
    ----------
    ratings
        0 to 100 in the order of `TLX_SCALES`, shape (..., 6).

    Raises
    ------
    SignalError
        If there are not six, or a rating is not within 0 to 100.
    """
    return np.asarray(_as_ratings(ratings).mean(axis=-1))


def tlx_weighted(ratings: ArrayLike, weights: ArrayLike) -> _Floats:
    """Return the weighted NASA-TLX, 0 to 100, shape (...); NaN where a rating or a weight is missing.

    Parameters
    ----------
    ratings
        0 to 100 in the order of `TLX_SCALES`, shape (..., 6).
    weights
        How often each scale was chosen in the 15 comparisons of pairs, 0 to 5, shape (..., 6).

    Raises
    ------
    SignalError
        As `tlx_raw`, or if weights are no whole numbers from 0 to 5 that add up to 15.

    References
    ----------
    Hart & Staveland 1988, doi:10.1016/S0166-4115(08)62386-9.
    """
    given = _as_ratings(ratings)
    chosen = _as_answers(weights, len(TLX_SCALES), 5, least=0, name="weights")
    if chosen.shape != given.shape:
        raise SignalError(f"weights of shape {chosen.shape} for ratings of {given.shape}, expected one shape")
    totals = chosen.sum(axis=-1)
    wrong = totals[np.isfinite(totals) & (totals != _TLX_PAIRS)]
    if wrong.size:
        raise SignalError(f"weights add up to {wrong[0]:g}, expected 15 comparisons")
    return np.asarray((given * chosen).sum(axis=-1) / _TLX_PAIRS)


def _ueq_items(answers: ArrayLike) -> _Floats:
    """Return items from -3 (worst) to 3 (best)."""
    items = _as_answers(answers, _UEQ_ITEMS, 7) - 4.0
    items[..., np.array(UEQ_POSITIVE_LEFT) - 1] *= -1.0
    return items


def _as_answers(
    answers: ArrayLike, n_items: int, largest: int, *, least: int = 1, name: str = "answers"
) -> _Floats:
    items = np.array(as_signal(answers, name=name), dtype=np.float64)
    if items.shape[-1] != n_items:
        raise SignalError(f"{name} with {items.shape[-1]} items, expected {n_items}")
    wrong = items[~np.isnan(items) & ~((items >= least) & (items <= largest) & (items == np.floor(items)))]
    if wrong.size:
        raise SignalError(f"{name} holds {wrong[0]:g}, expected whole numbers from {least} to {largest}")
    return items


def _as_ratings(ratings: ArrayLike) -> _Floats:
    given = np.asarray(as_signal(ratings, name="ratings"), dtype=np.float64)
    if given.shape[-1] != len(TLX_SCALES):
        raise SignalError(f"ratings on {given.shape[-1]} scales, expected {len(TLX_SCALES)}")
    wrong = given[(given < 0.0) | (given > 100.0)]
    if wrong.size:
        raise SignalError(f"ratings holds {wrong[0]:g}, expected 0 to 100")
    return given
