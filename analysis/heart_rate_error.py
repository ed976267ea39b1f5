"""Error of heart rates that two sides take from their beats of one record, as ANSI/AAMI EC57 reports it.

Both rates are those of whole windows of 10 s, by the same rule (`heart_rate.heart_rate_per_min`, mean of the
intervals), so that the error is that of the beats and not of a way to average. Differences are divided by the
record's mean reference rate, so that records of slow and of fast hearts weigh alike.

Source: the normalised root mean square error of EC57 as `mxm` of the WFDB software package prints it; the
clause was not read. Differs from it in windows of equal length, where `mxm` takes the times of given
measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive
from analysis.beat_matching import LEARNING_S, NEVER, as_indices
from analysis.heart_rate import heart_rate_per_min
from analysis.intervals import as_intervals, union

WINDOW_S: Final = 10.0
"""Monitors state averages of some 10 s; EC57 leaves the window to the device."""


@dataclass(frozen=True, slots=True, eq=False)
class HeartRateErrors:
    """Heart rates of the windows of one record in which the reference has one.

    Parameters
    ----------
    reference_per_min, test_per_min
        Shape (n_windows,); the test's is NaN where it has none.
    """

    reference_per_min: NDArray[np.float64]
    test_per_min: NDArray[np.float64]

    @property
    def n_windows(self) -> int:
        """Windows with a reference."""
        return int(self.reference_per_min.size)

    @property
    def normalised_percent(self) -> NDArray[np.float64]:
        """Test minus reference in percent of the mean reference, of the windows that have both."""
        both = np.isfinite(self.test_per_min)
        if not both.any():
            return np.empty(0)
        differences = self.test_per_min[both] - self.reference_per_min[both]
        return np.asarray(100.0 * differences / self.reference_per_min[both].mean())

    @property
    def rms_percent(self) -> float:
        """Root mean square of the normalised errors; NaN without any."""
        errors = self.normalised_percent
        return float(np.sqrt(np.mean(errors**2))) if errors.size else float("nan")


def compare_heart_rates(
    reference: ArrayLike,
    test: ArrayLike,
    *,
    rate_hz: float,
    n_samples: int,
    learning_s: float = LEARNING_S,
    excluded: ArrayLike = (),
    test_silent: ArrayLike = (),
) -> HeartRateErrors:
    """Return the heart rates of one record by its reference and by its test beats.

    Parameters
    ----------
    reference, test
        Sample indices of beats, ascending, shapes (n_reference,) and (n_test,).
    rate_hz, n_samples
        Samples per second of both, and length of the record.
    learning_s
        Time from sample 0 that is left out; 0 for none.
    excluded
        Half-open `[start, end)` sample indices without a heart rate, such as ventricular fibrillation, shape
        (n, 2): windows that hold any of it are left out.
    test_silent
        Likewise, where the test's side had no samples or too poor ones: its windows that hold any have no rate.

    Raises
    ------
    SignalError
        If indices are not ascending integers within the record or a parameter is out of range.
    """
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    start = min(round(learning_s * rate_hz), n_samples)
    beats = [as_indices(samples, name=name) for samples, name in ((reference, "reference"), (test, "test"))]
    if n_samples - start < WINDOW_S * rate_hz:
        return HeartRateErrors(np.empty(0), np.empty(0))
    of_reference, of_test = (
        heart_rate_per_min(
            np.unique(samples[samples >= start] - start), rate_hz=rate_hz, n_samples=n_samples - start
        )
        for samples in beats
    )
    windows = of_reference.intervals + start
    usable = np.isfinite(of_reference.per_min) & ~_touched(windows, excluded, name="excluded")
    silent = _touched(windows, test_silent, name="test_silent")
    test_per_min = np.where(silent, np.nan, of_test.per_min)
    return HeartRateErrors(of_reference.per_min[usable], test_per_min[usable])


def _touched(windows: NDArray[np.int64], intervals: ArrayLike, *, name: str) -> NDArray[np.bool_]:
    """Return which windows hold any of the intervals, shape (n_windows,)."""
    merged = union(as_intervals(intervals, name=name))
    if merged.size == 0:
        return np.zeros(len(windows), dtype=bool)
    next_one = np.searchsorted(merged[:, 1], windows[:, 0], side="right")  # the first that ends after the start
    starts = np.append(merged[:, 0], NEVER)
    return np.asarray(starts[next_one] < windows[:, 1])
