"""Intervals and levels of an electrocardiogram, beat by beat or averaged: PR, QRS, QT and QTc, ST.

The waves are told by `ecg_waves`. Here beats are gathered, the wandering baseline is taken as the line through
their PR levels and subtracted, and what was found is put into the samples of the lead. An averaged beat, the
median of those in ten seconds, is what clinicians measure: noise and single ectopic beats fall away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import interpolate

from analysis.arrays import as_positive, as_signal
from analysis.ecg_waves import AFTER_S, BEFORE_S, Rows, p_waves, qrs_bounds, t_waves
from analysis.filters import bridged
from analysis.heartbeats import LOWEST_RATE_HZ, detect_qrs
from analysis.quality import ecg_quality
from analysis.windows import window_starts
from protocols.errors import SignalError

_Floats: TypeAlias = NDArray[np.float64]
_Ints: TypeAlias = NDArray[np.int64]

_BLOCK: Final = 128  # beats: bounds the memory of the rows
_ISOELECTRIC_S: Final = (
    0.020  # the end of the PR segment, before the complex, 10 ms off its onset, which may be told late
)
_NEIGHBOUR_S: Final = 0.080  # half of a wide QRS complex of the beat before or after
_LEVEL_S: Final = 0.010  # either side of a level's point: a whole period of 50 Hz
_ST_S: Final = (0.060, 0.080)  # J + 60 and J + 80 ms, the points in clinical use
_LONGEST_RR_S: Final = 3.0  # an interval above is a pause or a gap, and no usual interval
_USUAL_RR: Final = 9  # beats around one
_P_AGREES_S: Final = 0.025  # a P wave is where those of half its neighbours are, within a quarter of its width
_FEWEST_BEATS: Final = 3  # an average of fewer is none
_STRIP_S: Final = 10.0  # a standard ECG

QT_CORRECTIONS: Final[Mapping[str, Callable[[_Floats, _Floats], _Floats]]] = MappingProxyType(
    {
        "bazett": lambda qt_s, rr_s: qt_s / np.sqrt(rr_s),
        "fridericia": lambda qt_s, rr_s: qt_s / np.cbrt(rr_s),
        "framingham": lambda qt_s, rr_s: qt_s + 0.154 * (1.0 - rr_s),
        "hodges": lambda qt_s, rr_s: qt_s + 0.00175 * (60.0 / rr_s - 60.0),
    }
)
"""Name -> QTc in s of QT and RR in s.

Bazett 1920 (Heart 7:353); Fridericia 1920 (Acta Med Scand 53:469); Sagie et al. 1992 (Framingham,
Am J Cardiol 70:797); Hodges, Salerno & Erlien 1983 (J Am Coll Cardiol 1:694).
"""


@dataclass(frozen=True, slots=True, eq=False)
class Delineation:
    """Where the waves of beats are, in samples of the lead, each of shape (n_beats,); NaN if not to be told.

    Parameters
    ----------
    rate_hz
        Sampling rate of the lead.
    beats
        The beats' marks; of an averaged beat, the one in the middle of its window.
    rr_ms
        Interval from the beat before; of an averaged beat, the mean of those in its window.
    p_onset, p_peak, p_offset
        P wave; NaN also where there is none.
    qrs_onset, qrs_offset
        QRS complex; its end is the J point.
    t_peak, t_end
        T wave.
    isoelectric
        Level of the PR segment, from 30 to 10 ms before the QRS complex, in the lead's unit.
    st_j60, st_j80
        Level 60 and 80 ms after the J point above the isoelectric line, in the lead's unit.
    """

    rate_hz: float
    beats: _Ints
    rr_ms: _Floats
    p_onset: _Floats
    p_peak: _Floats
    p_offset: _Floats
    qrs_onset: _Floats
    qrs_offset: _Floats
    t_peak: _Floats
    t_end: _Floats
    isoelectric: _Floats
    st_j60: _Floats
    st_j80: _Floats

    @property
    def pr_ms(self) -> _Floats:
        """From the onset of P to that of the QRS complex."""
        return self._ms(self.p_onset, self.qrs_onset)

    @property
    def qrs_ms(self) -> _Floats:
        """Duration of the QRS complex."""
        return self._ms(self.qrs_onset, self.qrs_offset)

    @property
    def qt_ms(self) -> _Floats:
        """From the onset of the QRS complex to the end of T."""
        return self._ms(self.qrs_onset, self.t_end)

    def qtc_ms(self, formula: str = "fridericia") -> _Floats:
        """QT corrected for rate by the interval before each beat; see `corrected_qt_ms`."""
        return corrected_qt_ms(self.qt_ms, self.rr_ms, formula=formula)

    def _ms(self, start: _Floats, end: _Floats) -> _Floats:
        return (end - start) * (1000.0 / self.rate_hz)


def corrected_qt_ms(qt_ms: ArrayLike, rr_ms: ArrayLike, *, formula: str = "fridericia") -> _Floats:
    """Return QTc in ms, of the shape that QT and RR, in ms, have together; NaN where RR is not above 0.

    Raises
    ------
    SignalError
        If `formula` is none of `QT_CORRECTIONS`, or values are infinite.
    """
    if formula not in QT_CORRECTIONS:
        raise SignalError(f"formula={formula!r}, expected one of {', '.join(QT_CORRECTIONS)}")
    qt_s = as_signal(np.atleast_1d(np.asarray(qt_ms)), name="qt_ms") / 1000.0
    rr_s = as_signal(np.atleast_1d(np.asarray(rr_ms)), name="rr_ms") / 1000.0
    corrected = 1000.0 * QT_CORRECTIONS[formula](qt_s, np.where(rr_s > 0.0, rr_s, np.nan))
    return corrected.reshape(np.broadcast_shapes(np.shape(qt_ms), np.shape(rr_ms)))


def delineate(ecg: ArrayLike, beats: ArrayLike, *, rate_hz: float) -> Delineation:
    """Return where the waves of every beat are, and its ST levels.

    Parameters
    ----------
    ecg
        One lead, shape (n_samples,), in any unit and polarity, NaN where missing. Not high-pass filtered above
        0.05 Hz if ST levels are to mean anything (AHA/ACC/HRS 2007); the baseline is handled here.
    beats
        Ascending sample indices of the QRS complexes, as `heartbeats.detect_qrs` gives them, shape (n_beats,).
    rate_hz
        Sampling rate, at least 100; onsets are told to a sample, so 250 and more is what intervals need.

    Returns
    -------
    One entry per beat. A wave is NaN where it does not stand out from noise, where it would touch missing
    samples, a neighbouring beat or an end of the lead. A P wave counts only where at least half of the nine
    beats around have one at the same distance, within 25 ms: fibrillation waves do not.

    Raises
    ------
    SignalError
        If `ecg` is not one-dimensional or holds infinite values, the beats do not ascend within it, or the rate
        is below 100 Hz.

    References
    ----------
    Martinez et al. 2004, doi:10.1109/TBME.2003.821031: slopes that belong to the QRS complex, and shares of
    them at its bounds; here on the derivative of a Gaussian, 8 ms wide at any rate, for their spline wavelet.
    Lepeschkin & Surawicz 1952, Circulation 6:378: the end of T where its steepest tangent meets the
    isoelectric line. Of tangent, trapezium and integral methods its scatter against the cardiologists of the QT
    database was the least (Moeyersons et al. 2017, BIOSIGNALS 2017, pages 92-98: -8 +- 16 ms).
    Laguna, Jane & Caminal 1994, Comput Biomed Res 27:45: where the T wave is looked for.
    Meyer & Keiser 1977, Comput Biomed Res 10:459: baseline, a cubic spline
    through PR levels; here a local one (Hermite, slopes by finite differences), which a gap does not upset.
    """
    samples, marks, rate_hz = _checked(ecg, beats, rate_hz)
    return _delineated(samples, marks, rate_hz)


def delineate_average(
    ecg: ArrayLike, beats: ArrayLike, *, rate_hz: float, window_s: float = _STRIP_S, step_s: float = _STRIP_S
) -> Delineation:
    """Return where the waves of the median beat of every window are, and its ST levels.

    Parameters
    ----------
    ecg, beats, rate_hz
        As for `delineate`.
    window_s, step_s
        Windows of whole beats: those marked in [start, start + window_s).

    Returns
    -------
    One entry per window, in samples as if the averaged beat were the one in its middle. NaN where fewer than 3
    beats of a window could be told; `beats` is then the window's middle.

    Raises
    ------
    SignalError
        As `delineate`, or if a duration is no number above 0.

    References
    ----------
    As `delineate`. Beats are aligned by their marks after the baseline was subtracted; the median of each
    sample leaves out what fewer than half of the beats share.
    """
    samples, marks, rate_hz = _checked(ecg, beats, rate_hz)
    starts, width = window_starts(samples.size, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    single = _delineated(samples, marks, rate_hz)
    lead = _Lead(samples, marks, rate_hz, single.qrs_onset, single.isoelectric)
    baseline = lead.baseline()
    before, after = round(BEFORE_S * rate_hz), round(AFTER_S * rate_hz)
    averages = np.zeros((starts.size, before + after + 1))
    middles, rr_s, told = starts + width // 2, np.full(starts.size, np.nan), np.zeros(starts.size, dtype=bool)
    for k, start in enumerate(starts):  # windows hold different numbers of beats
        within = np.flatnonzero((marks >= start) & (marks < start + width) & np.isfinite(single.qrs_onset))
        if within.size < _FEWEST_BEATS:
            continue
        told[k] = True
        middles[k] = marks[within[within.size // 2]]
        rr = single.rr_ms[within] / 1000.0
        rr_s[k] = np.mean(rr[rr <= _LONGEST_RR_S]) if (rr <= _LONGEST_RR_S).any() else np.nan
        rows, missing = lead.level_rows(within, baseline)
        whole = np.where(missing, np.nan, rows)
        there = ~missing.all(axis=0)
        averages[k, there] = np.nanmedian(whole[:, there], axis=0)
    usual_s = np.where(np.isfinite(rr_s), rr_s, 1.0)
    reach = np.rint(usual_s * rate_hz).astype(np.int64)
    guard = round(_NEIGHBOUR_S * rate_hz)
    rows_of = Rows(
        averages,
        rate_hz,
        before,
        np.maximum(before - reach + guard, 0),
        np.minimum(before + reach - guard, before + after),
        usual_s,
    )
    onset, offset = qrs_bounds(rows_of)
    onset, offset = np.where(told, onset, np.nan), np.where(told, offset, np.nan)
    level = _level(averages, onset - _ISOELECTRIC_S * rate_hz, 0.5 * _ISOELECTRIC_S * rate_hz)
    rows_of = Rows(
        averages - np.nan_to_num(level)[:, np.newaxis], rate_hz, before, rows_of.first, rows_of.last, usual_s
    )
    t_peak, t_end = t_waves(rows_of, onset, offset)
    p_onset, p_peak, p_offset = p_waves(rows_of, onset, t_end - reach)
    shift = middles - before
    st_j60, st_j80 = _st_levels(rows_of, offset)
    return Delineation(
        rate_hz=rate_hz,
        beats=middles,
        rr_ms=1000.0 * rr_s,
        p_onset=p_onset + shift,
        p_peak=p_peak + shift,
        p_offset=p_offset + shift,
        qrs_onset=onset + shift,
        qrs_offset=offset + shift,
        t_peak=t_peak + shift,
        t_end=t_end + shift,
        isoelectric=baseline(onset + shift) + level,
        st_j60=st_j60,
        st_j80=st_j80,
    )


def median_pr_ms(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return the PR interval, as `median_over_strips`."""
    return median_over_strips(lambda strips: strips.pr_ms, ecg, rate_hz=rate_hz)


def median_qrs_ms(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return the duration of the QRS complex, as `median_over_strips`."""
    return median_over_strips(lambda strips: strips.qrs_ms, ecg, rate_hz=rate_hz)


def median_qt_ms(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return the QT interval, as `median_over_strips`."""
    return median_over_strips(lambda strips: strips.qt_ms, ecg, rate_hz=rate_hz)


def median_qtc_fridericia_ms(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return QT corrected after Fridericia, as `median_over_strips`."""
    return median_over_strips(lambda strips: strips.qtc_ms("fridericia"), ecg, rate_hz=rate_hz)


def median_qtc_bazett_ms(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return QT corrected after Bazett, as `median_over_strips`."""
    return median_over_strips(lambda strips: strips.qtc_ms("bazett"), ecg, rate_hz=rate_hz)


def median_st_j60(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return the ST level 60 ms after the J point, in the unit of the lead, as `median_over_strips`."""
    return median_over_strips(lambda strips: strips.st_j60, ecg, rate_hz=rate_hz)


def median_over_strips(quantity: Callable[[Delineation], _Floats], ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return the median of a quantity of the averaged beats of good 10 s strips of one lead.

    NaN where no strip is good (`quality.ecg_quality`) or fewer than half of the good ones show the quantity: a
    wave that is told in a few strips only is as likely a mistake.

    Parameters
    ----------
    quantity
        Of a delineation, such as ``lambda strips: strips.qtc_ms("hodges")``.
    ecg, rate_hz
        As for `delineate`; beats are detected.
    """
    beats = detect_qrs(ecg, rate_hz=rate_hz)
    good = ecg_quality(ecg, beats, rate_hz=rate_hz, window_s=_STRIP_S, step_s=_STRIP_S).good
    values = quantity(delineate_average(ecg, beats, rate_hz=rate_hz))[good]
    told = values[np.isfinite(values)]
    return float(np.median(told)) if told.size and 2 * told.size >= values.size else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class _Lead:
    """A lead, and where its baseline was found."""

    samples: NDArray[Any]
    marks: _Ints
    rate_hz: float
    onset: _Floats
    level: _Floats

    def baseline(self) -> Callable[[NDArray[Any]], _Floats]:
        """Return the function that gives the baseline at samples: smooth through the PR levels, held beyond."""
        told = np.isfinite(self.onset)
        positions, levels = self.onset[told] - _ISOELECTRIC_S * self.rate_hz, self.level[told]
        if positions.size < 2:
            return lambda index: np.full(np.shape(index), levels[0] if levels.size else 0.0)
        curve = interpolate.CubicHermiteSpline(positions, levels, np.gradient(levels, positions))
        return lambda index: np.asarray(curve(np.clip(index, positions[0], positions[-1])))

    def rows(self, which: _Ints) -> tuple[_Floats, NDArray[np.bool_], _Ints]:
        """Return the rows of some beats, bridged, where they are missing, and the samples they hold."""
        before, after = round(BEFORE_S * self.rate_hz), round(AFTER_S * self.rate_hz)
        index = self.marks[which, np.newaxis] + np.arange(-before, after + 1)
        beyond = (index < 0) | (index >= self.samples.size)
        rows = self.samples[np.clip(index, 0, self.samples.size - 1)].astype(np.float64)
        missing = beyond | np.isnan(rows)
        return bridged(rows), missing, index

    def level_rows(
        self, which: _Ints, baseline: Callable[[NDArray[Any]], _Floats]
    ) -> tuple[_Floats, NDArray[np.bool_]]:
        """Return the rows of some beats above the baseline, and where they are missing."""
        rows, missing, index = self.rows(which)
        rows -= baseline(index)
        return rows, missing


def _checked(ecg: ArrayLike, beats: ArrayLike, rate_hz: float) -> tuple[NDArray[Any], _Ints, float]:
    samples = as_signal(ecg, name="ecg")
    if samples.ndim != 1:
        raise SignalError(f"ecg of shape {samples.shape}, expected one lead (n_samples,)")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if rate_hz < LOWEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {LOWEST_RATE_HZ} Hz")
    marks = np.asarray(beats)
    if marks.size == 0:
        marks = np.empty(0, dtype=np.int64)
    if marks.ndim != 1 or marks.dtype.kind not in "iu":
        raise SignalError(f"beats of shape {marks.shape} and dtype {marks.dtype}, expected sample indices (n,)")
    marks = marks.astype(np.int64)
    if marks.size and (marks[0] < 0 or marks[-1] >= samples.size or (np.diff(marks) <= 0).any()):
        raise SignalError(
            f"beats from {marks[0]} to {marks[-1]}, expected them to ascend in {samples.size} samples"
        )
    return samples, marks, rate_hz


def _delineated(samples: NDArray[Any], marks: _Ints, rate_hz: float) -> Delineation:
    n, before = marks.size, round(BEFORE_S * rate_hz)
    after = round(AFTER_S * rate_hz)
    found = {field.name: np.full(n, np.nan) for field in fields(Delineation)[3:]}
    lead = _Lead(samples, marks, rate_hz, found["qrs_onset"], found["isoelectric"])
    rr = np.diff(marks).astype(np.float64)
    rr_ms = np.concatenate([np.full(min(n, 1), np.nan), rr * (1000.0 / rate_hz)])
    usual_s = _usual(rr_ms / 1000.0)
    guard = round(_NEIGHBOUR_S * rate_hz)
    first = before - np.concatenate([np.full(min(n, 1), before), np.diff(marks) - guard])
    last = before + np.concatenate([np.diff(marks) - guard, np.full(min(n, 1), after)])
    first = np.clip(np.maximum(first, before - marks), 0, before)
    last = np.clip(np.minimum(last, before + samples.size - 1 - marks), before, before + after)
    blocks = [np.arange(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
    for block in blocks:  # blocks bound the memory; the baseline needs the onsets of all of them first
        rows, missing, index = lead.rows(block)
        gathered = Rows(rows, rate_hz, before, first[block], last[block], usual_s[block])
        onset, offset = qrs_bounds(gathered)
        half = 0.5 * _ISOELECTRIC_S * rate_hz
        broken = _touches(missing, onset - 3.0 * half, offset) | ~np.isfinite(onset + offset)
        onset[broken], offset[broken] = np.nan, np.nan
        found["qrs_onset"][block] = onset + index[:, 0]
        found["qrs_offset"][block] = offset + index[:, 0]
        found["isoelectric"][block] = _level(rows, onset - 2.0 * half, half)
    t_end_before, baseline = np.nan, lead.baseline()
    for block in blocks:
        rows, missing = lead.level_rows(block, baseline)
        origin = marks[block] - before
        gathered = Rows(rows, rate_hz, before, first[block], last[block], usual_s[block])
        onset, offset = found["qrs_onset"][block] - origin, found["qrs_offset"][block] - origin
        t_peak, t_end = t_waves(gathered, onset, offset)
        broken = _touches(missing, offset, np.where(np.isfinite(t_end), t_end, t_peak))
        t_peak[broken], t_end[broken] = np.nan, np.nan
        earlier = np.append(t_end_before, (t_end + origin)[:-1]) - origin.astype(np.float64)
        p_onset, p_peak, p_offset = p_waves(gathered, onset, earlier)
        broken = _touches(missing, p_onset, onset)
        t_end_before = float(t_end[-1] + origin[-1])
        for name, column in (("t_peak", t_peak), ("t_end", t_end)):
            found[name][block] = column + origin
        for name, column in (("p_onset", p_onset), ("p_peak", p_peak), ("p_offset", p_offset)):
            found[name][block] = np.where(broken, np.nan, column + origin)
        gap = _touches(missing, offset, offset + (_ST_S[-1] + _LEVEL_S) * rate_hz)
        for name, level in zip(("st_j60", "st_j80"), _st_levels(gathered, offset), strict=True):
            found[name][block] = np.where(gap, np.nan, level)
    alone = ~_agreeing(marks - found["p_peak"], _P_AGREES_S * rate_hz)
    for name in ("p_onset", "p_peak", "p_offset"):
        found[name][alone] = np.nan
    return Delineation(rate_hz, marks, rr_ms, **found)


def _st_levels(rows: Rows, offset: _Floats) -> tuple[_Floats, _Floats]:
    """Return the levels after the J point, NaN where the next beat is reached."""
    levels = []
    for after_s in _ST_S:
        centre = offset + after_s * rows.rate_hz
        level = _level(rows.samples, centre, _LEVEL_S * rows.rate_hz)
        levels.append(np.where(centre + _LEVEL_S * rows.rate_hz <= rows.last, level, np.nan))
    return levels[0], levels[1]


def _level(rows: _Floats, centre: _Floats, half_width: float) -> _Floats:
    """Return the mean of each row within `half_width` of its centre; NaN where that is NaN."""
    columns = np.arange(rows.shape[1])
    inside = np.abs(columns - centre[:, np.newaxis]) <= max(half_width, 0.5)
    count = inside.sum(axis=1)
    return np.asarray((rows * inside).sum(axis=1) / np.where(count > 0, count, np.nan))


def _touches(missing: NDArray[np.bool_], start: _Floats, end: _Floats) -> NDArray[np.bool_]:
    """Return whether a row misses anything from `start` to `end`; False where either is NaN."""
    columns = np.arange(missing.shape[1])
    inside = (columns >= start[:, np.newaxis]) & (columns <= end[:, np.newaxis])
    beyond = (start < 0) | (end > missing.shape[1] - 1)
    return np.asarray((missing & inside).any(axis=1) | beyond)


def _around(values: _Floats) -> _Floats:
    """Return each value with the four before and after it, shape (n, 9), NaN beyond the ends."""
    padded = np.pad(values, _USUAL_RR // 2, constant_values=np.nan)
    return (
        np.asarray(np.lib.stride_tricks.sliding_window_view(padded, _USUAL_RR))
        if values.size
        else (np.empty((0, _USUAL_RR)))
    )


def _usual(rr_s: _Floats) -> _Floats:
    """Return the median of the RR intervals around each beat, 1 s where none of them is one."""
    around = _around(np.where(rr_s <= _LONGEST_RR_S, rr_s, np.nan))
    known = np.isfinite(around).any(axis=1)
    usual = np.ones(rr_s.size)
    usual[known] = np.nanmedian(around[known], axis=1)
    return usual


def _agreeing(distance: _Floats, tolerance: float) -> NDArray[np.bool_]:
    """Return which distances at least half of those around them share; NaN shares nothing."""
    around = _around(distance)
    there = _around(np.zeros(distance.size)) == 0.0
    agree = (np.abs(around - distance[:, np.newaxis]) <= tolerance).sum(axis=1)
    return np.asarray(np.isfinite(distance) & (2 * agree >= there.sum(axis=1)))
