"""How well episodes of a rhythm are found, by the episode comparison of ANSI/AAMI EC57.

Episodes are compared twice: by number, where any overlap makes one found (reference) or true (test), and by
duration, where the overlap itself counts.

Source: the comparison as `epicmp` of the WFDB software package does it, for AAMI EC38:1998, EC38:2007 and
EC57:1998. Differs from it in leaving excluded stretches out of the reference, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive
from analysis.beat_matching import LEARNING_S, as_indices
from analysis.detection import percent
from analysis.intervals import difference, intersection, total_length, union
from protocols.errors import SignalError


@dataclass(frozen=True, slots=True)
class EpisodeComparison:
    """Test episodes against reference episodes, of one record or of several together; durations in seconds."""

    reference_episodes: int
    found_episodes: int
    test_episodes: int
    true_episodes: int
    reference_s: float
    test_s: float
    overlap_s: float

    @property
    def sensitivity_percent(self) -> float:
        """Share of the reference episodes that a test episode overlaps; NaN without any."""
        return percent(*self.shares()["episode_sensitivity"])

    @property
    def positive_predictivity_percent(self) -> float:
        """Share of the test episodes that a reference episode overlaps; NaN without any."""
        return percent(*self.shares()["episode_positive_predictivity"])

    @property
    def duration_sensitivity_percent(self) -> float:
        """Share of the reference duration that test episodes cover; NaN without any."""
        return percent(*self.shares()["duration_sensitivity"])

    @property
    def duration_positive_predictivity_percent(self) -> float:
        """Share of the test duration that reference episodes cover; NaN without any."""
        return percent(*self.shares()["duration_positive_predictivity"])

    def shares(self) -> dict[str, tuple[float, float]]:
        """Return part and whole of the four figures by name: of episodes their numbers, of duration seconds."""
        return {
            "episode_sensitivity": (self.found_episodes, self.reference_episodes),
            "episode_positive_predictivity": (self.true_episodes, self.test_episodes),
            "duration_sensitivity": (self.overlap_s, self.reference_s),
            "duration_positive_predictivity": (self.overlap_s, self.test_s),
        }


def read_rhythm(
    samples: ArrayLike, notes: Sequence[str], *, starts_with: tuple[str, ...], n_samples: int
) -> NDArray[np.int64]:
    """Return where a rhythm lasts by the rhythm changes of a record, as `[start, end)` samples, shape (n, 2).

    Parameters
    ----------
    samples, notes
        Sample index and auxiliary text of every annotation, ascending; a rhythm change is a text that starts
        with "(" and lasts to the next.
    starts_with
        Beginnings of the texts that name the rhythm, such as "(AFIB".
    n_samples
        Length of the record, where the last rhythm ends.

    Raises
    ------
    SignalError
        If there are not as many notes as samples, or samples do not ascend.
    """
    indices = as_indices(samples, name="samples")
    if len(notes) != indices.size:
        raise SignalError(f"{len(notes)} notes for {indices.size} samples, expected one for each")
    changes = [k for k, note in enumerate(notes) if note.startswith("(")]
    borders = np.append(indices[changes], n_samples)
    named = np.array([notes[k].startswith(starts_with) for k in changes], dtype=bool)
    return union(np.column_stack([borders[:-1], borders[1:]])[named])


def compare_episodes(
    reference: ArrayLike,
    test: ArrayLike,
    *,
    rate_hz: float,
    n_samples: int,
    learning_s: float = LEARNING_S,
    excluded: ArrayLike = (),
) -> EpisodeComparison:
    """Return how the test episodes of one record compare with its reference episodes.

    Parameters
    ----------
    reference, test
        Episodes as half-open `[start, end)` sample indices, shapes (n, 2); those that touch are one.
    rate_hz
        Samples per second of both.
    n_samples
        Length of the record; what lies beyond is left out.
    learning_s
        Time from sample 0 that is left out; 0 for none.
    excluded
        Half-open intervals in which nothing is counted, shape (n, 2): EC38:1998 asks it of atrial
        flutter in the positive predictivity of atrial fibrillation.

    Raises
    ------
    SignalError
        If an interval is none or a parameter is out of range.

    References
    ----------
    ANSI/AAMI EC57, as `epicmp` does it; see the module.
    """
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    start = round(as_positive(learning_s, name="learning_s", unit="s") * rate_hz) if learning_s else 0
    counted = difference([[start, max(start, n_samples)]], excluded)
    truth, found = intersection(reference, counted), intersection(test, counted)
    return EpisodeComparison(
        reference_episodes=len(truth),
        found_episodes=int((_overlaps(truth, found) > 0).sum()),
        test_episodes=len(found),
        true_episodes=int((_overlaps(found, truth) > 0).sum()),
        reference_s=total_length(truth) / rate_hz,
        test_s=total_length(found) / rate_hz,
        overlap_s=total_length(intersection(truth, found)) / rate_hz,
    )


def gross_episodes(comparisons: Sequence[EpisodeComparison]) -> EpisodeComparison:
    """Return the comparison of all episodes of all records together."""
    return EpisodeComparison(
        sum(c.reference_episodes for c in comparisons),
        sum(c.found_episodes for c in comparisons),
        sum(c.test_episodes for c in comparisons),
        sum(c.true_episodes for c in comparisons),
        sum(c.reference_s for c in comparisons),
        sum(c.test_s for c in comparisons),
        sum(c.overlap_s for c in comparisons),
    )


def _overlaps(spans: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many samples of each interval lie in any of the others, both merged."""
    return _covered(others, spans[:, 1]) - _covered(others, spans[:, 0])


def _covered(spans: NDArray[np.int64], until: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many samples of merged intervals lie before each of `until`."""
    before = np.append(0, np.cumsum(spans[:, 1] - spans[:, 0]))
    number = np.searchsorted(spans[:, 0], until)
    if spans.size == 0:
        return np.zeros(until.size, dtype=np.int64)
    beyond = np.maximum(spans[number - 1, 1] - until, 0)
    return np.asarray(before[number] - np.where(number > 0, beyond, 0))
