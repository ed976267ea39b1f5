"""Rates of change of glucose at given moments."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.glucose_rates import rates_at_mgdl_per_min
from protocols.errors import SignalError

MINUTE_NS = 60_000_000_000
START_NS = 1_790_000_000_000_000_000


def at(minutes: object) -> np.ndarray:
    return START_NS + np.round(np.asarray(minutes, dtype=np.float64) * MINUTE_NS).astype(np.int64)


@pytest.mark.parametrize("step_min", [1.0, 5.0, 14.5])
def test_a_steady_fall_has_its_rate_at_any_interval_of_readings(step_min: float) -> None:
    times = np.arange(0.0, 120.0, step_min)
    rates = rates_at_mgdl_per_min(300.0 - 2.5 * times, times_ns=at(times), at_ns=at(times[-3:]))
    assert rates == pytest.approx(-2.5)


def test_the_rate_is_of_the_time_before_and_not_after() -> None:
    times = np.arange(0.0, 61.0, 5.0)
    values = np.where(times <= 30.0, 100.0, 100.0 + 3.0 * (times - 30.0))
    rates = rates_at_mgdl_per_min(values, times_ns=at(times), at_ns=at([30.0, 60.0, 31.0]))
    assert rates == pytest.approx([0.0, 3.0, 0.0], abs=1e-9)


def test_level_shift_and_order_of_moments_do_not_matter_and_scale_scales() -> None:
    rng = np.random.default_rng(4)
    times = np.arange(0.0, 300.0, 5.0)
    values, moments = rng.uniform(80, 200, times.size), at(times[[40, 7, 20, 59]])
    rates = rates_at_mgdl_per_min(values, times_ns=at(times), at_ns=moments)
    assert rates_at_mgdl_per_min(values + 30, times_ns=at(times), at_ns=moments) == pytest.approx(rates)
    assert rates_at_mgdl_per_min(values * 2, times_ns=at(times), at_ns=moments) == pytest.approx(2 * rates)
    alone = [rates_at_mgdl_per_min(values, times_ns=at(times), at_ns=moments[[k]])[0] for k in range(4)]
    assert rates.tolist() == alone


def test_too_few_too_short_or_too_old_readings_give_nan() -> None:
    times = np.array([0.0, 1.0, 2.0, 60.0, 71.0])
    moments = [-1.0, 0.0, 2.0, 60.0, 71.0, 76.0, 77.0]
    rates = rates_at_mgdl_per_min(np.full(5, 100.0), times_ns=at(times), at_ns=at(moments))
    # nothing before, one reading, 2 min, one reading, 11 min, the last reading 5 min ago, 6 min ago
    assert np.isnan(rates).tolist() == [True, True, True, True, False, False, True]
    assert np.isnan(rates_at_mgdl_per_min([], times_ns=[], at_ns=at([0.0]))).all()
    assert rates_at_mgdl_per_min([100.0, 101.0], times_ns=at([0, 15]), at_ns=at([])).size == 0


def test_missing_readings_are_left_out() -> None:
    times = np.arange(0.0, 31.0, 5.0)
    values = 100.0 + times
    values[[4, 5]] = np.nan
    assert rates_at_mgdl_per_min(values, times_ns=at(times), at_ns=at([30.0])) == pytest.approx([1.0])


def test_what_is_no_glucose_or_no_moment_is_refused() -> None:
    with pytest.raises(SignalError, match="expected mg/dL above 0"):
        rates_at_mgdl_per_min([-5.0, 100.0], times_ns=at([0, 15]), at_ns=at([15]))
    with pytest.raises(SignalError, match="at_ns of shape"):
        rates_at_mgdl_per_min([90.0, 100.0], times_ns=at([0, 15]), at_ns=at([[15]]))
    with pytest.raises(SignalError, match="over_min"):
        rates_at_mgdl_per_min([90.0, 100.0], times_ns=at([0, 15]), at_ns=at([15]), over_min=0.0)
