"""Passing-Bablok and Theil-Sen: lines from the slopes of all pairs of points, free of any distribution.

The n (n - 1) / 2 slopes are made in blocks from the points and their rotations (each lag k pairs point i with
point i + k, around the end), so no matrix of all of them exists. Up to some 4,000 points all slopes are kept
and only the wanted ranks partitioned out; above, a first sample of lags brackets the wanted ranks, and only
slopes within the bracket are kept: the result is the same, the memory stays bounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.fitted_line import FittedLine, Floats, complete_pairs, no_line, why_no_line

_KEPT_AT_ONCE: Final = 1 << 23  # slopes held together, 64 MB
_IN_A_BLOCK: Final = 1 << 16  # slopes made together: half a megabyte an array stays in the cache
_AT_MINUS_ONE: Final = 1e-9
"""A slope this near to -1 is -1: differences of decimal fractions rarely are so exactly."""


def passing_bablok(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> FittedLine:
    """Return the Passing-Bablok line and its intervals.

    Parameters
    ----------
    x, y
        Paired values, shape (n,).
    level
        Confidence level of the intervals. There are no standard errors. An end is infinite where the pairs are
        too few to bound it or the interval reaches the vertical.

    Raises
    ------
    SignalError
        If the lengths differ, a value is infinite or the level is not between 0 and 1.

    Notes
    -----
    Conventions, where programs differ: a pair of equal points has no slope; points above one another have the
    slope +infinity (-infinity where Pearson's correlation is negative). The median is shifted by the number
    of slopes below -1, slopes of exactly -1 counting half; with negative correlation the pairs are mirrored
    (y to -y), fitted, and mirrored back. Between two middle slopes the mean is that of their angles. Ranks of
    the interval are those of the median with the half-width C = z sqrt(n (n - 1) (2 n + 5) / 18), twice the
    rank rounded to a whole number, the same mean of angles between two. The intercept is the median of y -
    slope x, its interval that of the slope's ends.

    References
    ----------
    Passing & Bablok 1983, doi:10.1515/cclm.1983.21.11.709. Deviates in keeping slopes of -1 and in the angles.
    """
    (xs, ys), excluded = complete_pairs(x, y, level)
    method = "Passing-Bablok"
    n = xs.size
    if reason := why_no_line(xs):
        return no_line(method, level, n, excluded, reason)
    dx, dy = xs - xs.mean(), ys - ys.mean()
    if dx @ dy < 0.0:
        mirrored = _pairwise_line(method, xs, -ys, level, excluded, cut=-1.0)
        return FittedLine(
            method,
            -mirrored.slope,
            -mirrored.intercept,
            mirrored.slope_se,
            mirrored.intercept_se,
            -mirrored.slope_high,
            -mirrored.slope_low,
            -mirrored.intercept_high,
            -mirrored.intercept_low,
            level,
            n,
            excluded,
            mirrored.reason,
        )
    return _pairwise_line(method, xs, ys, level, excluded, cut=-1.0)


def theil_sen(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> FittedLine:
    """Return the Theil-Sen line of y on x: the median slope of all pairs that differ in x.

    The interval runs from rank M to rank N + 1 - M of the N slopes, M = (N - C) / 2 rounded down and C as in
    `passing_bablok`, the rule that gives Sen's published interval; ties in y are not corrected for (with ties
    it is somewhat too wide).

    Raises
    ------
    SignalError
        As `passing_bablok`.

    References
    ----------
    Sen 1968, doi:10.1080/01621459.1968.10480934.
    """
    (xs, ys), excluded = complete_pairs(x, y, level)
    if reason := why_no_line(xs):
        return no_line("Theil-Sen", level, xs.size, excluded, reason)
    return _pairwise_line("Theil-Sen", xs, ys, level, excluded, cut=None)


def _pairwise_line(
    method: str, x: Floats, y: Floats, level: float, excluded: int, *, cut: float | None
) -> FittedLine:
    n = x.size
    slopes = _Slopes(x, y, vertical=cut is not None)
    half_width = float(special.ndtri(0.5 + 0.5 * level)) * (n * (n - 1) * (2 * n + 5) / 18.0) ** 0.5
    # twice the rank, less one: odd for a single slope, even for the mean of two
    if cut is None:
        shift, middle = 0, slopes.n
        low = 2 * math.floor((slopes.n - half_width) / 2.0) - 1
        high = 2 * slopes.n - low
    else:
        shift = 2 * slopes.below(cut) + slopes.at(cut)
        middle = slopes.n + shift
        low, high = round(middle - half_width), round(middle + half_width)
    if middle > 2 * slopes.n - 1:
        reason = f"{shift / 2:g} of {slopes.n} slopes between points are below -1, expected under half"
        return no_line(method, level, n, excluded, reason)
    bounded = low >= shift + 1, high <= 2 * slopes.n - 1
    wanted = [middle] + [doubled for doubled, known in zip((low, high), bounded, strict=True) if known]
    ranked = dict(zip(wanted, slopes.ranked(wanted), strict=True))
    slope = ranked[middle]
    if not np.isfinite(slope):
        return no_line(
            method, level, n, excluded, "half of the points lie above one another, expected x to vary"
        )
    slope_low = ranked[low] if bounded[0] else -math.inf
    slope_high = ranked[high] if bounded[1] else math.inf
    intercepts = [
        float(np.median(y - end * x)) if np.isfinite(end) else -end for end in (slope_low, slope_high)
    ]
    intercept = float(np.median(y - slope * x))
    nan = float("nan")
    return FittedLine(
        method,
        slope,
        intercept,
        nan,
        nan,
        slope_low,
        slope_high,
        min(intercepts),
        max(intercepts),
        level,
        n,
        excluded,
    )


class _Slopes:
    """Slopes between all pairs of points: how many there are, and those of given ranks."""

    def __init__(self, x: Floats, y: Floats, *, vertical: bool) -> None:
        self._x, self._y, self._vertical = x, y, vertical
        self._all: Floats | None = None
        n_pairs = x.size * (x.size - 1) // 2
        if n_pairs <= _KEPT_AT_ONCE:
            self._all = np.concatenate(list(self._blocks()))
            self.n = self._all.size
        else:
            self.n = sum(block.size for block in self._blocks())

    def below(self, value: float) -> int:
        return sum(int(np.count_nonzero(block < value)) for block in self._or_all())

    def at(self, value: float) -> int:
        return sum(int(np.count_nonzero(block == value)) for block in self._or_all())

    def ranked(self, doubled_ranks: list[int]) -> list[float]:
        """Return the slope of each rank, given as twice the rank less one; halfway between two by angle."""
        firsts = [(doubled + 1) // 2 - 1 for doubled in doubled_ranks]
        seconds = [doubled // 2 for doubled in doubled_ranks]
        ranks = np.unique(firsts + seconds)
        found = dict(zip(ranks.tolist(), self._ranked(ranks).tolist(), strict=True))
        return [_between(found[i], found[j]) for i, j in zip(firsts, seconds, strict=True)]

    def _ranked(self, ranks: NDArray[np.intp]) -> Floats:
        if self._all is not None:
            return np.asarray(np.partition(self._all, ranks)[ranks])
        sample = np.sort(np.concatenate(list(self._blocks(every=self._x.size // 100))))
        margin = 0.005
        while True:
            low, high = (
                sample[round(min(max(share, 0.0), 1.0) * (sample.size - 1))]
                for share in (ranks[0] / self.n - margin, ranks[-1] / self.n + margin)
            )
            below, kept = 0, []
            for block in self._blocks():
                below += int(np.count_nonzero(block < low))
                kept.append(block[(block >= low) & (block <= high)])
            within = np.concatenate(kept)
            if below <= ranks[0] and ranks[-1] < below + within.size:
                return np.asarray(np.partition(within, ranks - below)[ranks - below])
            margin *= 4.0  # the sample was unlike the whole; at 1 the bracket holds all

    def _or_all(self) -> Iterator[Floats]:
        return iter([self._all]) if self._all is not None else self._blocks()

    def _blocks(self, every: int = 1) -> Iterator[Floats]:
        """Yield the slopes, of every so many lags only if asked."""
        n = self._x.size
        x_rotated = sliding_window_view(np.concatenate([self._x, self._x]), n)
        y_rotated = sliding_window_view(np.concatenate([self._y, self._y]), n)
        lags = np.arange(1, (n - 1) // 2 + 1)[::every]
        rows = max(1, _IN_A_BLOCK // n)
        # a Python loop over blocks of lags, some n^2 / 2 / 65536 of them, keeps the memory bounded
        for start in range(0, lags.size, rows):
            some = slice(lags[start], lags[min(start + rows, lags.size) - 1] + 1, every)
            yield self._of(x_rotated[some] - self._x, y_rotated[some] - self._y)
        if n % 2 == 0:
            half = n // 2
            yield self._of(self._x[half:] - self._x[:half], self._y[half:] - self._y[:half])

    def _of(self, dx: Floats, dy: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            slopes = (dy / dx).ravel()
        if self._vertical:
            slopes[np.isneginf(slopes)] = np.inf
            slopes[np.abs(slopes + 1.0) < _AT_MINUS_ONE] = -1.0
            return slopes[~np.isnan(slopes)]
        return slopes[np.isfinite(slopes)]


def _between(first: float, second: float) -> float:
    """Return the slope halfway between two by angle."""
    if first == second:
        return first
    return math.tan((math.atan(first) + math.atan(second)) / 2.0)
