"""Heartbeats in an electrocardiogram.

Theory of operation
-------------------
Everything costly runs at about 120 samples a second, where the energy of a QRS complex still fits; the few
thousand candidate beats that come out are then judged all at once, each by its neighbours in time.

1. *Energy.* Means of `rate // 120` samples, one symmetric Gabor filter around 17 Hz, square, mean over 100 ms.
   The candidates are its peaks, at least one refractory period apart; their amplitude is the root of the
   energy.
2. *Amplitude.* A candidate must reach a share of the usual beat around and stand clear of the noise. The usual
   beat is a low percentile of the maxima of 2 s blocks, those without a beat (pauses, holes) left out. Noise
   are the candidates too close to a larger one for both to be beats; where they are as large as beats, they are
   beats of a fast rhythm and say nothing about noise.
3. *Shadow.* Right after and before a beat nothing weaker is a beat; the shadow is complete for the refractory
   period and fades to half the amplitude at the end of the T wave, which comes earlier in a fast rhythm. So P
   and T waves fall away.
4. *Rhythm.* A weak candidate that splits one regular interval in two, and lies within the T-wave period of a
   neighbour, falls away; where an interval is too long, the strongest candidate in it that reaches half the
   threshold is taken.
5. *Fiducial point.* The largest deflection of the samples themselves around the energy's peak.

The signal is used only through ratios of amplitudes, so unit, gain, offset and polarity do not matter.

No decision rests on anything farther away than `CONTEXT_S`: neighbours count only within 4 s, intervals up to
2 s, passes are bounded, filters are finite. So a long recording is decided stretch by stretch, in little
memory, and a stream (`heartbeats_stream`) comes to the very same beats as the whole. Steps 2 to 4 are in
`qrs_candidates`.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_signal
from analysis.qrs_candidates import BLOCK_S, NEAR_S, choose_beats, find_candidates, qrs_energy
from protocols.errors import SignalError

LOWEST_RATE_HZ: Final = 100.0
"""The pass band reaches up to some 35 Hz; below 100 Hz its upper slope no longer fits below half the rate."""
SHORTEST_S: Final = 1.0
"""Shorter than a heart cycle at 60 beats/min there is no neighbourhood to judge a candidate by."""
CONTEXT_S: Final = 28.0
"""How far to either side a decision may look: the sum of what its steps look at, rounded up to whole blocks."""

_WORKING_RATE_HZ: Final = 120.0  # lowest rate after averaging; half of it stays above the pass band
HALF_QRS_S: Final = 0.060  # half of 120 ms, the longest normal QRS complex
_LONGEST_BRIDGE_S: Final = 2.0  # a longer run of missing samples is a hole: nothing in it, nothing across it
_STRETCH: Final = 1 << 18  # samples decided at once, so that memory does not grow with the recording

_Floats: TypeAlias = NDArray[np.float64]


def detect_qrs(ecg: ArrayLike, *, rate_hz: float) -> NDArray[np.int64]:
    """Return the sample indices of the QRS complexes of one ECG lead, ascending.

    Parameters
    ----------
    ecg
        One lead, shape (n_samples,), integers or floats in any unit and polarity. NaN marks missing samples: a
        run of them shorter than 2 s is bridged by a straight line, and no beat is ever reported on a missing
        sample.
    rate_hz
        Sampling rate, at least 100. A wrong one makes refractory period, T-wave rule and filter wrong: beats
        are then lost or doubled, which the samples cannot tell.

    Returns
    -------
    Shape (n_beats,). A beat is marked at its largest deflection within 60 ms of the peak of its energy, where
    the polarity that most beats around have counts double. Empty for a constant or wholly missing signal.
        Any length is decided in stretches of 262,144 samples, so time grows in proportion and memory does not:
        besides the input some 4 MB (7 MB with NaN), for integers as for floats; 10^9 samples are no exception.

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

    Bazett 1920, Heart 7:353-370: QT with the root of the interval.

    Differs from Pan & Tompkins in a symmetric filter without derivative, in judging by neighbours on both sides
    instead of running averages, in local percentiles for the means of past peaks, in a T-wave rule that fades
    with distance, shrinks with the interval, applies before a beat as well (P waves) and compares strength for
    slope, and in the rule for weak candidates that split a regular interval.

    How each constant was chosen, and what its neighbours give, is in docs/signals/qrs.md.
    """
    samples = _checked(ecg, rate_hz, dimensions=1)
    return _all_beats(samples, float(rate_hz))


def detect_qrs_batch(ecg: ArrayLike, *, rate_hz: float) -> list[NDArray[np.int64]]:
    """Return what `detect_qrs` returns for each of several leads.

    Parameters
    ----------
    ecg
        Shape (n_leads, n_samples).
    rate_hz
        Of all of them, at least 100.

    Raises
    ------
    SignalError
        As `detect_qrs`.
    """
    leads = _checked(ecg, rate_hz, dimensions=2)
    return [_all_beats(lead, float(rate_hz)) for lead in leads]


def unit_samples(rate_hz: float) -> int:
    """Return the samples of a block: stretches start at multiples of it, counted from the first sample."""
    factor = averaging_factor(rate_hz)
    return factor * int(BLOCK_S * (rate_hz / factor))


def beats_of_stretch(samples: NDArray[Any], *, rate_hz: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the energy of each beat of a stretch peaks, and the beat itself; neither need ascend.

    Decided as if nothing lay around the stretch: what is nearer to an end than `CONTEXT_S` is settled only
    where that is the end of the signal. A beat belongs to the stretch in which its energy peaks.

    Parameters
    ----------
    samples
        Shape (n,), starting at a multiple of `unit_samples`.
    rate_hz
        At least 100.
    """
    nothing = np.empty(0, dtype=np.int64)
    samples, missing, holes = bridged(samples, rate_hz=rate_hz)
    factor = averaging_factor(rate_hz)
    if samples.size < factor:
        return nothing, nothing
    energy = qrs_energy(averaged(samples, factor), averaged_holes(holes, factor), rate_hz=rate_hz / factor)
    candidates = find_candidates(energy, rate_hz=rate_hz / factor)
    beats, strong = choose_beats(candidates)
    centres = candidates.positions * factor + factor // 2
    half_width = int(HALF_QRS_S * rate_hz)
    fiducial = largest_deflections(samples, missing, centres, beats, strong, half_width, int(NEAR_S * rate_hz))
    return centres[beats], fiducial


def _checked(ecg: ArrayLike, rate_hz: float, *, dimensions: int) -> NDArray[Any]:
    samples = as_signal(ecg, name="ecg")
    if samples.ndim != dimensions:
        expected = "one lead (n_samples,)" if dimensions == 1 else "leads (n_leads, n_samples)"
        raise SignalError(f"ecg of shape {samples.shape}, expected {expected}")
    check_rate(rate_hz)
    if samples.shape[-1] < SHORTEST_S * rate_hz:
        raise SignalError(
            f"ecg of {samples.shape[-1]} samples at {rate_hz} Hz, expected at least {SHORTEST_S} s"
        )
    return samples


def check_rate(rate_hz: float) -> None:
    """Raise `SignalError` unless the rate is at least 100 Hz."""
    if as_positive(rate_hz, name="rate_hz", unit="Hz") < LOWEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {LOWEST_RATE_HZ} Hz")


def _all_beats(samples: NDArray[Any], rate_hz: float) -> NDArray[np.int64]:
    """Return the beats of a lead, stretch by stretch."""
    unit = unit_samples(rate_hz)
    context = int(np.ceil(CONTEXT_S * rate_hz / unit)) * unit
    step = max(1, _STRETCH // unit) * unit
    found = [np.empty(0, dtype=np.int64)]
    for start in range(0, samples.size, step):  # stretches, not samples
        end = start + step if start + step < samples.size else samples.size
        low = max(0, start - context)
        centres, beats = beats_of_stretch(samples[low : end + context], rate_hz=rate_hz)
        found.append(np.where(beats >= 0, low + beats, -1)[(centres + low >= start) & (centres + low < end)])
    return settled(np.concatenate(found))


def settled(beats: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return beats in order, without those that could not be marked on a sample that is there."""
    return np.unique(beats[beats >= 0])


def bridged(
    samples: NDArray[Any], *, rate_hz: float
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return samples without NaN, which of them were missing, and which lie in a hole; both empty if none is.

    A run of less than 2 s is bridged by a straight line. In a longer one, a hole, and at an end, the nearest
    present sample is repeated.
    """
    missing = np.isnan(samples) if samples.dtype.kind == "f" else np.zeros(0, dtype=bool)
    if not missing.any():
        return samples, np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
    if missing.all():
        return np.zeros_like(samples), missing, missing
    present, at = np.flatnonzero(~missing), np.flatnonzero(missing)
    following = np.searchsorted(present, at)
    before = present[np.maximum(following - 1, 0)]
    after = present[np.minimum(following, present.size - 1)]
    within = (before < at) & (after > at) & (after - before <= int(_LONGEST_BRIDGE_S * rate_hz))
    share = np.where(within, (at - before) / np.maximum(after - before, 1), 0.0)
    nearest = np.where((after > at) & ((before > at) | (after - at < at - before)), after, before)
    line = samples[before] + share * (samples[after] - samples[before])
    filled = samples.copy()
    filled[at] = np.where(within, line, samples[nearest])
    holes = np.zeros(samples.size, dtype=bool)
    holes[at[~within]] = True
    return filled, missing, holes


def averaging_factor(rate_hz: float) -> int:
    """Return how many samples are averaged to come to about 120 a second."""
    return max(1, int(rate_hz // _WORKING_RATE_HZ))


def averaged(samples: NDArray[Any], factor: int) -> _Floats:
    """Return the means of `factor` samples each, shape (n // factor,); a rest is left out."""
    end = samples.size // factor * factor
    total = samples[0:end:factor].astype(np.float64)
    for k in range(1, factor):
        total += samples[k:end:factor]
    total /= factor
    return total


def averaged_holes(holes: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Return which means of `factor` samples lie in a hole; empty if there are none."""
    end = holes.size // factor * factor
    return holes[factor // 2 : end : factor]


def largest_deflections(
    samples: NDArray[Any],
    missing: NDArray[np.bool_],
    centres: NDArray[np.int64],
    beats: NDArray[np.intp],
    strong: NDArray[np.intp],
    half_width: int,
    near: int,
) -> NDArray[np.int64]:
    """Return where the samples around each beat deviate most from their median; -1 on a missing sample.

    Deviations of the sign that most of the strong beats within `near` samples have count double; where they are
    even, those of the sign of the beat itself.
    """
    looked_at = np.union1d(beats, strong)
    excess, deviations, indices = _around(samples, centres[looked_at], half_width)
    of_strong, of_beats = np.searchsorted(looked_at, strong), np.searchsorted(looked_at, beats)
    upward = np.concatenate([[0], np.cumsum(np.sign(excess[of_strong]).astype(np.int64))])
    before = np.searchsorted(centres[strong], centres[beats] - near)
    after = np.searchsorted(centres[strong], centres[beats] + near, side="right")
    majority = upward[after] - upward[before]
    excess, deviations, indices = excess[of_beats], deviations[of_beats], indices[of_beats]
    deviations *= np.where(np.where(majority != 0, majority, excess) < 0, -1.0, 1.0)[:, np.newaxis]
    size = np.maximum(deviations, -0.5 * deviations)
    if missing.size:
        size[missing[indices]] = -1.0
    rows = np.arange(beats.size)
    best = np.argmax(size, axis=1)
    return np.where(size[rows, best] >= 0.0, indices[rows, best], -1)


def _around(
    samples: NDArray[Any], centres: NDArray[np.int64], half_width: int
) -> tuple[_Floats, _Floats, NDArray[np.int64]]:
    """Return by how much up outweighs down around each centre, all deviations there, and samples' indices."""
    indices = np.clip(centres[:, np.newaxis] + np.arange(-half_width, half_width + 1), 0, samples.size - 1)
    deviations = samples[indices].astype(np.float64)
    deviations -= np.median(deviations, axis=1, keepdims=True)
    excess = deviations.max(axis=1, initial=0.0) + deviations.min(axis=1, initial=0.0)
    return excess, deviations, indices
