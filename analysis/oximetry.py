"""Accuracy of a pulse oximeter against its reference saturation.

A study is one table of pairs, each with its subject. Pairs that may not decide anything are left out for a
stated reason and counted, never silently: the reference outside the protocol's range, or a value of the device
that is no saturation. Moments at which the device showed nothing are no pairs, but make its read rate: accuracy
is conditional on a value being shown.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.agreement import BlandAltman, Estimate, bland_altman, percentile_interval, resampled_sums
from analysis.arrays import as_series, as_signal
from analysis.pairing import PairedReadings
from protocols.clinical.criteria import Statistics
from protocols.errors import SignalError

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class OximeterPairs:
    """Pairs of a study.

    Parameters
    ----------
    subjects
        Pseudonym of each pair's subject, shape (n,).
    times_ns
        UTC of each pair, shape (n,): where in the recording it can be looked up.
    reference_percent, test_percent
        Saturations, shape (n,); the device under test is NaN where it showed nothing.

    Raises
    ------
    SignalError
        If shapes differ or values are infinite.
    """

    subjects: NDArray[np.str_]
    times_ns: NDArray[np.int64]
    reference_percent: _Floats
    test_percent: _Floats

    def __post_init__(self) -> None:
        as_series(self.reference_percent, name="reference_percent")
        as_series(self.test_percent, name="test_percent")
        shapes = {
            self.subjects.shape,
            self.times_ns.shape,
            self.reference_percent.shape,
            self.test_percent.shape,
        }
        if len(shapes) != 1:
            raise SignalError(f"pairs of shapes {sorted(shapes)}, expected the same for all columns")

    @classmethod
    def gather(cls, recordings: Iterable[tuple[str, PairedReadings]]) -> OximeterPairs:
        """Return the pairs of several recordings, each given with its subject."""
        recordings = list(recordings)
        return cls(
            subjects=np.repeat(
                np.array([subject for subject, _ in recordings], dtype=np.str_),
                [pairs.times_ns.size for _, pairs in recordings],
            ),
            times_ns=np.concatenate([np.empty(0, dtype=np.int64), *(p.times_ns for _, p in recordings)]),
            reference_percent=np.concatenate([np.empty(0), *(p.reference_percent for _, p in recordings)]),
            test_percent=np.concatenate([np.empty(0), *(p.test_percent for _, p in recordings)]),
        )

    def chosen(self, which: NDArray[np.bool_]) -> OximeterPairs:
        """Return the pairs at which `which`, shape (n,), is true."""
        return OximeterPairs(
            self.subjects[which],
            self.times_ns[which],
            self.reference_percent[which],
            self.test_percent[which],
        )


@dataclass(frozen=True, slots=True)
class Exclusions:
    """How many pairs decide nothing, each counted under the first reason that holds."""

    reference_missing: int
    reference_out_of_range: int
    test_missing: int
    test_no_saturation: int


def arms_percent(test_percent: ArrayLike, reference_percent: ArrayLike) -> _Floats:
    """Return the accuracy root mean square (Arms) of SpO2, in percent; it includes the bias.

    Parameters
    ----------
    test_percent, reference_percent
        Pairs, shape (..., n_pairs); a pair with a NaN is left out.

    Returns
    -------
    Shape (...); NaN without pairs.

    References
    ----------
    ISO 80601-2-61 and FDA 2013: the square root of the mean of the squared differences.
    """
    differences, count = _differences(test_percent, reference_percent)
    return np.asarray(np.sqrt(np.nansum(differences**2, axis=-1) / count))


def bias_percent(test_percent: ArrayLike, reference_percent: ArrayLike) -> _Floats:
    """Return the mean difference, in percent; shapes and NaN as `arms_percent`."""
    differences, count = _differences(test_percent, reference_percent)
    return np.asarray(np.nansum(differences, axis=-1) / count)


def precision_percent(test_percent: ArrayLike, reference_percent: ArrayLike) -> _Floats:
    """Return the standard deviation (n - 1) of the differences, in percent; NaN below two pairs."""
    differences, count = _differences(test_percent, reference_percent)
    mean = np.nansum(differences, axis=-1, keepdims=True) / count[..., np.newaxis]
    degrees = np.where(count > 1, count - 1, np.nan)
    return np.asarray(np.sqrt(np.nansum((differences - mean) ** 2, axis=-1) / degrees))


def usable_pairs(pairs: OximeterPairs, band_edges: Sequence[float] = ()) -> tuple[OximeterPairs, Exclusions]:
    """Return the pairs that decide, and how many were left out for which reason.

    Parameters
    ----------
    pairs
        All pairs.
    band_edges
        The first and the last are the range of the reference, both inclusive; without edges it is 0 to 100 %.
    """
    low, high = (band_edges[0], band_edges[-1]) if band_edges else (0.0, 100.0)
    reference, test = pairs.reference_percent, pairs.test_percent
    left = np.ones(reference.size, dtype=bool)
    counts = []
    for excluded in (
        np.isnan(reference),
        ~((reference >= low) & (reference <= high)),
        np.isnan(test),
        ~((test >= 0.0) & (test <= 100.0)),
    ):
        counts.append(int((left & excluded).sum()))
        left &= ~excluded
    return pairs.chosen(left), Exclusions(*counts)


def band_of(reference_percent: ArrayLike, band_edges: Sequence[float]) -> NDArray[np.intp]:
    """Return the number of each value's band, -1 outside; half-open, but the last has its upper edge."""
    values = as_series(reference_percent, name="reference_percent")
    edges = np.asarray(band_edges, dtype=np.float64)
    bands = np.searchsorted(edges, values, side="right") - 1
    bands[values == edges[-1]] = edges.size - 2
    bands[~((values >= edges[0]) & (values <= edges[-1]))] = -1
    return np.asarray(bands)


def design_facts(pairs: OximeterPairs, statistics: Statistics) -> dict[str, float]:
    """Return what a study's sample is like: numbers of subjects and pairs, spread, exclusions, read rate."""
    usable, exclusions = usable_pairs(pairs, statistics.band_edges)
    facts: dict[str, float] = {
        "subjects": np.unique(usable.subjects).size,
        "pairs": usable.subjects.size,
        "read_rate_percent": read_rate(pairs, statistics).value,
        "excluded_reference_missing": exclusions.reference_missing,
        "excluded_reference_out_of_range": exclusions.reference_out_of_range,
        "excluded_test_missing": exclusions.test_missing,
        "excluded_test_no_saturation": exclusions.test_no_saturation,
    }
    if statistics.band_edges and usable.subjects.size:
        in_band = np.bincount(
            band_of(usable.reference_percent, statistics.band_edges), minlength=len(statistics.band_edges) - 1
        )
        facts["smallest_band_share_percent"] = 100.0 * float(in_band.min() / in_band.sum())
    return facts


def accuracy(pairs: OximeterPairs, statistics: Statistics) -> Estimate:
    """Return Arms in percent, with its interval by bootstrap of the subjects and its value in every band."""
    return _estimate(pairs, statistics, 0, details=_by_band(pairs, statistics))


def bias(pairs: OximeterPairs, statistics: Statistics) -> Estimate:
    """Return the mean difference in percent, with its interval by bootstrap of the subjects."""
    return _estimate(pairs, statistics, 1)


def precision(pairs: OximeterPairs, statistics: Statistics) -> Estimate:
    """Return the standard deviation of the differences in percent, with its interval by subject bootstrap."""
    return _estimate(pairs, statistics, 2)


def read_rate(pairs: OximeterPairs, statistics: Statistics) -> Estimate:
    """Return at which share of the moments with a usable reference, in percent, the device showed a value."""
    usable, exclusions = usable_pairs(pairs, statistics.band_edges)
    shown = usable.subjects.size + exclusions.test_no_saturation
    moments = shown + exclusions.test_missing
    value = 100.0 * shown / moments if moments else float("nan")
    return Estimate(value, moments, method="pairs with a value of the device among pairs with a reference")


def agreement(pairs: OximeterPairs, statistics: Statistics) -> BlandAltman:
    """Return bias, limits of agreement and variance components, in percent, several pairs of each subject."""
    usable, _ = usable_pairs(pairs, statistics.band_edges)
    return bland_altman(
        usable.test_percent, usable.reference_percent, subject=usable.subjects, design="repeated_varying"
    )


def _differences(test_percent: ArrayLike, reference_percent: ArrayLike) -> tuple[_Floats, _Floats]:
    """Return the differences, and how many of the last axis are no NaN (NaN for none)."""
    test, reference = as_signal(test_percent, name="test"), as_signal(reference_percent, name="reference")
    if test.shape[-1] != reference.shape[-1]:
        raise SignalError(f"test of shape {test.shape}, reference {reference.shape}, expected pairs")
    differences = np.subtract(test, reference, dtype=np.float64)
    count = np.isfinite(differences).sum(axis=-1)
    return differences, np.where(count > 0, count, np.nan)


def _estimate(
    pairs: OximeterPairs, statistics: Statistics, which: int, *, details: dict[str, float] | None = None
) -> Estimate:
    """Return Arms (0), bias (1) or precision (2)."""
    usable, _ = usable_pairs(pairs, statistics.band_edges)
    test, reference = usable.test_percent, usable.reference_percent
    value = float((arms_percent, bias_percent, precision_percent)[which](test, reference))
    n_subjects = np.unique(usable.subjects).size
    if n_subjects < 2:
        return Estimate(value, test.size, method="no interval: fewer than 2 subjects", details=details or {})
    differences = test - reference
    n, total, squares = resampled_sums(
        np.stack([np.ones_like(differences), differences, differences**2]),
        usable.subjects,
        replicates=statistics.bootstrap_replicates,
        seed=statistics.seed,
    )
    spread = np.maximum(squares - total**2 / n, 0.0) / np.where(n > 1, n - 1, np.nan)
    resampled = (np.sqrt(squares / n), total / n, np.sqrt(spread))[which]
    low, high = percentile_interval(resampled, statistics.confidence_level)
    return Estimate(
        value,
        test.size,
        low,
        high,
        statistics.confidence_level,
        method=(
            f"percentile bootstrap of {n_subjects} subjects with all their pairs, "
            f"{statistics.bootstrap_replicates} replicates, seed {statistics.seed}"
        ),
        details=details or {},
    )


def _by_band(pairs: OximeterPairs, statistics: Statistics) -> dict[str, float]:
    usable, _ = usable_pairs(pairs, statistics.band_edges)
    edges = statistics.band_edges
    details: dict[str, float] = {}
    if not edges:
        return details
    bands = band_of(usable.reference_percent, edges)
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        test, reference = usable.test_percent[bands == number], usable.reference_percent[bands == number]
        name = f"{low:g}_{high:g}"
        details[f"n_{name}"] = float(test.size)
        details[f"arms_{name}"] = float(arms_percent(test, reference))
        details[f"bias_{name}"] = float(bias_percent(test, reference))
        details[f"precision_{name}"] = float(precision_percent(test, reference))
    return details
