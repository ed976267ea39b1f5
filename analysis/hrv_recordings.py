"""Heart-rate variability of one recording: one number each, of RR readings with their times.

Readings come from devices that detect beats themselves, such as a chest strap. Artefacts are repaired here; a
recording too poor or too short for a figure gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis import hrv, hrv_frequency, hrv_nonlinear
from analysis.arrays import as_series, as_times_ns
from analysis.rr_artefacts import LONGEST_PAUSE_MS, as_rr_ms, correct_rr, malik_rule, physiological
from protocols.errors import SignalError

_LEAST_S: Final = 60.0  # as for HF: RMSSD and its kin follow the same fast variation
_LEAST_SHARE: Final = 0.8  # of a recording's beats that are normal; as for the windows of `hrv_frequency`
_PAUSE_NS: Final = 5_000_000_000  # between two readings: a sensor sends every second, so beats are missing

_Floats: TypeAlias = NDArray[np.float64]


def recording_figure(figure: Callable[[_Floats], ArrayLike]) -> Callable[..., float]:
    """Return a function of a recording's RR readings, `(rr_ms, *, times_ns) -> float`.

    It rejects intervals outside 300 to 2,000 ms (0 among them, which some devices send for a lost beat), sets
    a mark of rejection where the readings pause for 5 s, repairs artefacts (`correct_rr`), and returns `figure`
    of the result: NaN where a fifth or more of the beats were no normal ones, a fifth or more of what is left
    differs by more than 20 % from the beat before (no sinus rhythm, `malik_rule`: atrial fibrillation is no
    variability), or less than a minute is left.
    """

    def of_recording(rr_ms: ArrayLike, *, times_ns: ArrayLike) -> float:
        values = as_series(rr_ms, name="rr_ms")
        values = as_rr_ms(np.where((values > 0.0) & (values <= LONGEST_PAUSE_MS), values, np.nan))
        times = as_times_ns(times_ns, name="times_ns")
        if times.size != values.size:
            raise SignalError(f"{values.size} intervals at {times.size} times, expected as many")
        marks = np.flatnonzero(np.diff(times) > _PAUSE_NS) + 1
        usable = physiological(values)
        rejected = np.isnan(usable).mean() if usable.size else 1.0
        corrected = correct_rr(np.insert(usable, marks, np.nan))
        left = corrected.rr_ms
        irregular = np.isnan(malik_rule(left)).sum() - np.isnan(left).sum()
        poor = (
            rejected + corrected.corrected_share >= 1.0 - _LEAST_SHARE
            or irregular >= (1.0 - _LEAST_SHARE) * np.isfinite(left).sum()
            or 1e-3 * np.nansum(left) < _LEAST_S
        )
        return float("nan") if poor else float(np.asarray(figure(left)))

    return of_recording


def _entropy_of_enough(rr_ms: _Floats) -> ArrayLike:
    enough = np.isfinite(rr_ms).sum() >= hrv_nonlinear.LEAST_ENTROPY_BEATS
    return hrv_nonlinear.sample_entropy(rr_ms) if enough else float("nan")


recording_mean_nn_ms = recording_figure(hrv.mean_nn_ms)
recording_sdnn_ms = recording_figure(hrv.sdnn_ms)
recording_rmssd_ms = recording_figure(hrv.rmssd_ms)
recording_pnn50_percent = recording_figure(hrv.pnn_percent)
recording_lf_ms2 = recording_figure(lambda rr_ms: hrv_frequency.welch_bands(rr_ms).lf_ms2)
recording_hf_ms2 = recording_figure(lambda rr_ms: hrv_frequency.welch_bands(rr_ms).hf_ms2)
recording_lf_hf = recording_figure(lambda rr_ms: hrv_frequency.welch_bands(rr_ms).lf_hf)
recording_sd1_ms = recording_figure(hrv_nonlinear.sd1_ms)
recording_sd2_ms = recording_figure(hrv_nonlinear.sd2_ms)
recording_sample_entropy = recording_figure(_entropy_of_enough)
recording_dfa_alpha1 = recording_figure(hrv_nonlinear.dfa_alpha)
