"""What a running trial lacks: numbers, shares, and what nobody knows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.trial_plan import needs
from protocols.clinical.library import shipped

ISO = shipped()["iso-80601-2-61-2017"]
SUBJECTS, PAIRS, SPREAD = ISO.design


def test_a_trial_that_has_not_begun_wants_all() -> None:
    wanted = {need.requirement.id: need.more for need in needs(ISO, {"subjects": 0.0, "pairs": 0.0})}
    assert wanted == {"subjects": 10, "pairs": 200, "spread": None}


def test_what_is_met_is_said_to_be_and_what_is_missing_is_counted() -> None:
    facts = {"subjects": 12.0, "pairs": 180.0, "smallest_band_share_percent": 15.0}
    said = [str(need) for need in needs(ISO, facts)]
    assert said == [
        "met: healthy adult subjects with pairs: 12 of >= 10",
        "missing: pairs with a reference of 70 to 100 %: 180 of >= 200, at least 20 more",
        # 27 of 180 are in the band: 12 more there make 39 of 192, the first time at least 20 %
        (
            "missing: share of the pairs in the band that has fewest (70-80, 80-90, 90-100 %): "
            "15 % of >= 20 %, at least 12 more such pairs"
        ),
    ]


@given(st.integers(1, 500), st.integers(0, 500), st.integers(1, 99))
def test_as_many_more_of_a_kind_meet_a_share_and_one_fewer_does_not(n: int, k: int, percent: int) -> None:
    k = min(k, n)
    protocol = replace(ISO, design=(replace(SPREAD, limit=float(percent)),))
    (need,) = needs(protocol, {"pairs": float(n), "smallest_band_share_percent": 100.0 * k / n})
    if need.met:
        assert need.more is None
        return
    enough, short = ((k + more) * 100 - percent * (n + more) for more in (need.more, need.more - 1))
    assert short < 0 <= enough


@pytest.mark.parametrize("change", [{"comparison": "<="}, {"unit": "a"}])
def test_where_more_of_it_cannot_help_no_number_is_given(change: dict[str, str]) -> None:
    protocol = replace(ISO, design=(replace(SUBJECTS, **change),))
    facts = {"subjects": 3.0 if "unit" in change else 30.0}
    (need,) = needs(protocol, facts)
    assert (need.met, need.more) == (False, None)
