"""All that one ECG lead shows of rhythm: beats with their classes, fibrillation of atria and ventricles, runs.

The parts are in modules of their own; here they are put together so that each is asked only where it can
answer. Ventricular fibrillation comes first, as it has no beats. Where the lead is too poor for beats, what is
found says nothing: such stretches are *undetermined*, belong to no episode, and their beats to no figure.

A figure of a recording is NaN where half of it is doubtful: undetermined, or of beats unlike one another, as
waves that are no heart's give them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive
from analysis.beat_classes import classify_beats
from analysis.ecg_morphology import delineate
from analysis.heartbeats import detect_qrs
from analysis.intervals import difference, total_length, union
from analysis.quality import ecg_quality
from analysis.rhythm import VentricularRuns, as_beats, atrial_fibrillation_episodes, ventricular_runs
from analysis.ventricular_fibrillation import ventricular_fibrillation_episodes

_LEAST_DETERMINED: Final = 0.5  # a figure of less than half of a recording is none of the recording
_RHYTHM: Final = ("unlike_beats", "fibrillation")  # reasons against figures of beats that are answers here

_Intervals: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class EcgRhythm:
    """Beats and episodes of one lead; intervals are half-open `[start, end)` sample indices, shape (n, 2).

    Parameters
    ----------
    n_samples
        Length of the lead.
    beats, classes
        Sample index of every beat outside ventricular fibrillation, and N, S, V, F or Q, shapes (n_beats,);
        Q also where the lead is undetermined.
    atrial_fibrillation, ventricular_fibrillation
        Episodes; the latter with flutter.
    runs
        Couplets, tachycardias, slow runs, bigeminy, trigeminy.
    undetermined
        Where the lead is too poor to tell; apart from all fibrillation.
    unlike_beats
        Windows with beats unlike one another, apart from all fibrillation: ectopy of many forms, or noise that
        looks like beats. A stretch of them is told, a recording of them is not.
    """

    n_samples: int
    beats: NDArray[np.int64]
    classes: NDArray[np.str_]
    atrial_fibrillation: _Intervals
    ventricular_fibrillation: _Intervals
    runs: VentricularRuns
    undetermined: _Intervals
    unlike_beats: _Intervals


def ecg_rhythm(ecg: ArrayLike, beats: ArrayLike | None = None, *, rate_hz: float) -> EcgRhythm:
    """Return the beats, their classes, and the episodes of one lead.

    Parameters
    ----------
    ecg
        One lead, shape (n_samples,), in any unit and polarity, NaN where missing; at least 1 s.
    beats
        Sample indices of the QRS complexes; None to detect them.
    rate_hz
        Sampling rate, at least 100; 250 and more for P waves.

    Returns
    -------
    See `EcgRhythm`. Undetermined are 10 s windows that `ecg_quality` rules out, unless for beats unlike one
    another, what is left at the end, and what `ventricular_fibrillation_episodes` cannot tell.

    Raises
    ------
    SignalError
        If `ecg` is not one-dimensional, shorter than 1 s, holds infinite values, beats do not ascend within it,
        or the rate is below 100 Hz.

    References
    ----------
    Those of `detect_qrs`, `classify_beats`, `delineate`, `atrial_fibrillation_episodes`, `ventricular_runs` and
    `ventricular_fibrillation_episodes`.
    """
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    marks = detect_qrs(ecg, rate_hz=rate_hz) if beats is None else as_beats(beats)
    quality = ecg_quality(ecg, marks, rate_hz=rate_hz)
    n_samples = int(np.shape(ecg)[-1])
    fibrillation = ventricular_fibrillation_episodes(ecg, rate_hz=rate_hz)
    poor = np.any([faulty for reason, faulty in quality.reasons.items() if reason not in _RHYTHM], axis=0)
    poor_intervals = difference([[0, n_samples]], quality.intervals[~poor])
    undetermined = difference(union(poor_intervals, fibrillation.undetermined), fibrillation.episodes)
    classes = classify_beats(ecg, marks, rate_hz=rate_hz)
    p_waves = np.isfinite(delineate(ecg, marks, rate_hz=rate_hz).p_peak)
    outside = ~_inside(marks, fibrillation.episodes)
    marks, classes, p_waves = marks[outside], classes[outside], p_waves[outside]
    classes[_inside(marks, undetermined)] = "Q"
    atrial = atrial_fibrillation_episodes(marks, rate_hz=rate_hz, classes=classes, p_waves=p_waves)
    return EcgRhythm(
        n_samples,
        marks,
        classes,
        difference(atrial, union(undetermined, fibrillation.episodes)),
        fibrillation.episodes,
        ventricular_runs(marks, classes, rate_hz=rate_hz),
        undetermined,
        difference(quality.intervals[quality.reasons["unlike_beats"]], fibrillation.episodes),
    )


def atrial_fibrillation_percent(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return the share of the time of one lead in atrial fibrillation, in %; NaN if half is doubtful."""
    rhythm = ecg_rhythm(ecg, rate_hz=rate_hz)
    return _share_of_time(rhythm, rhythm.atrial_fibrillation)


def ventricular_fibrillation_percent(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return the share of time in ventricular fibrillation or flutter, in %; NaN if half is doubtful."""
    rhythm = ecg_rhythm(ecg, rate_hz=rate_hz)
    return _share_of_time(rhythm, rhythm.ventricular_fibrillation)


def ventricular_beats_percent(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return how many of the classified beats are ventricular, in %; NaN if half is doubtful."""
    return _share_of_beats(ecg_rhythm(ecg, rate_hz=rate_hz), "V")


def supraventricular_beats_percent(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return how many of the classified beats are supraventricular premature, in %; NaN as the others."""
    return _share_of_beats(ecg_rhythm(ecg, rate_hz=rate_hz), "S")


def _inside(marks: NDArray[np.int64], intervals: _Intervals) -> NDArray[np.bool_]:
    """Return which marks lie in any of ascending intervals that do not overlap."""
    return np.asarray(np.searchsorted(intervals.ravel(), marks, side="right") % 2 == 1)


def _is_told(rhythm: EcgRhythm) -> bool:
    """Return whether half of the recording is determined, and with beats alike or in fibrillation."""
    doubtful = total_length(union(rhythm.undetermined, rhythm.unlike_beats))
    return rhythm.n_samples - doubtful >= _LEAST_DETERMINED * rhythm.n_samples


def _share_of_time(rhythm: EcgRhythm, episodes: _Intervals) -> float:
    if not _is_told(rhythm):
        return float("nan")
    return 100.0 * total_length(episodes) / (rhythm.n_samples - total_length(rhythm.undetermined))


def _share_of_beats(rhythm: EcgRhythm, letter: str) -> float:
    known = int((rhythm.classes != "Q").sum())
    if not _is_told(rhythm) or known < _LEAST_DETERMINED * rhythm.classes.size:
        return float("nan")
    return 100.0 * float((rhythm.classes == letter).sum()) / known if known else float("nan")
