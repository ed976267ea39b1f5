"""Forced expiration: volumes and flows of one manoeuvre, whether it may be used, and the grade of a session.

Volumes count from the start of the expiration. Time zero comes by back-extrapolation: the tangent at the peak
flow is drawn back to no volume; what had been expired by then is the back-extrapolated volume. All rules are
those of the ATS/ERS standard of 2019; its limits are given as remembered, to be confirmed against the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_series
from analysis.expirations import find_expirations
from protocols.errors import SignalError

PRESCHOOL_YEARS: Final = 6.0
"""Up to this age other limits of repeatability hold, and FEV0.75 is of use."""

_EXTRAPOLATED_SHARE: Final = 0.05  # of the FVC ...
_EXTRAPOLATED_L: Final = 0.100  # ... or this, whichever is greater
_PLATEAU_L: Final = 0.025  # least change over the last second of expiration
_PLATEAU_S: Final = 1.0
_LONG_ENOUGH_S: Final = 15.0
_ONE_WAY: Final = 0.8  # net volume over all that flows: breathing out goes one way, noise both
_LOWEST_RATE_HZ: Final = 50.0  # below, a rise to peak flow within 150 ms has fewer than eight samples
_GRADES: Final = (
    ("A", 3, 0.150, 0.100),
    ("B", 2, 0.150, 0.100),
    ("C", 2, 0.200, 0.150),
    ("D", 2, 0.250, 0.200),
)
"""Grade, least manoeuvres, largest difference of the two best in L, and the same up to the age of 6 (there 10 %
of the best if that is more)."""
_PRESCHOOL_SHARE: Final = 0.10
_ROUNDING_L: Final = 1e-9  # decimal values at a limit are within it, whatever binary fractions make of them


@dataclass(frozen=True, slots=True)
class Expiration:
    """One forced expiration; volumes in L, flows in L/s, times in s. NaN where it is too short for a figure.

    Parameters
    ----------
    fvc_l
        Forced vital capacity: the largest volume expired.
    fev075_l, fev1_l, fev6_l
        Volume expired 0.75, 1 and 6 s after time zero; the last stands in for the FVC where that is asked for.
    pef_lps
        Peak expiratory flow.
    fef2575_lps, fef75_lps
        Mean flow between 25 and 75 % of the FVC; flow when 75 % are out.
    extrapolated_l
        Back-extrapolated volume.
    time_zero_s
        From the first sample.
    rise_s
        From 10 to 90 % of peak flow.
    expiratory_s
        Forced expiratory time, from time zero to the largest volume or, where a plateau follows, its start.
    last_second_l
        Change of volume over the last second before inspiration, or before the end of the recording.
    fivc_l
        Forced inspiratory vital capacity: what is breathed in after the expiration; NaN where nothing is.
    """

    fvc_l: float
    fev075_l: float
    fev1_l: float
    fev6_l: float
    pef_lps: float
    fef2575_lps: float
    fef75_lps: float
    extrapolated_l: float
    time_zero_s: float
    rise_s: float
    expiratory_s: float
    last_second_l: float
    fivc_l: float = float("nan")

    @property
    def fev1_share_percent(self) -> float:
        """FEV1 as share of the FVC."""
        return 100.0 * self.fev1_l / self.fvc_l

    @property
    def starts_well(self) -> bool:
        """Whether the back-extrapolated volume is at most 5 % of the FVC or 0.1 L: FEV1 may be used."""
        return self.extrapolated_l <= max(_EXTRAPOLATED_SHARE * self.fvc_l, _EXTRAPOLATED_L) + _ROUNDING_L

    @property
    def filled_lungs(self) -> bool:
        """Whether the inspiration after it is no larger than the FVC by over 5 % or 0.1 L.

        If it is, the lungs had not been full, and neither FEV1 nor FVC may be accepted. True where no
        inspiration was recorded.
        """
        limit_l = max(_EXTRAPOLATED_SHARE * self.fvc_l, _EXTRAPOLATED_L)
        return not self.fivc_l - self.fvc_l > limit_l + _ROUNDING_L

    def ends_well(self, *, largest_fvc_l: float = float("nan"), age_years: float = 20.0) -> bool:
        """Return whether the expiration was complete.

        It was if volume changed by at most 25 mL in the last second, if it lasted 15 s, or if its FVC is within
        the limit of repeatability of the largest FVC of the session, or above it.
        """
        least_l = largest_fvc_l - _tolerance_l(_GRADES[0], largest_fvc_l, age_years)
        repeated = self.fvc_l >= least_l - _ROUNDING_L
        return self.last_second_l <= _PLATEAU_L + _ROUNDING_L or self.expiratory_s >= _LONG_ENOUGH_S or repeated


@dataclass(frozen=True, slots=True)
class SpirometryGrades:
    """What a session of manoeuvres is worth, FEV1 and FVC apart.

    Parameters
    ----------
    fev1, fvc
        A to E, U (usable values only), F (none).
    fev1_l, fvc_l
        Best acceptable value, else best usable one; NaN without any.
    fev1_difference_l, fvc_difference_l
        Between the two best acceptable values; NaN below two.
    """

    fev1: str
    fvc: str
    fev1_l: float
    fvc_l: float
    fev1_difference_l: float
    fvc_difference_l: float


def measure_expiration(flow_lps: ArrayLike, *, rate_hz: float) -> Expiration:
    """Return volumes, flows and times of one forced expiration.

    Parameters
    ----------
    flow_lps
        Expiratory flow at BTPS in L/s, expiration positive, from the end of inspiration or before, shape (n,).
        The expiration ends where the volume is largest; of inspiration after it only its volume is told.
    rate_hz
        At least 50.

    Returns
    -------
    All NaN where nothing is expired, where flow is noise that goes both ways, or a sample is missing, as volume
    after it would be wrong by nobody knows how much.

    Raises
    ------
    SignalError
        If the flow is not of real, finite numbers in one dimension, or the rate is too low.

    References
    ----------
    Graham et al. 2019, doi:10.1164/rccm.201908-1590ST. Volume is the trapezoidal integral of flow. Before
    the integral, inspiration is left out: it begins at the last sample without expiratory flow before the peak.
    """
    flow = as_series(flow_lps, name="flow_lps")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if rate_hz < _LOWEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {_LOWEST_RATE_HZ} Hz")
    if flow.size < 2 or np.isnan(flow).any() or flow.max() <= 0.0:
        return Expiration(*[float("nan")] * len(fields(Expiration)))
    peak = int(np.argmax(flow))
    before = np.flatnonzero(flow[:peak] <= 0.0)
    first = int(before[-1]) if before.size else 0
    flow = flow[first:]
    volume = np.concatenate([[0.0], np.cumsum(0.5 * (flow[1:] + flow[:-1])) / rate_hz])
    end = int(np.argmax(volume))
    both_ways = float(np.abs(flow[: end + 1]).sum())
    if end < max(1, peak - first) or float(flow[: end + 1].sum()) < _ONE_WAY * both_ways:  # spikes, noise
        return Expiration(*[float("nan")] * len(fields(Expiration)))
    found = _measured(flow[: end + 1], volume[: end + 1], peak - first, first / rate_hz, rate_hz)
    after = volume[end:]
    left = np.flatnonzero(
        after < volume[end] - _PLATEAU_L
    )  # where inspiration has taken the plateau's tolerance
    still = int(left[0]) - 1 if left.size else after.size - 1
    second = end + still - round(_PLATEAU_S * rate_hz)
    return replace(
        found,
        last_second_l=float(volume[end] - volume[max(0, second)]),
        fivc_l=float(volume[end] - after.min()) if left.size else float("nan"),
    )


def acceptable(
    manoeuvres: Sequence[Expiration], *, age_years: float, usable: Sequence[bool] | None = None
) -> tuple[list[bool], list[bool]]:
    """Return which manoeuvres of a session are acceptable for FEV1, and which for FVC.

    Parameters, errors and source are those of `grade_spirometry`.
    """
    age_years = as_positive(age_years, name="age_years", unit="years")
    if usable is not None and len(usable) != len(manoeuvres):
        raise SignalError(f"{len(usable)} opinions on {len(manoeuvres)} manoeuvres, expected one for each")
    fine = [
        ok and m.starts_well and m.filled_lungs
        for m, ok in zip(manoeuvres, usable or [True] * len(manoeuvres), strict=True)
    ]
    among = [m for m, is_fine in zip(manoeuvres, fine, strict=True) if is_fine]
    largest_fvc_l = max((m.fvc_l for m in among if m.ends_well(age_years=age_years)), default=float("nan"))
    return (
        [is_fine and bool(np.isfinite(m.fev1_l)) for m, is_fine in zip(manoeuvres, fine, strict=True)],
        [
            is_fine and m.ends_well(largest_fvc_l=largest_fvc_l, age_years=age_years)
            for m, is_fine in zip(manoeuvres, fine, strict=True)
        ],
    )


def repeatability_l(best_l: float, *, age_years: float) -> float:
    """Return by how much, in L, the two best values of a session may differ for the best grades."""
    return _tolerance_l(_GRADES[0], best_l, as_positive(age_years, name="age_years", unit="years"))


def grade_spirometry(
    manoeuvres: Sequence[Expiration], *, age_years: float, usable: Sequence[bool] | None = None
) -> SpirometryGrades:
    """Return the grades of a session.

    Acceptable for FEV1 is a manoeuvre that starts well from full lungs, for FVC one that also ends well. What a
    program cannot see (a cough in the first second, a leak, glottic closure) is for the operator to say.

    Parameters
    ----------
    manoeuvres
        All of one session before, or all after, a bronchodilator.
    age_years
        Of the subject; other limits hold up to 6.
    usable
        What the operator says of each manoeuvre; None if all were free of fault.

    Raises
    ------
    SignalError
        If there are not as many opinions as manoeuvres, or the age is not above 0.

    References
    ----------
    Graham et al. 2019, doi:10.1164/rccm.201908-1590ST, table of grades; limits unconfirmed. Differs from it in
    taking a manoeuvre that does not start well, or not from full lungs, as not even usable, and the FVC of one
    that does not end well as usable.
    """
    for_fev1, for_fvc = acceptable(manoeuvres, age_years=age_years, usable=usable)
    complete = [m.fvc_l for m, is_complete in zip(manoeuvres, for_fvc, strict=True) if is_complete]
    fine = [
        m
        for m, ok in zip(manoeuvres, usable or [True] * len(manoeuvres), strict=True)
        if ok and m.starts_well and m.filled_lungs
    ]
    fev1 = [m.fev1_l for m, is_fine in zip(manoeuvres, for_fev1, strict=True) if is_fine]
    fev1_grade, fev1_l, fev1_difference_l = _graded(fev1, fev1, age_years)
    fvc_grade, fvc_l, fvc_difference_l = _graded(complete, [m.fvc_l for m in fine], age_years)
    return SpirometryGrades(fev1_grade, fvc_grade, fev1_l, fvc_l, fev1_difference_l, fvc_difference_l)


def fev1_l(flow_lps: ArrayLike, *, rate_hz: float) -> float:
    """Return the largest FEV1 of a recording in L; NaN if no manoeuvre starts well from full lungs."""
    fine = [m for m in _manoeuvres(flow_lps, rate_hz) if m.starts_well and m.filled_lungs]
    return _largest([m.fev1_l for m in fine])


def fvc_l(flow_lps: ArrayLike, *, rate_hz: float) -> float:
    """Return the largest FVC of a recording in L; NaN if none starts well from full lungs and ends well."""
    fine = [m for m in _manoeuvres(flow_lps, rate_hz) if m.starts_well and m.filled_lungs and m.ends_well()]
    return _largest([m.fvc_l for m in fine])


def _manoeuvres(flow_lps: ArrayLike, rate_hz: float) -> list[Expiration]:
    """Return what every forced expiration of a recording measures."""
    flow = as_series(flow_lps, name="flow_lps")
    if as_positive(rate_hz, name="rate_hz", unit="Hz") < _LOWEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {_LOWEST_RATE_HZ} Hz")
    return [
        measure_expiration(flow[start:end], rate_hz=rate_hz)
        for start, end in find_expirations(flow, rate_hz=rate_hz)
    ]


def _largest(values: list[float]) -> float:
    return max((value for value in values if np.isfinite(value)), default=float("nan"))


def _measured(
    flow: NDArray[np.float64], volume: NDArray[np.float64], peak: int, first_s: float, rate_hz: float
) -> Expiration:
    """Return the figures of an expiration that begins with its first sample and ends with its last."""
    times_s = np.arange(volume.size) / rate_hz
    fvc, pef = float(volume[-1]), float(flow[peak])
    zero_s = float(times_s[peak] - volume[peak] / pef)
    end_s = float(times_s[-1])

    def volume_at(since_zero_s: float) -> float:
        time_s = zero_s + since_zero_s
        return float(np.interp(time_s, times_s, volume)) if time_s <= end_s else float("nan")

    t25_s, t75_s = (float(np.interp(share * fvc, volume, times_s)) for share in (0.25, 0.75))
    rising = flow[: peak + 1]
    low, high = (int(np.argmax(rising >= share * pef)) for share in (0.1, 0.9))
    return Expiration(
        fvc_l=fvc,
        fev075_l=volume_at(0.75),
        fev1_l=volume_at(1.0),
        fev6_l=volume_at(6.0),
        pef_lps=pef,
        fef2575_lps=0.5 * fvc / (t75_s - t25_s),
        fef75_lps=float(np.interp(t75_s, times_s, flow)),
        extrapolated_l=float(np.interp(zero_s, times_s, volume)),
        time_zero_s=first_s + zero_s,
        rise_s=(high - low) / rate_hz,
        expiratory_s=end_s - zero_s,
        last_second_l=fvc,
    )


def _graded(acceptable: list[float], usable: list[float], age_years: float) -> tuple[str, float, float]:
    """Return grade, best value and difference of the two best values."""
    nan = float("nan")
    best = sorted(acceptable, reverse=True)
    if not best:
        return ("U", max(usable), nan) if usable else ("F", nan, nan)
    if len(best) == 1:
        return "E", best[0], nan
    difference = round(best[0] - best[1], 9)
    for grade in _GRADES:
        if len(best) >= grade[1] and difference <= _tolerance_l(grade, best[0], age_years):
            return grade[0], best[0], difference
    return "E", best[0], difference


def _tolerance_l(grade: tuple[str, int, float, float], best_l: float, age_years: float) -> float:
    """Return by how much the two best values may differ."""
    if age_years > PRESCHOOL_YEARS:
        return grade[2]
    return max(grade[3], _PRESCHOOL_SHARE * best_l)
