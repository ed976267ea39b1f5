"""Heart rate meters by their tolerance, wearables by both weightings of the percentage error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.heart_rate_study import STUDY, tolerance_per_min
from analysis.paired_study import PairedStudy
from protocols.clinical.criteria import Statistics

STATISTICS = Statistics(bootstrap_replicates=2000, seed=5, band_edges=(30, 60, 100, 150, 200))


def study(reference: list[float], test: list[float], subjects: list[str] | None = None) -> PairedStudy:
    pairs = PairedStudy.of_pairs("heart_rate", "S", "a", range(len(test)), reference, test)
    return pairs if subjects is None else replace(pairs, subjects=np.array(subjects))


def figure(name: str, pairs: PairedStudy):  # type: ignore[no-untyped-def]
    return STUDY.metrics[name].function(pairs, STATISTICS)


def test_the_tolerance_is_the_larger_of_a_share_and_a_number() -> None:
    assert tolerance_per_min(np.array([30.0, 50.0, 60.0, 200.0])).tolist() == [5.0, 5.0, 6.0, 20.0]


def test_a_reading_at_the_tolerance_is_within_it_and_one_beyond_is_not() -> None:
    exact = study([30.0, 70.0, 70.0, 200.0], [35.0, 77.0, 63.0, 180.0])
    assert figure("heart_rate_within_tolerance", exact).value == 100.0
    beyond = study([30.0, 70.0, 70.0, 200.0], [35.1, 77.1, 62.9, 179.0])
    assert figure("heart_rate_within_tolerance", beyond).value == 0.0


def test_bands_are_told_apart_and_rates_out_of_range_left_out() -> None:
    pairs = study([40.0, 80.0, 80.0, 250.0], [40.0, 80.0, 99.0, 100.0])
    found = figure("heart_rate_within_tolerance", pairs)
    assert found.value == pytest.approx(100 * 2 / 3)
    assert found.details == {"within_from_30_to_60_percent": 100.0, "within_from_60_to_100_percent": 50.0}


def test_the_largest_error_is_named_with_its_pair() -> None:
    found = figure("heart_rate_largest_error", study([60.0, 100.0], [62.0, 91.0]))
    assert (found.value, found.details) == (9.0, {"reference": 100.0, "test": 91.0})


def test_participants_and_pairs_weigh_differently() -> None:
    reference, test = [100.0] * 10, [110.0] * 9 + [120.0]
    pairs = study(reference, test, ["S-1"] * 9 + ["S-2"])
    assert figure("heart_rate_mape", pairs).value == pytest.approx(11.0)
    found = figure("heart_rate_participant_mape", pairs)
    assert found.value == pytest.approx(15.0)
    assert found.low is not None
    assert found.high is not None
    assert 0.0 < found.low < 10.0  # two participants tell less than their own range
    assert found.high > 20.0
    assert found.n == 2


def test_what_the_participants_did_is_told_apart() -> None:
    pairs = study([100.0] * 4, [101.0, 102.0, 110.0, 130.0], ["S-1", "S-2", "S-1", "S-2"])
    labelled = replace(pairs, labels={"condition": np.array(["rest", "rest", "cycling", "cycling"])})
    assert figure("heart_rate_participant_mape", labelled).details == pytest.approx(
        {"cycling_percent": 20.0, "rest_percent": 1.5}
    )


def test_the_order_of_subjects_does_not_matter(rng: np.random.Generator) -> None:
    reference, test = rng.uniform(60, 150, 60), rng.uniform(60, 150, 60)
    subjects = np.repeat([f"S-{k}" for k in range(6)], 10)
    pairs = study(reference.tolist(), test.tolist(), subjects.tolist())
    order = rng.permutation(60)
    shuffled = replace(
        pairs,
        reference=pairs.reference[order],
        test=pairs.test[order],
        subjects=pairs.subjects[order],
        times_ns=pairs.times_ns[order],
    )
    for name in ("heart_rate_participant_mape", "heart_rate_within_tolerance", "heart_rate_largest_error"):
        assert figure(name, shuffled).value == pytest.approx(figure(name, pairs).value)


@pytest.mark.parametrize("name", STUDY.metrics)
def test_without_a_usable_pair_there_is_no_value(name: str) -> None:
    for nothing in (STUDY.nothing, study([np.nan, 80.0, 5.0], [80.0, np.nan, 80.0])):
        value = figure(name, nothing).value
        assert np.isnan(value) or name == "heart_rate_read_rate"
