"""Error grids of glucose meters: how dangerous a wrong reading would be.

Each pair of reference and test lies in a zone from A (no effect on treatment) to E (dangerous). Glucose is in
mg/dL, from 0; beyond the printed grids the last segment of every border goes on. A pair with a NaN has the
zone "" and is counted apart. Comparisons are made on products, so whole numbers that lie on a border are
found to lie on it.

A border belongs to the worse zone in Parkes' grids, to the better one in the grid of the Diabetes Technology
Society; for Clarke's each rule says so. Public programs differ here, and in one border: see `PARKES_BORDERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_signal
from protocols.errors import SignalError

ZONES: Final = ("A", "B", "C", "D", "E")

_Floats: TypeAlias = NDArray[np.float64]
_Vertices: TypeAlias = tuple[tuple[float, float], ...]

PARKES_BORDERS: Final[Mapping[int, Mapping[str, tuple[_Vertices, ...]]]] = MappingProxyType(
    {
        1: MappingProxyType(
            {
                "upper": (
                    ((0, 50), (30, 50), (140, 170), (280, 380), (430, 550)),
                    ((0, 60), (30, 60), (50, 80), (70, 110), (260, 550)),
                    ((0, 100), (25, 100), (50, 125), (80, 215), (125, 550)),
                    ((0, 150), (35, 155), (50, 550)),
                ),
                "lower": (
                    ((50, 0), (50, 30), (170, 145), (385, 300), (550, 450)),
                    ((120, 0), (120, 30), (260, 130), (550, 250)),
                    ((250, 0), (250, 40), (550, 150)),
                ),
            }
        ),
        2: MappingProxyType(
            {
                "upper": (
                    ((0, 50), (30, 50), (230, 330), (440, 550)),
                    ((0, 60), (30, 60), (280, 550)),
                    ((0, 80), (25, 80), (35, 90), (125, 550)),
                    ((0, 200), (35, 200), (50, 550)),
                ),
                "lower": (
                    ((50, 0), (50, 30), (90, 80), (330, 230), (550, 450)),
                    ((90, 0), (260, 130), (550, 250)),
                    ((250, 0), (250, 40), (410, 110), (550, 160)),
                ),
            }
        ),
    }
)
"""Diabetes type -> side -> borders A/B, B/C, C/D (D/E) as (reference, test) in mg/dL.

Pfützner et al. 2013, doi:10.1177/193229681300700631, table 1. The programs ega 2.0.0 and methcomp 1.0.0 draw
the lower C/D border of type 1 from (410, 110), which is a vertex of type 2: there (541, 147) is in D, and
here in C.
"""

DTS_BORDERS: Final[Mapping[str, tuple[_Vertices, ...]]] = MappingProxyType(
    {
        "upper": (
            ((0, 60), (50, 60), (500, 600)),
            ((0, 86.5), (50, 86.5), (347, 600)),
            ((0, 124), (50, 124), (241, 600)),
            ((0, 179), (50, 179), (167, 600)),
        ),
        "lower": (
            ((62.5, 0), (62.5, 50), (600, 480)),
            ((97.5, 0), (97.5, 50), (600, 307)),
            ((153, 0), (153, 50), (600, 197)),
            ((238, 0), (238, 50), (600, 126)),
        ),
    }
)
"""Side -> borders A/B, B/C, C/D, D/E of the Diabetes Technology Society's grid, as `PARKES_BORDERS`.

Klonoff et al. 2024, doi:10.1177/19322968241275701, supplement, table A1, as two independent public programs
give it; the paper itself was not at hand.
"""

_LARGEST_MGDL: Final = 2000.0  # no meter reads more than 1,000; above, the unit is wrong
_AT_ONCE: Final = 1 << 15  # pairs worked on together: 260 kB an array stay in the cache
# of the rules for D, C, A and E (bits 1, 2, 4, 8) the highest that holds decides, without any it is B
_CLARKE_ZONE: Final = np.array([1, 3, 2, 2, *([0] * 4), *([4] * 8)], dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class ZoneCounts:
    """How many pairs lie in each zone, and how many have none because a value is missing."""

    a: int
    b: int
    c: int
    d: int
    e: int
    missing: int

    @property
    def n(self) -> int:
        """Pairs that have a zone."""
        return self.a + self.b + self.c + self.d + self.e

    def share_percent(self, zones: str) -> float:
        """Return the share of the pairs in these zones together, such as "AB"; NaN without pairs."""
        if unknown := set(zones) - set(ZONES):
            raise SignalError(f"zones={zones!r} names {min(unknown)!r}, expected letters of {''.join(ZONES)}")
        within = sum(getattr(self, zone.lower()) for zone in set(zones))
        return 100.0 * within / self.n if self.n else float("nan")


def clarke_zones(reference_mgdl: ArrayLike, test_mgdl: ArrayLike) -> NDArray[np.str_]:
    """Return the zone of every pair in Clarke's grid, "A" to "E", "" where a value is missing.

    Parameters
    ----------
    reference_mgdl, test_mgdl
        Glucose in mg/dL, of one shape (...).

    Raises
    ------
    SignalError
        If the shapes differ or a value is infinite, negative or above 2,000 mg/dL.

    References
    ----------
    Clarke et al. 1987, doi:10.2337/diacare.10.5.622, by the rules that the public programs share. The later
    of two rules that hold decides: B; D if the reference is below 70 or above 240 and 70 <= test < 180; C if
    130 <= reference <= 180 and test < 1.4 (reference - 130), or reference > 70, test > 180 and test >
    reference + 110; A if the test is within 20 % of the reference or both are below 70; E if reference <= 70
    and test >= 180, or reference >= 180 and test <= 70.
    """
    return _zones(reference_mgdl, test_mgdl, _clarke)


def parkes_zones(reference_mgdl: ArrayLike, test_mgdl: ArrayLike, diabetes_type: int = 1) -> NDArray[np.str_]:
    """Return the zone of every pair in Parkes' (consensus) grid, "A" to "E", "" where a value is missing.

    Parameters
    ----------
    reference_mgdl, test_mgdl
        Glucose in mg/dL, of one shape (...).
    diabetes_type
        1 or 2; ISO 15197:2013 uses 1 for all.

    Raises
    ------
    SignalError
        As `clarke_zones`, and if the type is neither 1 nor 2.

    References
    ----------
    Parkes et al. 2000, doi:10.2337/diacare.23.8.1143; vertices of Pfützner et al. 2013. A point on a border
    is in the worse zone.
    """
    whole = isinstance(diabetes_type, int | np.integer) and not isinstance(diabetes_type, bool)
    if not whole or diabetes_type not in PARKES_BORDERS:
        raise SignalError(f"diabetes_type={diabetes_type!r}, expected 1 or 2")
    return _zones(reference_mgdl, test_mgdl, _within(PARKES_BORDERS[diabetes_type], to_worse=True))


def dts_zones(reference_mgdl: ArrayLike, test_mgdl: ArrayLike) -> NDArray[np.str_]:
    """Return the zone of every pair in the Diabetes Technology Society's grid, "A" to "E", "" if missing.

    Parameters
    ----------
    reference_mgdl, test_mgdl
        Glucose in mg/dL, of one shape (...).

    Raises
    ------
    SignalError
        As `clarke_zones`.

    References
    ----------
    Klonoff et al. 2024, by the vertices of `DTS_BORDERS` (unconfirmed: see there). A point on a border is in
    the better zone. The paper's risk function, 2.75 ln(test / reference) above and 2.25 below the diagonal
    with values under 50 as 50 and borders at 0.5, 1.5, 2.5 and 3.5, gives borders at most 1.2 mg/dL away from
    these at their ends.
    """
    return _zones(reference_mgdl, test_mgdl, _within(DTS_BORDERS, to_worse=False))


def zone_counts(zones: ArrayLike) -> ZoneCounts:
    """Return how many pairs lie in each zone.

    Raises
    ------
    SignalError
        If a zone is none of those that the functions of this module return.
    """
    named, counts = np.unique(np.asarray(zones, dtype=np.str_), return_counts=True)
    found = dict(zip(named.tolist(), counts.tolist(), strict=True))
    if unknown := set(found) - {"", *ZONES}:
        raise SignalError(f"zones holds {min(unknown)!r}, expected A to E, or nothing for a missing value")
    a, b, c, d, e, missing = (found.get(zone, 0) for zone in (*ZONES, ""))
    return ZoneCounts(a, b, c, d, e, missing)


def _zones(
    reference_mgdl: ArrayLike, test_mgdl: ArrayLike, zones: Callable[[_Floats, _Floats], NDArray[np.uint8]]
) -> NDArray[np.str_]:
    """Return letters for zones that are numbered from 0."""
    reference = _as_grid_mgdl(reference_mgdl, "reference_mgdl")
    test = _as_grid_mgdl(test_mgdl, "test_mgdl")
    if reference.shape != test.shape:
        raise SignalError(f"{reference.shape} reference_mgdl for {test.shape} test_mgdl, expected one shape")
    x, y = reference.ravel(), test.ravel()
    letters = np.empty(
        x.size, dtype=np.uint32
    )  # as code points: an array of one-letter strings is nothing else
    # a Python loop over blocks of 32,768 pairs: the intermediate arrays stay in the cache
    for start in range(0, x.size, _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        np.add(zones(x[block], y[block]), np.uint32(ord("A")), out=letters[block])
    if np.isnan(x).any() or np.isnan(y).any():
        letters[np.isnan(x) | np.isnan(y)] = 0  # no letter
    return letters.view("U1").reshape(reference.shape)


def _as_grid_mgdl(values: ArrayLike, name: str) -> _Floats:
    glucose = np.asarray(as_signal(np.atleast_1d(values), name=name), dtype=np.float64)
    if glucose.size:
        least, largest = float(np.fmin.reduce(glucose, axis=None)), float(np.fmax.reduce(glucose, axis=None))
        if least < 0.0 or largest > _LARGEST_MGDL:
            raise SignalError(f"{name} from {least:g} to {largest:g}, expected 0 to 2000 mg/dL")
    return glucose


def _clarke(x: _Floats, y: _Floats) -> NDArray[np.uint8]:
    zones = np.zeros(x.size, dtype=np.uint8)
    # within 20 % no rule makes it worse than A, so the rest of the rules need only the others: mostly few
    distance = np.abs(y - x)
    distance *= 5.0
    rest = np.flatnonzero(~(distance <= x))
    x, y = x[rest], y[rest]
    low = x < 70.0
    d = (low | (x > 240.0)) & (y >= 70.0) & (y < 180.0)
    c = (x >= 130.0) & (x <= 180.0) & (5.0 * y < 7.0 * (x - 130.0))
    c |= (x > 70.0) & (y > 180.0) & (y > x + 110.0)
    a = low & (y < 70.0)
    e = ((x <= 70.0) & (y >= 180.0)) | ((x >= 180.0) & (y <= 70.0))
    rules = d.view(np.uint8) + 2 * c.view(np.uint8) + 4 * a.view(np.uint8) + 8 * e.view(np.uint8)
    zones[rest] = _CLARKE_ZONE[rules]
    return zones


def _within(
    borders: Mapping[str, tuple[_Vertices, ...]], *, to_worse: bool
) -> Callable[[_Floats, _Floats], NDArray[np.uint8]]:
    """Return the zones as how many borders a point has passed, one after the other."""

    def zones(x: _Floats, y: _Floats) -> NDArray[np.uint8]:
        passed = np.zeros(x.size, dtype=np.uint8)
        for side, sign in (("upper", 1.0), ("lower", -1.0)):
            there = np.flatnonzero(y > x if sign > 0.0 else y < x)
            for border in borders[side]:
                there = there[_passed(x[there], y[there], border, sign, to_worse)]
                passed[there] += 1
        return passed

    return zones


def _passed(x: _Floats, y: _Floats, border: _Vertices, sign: float, to_worse: bool) -> NDArray[np.bool_]:
    """Return which points lie above an upper border (sign 1), or below and right of a lower one (-1)."""
    (x0, y0), *rest = border
    if rest[0][0] == x0:  # a lower border begins with a vertical segment
        (x0, y0), *rest = rest
    beyond = np.full(x.shape, -1.0)  # height of the point beyond the border, times the width of the segment
    for x1, y1 in rest:
        height = (sign * (x1 - x0)) * (y - y0) - (sign * (y1 - y0)) * (x - x0)
        np.copyto(beyond, height, where=x >= x0)
        x0, y0 = x1, y1
    if not to_worse:
        return (beyond > 0.0) & (x > border[0][0]) if sign < 0.0 else beyond > 0.0
    return beyond >= 0.0
