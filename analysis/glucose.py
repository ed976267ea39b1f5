"""Continuous glucose monitoring: the figures of the international consensus and of risk.

Glucose is in mg/dL. Figures of the readings alone take shape (..., n) with NaN where missing; where time
counts, one series and its UTC times are taken, mostly as a `glucose_grid.daily_grid`. Variability is in
`glucose_variability`, episodes and lag are in `glucose_events`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_times_ns
from analysis.glucose_grid import as_glucose_mgdl, as_readings, step_of

LEAST_WEAR_PERCENT: Final = 70.0
"""Battelino et al. 2019: share of 14 days that must be recorded for the figures to stand for three months."""
MGDL_PER_MMOLL: Final = 18.0
"""Battelino et al. 2019 convert by 18."""

_MINUTE_NS: Final = 60_000_000_000
_DAY_MIN: Final = 1440

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CgmSummary:
    """Figures of the consensus; shares in percent of the readings, NaN without readings."""

    n_readings: int
    days: float
    wear_percent: float
    mean_mgdl: float
    sd_mgdl: float
    cv_percent: float
    gmi_percent: float
    very_low_percent: float
    low_percent: float
    in_range_percent: float
    tight_range_percent: float
    high_percent: float
    very_high_percent: float
    sufficient: bool


def mean_mgdl(glucose_mgdl: ArrayLike) -> _Floats:
    """Return the mean in mg/dL, shape (...)."""
    return _mean(as_glucose_mgdl(glucose_mgdl))


def sd_mgdl(glucose_mgdl: ArrayLike) -> _Floats:
    """Return the standard deviation (n - 1) in mg/dL, shape (...); NaN below two readings."""
    return nan_sd(as_glucose_mgdl(glucose_mgdl))


def cv_percent(glucose_mgdl: ArrayLike) -> _Floats:
    """Return the coefficient of variation in percent, shape (...); stable at or below 36 (Battelino 2019)."""
    return np.asarray(100.0 * sd_mgdl(glucose_mgdl) / mean_mgdl(glucose_mgdl))


def gmi_percent(glucose_mgdl: ArrayLike) -> _Floats:
    """Return the glucose management indicator in percent, shape (...).

    References
    ----------
    Bergenstal et al. 2018, doi:10.2337/dc18-1581: 3.31 + 0.02392 mean.
    """
    return np.asarray(3.31 + 0.02392 * mean_mgdl(glucose_mgdl))


def ea1c_percent(glucose_mgdl: ArrayLike) -> _Floats:
    """Return the estimated A1c in percent, shape (...): Nathan et al. 2008, doi:10.2337/dc08-0545."""
    return np.asarray((46.7 + mean_mgdl(glucose_mgdl)) / 28.7)


def in_range_percent(glucose_mgdl: ArrayLike, *, low_mgdl: float = 70.0, high_mgdl: float = 180.0) -> _Floats:
    """Return the percentage of readings in the range, both limits inclusive, shape (...).

    References
    ----------
    Battelino et al. 2019, doi:10.2337/dci19-0028: 70 to 180 mg/dL; below and above are strict.
    """
    values = as_glucose_mgdl(glucose_mgdl)
    return _percent((values >= low_mgdl) & (values <= high_mgdl), values)


def below_percent(glucose_mgdl: ArrayLike, *, limit_mgdl: float = 70.0) -> _Floats:
    """Return the percentage of readings below a limit, shape (...); the consensus uses 70 and 54."""
    values = as_glucose_mgdl(glucose_mgdl)
    return _percent(values < as_positive(limit_mgdl, name="limit_mgdl", unit="mg/dL"), values)


def above_percent(glucose_mgdl: ArrayLike, *, limit_mgdl: float = 180.0) -> _Floats:
    """Return the percentage of readings above a limit, shape (...); the consensus uses 180 and 250."""
    values = as_glucose_mgdl(glucose_mgdl)
    return _percent(values > as_positive(limit_mgdl, name="limit_mgdl", unit="mg/dL"), values)


def lbgi(glucose_mgdl: ArrayLike) -> _Floats:
    """Return the low blood glucose index, shape (...).

    References
    ----------
    Kovatchev et al. 2006, doi:10.2337/dc06-1085: mean of 10 f**2 where f = 1.509 (ln(G)**1.084 - 5.381) < 0.
    """
    return _mean(low_risk(as_glucose_mgdl(glucose_mgdl)))


def hbgi(glucose_mgdl: ArrayLike) -> _Floats:
    """Return the high blood glucose index, shape (...); as `lbgi`, where f > 0."""
    return _mean(high_risk(as_glucose_mgdl(glucose_mgdl)))


def bgri(glucose_mgdl: ArrayLike) -> _Floats:
    """Return the blood glucose risk index, shape (...): LBGI + HBGI."""
    return np.asarray(lbgi(glucose_mgdl) + hbgi(glucose_mgdl))


def j_index(glucose_mgdl: ArrayLike) -> _Floats:
    """Return the J index, shape (...): Wojcicki 1995, doi:10.1055/s-2007-979906, 0.001 (mean + SD)**2."""
    return np.asarray(1e-3 * (mean_mgdl(glucose_mgdl) + sd_mgdl(glucose_mgdl)) ** 2)


def grade(glucose_mgdl: ArrayLike) -> _Floats:
    """Return the mean GRADE score, shape (...).

    References
    ----------
    Hill et al. 2007, doi:10.1111/j.1464-5491.2007.02119.x: 425 (log10(log10(mmol/L)) + 0.16)**2, at most 50.
    """
    return _mean(_grade_scores(as_glucose_mgdl(glucose_mgdl)))


def grade_shares_percent(
    glucose_mgdl: ArrayLike, *, low_mgdl: float = 70.0, high_mgdl: float = 140.0
) -> tuple[_Floats, _Floats, _Floats]:
    """Return how much of GRADE readings below, in and above the range make, in percent, each of shape (...)."""
    values = as_glucose_mgdl(glucose_mgdl)
    scores = _grade_scores(values)
    total = np.nansum(scores, axis=-1)
    total = np.where(total > 0.0, total, np.nan)
    low, high = values < low_mgdl, values > high_mgdl
    parts = (low, ~low & ~high, high)
    below, inside, above = (100.0 * np.nansum(np.where(p, scores, 0.0), axis=-1) / total for p in parts)
    return np.asarray(below), np.asarray(inside), np.asarray(above)


def m_value(glucose_mgdl: ArrayLike, *, reference_mgdl: float = 90.0) -> _Floats:
    """Return the M-value, shape (...): Schlichtkrull et al. 1965, doi:10.1111/j.0954-6820.1965.tb01810.x.

    The mean of |10 log10(G / reference)|**3, without its correction for few readings.
    """
    reference_mgdl = as_positive(reference_mgdl, name="reference_mgdl", unit="mg/dL")
    return _mean(np.abs(10.0 * np.log10(as_glucose_mgdl(glucose_mgdl) / reference_mgdl)) ** 3)


def cogi(glucose_mgdl: ArrayLike) -> _Floats:
    """Return the continuous glucose monitoring index, 0 to 100, shape (...).

    References
    ----------
    Leelarathna et al. 2020, doi:10.1177/1932296819838525: half time in range, 0.35 time below 70 (full at 0,
    none from 15 %), 0.15 SD (full to 18 mg/dL, none from 108).
    """
    in_range, below = in_range_percent(glucose_mgdl), below_percent(glucose_mgdl)
    of_low = 100.0 * np.clip(1.0 - below / 15.0, 0.0, 1.0)
    of_sd = 100.0 * np.clip(1.0 - (sd_mgdl(glucose_mgdl) - 18.0) / 90.0, 0.0, 1.0)
    return np.asarray(0.5 * in_range + 0.35 * of_low + 0.15 * of_sd)


def gri(glucose_mgdl: ArrayLike) -> _Floats:
    """Return the glycemia risk index, 0 to 100, shape (...).

    References
    ----------
    Klonoff et al. 2023, doi:10.1177/19322968221085273: 3 times the percentage below 54, 2.4 times that from 54
    to 70, 1.6 times that above 250, 0.8 times that from 180 to 250, at most 100.
    """
    very_low, below = below_percent(glucose_mgdl, limit_mgdl=54.0), below_percent(glucose_mgdl)
    very_high, above = above_percent(glucose_mgdl, limit_mgdl=250.0), above_percent(glucose_mgdl)
    index = 3.0 * very_low + 2.4 * (below - very_low) + 1.6 * very_high + 0.8 * (above - very_high)
    return np.asarray(np.minimum(index, 100.0))


def hyper_index(glucose_mgdl: ArrayLike, *, limit_mgdl: float = 140.0) -> _Floats:
    """Return the hyperglycaemia index, shape (...): power 1.1, over 30.

    References
    ----------
    Rodbard 2009, doi:10.1089/dia.2008.0132.
    """
    values = as_glucose_mgdl(glucose_mgdl)
    return _mean(np.maximum(values - limit_mgdl, 0.0) ** 1.1 / 30.0)


def hypo_index(glucose_mgdl: ArrayLike, *, limit_mgdl: float = 80.0) -> _Floats:
    """Return the hypoglycaemia index, shape (...): power 2, over 30; source as `hyper_index`."""
    values = as_glucose_mgdl(glucose_mgdl)
    return _mean(np.maximum(limit_mgdl - values, 0.0) ** 2 / 30.0)


def cgm_summary(glucose_mgdl: ArrayLike, *, times_ns: ArrayLike) -> CgmSummary:
    """Return the figures of the consensus for one recording.

    Parameters
    ----------
    glucose_mgdl, times_ns
        Readings, shape (n,), NaN where missing, and their UTC.

    Returns
    -------
    `days` is the time from the first to the last reading, `wear_percent` the readings over those there would be
    at the sensor's interval from the first to the last time, missing readings included. `sufficient` tells
    whether 14 days were worn for 70 % of the time.

    References
    ----------
    Battelino et al. 2019, doi:10.2337/dci19-0028, and 2023, doi:10.1016/S2213-8587(22)00319-9 (tight range 70
    to 140). Shares are of readings, not of time, as there.
    """
    values, times = as_readings(glucose_mgdl, times_ns=times_ns)
    step_min = step_of(times) if values.size > 1 else 5
    span_min = (times[-1] - times[0]) / _MINUTE_NS if values.size else 0.0
    given = as_times_ns(times_ns, name="times_ns")
    expected = round((given[-1] - given[0]) / _MINUTE_NS / step_min) + 1 if values.size else 0
    wear = min(100.0, 100.0 * values.size / expected) if values.size else float("nan")
    days = float(span_min / _DAY_MIN)
    return CgmSummary(
        n_readings=values.size,
        days=days,
        wear_percent=wear,
        mean_mgdl=float(mean_mgdl(values)),
        sd_mgdl=float(sd_mgdl(values)),
        cv_percent=float(cv_percent(values)),
        gmi_percent=float(gmi_percent(values)),
        very_low_percent=float(below_percent(values, limit_mgdl=54.0)),
        low_percent=float(below_percent(values)),
        in_range_percent=float(in_range_percent(values)),
        tight_range_percent=float(in_range_percent(values, high_mgdl=140.0)),
        high_percent=float(above_percent(values)),
        very_high_percent=float(above_percent(values, limit_mgdl=250.0)),
        sufficient=bool(values.size * step_min >= 14 * _DAY_MIN * LEAST_WEAR_PERCENT / 100.0),
    )


def nan_sd(values: _Floats) -> _Floats:
    """Return the standard deviation (n - 1) along the last axis of what is no NaN; NaN below two values."""
    n = np.isfinite(values).sum(axis=-1)
    rest = values - _mean(values)[..., np.newaxis]
    return np.asarray(np.sqrt(np.nansum(rest**2, axis=-1) / np.where(n > 1, n - 1, np.nan)))


def low_risk(values: _Floats) -> _Floats:
    """Return 10 f**2 of readings on the low side, else 0; see `lbgi`."""
    return np.asarray(10.0 * np.minimum(_risk_scale(values), 0.0) ** 2)


def high_risk(values: _Floats) -> _Floats:
    """Return 10 f**2 of readings on the high side, else 0; see `lbgi`."""
    return np.asarray(10.0 * np.maximum(_risk_scale(values), 0.0) ** 2)


def _risk_scale(values: _Floats) -> _Floats:
    scale = np.log(np.maximum(values, 1.0 + 1e-9))  # no reading is as low; keeps the second logarithm finite
    np.log(scale, out=scale)
    scale *= 1.084
    np.exp(scale, out=scale)  # to the power of 1.084, in a fifth of the time of a power
    scale -= 5.381
    scale *= 1.509
    return np.asarray(scale)


def _grade_scores(values: _Floats) -> _Floats:
    of_log = np.log10(np.maximum(values / MGDL_PER_MMOLL, 1.0 + 1e-9))
    return np.asarray(np.minimum(425.0 * (np.log10(of_log) + 0.16) ** 2, 50.0))


def _mean(values: _Floats) -> _Floats:
    n = np.isfinite(values).sum(axis=-1)
    return np.asarray(np.nansum(values, axis=-1) / np.where(n > 0, n, np.nan))


def _percent(chosen: NDArray[np.bool_], values: _Floats) -> _Floats:
    n = np.isfinite(values).sum(axis=-1)
    return np.asarray(100.0 * chosen.sum(axis=-1) / np.where(n > 0, n, np.nan))
