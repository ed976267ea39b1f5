"""Beat-by-beat comparison against a second implementation, a published count, and its own invariants."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.detection import BeatComparison, average, compare_beats, gross, read_annotations
from protocols.errors import SignalError

FAR = 10**9

beats = st.lists(st.integers(0, 400), max_size=14, unique=True).map(sorted)


def walked(reference: list[int], test: list[int], window: int, start: int) -> tuple[int, list[int], list[int]]:
    """Count as the standard's comparator does: one walk over everything, two beats of each kind in sight."""
    reference = [*(beat for beat in reference if beat >= start), FAR, FAR]
    learnt = [beat for beat in test if beat < start]
    test = [*(beat for beat in test if beat >= start), FAR, FAR]
    matched, missed, extra = 0, [], []
    if start:
        first = reference[0]
        if learnt and first - learnt[-1] <= window and first - learnt[-1] < abs(first - test[0]):
            matched += 1
            reference.pop(0)
        elif test[0] - start <= window and abs(first - test[1]) < abs(first - test[0]):
            test.pop(0)
    reference.append(FAR)
    test.append(FAR)
    while reference[0] < FAR or test[0] < FAR:
        ref, next_ref, tst, next_tst = reference[0], reference[1], test[0], test[1]
        better_later = abs(next_ref - next_tst)
        rival = abs(ref - next_tst) if tst < ref else abs(tst - next_ref)
        if abs(tst - ref) <= window and (abs(tst - ref) < rival or better_later < rival):
            matched += 1
            reference.pop(0)
            test.pop(0)
        elif tst < ref:
            extra.append(test.pop(0))
        else:
            missed.append(reference.pop(0))
        reference.append(FAR)
        test.append(FAR)
    return matched, missed, extra


@given(beats, beats, st.integers(1, 60), st.integers(0, 150))
def test_counts_equal_a_plain_walk_over_all_beats(
    reference: list[int], test: list[int], window: int, start: int
) -> None:
    if not any(beat >= start for beat in reference):
        return
    found = compare_beats(reference, test, rate_hz=1.0, window_s=window, learning_s=start)
    assert (found.true_positives, found.missed.tolist(), found.extra.tolist()) == walked(
        reference, test, window, start
    )


@given(beats, beats, st.integers(1, 60))
def test_every_beat_is_counted_once_and_no_pair_is_wider_than_the_window(
    reference: list[int], test: list[int], window: int
) -> None:
    found = compare_beats(reference, test, rate_hz=1.0, window_s=window, learning_s=0)
    assert found.true_positives + found.false_negatives == len(reference)
    assert found.true_positives + found.false_positives == len(test)
    assert (np.abs(found.offsets_s) <= window).all()


@given(beats, beats, st.integers(1, 60), st.integers(0, 10_000))
def test_a_common_shift_changes_nothing(reference: list[int], test: list[int], window: int, shift: int) -> None:
    here = compare_beats(reference, test, rate_hz=1.0, window_s=window, learning_s=0)
    there = compare_beats(
        np.array(reference, dtype=int) + shift,
        np.array(test, dtype=int) + shift,
        rate_hz=1.0,
        window_s=window,
        learning_s=0,
    )
    assert np.array_equal(here.offsets_s, there.offsets_s)
    assert np.array_equal(here.missed + shift, there.missed)
    assert np.array_equal(here.extra + shift, there.extra)


@given(beats, beats, st.integers(1, 60))
def test_exchanging_reference_and_test_exchanges_missed_and_extra(
    reference: list[int], test: list[int], window: int
) -> None:
    # At equal times the reference goes first, so the exchange holds where no two times are equal.
    reference, test = [2 * beat for beat in reference], [2 * beat + 1 for beat in test]
    there = compare_beats(reference, test, rate_hz=1.0, window_s=window, learning_s=0)
    back = compare_beats(test, reference, rate_hz=1.0, window_s=window, learning_s=0)
    assert there.true_positives == back.true_positives
    assert np.array_equal(there.missed, back.extra)
    assert np.array_equal(there.extra, back.missed)


@pytest.mark.parametrize(("rate_hz", "last_inside"), [(360.0, 54), (250.0, 37), (200.0, 30), (128.0, 19)])
def test_the_window_of_150_ms_is_inclusive(rate_hz: float, last_inside: int) -> None:
    assert compare_beats([1000], [1000 + last_inside], rate_hz=rate_hz, learning_s=0).true_positives == 1
    assert compare_beats([1000], [1000 - last_inside], rate_hz=rate_hz, learning_s=0).true_positives == 1
    assert compare_beats([1000], [1001 + last_inside], rate_hz=rate_hz, learning_s=0).true_positives == 0


def test_crowded_beats_pair_in_time_order_as_the_comparator_documents() -> None:
    # The example in the comparator's own comment of 2002: both pairs must be found.
    found = compare_beats([96, 160], [128, 185], rate_hz=250.0, window_s=0.148, learning_s=0)
    assert (found.true_positives, found.false_negatives, found.false_positives) == (2, 0, 0)
    assert (found.offsets_s * 250.0).tolist() == pytest.approx([32, 25])


def test_the_window_is_inclusive_among_crowded_beats_too() -> None:
    # 54 samples to either side: neither is better, so the later one, which has no rival, is the partner.
    found = compare_beats([100], [46, 154], rate_hz=360.0, learning_s=0)
    assert (found.true_positives, found.extra.tolist()) == (1, [46])


def test_learning_time_is_left_out_but_its_last_test_beat_may_match() -> None:
    start = 300 * 360
    found = compare_beats([start - 400, start + 10], [start - 400, start - 20], rate_hz=360.0)
    assert (found.true_positives, found.false_negatives, found.false_positives) == (1, 0, 0)
    assert found.offsets_s[0] == pytest.approx(-30 / 360)


def test_a_test_beat_just_after_learning_that_belongs_to_a_learnt_beat_is_not_extra() -> None:
    start = 300 * 360
    found = compare_beats([start - 5, start + 300], [start + 5, start + 301], rate_hz=360.0)
    assert (found.true_positives, found.false_negatives, found.false_positives) == (1, 0, 0)


def test_with_no_reference_beat_after_learning_every_test_beat_is_extra() -> None:
    start = 300 * 360
    found = compare_beats([100], [start + 5, start + 400], rate_hz=360.0)
    assert (found.true_positives, found.false_negatives, found.false_positives) == (0, 0, 2)


@pytest.mark.shared_data
def test_first_minute_of_record_100_has_74_beats(shared: Path) -> None:
    with (shared / "oracles/mitdb_100s_reference_beats.csv").open() as file:
        rows = list(csv.DictReader(file))
    reference = read_annotations([int(r["sample_360hz"]) for r in rows], [r["symbol"] for r in rows])
    found = compare_beats(reference.samples, reference.samples, rate_hz=360.0, learning_s=0)
    assert (found.true_positives, found.false_negatives, found.false_positives) == (74, 0, 0)
    assert set(reference.classes.tolist()) == {"N", "S"}


def test_rhythm_noise_and_comment_marks_are_no_beats() -> None:
    found = read_annotations(range(9), ["+", "N", "~", "A", '"', "V", "|", "F", "x"])
    assert found.samples.tolist() == [1, 3, 5, 7]
    assert found.classes.tolist() == ["N", "S", "V", "F"]
    assert not found.paced
    assert read_annotations([5], ["/"]).paced


def test_detections_in_flutter_are_not_counted_but_may_match_a_beat_outside() -> None:
    reference = read_annotations([100, 1000, 1050, 1100, 2000, 2010, 3000], ["N", "[", "!", "V", "]", "N", "N"])
    assert reference.samples.tolist() == [100, 2010, 3000]
    assert reference.flutter.tolist() == [[1000, 2001]]
    found = compare_beats(
        reference.samples,
        [100, 999, 1000, 1500, 1990, 2600],
        rate_hz=360.0,
        learning_s=0,
        flutter=reference.flutter,
    )
    assert (found.true_positives, found.missed.tolist(), found.extra.tolist()) == (2, [3000], [999, 2600])


def test_flutter_that_never_ends_lasts_to_the_end() -> None:
    reference = read_annotations([100, 1000, 5000], ["N", "[", "V"])
    found = compare_beats(
        reference.samples, [100, 10**7], rate_hz=360.0, learning_s=0, flutter=reference.flutter
    )
    assert (found.true_positives, found.false_negatives, found.false_positives) == (1, 0, 0)


def comparison(matched: int, missed: int, extra: int) -> BeatComparison:
    return BeatComparison(np.zeros(matched), np.arange(missed), np.arange(extra))


def test_gross_pools_beats_and_average_pools_records() -> None:
    results = [comparison(90, 10, 0), comparison(300, 0, 100)]
    assert gross(results).sensitivity_percent == pytest.approx(100 * 390 / 400)
    assert gross(results).positive_predictivity_percent == pytest.approx(100 * 390 / 490)
    assert average(results).sensitivity_percent == pytest.approx(95.0)
    assert average(results).positive_predictivity_percent == pytest.approx(87.5)


def test_a_record_without_beats_is_undefined_and_left_out_of_the_average() -> None:
    empty = compare_beats([], [], rate_hz=360.0)
    assert np.isnan(empty.sensitivity_percent)
    assert np.isnan(empty.median_offset_s)
    assert np.isnan(gross([]).sensitivity_percent)
    assert average([empty, comparison(9, 1, 0)]).sensitivity_percent == pytest.approx(90.0)


def test_offset_and_jitter_describe_the_matched_pairs() -> None:
    found = compare_beats([100, 500, 900], [110, 520, 930], rate_hz=1000.0, learning_s=0)
    assert found.median_offset_s == pytest.approx(0.020)
    assert found.jitter_s == pytest.approx(0.010)


@pytest.mark.parametrize(
    ("reference", "test", "options", "says"),
    [
        ([3, 1], [1], {}, "reference"),
        ([1], [3, 1], {}, "test"),
        ([1.5], [1], {}, "float64"),
        ([[1]], [1], {}, "shape"),
        ([1], [1], {"rate_hz": 0.0}, "rate_hz=0.0"),
        ([1], [1], {"window_s": -1.0}, "window_s=-1.0"),
        ([1], [1], {"learning_s": -1.0}, "learning_s=-1.0"),
    ],
)
def test_misuse_is_named(reference, test, options, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SignalError, match=says):
        compare_beats(reference, test, **({"rate_hz": 360.0} | options))


def test_annotations_need_a_symbol_each() -> None:
    with pytest.raises(SignalError, match="1 symbols for 2 samples"):
        read_annotations([1, 2], ["N"])
