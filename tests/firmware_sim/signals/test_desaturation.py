from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.signals.desaturation import Plateau, SaturationProfile, controlled_desaturation
from protocols.errors import DefinitionError


@given(seed=st.integers(0, 10_000), n_plateaus=st.integers(1, 12))
def test_each_band_of_the_range_has_one_plateau(seed: int, n_plateaus: int) -> None:
    profile = controlled_desaturation(seed, n_plateaus=n_plateaus)
    levels = np.array([plateau.sao2_percent for plateau in profile.plateaus[1:-1]])
    bands = np.ceil((100 - levels) / (30 / n_plateaus))
    assert list(np.maximum(bands, 1)) == list(range(1, n_plateaus + 1))


def test_saturation_is_constant_on_plateaus_and_smooth_between() -> None:
    profile = controlled_desaturation(3)
    for plateau in profile.plateaus:
        times_s = np.linspace(plateau.start_s, plateau.end_s, 50)
        assert profile.sao2_percent(times_s) == pytest.approx(plateau.sao2_percent)
    times_s = np.arange(0, profile.end_s, 0.1)
    assert np.abs(np.diff(profile.sao2_percent(times_s))).max() < 0.5


def test_it_begins_and_ends_at_the_baseline_and_holds_it() -> None:
    profile = controlled_desaturation(3, baseline_percent=98.5)
    assert profile.sao2_percent(np.array([-100.0, 0.0, profile.end_s, 1e6])) == pytest.approx(98.5)


def test_levels_differ_between_subjects() -> None:
    assert controlled_desaturation(1) != controlled_desaturation(2)
    assert controlled_desaturation(1) == controlled_desaturation(1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_plateaus": 0}, "n_plateaus=0"),
        ({"lowest_percent": 100.0}, "lowest_percent"),
        ({"plateau_s": 0.0}, "plateau_s"),
        ({"transition_s": -1.0}, "transition_s"),
        ({"baseline_percent": 101.0}, "sao2_percent=101"),
    ],
)
def test_an_impossible_study_is_refused_by_name(options: dict[str, float], named: str) -> None:
    with pytest.raises(DefinitionError, match=named):
        controlled_desaturation(1, **options)  # type: ignore[arg-type]


def test_overlapping_plateaus_are_refused() -> None:
    with pytest.raises(DefinitionError, match="expected to begin at 10"):
        SaturationProfile((Plateau(0, 10, 98), Plateau(5, 20, 90)))
