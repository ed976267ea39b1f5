"""Which peaks of the QRS energy are heartbeats: candidates, each judged by its neighbours in time.

The second half of `heartbeats`, which tells the whole; here are the steps that work on candidates. No decision
looks farther than a bounded time to either side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

_CENTRE_HZ: Final = 17.0  # best signal-to-noise ratio of the QRS: Thakor et al. 1984
_SPREAD_HZ: Final = (
    8.0  # half power at 10 and 24 Hz: Elgendi et al. 2010 take 8-20, Thakor's Q of 5 is narrower
)
_ENERGY_WINDOW_S: Final = 0.100  # duration of a normal QRS; Elgendi 2013 uses 97 ms
_REFRACTORY_S: Final = 0.200  # Pan & Tompkins 1985
_T_WAVE_S: Final = 0.360  # Pan & Tompkins 1985: closer than this a peak may be a T wave ...
_T_WAVE_RATIO: Final = 0.5  # ... unless it is at least half as steep; here: as strong
_T_WAVE_RR_S: Final = (
    1.0  # that holds at 60/min; at faster rates the T wave comes earlier, by the root (Bazett 1920)
)
_THRESHOLD: Final = 0.30  # share of the usual beat; Pan & Tompkins 1985: 0.25 of it above noise
_NOISE_RATIO: Final = 3.0  # a beat is three times as large as the local noise peaks ...
_NOISE_CEILING: Final = 0.7  # ... or 3 dB below the usual beat; noise as large as that is none, but beats
_FASTEST_RR_S: Final = 0.270  # 220/min: of two peaks closer than that, the smaller is noise
_LONGEST_RR_S: Final = 2.0  # 30/min: a longer interval is a pause and says nothing about the rhythm
_SEARCH_BACK_RR: Final = 1.66  # Pan & Tompkins 1985: a beat is missing after 166 % of the usual interval ...
_SEARCH_BACK_RATIO: Final = 0.5  # ... and is looked for with half the threshold
_REGULAR_RR: Final = 1.16  # Pan & Tompkins 1985: an interval up to 116 % of the usual one is regular
BLOCK_S: Final = 2.0  # holds a beat down to 30 beats/min
BLOCKS: Final = 7  # 14 s: most of it is rhythm even beside a pause of 6 s
_EMPTY_SHARE: Final = 0.2  # a block that stays below a fifth of the usual one has no beat: a pause
_NEIGHBOURS: Final = 9  # Pan & Tompkins 1985 use the last 8 beats; 9 lie around a beat symmetrically
NEAR_S: Final = 4.0  # holds all nine down to 60 beats/min, three beats down to 30
_LOW_SHARE: Final = (
    30  # percentile that stands for "the usual beat": large ectopic beats must not hide the others
)
_SHADOW_PASSES: Final = 3  # a P or T wave beside a beat falls in the first, what it shadowed stands in the next
_APART_PASSES: Final = 12  # noise makes stairs of peaks, of which each pass takes one step
_DUST: Final = 1e-9  # rounding errors of the filter, relative to the signal: never a beat

_AROUND: Final = np.arange(-(_NEIGHBOURS // 2), _NEIGHBOURS // 2 + 1)

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Peaks of the QRS energy, and what is usual around them.

    Times are compared as whole samples, so that it does not matter from where they are counted.

    Parameters
    ----------
    positions
        Sample index of each peak, ascending, shape (n,).
    amplitudes
        Root of the energy there, shape (n,).
    local_amplitudes
        Amplitude of the usual beat around, shape (n,).
    n_samples
        Length of what they were found in.
    rate_hz
        Of the samples, about 120.
    """

    positions: NDArray[np.int64]
    amplitudes: _Floats
    local_amplitudes: _Floats
    n_samples: int
    rate_hz: float

    def gaps_s(self, chosen: NDArray[np.intp]) -> _Floats:
        """Return the time from each chosen candidate to the next, shape (n - 1,)."""
        return np.diff(self.positions[chosen]) / self.rate_hz

    def usual_rr_s(self, chosen: NDArray[np.intp]) -> _Floats:
        """Return for every candidate the median interval between chosen ones around it; NaN if none is."""
        gaps_s = self.gaps_s(chosen)
        rhythm = gaps_s <= _LONGEST_RR_S
        return self.percentile_near(gaps_s[rhythm], chosen[1:][rhythm], 50)

    def percentile_near(self, values: _Floats, owners: NDArray[np.intp], percentile: float) -> _Floats:
        """Return for every candidate the percentile of the nine values around it; NaN where none is near.

        `owners` are the candidates that the values belong to, ascending; beyond 4 s they do not count.
        """
        if values.size == 0:
            return np.full(self.positions.size, np.nan)
        at = self.positions[owners]
        index = np.searchsorted(at, self.positions)[:, np.newaxis] + _AROUND
        inside = (index >= 0) & (index < values.size)
        index = np.clip(index, 0, values.size - 1)
        near = inside & (np.abs(at[index] - self.positions[:, np.newaxis]) <= int(NEAR_S * self.rate_hz))
        ordered = np.sort(np.where(near, values[index], np.inf), axis=1)
        count = near.sum(axis=1)
        rank = np.minimum((count * percentile / 100.0).astype(np.intp), np.maximum(count - 1, 0))
        return np.where(count > 0, ordered[np.arange(rank.size), rank], np.nan)


def qrs_energy(ecg: _Floats, holes: NDArray[np.bool_], *, rate_hz: float) -> _Floats:
    """Return the energy of the QRS band over 100 ms, shape (..., n); 0 in holes.

    What is smaller than the rounding errors of the filter is 0 too.

    Parameters
    ----------
    ecg
        Shape (..., n), at about 120 Hz, without NaN.
    holes
        Where samples are missing, shape (..., n); or empty.
    rate_hz
        Of `ecg`.
    """
    filtered = ndimage.correlate1d(ecg, _gabor(rate_hz), axis=-1, mode="nearest")
    filtered *= filtered
    width = max(1, round(_ENERGY_WINDOW_S * rate_hz))
    energy = _box_mean(filtered, width)
    if holes.size:
        energy[holes] = 0.0
    starts = _block_starts(ecg.shape[-1], rate_hz)
    largest = np.maximum(np.maximum.reduceat(ecg, starts, -1), -np.minimum.reduceat(ecg, starts, -1))
    dust = (_DUST * ndimage.maximum_filter1d(largest, 3, axis=-1)) ** 2
    energy[energy <= per_sample(dust, energy.shape[-1], rate_hz)] = 0.0
    return energy


def _box_mean(values: _Floats, width: int) -> _Floats:
    """Return the mean of `width` values around each, shape (..., n), by sums of 1, 2, 4, ... of them.

    A running sum would be as fast, but its rounding errors would depend on where a stretch starts.
    """
    n, before = values.shape[-1], width // 2
    sums = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(before, width - 1 - before)], mode="edge")
    total, start, size = np.zeros_like(values), 0, 1
    while size <= width:
        if width & size:
            total += sums[..., start : start + n]
            start += size
        sums = sums[..., :-size] + sums[..., size:]
        size *= 2
    total /= width
    return total


def local_energy(energy: _Floats, *, rate_hz: float) -> _Floats:
    """Return the energy of the usual beat around each block of 2 s, shape (..., n_blocks); 0 where all is 0.

    Blocks without a beat (a hole, a flat line, a pause) do not count, or whatever lies in them would be one.
    """
    maxima = block_maxima(energy, rate_hz=rate_hz)
    least = _EMPTY_SHARE**2 * percentile_of_blocks(maxima, 50)
    return percentile_of_blocks(maxima, _LOW_SHARE, least=least)


def block_maxima(energy: _Floats, *, rate_hz: float) -> _Floats:
    """Return the largest energy in each block of 2 s, shape (..., n_blocks)."""
    return np.asarray(np.maximum.reduceat(energy, _block_starts(energy.shape[-1], rate_hz), -1))


def percentile_of_blocks(of_block: _Floats, percentile: float, *, least: _Floats | None = None) -> _Floats:
    """Return the percentile of the seven blocks around each (at an end: of the last seven), same shape.

    Those of 0 are left out, and those below `least`, which is given for each block, shape (..., n_blocks).
    """
    n, width = of_block.shape[-1], min(BLOCKS, of_block.shape[-1])
    around = np.lib.stride_tricks.sliding_window_view(of_block, width, axis=-1)
    left = (width - 1) // 2
    counted = around > 0.0
    if least is not None:
        counted &= around >= least[..., left : left + around.shape[-2], np.newaxis]
    count = counted.sum(axis=-1)
    rank = width - count + (count * percentile / 100.0).astype(np.intp)  # what does not count comes first
    ordered = np.sort(around, axis=-1)
    found = np.take_along_axis(ordered, np.minimum(rank, width - 1)[..., np.newaxis], axis=-1)[..., 0]
    ends = [(0, 0)] * (of_block.ndim - 1) + [(left, n - found.shape[-1] - left)]
    return np.pad(found, ends, mode="edge")


def per_sample(of_block: _Floats, n: int, rate_hz: float) -> _Floats:
    """Return what belongs to each of `n` samples of what is given for each block, shape (..., n)."""
    repeated: _Floats = np.repeat(of_block, int(BLOCK_S * rate_hz), axis=-1)
    return repeated[..., :n]


def find_candidates(energy: _Floats, *, rate_hz: float) -> Candidates:
    """Return the peaks of the energy, shape (n,), that lie at least a refractory period apart."""
    positions, _ = signal.find_peaks(energy)
    usual = local_energy(energy, rate_hz=rate_hz)[positions // int(BLOCK_S * rate_hz)]
    every = Candidates(positions, np.sqrt(energy[positions]), np.sqrt(usual), energy.size, rate_hz)
    apart = _without_shadowed(np.arange(positions.size), every, np.zeros(positions.size))
    return Candidates(
        positions[apart], every.amplitudes[apart], every.local_amplitudes[apart], energy.size, rate_hz
    )


def _block_starts(n: int, rate_hz: float) -> NDArray[np.intp]:
    return np.arange(0, n, int(BLOCK_S * rate_hz))


def _gabor(rate_hz: float) -> _Floats:
    """Return the taps of a cosine in a Gaussian window, without response to a constant."""
    sigma_s = 1.0 / (2.0 * np.pi * _SPREAD_HZ)
    half = int(np.ceil(4.0 * sigma_s * rate_hz))
    times_s = np.arange(-half, half + 1) / rate_hz
    window = np.exp(-0.5 * (times_s / sigma_s) ** 2)
    taps = window * np.cos(2.0 * np.pi * _CENTRE_HZ * times_s)
    return np.asarray(taps - window * (taps.sum() / window.sum()))


def choose_beats(candidates: Candidates) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which candidates are beats, ascending, and which are so strong that they were taken first."""
    amplitudes = candidates.amplitudes
    noise = _local_noise(candidates)
    strong = np.flatnonzero(amplitudes > _threshold(candidates.local_amplitudes, noise))
    strong = _without_shadowed(strong, candidates, np.full(amplitudes.size, _T_WAVE_S))
    usual = candidates.percentile_near(amplitudes[strong], strong, _LOW_SHARE)
    usual_rr_s = candidates.usual_rr_s(strong)
    threshold = _threshold(usual, noise)
    t_wave_s = _T_WAVE_S * np.sqrt(np.fmin(usual_rr_s / _T_WAVE_RR_S, 1.0))
    beats = _without_shadowed(np.flatnonzero(amplitudes > threshold), candidates, t_wave_s)
    beats = _without_inserted(beats, candidates, usual_rr_s)
    weak = np.flatnonzero(amplitudes > _SEARCH_BACK_RATIO * threshold)
    beats = np.union1d(beats, _missing_beats(beats, weak, candidates, usual_rr_s))
    beats = _without_shadowed(beats, candidates, np.zeros(amplitudes.size), passes=_APART_PASSES)
    return beats, strong


def _local_noise(candidates: Candidates) -> _Floats:
    """Return the median amplitude of the candidates nearby that are too close to a larger one; 0 if none."""
    amplitudes = candidates.amplitudes
    close = candidates.gaps_s(np.arange(amplitudes.size)) < _FASTEST_RR_S
    larger_next = np.append(close & (amplitudes[1:] >= amplitudes[:-1]), False)[: amplitudes.size]
    larger_before = np.append(False, close & (amplitudes[1:] < amplitudes[:-1]))[: amplitudes.size]
    owners = np.flatnonzero(larger_next | larger_before)
    return np.nan_to_num(candidates.percentile_near(amplitudes[owners], owners, 50))


def _threshold(usual: _Floats, noise: _Floats) -> _Floats:
    """Return what a beat has to exceed, given the amplitude of the usual beat and of noise around it."""
    above_noise = np.minimum(_NOISE_RATIO * noise, _NOISE_CEILING * usual)
    above_noise = np.where(noise < _NOISE_CEILING * usual, above_noise, 0.0)
    return np.maximum(_THRESHOLD * usual, above_noise)


def _without_shadowed(
    beats: NDArray[np.intp], candidates: Candidates, t_wave_s: _Floats, *, passes: int = _SHADOW_PASSES
) -> NDArray[np.intp]:
    """Return the beats that no stronger neighbour shadows, removing first those next to a beat that stands.

    The shadow is complete for the refractory period; it then falls linearly to half of the neighbour's
    amplitude at the end of the T wave, given for each candidate, and on. Where that is 0, it ends after the
    refractory period.
    """
    for _ in range(passes):
        amplitudes, gaps_s = candidates.amplitudes[beats], candidates.gaps_s(beats)
        t_ends_s = np.maximum(t_wave_s[beats][1:], t_wave_s[beats][:-1])
        since_share = (gaps_s - _REFRACTORY_S) / np.maximum(t_ends_s - _REFRACTORY_S, 1e-6)
        shadow = np.where(
            gaps_s < _REFRACTORY_S, 1.0, np.maximum(1.0 - (1.0 - _T_WAVE_RATIO) * since_share, 0.0)
        )
        by_previous = np.append(False, amplitudes[1:] < shadow * amplitudes[:-1])[: beats.size]
        by_next = np.append(amplitudes[:-1] < shadow * amplitudes[1:], False)[: beats.size]
        shadowed = by_previous | by_next
        if not shadowed.any():
            break
        standing = np.concatenate([[False], ~shadowed, [False]])
        beats = beats[~((by_previous & standing[:-2]) | (by_next & standing[2:]))]
    return beats


def _without_inserted(beats: NDArray[np.intp], candidates: Candidates, usual_rr_s: _Floats) -> NDArray[np.intp]:
    """Return the beats without weak ones that split a regular interval next to a beat; never two in a row."""
    if beats.size < 3:
        return beats
    amplitudes, intervals_s = candidates.amplitudes[beats], candidates.gaps_s(beats)
    inserted = (
        (intervals_s[1:] + intervals_s[:-1] < _REGULAR_RR * usual_rr_s[beats[1:-1]])
        & (amplitudes[1:-1] < np.minimum(amplitudes[:-2], amplitudes[2:]))
        & (np.minimum(intervals_s[:-1], intervals_s[1:]) < _T_WAVE_S)
    )
    inserted[1:] &= ~inserted[:-1]
    return np.delete(beats, np.flatnonzero(inserted) + 1)


def _missing_beats(
    beats: NDArray[np.intp], weak: NDArray[np.intp], candidates: Candidates, usual_rr_s: _Floats
) -> NDArray[np.intp]:
    """Return the weak candidates that are strongest within half a usual interval in one that is too long."""
    at, rate_hz = candidates.positions, candidates.rate_hz
    edges = np.concatenate([[0], at[beats], [candidates.n_samples]])
    interval = np.searchsorted(at[beats], at[weak], side="right")
    since_s, until_s = (at[weak] - edges[interval]) / rate_hz, (edges[interval + 1] - at[weak]) / rate_hz
    fits = (
        (since_s + until_s > _SEARCH_BACK_RR * usual_rr_s[weak]) & (since_s > _T_WAVE_S) & (until_s > _T_WAVE_S)
    )
    weak = weak[fits]
    reach_s = np.fmax(0.5 * usual_rr_s[weak], _T_WAVE_S)
    strongest = np.ones(weak.size, dtype=bool)
    for step in range(1, _NEIGHBOURS):  # neighbours at ever greater distance, all candidates at once
        if step >= weak.size:
            break
        gaps_s = (at[weak[step:]] - at[weak[:-step]]) / rate_hz
        first, second = candidates.amplitudes[weak[:-step]], candidates.amplitudes[weak[step:]]
        strongest[:-step] &= ~((gaps_s < reach_s[:-step]) & (second > first))
        strongest[step:] &= ~((gaps_s < reach_s[step:]) & (first >= second))
    return weak[strongest]
