"""Heartbeats found by several channels of one subject together.

Each channel's QRS energy counts in units of its own usual beat, weighted by the square of its signal-to-noise
ratio, ten seconds at a time: where a channel shows clear beats it decides, where it is noise, flat or off it
says next to nothing (combining by ratio: Brennan 1959, doi:10.1109/JRPROC.1959.287146; there amplitudes of
independent noise, here energies, and the square because what disturbs one electrode often disturbs the others).
A single burst cannot shout the others down: a channel's energy counts up to four times that of its usual
beat. From the combined energy on all is as for one channel.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from analysis.arrays import as_signal
from analysis.heartbeats import (
    CONTEXT_S,
    HALF_QRS_S,
    SHORTEST_S,
    averaged,
    averaged_holes,
    averaging_factor,
    bridged,
    check_rate,
    largest_deflections,
    settled,
    unit_samples,
)
from analysis.qrs_candidates import (
    BLOCK_S,
    BLOCKS,
    NEAR_S,
    block_maxima,
    choose_beats,
    find_candidates,
    local_energy,
    per_sample,
    percentile_of_blocks,
    qrs_energy,
)
from protocols.errors import SignalError

_LOUDEST: Final = 4.0  # twice the usual amplitude, as large ectopic beats are
_BEST_RATIO: Final = 1e4  # 40 dB: a channel clearer than that decides no more than others as clear
_LEAST_WEIGHT: Final = 1e-6  # of a channel that is off: it decides only where all others are off too
_STRETCH: Final = 1 << 18

_Floats: TypeAlias = NDArray[np.float64]


def detect_qrs_multilead(ecg: ArrayLike, *, rate_hz: float) -> NDArray[np.int64]:
    """Return the sample indices of the QRS complexes that the channels of one subject show together, ascending.

    Parameters
    ----------
    ecg
        Channels recorded together, shape (n_channels, n_samples); units, gains and polarities may differ. NaN
        marks missing samples, as in `detect_qrs`; a channel may be missing altogether.
    rate_hz
        Sampling rate, at least 100.

    Returns
    -------
    Shape (n_beats,). A beat is marked at the largest deflection of the channel that is clearest there.

    Raises
    ------
    SignalError
        If `ecg` is not two-dimensional or has no channel, is shorter than 1 s, holds infinite or no real
        values, or if the rate is below 100 Hz.
    """
    channels = as_signal(ecg, name="ecg")
    if channels.ndim != 2 or channels.shape[0] == 0:
        raise SignalError(f"ecg of shape {channels.shape}, expected channels (n_channels, n_samples)")
    check_rate(rate_hz)
    n_samples = channels.shape[1]
    if n_samples < SHORTEST_S * rate_hz:
        raise SignalError(f"ecg of {n_samples} samples at {rate_hz} Hz, expected at least {SHORTEST_S} s")
    unit = unit_samples(rate_hz)
    context = int(np.ceil(CONTEXT_S * rate_hz / unit)) * unit
    step = max(1, _STRETCH // channels.shape[0] // unit) * unit
    found = [np.empty(0, dtype=np.int64)]
    for start in range(0, n_samples, step):  # stretches, so that memory does not grow with the recording
        low, end = max(0, start - context), min(start + step, n_samples)
        centres, beats = _beats_of_stretch(channels[:, low : end + context], float(rate_hz))
        inside = (centres + low >= start) & (centres + low < end)
        found.append(np.where(beats >= 0, beats + low, -1)[inside])
    return settled(np.concatenate(found))


def _beats_of_stretch(channels: NDArray[Any], rate_hz: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the combined energy of each beat peaks, and the beat, as `heartbeats.beats_of_stretch`."""
    factor = averaging_factor(rate_hz)
    working_hz = rate_hz / factor
    filled, missing, energies = [], [], []
    for samples in channels:  # a dozen leads at most, each with missing samples of its own
        whole, gone, holes = bridged(samples, rate_hz=rate_hz)
        filled.append(whole)
        missing.append(gone)
        energies.append(qrs_energy(averaged(whole, factor), averaged_holes(holes, factor), rate_hz=working_hz))
    combined, clarity = _combined(np.stack(energies), working_hz)
    candidates = find_candidates(combined, rate_hz=working_hz)
    beats, strong = choose_beats(candidates)
    centres = candidates.positions * factor + factor // 2
    clearest = np.argmax(clarity, axis=0)[candidates.positions // int(BLOCK_S * working_hz)]
    found = np.full(beats.size, -1, dtype=np.int64)
    for number, (samples, gone) in enumerate(zip(filled, missing, strict=True)):
        mine = clearest[beats] == number
        found[mine] = largest_deflections(
            samples,
            gone,
            centres,
            beats[mine],
            strong[clearest[strong] == number],
            int(HALF_QRS_S * rate_hz),
            int(NEAR_S * rate_hz),
        )
    return centres[beats], found


def _combined(energies: _Floats, rate_hz: float) -> tuple[_Floats, _Floats]:
    """Return the energy of all channels together, shape (n,), and each one's clarity in each block.

    Clarity is the energy of the usual beat over that between beats (the median): some hundred for a clean
    channel, four for noise.
    """
    usual = local_energy(energies, rate_hz=rate_hz)
    noise = np.maximum(_local_median(energies, rate_hz), usual / _BEST_RATIO)
    clarity = np.where(_is_on(energies, rate_hz), usual / np.where(noise > 0.0, noise, 1.0), 0.0)
    weights = np.where(usual > 0.0, np.maximum(clarity**2, _LEAST_WEIGHT), 0.0)
    n = energies.shape[-1]
    gains = per_sample(weights / np.where(usual > 0.0, usual, 1.0), n, rate_hz)
    limits = per_sample(_LOUDEST * weights, n, rate_hz)
    total = per_sample(np.maximum(weights.sum(axis=0), _LEAST_WEIGHT), n, rate_hz)
    return np.minimum(energies * gains, limits).sum(axis=0) / total, clarity


def _is_on(energies: _Floats, rate_hz: float) -> NDArray[np.bool_]:
    """Return in which blocks a channel has energy, and not there alone, as a step between flat lines has it."""
    active = (block_maxima(energies, rate_hz=rate_hz) > 0.0).astype(np.float64)
    around = ndimage.convolve1d(active, np.ones(BLOCKS), axis=-1, mode="constant")
    return np.asarray((active > 0.0) & (around >= min(2, active.shape[-1])))


def _local_median(energies: _Floats, rate_hz: float) -> _Floats:
    """Return the median energy of each channel over 10 s around each block, by blocks' medians."""
    block = int(BLOCK_S * rate_hz)
    n = energies.shape[-1]
    padded = np.pad(energies, ((0, 0), (0, -n % block)), mode="edge")
    medians = np.median(padded.reshape(energies.shape[0], -1, block), axis=-1)
    return percentile_of_blocks(medians, 50)
