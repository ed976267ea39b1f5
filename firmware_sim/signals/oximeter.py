"""What a pulse oximeter shows of a subject: late, averaged, biased, noisy and rounded, as stated.

The errors follow the usual random-effects picture of an accuracy study: a bias common to all subjects, one that
is the subject's own, and one that varies from reading to reading::

    SpO2 = mean of SaO2 over the averaging window, `delay_s` ago
           + bias + low_slope * (100 - SaO2) + subject's own bias + random error

so that at constant SaO2 the expected Arms over many subjects is `sqrt(bias² + between² + random²)`, and 1/12
more under the root for rounding to 1 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_sim.signals.noise import white_noise
from firmware_sim.signals.subject import Subject
from protocols.errors import DefinitionError

FloatArray = NDArray[np.float64]

_STEP_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class OximeterModel:
    """How an oximeter errs.

    Parameters
    ----------
    bias_percent
        SpO2 - SaO2 common to all subjects.
    low_slope
        Further bias in % for every % of SaO2 below 100.
    between_percent
        Standard deviation of the subjects' own biases.
    random_percent
        Standard deviation of the random error of a reading; successive readings share it as far as their
        averaging windows overlap.
    averaging_s
        Length of the averaging window, positive.
    delay_s
        From the arterial blood to the end of the window: circulation and processing.

    Raises
    ------
    DefinitionError
        Names the value at fault.
    """

    bias_percent: float = 0.0
    low_slope: float = 0.0
    between_percent: float = 0.0
    random_percent: float = 0.0
    averaging_s: float = 4.0
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value):
                raise DefinitionError(f"{field.name}={value!r}, expected a finite number")
        for name in ("between_percent", "random_percent", "delay_s"):
            if getattr(self, name) < 0:
                raise DefinitionError(f"{name}={getattr(self, name)!r}, expected at least 0")
        if self.averaging_s <= 0:
            raise DefinitionError(f"averaging_s={self.averaging_s!r}, expected > 0")


REFERENCE: Final = OximeterModel(random_percent=0.3)
"""A transfer standard: no bias, 0.3 % random error, 4 s average."""

GOOD: Final = OximeterModel(bias_percent=0.4, between_percent=0.8, random_percent=1.0, delay_s=2.0)
"""A device that meets the usual limits: expected Arms 1.4 %."""

POOR: Final = OximeterModel(
    bias_percent=1.5, low_slope=0.15, between_percent=2.0, random_percent=2.0, averaging_s=8.0, delay_s=6.0
)
"""A device that reads high at low saturation: expected Arms about 4.9 % over 70 to 100 %."""

MODELS: Final = {"reference": REFERENCE, "good": GOOD, "poor": POOR}


class Oximeter:
    """An oximeter of a model on a subject.

    Parameters
    ----------
    subject
        Whose finger it is on.
    model
        How it errs.
    seed
        Of its errors; two devices on one subject have different ones.
    """

    def __init__(self, subject: Subject, model: OximeterModel, seed: int) -> None:
        self.subject = subject
        self.model = model
        self._seed = (subject.seed, seed, 4)
        own = np.random.default_rng([subject.seed, seed, 5]).standard_normal()
        self.subject_bias_percent = model.bias_percent + model.between_percent * float(own)

    def spo2_percent(self, time_s: float) -> int | None:
        """Return the SpO2 shown at a run time, in whole %; None until the first averaging window is full."""
        window_s = self._window_s(time_s)
        if window_s[0] < 0:
            return None
        sao2 = float(np.mean(self.subject.sao2_percent(window_s)))
        bias = self.subject_bias_percent + self.model.low_slope * (100 - sao2)
        return round(min(max(sao2 + bias + self._random_percent(time_s), 0.0), 100.0))

    def pulse_rate_bpm(self, time_s: float) -> int | None:
        """Return the pulse rate shown at a run time, in /min; None until two beats are in the window."""
        window_s = self._window_s(time_s)
        beats_s = self.subject.beats_s(max(float(window_s[0]) - _STEP_S, 0.0), float(window_s[-1]))
        if window_s[0] < 0 or beats_s.size < 2:
            return None
        return round(60 * (beats_s.size - 1) / float(beats_s[-1] - beats_s[0]))

    def _window_s(self, time_s: float) -> FloatArray:
        """Return the times averaged over."""
        n_steps = max(1, round(self.model.averaging_s / _STEP_S))
        return time_s - self.model.delay_s - np.arange(n_steps - 1, -1, -1, dtype=np.float64) * _STEP_S

    def _random_percent(self, time_s: float) -> float:
        n_steps = max(1, round(self.model.averaging_s / _STEP_S))
        last = math.floor(time_s / _STEP_S)
        noise = white_noise(self._seed, max(0, last - n_steps + 1), n_steps)
        return self.model.random_percent * float(noise.sum()) / math.sqrt(n_steps)
