"""Synthetic ECGs of known beats and rhythms, for the tests of classes, rhythm and fibrillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

P = (110.0, -0.160, 0.022)
WAVES = {
    "N": (P, (-110.0, -0.032, 0.009), (1100.0, 0.0, 0.011), (-220.0, 0.034, 0.010), (280.0, 0.28, 0.045)),
    # atrial premature: the same conduction, with a P wave of another shape
    "S": (
        (60.0, -0.130, 0.020),
        (-110.0, -0.032, 0.009),
        (1100.0, 0.0, 0.011),
        (-220.0, 0.034, 0.010),
        (280.0, 0.26, 0.045),
    ),
    # ventricular: 160 ms wide, no P, T the other way
    "V": ((1500.0, 0.0, 0.030), (-700.0, 0.075, 0.030), (-500.0, 0.30, 0.060)),
    # ventricular from high in the septum: hardly wider than normal, the other way round
    "W": ((-1300.0, 0.0, 0.0125), (-300.0, 0.27, 0.045)),
    # bundle branch block: P, and a wide and notched complex
    "B": (P, (800.0, -0.02, 0.022), (600.0, 0.045, 0.026), (-300.0, 0.28, 0.050)),
    # fusion: three quarters of the normal beat and three tenths of the ventricular one
    "F": (
        P,
        (825.0, 0.0, 0.011),
        (-165.0, 0.034, 0.010),
        (210.0, 0.28, 0.045),
        (450.0, 0.0, 0.030),
        (-210.0, 0.075, 0.030),
        (-150.0, 0.30, 0.060),
    ),
    # conducted in atrial fibrillation: no P
    "A": ((-110.0, -0.032, 0.009), (1100.0, 0.0, 0.011), (-220.0, 0.034, 0.010), (280.0, 0.26, 0.040)),
}
"""Kind of beat -> waves: height in uV, centre after the mark in s, standard deviation in s."""


def ecg_of(
    kinds: Sequence[str], rr_s: Floats | Sequence[float], rng: np.random.Generator, *, rate_hz: float = 250.0
) -> tuple[Floats, Ints]:
    """Return an ECG in uV with 10 uV of noise, and the samples of its beats; `rr_s` precedes each beat."""
    beats_s = np.cumsum(np.asarray(rr_s, dtype=float))
    ecg = 10.0 * rng.standard_normal(int((beats_s[-1] + 1.0) * rate_hz))
    for kind, beat_s in zip(kinds, beats_s, strict=True):
        near = np.arange(max(0, int((beat_s - 0.4) * rate_hz)), min(ecg.size, int((beat_s + 0.7) * rate_hz)))
        since_s = near / rate_hz - beat_s
        for height, at_s, sd_s in WAVES[kind]:
            ecg[near] += height * np.exp(-0.5 * ((since_s - at_s) / sd_s) ** 2)
    return ecg, np.rint(beats_s * rate_hz).astype(np.int64)


def sinus(n_beats: int, rng: np.random.Generator, *, rr_s: float = 0.8) -> Floats:
    """Return intervals that breathe by 5 % and scatter by 1 %."""
    breath = 0.05 * np.sin(2 * np.pi * np.arange(n_beats) / 5.0)
    return np.asarray(rr_s * (1.0 + breath + 0.01 * rng.standard_normal(n_beats)))


def fibrillating(n_beats: int, rng: np.random.Generator, *, rr_s: float = 0.65) -> Floats:
    """Return intervals without order: independent, their variation a quarter of their mean, as usual in AF."""
    return np.asarray(np.clip(rr_s * (1.0 + 0.24 * rng.standard_normal(n_beats)), 0.35, 1.3))


def ventricular_fibrillation_uv(n: int, rng: np.random.Generator, *, rate_hz: float = 250.0) -> Floats:
    """Return a wave whose frequency wanders between 4 and 6 Hz and whose height waxes and wanes."""
    times_s = np.arange(n) / rate_hz
    seconds = np.arange(int(n / rate_hz) + 2)
    wander = np.interp(times_s, seconds, rng.uniform(4.0, 6.0, seconds.size))
    height = np.interp(times_s, seconds, rng.uniform(200.0, 600.0, seconds.size))
    return np.asarray(height * np.sin(2 * np.pi * np.cumsum(wander) / rate_hz) + 15.0 * rng.standard_normal(n))
