"""Sleep: measures of a hypnogram, and how a device's hypnogram agrees with a reference epoch by epoch.

A hypnogram is one stage for each epoch (30 s unless told), of equal length from lights off to lights on.
Stages are small integers: `WAKE`, `LIGHT` (N1 and N2), `DEEP` (N3), `REM`; -1 is not scored. Agreement follows
Menghini et al. 2021, doi:10.1093/sleep/zsaa170: measures of both hypnograms per subject for the Bland-Altman
plot, and one error matrix per subject, of whose rates the group's mean and interval are reported
(`group_mean`). Rates are never pooled over epochs, as subjects differ in how many they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.agreement import Estimate
from analysis.arrays import as_positive, as_series, as_signal
from protocols.errors import SignalError

NOT_SCORED: Final = -1
WAKE: Final = 0
LIGHT: Final = 1
DEEP: Final = 2
REM: Final = 3
STAGES: Final = ("wake", "light", "deep", "rem")
"""Names of the stages, by their number."""
EPOCH_S: Final = 30.0
"""AASM Manual for the Scoring of Sleep: epochs of 30 s."""

_Floats: TypeAlias = NDArray[np.float64]
_Stages: TypeAlias = NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class SleepMeasures:
    """Measures of hypnograms, each of shape (...), in min or percent; NaN where nothing was scored.

    Parameters
    ----------
    time_in_bed_min
        Scored epochs.
    total_sleep_min
        All but wake (TST).
    efficiency_percent
        TST over time in bed (SE).
    onset_latency_min
        From lights off to the first epoch of sleep (SOL); NaN without sleep.
    wake_after_onset_min
        Wake after the first epoch of sleep, to lights on (WASO); NaN without sleep.
    light_min, deep_min, rem_min
        Stage durations.
    """

    time_in_bed_min: _Floats
    total_sleep_min: _Floats
    efficiency_percent: _Floats
    onset_latency_min: _Floats
    wake_after_onset_min: _Floats
    light_min: _Floats
    deep_min: _Floats
    rem_min: _Floats


@dataclass(frozen=True, slots=True, eq=False)
class EpochAgreement:
    """How epochs agree, sleep (or one stage) being the positive finding; each of shape (...).

    Parameters
    ----------
    accuracy_percent, sensitivity_percent, specificity_percent
        Epochs that agree, positive epochs that were found, negative ones that were.
    positive_predictivity_percent, negative_predictivity_percent
        Epochs called positive, or negative, that are.
    kappa, pabak
        Cohen's kappa, and the same adjusted for prevalence and bias: 2 accuracy - 1.
    """

    accuracy_percent: _Floats
    sensitivity_percent: _Floats
    specificity_percent: _Floats
    positive_predictivity_percent: _Floats
    negative_predictivity_percent: _Floats
    kappa: _Floats
    pabak: _Floats


def sleep_measures(hypnogram: ArrayLike, *, epoch_s: float = EPOCH_S) -> SleepMeasures:
    """Return the measures of hypnograms, shape (..., n_epochs).

    References
    ----------
    Menghini et al. 2021, as the function `ebe2sleep` that came with it has them: lying awake in the morning, up
    to lights on, is in WASO. Epochs that were not scored are in no duration, but pass time before the onset.
    """
    stages = as_stages(hypnogram)
    minutes = as_positive(epoch_s, name="epoch_s", unit="s") / 60.0
    counts = [(stages == stage).sum(axis=-1) for stage in range(len(STAGES))]
    asleep = stages > WAKE
    n = stages.shape[-1]
    any_sleep = asleep.any(axis=-1)
    first = asleep.argmax(axis=-1) if n else np.zeros(stages.shape[:-1], dtype=np.int64)
    waso = ((stages == WAKE) & (np.arange(n) > first[..., np.newaxis])).sum(axis=-1)
    in_bed = np.where(sum(counts) > 0, sum(counts), np.nan)
    known = np.where(np.isnan(in_bed), np.nan, minutes)
    sleep = counts[LIGHT] + counts[DEEP] + counts[REM]
    return SleepMeasures(
        time_in_bed_min=np.asarray(in_bed * minutes),
        total_sleep_min=np.asarray(sleep * known),
        efficiency_percent=np.asarray(100.0 * sleep / in_bed),
        onset_latency_min=np.where(any_sleep, first * minutes, np.nan),
        wake_after_onset_min=np.where(any_sleep, waso * minutes, np.nan),
        light_min=np.asarray(counts[LIGHT] * known),
        deep_min=np.asarray(counts[DEEP] * known),
        rem_min=np.asarray(counts[REM] * known),
    )


def align_hypnograms(
    device: ArrayLike,
    reference: ArrayLike,
    *,
    device_start_ns: int,
    reference_start_ns: int,
    device_epoch_s: float = EPOCH_S,
    reference_epoch_s: float = EPOCH_S,
) -> tuple[_Stages, _Stages]:
    """Return both hypnograms of one night on the reference's epochs, shape (n,) each, where both exist.

    Each epoch of the reference takes the device's epoch that holds its middle. So a device of longer epochs is
    repeated, one of shorter epochs is thinned, and an offset of up to half an epoch is let be.

    Raises
    ------
    SignalError
        If a hypnogram is not one-dimensional or holds other stages, or a start is no integer.
    """
    of_device, of_reference = as_stages(device), as_stages(reference)
    if of_device.ndim != 1 or of_reference.ndim != 1:
        raise SignalError(f"hypnograms of shapes {of_device.shape}, {of_reference.shape}, expected (n,) each")
    for name, start in (("device_start_ns", device_start_ns), ("reference_start_ns", reference_start_ns)):
        if isinstance(start, bool) or not isinstance(start, (int, np.integer)):
            raise SignalError(f"{name}={start!r}, expected UTC in whole ns")
    device_ns = round(1e9 * as_positive(device_epoch_s, name="device_epoch_s", unit="s"))
    reference_ns = round(1e9 * as_positive(reference_epoch_s, name="reference_epoch_s", unit="s"))
    middles = np.arange(of_reference.size, dtype=np.int64) * reference_ns + reference_ns // 2
    epochs = (middles + int(reference_start_ns) - int(device_start_ns)) // device_ns
    inside = (epochs >= 0) & (epochs < of_device.size)
    return of_device[epochs[inside]], of_reference[inside]


def error_matrix(device: ArrayLike, reference: ArrayLike) -> NDArray[np.int64]:
    """Return how often each stage of the reference met each of the device, shape (..., reference, device).

    Parameters
    ----------
    device, reference
        Aligned hypnograms, shape (..., n_epochs); an epoch that either did not score takes no part.
    """
    of_device, of_reference = as_stages(device), as_stages(reference)
    if of_device.shape != of_reference.shape:
        raise SignalError(f"device of shape {of_device.shape}, reference {of_reference.shape}, expected equal")
    scored = (of_device != NOT_SCORED) & (of_reference != NOT_SCORED)
    n_stages = len(STAGES)
    n_rows = int(np.prod(of_device.shape[:-1]))
    cells = n_stages * of_reference.astype(np.int64) + of_device
    cells += np.arange(n_rows).reshape(*of_device.shape[:-1], 1) * n_stages**2
    counts = np.bincount(cells[scored], minlength=n_rows * n_stages**2)
    return np.asarray(counts.reshape(*of_device.shape[:-1], n_stages, n_stages), dtype=np.int64)


def sleep_wake_agreement(device: ArrayLike, reference: ArrayLike) -> EpochAgreement:
    """Return how well sleep is told from wake, of aligned hypnograms, shape (..., n_epochs), one row a subject.

    Sensitivity is the percentage of sleep epochs found, specificity that of wake epochs. NaN where a rate has
    no epochs to be of.
    """
    matrix = error_matrix(device, reference)
    asleep = slice(LIGHT, None)
    return _agreement(
        matrix[..., asleep, asleep].sum(axis=(-2, -1)),
        matrix[..., asleep, WAKE].sum(axis=-1),
        matrix[..., WAKE, asleep].sum(axis=-1),
        matrix[..., WAKE, WAKE],
    )


def stage_agreement(device: ArrayLike, reference: ArrayLike, *, stage: int) -> EpochAgreement:
    """Return how well one stage is told from all others; shapes as `sleep_wake_agreement`."""
    if stage not in range(len(STAGES)):
        raise SignalError(f"stage={stage!r}, expected 0 to {len(STAGES) - 1}")
    matrix = error_matrix(device, reference)
    hit = matrix[..., stage, stage]
    missed = matrix[..., stage, :].sum(axis=-1) - hit
    wrong = matrix[..., :, stage].sum(axis=-1) - hit
    return _agreement(hit, missed, wrong, matrix.sum(axis=(-2, -1)) - hit - missed - wrong)


def stages_kappa(device: ArrayLike, reference: ArrayLike) -> _Floats:
    """Return Cohen's kappa of all four stages, shape (...); NaN where chance alone explains all."""
    return _kappa(error_matrix(device, reference).astype(np.float64))


def group_mean(figures: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Return the mean of the participants' figures with its interval.

    Parameters
    ----------
    figures
        One rate, kappa or difference per participant, shape (n_participants,); a NaN (no epoch to be of) is
        left out and counted in the details.
    level
        Confidence level of the interval, by Student's t; it may leave the range of a rate.

    Raises
    ------
    SignalError
        If `figures` is not one-dimensional or `level` not between 0 and 1.

    References
    ----------
    Menghini et al. 2021, section "Epoch-by-epoch analysis": individual rates first, then their mean, SD and
    interval. Their `groupEBE` computed group prevalence and predictive values wrongly until September 2023.
    """
    values = as_series(figures, name="figures")
    if not 0.0 < level < 1.0:
        raise SignalError(f"level={level!r}, expected above 0 and below 1")
    present = values[np.isfinite(values)]
    details = {"participants_without_value": float(values.size - present.size)}
    if present.size == 0:
        return Estimate(float("nan"), 0, method="no participant has a value", details=details)
    mean = float(present.mean())
    if present.size < 2:
        return Estimate(mean, 1, method="no interval: fewer than 2 participants", details=details)
    sd = float(present.std(ddof=1))
    half = float(special.stdtrit(present.size - 1, 0.5 + level / 2.0)) * sd / present.size**0.5
    details |= {"sd": sd, "smallest": float(present.min()), "largest": float(present.max())}
    method = f"mean of {present.size} participants, Student's t"
    return Estimate(mean, present.size, mean - half, mean + half, level, method, details)


def as_stages(hypnogram: ArrayLike) -> _Stages:
    """Return stages as int8, shape (..., n_epochs); NaN becomes not scored.

    Raises
    ------
    SignalError
        If a value is no stage.
    """
    values = as_signal(hypnogram, name="hypnogram")
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), NOT_SCORED, values)
    if values.size and not np.isin(values, np.arange(NOT_SCORED, len(STAGES))).all():
        raise SignalError(f"hypnogram with stages {np.unique(values)[:8]}, expected -1 to {len(STAGES) - 1}")
    return np.asarray(values, dtype=np.int8)


def _agreement(
    hit: NDArray[np.int64], missed: NDArray[np.int64], wrong: NDArray[np.int64], right: NDArray[np.int64]
) -> EpochAgreement:
    matrix = np.stack([np.stack([right, wrong], axis=-1), np.stack([missed, hit], axis=-1)], axis=-2)
    accuracy = _percent(hit + right, hit + right + missed + wrong)
    return EpochAgreement(
        accuracy_percent=accuracy,
        sensitivity_percent=_percent(hit, hit + missed),
        specificity_percent=_percent(right, right + wrong),
        positive_predictivity_percent=_percent(hit, hit + wrong),
        negative_predictivity_percent=_percent(right, right + missed),
        kappa=_kappa(matrix.astype(np.float64)),
        pabak=np.asarray(accuracy / 50.0 - 1.0),
    )


def _percent(part: NDArray[np.int64], whole: NDArray[np.int64]) -> _Floats:
    return np.asarray(100.0 * part / np.where(whole > 0, whole, np.nan))


def _kappa(matrix: _Floats) -> _Floats:
    total = matrix.sum(axis=(-2, -1))
    total = np.where(total > 0.0, total, np.nan)
    observed = np.trace(matrix, axis1=-2, axis2=-1) / total
    chance = (matrix.sum(axis=-1) * matrix.sum(axis=-2)).sum(axis=-1) / total**2
    return np.asarray((observed - chance) / np.where(chance < 1.0, 1.0 - chance, np.nan))
