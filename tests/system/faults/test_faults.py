"""A short form of the campaign that `make soak` runs at length."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.faults.campaign import campaign


@pytest.mark.mosquitto
@pytest.mark.shared_data
@pytest.mark.parametrize(("seed", "forge"), [(4, False), (9, True)])
def test_whatever_happens_every_sample_is_stored_once_or_in_a_declared_gap(
    shared: Path, tmp_path: Path, seed: int, forge: bool
) -> None:
    print(campaign(tmp_path, shared / "data/ecg/mitdb", seed=seed, n_harms=4, forge=forge))
