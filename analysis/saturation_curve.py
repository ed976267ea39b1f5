"""The calibration curve of a pulse oximeter: from the ratio of ratios to SpO2, applied and fitted.

A curve belongs to one device at one site: wavelengths, optics and skin are in it. Nothing in here has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_series, as_signal
from analysis.oximetry import arms_percent
from protocols.errors import SignalError

_HIGHEST_DEGREE: Final = 3
"""Published curves are straight lines or parabolas; a study of seven plateaus carries a cubic at most."""

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SaturationCurve:
    """SpO2 = c0 + c1 R + c2 R^2 + ..., for ratios within a range.

    Parameters
    ----------
    device
        What the curve was calibrated for.
    coefficients
        c0, c1, ... in %.
    lowest_ratio, highest_ratio
        Range that the calibration covered, inclusive; outside it no saturation is given.

    Raises
    ------
    SignalError
        If there are less than two coefficients, any number is not finite, or the range is empty.
    """

    device: str
    coefficients: tuple[float, ...]
    lowest_ratio: float
    highest_ratio: float

    def __post_init__(self) -> None:
        if len(self.coefficients) < 2 or not np.isfinite(self.coefficients).all():
            raise SignalError(f"coefficients={self.coefficients!r}, expected two or more finite numbers")
        if not 0.0 <= self.lowest_ratio < self.highest_ratio < float("inf"):
            raise SignalError(
                f"ratios from {self.lowest_ratio!r} to {self.highest_ratio!r}, expected a range from 0 up"
            )

    def spo2_percent(self, ratio: ArrayLike) -> _Floats:
        """Return SpO2 in %, same shape; NaN outside the range of ratios and below 0 %, 100 % above 100 %."""
        ratios = as_signal(ratio, name="ratio").astype(np.float64)
        inside = (ratios >= self.lowest_ratio) & (ratios <= self.highest_ratio)
        percent = _polynomial(np.where(inside, ratios, np.nan), self.coefficients)
        return np.asarray(np.where(percent < 0.0, np.nan, np.minimum(percent, 100.0)))


@dataclass(frozen=True, slots=True)
class CurveFit:
    """A curve and how well it does.

    Parameters
    ----------
    curve
        Fitted to all pairs; its range is that of their ratios.
    arms_percent
        Root mean square error on the pairs it was fitted to, in %.
    cross_validated_arms_percent
        The same where each recording is judged by a curve of the others; NaN for a single recording. This is
        what to expect of recordings not yet seen, if they are like these.
    n_pairs, n_recordings
        What it rests on.
    """

    curve: SaturationCurve
    arms_percent: float
    cross_validated_arms_percent: float
    n_pairs: int
    n_recordings: int


def fit_curve(
    ratio: ArrayLike, reference_percent: ArrayLike, *, recording: ArrayLike, device: str, degree: int = 1
) -> CurveFit:
    """Return the polynomial of least squares from ratios to a reference saturation.

    Parameters
    ----------
    ratio, reference_percent
        Pairs, shape (n_pairs,); a pair with a NaN is left out.
    recording
        What each pair comes from (a recording, or better a subject), shape (n_pairs,): pairs of one are left
        out together in the cross-validation, as they resemble one another.
    device
        Name the curve carries.
    degree
        1 to 3.

    Raises
    ------
    SignalError
        If shapes differ, the degree is none of these, or there are too few different ratios for it.
    """
    ratios = as_series(ratio, name="ratio")
    references = as_series(reference_percent, name="reference_percent")
    groups = np.asarray(recording)
    if not ratios.shape == references.shape == groups.shape:
        raise SignalError(
            f"ratio {ratios.shape}, reference {references.shape}, recording {groups.shape}, expected pairs"
        )
    if degree not in range(1, _HIGHEST_DEGREE + 1):
        raise SignalError(f"degree={degree!r}, expected 1 to {_HIGHEST_DEGREE}")
    there = np.isfinite(ratios) & np.isfinite(references)
    ratios, references, groups = ratios[there], references[there], groups[there]
    if np.unique(ratios).size <= degree:
        raise SignalError(f"{np.unique(ratios).size} different ratios, expected more than degree {degree}")
    names = np.unique(groups)
    predicted = np.full(ratios.size, np.nan)
    for name in names if names.size > 1 else ():
        out = groups == name
        if np.unique(ratios[~out]).size > degree:
            predicted[out] = _polynomial(ratios[out], _fitted(ratios[~out], references[~out], degree))
    coefficients = _fitted(ratios, references, degree)
    validated = np.isfinite(predicted).all()
    return CurveFit(
        SaturationCurve(device, coefficients, float(ratios.min()), float(ratios.max())),
        float(arms_percent(_polynomial(ratios, coefficients), references)),
        float(arms_percent(predicted, references)) if validated else float("nan"),
        ratios.size,
        names.size,
    )


def _fitted(ratios: _Floats, references: _Floats, degree: int) -> tuple[float, ...]:
    return tuple(map(float, np.polynomial.Polynomial.fit(ratios, references, degree).convert().coef))


def _polynomial(ratios: _Floats, coefficients: tuple[float, ...]) -> _Floats:
    return np.asarray(np.polynomial.polynomial.polyval(ratios, coefficients))
