"""Studies of pairs: what decides, what is excluded and listed, and what the sample is like."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from analysis.paired_study import (
    PLAUSIBLE,
    Excluded,
    PairedStudy,
    paired_facts,
    read_rate_percent,
    subject_facts,
    usable,
)
from protocols.clinical.criteria import Statistics
from protocols.errors import SignalError

NAN = float("nan")
FEW = Statistics(bootstrap_replicates=200, seed=4)


def study(reference, test, subject="S-1", quantity="heart_rate", session="a") -> PairedStudy:  # type: ignore[no-untyped-def]
    return PairedStudy.of_pairs(quantity, subject, session, np.arange(len(reference)), reference, test)


def test_what_cannot_decide_is_listed_with_its_moment_and_first_reason() -> None:
    pairs = study([70, NAN, 5, 190, 80, 80], [71, 70, 70, 80, NAN, 500])
    left = usable(pairs, low=30, high=180)
    assert left.reference.tolist() == [70.0]
    assert left.excluded == (
        Excluded("S-1", "a", 1, "heart_rate", "the reference has no value"),
        Excluded("S-1", "a", 2, "heart_rate", "the reference is impossible"),
        Excluded("S-1", "a", 3, "heart_rate", "the reference is out of the protocol's range"),
        Excluded("S-1", "a", 4, "heart_rate", "the device showed no value"),
        Excluded("S-1", "a", 5, "heart_rate", "the device's value is impossible"),
    )


def test_nothing_is_lost_between_pairs_and_exclusions(rng: np.random.Generator) -> None:
    values = rng.choice([NAN, 0.0, 60.0, 70.0, 400.0], size=(2, 500))
    pairs = study(values[0], values[1])
    left = usable(pairs)
    assert left.n_pairs + len(left.excluded) == pairs.n_pairs
    assert {e.time_ns for e in left.excluded}.isdisjoint(left.times_ns.tolist())


def test_a_pair_that_is_there_twice_counts_once_and_is_named() -> None:
    twice = PairedStudy.gather([study([70, 71], [70, 70]), study([70, 71], [70, 70])])
    left = usable(twice)
    assert left.n_pairs == 2
    assert Counter(e.reason for e in left.excluded) == {"the pair is there twice": 2}
    other_session = PairedStudy.gather([study([70], [70]), study([70], [70], session="b")])
    assert usable(other_session).n_pairs == 2


def test_pairs_that_contradict_each_other_decide_nothing_in_whatever_order() -> None:
    rows = PairedStudy.gather([study([70, 80], [71, 80]), study([70], [75]), study([70], [71])])
    for order in ([0, 1, 2, 3], [2, 3, 1, 0]):
        shuffled = replace(
            rows,
            **{
                n: getattr(rows, n)[order]
                for n in ("quantities", "subjects", "sessions", "times_ns", "reference", "test")
            },
        )
        left = usable(shuffled)
        assert left.reference.tolist() == [80.0]
        assert Counter(e.reason for e in left.excluded) == {"the pair is there twice with other values": 3}


def test_the_read_rate_counts_moments_with_a_usable_reference() -> None:
    pairs = study([70, 70, 70, 70, NAN], [70, NAN, 71, 500, NAN])
    assert read_rate_percent(pairs, Statistics()) == 75.0
    assert np.isnan(read_rate_percent(study([NAN], [70]), Statistics()))


def test_parts_keep_what_they_know_of_each_pair() -> None:
    with_lot = replace(study([70], [71]), labels={"lot": np.array(["A"])}, columns={"change": np.array([2.0])})
    joined = PairedStudy.gather([study([60], [61], subject="S-2"), with_lot])
    assert joined.labels["lot"].tolist() == ["", "A"]
    assert np.isnan(joined.columns["change"][0])
    assert joined.columns["change"][1] == 2.0
    chosen = joined.chosen(joined.subjects == "S-1")
    assert (chosen.labels["lot"].tolist(), chosen.n_subjects) == (["A"], 1)


def test_quantities_are_told_apart() -> None:
    both = PairedStudy.gather([study([120], [121], quantity="sbp"), study([80], [79], quantity="dbp")])
    assert both.of("dbp").differences.tolist() == [-1.0]


def test_the_sample_is_described() -> None:
    facts = {"S-1": {"sex": "female", "age_years": 30.0}, "S-2": {"sex": "male", "age_years": 52.0}}
    pairs = PairedStudy.gather([study([70, 80, NAN], [71, 80, 70]), study([95], [94], subject="S-2")], facts)
    described = paired_facts(pairs, "heart_rate", replace(FEW, band_edges=(60.0, 90.0, 100.0)))
    assert described["subjects"] == described["sexes"] == 2
    assert described["pairs"] == 3
    assert described["excluded"] == 1
    assert (described["fewest_pairs_per_subject"], described["most_pairs_per_subject"]) == (1, 2)
    assert described["smallest_band_share_percent"] == pytest.approx(100 / 3)
    assert described["smaller_sex_share_percent"] == 50.0
    assert (described["age_span_years"], described["youngest_years"]) == (22.0, 30.0)


def test_a_fact_that_is_not_known_of_every_subject_is_not_known() -> None:
    pairs = PairedStudy.gather(
        [study([70], [71]), study([70], [71], subject="S-2")], {"S-1": {"sex": "female"}, "S-2": {}}
    )
    assert subject_facts(pairs) == {}


def test_a_study_without_pairs_has_zeros_and_no_spread() -> None:
    facts = paired_facts(PairedStudy.empty(), "heart_rate", Statistics(band_edges=(0.0, 1.0)))
    assert facts["subjects"] == facts["pairs"] == 0
    assert np.isnan(facts["read_rate_percent"])
    assert "smallest_band_share_percent" not in facts


def test_columns_of_unequal_length_and_infinite_values_are_refused() -> None:
    with pytest.raises(SignalError, match="expected one shape"):
        replace(study([70], [71]), test=np.zeros(2))
    with pytest.raises(SignalError, match="test holds infinite values"):
        study([70], [np.inf])


def test_every_plausible_range_is_one() -> None:
    assert all(low < high and unit for low, high, unit in PLAUSIBLE.values())
