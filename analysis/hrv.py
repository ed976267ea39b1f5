"""Heart-rate variability: figures in time of a series of RR intervals, and all figures in one record.

Every function takes intervals in ms, shape (..., n_beats), in the order of their beats; NaN marks a rejected
beat (see `rr_artefacts`), and what touches one takes no part. Standard deviations are over n - 1. `hrv` adds
the rules of the Task Force about how long a recording must be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis import hrv_frequency, hrv_nonlinear
from analysis.arrays import as_positive
from analysis.rr_artefacts import as_rr_ms, bridged

BIN_MS: Final = 7.8125
"""Task Force 1996: bins of 1/128 s for the geometric figures."""
SEGMENT_S: Final = 300.0
"""Task Force 1996: segments of SDANN and SDNN index."""

_LEAST_SEGMENT_SHARE: Final = 0.5  # of a segment covered by valid intervals; half, so that its mean is its own
_LEAST_GEOMETRIC_S: Final = 1200.0  # Task Force 1996: geometric figures need at least 20 min
_LONGEST_ENTROPY: Final = 20_000  # beats; more are rounded to 1 ms first, the resolution of an RR series

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Hrv:
    """All figures of a recording, each of shape (...); NaN where it is too short for them.

    Parameters
    ----------
    n_beats
        Valid intervals.
    valid_share
        Their share of all, 0 to 1: the quality of the figures.
    duration_s
        Sum of the valid intervals.
    mean_nn_ms, median_nn_ms, mean_hr_bpm, sdnn_ms, cvnn_percent, mad_ms, sdann_ms, sdnn_index_ms
        Of the intervals.
    rmssd_ms, sdsd_ms, nn50, pnn50_percent, pnn20_percent
        Of the differences between neighbours.
    triangular_index, tinn_ms
        Of the histogram; from 20 min.
    ulf_ms2, vlf_ms2, lf_ms2, hf_ms2, total_ms2, lf_nu, hf_nu, lf_hf
        As `welch_bands`.
    sd1_ms, sd2_ms, sd1_sd2, ellipse_area_ms2, csi, cvi
        Of the Poincaré plot; CSI and CVI after Toichi et al. 1997, doi:10.1016/S0165-1838(96)00112-9.
    sample_entropy, approximate_entropy
        Runs of two, tolerance 0.2 SDNN; from 100 beats.
    dfa_alpha1, dfa_alpha2
        Boxes of 4 to 16 and 16 to 64 beats.
    inflection_percent
        Fragmentation.
    """

    n_beats: _Floats
    valid_share: _Floats
    duration_s: _Floats
    mean_nn_ms: _Floats
    median_nn_ms: _Floats
    mean_hr_bpm: _Floats
    sdnn_ms: _Floats
    cvnn_percent: _Floats
    mad_ms: _Floats
    sdann_ms: _Floats
    sdnn_index_ms: _Floats
    rmssd_ms: _Floats
    sdsd_ms: _Floats
    nn50: _Floats
    pnn50_percent: _Floats
    pnn20_percent: _Floats
    triangular_index: _Floats
    tinn_ms: _Floats
    ulf_ms2: _Floats
    vlf_ms2: _Floats
    lf_ms2: _Floats
    hf_ms2: _Floats
    total_ms2: _Floats
    lf_nu: _Floats
    hf_nu: _Floats
    lf_hf: _Floats
    sd1_ms: _Floats
    sd2_ms: _Floats
    sd1_sd2: _Floats
    ellipse_area_ms2: _Floats
    csi: _Floats
    cvi: _Floats
    sample_entropy: _Floats
    approximate_entropy: _Floats
    dfa_alpha1: _Floats
    dfa_alpha2: _Floats
    inflection_percent: _Floats


def hrv(rr_ms: ArrayLike) -> Hrv:
    """Return all figures of heart-rate variability.

    Parameters
    ----------
    rr_ms
        RR intervals in ms, shape (..., n_beats), artefacts rejected (NaN) or repaired before.

    Raises
    ------
    SignalError
        If there is no beat axis or the values are no intervals in ms.

    References
    ----------
    Task Force of the ESC and NASPE 1996, doi:10.1161/01.CIR.93.5.1043; sources of the rest at their functions.
    Geometric figures need 20 min, SDANN and SDNN index two segments of 5 min; for least durations of powers see
    `welch_bands`. Entropies of more than 20,000 beats are of intervals rounded to 1 ms.
    """
    rr_ms = as_rr_ms(rr_ms)
    duration_s = 1e-3 * np.nansum(rr_ms, axis=-1)
    mean, sdnn, median = mean_nn_ms(rr_ms), sdnn_ms(rr_ms), median_nn_ms(rr_ms)
    sd1, sd2 = hrv_nonlinear.sd1_ms(rr_ms), hrv_nonlinear.sd2_ms(rr_ms)
    bands = hrv_frequency.welch_bands(rr_ms)
    long_enough = duration_s >= _LEAST_GEOMETRIC_S
    n_beats = np.isfinite(rr_ms).sum(axis=-1)
    many = n_beats >= hrv_nonlinear.LEAST_ENTROPY_BEATS
    to_compare = np.rint(rr_ms) if rr_ms.shape[-1] > _LONGEST_ENTROPY else rr_ms
    sample, approximate = hrv_nonlinear.entropies(to_compare)
    del to_compare
    return Hrv(
        n_beats=np.asarray(n_beats, dtype=np.float64),
        valid_share=np.asarray(n_beats / (rr_ms.shape[-1] or np.nan)),
        duration_s=np.asarray(duration_s),
        mean_nn_ms=mean,
        median_nn_ms=median,
        mean_hr_bpm=np.asarray(60_000.0 / mean),
        sdnn_ms=sdnn,
        cvnn_percent=np.asarray(100.0 * sdnn / mean),
        mad_ms=mad_ms(rr_ms),
        sdann_ms=sdann_ms(rr_ms),
        sdnn_index_ms=sdnn_index_ms(rr_ms),
        rmssd_ms=rmssd_ms(rr_ms),
        sdsd_ms=sdsd_ms(rr_ms),
        nn50=nn50(rr_ms),
        pnn50_percent=pnn_percent(rr_ms),
        pnn20_percent=pnn_percent(rr_ms, limit_ms=20.0),
        triangular_index=np.where(long_enough, triangular_index(rr_ms), np.nan),
        tinn_ms=np.where(long_enough, tinn_ms(rr_ms), np.nan),
        ulf_ms2=bands.ulf_ms2,
        vlf_ms2=bands.vlf_ms2,
        lf_ms2=bands.lf_ms2,
        hf_ms2=bands.hf_ms2,
        total_ms2=bands.total_ms2,
        lf_nu=bands.lf_nu,
        hf_nu=bands.hf_nu,
        lf_hf=bands.lf_hf,
        sd1_ms=sd1,
        sd2_ms=sd2,
        sd1_sd2=np.asarray(sd1 / _or_nan(sd2)),
        ellipse_area_ms2=np.asarray(np.pi * sd1 * sd2),
        csi=np.asarray(sd2 / _or_nan(sd1)),
        cvi=np.asarray(np.log10(16.0 * _or_nan(sd1 * sd2))),
        sample_entropy=np.where(many, sample, np.nan),
        approximate_entropy=np.where(many, approximate, np.nan),
        dfa_alpha1=hrv_nonlinear.dfa_alpha(rr_ms),
        dfa_alpha2=hrv_nonlinear.dfa_alpha(rr_ms, box_beats=hrv_nonlinear.ALPHA2_BEATS),
        inflection_percent=hrv_nonlinear.inflection_percent(rr_ms),
    )


def mean_nn_ms(rr_ms: ArrayLike) -> _Floats:
    """Return the mean interval in ms, shape (...); NaN without one."""
    values = as_rr_ms(rr_ms)
    return np.asarray(np.nansum(values, axis=-1) / _count(values, 1))


def median_nn_ms(rr_ms: ArrayLike) -> _Floats:
    """Return the median interval in ms, shape (...); NaN without one."""
    return _nanmedian(as_rr_ms(rr_ms))


def mad_ms(rr_ms: ArrayLike) -> _Floats:
    """Return the median absolute deviation from the median in ms, times 1.4826 (the SD of normal values)."""
    values = as_rr_ms(rr_ms)
    return np.asarray(1.4826 * _nanmedian(np.abs(values - _nanmedian(values)[..., np.newaxis])))


def sdnn_ms(rr_ms: ArrayLike) -> _Floats:
    """Return the standard deviation (n - 1) of the intervals in ms, shape (...); NaN below two."""
    return _sd(as_rr_ms(rr_ms))


def sdann_ms(rr_ms: ArrayLike) -> _Floats:
    """Return the standard deviation of the means of 5-minute segments in ms, shape (...); NaN below two.

    Segments follow each other from the first beat; the rest after the last whole one, and a segment of which
    less than half is covered by valid intervals, do not count.
    """
    return _sd(_segments(as_rr_ms(rr_ms))[0])


def sdnn_index_ms(rr_ms: ArrayLike) -> _Floats:
    """Return the mean of the standard deviations of 5-minute segments in ms; segments as `sdann_ms`."""
    spreads = _segments(as_rr_ms(rr_ms))[1]
    return np.asarray(np.nansum(spreads, axis=-1) / _count(spreads, 2))


def rmssd_ms(rr_ms: ArrayLike) -> _Floats:
    """Return the root mean square of successive differences in ms, shape (...).

    NaN where no two neighbouring beats are valid. Differs from the Task Force in skipping differences that
    touch a rejected beat.
    """
    differences = np.diff(as_rr_ms(rr_ms), axis=-1)
    n = _count(differences, 1)
    differences *= differences
    return np.asarray(np.sqrt(np.nansum(differences, axis=-1) / n))


def sdsd_ms(rr_ms: ArrayLike) -> _Floats:
    """Return the standard deviation (n - 1) of successive differences in ms, shape (...); NaN below two."""
    return _sd(np.diff(as_rr_ms(rr_ms), axis=-1))


def nn50(rr_ms: ArrayLike, *, limit_ms: float = 50.0) -> _Floats:
    """Return how many successive differences are larger than `limit_ms` in size, shape (...)."""
    limit_ms = as_positive(limit_ms, name="limit_ms", unit="ms")
    differences = np.diff(as_rr_ms(rr_ms), axis=-1)
    n = _count(differences, 1)
    return np.where(np.isnan(n), np.nan, (np.abs(differences) > limit_ms).sum(axis=-1))


def pnn_percent(rr_ms: ArrayLike, *, limit_ms: float = 50.0) -> _Floats:
    """Return pNN50, or another limit's, in percent of the successive differences, shape (...).

    Of n intervals there are n - 1 differences; some programs divide by n.
    """
    differences = np.diff(as_rr_ms(rr_ms), axis=-1)
    return np.asarray(100.0 * nn50(rr_ms, limit_ms=limit_ms) / _count(differences, 1))


def triangular_index(rr_ms: ArrayLike, *, bin_ms: float = BIN_MS) -> _Floats:
    """Return the number of intervals over the height of their histogram, shape (...); NaN without one.

    References
    ----------
    Task Force 1996, with bins of 1/128 s centred on multiples of their width (which it leaves open).
    """
    values = as_rr_ms(rr_ms)
    heights = _by_row(values, lambda row: float(_histogram(row, bin_ms).max(initial=0)))
    return np.asarray(_count(values, 1) / _or_nan(heights))


def tinn_ms(rr_ms: ArrayLike, *, bin_ms: float = BIN_MS) -> _Floats:
    """Return the base of the triangle that fits the histogram best, in ms, shape (...).

    References
    ----------
    Task Force 1996: of all triangles with their top on the histogram's highest bin, the one of least squared
    difference. Its two sides are found one by one, as neither changes the error of the other. Bins as
    `triangular_index`.
    """
    return _by_row(as_rr_ms(rr_ms), lambda row: bin_ms * _triangle_bins(_histogram(row, bin_ms)))


def _or_nan(values: _Floats) -> _Floats:
    return np.where(values > 0.0, values, np.nan)


def _count(values: _Floats, least: int) -> _Floats:
    """Return how many of the last axis are no NaN, NaN for fewer than `least`."""
    n = np.isfinite(values).sum(axis=-1)
    return np.where(n >= least, n, np.nan)


def _sd(values: _Floats) -> _Floats:
    rest = values - (np.nansum(values, axis=-1) / _count(values, 1))[..., np.newaxis]
    rest *= rest
    return np.asarray(np.sqrt(np.nansum(rest, axis=-1) / (_count(values, 2) - 1.0)))


def _nanmedian(values: _Floats) -> _Floats:
    """Return the median of what is no NaN; sorting puts NaN last."""
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    n = np.isfinite(values).sum(axis=-1)[..., np.newaxis]
    ordered = np.sort(values, axis=-1)
    middle = [np.take_along_axis(ordered, np.maximum(k, 0) // 2, axis=-1)[..., 0] for k in (n - 1, n)]
    return np.where(n[..., 0] > 0, (middle[0] + middle[1]) / 2.0, np.nan)


def _by_row(rr_ms: _Floats, of_row: Callable[[_Floats], float]) -> _Floats:
    out = np.full(rr_ms.shape[:-1], np.nan)
    for row in np.ndindex(rr_ms.shape[:-1]):  # each has a histogram of its own
        out[row] = of_row(rr_ms[row])
    return out


def _segments(rr_ms: _Floats) -> tuple[_Floats, _Floats]:
    """Return mean and standard deviation of every whole segment, shape (..., n_segments)."""
    ends_s = np.cumsum(bridged(rr_ms), axis=-1)
    ends_s *= 1e-3
    whole = np.nanmax(np.nan_to_num(ends_s), axis=-1, initial=0.0) // SEGMENT_S
    n_segments = int(whole.max(initial=0.0))
    shape = (*rr_ms.shape[:-1], n_segments)
    if n_segments == 0 or rr_ms.size == 0:
        return np.full(shape, np.nan), np.full(shape, np.nan)
    valid = np.isfinite(rr_ms)
    number = np.where(valid, ends_s / SEGMENT_S, 0.0).astype(np.int64)
    del ends_s
    counted = valid & (number < whole[..., np.newaxis])
    n_rows = whole.size
    number += np.arange(n_rows).reshape(*whole.shape, 1) * n_segments
    of_segment, values = number[counted], rr_ms[counted]
    del number
    n = np.bincount(of_segment, minlength=n_rows * n_segments)
    total = np.bincount(of_segment, values, minlength=n_rows * n_segments)
    means = total / np.where(1e-3 * total >= _LEAST_SEGMENT_SHARE * SEGMENT_S, n, np.nan)
    values -= means[of_segment]
    squares = np.bincount(of_segment, values**2, minlength=n_rows * n_segments)
    return means.reshape(shape), np.sqrt(squares / np.where(n > 1, n - 1, np.nan)).reshape(shape)


def _histogram(row: _Floats, bin_ms: float) -> NDArray[np.int64]:
    bin_ms = as_positive(bin_ms, name="bin_ms", unit="ms")
    numbers = np.floor(row[np.isfinite(row)] / bin_ms + 0.5).astype(np.int64)
    if numbers.size == 0:
        return np.empty(0, dtype=np.int64)
    return np.asarray(np.bincount(numbers - numbers.min()), dtype=np.int64)


def _triangle_bins(heights: NDArray[np.int64]) -> float:
    """Return the width of the best triangle's base, in bins."""
    if heights.size == 0:
        return float("nan")
    top = int(heights.argmax())
    return _side_bins(heights[top::-1]) + _side_bins(heights[top:])


def _side_bins(falling: NDArray[np.int64]) -> float:
    """Return how many bins from the top, its first, the best straight slope reaches zero."""
    feet = np.arange(1.0, falling.size + 1.0)
    under = (
        np.cumsum(falling) - np.cumsum(falling * np.arange(falling.size)) / feet
    )  # sum of slope times height
    squares = 1.0 + (feet - 1.0) * (2.0 * feet - 1.0) / (6.0 * feet)  # sum of the slope of height 1, squared
    return float(feet[(falling[0] * squares - 2.0 * under).argmin()])
