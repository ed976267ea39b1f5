"""Figures of forced expirations with known answers, and the grades of sessions."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.spirometry import Expiration, fev1_l, fvc_l, grade_spirometry, measure_expiration
from protocols.errors import SignalError

FVC_L, TAU_S, RATE_HZ = 4.0, 0.6, 1000.0


def exponential(*, rate_hz: float = RATE_HZ, lasts_s: float = 8.0, pause_s: float = 0.5) -> NDArray[np.float64]:
    """Flow that falls exponentially from its first moment, after a pause: volume is FVC (1 - exp(-t / tau))."""
    times_s = np.arange(0, lasts_s, 1 / rate_hz)
    return np.concatenate([np.zeros(round(pause_s * rate_hz)), FVC_L / TAU_S * np.exp(-times_s / TAU_S)])


def slow_start(*, rise_s: float) -> NDArray[np.float64]:
    """Flow that rises linearly to 8 L/s and falls exponentially, tau 0.5 s."""
    times_s = np.arange(0, 8, 1 / RATE_HZ)
    falling = 8.0 * np.exp(-(times_s - rise_s) / 0.5)
    return np.where(times_s < rise_s, 8.0 * times_s / rise_s, falling)


def test_an_exponential_expiration_has_its_analytic_figures() -> None:
    expiration = measure_expiration(exponential(), rate_hz=RATE_HZ)
    # the pause ends between two samples and the integral is by trapezia: half a sample of peak flow, 3.3 mL
    off = FVC_L / TAU_S / RATE_HZ
    assert expiration.fvc_l == pytest.approx(FVC_L, abs=off)
    assert expiration.fev1_l == pytest.approx(FVC_L * (1 - np.exp(-1 / TAU_S)), abs=off)
    assert expiration.fev075_l == pytest.approx(FVC_L * (1 - np.exp(-0.75 / TAU_S)), abs=off)
    assert expiration.fev6_l == pytest.approx(FVC_L * (1 - np.exp(-6 / TAU_S)), abs=off)
    assert expiration.pef_lps == pytest.approx(FVC_L / TAU_S)
    assert expiration.fef2575_lps == pytest.approx(0.5 * FVC_L / (TAU_S * np.log(3)), rel=0.005)
    assert expiration.fef75_lps == pytest.approx(0.25 * FVC_L / TAU_S, rel=0.005)
    assert expiration.extrapolated_l <= off
    assert expiration.time_zero_s == pytest.approx(0.5, abs=1 / RATE_HZ)
    assert expiration.starts_well
    assert expiration.ends_well()


@pytest.mark.parametrize("rise_s", [0.05, 0.1, 0.2])
def test_a_slow_start_moves_time_zero_back_from_the_peak(rise_s: float) -> None:
    expiration = measure_expiration(slow_start(rise_s=rise_s), rate_hz=RATE_HZ)
    # at the peak 4 rise_s L are out; the tangent meets no volume half the rise before, when rise_s L are out
    assert expiration.time_zero_s == pytest.approx(rise_s / 2, abs=0.002)
    assert expiration.extrapolated_l == pytest.approx(rise_s, abs=0.02)
    assert expiration.rise_s == pytest.approx(0.8 * rise_s, abs=0.003)
    fvc = 4 * rise_s + 8 * 0.5
    assert expiration.starts_well == (rise_s <= max(0.05 * fvc, 0.1))


@pytest.mark.parametrize("rate_hz", [100.0, 125.0, 200.0, 500.0])
def test_figures_do_not_depend_on_the_rate(rate_hz: float) -> None:
    fine, coarse = (measure_expiration(exponential(rate_hz=r), rate_hz=r) for r in (RATE_HZ, rate_hz))
    # half a sample of peak flow, as above
    assert coarse.fev1_l == pytest.approx(fine.fev1_l, abs=FVC_L / TAU_S / rate_hz)
    assert coarse.fvc_l == pytest.approx(fine.fvc_l, abs=FVC_L / TAU_S / rate_hz)


def test_inspiration_before_and_after_is_left_out() -> None:
    flow = np.concatenate([np.full(500, -1.0), exponential(), np.full(2000, -3.0)])
    alone, among = measure_expiration(exponential(), rate_hz=RATE_HZ), measure_expiration(flow, rate_hz=RATE_HZ)
    assert among.fvc_l == pytest.approx(alone.fvc_l, abs=1e-9)
    assert among.fev1_l == pytest.approx(alone.fev1_l, abs=1e-9)


def test_a_recording_of_several_manoeuvres_has_the_largest_and_never_their_sum() -> None:
    one = np.concatenate([np.full(1000, -4.0), exponential(pause_s=1.5)])
    for several in ([one, 0.9 * one, 0.95 * one], [exponential(pause_s=1.5), 0.9 * exponential(pause_s=1.5)]):
        flow = np.concatenate([*several, np.zeros(1500)])
        assert fev1_l(flow, rate_hz=RATE_HZ) == pytest.approx(FVC_L * (1 - np.exp(-1 / TAU_S)), abs=0.03)
        assert fvc_l(flow, rate_hz=RATE_HZ) == pytest.approx(FVC_L, abs=0.03)  # the trapezoids' part


def test_noise_and_spikes_are_no_expiration(rng: np.random.Generator) -> None:
    spikes = np.where(np.arange(1400) % 2, 1.0, -1.0)
    for flow in (spikes, rng.normal(size=8000), rng.normal(size=80_000)):
        assert np.isnan(fev1_l(flow, rate_hz=100.0))
        assert np.isnan(measure_expiration(flow, rate_hz=100.0).fvc_l)


def test_a_triangle_worked_by_hand() -> None:
    # flow rises to 10 L/s in 0.1 s and falls to 0 in 0.9 s more: out are 0.5 and 4.5 L; FVC 5 L
    flow = np.concatenate([np.linspace(0, 10, 101), np.linspace(10, 0, 901)[1:], np.zeros(2000)])
    found = measure_expiration(flow, rate_hz=1000.0)
    assert found.fvc_l == pytest.approx(5.0)
    assert found.time_zero_s == pytest.approx(0.05)  # 0.1 s less 0.5 L at 10 L/s
    assert found.extrapolated_l == pytest.approx(0.125)  # half of 0.05 s times 5 L/s
    assert found.starts_well  # 5 % of 5 L are 0.25 L
    assert found.fev075_l == pytest.approx(
        5.0 - 0.5 * 0.2 * 10 / 4.5
    )  # at 0.8 s: 0.2 s of 10 / 0.9 L/s² are left
    assert found.rise_s == pytest.approx(0.08)
    # 25 % (75 %) are out where 3.75 (1.25) L of the falling 4.5 L are left: at the roots of their shares
    t25_s, t75_s = (1.0 - 0.9 * np.sqrt(left / 4.5) for left in (3.75, 1.25))
    assert found.fef2575_lps == pytest.approx(2.5 / (t75_s - t25_s), rel=1e-4)
    assert found.fef75_lps == pytest.approx(10 * np.sqrt(1.25 / 4.5), rel=1e-3)
    assert found.last_second_l == 0.0  # two seconds without flow follow
    assert np.isnan(found.fivc_l)
    assert np.isnan(found.fev6_l)


@pytest.mark.parametrize(("inspired_l", "filled"), [(3.0, True), (4.19, True), (4.3, False)])
def test_a_larger_inspiration_afterwards_says_that_the_lungs_were_not_full(
    inspired_l: float, filled: bool
) -> None:
    flow = np.concatenate([exponential(), np.full(1000, -inspired_l)])  # 5 % of 4 L are 0.2 L
    found = measure_expiration(flow, rate_hz=RATE_HZ)
    assert found.fivc_l == pytest.approx(inspired_l, abs=0.01)  # a sample of it
    assert found.filled_lungs == filled
    assert np.isfinite(fev1_l(flow, rate_hz=RATE_HZ)) == filled
    assert np.isfinite(fvc_l(flow, rate_hz=RATE_HZ)) == filled
    assert grade_spirometry([found], age_years=40).fev1 == ("E" if filled else "F")


def test_a_plateau_counts_where_flow_ceases_and_inspiration_ends_it() -> None:
    cut = exponential(lasts_s=1.2)  # 0.5 L are still to come
    stopped = np.concatenate([cut, np.zeros(1500)])
    assert measure_expiration(stopped, rate_hz=RATE_HZ).last_second_l == 0.0
    drawn = np.concatenate([cut, np.full(1500, -3.0)])
    assert measure_expiration(drawn, rate_hz=RATE_HZ).last_second_l > 0.5


def test_a_cut_expiration_has_no_fvc_and_a_shorter_one_no_fev1() -> None:
    cut = exponential(lasts_s=1.4)
    assert np.isnan(fvc_l(cut, rate_hz=RATE_HZ))
    assert fev1_l(cut, rate_hz=RATE_HZ) == pytest.approx(fev1_l(exponential(), rate_hz=RATE_HZ), abs=1e-6)
    assert np.isnan(measure_expiration(exponential(lasts_s=0.8), rate_hz=RATE_HZ).fev1_l)


def manoeuvre(fvc: float, fev1: float, *, complete: bool = True, good_start: bool = True) -> Expiration:
    known = measure_expiration(exponential(), rate_hz=RATE_HZ)
    return replace(
        known,
        fvc_l=fvc,
        fev1_l=fev1,
        last_second_l=0.01 if complete else 0.2,
        expiratory_s=6.0,
        extrapolated_l=0.05 if good_start else 0.4,
    )


@pytest.mark.parametrize(
    ("fvcs", "age_years", "grade"),
    [
        ([4.0, 3.9, 3.85], 40, "A"),
        ([4.0, 3.9], 40, "B"),
        ([4.0, 3.81, 3.5], 40, "C"),
        ([4.0, 3.76], 40, "D"),
        ([4.0, 3.7, 3.7], 40, "E"),
        ([4.0], 40, "E"),
        ([], 40, "F"),
        ([1.0, 0.91, 0.8], 5, "A"),
        ([1.0, 0.86], 5, "C"),
        ([1.8, 1.63, 1.5], 5, "A"),
        ([1.8, 1.63, 1.5], 7, "C"),
    ],
)
def test_grades_follow_the_two_best_values(fvcs: list[float], age_years: float, grade: str) -> None:
    assert grade_spirometry([manoeuvre(fvc, 0.8 * fvc) for fvc in fvcs], age_years=age_years).fvc == grade


def test_values_that_are_only_usable_have_grade_u_and_a_bad_start_is_worth_nothing() -> None:
    incomplete = [manoeuvre(3.0, 2.5, complete=False)]
    assert grade_spirometry(incomplete, age_years=40).fvc == "U"
    assert grade_spirometry(incomplete, age_years=40).fev1 == "E"
    false_start = [manoeuvre(4.0, 3.0, good_start=False)]
    assert (
        grade_spirometry(false_start, age_years=40).fvc,
        grade_spirometry(false_start, age_years=40).fev1,
    ) == (
        "F",
        "F",
    )


def test_an_incomplete_expiration_that_repeats_the_largest_fvc_is_accepted() -> None:
    grades = grade_spirometry([manoeuvre(4.0, 3.0), manoeuvre(3.9, 3.0, complete=False)], age_years=40)
    assert (grades.fvc, grades.fvc_difference_l) == ("B", pytest.approx(0.1))


def test_what_the_operator_refuses_does_not_count() -> None:
    session = [manoeuvre(4.0, 3.0), manoeuvre(4.6, 3.5)]
    assert grade_spirometry(session, age_years=40, usable=[True, False]).fvc_l == 4.0


@pytest.mark.parametrize(
    ("flow", "rate_hz", "says"),
    [
        (np.ones((2, 10)), 100.0, "shape"),
        (np.ones(100), 20.0, "rate_hz=20.0"),
        (np.array([np.inf, 1.0]), 100.0, "infinite"),
    ],
)
def test_misuse_is_named(flow, rate_hz: float, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SignalError, match=says):
        measure_expiration(flow, rate_hz=rate_hz)


@pytest.mark.parametrize(
    "flow",
    [np.zeros(1000), np.full(1000, -1.0), [], [1.0], np.full(1000, np.nan), np.array([0, 1, np.nan, 1.0])],
)
def test_a_flow_without_expiration_or_with_a_gap_has_no_figures(flow: NDArray[np.float64]) -> None:
    found = measure_expiration(flow, rate_hz=100.0)
    assert np.isnan([found.fvc_l, found.fev1_l, found.pef_lps, found.extrapolated_l]).all()
    assert np.isnan([fev1_l(flow, rate_hz=100.0), fvc_l(flow, rate_hz=100.0)]).all()
    assert (found.starts_well, found.ends_well()) == (False, False)
    assert grade_spirometry([found], age_years=40).fev1 == "F"


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_types_and_layout_do_not_matter(dtype: type) -> None:
    whole = np.rint(exponential())
    frozen = whole.astype(dtype)
    frozen.flags.writeable = False
    found, expected = (astuple(measure_expiration(flow, rate_hz=RATE_HZ)) for flow in (frozen, whole))
    np.testing.assert_array_equal(found, expected)


def test_opinions_and_age_are_checked() -> None:
    with pytest.raises(SignalError, match="1 opinions on 0 manoeuvres"):
        grade_spirometry([], age_years=40, usable=[True])
    with pytest.raises(SignalError, match="age_years=0"):
        grade_spirometry([], age_years=0)
