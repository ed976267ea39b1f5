"""Photoplethysmogram: a pulse wave after every heart beat, and what red and infrared light make of it.

The wave is the sum of a systolic and a reflected Gaussian. Its shape is a function of the beat times alone. An
oximeter's two wavelengths see the same wave with amplitudes whose ratio of ratios R tells the saturation:
SpO2 = 110 - 25 R, the usual textbook line, exact here by construction.

References
----------
Webster (ed.), Design of Pulse Oximeters (1997), ISBN 0750304677: the empirical line 110 - 25 R.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_sim.signals.subject import Subject

FloatArray = NDArray[np.float64]

TRANSIT_S: Final = 0.20
"""From the R peak to the foot of the finger's pulse wave."""

_WAVES: Final = ((1.0, 0.13, 0.055), (0.35, 0.33, 0.075))
"""Height, time after the foot in s, standard deviation in s: systolic, reflected."""

_REACH_S: Final = 1.0


def pleth(times_s: FloatArray, subject: Subject) -> FloatArray:
    """Return the pulse wave at run times in s, ascending: 0 between beats, about 1 at the systolic peaks."""
    wave = np.zeros_like(times_s)
    if times_s.size == 0:
        return wave
    feet_s = subject.beats_s(float(times_s[0]) - TRANSIT_S - _REACH_S, float(times_s[-1])) + TRANSIT_S
    last = np.searchsorted(feet_s, times_s, side="right") - 1
    for neighbour in range(4):
        beat = last - neighbour
        valid = beat >= 0
        since_s = times_s[valid] - feet_s[beat[valid]]
        for height, at_s, sd_s in _WAVES:
            wave[valid] += height * np.exp(-((since_s - at_s) ** 2) / (2 * sd_s**2))
    return wave


def ratio_of_ratios(spo2_percent: FloatArray) -> FloatArray:
    """Return R = (AC/DC of red) / (AC/DC of infrared) at a saturation in %, same shape."""
    ratio: FloatArray = (110.0 - spo2_percent) / 25.0
    return ratio


def red_infrared(
    times_s: FloatArray,
    subject: Subject,
    *,
    dc: float = 100_000.0,
    perfusion_percent: float = 2.0,
) -> FloatArray:
    """Return the light that reaches the sensor, red and infrared, in counts.

    Parameters
    ----------
    times_s
        Run times in s, ascending, shape (n,).
    subject
        Whose finger it is.
    dc
        Light without pulse, the same for both.
    perfusion_percent
        AC/DC of the infrared, in %.

    Returns
    -------
    Shape (2, n). Blood absorbs: light is least at the systolic peak.
    """
    wave = pleth(times_s, subject) * perfusion_percent / 100
    red = wave * ratio_of_ratios(subject.sao2_percent(times_s))
    return dc * (1 - np.stack([red, wave]))
