"""Synthetic ECG: every beat is a sum of Gaussian waves P, Q, R, S and T around its R peak.

The R wave is centred on the beat's time, which is the ground truth; Q and S are placed so that the maximum of
the sum stays there. P and T move with the square root of the RR interval (Bazett), the QRS complex does not.

References
----------
McSharry et al. (2003), doi:10.1109/TBME.2003.808805: Gaussian events per cycle and the square-root scaling.
Differs from it in adding the waves directly instead of integrating an orbit, which states each wave's peak in
uV and lets any stretch be computed by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_sim.signals.noise import white_noise
from firmware_sim.signals.subject import Subject
from protocols.errors import DefinitionError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Wave:
    """One wave of the beat: where it peaks after R, how wide and how high it is at an RR interval of 1 s."""

    peak_uv: float
    at_s: float
    sd_s: float
    follows_rr: bool


LEAD_II: Final = (
    Wave(110.0, -0.170, 0.022, follows_rr=True),
    Wave(-110.0, -0.032, 0.009, follows_rr=False),
    Wave(1100.0, 0.0, 0.011, follows_rr=False),
    Wave(-220.0, 0.034, 0.010, follows_rr=False),
    Wave(280.0, 0.300, 0.045, follows_rr=True),
)
"""A normal adult lead II: P, Q, R, S, T."""

_MARGIN_S: Final = 3.0


def clean_ecg_uv(times_s: FloatArray, beats_s: FloatArray, waves: tuple[Wave, ...] = LEAD_II) -> FloatArray:
    """Return the noise-free ECG in uV.

    Parameters
    ----------
    times_s
        Sample times in s, ascending, shape (n,).
    beats_s
        Times of the R peaks in s, ascending, shape (n_beats,), reaching a beat beyond `times_s` on both sides.
    waves
        What a beat consists of.

    Returns
    -------
    Shape (n,). Each sample adds up the waves of the two beats before and the two after it.
    """
    ecg_uv = np.zeros_like(times_s)
    if beats_s.size < 2:
        return ecg_uv
    rr_s = np.diff(beats_s, prepend=2 * beats_s[0] - beats_s[1])
    stretch = np.sqrt(rr_s)
    after = np.searchsorted(beats_s, times_s)
    for neighbour in (-2, -1, 0, 1):
        beat = after + neighbour
        valid = (beat >= 0) & (beat < beats_s.size)
        beat = beat[valid]
        since_s = times_s[valid] - beats_s[beat]
        for wave in waves:
            scale = stretch[beat] if wave.follows_rr else 1.0
            ecg_uv[valid] += wave.peak_uv * np.exp(
                -((since_s - wave.at_s * scale) ** 2) / (2 * (wave.sd_s * scale) ** 2)
            )
    return ecg_uv


@dataclass(frozen=True, slots=True)
class EcgLead:
    """What an electrode pair on the subject picks up: the ECG and white noise.

    Parameters
    ----------
    subject
        Whose heart it is.
    gain
        Of this lead against lead II.
    snr_db
        Mean power of the ECG over a minute at rest (about its mean) to that of the noise, in dB; inf for none.
    seed
        Names the noise.

    Attributes
    ----------
    noise_uv
        Standard deviation of the noise.

    Raises
    ------
    DefinitionError
        Names the value at fault.
    """

    subject: Subject
    gain: float = 1.0
    snr_db: float = math.inf
    seed: int = 0
    noise_uv: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if math.isnan(self.snr_db) or self.snr_db == -math.inf:
            raise DefinitionError(f"snr_db={self.snr_db!r}, expected a number or inf")
        if not math.isfinite(self.gain):
            raise DefinitionError(f"gain={self.gain!r}, expected a finite number")
        if self.snr_db < math.inf:
            ecg_uv = float(np.std(self.clean_uv(np.arange(0, 60, 1 / 500))))
            object.__setattr__(self, "noise_uv", ecg_uv * 10 ** (-self.snr_db / 20))

    def clean_uv(self, times_s: FloatArray) -> FloatArray:
        """Return the noise-free ECG at run times in s, in uV, same shape (n,)."""
        if times_s.size == 0:
            return np.empty(0)
        beats_s = self.subject.beats_s(float(times_s[0]) - _MARGIN_S, float(times_s[-1]) + _MARGIN_S)
        return self.gain * clean_ecg_uv(times_s, beats_s)

    def samples_uv(self, times_s: FloatArray, first: int) -> FloatArray:
        """Return the ECG at run times in s, in uV, shape (n,); `first` is the index of the first sample."""
        if self.noise_uv == 0:
            return self.clean_uv(times_s)
        return self.clean_uv(times_s) + self.noise_uv * white_noise((self.seed,), first, times_s.size)
