"""Sleep measures and epoch-by-epoch agreement: nights worked out by hand, properties, bad input."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from analysis.sleep import (
    DEEP,
    LIGHT,
    NOT_SCORED,
    REM,
    WAKE,
    align_hypnograms,
    error_matrix,
    group_mean,
    sleep_measures,
    sleep_wake_agreement,
    stage_agreement,
    stages_kappa,
)
from protocols.errors import SignalError

W, L, D, R, N = WAKE, LIGHT, DEEP, REM, NOT_SCORED
NIGHT = [W, W, L, L, D, W, D, R, L, W, W, R, W, W]
S_PER_NS = 1_000_000_000


def test_measures_of_a_night_worked_out_by_hand() -> None:
    of = sleep_measures(NIGHT)
    assert of.time_in_bed_min == 7.0
    assert of.total_sleep_min == 3.5
    assert of.efficiency_percent == 50.0
    assert of.onset_latency_min == 1.0
    assert of.wake_after_onset_min == 2.5  # the two last epochs too: awake in the morning, before lights on
    assert (of.light_min, of.deep_min, of.rem_min) == (1.5, 1.0, 1.0)


def test_measures_scale_with_the_epoch() -> None:
    short, long = sleep_measures(NIGHT, epoch_s=30.0), sleep_measures(NIGHT, epoch_s=60.0)
    for field in fields(short):
        factor = 1.0 if field.name == "efficiency_percent" else 2.0
        assert getattr(long, field.name) == factor * getattr(short, field.name)


def test_nights_of_one_kind() -> None:
    awake, asleep, nothing = sleep_measures([W] * 8), sleep_measures([L] * 8), sleep_measures([N] * 8)
    assert awake.total_sleep_min == awake.efficiency_percent == 0.0
    assert np.isnan([awake.onset_latency_min, awake.wake_after_onset_min]).all()
    assert asleep.efficiency_percent == 100.0
    assert asleep.onset_latency_min == asleep.wake_after_onset_min == 0.0
    for field in fields(nothing):
        assert np.isnan(getattr(nothing, field.name)), field.name
        assert np.isnan(getattr(sleep_measures([]), field.name)), field.name


def test_epochs_not_scored_are_in_no_duration_but_time_goes_on() -> None:
    of = sleep_measures([W, N, L, np.nan, W, L])
    assert of.time_in_bed_min == 2.0
    assert of.total_sleep_min == 1.0
    assert of.onset_latency_min == 1.0
    assert of.wake_after_onset_min == 0.5


def test_agreement_worked_out_by_hand() -> None:
    reference = [L, L, L, L, L, L, W, W, W, W]
    device = [L, L, D, R, L, W, W, W, L, L]
    of = sleep_wake_agreement(device, reference)
    assert of.sensitivity_percent == pytest.approx(500 / 6)
    assert of.specificity_percent == pytest.approx(50.0)
    assert of.accuracy_percent == pytest.approx(70.0)
    assert of.positive_predictivity_percent == pytest.approx(500 / 7)
    assert of.negative_predictivity_percent == pytest.approx(200 / 3)
    chance = 0.6 * 0.7 + 0.4 * 0.3
    assert of.kappa == pytest.approx((0.7 - chance) / (1 - chance))
    assert of.pabak == pytest.approx(0.4)
    of_light = stage_agreement(device, reference, stage=LIGHT)
    assert of_light.sensitivity_percent == pytest.approx(50.0)
    assert of_light.specificity_percent == pytest.approx(50.0)
    assert stage_agreement(device, reference, stage=WAKE).sensitivity_percent == of.specificity_percent


def test_error_matrix_has_the_reference_in_rows() -> None:
    matrix = error_matrix([W, L, L, R, N, D], [W, W, L, D, L, N])
    expected = np.zeros((4, 4), dtype=int)
    expected[W, W] = expected[W, L] = expected[L, L] = expected[D, R] = 1
    np.testing.assert_array_equal(matrix, expected)


def test_kappa_of_stages_is_that_of_a_published_table() -> None:
    # Cohen 1960, table 1, in percent of 200 judgements: kappa .429 as corrected for chance .41
    counts = np.array([[88, 10, 2], [14, 40, 6], [18, 10, 12]])
    reference = np.repeat(np.repeat([W, L, D], 3), counts.ravel())
    device = np.repeat(np.tile([W, L, D], 3), counts.ravel())
    observed, chance = 0.7, 0.41
    assert stages_kappa(device, reference) == pytest.approx((observed - chance) / (1 - chance))


def test_perfect_and_opposite_devices() -> None:
    assert stages_kappa(NIGHT, NIGHT) == 1.0
    of = sleep_wake_agreement(NIGHT, NIGHT)
    assert of.accuracy_percent == of.sensitivity_percent == of.specificity_percent == 100.0
    assert of.kappa == of.pabak == 1.0
    half = np.array([W, L] * 10)
    assert sleep_wake_agreement(1 - half, half).kappa == -1.0


def test_a_rate_without_epochs_is_nan() -> None:
    of = sleep_wake_agreement([L, L, W], [L, L, L])
    assert np.isnan(of.specificity_percent)
    assert of.sensitivity_percent == pytest.approx(200 / 3)
    assert np.isnan(stages_kappa([L, L], [L, L]))
    assert np.isnan(sleep_wake_agreement([N], [L]).accuracy_percent)


def test_subjects_in_rows_equal_subjects_one_by_one(rng: np.random.Generator) -> None:
    device, reference = rng.integers(-1, 4, (2, 3, 5, 200))
    device.flags.writeable = False
    batch, matrices = sleep_wake_agreement(device, reference), error_matrix(device, reference)
    nights = sleep_measures(np.asfortranarray(device))
    for index in np.ndindex(3, 5):
        one = sleep_wake_agreement(device[index], reference[index])
        for field in fields(one):
            assert getattr(batch, field.name)[index] == pytest.approx(float(getattr(one, field.name)))
        np.testing.assert_array_equal(matrices[index], error_matrix(device[index], reference[index]))
        assert nights.total_sleep_min[index] == sleep_measures(device[index]).total_sleep_min


def test_order_of_epochs_does_not_matter_to_agreement(rng: np.random.Generator) -> None:
    device, reference = rng.integers(0, 4, (2, 300))
    order = rng.permutation(300)
    assert stages_kappa(device[order], reference[order]) == pytest.approx(
        float(stages_kappa(device, reference))
    )
    # accuracy is symmetric, sensitivity of one is predictivity of the other
    there, back = sleep_wake_agreement(device, reference), sleep_wake_agreement(reference, device)
    assert there.sensitivity_percent == back.positive_predictivity_percent
    assert there.kappa == pytest.approx(float(back.kappa))


def test_longer_epochs_are_repeated_and_shorter_ones_thinned() -> None:
    device, reference = align_hypnograms(
        [W, L, D], [W, W, L, L, D, D], device_start_ns=0, reference_start_ns=0, device_epoch_s=60.0
    )
    np.testing.assert_array_equal(device, reference)
    device, _ = align_hypnograms(
        [W, L, L, D, D, R], [W, L, D], device_start_ns=0, reference_start_ns=0, device_epoch_s=10.0
    )
    np.testing.assert_array_equal(device, [L, D])  # middles at 15 and 45 s; 75 s is after its end


def test_offsets_are_taken_to_the_nearest_epoch_and_ends_cut() -> None:
    start_ns = 1_700_000_000 * S_PER_NS
    device, reference = align_hypnograms(
        [L, D, R], [W, W, L, D, R], device_start_ns=start_ns + 50 * S_PER_NS, reference_start_ns=start_ns
    )
    np.testing.assert_array_equal(device, [L, D, R])
    np.testing.assert_array_equal(reference, [L, D, R])
    apart, _ = align_hypnograms([L], [W], device_start_ns=start_ns, reference_start_ns=0)
    assert apart.size == 0


def test_group_mean_is_of_participants_not_of_epochs() -> None:
    estimate = group_mean([90.0, 80.0, 70.0, np.nan])
    assert estimate.value == 80.0
    assert estimate.n == 3
    half = 4.302652729911275 * 10.0 / np.sqrt(3)  # t of 2 degrees of freedom, 97.5 %
    assert (estimate.low, estimate.high) == pytest.approx((80.0 - half, 80.0 + half))
    assert estimate.details["sd"] == pytest.approx(10.0)
    assert estimate.details["participants_without_value"] == 1.0


def test_group_of_one_or_none_has_no_interval() -> None:
    assert group_mean([70.0]).low is None
    assert np.isnan(group_mean([np.nan, np.nan]).value)
    assert group_mean([]).n == 0


def test_interval_of_the_group_mean_covers_as_often_as_it_says(rng: np.random.Generator) -> None:
    intervals = [group_mean(rates) for rates in rng.normal(85.0, 6.0, (2000, 12))]
    covered = np.mean([e.low <= 85.0 <= e.high for e in intervals if e.low is not None and e.high is not None])
    assert covered == pytest.approx(0.95, abs=0.015)  # three standard errors of 2,000 trials


def test_misuse_is_named() -> None:
    for call, says in (
        (lambda: sleep_measures([0, 5]), "stages"),
        (lambda: sleep_measures([0.5]), "stages"),
        (lambda: sleep_measures(3), "time axis"),
        (lambda: sleep_measures(NIGHT, epoch_s=0.0), "epoch_s"),
        (lambda: error_matrix([0, 1], [0]), "expected equal"),
        (lambda: stage_agreement([0], [0], stage=4), "stage=4"),
        (lambda: align_hypnograms([0], [0], device_start_ns=0.0, reference_start_ns=0), "whole ns"),  # type: ignore[arg-type]
        (lambda: align_hypnograms([[0]], [0], device_start_ns=0, reference_start_ns=0), "expected"),
        (lambda: group_mean([1.0, 2.0], level=95.0), "level"),
        (lambda: group_mean([[1.0]]), "one dimension"),
    ):
        with pytest.raises(SignalError, match=says):
            call()
