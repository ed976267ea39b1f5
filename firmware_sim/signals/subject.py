"""One simulated person, whom all devices on them share: the same saturation and beats at the same time."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_sim.signals.desaturation import SaturationProfile, constant_saturation
from firmware_sim.signals.heartbeats import Heartbeats
from protocols.errors import DefinitionError

FloatArray = NDArray[np.float64]

HYPOXIC_RISE_BPM: Final = 0.8
"""Rise of heart rate per % of SaO2 below `HYPOXIC_FROM_PERCENT`: an assumption of this model, of usual size."""

HYPOXIC_FROM_PERCENT: Final = 98.0


class Subject:
    """A seeded person at rest; every value is a function of seed and run time alone.

    Parameters
    ----------
    seed
        Names the person, at least 0: resting heart rate (55 to 80 /min), breathing (0.2 to 0.3 Hz), beats.
    saturation
        SaO2 over time; room air if None.
    resting_bpm
        In place of the seed's own, 20 to 250.
    variability
        Standard deviation of the relative modulation of the heart rate, 0 to 0.2.

    Raises
    ------
    DefinitionError
        Names the value at fault.
    """

    def __init__(
        self,
        seed: int,
        saturation: SaturationProfile | None = None,
        *,
        resting_bpm: float | None = None,
        variability: float = 0.04,
    ) -> None:
        if seed < 0:
            raise DefinitionError(f"seed={seed!r}, expected at least 0")
        if resting_bpm is not None and not 20 <= resting_bpm <= 250:
            raise DefinitionError(f"resting_bpm={resting_bpm!r}, expected 20 to 250")
        if not 0 <= variability <= 0.2:
            raise DefinitionError(f"variability={variability!r}, expected 0 to 0.2")
        rng = np.random.default_rng([seed, 2])
        own_bpm, respiration_hz = float(rng.uniform(55, 80)), float(rng.uniform(0.2, 0.3))
        self.seed = seed
        self.saturation = saturation or constant_saturation()
        self.resting_bpm = own_bpm if resting_bpm is None else resting_bpm
        self._heartbeats = Heartbeats(
            (seed, 3), self.heart_rate_bpm, variability=variability, respiration_hz=respiration_hz
        )

    def sao2_percent(self, times_s: FloatArray) -> FloatArray:
        """Return the arterial oxygen saturation in % at run times in s, same shape."""
        return self.saturation.sao2_percent(times_s)

    def heart_rate_bpm(self, times_s: FloatArray) -> FloatArray:
        """Return the heart rate in /min, without variability from beat to beat, at run times in s."""
        lacking = np.maximum(HYPOXIC_FROM_PERCENT - self.sao2_percent(times_s), 0)
        heart_rate: FloatArray = self.resting_bpm + HYPOXIC_RISE_BPM * lacking
        return heart_rate

    def beats_s(self, start_s: float, end_s: float) -> FloatArray:
        """Return the run times of the heart beats in `[start_s, end_s)`, in s, shape (n_beats,)."""
        return self._heartbeats.between(start_s, end_s)
