"""Studies of nights: what is compared, how limits follow the reference, and what takes no part."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.agreement import bland_altman
from analysis.agreement_trend import agreement_trend
from analysis.estimates import Estimate
from analysis.sleep import LIGHT, NOT_SCORED, WAKE
from analysis.sleep_study import SLEEP, Night, SleepStudy, measures_of
from protocols.clinical.criteria import Statistics
from protocols.errors import SignalError

STATISTICS = Statistics()
Stages = NDArray[np.int8]


def figure(study: SleepStudy, name: str) -> Estimate:
    return SLEEP.metrics[name].function(study, STATISTICS)


def asleep(n_asleep: int, n: int = 960) -> Stages:
    """A night with so many epochs of light sleep, then awake."""
    return np.where(np.arange(n) < n_asleep, LIGHT, WAKE).astype(np.int8)


def nights(reference_epochs: list[int], test_epochs: list[int]) -> list[Night]:
    return [
        Night(f"S-{number}", "study", asleep(one), asleep(other), 30.0)
        for number, (one, other) in enumerate(zip(reference_epochs, test_epochs, strict=True))
    ]


def at_random(rng: np.random.Generator, n: int = 6) -> list[Night]:
    references = [rng.integers(0, 4, 300).astype(np.int8) for _ in range(n)]
    return [
        Night(
            f"S-{k}",
            "s",
            r,
            np.where(rng.random(r.size) < 0.7, r, rng.integers(0, 4, r.size)).astype(np.int8),
            30.0,
        )
        for k, r in enumerate(references)
    ]


def test_bias_and_limits_without_trend_are_those_of_bland_and_altman() -> None:
    reference = [800, 810, 790, 830, 820, 805, 795, 815]
    test = [805, 806, 800, 828, 829, 801, 797, 816]
    study = SleepStudy.of_nights(nights(reference, test))
    expected = bland_altman(np.array(test) / 2, np.array(reference) / 2)
    bias, lower = (figure(study, f"sleep_duration_{name}") for name in ("bias", "lower_limit_of_agreement"))
    assert bias.value == pytest.approx(float(expected.bias))
    assert (bias.low, bias.high) == pytest.approx(tuple(map(float, expected.bias_interval)))
    assert lower.value == pytest.approx(float(expected.lower))
    assert (lower.low, lower.high) == pytest.approx(tuple(map(float, expected.lower_interval)))


def test_limits_follow_the_reference_where_the_bias_does() -> None:
    reference = list(range(600, 900, 20))
    test = [
        round(700 + 0.5 * (one - 700)) + (-1) ** k for k, one in enumerate(reference)
    ]  # regresses to its mean
    study = SleepStudy.of_nights(nights(reference, test))
    slope = figure(study, "sleep_duration_bias_slope")
    assert slope.value == pytest.approx(-0.5, abs=0.01)
    assert slope.high is not None
    assert slope.high < 0
    trend = agreement_trend(np.array(test) / 2, np.array(reference) / 2, size="reference")
    at = [np.mean(reference) / 2, min(reference) / 2, max(reference) / 2]
    lower, upper = trend.limits_at(at, constant_spread=True)
    for name, expected in (("lower", lower), ("upper", upper)):
        limit = figure(study, f"sleep_duration_{name}_limit_of_agreement")
        assert limit.value == pytest.approx(expected[0])
        assert limit.details["at_smallest_reference"] == pytest.approx(expected[1])
        assert limit.details["at_largest_reference"] == pytest.approx(expected[2])
        assert limit.low is None
    assert figure(study, "sleep_duration_bias").details["slope_on_reference"] == pytest.approx(slope.value)


def test_limits_open_where_the_spread_grows() -> None:
    reference = [400 + 20 * k for k in range(25)]
    test = [one + (-1) ** k * (k + 1) for k, one in enumerate(reference)]
    study = SleepStudy.of_nights(nights(reference, test))
    spread = figure(study, "sleep_duration_spread_slope")
    assert spread.low is not None
    assert spread.low > 0
    details = figure(study, "sleep_duration_upper_limit_of_agreement").details
    assert details["at_largest_reference"] > 5 * details["at_smallest_reference"] > 0


def test_exchanging_device_and_reference_turns_bias_and_rates_round(rng: np.random.Generator) -> None:
    there = at_random(rng)
    back = [Night(n.subject, n.session, n.test, n.reference, n.epoch_s) for n in there]
    one, other = SleepStudy.of_nights(there), SleepStudy.of_nights(back)
    for quantity in ("sleep_duration", "wake_after_sleep_onset", "rem_sleep"):
        bias = figure(one, f"{quantity}_bias").value
        assert bias == pytest.approx(-figure(other, f"{quantity}_bias").value)
    assert figure(one, "deep_epoch_sensitivity").value == pytest.approx(
        figure(other, "deep_epoch_positive_predictivity").value
    )
    assert figure(one, "stages_epoch_kappa").value == pytest.approx(figure(other, "stages_epoch_kappa").value)


def test_the_order_of_subjects_is_of_no_effect(rng: np.random.Generator) -> None:
    there = at_random(rng)
    forth, back = SleepStudy.of_nights(there), SleepStudy.of_nights(there[::-1])
    for name in SLEEP.metrics:
        one, other = figure(forth, name), figure(back, name)
        assert one.value == pytest.approx(other.value, nan_ok=True)
        assert one.low == pytest.approx(other.low)


def test_a_subjects_nights_make_one_rate_and_several_pairs(rng: np.random.Generator) -> None:
    there = at_random(rng)
    twice = [*there, *(Night(n.subject, "second", n.reference, n.test, n.epoch_s) for n in there)]
    once, both = SleepStudy.of_nights(there), SleepStudy.of_nights(twice)
    assert figure(both, "sleep_epoch_kappa").n == 6
    assert figure(both, "sleep_epoch_kappa").value == pytest.approx(figure(once, "sleep_epoch_kappa").value)
    bias = figure(both, "sleep_duration_bias")
    assert bias.n == 12
    assert "several nights" in bias.method
    assert SLEEP.design_facts(both, STATISTICS)["nights"] == 12


def test_epochs_that_one_did_not_score_count_for_neither() -> None:
    reference, test = asleep(600), asleep(600)
    test[100:200] = NOT_SCORED
    pairs = measures_of([Night("S-1", "s", reference, test, 30.0)]).of("sleep_duration")
    assert pairs.reference.tolist() == pairs.test.tolist() == [250.0]


def test_a_night_without_sleep_has_no_latency_and_is_listed() -> None:
    study = SleepStudy.of_nights(nights([800, 810, 790], [805, 0, 800]))
    assert figure(study, "sleep_onset_latency_bias").n == 2
    assert figure(study, "sleep_duration_bias").n == 3
    left_out = {(e.subject, e.quantity, e.reason) for e in study.excluded}
    assert ("S-1", "sleep_onset_latency", "the device showed no value") in left_out


def test_facts_tell_how_much_was_scored() -> None:
    reference, test = asleep(600, 800), asleep(600, 800)
    test[:200] = NOT_SCORED
    study = SleepStudy.of_nights(
        [Night("S-1", "s", reference, test, 30.0), *nights([700], [710])],
        {"S-1": {"sex": "female", "age_years": 30.0}, "S-0": {"sex": "male", "age_years": 50.0}},
    )
    facts = SLEEP.design_facts(study, STATISTICS)
    assert facts["scored_share_percent"] == pytest.approx(100 * (600 + 960) / (800 + 960))
    assert facts["lowest_scored_share_percent"] == 75.0
    assert facts["epochs_of_shortest_night"] == 600
    assert (facts["sexes"], facts["age_span_years"]) == (2, 20)
    assert facts.keys() <= SLEEP.facts.keys()


def test_nothing_and_a_night_that_nobody_scored_give_no_figures() -> None:
    empty = Night(
        "S-1", "s", np.full(5, NOT_SCORED, dtype=np.int8), np.full(5, NOT_SCORED, dtype=np.int8), 30.0
    )
    nothing = Night("S-2", "s", np.empty(0, dtype=np.int8), np.empty(0, dtype=np.int8), 30.0)
    for study in (SleepStudy(), SleepStudy.of_nights([empty]), SleepStudy.of_nights([nothing])):
        for name in SLEEP.metrics:
            found = figure(study, name)
            assert np.isnan(found.value), name
            assert found.low is None
        assert SLEEP.design_facts(study, STATISTICS)["subjects"] == 0


def test_hypnograms_of_unequal_length_are_refused() -> None:
    with pytest.raises(SignalError, match=r"hypnograms of shapes \(960,\), \(4,\)"):
        Night("S-1", "s", asleep(3), asleep(3, 4), 30.0)
