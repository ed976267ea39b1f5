"""Band powers of RR series: test patterns of EC57, waves of known power, and where there is no answer."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.hrv_frequency import BandPowers, lomb_scargle_bands, welch_bands
from protocols.errors import SignalError

Floats = NDArray[np.float64]
Bands = Callable[[Floats], BandPowers]
BOTH = pytest.mark.parametrize("bands", [welch_bands, lomb_scargle_bands])


def tachogram(waves: dict[float, float], *, duration_s: float, mean_ms: float = 800.0) -> Floats:
    """Return intervals that follow sines of given frequency in Hz and amplitude in ms."""
    frequencies, amplitudes = np.array(list(waves)), np.array(list(waves.values()))
    now_s, rr_ms = 0.0, []
    while now_s < duration_s:  # each beat sets the time of the next
        rr_ms.append(mean_ms + float(amplitudes @ np.sin(2 * np.pi * frequencies * now_s)))
        now_s += 1e-3 * rr_ms[-1]
    return np.array(rr_ms)


def ec57_pattern_ms(shared: Path, name: str) -> Floats:
    with gzip.open(shared / f"data/hrv/ec57_tp/HRV256_{name}.txt.gz", "rt") as file:
        return 1000.0 * np.loadtxt(file, delimiter=",")[:, 1]


@pytest.mark.shared_data
@BOTH
def test_ec57_pattern_2_has_its_power_in_hf(shared: Path, bands: Bands) -> None:
    of = bands(ec57_pattern_ms(shared, "TP2"))
    # EC57 table A.10: 612.5 ms2, a wave of 35 ms at 0.25 Hz; a spline through five beats a wave loses 1 %
    assert of.hf_ms2 == pytest.approx(612.5, rel=0.015)
    assert of.lf_ms2 < 0.1
    assert of.vlf_ms2 < 0.1
    assert of.ulf_ms2 < 0.1
    assert of.hf_nu > 99.99


@pytest.mark.shared_data
@BOTH
def test_ec57_pattern_4_has_its_power_in_vlf(shared: Path, bands: Bands) -> None:
    of = bands(ec57_pattern_ms(shared, "TP4"))
    # EC57 table A.10: 39,200 ms2, a wave of 280 ms at 1/30 Hz
    assert of.vlf_ms2 == pytest.approx(39_200.0, rel=0.005)
    # an interval is put at the beat that ends it, the pattern at the one that begins it: a harmonic of 0.4 %
    assert of.lf_ms2 < 0.005 * 39_200
    assert of.ulf_ms2 < 1.0


@BOTH
def test_waves_have_their_power_in_their_band(bands: Bands) -> None:
    waves = {0.02: 50.0, 0.1: 40.0, 0.25: 20.0}
    of = bands(tachogram(waves, duration_s=3600.0))
    # half the squared amplitude; waves on uneven beats mix by some percent
    assert of.vlf_ms2 == pytest.approx(1250.0, rel=0.03)
    assert of.lf_ms2 == pytest.approx(800.0, rel=0.05)
    assert of.hf_ms2 == pytest.approx(200.0, rel=0.05)
    assert of.lf_hf == pytest.approx(4.0, rel=0.1)
    assert of.lf_nu + of.hf_nu == pytest.approx(100.0)
    assert np.isnan(of.ulf_ms2)
    assert of.total_ms2 == pytest.approx(2250.0, rel=0.03)


@pytest.fixture(scope="module")
def day_ms() -> Floats:
    return tachogram({1 / 86_400: 150.0, 0.1: 40.0, 0.25: 30.0}, duration_s=86_400.0)


@BOTH
def test_slow_change_of_rate_over_a_day_does_not_leak_into_lf_and_hf(day_ms: Floats, bands: Bands) -> None:
    of = bands(day_ms)
    assert of.lf_ms2 == pytest.approx(800.0, rel=0.02)
    assert of.hf_ms2 == pytest.approx(450.0, rel=0.02)
    assert of.vlf_ms2 < 20.0
    # a straight line takes away part of one slow wave, here the 6 / pi**2 of a whole sine
    assert of.ulf_ms2 == pytest.approx(11_250 * (1 - 6 / np.pi**2), rel=0.1)


@BOTH
def test_five_minutes_give_what_an_hour_gives(bands: Bands) -> None:
    waves = {0.1: 30.0, 0.3: 25.0}
    hour, short = bands(tachogram(waves, duration_s=3600.0)), bands(tachogram(waves, duration_s=301.0))
    assert short.lf_ms2 == pytest.approx(float(hour.lf_ms2), rel=0.02)
    assert short.hf_ms2 == pytest.approx(float(hour.hf_ms2), rel=0.02)


@BOTH
def test_power_goes_with_the_square_of_the_variation_and_not_with_direction_of_time(bands: Bands) -> None:
    rr_ms = tachogram({0.1: 4.0, 0.25: 3.0}, duration_s=600.0)
    stronger, backwards = bands(2.0 * rr_ms - 800.0), bands(rr_ms[::-1])
    # beats move with their intervals, so only small waves scale
    assert stronger.lf_ms2 == pytest.approx(4.0 * float(bands(rr_ms).lf_ms2), rel=0.02)
    assert stronger.hf_ms2 == pytest.approx(4.0 * float(bands(rr_ms).hf_ms2), rel=0.02)
    assert backwards.lf_ms2 == pytest.approx(float(bands(rr_ms).lf_ms2), rel=0.02)


@BOTH
def test_some_rejected_beats_hardly_matter_and_many_give_nan(rng: np.random.Generator, bands: Bands) -> None:
    rr_ms = tachogram({0.1: 40.0, 0.25: 20.0}, duration_s=600.0)
    expected = bands(rr_ms)
    rr_ms[rng.choice(rr_ms.size, rr_ms.size // 50, replace=False)] = np.nan
    few = bands(rr_ms)
    assert few.lf_ms2 == pytest.approx(float(expected.lf_ms2), rel=0.1)
    assert few.hf_ms2 == pytest.approx(float(expected.hf_ms2), rel=0.15)
    rr_ms[rng.choice(rr_ms.size, rr_ms.size // 3, replace=False)] = np.nan
    many = bands(rr_ms)
    assert np.isnan([many.vlf_ms2, many.lf_ms2, many.hf_ms2]).all()


@BOTH
def test_a_gap_costs_its_windows_only(bands: Bands) -> None:
    rr_ms = tachogram({0.1: 40.0, 0.25: 20.0}, duration_s=3600.0)
    expected = float(bands(rr_ms).lf_ms2)
    rr_ms[1000:1300] = np.nan
    assert bands(rr_ms).lf_ms2 == pytest.approx(expected, rel=0.03)


@BOTH
@pytest.mark.parametrize(
    ("duration_s", "known"),
    [(50.0, set()), (70.0, {"hf"}), (130.0, {"hf", "lf"}), (310.0, {"hf", "lf", "vlf"})],
)
def test_bands_need_their_time(bands: Bands, duration_s: float, known: set[str]) -> None:
    of = bands(tachogram({0.1: 40.0, 0.25: 20.0}, duration_s=duration_s))
    found = {name for name in ("ulf", "vlf", "lf", "hf") if np.isfinite(getattr(of, f"{name}_ms2"))}
    assert found == known


@BOTH
def test_batch_equals_row_by_row(rng: np.random.Generator, bands: Bands) -> None:
    rows = 800.0 + 50.0 * rng.normal(size=(2, 2, 900))
    rows[0, 1, 30:40] = np.nan
    rows.flags.writeable = False
    batch = bands(np.asfortranarray(rows))
    for index in np.ndindex(2, 2):
        for name in ("vlf_ms2", "lf_ms2", "hf_ms2", "total_ms2", "lf_hf"):
            assert getattr(batch, name)[index] == pytest.approx(float(getattr(bands(rows[index]), name)))


@BOTH
@pytest.mark.parametrize("rr_ms", [np.empty(0), np.full(900, np.nan), np.full(3, 800.0)])
def test_nothing_gives_nan(bands: Bands, rr_ms: Floats) -> None:
    of = bands(rr_ms)
    assert np.isnan([of.ulf_ms2, of.vlf_ms2, of.lf_ms2, of.hf_ms2, of.total_ms2, of.lf_nu, of.lf_hf]).all()


@BOTH
def test_constant_rhythm_has_no_power(bands: Bands) -> None:
    assert bands(np.full(1000, 800.0)).total_ms2 == pytest.approx(0.0, abs=1e-9)


def test_lomb_ends_where_beats_are_too_slow_for_hf() -> None:
    # at 40 beats/min nothing above 1/3 Hz can be told from its mirror image
    of = lomb_scargle_bands(tachogram({0.25: 30.0}, duration_s=600.0, mean_ms=1500.0))
    assert of.hf_ms2 == pytest.approx(450.0, rel=0.05)
    assert np.isnan(lomb_scargle_bands(np.full(300, 4000.0)).hf_ms2)  # 15 beats/min


@BOTH
def test_seconds_are_named(bands: Bands) -> None:
    with pytest.raises(SignalError, match="expected intervals in ms"):
        bands(np.full(500, 0.8))
