"""Zones of error grids against counts from published data, their vertices, and known defects of programs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.error_grids import (
    DTS_BORDERS,
    PARKES_BORDERS,
    ZONES,
    clarke_zones,
    dts_zones,
    parkes_zones,
    zone_counts,
)
from protocols.errors import SignalError

GRIDS: dict[str, Callable[..., Any]] = {
    "clarke": clarke_zones,
    "parkes 1": lambda reference, test: parkes_zones(reference, test, diabetes_type=1),
    "parkes 2": lambda reference, test: parkes_zones(reference, test, diabetes_type=2),
    "dts": dts_zones,
}
glucose = st.integers(0, 600)


def columns(shared: Path, name: str) -> np.ndarray:  # type: ignore[type-arg]
    return np.genfromtxt(shared / "oracles" / name, delimiter=",", names=True, dtype=None, encoding="utf-8")


def counts(zones: Any) -> tuple[int, ...]:
    found = zone_counts(zones)
    return found.a, found.b, found.c, found.d, found.e


@pytest.mark.shared_data
def test_zones_of_5072_published_pairs(shared: Path) -> None:
    # The vignette of ega prints 3652 A for Clarke, which does not follow from its rules, and 48 D for Parkes,
    # which follows only with its border from (410, 110).
    data = columns(shared, "ega_glucose_pairs.csv")
    assert counts(clarke_zones(data["ref"], data["test"])) == (3657, 1166, 53, 180, 16)
    assert counts(parkes_zones(data["ref"], data["test"], 1)) == (3906, 951, 166, 47, 2)


@pytest.mark.shared_data
def test_vertices_are_those_of_pfuetzner_2013(shared: Path) -> None:
    rows = columns(shared, "parkes_vertices.csv")
    for diabetes_type, sides in PARKES_BORDERS.items():
        for side, borders in sides.items():
            for name, border in zip(("A/B", "B/C", "C/D", "D/E"), borders, strict=False):
                chosen = (rows["diabetes_type"] == diabetes_type) & (rows["boundary"] == f"{name} {side}")
                published = list(
                    zip(rows["reference_mgdl"][chosen], rows["measured_mgdl"][chosen], strict=True)
                )
                assert published == list(border), (diabetes_type, name, side)
    assert sum(
        len(border) for sides in PARKES_BORDERS.values() for side in sides.values() for border in side
    ) == (rows.size)


def test_lower_border_of_type_1_runs_from_250_to_550() -> None:
    # ega 2.0.0 and methcomp 1.0.0 give D: they start from (410, 110), a vertex of type 2.
    assert parkes_zones([541.0], [147.0], diabetes_type=1).tolist() == ["C"]
    assert parkes_zones([541.0], [147.0], diabetes_type=2).tolist() == ["D"]


@pytest.mark.parametrize("diabetes_type", [1, 2])
def test_a_point_on_a_border_of_parkes_is_in_the_worse_zone(diabetes_type: int) -> None:
    # Every vertex, the middle of every segment, and one beyond the last vertex: half a mg/dL inside is better.
    for side, inside in (("upper", -0.5), ("lower", 0.5)):
        for number, border in enumerate(PARKES_BORDERS[diabetes_type][side]):
            points = [np.array(vertex, dtype=float) for vertex in border]
            points += [(a + b) / 2 for a, b in pairwise(points)]
            points.append(2 * points[len(border) - 1] - points[len(border) - 2])
            for x, y in points:
                worse = parkes_zones([x], [y], diabetes_type).item()
                assert worse == ZONES[number + 1], (side, number, x, y)
                if side == "upper" or y > border[1][1]:
                    better = parkes_zones([x], [y + inside], diabetes_type).item()
                    assert better == ZONES[number], (side, number, x, y)


def test_vertical_parts_of_lower_borders() -> None:
    # ends of the vertical segments belong to the borders; to their left is the better zone
    for x, y, zone in ((50, 30, "B"), (50, 0, "B"), (50, 31, "A"), (49, 0, "A"), (120, 30, "C"), (119, 0, "B")):
        assert parkes_zones([x], [y], 1).item() == zone, (x, y)
    for x, y, zone in ((62.5, 0, "A"), (62.5, 50, "A"), (62.6, 20, "B"), (97.5, 0, "B"), (97.6, 0, "C")):
        assert dts_zones([x], [y]).item() == zone, (x, y)


@pytest.mark.parametrize(
    ("reference", "test", "zone"),
    [
        (100, 120, "A"),  # 20 % is within
        (100, 121, "B"),
        (100, 79, "B"),
        (69, 1, "A"),  # both below 70
        (70, 56, "A"),
        (70, 55, "B"),
        (69, 100, "D"),
        (69, 179, "D"),
        (70, 180, "E"),
        (71, 182, "C"),
        (71, 181, "B"),  # over the reference by no more than 110
        (240, 179, "B"),
        (241, 179, "D"),
        (241, 180, "B"),
        (180, 70, "E"),
        (180, 71, "B"),  # on the line 1.4 (180 - 130) + 1
        (179, 68, "C"),
        (180, 69.9, "E"),
        (165, 49, "B"),
        (165, 48, "C"),
        (130, 0, "B"),
        (131, 1, "C"),
        (400, 70, "E"),
    ],
)
def test_rules_of_clarke_at_their_edges(reference: float, test: float, zone: str) -> None:
    assert clarke_zones([reference], [test]).item() == zone


def test_dts_borders_are_those_of_its_risk_function() -> None:
    # 2.75 ln(test / reference) above and 2.25 below, values under 50 as 50, borders at 0.5, 1.5, 2.5 and 3.5:
    # the ends of the printed borders lie within 1.2 mg/dL of it.
    for number, risk in enumerate((0.5, 1.5, 2.5, 3.5)):
        corner, _, end = DTS_BORDERS["upper"][number]
        assert corner[1] == pytest.approx(50.0 * np.exp(risk / 2.75), abs=1.2)
        assert end[0] == pytest.approx(600.0 * np.exp(-risk / 2.75), abs=1.2)
        corner, _, end = DTS_BORDERS["lower"][number]
        assert corner[0] == pytest.approx(50.0 * np.exp(risk / 2.25), abs=1.2)
        assert end[1] == pytest.approx(600.0 * np.exp(-risk / 2.25), abs=1.2)


def test_dts_border_belongs_to_the_better_zone() -> None:
    assert dts_zones([100.0, 100.0, 0.0, 50.0], [120.0, 120.5, 60.0, 61.0]).tolist() == ["A", "B", "A", "B"]
    assert dts_zones([40.0, 200.0, 200.0], [180.0, 10.0, 10.0]).tolist() == ["E", "D", "D"]


@settings(max_examples=200)
@given(glucose, glucose, st.integers(1, 200))
def test_a_larger_error_is_never_in_a_better_zone(reference: int, test: int, further: int) -> None:
    away = test + further if test >= reference else max(0, test - further)
    for name, grid in GRIDS.items():
        if name != "clarke":  # Clarke's zones are not nested: C may lie beyond B and D beside A
            near, far = grid([reference, reference], [test, away])
            assert near <= far, name


@settings(max_examples=100)
@given(glucose)
def test_a_true_reading_is_in_zone_a(reference: int) -> None:
    assert all(grid([reference], [reference]).item() == "A" for grid in GRIDS.values())


@pytest.mark.parametrize("name", GRIDS)
def test_zones_do_not_depend_on_shape_or_block(name: str, rng: np.random.Generator) -> None:
    reference = rng.uniform(1, 500, (3, 20_000))
    test = rng.uniform(1, 500, (3, 20_000))
    together = GRIDS[name](reference, test)
    assert together.shape == (3, 20_000)
    for row in range(3):
        assert (GRIDS[name](reference[row], test[row]) == together[row]).all()
    order = rng.permutation(20_000)
    assert (GRIDS[name](reference[0][order], test[0][order]) == together[0][order]).all()
    assert (GRIDS[name](np.asfortranarray(reference), test) == together).all()
    whole = np.round(reference)
    assert (GRIDS[name](whole.astype(np.int32), test) == GRIDS[name](whole, test)).all()


@pytest.mark.parametrize("name", GRIDS)
def test_missing_pairs_have_no_zone_and_are_counted(name: str) -> None:
    reference = np.array([100.0, np.nan, 100.0, np.nan])
    reference.flags.writeable = False
    zones = GRIDS[name](reference, [100.0, 100.0, np.nan, np.nan])
    assert zones.tolist() == ["A", "", "", ""]
    found = zone_counts(zones)
    assert (found.n, found.missing, found.share_percent("A")) == (1, 3, 100.0)
    assert GRIDS[name]([], []).size == 0
    assert np.isnan(zone_counts(GRIDS[name]([np.nan], [1.0])).share_percent("AB"))


def test_shares_of_zones() -> None:
    found = zone_counts(["A", "A", "B", "E", ""])
    assert (found.share_percent("AB"), found.share_percent("E"), found.share_percent("AAB")) == (
        75.0,
        25.0,
        75.0,
    )
    with pytest.raises(SignalError, match="'F'"):
        found.share_percent("AF")
    with pytest.raises(SignalError, match="zones holds 'F'"):
        zone_counts(["A", "F"])


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(
    ("reference", "test", "says"),
    [
        ([100.0, 100.0], [100.0], "expected one shape"),
        ([-1.0], [100.0], "reference_mgdl from -1 to -1"),
        ([100.0], [2001.0], "test_mgdl from 2001"),
        ([100.0], [np.inf], "test_mgdl holds infinite"),
        ([True], [100.0], "reference_mgdl of dtype bool"),
        (["a"], [100.0], "dtype"),
    ],
)
def test_misuse_is_named(name: str, reference: Any, test: Any, says: str) -> None:
    with pytest.raises(SignalError, match=says):
        GRIDS[name](reference, test)


@pytest.mark.parametrize("diabetes_type", [0, 3, "1", True, None, 1.0, [1]])
def test_an_unknown_type_of_diabetes_is_named(diabetes_type: Any) -> None:
    with pytest.raises(SignalError, match="diabetes_type="):
        parkes_zones([100.0], [100.0], diabetes_type=diabetes_type)
