"""What a study of pulse oximeters can be asked: accuracy, its parts, and whether skin tone moves the bias.

Pairs whose reference is outside the protocol's bands decide nothing and are listed. Moments at which the device
showed nothing are no pairs, but make its read rate: accuracy is conditional on a value being shown.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from analysis.agreement import BlandAltman, bland_altman
from analysis.disparity import largest_group_difference, slope_difference
from analysis.estimates import Estimate
from analysis.metric import Metric, Study
from analysis.oximetry import arms_percent, bias_percent, precision_percent
from analysis.paired_metrics import PairedMetric, readings_metrics, root_mean_square
from analysis.paired_study import PairedStudy, band_of, facts_of, paired_facts, usable_by
from analysis.skin_tone import TONE_FACTS, ita_deg, monk_groups, tone_facts
from protocols.clinical.criteria import Statistics

_QUANTITY: Final = "spo2"
_BLAND_ALTMAN: Final = "Bland & Altman 2007, section 3, doi:10.1080/10543400701329422"
_DRAFT: Final = "FDA draft of January 2025 (secondary); by subjects' means (lab)"

DISPARITY_RANGES: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {"70_85": (70.0, 85.0), "85_100": (np.nextafter(85.0, 100.0), 100.0)}
)
"""Ranges of SaO2 in which the bias of groups is compared, both ends included: 85 % is of the lower one."""
_PER_DEG: Final = 100.0


def accuracy(study: PairedStudy, statistics: Statistics) -> Estimate:
    """Return Arms in percent, with its interval by subject and its parts in every band."""
    found = root_mean_square(_QUANTITY)(study, statistics)
    pairs = usable_by(study.of(_QUANTITY), statistics)
    details = {**found.details, **_by_band(pairs, statistics)}
    return Estimate(found.value, found.n, found.low, found.high, found.level, found.method, details)


def difference_between_tones(low: float, high: float) -> PairedMetric:
    """Return the metric of the largest difference of bias between Monk groups in a range of references."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = _within(study, statistics, low, high)
        groups = monk_groups(pairs)
        found = largest_group_difference(
            pairs.differences, groups, subject=pairs.subjects, level=statistics.confidence_level
        )
        return _with_left_out(found, pairs, groups != "", "Monk tone")

    return metric


def difference_along_ita(low: float, high: float) -> PairedMetric:
    """Return the metric of the change of bias for 100 degrees of ITA in a range of references."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = _within(study, statistics, low, high)
        angles = ita_deg(pairs)
        found = slope_difference(
            pairs.differences,
            angles,
            subject=pairs.subjects,
            per=_PER_DEG,
            level=statistics.confidence_level,
        )
        return _with_left_out(found, pairs, np.isfinite(angles), "ITA")

    return metric


def _variance(choose: Callable[[BlandAltman], float]) -> PairedMetric:
    """Return the metric of a component of the variance of the differences."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = usable_by(study.of(_QUANTITY), statistics)
        limits = bland_altman(pairs.test, pairs.reference, subject=pairs.subjects, design="repeated_varying")
        method = f"several pairs of each of {limits.n_subjects} subjects, true value varying"
        return Estimate(choose(limits), limits.n_pairs, method=method)

    return metric


def _within(study: PairedStudy, statistics: Statistics, low: float, high: float) -> PairedStudy:
    pairs = usable_by(study.of(_QUANTITY), statistics)
    return pairs.chosen((pairs.reference >= low) & (pairs.reference <= high))


def _with_left_out(found: Estimate, pairs: PairedStudy, known: np.ndarray, what: str) -> Estimate:
    """Return an estimate whose method says of how many subjects the skin is not known."""
    n = np.unique(pairs.subjects[~known]).size
    method = f"{found.method}; {n} without a known {what} left out" if n else found.method
    return Estimate(found.value, found.n, found.low, found.high, found.level, method, found.details)


def _by_band(pairs: PairedStudy, statistics: Statistics) -> dict[str, float]:
    details: dict[str, float] = {}
    if not statistics.band_edges:
        return details
    bands = band_of(pairs.reference, statistics.band_edges)
    for number, (low, high) in enumerate(itertools.pairwise(statistics.band_edges)):
        test, reference = pairs.test[bands == number], pairs.reference[bands == number]
        name = f"{low:g}_{high:g}"
        details[f"n_{name}"] = float(test.size)
        details[f"arms_{name}"] = float(arms_percent(test, reference))
        details[f"bias_{name}"] = float(bias_percent(test, reference))
        details[f"precision_{name}"] = float(precision_percent(test, reference))
    return details


def _facts(study: PairedStudy, statistics: Statistics) -> dict[str, float]:
    pairs = usable_by(study.of(_QUANTITY), statistics)
    return paired_facts(study, _QUANTITY, statistics) | tone_facts(pairs)


def _metrics() -> dict[str, Metric]:
    metrics = readings_metrics(_QUANTITY, _QUANTITY)
    precision = metrics.pop("spo2_sd")
    del metrics["spo2_rms"]  # Arms is its name in this field
    own: dict[str, tuple[PairedMetric, str, str]] = {
        "spo2_arms": (accuracy, "%", "ISO 80601-2-61; FDA 2013"),
        "spo2_precision": (precision.function, "%", precision.source),
        "spo2_between_subject_variance": (_variance(lambda b: b.between_variance), "%2", _BLAND_ALTMAN),
        "spo2_within_subject_variance": (_variance(lambda b: b.within_variance), "%2", _BLAND_ALTMAN),
    }
    for name, (low, high) in DISPARITY_RANGES.items():
        own[f"spo2_tone_difference_{name}"] = (difference_between_tones(low, high), "%", _DRAFT)
        own[f"spo2_ita_difference_{name}"] = (difference_along_ita(low, high), "%", _DRAFT)
    return metrics | {
        name: Metric(_QUANTITY, unit, function, (_QUANTITY,), source)
        for name, (function, unit, source) in own.items()
    }


OXIMETRY: Final = Study(_metrics(), {**facts_of(_QUANTITY), **TONE_FACTS}, _facts, PairedStudy.empty())
