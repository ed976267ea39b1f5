"""Heartbeats in an electrocardiogram.

Theory of operation
-------------------
Everything costly runs at about 120 samples a second, where the energy of a QRS complex still fits; the few
thousand candidate beats that come out are then judged all at once, each by its neighbours in time.

1. *Energy.* Means of `rate // 120` samples, one symmetric Gabor filter around 17 Hz, square, mean over 100 ms.
   The candidates are its peaks, at least one refractory period apart; their amplitude is the root of the
   energy.
2. *Amplitude.* A candidate must reach a share of the local beat amplitude and stand clear of the local noise.
3. *Shadow.* Right after and before a beat nothing weaker is a beat; the shadow is complete for the refractory
   period and fades to half the amplitude at the end of the T wave. So P and T waves fall away.
4. *Rhythm.* A weak candidate that splits one regular interval in two, and lies within the T-wave period of a
   neighbour, falls away; where an interval is too long, the strongest candidate in it that reaches half the
   threshold is taken.
5. *Fiducial point.* The largest deflection of the samples themselves around the energy's peak.

The signal is used only through ratios of amplitudes, so unit, gain, offset and polarity do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, signal

from analysis.arrays import as_positive, as_signal
from protocols.errors import SignalError

LOWEST_RATE_HZ: Final = 100.0
"""The pass band reaches up to some 35 Hz; below 100 Hz its upper slope no longer fits below half the rate."""
SHORTEST_S: Final = 1.0
"""Shorter than a heart cycle at 60 beats/min there is no neighbourhood to judge a candidate by."""

_WORKING_RATE_HZ: Final = 120.0  # lowest rate after averaging; half of it stays above the pass band
_CENTRE_HZ: Final = 17.0  # best signal-to-noise ratio of the QRS: Thakor et al. 1984
_SPREAD_HZ: Final = 8.0  # half power at 10 and 24 Hz, about the 8-20 Hz that Elgendi et al. 2010 found best
_ENERGY_WINDOW_S: Final = 0.100  # duration of a normal QRS; Elgendi 2013 uses 97 ms
_REFRACTORY_S: Final = 0.200  # Pan & Tompkins 1985
_T_WAVE_S: Final = 0.360  # Pan & Tompkins 1985: closer than this a peak may be a T wave ...
_T_WAVE_RATIO: Final = 0.5  # ... unless it is at least half as steep; here: as strong
_THRESHOLD: Final = 0.30  # share of the local beat amplitude; Pan & Tompkins 1985: 0.25 above noise
_NOISE_RATIO: Final = 2.0  # a beat stands 6 dB above the local noise peaks
_SEARCH_BACK_RR: Final = 1.66  # Pan & Tompkins 1985: a beat is missing after 166 % of the usual interval ...
_SEARCH_BACK_RATIO: Final = 0.5  # ... and is looked for with half the threshold
_REGULAR_RR: Final = 1.16  # Pan & Tompkins 1985: an interval up to 116 % of the usual one is regular
_BLOCK_S: Final = 2.0  # holds a beat down to 30 beats/min
_BLOCKS: Final = 5  # 10 s, the length of a standard ECG strip
_NEIGHBOURS: Final = 9  # Pan & Tompkins 1985 use the last 8 beats; 9 lie around a beat symmetrically
_LOW_SHARE: Final = (
    30  # percentile that stands for "the usual beat": large ectopic beats must not hide the others
)
_SEARCH_BACK_PASSES: Final = 3  # each pass may find one more beat in the same pause
_HALF_QRS_S: Final = 0.060  # half of 120 ms, the longest normal QRS complex
_DUST: Final = 1e-9  # rounding errors of the filter, relative to the signal: never a beat

_Floats: TypeAlias = NDArray[np.float64]


def detect_qrs(ecg: ArrayLike, *, rate_hz: float) -> NDArray[np.int64]:
    """Return the sample indices of the QRS complexes of one ECG lead, ascending.

    Parameters
    ----------
    ecg
        One lead, shape (n_samples,), integers or floats in any unit and polarity. NaN marks missing samples: a
        run of them is bridged by a straight line, and no beat is ever reported on a missing sample.
    rate_hz
        Sampling rate, at least 100.

    Returns
    -------
    Shape (n_beats,). A beat is marked at its largest deflection within 60 ms of the peak of its energy, where
    the polarity that most beats of the lead have counts double. Empty for a constant or wholly missing signal.

    Raises
    ------
    SignalError
        If `ecg` is not one-dimensional, is shorter than 1 s, holds infinite or no real values, or if the rate
        is below 100 Hz.

    References
    ----------
    Pan & Tompkins 1985, doi:10.1109/TBME.1985.325532: refractory period, T-wave rule, thresholds, search-back.
    Thakor, Webster & Tompkins 1984, doi:10.1109/TBME.1984.325393: centre of the pass band.
    Elgendi, Jonkman & De Boer 2010, BIOSIGNALS 2010, pages 428-431: width of the pass band.
    Elgendi 2013, doi:10.1371/journal.pone.0073557: window of the energy.

    Differs from Pan & Tompkins in a symmetric filter without derivative, in judging by neighbours on both sides
    instead of running averages, in a local percentile for the mean of past peaks, in a T-wave rule that fades
    with distance, applies before a beat as well (P waves) and compares strength for slope, and in the rule for
    weak candidates that split a regular interval.

    Constants are published or round figures, for the reasons that stand beside them. Where several were
    plausible (threshold, noise ratio, low share, number of blocks), the pooled figures of 20 unpaced MIT-BIH
    records decided; neighbouring values moved sensitivity and positive predictivity by less than 0.05 points.
    """
    samples = as_signal(ecg, name="ecg")
    if samples.ndim != 1:
        raise SignalError(f"ecg of shape {samples.shape}, expected one lead (n_samples,)")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if rate_hz < LOWEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {LOWEST_RATE_HZ} Hz")
    if samples.size < SHORTEST_S * rate_hz:
        raise SignalError(f"ecg of {samples.size} samples at {rate_hz} Hz, expected at least {SHORTEST_S} s")
    missing = np.isnan(samples) if samples.dtype.kind == "f" else np.zeros(0, dtype=bool)
    if missing.any():
        if missing.all():
            return np.empty(0, dtype=np.int64)
        samples = _bridged(samples, missing)
    factor = max(1, int(rate_hz // _WORKING_RATE_HZ))
    candidates = _find_candidates(_averaged(samples, factor), rate_hz=rate_hz / factor)
    beats = _choose(candidates)
    centres = candidates.positions[beats] * factor + factor // 2
    return _fiducial_points(samples, missing, centres, half_width=int(_HALF_QRS_S * rate_hz))


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """Peaks of the QRS energy: index and time, amplitude, and local amplitude of beats, each of shape (n,)."""

    positions: NDArray[np.int64]
    times_s: _Floats
    amplitudes: _Floats
    local_amplitudes: _Floats


def _bridged(samples: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[Any]:
    present = np.flatnonzero(~missing)
    bridged = samples.copy()
    bridged[missing] = np.interp(np.flatnonzero(missing), present, samples[present])
    return bridged


def _averaged(samples: NDArray[Any], factor: int) -> _Floats:
    """Return the means of `factor` samples each, relative to the first sample; a rest is left out."""
    end = samples.size // factor * factor
    total = samples[0:end:factor].astype(np.float64)
    for k in range(1, factor):
        total += samples[k:end:factor]
    total /= factor
    total -= total[0]
    return total


def _find_candidates(ecg: _Floats, *, rate_hz: float) -> _Candidates:
    filtered = ndimage.correlate1d(ecg, _gabor(rate_hz))
    filtered *= filtered
    energy = ndimage.uniform_filter1d(filtered, max(1, round(_ENERGY_WINDOW_S * rate_hz)))
    np.maximum(energy, 0.0, out=energy)
    positions, _ = signal.find_peaks(energy, distance=int(np.ceil(_REFRACTORY_S * rate_hz)))
    amplitudes = np.sqrt(energy[positions])
    real = amplitudes > _DUST * np.abs(ecg).max()
    positions, amplitudes = positions[real], amplitudes[real]
    block = int(_BLOCK_S * rate_hz)
    block_maxima = np.sqrt(np.maximum.reduceat(energy, np.arange(0, energy.size, block)))
    local_maxima = ndimage.percentile_filter(block_maxima, _LOW_SHARE, size=_BLOCKS, mode="nearest")
    return _Candidates(positions, positions / rate_hz, amplitudes, local_maxima[positions // block])


def _gabor(rate_hz: float) -> _Floats:
    """Return the taps of a cosine in a Gaussian window, without response to a constant."""
    sigma_s = 1.0 / (2.0 * np.pi * _SPREAD_HZ)
    half = int(np.ceil(4.0 * sigma_s * rate_hz))
    times_s = np.arange(-half, half + 1) / rate_hz
    window = np.exp(-0.5 * (times_s / sigma_s) ** 2)
    taps = window * np.cos(2.0 * np.pi * _CENTRE_HZ * times_s)
    return np.asarray(taps - window * (taps.sum() / window.sum()))


def _choose(candidates: _Candidates) -> NDArray[np.intp]:
    """Return which candidates are beats, ascending."""
    amplitudes, times_s = candidates.amplitudes, candidates.times_s
    strong = np.flatnonzero(amplitudes > _THRESHOLD * candidates.local_amplitudes)
    beats = _without_shadowed(strong, candidates)
    if beats.size == 0:
        return beats
    usual = np.interp(times_s, times_s[beats], _local_percentile(amplitudes[beats], _LOW_SHARE))
    threshold = np.minimum(np.maximum(_THRESHOLD * usual, _NOISE_RATIO * _noise(candidates, beats)), usual)
    beats = _without_shadowed(np.flatnonzero(amplitudes > threshold), candidates)
    beats = _without_inserted(beats, candidates)
    weak = np.flatnonzero(amplitudes > _SEARCH_BACK_RATIO * threshold)
    for _ in range(_SEARCH_BACK_PASSES):
        found = _missing_beats(beats, weak, candidates)
        if found.size == 0:
            break
        beats = np.sort(np.concatenate([beats, found]))
    return beats


def _local_percentile(values: _Floats, percentile: float) -> _Floats:
    return np.asarray(ndimage.percentile_filter(values, percentile, size=_NEIGHBOURS, mode="nearest"))


def _noise(candidates: _Candidates, beats: NDArray[np.intp]) -> _Floats:
    """Return the median amplitude of the neighbouring candidates that are no beats, for every candidate."""
    others = np.ones(candidates.times_s.size, dtype=bool)
    others[beats] = False
    if not others.any():
        return np.zeros(candidates.times_s.size)
    medians = _local_percentile(candidates.amplitudes[others], 50)
    return np.interp(candidates.times_s, candidates.times_s[others], medians)


def _without_shadowed(beats: NDArray[np.intp], candidates: _Candidates) -> NDArray[np.intp]:
    """Return the beats that no stronger neighbour shadows, removing first those next to a beat that stands.

    The shadow falls linearly from all of the neighbour's amplitude at 200 ms to half of it at 360 ms, and on.
    """
    fade_per_s = (1.0 - _T_WAVE_RATIO) / (_T_WAVE_S - _REFRACTORY_S)
    while True:
        amplitudes = candidates.amplitudes[beats]
        gaps_s = np.diff(candidates.times_s[beats])
        shadow = np.minimum(1.0, 1.0 - fade_per_s * (gaps_s - _REFRACTORY_S))
        by_previous = np.append(False, amplitudes[1:] < shadow * amplitudes[:-1])[: beats.size]
        by_next = np.append(amplitudes[:-1] < shadow * amplitudes[1:], False)[: beats.size]
        shadowed = by_previous | by_next
        if not shadowed.any():
            return beats
        standing = np.concatenate([[False], ~shadowed, [False]])
        beats = beats[~((by_previous & standing[:-2]) | (by_next & standing[2:]))]


def _without_inserted(beats: NDArray[np.intp], candidates: _Candidates) -> NDArray[np.intp]:
    """Return the beats without weak ones that split a regular interval next to a beat; never two in a row."""
    if beats.size < 3:
        return beats
    amplitudes, times_s = candidates.amplitudes[beats], candidates.times_s[beats]
    intervals_s = np.diff(times_s)
    merged_s = times_s[2:] - times_s[:-2]
    inserted = (
        (merged_s < _REGULAR_RR * _local_percentile(intervals_s, 50)[:-1])
        & (amplitudes[1:-1] < np.minimum(amplitudes[:-2], amplitudes[2:]))
        & (np.minimum(intervals_s[:-1], intervals_s[1:]) < _T_WAVE_S)
    )
    inserted[1:] &= ~inserted[:-1]
    return np.delete(beats, np.flatnonzero(inserted) + 1)


def _missing_beats(
    beats: NDArray[np.intp], weak: NDArray[np.intp], candidates: _Candidates
) -> NDArray[np.intp]:
    """Return the strongest weak candidate of every interval that is too long."""
    if beats.size < 2:
        return np.empty(0, dtype=np.intp)
    times_s = candidates.times_s
    intervals_s = np.diff(times_s[beats])
    too_long = intervals_s > _SEARCH_BACK_RR * _local_percentile(intervals_s, 50)
    interval = np.searchsorted(beats, weak, side="right") - 1
    inside = (interval >= 0) & (interval < intervals_s.size)
    weak, interval = weak[inside], interval[inside]
    since_s = times_s[weak] - times_s[beats[interval]]
    until_s = times_s[beats[interval + 1]] - times_s[weak]
    fits = too_long[interval] & (since_s > _T_WAVE_S) & (until_s > _T_WAVE_S)
    weak, interval = weak[fits], interval[fits]
    by_interval = np.lexsort((candidates.amplitudes[weak], interval))
    strongest = np.diff(interval[by_interval], append=-1) != 0
    return np.asarray(weak[by_interval][strongest])


def _fiducial_points(
    samples: NDArray[Any], missing: NDArray[np.bool_], centres: NDArray[np.int64], *, half_width: int
) -> NDArray[np.int64]:
    """Return where the samples deviate most from their median within `half_width` of each centre."""
    indices = np.clip(centres[:, np.newaxis] + np.arange(-half_width, half_width + 1), 0, samples.size - 1)
    deviations = samples[indices].astype(np.float64)
    deviations -= np.median(deviations, axis=1, keepdims=True)
    if centres.size and np.median(deviations.max(axis=1)) < np.median(-deviations.min(axis=1)):
        deviations = -deviations
    size = np.maximum(deviations, -0.5 * deviations)
    if missing.size:
        size[missing[indices]] = -1.0
    best = np.argmax(size, axis=1)
    rows = np.arange(centres.size)
    return np.asarray(indices[rows, best][size[rows, best] >= 0.0], dtype=np.int64)
