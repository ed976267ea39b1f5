"""Figures as data: what is drawn is what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.agreement import bland_altman
from analysis.error_grids import clarke_zones, parkes_zones
from analysis.figures import (
    Bars,
    Letter,
    Line,
    Points,
    Span,
    bland_altman_figure,
    error_grid_figure,
    recruitment_figure,
    rms_by_band_figure,
    rms_by_group_figure,
    strip_figure,
)
from protocols.errors import SignalError

NAN = float("nan")


def marks(figure, kind):  # type: ignore[no-untyped-def]
    return [mark for mark in figure.marks if isinstance(mark, kind)]


def test_bland_altman_shows_every_pair_and_the_limits_that_are_reported(rng: np.random.Generator) -> None:
    reference = rng.uniform(70, 100, 60)
    test = reference + rng.normal(1, 2, 60)
    test[3] = NAN
    subject = [f"S-{k % 6}" for k in range(60)]
    figure = bland_altman_figure(test, reference, subject=subject, quantity="spo2", unit="%")
    (points,) = marks(figure, Points)
    whole = np.isfinite(test)
    assert points.y == pytest.approx((test - reference)[whole])
    assert points.x == pytest.approx(0.5 * (test + reference)[whole])
    limits = bland_altman(test[whole], reference[whole], subject=np.array(subject)[whole])
    assert [line.y[0] for line in marks(figure, Line)] == pytest.approx(
        [limits.lower, limits.bias, limits.upper]
    )
    assert [line.dashed for line in marks(figure, Line)] == [True, False, True]
    assert len(marks(figure, Span)) == 3
    assert figure.x.low < min(points.x)
    assert figure.y.high > max(points.y)


def test_constant_pairs_and_too_few_of_them_make_no_wrong_figure() -> None:
    assert bland_altman_figure([1.0], [1.0], subject=["a"], quantity="spo2", unit="%") is None
    assert bland_altman_figure([NAN, 1.0], [1.0, 1.0], subject=["a", "b"], quantity="spo2", unit="%") is None
    same = bland_altman_figure([5.0] * 4, [5.0] * 4, subject=list("abcd"), quantity="spo2", unit="%")
    assert same.x.low < 5.0 < same.x.high
    assert marks(same, Span) == []


@pytest.mark.parametrize(
    ("grid", "zones"),
    [
        ("clarke", clarke_zones),
        ("parkes_1", lambda r, t: parkes_zones(r, t, 1)),
        ("parkes_2", lambda r, t: parkes_zones(r, t, 2)),
    ],
)
def test_the_letters_of_a_grid_stand_in_their_zones_and_every_zone_has_one(grid: str, zones) -> None:  # type: ignore[no-untyped-def]
    figure = error_grid_figure([100.0], [110.0], grid=grid)
    letters = marks(figure, Letter)
    found = zones([letter.x for letter in letters], [letter.y for letter in letters])
    assert found.tolist() == [letter.letter for letter in letters]
    assert {letter.letter for letter in letters} == set("ABCDE")


@pytest.mark.parametrize("largest", [500.0, 900.0])
@pytest.mark.parametrize("grid", ["clarke", "parkes_1"])
def test_crossing_a_border_of_a_grid_changes_the_zone(grid: str, largest: float) -> None:
    zones = clarke_zones if grid == "clarke" else lambda r, t: parkes_zones(r, t, 1)
    for line in marks(error_grid_figure([largest], [largest], grid=grid), Line)[1:]:
        for x0, y0, x1, y1 in zip(line.x[:-1], line.y[:-1], line.x[1:], line.y[1:], strict=True):
            length = np.hypot(x1 - x0, y1 - y0)
            across = np.array([-(y1 - y0), x1 - x0]) / length
            middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
            (one, other) = zones(
                *np.stack([middle + 2 * across, middle - 2 * across]).clip(0, max(550.0, largest)).T
            )
            assert one != other, (x0, y0, x1, y1)


def test_borders_of_a_grid_reach_its_frame_however_large_a_reading_is() -> None:
    lines = marks(error_grid_figure([100.0], [900.0], grid="parkes_1"), Line)
    assert {max(line.x[-1], line.y[-1]) for line in lines} == {900.0}


def test_an_unknown_grid_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(SignalError, match="grid='parkes', expected one of clarke, parkes_1, parkes_2"):
        error_grid_figure([], [], grid="parkes")
    with pytest.raises(SignalError, match="1 test values for 2 of the reference"):
        error_grid_figure([1.0, 2.0], [1.0], grid="clarke")


def test_bars_by_band_and_by_group_are_root_mean_squares() -> None:
    reference, test = np.array([75.0, 75.0, 85.0, 95.0, 60.0]), np.array([78.0, 71.0, 86.0, NAN, 70.0])
    figure = rms_by_band_figure(test, reference, edges=(70, 80, 90, 100), quantity="spo2", unit="%", limit=4.0)
    (bars,) = marks(figure, Bars)
    assert bars.labels == ("70-80 % (n = 2)", "80-90 % (n = 1)", "90-100 % (n = 0)")
    assert bars.values[:2] == pytest.approx([np.sqrt(12.5), 1.0])
    assert np.isnan(bars.values[2])
    grouped = rms_by_group_figure(
        test, reference, group=["dark", "light", "dark", "dark", ""], quantity="spo2", unit="%"
    )
    (bars,) = marks(grouped, Bars)
    assert bars.labels == ("dark (n = 2)", "light (n = 1)")
    assert bars.values == pytest.approx([np.sqrt(5.0), 4.0])
    assert rms_by_band_figure([NAN], [75.0], edges=(70, 80), quantity="spo2", unit="%") is None


def test_recruitment_is_in_percent_of_what_is_required() -> None:
    (bars,) = marks(recruitment_figure(["subjects", "pairs", "unknown"], [5, 900, NAN], [10, 200, 3]), Bars)
    assert (bars.labels, bars.values, bars.limit) == (("subjects", "pairs"), (50.0, 450.0), 100.0)
    assert recruitment_figure([], [], []) is None


def test_a_strip_marks_its_moment_and_tells_its_series_apart() -> None:
    figure = strip_figure(
        [("reference", [0, 1, 2], [97, 96, NAN]), ("test", [0, 1], [95, 94]), ("none", [0], [NAN])],
        at_s=1.0,
        quantity="spo2",
        unit="%",
    )
    assert figure.groups == ("reference", "test")
    assert [points.group for points in marks(figure, Points)] == [0, 1]
    assert marks(figure, Line)[0].x == (1.0, 1.0)
    assert strip_figure([("none", [0], [NAN])], at_s=0.0, quantity="spo2", unit="%") is None
