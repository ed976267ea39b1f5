"""Figures of one recording of a glucose sensor: one number each, NaN where it was worn too little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis import glucose
from analysis.glucose_grid import as_readings
from protocols.errors import SignalError

_LEAST_DAYS: Final = 1.0 - 1.0 / 24.0  # a day less the interval of any sensor: parts of a day differ

_LEAST_MEDIAN_MGDL: Final = 36.0  # 2 mmol/L: nobody lives with half of a day below; in mmol/L every day is

_Floats: TypeAlias = NDArray[np.float64]


def recording_figure(figure: Callable[[_Floats], ArrayLike]) -> Callable[..., float]:
    """Return a function of a recording's readings, `(glucose_mgdl, *, times_ns) -> float`.

    It is `figure` of the readings that are there, NaN where the sensor was active for less than 70 % of the
    time from the first to the last time given, or if its readings span less than a day. It raises `SignalError`
    where half of the readings are below 36: those are mmol/L.
    """

    def of_recording(glucose_mgdl: ArrayLike, *, times_ns: ArrayLike) -> float:
        values, _ = as_readings(glucose_mgdl, times_ns=times_ns)
        if values.size and np.median(values) < _LEAST_MEDIAN_MGDL:
            raise SignalError(f"glucose_mgdl of median {np.median(values):.3g}, expected mg/dL, not mmol/L")
        summary = glucose.cgm_summary(glucose_mgdl, times_ns=times_ns)
        enough = summary.wear_percent >= glucose.LEAST_WEAR_PERCENT and summary.days >= _LEAST_DAYS
        return float(np.asarray(figure(values))) if enough else float("nan")

    return of_recording


recording_mean_mgdl = recording_figure(glucose.mean_mgdl)
recording_cv_percent = recording_figure(glucose.cv_percent)
recording_gmi_percent = recording_figure(glucose.gmi_percent)
recording_in_range_percent = recording_figure(glucose.in_range_percent)
recording_below_70_percent = recording_figure(glucose.below_percent)
recording_below_54_percent = recording_figure(lambda values: glucose.below_percent(values, limit_mgdl=54.0))
recording_above_180_percent = recording_figure(glucose.above_percent)
recording_above_250_percent = recording_figure(lambda values: glucose.above_percent(values, limit_mgdl=250.0))
recording_lbgi = recording_figure(glucose.lbgi)
recording_hbgi = recording_figure(glucose.hbgi)


def recording_wear_percent(glucose_mgdl: ArrayLike, *, times_ns: ArrayLike) -> float:
    """Return the percentage of time a recording's sensor was active; NaN without readings."""
    return glucose.cgm_summary(glucose_mgdl, times_ns=times_ns).wear_percent
