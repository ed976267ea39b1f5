"""What a running trial lacks: numbers, shares, and what nobody knows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.metrics import STUDIES
from analysis.paired_study import PairedStudy
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


def test_a_share_of_a_fixed_number_is_short_by_what_it_says_and_not_by_a_count() -> None:
    cuffs = replace(
        shipped()["iso-81060-2-2018"].applied().design[-2], fact="rarest_cuff_percent", unit="%", limit=100.0
    )
    protocol = replace(shipped()["iso-81060-2-2018"].applied(), design=(cuffs,))
    (need,) = needs(protocol, {"rarest_cuff_percent": 80.0})
    assert need.more is None
    assert str(need).endswith("80 % of >= 100 %, short by 20 %")


def test_too_many_is_said_to_be_too_many() -> None:
    esh = shipped()["esh-ip-2010"]
    (most,) = [r for r in esh.design if r.id == "subjects-to"]
    (need,) = needs(replace(esh, design=(most,)), {"subjects": 35.0})
    assert str(need).endswith("35 of <= 33, 2 too many: more of it cannot help")
    claim = shipped()["respiratory-rate-claim"].applied(None, {"claimed_error": 2.0})
    slow, fast = (need for need in needs(claim, {"reference_smallest": 14.0, "reference_largest": 26.0})[1:])
    assert str(slow).endswith("14 /min of <= 12 /min, 2 /min too much: more of it cannot help")
    assert str(fast).endswith("26 /min of >= 30 /min, short by 4 /min")


def test_subjects_with_too_few_pairs_and_of_unknown_sex_are_named() -> None:
    pressure = shipped()["iso-81060-2-2018"].applied()
    parts = [
        PairedStudy.of_pairs(
            quantity, f"S-{s}", "a", 100 * s + np.arange(n), np.full(n, level), np.full(n, level)
        )
        for s, n in ((1, 3), (2, 2), (3, 3))
        for quantity, level in (("sbp", 130.0), ("dbp", 80.0))
    ]
    study = PairedStudy.gather(parts, {"S-1": {"sex": "female", "age_years": 40}, "S-2": {"age_years": 50}})
    facts = STUDIES["blood_pressure"].design_facts(study, pressure.statistics)
    said = {need.requirement.id: need.where for need in needs(pressure, facts, study)}
    assert said["three-pairs"] == "fewer than 3 pairs: S-2 (2)"
    assert said["sexes"] == "sex is not known of 2 of 3 subjects: S-2, S-3"
    assert said["age"] == "age_years is not known of 1 of 3 subjects: S-3"
    assert said["limbs-from"].startswith("arm_circumference_cm is not known of 3 of 3 subjects: S-1")
    assert said["subjects"] == ""


def test_a_long_list_of_subjects_is_cut_and_counted() -> None:
    pairs = PairedStudy.of_pairs("spo2", "x", "a", np.arange(9), np.full(9, 85.0), np.full(9, 85.0))
    pairs = replace(pairs, subjects=np.array([f"S-{k}" for k in range(9)]))
    fda = shipped()["fda-pulse-oximeter-2013"].applied("ear_clip")
    facts = STUDIES["spo2"].design_facts(pairs, fda.statistics)
    (sexes,) = [need for need in needs(fda, facts, pairs) if need.requirement.id == "sexes"]
    assert sexes.where.endswith("9 of 9 subjects: S-0, S-1, S-2, S-3, S-4, S-5 and 3 more")
