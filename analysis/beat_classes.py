"""Classes of heartbeats: normal, supraventricular, ventricular, fusion, or unclassifiable (ANSI/AAMI EC57).

Theory of operation
-------------------
The record itself says what is normal; nothing was trained.

1. *Shapes.* The QRS complexes, at about 120 samples a second and without baseline, are grouped by their
   correlation at the best lag. Several leads are compared as one vector, each in units of its own noise. The
   *usual* shape is the one with the most beats that come on time; so a bigeminy does not make its ectopic
   beats the norm.
2. *Measures.* Of every beat: correlation with the usual shape, amplitude and steepness relative to it (a slow
   conduction makes a QRS complex wide, so less steep for its height), prematurity and pause relative to the
   local rhythm. Beats of one shape share the medians of its members, which noise moves less.
3. *Ventricular.* A shape unlike the usual one is ventricular if it is wide or clearly different, and the beats
   that begin its runs tend to come early. Timing is what tells it from a bundle branch block that comes and
   goes. It says nothing in atrial fibrillation, where the shape decides alone.
4. *Fusion.* A beat on time that is a sum of the usual and a ventricular shape.
5. *Supraventricular.* A beat of unlike timing only: early against the local rhythm and against the interval
   before, outside atrial fibrillation, or following such a beat in a run.
6. *Unclassifiable.* The beat is paced, samples are missing in all leads, or the beat has no known shape and the
   signal around it is never quiet.

Only ratios count: unit, gain, offset and polarity do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from analysis.arrays import as_positive, as_signal
from analysis.beat_shapes import SAME, Complexes, aligned_beats, compare, cut_complexes, find_shapes
from analysis.ecg_morphology import delineate
from analysis.rhythm import as_beats, irregular_beats, without_p_waves
from protocols.errors import SignalError

LOWEST_RATE_HZ: Final = 100.0
"""As for the detection of the beats: a QRS complex reaches up to some 40 Hz."""

_DIFFERENT: Final = 0.85  # correlation below which a shape is unlike the usual one whatever its width
_FOREIGN: Final = 0.60  # the same where timing says nothing
_WIDE: Final = 0.80  # steepness relative to the usual: 120 ms instead of 96 ms
_EARLY: Final = 0.85  # share of the local interval; usual definitions of prematurity lie at 0.80 to 0.90
_TIMED: Final = 0.90  # the same where the shape is evidence as well
_PAUSE: Final = 1.05  # the interval after, relative to the local one
_OFTEN_TIMED: Final = 1.0 / 3.0  # of the runs of an ectopic shape begin early; of escape beats and blocks none
_TALLER: Final = 2.0**0.5  # 3 dB: more than breathing does
_MIXED: Final = 0.95  # correlation of a fusion beat with the sum of its two sources
_PART: Final = 0.25  # smallest share of either source
_RESTLESS: Final = 0.15  # quietest 100 ms within half a second, relative to the QRS complex
_LONE: Final = 3  # fewer beats of one shape are no evidence that it is one
_LOCAL_BEATS: Final = 21  # de Chazal et al. 2004 use 10 beats; 10 on each side are symmetric
_PACED_S: Final = 0.2  # an atrial stimulus, a long conduction, and half of a wide complex come before a mark
_TINY: Final = 1e-12

_Floats: TypeAlias = NDArray[np.float64]
_Flags: TypeAlias = NDArray[np.bool_]


def classify_beats(
    ecg: ArrayLike, beats: ArrayLike, *, rate_hz: float, pacing: ArrayLike | None = None
) -> NDArray[np.str_]:
    """Return the class of every beat: N, S, V, F or Q of ANSI/AAMI EC57.

    Parameters
    ----------
    ecg
        One lead, shape (n_samples,), or several leads of one subject, shape (n_leads, n_samples); integers or
        floats in any unit. NaN marks missing samples.
    beats
        Sample indices of the QRS complexes, ascending, shape (n_beats,), as `detect_qrs` returns them.
    rate_hz
        Sampling rate, at least 100.
    pacing
        Sample indices of a pacemaker's stimuli, ascending, as a device with a pace detector marks them. The
        beat that follows one within 200 ms is paced; None where nobody knows.

    Returns
    -------
    Shape (n_beats,), one letter each:

    - N: normal, bundle branch block, or anything that is neither early nor unlike the usual beat;
    - S: supraventricular premature; V: ventricular; F: fusion of ventricular and normal;
    - Q: paced, or unclassifiable for noise or missing samples; all where no two beats resemble each other.

    Escape beats of supraventricular shape are N. Without `pacing` paced beats are what their shape makes them:
    a stimulus of a millisecond is not in samples of 100 to 500 Hz (MIT-BIH 102, 104 and 107 show none).

    Raises
    ------
    SignalError
        If `ecg` has more than two dimensions, holds infinite or no real values, if beats do not ascend or lie
        outside, or if the rate is below 100 Hz.

    References
    ----------
    de Chazal, O'Dwyer & Reilly 2004, doi:10.1109/TBME.2004.827359: classes, intervals before and after relative
    to their local mean. Llamedo & Martínez 2011, doi:10.1109/TBME.2010.2068048: several leads, shape and rhythm
    relative to the record. Hamilton 2002, doi:10.1109/CIC.2002.1166717: dominant shape, its width, timing.

    Differs from all of them in having no trained model: the measures are judged by fixed rules on ratios. The
    thresholds are round figures; each was varied by 5 to 50 % on 20 unpaced MIT-BIH records, even and odd ones
    apart. Ventricular sensitivity and positive predictivity moved by at most 1.3 points on either half, but for
    `SAME` (0.85: 3.8 points of sensitivity less on the even half) and `_TALLER` (1.6: 4.4 less on the odd one).
    `_OFTEN_TIMED` stands in the middle of a plateau from 0.2 to 0.45; at 0.5 sensitivity falls by 3 points.
    Supraventricular sensitivity is traded for predictivity by `_EARLY` (0.80: 59 / 94 %, 0.85: 71 / 93 %, 0.90:
    77 / 75 % on the even half, which holds 156 of the 168 such beats) and `_TALLER`.
    """
    leads, samples, rate_hz = _checked(ecg, beats, rate_hz)
    stimuli = as_beats(pacing) if pacing is not None else np.empty(0, dtype=np.int64)
    if samples.size == 0:
        return np.empty(0, dtype="<U1")
    complexes = cut_complexes(leads, samples, rate_hz=rate_hz)
    shapes, members = find_shapes(complexes)
    if not shapes:
        return np.full(samples.size, "Q", dtype="<U1")
    timing = _timing(samples, rate_hz=rate_hz)
    atria = _Atria(samples, _p_waves(leads, samples, rate_hz=rate_hz), rate_hz)
    classes = _decide(complexes, timing, shapes, members, atria)
    classes[_paced(samples, stimuli, rate_hz=rate_hz)] = "Q"
    return classes


def _paced(samples: NDArray[np.int64], stimuli: NDArray[np.int64], *, rate_hz: float) -> _Flags:
    """Return which beats have a stimulus within 200 ms before their mark."""
    earlier = np.searchsorted(stimuli, samples, side="right") - 1
    since = samples - stimuli[np.maximum(earlier, 0)] if stimuli.size else np.zeros(samples.size)
    return (earlier >= 0) & (since <= _PACED_S * rate_hz)


@dataclass(frozen=True, slots=True, eq=False)
class _Timing:
    """Intervals before and after every beat over the local one, and the one before over its predecessor."""

    before: _Floats
    after: _Floats
    against_last: _Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Atria:
    """Beats and where P waves come before them, None where their intervals are orderly anyway."""

    samples: NDArray[np.int64]
    p_waves: _Flags | None
    rate_hz: float

    def fibrillating(self, classes: NDArray[np.str_]) -> _Flags:
        """Return which beats lie in atrial fibrillation."""
        if self.p_waves is None:
            return np.zeros(self.samples.size, dtype=bool)
        irregular = irregular_beats(self.samples, rate_hz=self.rate_hz, classes=classes)
        return irregular & without_p_waves(self.p_waves, classes)


def _p_waves(leads: NDArray[Any], samples: NDArray[np.int64], *, rate_hz: float) -> _Flags | None:
    """Return whether any lead tells a P wave before each beat; None where no rhythm is irregular."""
    if not irregular_beats(samples, rate_hz=rate_hz).any():
        return None
    told = [np.isfinite(delineate(lead, samples, rate_hz=rate_hz).p_peak) for lead in leads]
    return np.asarray(np.any(told, axis=0))


def _checked(ecg: ArrayLike, beats: ArrayLike, rate_hz: float) -> tuple[NDArray[Any], NDArray[np.int64], float]:
    leads = as_signal(ecg, name="ecg")
    if leads.ndim > 2:
        raise SignalError(f"ecg of shape {leads.shape}, expected one lead (n,) or several (n_leads, n)")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if rate_hz < LOWEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {LOWEST_RATE_HZ} Hz")
    samples = as_beats(beats)
    if samples.size and not (samples[0] >= 0 and samples[-1] < leads.shape[-1]):
        raise SignalError(
            f"beats from {samples[0]} to {samples[-1]}, expected indices of {leads.shape[-1]} samples"
        )
    return np.atleast_2d(leads), samples, rate_hz


def _timing(samples: NDArray[np.int64], *, rate_hz: float) -> _Timing:
    """Relate intervals to the local median of means of two neighbours, which a premature beat leaves alone."""
    if samples.size < 2:
        return _Timing(*np.ones((3, samples.size)))
    rr_s = np.diff(samples) / rate_hz
    pairs_s = np.concatenate([rr_s[:1], 0.5 * (rr_s[1:] + rr_s[:-1]), rr_s[-1:]])
    local_s = ndimage.median_filter(pairs_s, size=_LOCAL_BEATS, mode="nearest")
    before, after, against_last = np.ones((3, samples.size))
    before[1:] = rr_s / local_s[1:]
    after[:-1] = rr_s / local_s[:-1]
    against_last[2:] = rr_s[1:] / rr_s[:-1]
    return _Timing(before, after, against_last)


def _decide(
    complexes: Complexes,
    timing: _Timing,
    shapes: list[_Floats],
    members: NDArray[np.intp],
    atria: _Atria,
) -> NDArray[np.str_]:
    n_beats, n_shapes = members.size, len(shapes)
    on_time = timing.before > _EARLY
    usual = int(np.bincount(members[(members >= 0) & on_time], minlength=n_shapes).argmax())
    likeness, lags, size = compare(complexes, shapes[usual], np.arange(n_beats))
    aligned = aligned_beats(complexes, lags, np.arange(n_beats))
    steepness = np.sqrt(_energy(np.diff(aligned, axis=2)) / np.maximum(_energy(aligned), _TINY))
    of_usual = members == usual
    steepness /= np.median(steepness[of_usual])
    size /= np.median(size[of_usual])

    group = np.where(members >= 0, members, n_shapes + np.arange(n_beats))  # a lone beat is a shape of its own
    early = (timing.before < _TIMED) & (
        (timing.before < timing.after - (1.0 - _TIMED)) | (timing.against_last < _TIMED)
    )
    like, steep = _of_shape(likeness, members, n_shapes), _of_shape(steepness, members, n_shapes)
    # Beats of a run come at one interval, so that only the first is early: the others are what it is.
    begins = np.append(True, (like[1:] >= SAME) | (like[:-1] >= SAME)) | (timing.against_last > 1.0 / _TIMED)
    often = _share(group, early[np.flatnonzero(begins)[np.cumsum(begins) - 1]])
    wide = (like < SAME) & (steep < _WIDE)
    fibrillating = atria.fibrillating(np.where(wide | ((like < SAME) & (often > _OFTEN_TIMED)), "V", "N"))
    by_timing = (wide | (like < _DIFFERENT)) & (often >= _OFTEN_TIMED)
    by_shape = wide | ((like < _FOREIGN) & (steep < 1.0))
    foreign = np.where(_share(group, fibrillating) > 0.5, by_shape, by_timing)
    alone = (timing.before < _EARLY) & (timing.after > _PAUSE) & ~fibrillating
    alone &= (likeness < _DIFFERENT) | (np.abs(np.log(np.maximum(size, _TINY))) > np.log(_TALLER))
    ventricular = (foreign & ~of_usual) | alone

    unclear = ~complexes.present.any(axis=1)
    unclear |= (complexes.restless > _RESTLESS) & (likeness < SAME) & (_share_size(group) < _LONE)
    classes = np.full(n_beats, "N", dtype="<U1")
    fused = _fused(complexes, aligned, likeness, shapes, usual, members, ventricular)
    classes[fused & on_time & ~alone] = "F"
    classes[ventricular & (classes != "F")] = "V"
    classes[unclear] = "Q"
    classes[_supraventricular(classes, timing) & ~atria.fibrillating(classes)] = "S"
    return classes


def _energy(pieces: _Floats) -> _Floats:
    return np.asarray((pieces**2).sum(axis=(1, 2)))


def _share(group: NDArray[np.intp], flags: _Flags) -> _Floats:
    """Return, for every beat, the share of its group that is flagged."""
    return np.asarray((np.bincount(group, flags) / np.maximum(np.bincount(group), 1))[group])


def _share_size(group: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.asarray(np.bincount(group)[group])


def _of_shape(values: _Floats, members: NDArray[np.intp], n_shapes: int) -> _Floats:
    """Return the median over the beats of one shape for each of them; lone beats keep their own value."""
    medians = np.array([np.median(values[members == k]) for k in range(n_shapes)])
    return np.where(members >= 0, medians[members], values)


def _fused(
    complexes: Complexes,
    aligned: _Floats,
    likeness: _Floats,
    shapes: list[_Floats],
    usual: int,
    members: NDArray[np.intp],
    ventricular: _Flags,
) -> _Flags:
    """Return which beats are a sum of the usual and the most frequent ventricular shape, unlike either."""
    counts = np.bincount(members[ventricular & (members >= 0)], minlength=len(shapes))
    other = int(counts.argmax())
    if counts[other] < _LONE or other == usual:
        return np.zeros(members.size, dtype=bool)
    like_other, *_ = compare(complexes, shapes[other], np.arange(members.size))
    sources = np.column_stack([shapes[usual].ravel(), shapes[other].ravel()])
    beats = aligned.reshape(members.size, -1)
    parts, *_ = np.linalg.lstsq(sources, beats.T, rcond=None)
    explained = np.einsum("nw,wn->n", beats, sources @ parts) / np.maximum((beats**2).sum(axis=1), _TINY)
    lowest = parts.min(axis=0)
    mixed = (explained > _MIXED**2) & (lowest > _PART) & (lowest > _PART * parts.max(axis=0))
    return np.asarray(mixed & (np.maximum(likeness, like_other) < _MIXED))


def _supraventricular(classes: NDArray[np.str_], timing: _Timing) -> _Flags:
    """Return which beats of class N are early: the first of a run against the interval before it as well."""
    early = (classes == "N") & (timing.before < _EARLY)
    first = early & (timing.against_last < _EARLY) & ~np.append(False, classes[:-1] == "V")
    run = np.cumsum(~early)  # beats between two that are not early share a number
    reached = np.maximum.accumulate(np.where(first, run, -1))
    return np.asarray(early & (reached == run))
