"""Artefacts of RR series: each kind, put into real and synthetic series, is found, named and repaired."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import rr_artefacts
from analysis.hrv import rmssd_ms
from analysis.rr_artefacts import (
    ECTOPIC,
    EXTRA,
    KINDS,
    MISSED,
    NORMAL,
    as_rr_ms,
    bridged,
    classify_rr,
    correct_rr,
    malik_rule,
    physiological,
)
from protocols.errors import SignalError

Floats = NDArray[np.float64]
EVERY = 50  # beats between two artefacts: more than half of the window of 91, so that they share windows


@pytest.fixture
def tachogram(rng: np.random.Generator) -> Floats:
    """Breathing, slow waves and noise; no artefact."""
    beats = np.arange(2000)
    return 800.0 + 30 * np.sin(beats / 4.0) + 40 * np.sin(beats / 30.0) + rng.normal(0.0, 10.0, beats.size)


@pytest.fixture(scope="session")
def nn_ms(shared: Path) -> Floats:
    return np.loadtxt(shared / "oracles/hrv_nn_intervals.csv", skiprows=1)


def with_missed(rr_ms: Floats, at: NDArray[np.int64]) -> Floats:
    joined = rr_ms.copy()
    joined[at] += joined[at + 1]
    return np.delete(joined, at + 1)


def with_extra(rr_ms: Floats, at: NDArray[np.int64], share: float = 0.4) -> Floats:
    return np.insert(
        np.where(np.isin(np.arange(rr_ms.size), at), share * rr_ms, rr_ms), at + 1, (1 - share) * rr_ms[at]
    )


def with_ectopic(rr_ms: Floats, at: NDArray[np.int64]) -> Floats:
    moved = rr_ms.copy()
    moved[at] *= 0.6
    moved[at + 1] += rr_ms[at] * 0.4
    return moved


def test_clean_series_is_left_as_it_is(tachogram: Floats) -> None:
    corrected = correct_rr(tachogram)
    # the limits hold 99.95 % of normal differences and there are several tests of each
    assert corrected.corrected_share < 0.005
    untouched = ~corrected.was_corrected
    assert np.isin(corrected.rr_ms[untouched], tachogram).all()


def test_missed_beats_are_named_and_halved(tachogram: Floats) -> None:
    at = np.arange(60, 1900, EVERY)
    dirty = with_missed(tachogram, at)
    corrected = correct_rr(dirty)
    places = at - np.arange(at.size)
    assert (corrected.kinds[places] != NORMAL).all()
    # named by distance to the local median, which slow waves move: a rare one is merely "long"
    assert (corrected.kinds[places] == MISSED).mean() > 0.95
    assert corrected.rr_ms.size == dirty.size + corrected.counts["missed"]
    assert corrected.rr_ms.sum() == pytest.approx(tachogram.sum(), rel=1e-3)
    assert rmssd_ms(corrected.rr_ms) == pytest.approx(rmssd_ms(tachogram), rel=0.05)


def test_extra_beats_are_named_and_joined(tachogram: Floats) -> None:
    at = np.arange(60, 1900, EVERY)
    dirty = with_extra(tachogram, at)
    corrected = correct_rr(dirty)
    places = at + np.arange(at.size)
    assert (corrected.kinds[places] != NORMAL).all()
    assert (corrected.kinds[places] == EXTRA).mean() > 0.95  # as for missed beats; a rare one is merely "short"
    assert corrected.rr_ms.size == dirty.size - corrected.counts["extra"]
    # joining the parts restores the very intervals
    assert np.isin(np.round(tachogram[at], 6), np.round(corrected.rr_ms, 6)).mean() > 0.95
    assert rmssd_ms(corrected.rr_ms) == pytest.approx(rmssd_ms(tachogram), rel=0.05)


def test_ectopic_beats_are_named_and_bridged(tachogram: Floats) -> None:
    at = np.arange(60, 1900, EVERY)
    corrected = correct_rr(with_ectopic(tachogram, at))
    found = (corrected.kinds[at] == ECTOPIC) | (corrected.kinds[at + 1] == ECTOPIC)
    assert found.all()
    assert corrected.rr_ms.size == tachogram.size
    assert rmssd_ms(corrected.rr_ms) == pytest.approx(rmssd_ms(tachogram), rel=0.05)


@pytest.mark.shared_data
def test_artefacts_in_a_real_series_no_longer_rule_rmssd(nn_ms: Floats) -> None:
    at = np.arange(60, 900, EVERY)
    clean = float(rmssd_ms(nn_ms))
    for spoil in (with_missed, with_extra, with_ectopic):
        dirty = spoil(nn_ms, at)
        assert rmssd_ms(dirty) > 3.0 * clean
        assert rmssd_ms(correct_rr(dirty).rr_ms) == pytest.approx(clean, rel=0.05)


@pytest.mark.shared_data
def test_most_of_a_real_sinus_rhythm_is_normal(nn_ms: Floats) -> None:
    assert correct_rr(nn_ms).corrected_share < 0.02


def test_constant_rhythm_has_no_artefacts_and_a_single_gap_is_one() -> None:
    constant = np.full(300, 800.0)
    assert (classify_rr(constant) == NORMAL).all()
    constant[150] = 1600.0
    assert KINDS[classify_rr(constant)[150]] == "missed"
    repaired = correct_rr(constant).rr_ms
    np.testing.assert_array_equal(repaired, np.full(301, 800.0))


def test_blocks_do_not_show(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    series = 800.0 + 40 * rng.normal(size=3000) * np.repeat(rng.uniform(0.3, 2.0, 60), 50)
    series[rng.integers(0, series.size, 60)] *= 1.4
    at_once = classify_rr(series)  # shorter than a block
    monkeypatch.setattr(rr_artefacts, "_BLOCK_BEATS", 64)
    np.testing.assert_array_equal(classify_rr(series), at_once)


def test_rejected_beats_stay_rejected_and_are_never_called_artefacts(tachogram: Floats) -> None:
    tachogram[[10, 700, 701, 1999]] = np.nan
    corrected = correct_rr(tachogram)
    assert (corrected.kinds[[10, 700, 701, 1999]] == NORMAL).all()
    assert np.isnan(corrected.rr_ms).sum() == 4


def test_rows_are_classified_one_by_one_and_input_is_left_alone(tachogram: Floats) -> None:
    rows = np.stack([tachogram[:900], tachogram[900:1800]])
    rows[0, 100] *= 2.0
    rows.flags.writeable = False
    kinds = classify_rr(np.asfortranarray(rows))
    for row, expected in zip(rows, kinds, strict=True):
        np.testing.assert_array_equal(classify_rr(row), expected)
    assert kinds[0, 100] == MISSED


def test_physiological_limits_are_inclusive() -> None:
    np.testing.assert_array_equal(
        physiological([299.9, 300.0, 2000.0, 2000.1, np.nan]), [np.nan, 300.0, 2000.0, np.nan, np.nan]
    )


def test_malik_rule_compares_with_the_interval_before() -> None:
    np.testing.assert_array_equal(malik_rule([800, 960, 961, 700, 850]), [800, 960, 961, np.nan, np.nan])
    assert np.isnan(malik_rule([800, 961])[1])
    np.testing.assert_array_equal(malik_rule([np.nan, 961.0]), [np.nan, 961.0])


def test_gaps_are_bridged_by_lines_and_ends_repeated() -> None:
    np.testing.assert_allclose(
        bridged([np.nan, 700.0, np.nan, np.nan, 1000.0, np.nan]), [700, 700, 800, 900, 1000, 1000]
    )
    assert np.isnan(bridged([np.nan, np.nan])).all()


@pytest.mark.parametrize("short", [[], [800.0], [800.0, 810.0], [np.nan] * 50])
def test_too_little_is_all_normal(short: list[float]) -> None:
    corrected = correct_rr(short)
    assert (corrected.kinds == NORMAL).all()
    np.testing.assert_array_equal(corrected.rr_ms, short)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (800.0, "time axis"),
        ([0.8, 0.9], "ms"),
        ([800.0, 0.0], "ms"),
        ([800.0, 90_000.0], "ms"),
        ([800.0, np.inf], "infinite"),
        (["800"], "dtype"),
    ],
)
def test_what_is_no_interval_in_ms_is_named(bad: object, says: str) -> None:
    with pytest.raises(SignalError, match=says):
        as_rr_ms(bad)  # type: ignore[arg-type]


def test_correction_takes_one_series_only() -> None:
    with pytest.raises(SignalError, match="one series"):
        correct_rr(np.full((2, 9), 800.0))
