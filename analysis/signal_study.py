"""Figures of recorded signals, pooled over a study: one figure per recording, one mean per subject.

Recordings of one subject resemble one another, so subjects count the same, however many recordings each has. A
recording whose signal is too poor or too short for a figure gives NaN: it is counted, and enters no mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.estimates import Estimate
from analysis.subject_means import mean_of_subjects
from protocols.clinical.criteria import Statistics
from protocols.errors import SignalError


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    """One channel of a recording.

    Parameters
    ----------
    values
        In the channel's unit, NaN where missing, shape (n,).
    times_ns
        UTC of every value, ascending, shape (n,).
    rate_hz
        Sampling rate; None where every value carries a time of its own.

    Raises
    ------
    SignalError
        If there are not as many times as values.
    """

    values: NDArray[np.float64]
    times_ns: NDArray[np.int64]
    rate_hz: float | None

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or self.values.shape != self.times_ns.shape:
            raise SignalError(f"{self.values.shape} values at {self.times_ns.shape} times, expected as many")


@dataclass(frozen=True, slots=True)
class SignalFigures:
    """What the metrics of one recording came to.

    Parameters
    ----------
    subject
        Whose recording it is.
    figures
        Name of the metric -> its figure, NaN where the signal allows none.
    duration_s
        From its first to its last sample.
    """

    subject: str
    figures: Mapping[str, float]
    duration_s: float = 0.0


def mean_over_subjects(metric: str) -> Callable[[Sequence[SignalFigures], Statistics], Estimate]:
    """Return the function that pools a metric: the mean of subjects' means, with its interval by subject."""

    def estimate(recordings: Sequence[SignalFigures], statistics: Statistics) -> Estimate:
        figures = np.array([recording.figures[metric] for recording in recordings], dtype=np.float64)
        present = np.isfinite(figures)
        n_poor = int((~present).sum())
        details = {"recordings": float(figures.size)}
        if not present.any():
            return Estimate(float("nan"), 0, method="no recording has a value", details=details, n_poor=n_poor)
        subjects = np.array([recording.subject for recording in recordings])[present]
        figures = figures[present]
        found = mean_of_subjects(figures, subjects, level=statistics.confidence_level)
        details |= {"smallest": float(figures.min()), "largest": float(figures.max()), **found.details}
        return replace(found, details=details, n_poor=n_poor)

    return estimate


def design_facts(recordings: Sequence[SignalFigures], statistics: Statistics) -> dict[str, float]:  # noqa: ARG001
    """Return what a study's sample is like: subjects, recordings, and recordings that lack any figure."""
    durations_s = [recording.duration_s for recording in recordings]
    lacking = sum(not np.isfinite(list(recording.figures.values())).all() for recording in recordings)
    return {
        "subjects": len({recording.subject for recording in recordings}),
        "recordings": len(recordings),
        "recordings_without_value": lacking,
        "valued_recordings": len(recordings) - lacking,
        "shortest_recording_days": min(durations_s, default=0.0) / 86_400.0,
    }
