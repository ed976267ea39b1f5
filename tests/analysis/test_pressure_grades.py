"""Grades of blood pressure monitors at their edges, and on published data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.pressure_grades import esh_2010, pressure_grades, worst_grade
from protocols.errors import SignalError


@pytest.mark.shared_data
def test_machine_of_bland_and_altman_1999(shared: Path) -> None:
    data = np.genfromtxt(shared / "oracles/ba1999_sbp.csv", delimiter=",", names=True)
    machine = np.concatenate([data[f"S{k}"] for k in (1, 2, 3)])
    observers = np.concatenate([(data[f"J{k}"] + data[f"R{k}"]) / 2 for k in (1, 2, 3)])
    found = pressure_grades(machine, observers)
    assert found.within_percent == pytest.approx((16.5, 38.4, 56.9), abs=0.05)
    assert (found.bhs, found.ieee_2014, found.ieee_2025) == ("D", "D", "D")
    assert (found.mean, found.sd) == pytest.approx((15.663, 20.255), abs=5e-4)


def errors(within_5: int, within_10: int, within_15: int, n: int) -> np.ndarray:  # type: ignore[type-arg]
    """Return as many errors within 5, 10 and 15 mmHg as asked, on the edges."""
    sizes = [5.0] * within_5 + [10.0] * (within_10 - within_5) + [15.0] * (within_15 - within_10)
    sizes += [16.0] * (n - within_15)
    return np.array(sizes) * np.where(np.arange(n) % 2, 1.0, -1.0)


@pytest.mark.parametrize(
    ("counts", "grade"),
    [
        ((60, 85, 95), "A"),
        ((59, 85, 95), "B"),
        ((60, 84, 95), "B"),
        ((60, 85, 94), "B"),
        ((50, 75, 90), "B"),
        ((49, 75, 90), "C"),
        ((40, 65, 85), "C"),
        ((40, 65, 84), "D"),
    ],
)
def test_bhs_asks_all_three_shares(counts: tuple[int, int, int], grade: str) -> None:
    found = pressure_grades(120.0 + errors(*counts, 100), np.full(100, 120.0))
    assert (found.within, found.bhs) == (counts, grade)


@pytest.mark.parametrize(
    ("error", "grade_2014", "grade_2025"),
    [
        ([5.0, -5.0], "A", "A"),
        ([5.0, 5.0], "A", "A"),
        ([6.0, -6.0], "B", "B"),
        ([6.0, 6.0], "B", "D"),  # mean error over 5
        ([7.0, -7.0], "C", "C"),
        ([7.0, 7.0], "C", "D"),
        ([7.5, -7.0], "D", "D"),
    ],
)
def test_ieee_1708_of_2014_and_2025(error: list[float], grade_2014: str, grade_2025: str) -> None:
    found = pressure_grades(100.0 + np.array(error), [100.0, 100.0])
    assert (found.ieee_2014, found.ieee_2025) == (grade_2014, grade_2025)
    assert (found.mad, found.mapd_percent) == pytest.approx((np.abs(error).mean(),) * 2)


def test_the_worst_of_cells_decides() -> None:
    assert worst_grade(["A", "C", "B"]) == "C"
    assert worst_grade([]) == worst_grade(["A", ""]) == ""
    with pytest.raises(SignalError, match="'E'"):
        worst_grade(["E"])


def study(per_subject: list[list[float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    flat = np.array(per_subject).ravel()
    return 120.0 + flat, np.full(flat.size, 120.0), np.repeat(np.arange(len(per_subject)), 3)


def test_esh_protocol_counts_pairs_and_subjects() -> None:
    # 24 subjects with two of three within 5, 6 with one, 3 with none: 24 * 2 + 6 = 54 within 5
    test, reference, subject = study([[5, 5, 10]] * 24 + [[5, 10, 10]] * 6 + [[10, 10, 15]] * 3)
    found = esh_2010(test, reference, subject=subject)
    assert (found.within, found.part_1) == ((54, 96, 99), False)  # all of 65, 81, 93 asked
    assert (found.subjects_with_two, found.subjects_with_none, found.part_2) == (24, 3, True)
    test, reference, subject = study([[5, 5, 5]] * 22 + [[5, 10, 10]] * 7 + [[10, 10, 10]] * 4)
    found = esh_2010(test, reference, subject=subject)
    assert (found.within, found.part_1) == ((73, 99, 99), True)
    assert (found.subjects_with_two, found.subjects_with_none, found.part_2) == (22, 4, False)


def test_an_incomplete_esh_study_passes_nothing() -> None:
    test, reference, subject = study([[0, 0, 0]] * 33)
    assert esh_2010(test, reference, subject=subject).part_1
    test[0] = np.nan
    found = esh_2010(test, reference, subject=subject)
    assert (found.complete, found.part_1, found.part_2, found.excluded) == (False, False, False, 1)


def test_differences_of_decimals_at_an_edge_lie_within_it() -> None:
    test, reference = [128.3, 128.8, 129.3], [123.3, 123.8, 124.3]
    assert all(t - r > 5.0 for t, r in zip(test, reference, strict=True))  # by their last bits
    found = pressure_grades(test, reference)
    assert found.within == (3, 3, 3)
    assert found.ieee_2014 == "A"
    assert esh_2010(test, reference, subject=["a"] * 3).subjects_with_two == 1


def test_no_pairs_have_no_grade() -> None:
    found = pressure_grades([np.nan], [100.0])
    assert (found.bhs, found.ieee_2014, found.ieee_2025, found.n_pairs, found.excluded) == ("", "", "", 0, 1)
    assert np.isnan(found.within_percent).all()


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="1 test_mmhg for 2"):
        pressure_grades([100.0], [100.0, 100.0])
    with pytest.raises(SignalError, match="one for each of 1 pairs"):
        esh_2010([100.0], [100.0], subject=[1, 2])
