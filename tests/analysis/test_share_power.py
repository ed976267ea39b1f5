"""Power of shares: against exact bounds computed one by one, the binomial by hand, and simulated trials."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.proportions import clopper_pearson
from analysis.share_power import share_power, share_trials, successes_needed
from protocols.errors import SignalError

TRIALS = np.arange(1, 1500)


@pytest.mark.parametrize("limit", [0.70, 0.85, 0.95, 0.98, 0.99])
def test_so_many_successes_raise_the_exact_bound_above_the_limit_and_one_fewer_does_not(limit: float) -> None:
    needed = successes_needed(TRIALS, limit=limit, judged="low")
    possible = needed <= TRIALS
    lower = clopper_pearson(needed[possible], TRIALS[possible], side="lower").low
    below = clopper_pearson(needed[possible] - 1, TRIALS[possible], side="lower").low
    assert (lower > limit).all()
    assert (below <= limit).all()
    assert (clopper_pearson(TRIALS[~possible], TRIALS[~possible], side="lower").low <= limit).all()


@pytest.mark.parametrize(("limit", "least"), [(0.98, 149), (0.99, 299)])
def test_without_an_error_a_range_needs_as_many_as_the_rule_of_three_says(limit: float, least: int) -> None:
    assert share_trials(share=1.0, limit=limit, power=0.9, judged="low") == least


def test_a_share_on_the_edge_counts_as_reached_unless_it_has_to_be_exceeded() -> None:
    n = np.array([20, 600])
    assert successes_needed(n, limit=0.95, judged="value").tolist() == [19, 570]
    assert successes_needed(n, limit=0.95, judged="value", strict=True).tolist() == [20, 571]
    # 0.29 * 100 is 28.999… in floats
    assert successes_needed(np.array([100]), limit=0.29, judged="value").tolist() == [29]


def test_power_is_the_binomial_tail() -> None:
    power = share_power(np.array([600]), share=0.97, limit=0.95, judged="value")
    assert power == pytest.approx([stats.binom.sf(569, 600, 0.97)])
    assert share_power(np.array([0, 5]), share=0.9, limit=0.95, judged="low").tolist() == [0.0, 0.0]
    assert share_power(np.array([50]), share=1.0, limit=0.95, judged="value").tolist() == [1.0]


@pytest.mark.parametrize("judged", ["value", "low"])
@pytest.mark.parametrize("share", [0.97, 0.99])
def test_from_that_number_on_the_power_is_kept_and_before_it_is_not(share: float, judged: str) -> None:
    n = share_trials(share=share, limit=0.95, power=0.9, judged=judged)
    after = share_power(np.arange(n, 3 * n), share=share, limit=0.95, judged=judged)
    assert after.min() >= 0.9
    assert share_power(np.array([n - 1]), share=share, limit=0.95, judged=judged) < 0.9


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"share": 0.95}, r"share=0\.95, expected above the limit 0\.95"),
        ({"share": 0.9}, "expected above the limit"),
        ({"share": 1.1}, "at most 1"),
        ({"limit": 1.0}, r"limit=1\.0"),
        ({"power": 0.0}, r"power=0\.0"),
        ({"judged": "high"}, "judged='high'"),
        ({"share": 0.95001}, "more than 200000 trials"),
    ],
)
def test_what_no_study_can_show_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(SignalError, match=says):
        share_trials(**{"share": 0.97, "limit": 0.95, "power": 0.9, "judged": "value"} | options)  # type: ignore[arg-type]
