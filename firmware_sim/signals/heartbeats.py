"""When a heart beats: integral pulse frequency modulation of a stated heart rate.

A beat falls wherever the integral of the instantaneous rate passes an integer. The rate is the subject's heart
rate times `1 + m(t)`, where m has the two-peaked spectrum of resting heart rate variability: a low-frequency
(Mayer) peak at 0.1 Hz and a respiratory one, each a Gaussian of 0.01 Hz standard deviation, with a power ratio
of 0.5. m is a fixed sum of sinusoids, so beats are a function of seed and time alone, however asked for.

References
----------
McSharry et al. (2003), doi:10.1109/TBME.2003.808805, section III-B: the spectrum. There it shapes the RR
intervals; here it shapes the rate, as in Mateo and Laguna (2000), IEEE Trans. Biomed. Eng. 47(8):985-996.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LF_HZ: Final = 0.1
PEAK_SD_HZ: Final = 0.01
LF_HF_RATIO: Final = 0.5

_CHUNK_S: Final = 120.0
_STEP_S: Final = 0.02
_N_TONES: Final = 6


class Heartbeats:
    """The beats of one subject, from time 0 on.

    Parameters
    ----------
    seed
        Names the variability.
    heart_rate_bpm
        Beats per minute at times of shape (n,), in s; positive.
    variability
        Standard deviation of the relative modulation of the rate, 0 for a metronome, at most 0.2.
    respiration_hz
        Centre of the respiratory peak.
    """

    def __init__(
        self,
        seed: tuple[int, ...],
        heart_rate_bpm: Callable[[FloatArray], FloatArray],
        *,
        variability: float = 0.04,
        respiration_hz: float = 0.25,
    ) -> None:
        self._heart_rate_bpm = heart_rate_bpm
        rng = np.random.default_rng(seed)
        centres_hz = np.repeat([LF_HZ, respiration_hz], _N_TONES)
        self._tones_hz = rng.normal(centres_hz, PEAK_SD_HZ)
        power = np.repeat([LF_HF_RATIO, 1.0], _N_TONES) / (_N_TONES * (1 + LF_HF_RATIO))
        self._amplitudes = variability * np.sqrt(2 * power)
        self._phases = rng.uniform(0, 2 * np.pi, self._tones_hz.size)
        self._cycles = float(rng.uniform(0, 1))
        self._beats_s: FloatArray = np.empty(0)
        self._n_chunks = 0

    def between(self, start_s: float, end_s: float) -> FloatArray:
        """Return the times of the beats in `[start_s, end_s)`, in s, shape (n_beats,)."""
        while self._n_chunks * _CHUNK_S < end_s:
            self._extend()
        low, high = np.searchsorted(self._beats_s, [start_s, end_s])
        return self._beats_s[low:high]

    def _extend(self) -> None:
        """Integrate the rate over one more chunk; chunks are the same whatever was asked for."""
        n_steps = round(_CHUNK_S / _STEP_S)
        times_s = self._n_chunks * _CHUNK_S + np.arange(n_steps + 1, dtype=np.float64) * _STEP_S
        rate_hz = self._heart_rate_bpm(times_s) / 60 * (1 + self._modulation(times_s))
        steps = (rate_hz[1:] + rate_hz[:-1]) * (_STEP_S / 2)
        cycles = self._cycles + np.concatenate([[0.0], np.cumsum(steps)])
        whole = np.arange(np.floor(cycles[0]) + 1, np.floor(cycles[-1]) + 1)
        self._beats_s = np.concatenate([self._beats_s, np.interp(whole, cycles, times_s)])
        self._cycles = float(cycles[-1])
        self._n_chunks += 1

    def _modulation(self, times_s: FloatArray) -> FloatArray:
        angles = 2 * np.pi * np.outer(times_s, self._tones_hz) + self._phases
        modulation: FloatArray = np.clip(np.cos(angles) @ self._amplitudes, -0.5, 0.5)
        return modulation
