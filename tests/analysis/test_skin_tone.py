"""Groups of skin tone: edges, what is not known, labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.paired_study import PairedStudy
from analysis.skin_tone import ita_group, labelled, monk_group, tone_facts


def pairs(facts: dict[str, dict[str, float | str]]) -> PairedStudy:
    """Two pairs of each subject."""
    parts = [PairedStudy.of_pairs("spo2", s, s, [0, 1], [90.0, 91.0], [90.0, 91.0]) for s in facts]
    return PairedStudy.gather(parts, facts)


def test_monk_tones_fall_into_three_groups_and_half_tones_count_up() -> None:
    groups = monk_group(np.array([1, 4, 4.4, 4.5, 5, 7, 7.5, 8, 10, np.nan]))
    assert groups.tolist() == [
        *["Monk 1-4"] * 3,
        *["Monk 5-7"] * 3,
        *["Monk 8-10"] * 3,
        "",
    ]


def test_angles_at_the_edges_belong_to_the_middle_group() -> None:
    groups = ita_group(np.array([-90, -30.1, -30, 30, 30.1, 90, np.nan]))
    assert groups.tolist() == [
        *["ITA < -30"] * 2,
        *["ITA -30 to 30"] * 2,
        *["ITA > 30"] * 2,
        "",
    ]


def test_pairs_are_labelled_by_monk_tone_and_by_angle_only_where_no_tone_is_known() -> None:
    both = labelled(pairs({"a": {"skin_tone_mst": 9.0, "ita_deg": 40.0}, "b": {"ita_deg": -60.0}}))
    assert both.labels["skin_tone"].tolist() == ["Monk 8-10", "Monk 8-10", "", ""]
    angles = labelled(pairs({"a": {"ita_deg": 40.0}, "b": {"ita_deg": -60.0}}))
    assert angles.labels["skin_tone"].tolist() == ["ITA > 30", "ITA > 30", "ITA < -30", "ITA < -30"]
    assert "skin_tone" not in labelled(pairs({"a": {"sex": "female"}})).labels


def test_a_label_that_the_table_brought_stays() -> None:
    own = np.array(["light", "light"])
    study = replace(pairs({"a": {"skin_tone_mst": 9.0}}), labels={"skin_tone": own})
    assert labelled(study).labels["skin_tone"].tolist() == ["light", "light"]


def test_numbers_that_the_table_brought_name_groups() -> None:
    study = replace(pairs({"a": {"skin_tone_mst": 9.0}}), columns={"skin_tone": np.array([3.0, np.nan])})
    named = labelled(study)
    assert named.labels["skin_tone"].tolist() == ["3", ""]
    assert "skin_tone" not in named.columns


def test_facts_count_subjects_not_pairs() -> None:
    facts = tone_facts(
        pairs(
            {
                "a": {"skin_tone_mst": 2.0},
                "b": {"skin_tone_mst": 8.0, "ita_deg": -50.0},
                "c": {"skin_tone_mst": 10.0, "ita_deg": -49.9},
                "d": {"skin_tone_mst": 9.0},
            }
        )
    )
    assert facts["monk_1_4_share_percent"] == 25.0
    assert facts["monk_5_7_share_percent"] == 0.0
    assert facts["monk_8_10_share_percent"] == 75.0
    assert facts["darkest_subjects"] == 3.0
    # an angle that was not measured is not dark
    assert facts["darkest_at_ita_mark_percent"] == pytest.approx(100.0 / 3.0)
    assert (facts["subjects_without_tone"], facts["subjects_without_ita"]) == (0.0, 2.0)


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert tone_facts(pairs({"a": {}})) == {}
    assert tone_facts(PairedStudy.empty()) == {}
