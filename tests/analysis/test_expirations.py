"""Forced expirations in a recording of flow: found whatever else is breathed, and measured as if alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.expirations import find_expirations
from analysis.spirometry import measure_expiration
from protocols.errors import SignalError

RATE_HZ = 100.0
Flow = NDArray[np.float64]


def tidal(*, lasts_s: float, rate_hz: float = RATE_HZ) -> Flow:
    """Quiet breathing of half a litre, 15 a minute, that starts and ends between two breaths."""
    times_s = np.arange(0, lasts_s, 1 / rate_hz)
    return -0.4 * np.sin(2 * np.pi * 0.25 * times_s)


def forced(fvc_l: float = 4.0, *, tau_s: float = 0.6, lasts_s: float = 8.0, rate_hz: float = RATE_HZ) -> Flow:
    """A forced expiration that rises to its peak in 60 ms and falls exponentially."""
    times_s = np.arange(0, lasts_s, 1 / rate_hz)
    rise_s = 0.06
    shape = np.where(times_s < rise_s, times_s / rise_s, np.exp(-(times_s - rise_s) / tau_s))
    return fvc_l * shape / (shape.sum() / rate_hz)


def breath_in(volume_l: float, *, lasts_s: float = 1.5, rate_hz: float = RATE_HZ) -> Flow:
    n = round(lasts_s * rate_hz)
    shape = np.sin(np.pi * np.arange(n) / n)
    return -volume_l * shape / (shape.sum() / rate_hz)


def session(volumes_l: list[float], *, rate_hz: float = RATE_HZ) -> Flow:
    """Manoeuvres with quiet breathing before, between and after, each from full lungs and back to them."""
    parts = [tidal(lasts_s=8.0, rate_hz=rate_hz)]
    for fvc_l in volumes_l:
        parts += [
            breath_in(0.7 * fvc_l, rate_hz=rate_hz),
            forced(fvc_l, rate_hz=rate_hz),
            breath_in(fvc_l, rate_hz=rate_hz),
            0.25 * forced(2.8 * fvc_l, lasts_s=3.0, tau_s=1.0, rate_hz=rate_hz),  # and out again, at leisure
            tidal(lasts_s=12.0, rate_hz=rate_hz),
        ]
    return np.concatenate(parts)


def volumes(flow: Flow, *, rate_hz: float = RATE_HZ) -> list[float]:
    return [
        measure_expiration(flow[start:end], rate_hz=rate_hz).fvc_l
        for start, end in find_expirations(flow, rate_hz=rate_hz)
    ]


@pytest.mark.parametrize("rate_hz", [50.0, 100.0, 250.0])
def test_each_manoeuvre_among_quiet_breathing_has_its_volume(rate_hz: float) -> None:
    told = [4.0, 4.1, 3.7]
    found = volumes(session(told, rate_hz=rate_hz), rate_hz=rate_hz)
    assert found == pytest.approx(told, abs=0.03)  # the first and last sample of an integral by trapezia


def test_the_inspiration_after_belongs_to_the_manoeuvre() -> None:
    flow = session([4.0, 4.0])
    for start, end in find_expirations(flow, rate_hz=RATE_HZ):
        found = measure_expiration(flow[start:end], rate_hz=RATE_HZ)
        assert found.fivc_l == pytest.approx(4.0, abs=0.03)
        assert found.filled_lungs
        assert found.starts_well


def test_noise_and_offset_of_a_sensor_change_little(rng: np.random.Generator) -> None:
    told = [4.0, 4.1, 3.7]
    flow = session(told)
    flow = np.concatenate([np.zeros(3000), flow, np.zeros(6000)])
    noisy = flow + rng.normal(0, 0.02, flow.size) + 0.005
    # 8 s of expiration at 5 mL/s of offset, and the sum of the noise
    assert volumes(noisy) == pytest.approx(told, abs=0.07)


def test_manoeuvres_without_any_inspiration_are_parted_by_the_pause() -> None:
    pause = np.zeros(round(20 * RATE_HZ))
    flow = np.concatenate([pause, forced(3.0), pause, forced(3.1), pause])
    found = find_expirations(flow, rate_hz=RATE_HZ)
    assert volumes(flow) == pytest.approx([3.0, 3.1], abs=0.02)
    for start, end in found:
        assert measure_expiration(flow[start:end], rate_hz=RATE_HZ).ends_well()
        assert (end - start) / RATE_HZ < 8  # no 20 s of pause, whose offset would count as air


def test_an_inspiration_ends_where_nobody_breathes_any_more() -> None:
    pause = np.zeros(round(20 * RATE_HZ))
    flow = np.concatenate([breath_in(4.0), forced(4.0), breath_in(4.0), pause] * 2)
    for start, end in find_expirations(flow, rate_hz=RATE_HZ):
        found = measure_expiration(flow[start:end], rate_hz=RATE_HZ)
        assert found.fivc_l == pytest.approx(4.0, abs=0.03)  # and not that before the second manoeuvre as well


def test_a_cough_is_no_second_manoeuvre() -> None:
    flow = forced(4.0, tau_s=0.8)
    cough = flow.copy()
    cough[30:36] = 0.0
    cough[36:60] += 3.0
    assert len(find_expirations(cough, rate_hz=RATE_HZ)) == len(find_expirations(flow, rate_hz=RATE_HZ)) == 1


def test_an_effort_below_half_of_the_best_is_none() -> None:
    flow = np.concatenate([forced(4.0), breath_in(4.0), 0.4 * forced(4.0), breath_in(1.6), forced(4.0)])
    assert len(find_expirations(flow, rate_hz=RATE_HZ)) == 2


def test_quiet_breathing_and_silence_hold_no_manoeuvre() -> None:
    assert find_expirations(tidal(lasts_s=60.0), rate_hz=RATE_HZ) == []
    assert find_expirations(np.zeros(1000), rate_hz=RATE_HZ) == []
    assert find_expirations([], rate_hz=RATE_HZ) == []
    assert find_expirations(np.full(1000, np.nan), rate_hz=RATE_HZ) == []


def test_a_gap_within_a_manoeuvre_leaves_it_without_values() -> None:
    flow = session([4.0, 4.1])
    first, second = find_expirations(flow, rate_hz=RATE_HZ)
    flow[first[0] + 200 : first[0] + 230] = np.nan
    found = volumes(flow)
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(4.1, abs=0.03)
    assert find_expirations(flow, rate_hz=RATE_HZ)[1] == second


def test_the_flow_is_not_altered_and_any_layout_serves() -> None:
    flow = session([4.0])
    kept = flow.copy()
    flow.setflags(write=False)
    assert find_expirations(flow[::-1][::-1], rate_hz=RATE_HZ) == find_expirations(kept, rate_hz=RATE_HZ)
    assert (flow == kept).all()
    milli = np.rint(flow * 1000).astype(np.int32)
    assert len(find_expirations(milli // 1000, rate_hz=RATE_HZ)) == 1


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="rate_hz"):
        find_expirations(forced(), rate_hz=0.0)
    with pytest.raises(SignalError, match=r"rate_hz=1\.0, expected at least 2\.0 Hz"):
        find_expirations(forced(), rate_hz=1.0)
    with pytest.raises(SignalError, match="flow_lps"):
        find_expirations(np.zeros((2, 10)), rate_hz=RATE_HZ)
    with pytest.raises(SignalError, match="flow_lps"):
        find_expirations([0.0, np.inf], rate_hz=RATE_HZ)
