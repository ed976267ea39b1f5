"""Figures of agreement as data: what is drawn where, in the figure's own units. Drawing is at the rim.

A figure holds marks on two axes, in the order in which they are drawn. Words are keys that the one who draws it
puts into a reader's language; numbers in them are given apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.agreement import bland_altman
from analysis.arrays import as_series
from analysis.error_grids import PARKES_BORDERS
from analysis.paired_study import band_of
from protocols.errors import SignalError

_Floats: TypeAlias = NDArray[np.float64]
GRIDS: Final = ("clarke", "parkes_1", "parkes_2")
_MARGIN: Final = 0.05  # of the range, so that no mark lies on the frame
_GRID_MGDL: Final = 550.0  # the printed grids end here
_CLARKE_LINES: Final = (
    # Clarke et al. 1987, doi:10.2337/diacare.10.5.622: where its rules change over, reference and test in mg/dL
    ((0, 70), (175 / 3, 70), (1375 / 3, 550)),
    ((70, 0), (70, 56), (550, 440)),
    ((70, 84), (70, 550)),
    ((0, 180), (70, 180), (440, 550)),
    ((130, 0), (180, 70), (240, 70), (240, 180), (550, 180)),
    ((180, 0), (180, 70)),
    ((240, 70), (550, 70)),
    ((0, 70), (70, 70)),
)
_ZONES_AT: Final = {
    "clarke": (
        *(("A", 480, 500), ("B", 395, 490), ("B", 500, 330), ("C", 160, 480), ("C", 165, 20)),
        *(("D", 30, 130), ("D", 470, 130), ("E", 30, 480), ("E", 470, 30)),
    ),
    "parkes_1": (
        *(("A", 480, 520), ("B", 330, 520), ("B", 520, 340), ("C", 180, 520), ("C", 500, 170)),
        *(("D", 85, 520), ("D", 500, 60), ("E", 20, 520)),
    ),
    "parkes_2": (
        *(("A", 480, 520), ("B", 340, 520), ("B", 520, 340), ("C", 170, 520), ("C", 500, 170)),
        *(("D", 85, 520), ("D", 500, 60), ("E", 20, 520)),
    ),
}
"""Grid -> where the letters of its zones stand, in mg/dL."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis: key of its label, UCUM unit, and range."""

    label: str
    unit: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points; `dashed` for limits, `told` if the value it ends with stands beside it."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    dashed: bool = False
    told: bool = False


@dataclass(frozen=True, slots=True)
class Points:
    """Single points; those of one `group` look alike, and groups differ in shape, not only in colour."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    group: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """An interval on the y axis, drawn over the whole width: where the truth may lie."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter at a place, such as the name of a zone."""

    x: float
    y: float
    letter: str


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar along the x axis for each label, NaN for none, and a limit to compare them with."""

    labels: tuple[str, ...]
    values: tuple[float, ...]
    limit: float | None = None


Mark: TypeAlias = Line | Points | Span | Letter | Bars


@dataclass(frozen=True, slots=True)
class Figure:
    """Marks on two axes.

    Parameters
    ----------
    kind
        Key of its title: what it shows.
    of
        What it shows that of, such as a quantity.
    x, y
        Axes; y has no numbers where the marks are bars. Of equal length where `square`.
    marks
        In the order of drawing.
    groups
        What the groups of points are.
    """

    kind: str
    of: str
    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    groups: tuple[str, ...] = ()
    square: bool = False


def bland_altman_figure(
    test: ArrayLike, reference: ArrayLike, *, subject: Sequence[str], quantity: str, unit: str
) -> Figure | None:
    """Return differences over means, with bias, limits of agreement and their 95 % intervals.

    None without two pairs. Bland & Altman 1986, doi:10.1016/S0140-6736(86)90837-8; the limits are those of the
    design that the subjects show, see `analysis.agreement`.

    Parameters
    ----------
    test, reference
        Pairs, shape (n,); pairs with a NaN are left out.
    subject
        Whose pair it is.
    quantity, unit
        What the pairs are of.
    """
    x, y = as_series(reference, name="reference"), as_series(test, name="test")
    whole = np.isfinite(x) & np.isfinite(y)
    if whole.sum() < 2:
        return None
    means, differences = 0.5 * (x + y)[whole], (y - x)[whole]
    limits = bland_altman(y[whole], x[whole], subject=np.asarray(subject)[whole])
    found = [value for value in (limits.lower, limits.bias, limits.upper) if np.isfinite(value)]
    horizontal = _axis("mean_of_both", unit, means)
    marks: list[Mark] = [
        Span(*map(float, interval))
        for interval in (limits.lower_interval, limits.bias_interval, limits.upper_interval)
        if np.isfinite(interval).all()
    ]
    ends = [end for mark in marks if isinstance(mark, Span) for end in (mark.low, mark.high)]
    marks.append(Points(_plain(means), _plain(differences)))
    marks += [
        Line((horizontal.low, horizontal.high), (value, value), dashed=value != limits.bias, told=True)
        for value in map(float, found)
    ]
    vertical = _axis("difference", unit, np.concatenate([differences, found, ends, [0.0]]))
    return Figure("bland_altman", quantity, horizontal, vertical, tuple(marks))


def error_grid_figure(reference_mgdl: ArrayLike, test_mgdl: ArrayLike, *, grid: str) -> Figure:
    """Return test over reference with the borders of an error grid, one of `GRIDS`.

    Raises
    ------
    SignalError
        If there is no such grid, or values are no series of equal length.
    """
    if grid not in GRIDS:
        raise SignalError(f"grid={grid!r}, expected one of {', '.join(GRIDS)}")
    x, y = as_series(reference_mgdl, name="reference_mgdl"), as_series(test_mgdl, name="test_mgdl")
    if x.shape != y.shape:
        raise SignalError(f"{y.size} test values for {x.size} of the reference, expected pairs")
    whole = np.isfinite(x) & np.isfinite(y)
    if grid == "clarke":
        borders: tuple[tuple[tuple[float, float], ...], ...] = _CLARKE_LINES
    else:
        sides = PARKES_BORDERS[int(grid[-1])]
        borders = (*sides["upper"], *sides["lower"])
    top = max(_GRID_MGDL, float(np.max(x[whole], initial=0.0)), float(np.max(y[whole], initial=0.0)))
    whole_lines = [_to_the_frame(border, top) for border in borders]
    lines = [
        Line(tuple(float(a) for a, _ in border), tuple(float(b) for _, b in border)) for border in whole_lines
    ]
    return Figure(
        f"error_grid_{grid}",
        "glucose",
        Axis("reference", "mg/dL", 0.0, top),
        Axis("device", "mg/dL", 0.0, top),
        (
            Line((0.0, top), (0.0, top), dashed=True),
            *lines,
            Points(_plain(x[whole]), _plain(y[whole])),
            *(Letter(float(at_x), float(at_y), zone) for zone, at_x, at_y in _ZONES_AT[grid]),
        ),
        square=True,
    )


def _to_the_frame(border: tuple[tuple[float, float], ...], top: float) -> tuple[tuple[float, float], ...]:
    """Return a border of an error grid that goes on along its last segment, as its zones do, to the frame."""
    (x0, y0), (x1, y1) = border[-2:]
    if max(x1, y1) < _GRID_MGDL or top <= _GRID_MGDL:
        return border
    times = min((top - at) / run for at, run in ((x1, x1 - x0), (y1, y1 - y0)) if run > 0)
    return (*border[:-1], (x1 + times * (x1 - x0), y1 + times * (y1 - y0)))


def rms_by_band_figure(
    test: ArrayLike,
    reference: ArrayLike,
    *,
    edges: Sequence[float],
    quantity: str,
    unit: str,
    limit: float | None = None,
) -> Figure | None:
    """Return the root mean square of the differences in each band of the reference; None without pairs."""
    x, y = as_series(reference, name="reference"), as_series(test, name="test")
    whole = np.isfinite(x) & np.isfinite(y)
    bands = band_of(x[whole], edges)
    labels = [f"{low:g}-{high:g} {unit}" for low, high in itertools.pairwise(edges)]
    axis = Axis("rms", unit, 0.0, 0.0)
    return _rms_figure("rms_by_band", quantity, axis, (y - x)[whole], bands, labels, limit)


def rms_by_group_figure(
    test: ArrayLike,
    reference: ArrayLike,
    *,
    group: Sequence[str],
    quantity: str,
    unit: str,
    limit: float | None = None,
) -> Figure | None:
    """Return the root mean square of the differences in each group, such as skin tones; None without pairs.

    A pair whose group is empty is left out.
    """
    x, y = as_series(reference, name="reference"), as_series(test, name="test")
    groups = np.asarray(group, dtype=np.str_)
    whole = np.isfinite(x) & np.isfinite(y) & (groups != "")
    labels, numbers = np.unique(groups[whole], return_inverse=True)
    axis = Axis("rms", unit, 0.0, 0.0)
    return _rms_figure("rms_by_group", quantity, axis, (y - x)[whole], numbers, labels.tolist(), limit)


def recruitment_figure(labels: Sequence[str], has: Sequence[float], wanted: Sequence[float]) -> Figure | None:
    """Return how far each requirement on the sample is met, in percent of what it wants; None without any."""
    shares = [100.0 * h / w for h, w in zip(has, wanted, strict=True) if w > 0 and np.isfinite(h)]
    names = [label for label, h, w in zip(labels, has, wanted, strict=True) if w > 0 and np.isfinite(h)]
    if not shares:
        return None
    bars = Bars(tuple(names), tuple(shares), 100.0)  # one beyond the axis ends at the frame
    rows = Axis("", "1", 0.0, float(len(shares)))
    return Figure("recruitment", "", Axis("of_required", "%", 0.0, 200.0), rows, (bars,))


def strip_figure(
    series: Sequence[tuple[str, ArrayLike, ArrayLike]], *, at_s: float, quantity: str, unit: str
) -> Figure | None:
    """Return readings over time around a moment, a line for each series; None without any value.

    Parameters
    ----------
    series
        Name, times in s and values of each.
    at_s
        The moment, marked by an upright line.
    quantity, unit
        What the values are.
    """
    shown = [
        (name, as_series(times, name="times"), as_series(values, name="values"))
        for name, times, values in series
    ]
    shown = [(name, times, values) for name, times, values in shown if np.isfinite(values).any()]
    if not shown:
        return None
    vertical = _axis(quantity, unit, np.concatenate([values[np.isfinite(values)] for _, _, values in shown]))
    horizontal = _axis("time", "s", np.concatenate([times for _, times, _ in shown]))
    marks: list[Mark] = [Line((at_s, at_s), (vertical.low, vertical.high), dashed=True)]
    for number, (_, times, values) in enumerate(shown):
        there = np.isfinite(values)
        marks.append(Points(_plain(times[there]), _plain(values[there]), group=number))
    return Figure("strip", quantity, horizontal, vertical, tuple(marks), tuple(name for name, _, _ in shown))


def _rms_figure(
    kind: str,
    quantity: str,
    axis: Axis,
    differences: _Floats,
    numbers: NDArray[np.intp],
    labels: Sequence[str],
    limit: float | None,
) -> Figure | None:
    """Return a bar for each label; differences whose number is below 0 are in none."""
    inside = numbers >= 0
    counts = np.bincount(numbers[inside], minlength=len(labels))
    if not counts.sum():
        return None
    squares = np.bincount(numbers[inside], weights=differences[inside] ** 2, minlength=len(labels))
    values = np.sqrt(squares / np.where(counts > 0, counts, np.nan))
    named = tuple(f"{label} (n = {count})" for label, count in zip(labels, counts.tolist(), strict=True))
    largest = float(np.nanmax(np.append(values, limit if limit is not None else 0.0)))
    along = replace(axis, high=largest * (1.0 + 2.0 * _MARGIN) or 1.0)
    rows = Axis("", "1", 0.0, float(len(named)))
    return Figure(kind, quantity, along, rows, (Bars(named, _plain(values), limit),))


def _axis(label: str, unit: str, values: _Floats) -> Axis:
    low, high = float(np.min(values)), float(np.max(values))
    margin = _MARGIN * (high - low) or max(abs(high) * _MARGIN, 0.5)
    return Axis(label, unit, low - margin, high + margin)


def _plain(values: _Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
