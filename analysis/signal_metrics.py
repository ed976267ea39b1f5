"""Figures of one recording: the table of what its signals can be asked for.

A figure is one number for a recording, NaN where the signal is too poor for one. Waveforms of several channels
are brought to the clock of the fastest one first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis import (
    desaturation,
    ecg_morphology,
    ecg_rhythm,
    gait,
    glucose_recordings,
    heart_rate,
    hrv_recordings,
    motion,
    oscillometry,
    perfusion,
    plateaus,
    pressure,
    pulse_transit,
    pulses_intervals,
    quality,
    respiration,
    respiration_fusion,
    saturation,
    spirometry,
    steps,
    turns,
)
from analysis.resampling import interpolate_to_clock, to_common_clock
from analysis.signal_study import Signal
from analysis.timing import NS_PER_S
from protocols.errors import SignalError

_LONGEST_BRIDGE_S: Final = 0.1
"""Missing samples of at most this much are interpolated when waveforms are brought to one clock."""
_LONGEST_SILENCE_S: Final = 10.0
"""Readings farther apart than this are not joined; oximeters show a new value every second or two."""


@dataclass(frozen=True, slots=True)
class SignalMetric:
    """One entry of the table.

    Parameters
    ----------
    unit
        UCUM code of the figure.
    channels
        Names of the channels it is computed from.
    function
        Computes it from these channels.
    source
        Where it is defined.
    """

    unit: str
    channels: tuple[str, ...]
    function: Callable[[Mapping[str, Signal]], float]
    source: str


def figure(metric: str, signals: Mapping[str, Signal]) -> float:
    """Return the figure of one recording, NaN where the signal allows none.

    Raises
    ------
    SignalError
        If there is no such metric, a channel it needs is not there, or the signal is of the wrong kind.
    """
    if metric not in SIGNAL_METRICS:
        raise SignalError(f"metric {metric!r}, expected one of {', '.join(SIGNAL_METRICS)}")
    needed = SIGNAL_METRICS[metric].channels
    lacking = [channel for channel in needed if channel not in signals]
    if lacking:
        raise SignalError(f"{metric} of channels {', '.join(signals)}: {', '.join(lacking)} expected as well")
    return float(SIGNAL_METRICS[metric].function({channel: signals[channel] for channel in needed}))


def _percent(share: Callable[..., float]) -> Callable[..., float]:
    return lambda *values, rate_hz: 100.0 * share(*values, rate_hz=rate_hz)


def _odi_4(spo2_percent: NDArray[np.float64], *, rate_hz: float) -> float:
    return desaturation.desaturation_index_per_h(spo2_percent, rate_hz=rate_hz, drop_percent=4.0)


def _in_motion(ppg: NDArray[np.float64], *accel: NDArray[np.float64], rate_hz: float) -> float:
    return motion.mean_heart_rate_per_min(ppg, np.stack(accel), rate_hz=rate_hz)


def _turns(*axes: NDArray[np.float64], rate_hz: float) -> float:
    return turns.turn_count(np.stack(axes[:3]), np.stack(axes[3:]), rate_hz=rate_hz)


def _waveforms(function: Callable[..., float]) -> Callable[[Mapping[str, Signal]], float]:
    """Return a function of waveforms, one argument each, with `rate_hz`."""

    def of_signals(signals: Mapping[str, Signal]) -> float:
        values, rate_hz = _on_one_clock(list(signals.values()))
        return function(*values, rate_hz=rate_hz)

    return of_signals


def _readings(function: Callable[..., float]) -> Callable[[Mapping[str, Signal]], float]:
    """Return a function of the readings of one channel, with their `times_ns`."""

    def of_signals(signals: Mapping[str, Signal]) -> float:
        (only,) = signals.values()
        return function(only.values, times_ns=only.times_ns)

    return of_signals


def _each_second(function: Callable[..., float]) -> Callable[[Mapping[str, Signal]], float]:
    """Return a function of the values of one channel at every second, with `rate_hz`."""

    def of_signals(signals: Mapping[str, Signal]) -> float:
        (only,) = signals.values()
        if only.times_ns.size == 0:
            return float("nan")
        start_ns = int(only.times_ns[0])
        values = interpolate_to_clock(
            only.values,
            only.times_ns,
            start_ns=start_ns,
            rate_hz=1.0,
            n_samples=(int(only.times_ns[-1]) - start_ns) // NS_PER_S + 1,
            longest_gap_s=_LONGEST_SILENCE_S,
        )
        return function(values, rate_hz=1.0)

    return of_signals


def _on_one_clock(signals: list[Signal]) -> tuple[list[NDArray[np.float64]], float]:
    """Return waveforms sampled together, where all of them are there, and their rate."""
    first = max(signals, key=lambda signal: signal.rate_hz or 0.0)
    if any(signal.rate_hz is None for signal in signals) or first.rate_hz is None:
        raise SignalError("readings with times of their own, expected waveforms with a rate")
    if all(np.array_equal(signal.times_ns, first.times_ns) for signal in signals):
        return [signal.values for signal in signals], first.rate_hz
    _, values = to_common_clock(
        [(signal.values, signal.times_ns) for signal in signals],
        rate_hz=first.rate_hz,
        longest_gap_s=_LONGEST_BRIDGE_S,
    )
    return values, first.rate_hz


_AHA: Final = "AHA/ACC/HRS 2009, doi:10.1161/CIRCULATIONAHA.108.191096"
_TASK_FORCE: Final = "Task Force of the ESC and NASPE 1996, doi:10.1161/01.CIR.93.5.1043"
_CONSENSUS: Final = "Battelino et al. 2019, doi:10.2337/dci19-0028"
_MENA: Final = "average real variability, Mena et al. 2005, doi:10.1097/01.hjh.0000160205.81652.5a"
_GYRO: Final = ("gyro_x", "gyro_y", "gyro_z")
_ACCEL: Final = ("accel_x", "accel_y", "accel_z")


def _ecg(unit: str, function: Callable[..., float], source: str) -> SignalMetric:
    return SignalMetric(unit, ("ecg",), _waveforms(function), source)


def _ppg(unit: str, function: Callable[..., float], source: str) -> SignalMetric:
    return SignalMetric(unit, ("ppg",), _waveforms(function), source)


def _breath(unit: str, function: Callable[..., float], source: str) -> SignalMetric:
    return SignalMetric(unit, ("respiration",), _waveforms(function), source)


def _pressure(unit: str, function: Callable[..., float], source: str) -> SignalMetric:
    return SignalMetric(unit, ("pressure_mmhg",), _waveforms(function), source)


def _rr(unit: str, function: Callable[..., float]) -> SignalMetric:
    return SignalMetric(unit, ("rr_ms",), _readings(function), _TASK_FORCE)


def _glucose(unit: str, function: Callable[..., float], source: str = _CONSENSUS) -> SignalMetric:
    return SignalMetric(unit, ("glucose_mgdl",), _readings(function), source)


SIGNAL_METRICS: Final[Mapping[str, SignalMetric]] = MappingProxyType(
    {
        "ecg_mean_heart_rate": _ecg("/min", heart_rate.mean_heart_rate_per_min, "60 over the mean RR interval"),
        "ecg_lowest_heart_rate": _ecg("/min", heart_rate.lowest_heart_rate_per_min, "over 10 s"),
        "ecg_highest_heart_rate": _ecg("/min", heart_rate.highest_heart_rate_per_min, "over 10 s"),
        "ecg_pr": _ecg("ms", ecg_morphology.median_pr_ms, _AHA),
        "ecg_qrs": _ecg("ms", ecg_morphology.median_qrs_ms, _AHA),
        "ecg_qt": _ecg("ms", ecg_morphology.median_qt_ms, _AHA),
        "ecg_qtc_bazett": _ecg("ms", ecg_morphology.median_qtc_bazett_ms, _AHA),
        "ecg_qtc_fridericia": _ecg("ms", ecg_morphology.median_qtc_fridericia_ms, _AHA),
        "ecg_st_j60": _ecg("mV", ecg_morphology.median_st_j60, "60 ms after J, against the PR level"),
        "ecg_atrial_fibrillation": _ecg("%", ecg_rhythm.atrial_fibrillation_percent, "share of judged time"),
        "ecg_ventricular_fibrillation": _ecg(
            "%", ecg_rhythm.ventricular_fibrillation_percent, "share of judged time"
        ),
        "ecg_ventricular_beats": _ecg("%", ecg_rhythm.ventricular_beats_percent, "classes of ANSI/AAMI EC57"),
        "ecg_supraventricular_beats": _ecg(
            "%", ecg_rhythm.supraventricular_beats_percent, "classes of ANSI/AAMI EC57"
        ),
        "ecg_respiratory_rate": _ecg(
            "/min",
            respiration_fusion.mean_ecg_respiratory_rate_per_min,
            "Charlton et al. 2016, doi:10.1088/0967-3334/37/4/610",
        ),
        "ecg_good_share": _ecg("%", _percent(quality.good_ecg_share), "signal quality of 10 s windows"),
        "ppg_pulse_rate": _ppg("/min", pulses_intervals.mean_pulse_rate_per_min, "60 over the mean interval"),
        "ppg_rmssd": _ppg("ms", pulses_intervals.pulse_rate_rmssd_ms, _TASK_FORCE),
        "ppg_sdnn": _ppg("ms", pulses_intervals.pulse_rate_sdnn_ms, _TASK_FORCE),
        "ppg_perfusion_index": _ppg(
            "%", perfusion.median_perfusion_index_percent, "doi:10.1097/00003246-200206000-00006"
        ),
        "ppg_respiratory_rate": _ppg(
            "/min",
            respiration_fusion.mean_ppg_respiratory_rate_per_min,
            "Karlen et al. 2013, doi:10.1109/TBME.2013.2246160",
        ),
        "ecg_ppg_respiratory_rate": SignalMetric(
            "/min",
            ("ecg", "ppg"),
            _waveforms(respiration_fusion.mean_derived_respiratory_rate_per_min),
            "Charlton et al. 2016 and Karlen et al. 2013, fused",
        ),
        "ppg_good_share": _ppg("%", _percent(quality.good_ppg_share), "signal quality of windows"),
        "ppg_heart_rate_in_motion": SignalMetric(
            "/min", ("ppg", *_ACCEL), _waveforms(_in_motion), "with the accelerometer, see docs/signals/ppg.md"
        ),
        "pulse_arrival_time": SignalMetric(
            "ms",
            ("ecg", "ppg"),
            _waveforms(pulse_transit.median_pulse_arrival_time_ms),
            "R wave to the foot of the pulse",
        ),
        "ratio_of_ratios": SignalMetric(
            "1",
            ("red", "infrared"),
            _waveforms(saturation.median_ratio_of_ratios),
            "AC over DC of red light, over that of infrared",
        ),
        "odi_3": SignalMetric(
            "/h",
            ("spo2",),
            _each_second(desaturation.desaturation_index_per_h),
            "drops of at least 3 %, see docs/signals/oximetry.md",
        ),
        "odi_4": SignalMetric("/h", ("spo2",), _each_second(_odi_4), "drops of at least 4 %"),
        "spo2_below_90": SignalMetric(
            "%", ("spo2",), _each_second(desaturation.time_below_percent), "share of the time with readings"
        ),
        "respiratory_rate": _breath(
            "/min",
            respiration.mean_respiratory_rate_per_min,
            "Charlton et al. 2021, doi:10.1016/j.bspc.2020.102339",
        ),
        "respiratory_rate_variability": _breath(
            "%", respiration.respiratory_rate_variability_percent, "coefficient of variation"
        ),
        "breath_rmssd": _breath("s", respiration.breath_rmssd_s, "differences of successive breaths"),
        "respiration_good_share": _breath(
            "%", _percent(quality.good_respiration_share), "signal quality of windows"
        ),
        "systolic_pressure": _pressure("mm[Hg]", pressure.mean_systolic_mmhg, "mean over beats"),
        "diastolic_pressure": _pressure("mm[Hg]", pressure.mean_diastolic_mmhg, "mean over beats"),
        "mean_arterial_pressure": _pressure("mm[Hg]", pressure.mean_arterial_pressure_mmhg, "mean over beats"),
        "pulse_pressure": _pressure("mm[Hg]", pressure.mean_pulse_pressure_mmhg, "mean over beats"),
        "systolic_sd": _pressure("mm[Hg]", pressure.systolic_sd_mmhg, "standard deviation over beats"),
        "systolic_arv": _pressure(
            "mm[Hg]",
            pressure.systolic_arv_mmhg,
            "average real variability, doi:10.1097/01.hjh.0000160205.81652.5a",
        ),
        "oscillometric_systolic": SignalMetric(
            "mm[Hg]",
            ("cuff_mmhg",),
            _waveforms(oscillometry.oscillometric_systolic_mmhg),
            "ratio of the envelope, see docs/signals/pressure.md",
        ),
        "oscillometric_diastolic": SignalMetric(
            "mm[Hg]",
            ("cuff_mmhg",),
            _waveforms(oscillometry.oscillometric_diastolic_mmhg),
            "ratio of the envelope, see docs/signals/pressure.md",
        ),
        "oscillometric_mean": SignalMetric(
            "mm[Hg]", ("cuff_mmhg",), _waveforms(oscillometry.oscillometric_mean_mmhg), "largest oscillation"
        ),
        "hrv_mean_nn": _rr("ms", hrv_recordings.recording_mean_nn_ms),
        "hrv_sdnn": _rr("ms", hrv_recordings.recording_sdnn_ms),
        "hrv_rmssd": _rr("ms", hrv_recordings.recording_rmssd_ms),
        "hrv_pnn50": _rr("%", hrv_recordings.recording_pnn50_percent),
        "hrv_lf": _rr("ms2", hrv_recordings.recording_lf_ms2),
        "hrv_hf": _rr("ms2", hrv_recordings.recording_hf_ms2),
        "hrv_lf_hf": _rr("1", hrv_recordings.recording_lf_hf),
        "hrv_sd1": _rr("ms", hrv_recordings.recording_sd1_ms),
        "hrv_sd2": _rr("ms", hrv_recordings.recording_sd2_ms),
        "hrv_sample_entropy": _rr("1", hrv_recordings.recording_sample_entropy),
        "hrv_dfa_alpha1": _rr("1", hrv_recordings.recording_dfa_alpha1),
        "cgm_mean": _glucose("mg/dL", glucose_recordings.recording_mean_mgdl),
        "cgm_cv": _glucose("%", glucose_recordings.recording_cv_percent),
        "cgm_gmi": _glucose("%", glucose_recordings.recording_gmi_percent),
        "cgm_in_range": _glucose("%", glucose_recordings.recording_in_range_percent),
        "cgm_below_70": _glucose("%", glucose_recordings.recording_below_70_percent),
        "cgm_below_54": _glucose("%", glucose_recordings.recording_below_54_percent),
        "cgm_above_180": _glucose("%", glucose_recordings.recording_above_180_percent),
        "cgm_above_250": _glucose("%", glucose_recordings.recording_above_250_percent),
        "cgm_lbgi": _glucose("1", glucose_recordings.recording_lbgi, "Kovatchev et al. 2006"),
        "cgm_hbgi": _glucose("1", glucose_recordings.recording_hbgi, "Kovatchev et al. 2006"),
        "cgm_wear": _glucose("%", glucose_recordings.recording_wear_percent),
        "temperature_plateau": SignalMetric(
            "Cel",
            ("temperature_celsius",),
            _waveforms(plateaus.plateau_temperature_celsius),
            "highest plateau, see docs/signals/plateaus.md",
        ),
        "gait_turns": SignalMetric(
            "1", (*_GYRO, *_ACCEL), _waveforms(_turns), "El-Gohary et al. 2013, doi:10.3390/s140100356"
        ),
        "steps_counted": SignalMetric("1", _ACCEL, _waveforms(steps.step_count), "docs/signals/gait.md"),
        "gait_cadence": SignalMetric("/min", _ACCEL, _waveforms(gait.cadence), "docs/signals/gait.md"),
        "gait_stride_time": SignalMetric(
            "ms", _ACCEL, _waveforms(gait.median_stride_time_ms), "docs/signals/gait.md"
        ),
        "fev1": SignalMetric("L", ("flow_lps",), _waveforms(spirometry.fev1_l), "ATS/ERS 2019"),
        "fvc": SignalMetric("L", ("flow_lps",), _waveforms(spirometry.fvc_l), "ATS/ERS 2019"),
    }
)
"""Name -> metric."""
