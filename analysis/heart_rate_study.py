"""What a study of displayed heart or pulse rates can be asked, beyond what every reading can.

A heart rate meter is allowed the larger of a share of the rate and a fixed number of beats, so its tolerance
depends on the reference of each pair. A wearable is judged by the mean absolute percentage error, of which two
weightings are in use: every pair alike, or every participant alike. They differ where some wore it longer.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.estimates import Estimate
from analysis.metric import Metric, Study
from analysis.paired_metrics import estimated, readings_metrics
from analysis.paired_study import PairedStudy, band_of, facts_of, paired_facts, usable_by
from analysis.subject_means import mean_of_subjects
from protocols.clinical.criteria import Statistics

TOLERANCE_PERCENT: Final = 10.0
TOLERANCE_PER_MIN: Final = 5.0
"""IEC 60601-2-27, from memory (unconfirmed): the larger of the two."""

_QUANTITY: Final = "heart_rate"
_METER: Final = "IEC 60601-2-27, heart rate meter"
_ROUNDING: Final = 1e-12  # 10 % of 70 is 7, whatever binary fractions make of it


def tolerance_per_min(reference_per_min: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far a meter may be from a reference, in beats per minute; same shape."""
    return np.maximum(TOLERANCE_PERCENT / 100.0 * reference_per_min, TOLERANCE_PER_MIN)


def within_tolerance(study: PairedStudy, statistics: Statistics) -> Estimate:
    """Return the share of the pairs within the meter's tolerance, inclusive, in percent; details by band."""
    pairs = usable_by(study.of(_QUANTITY), statistics)
    allowed = tolerance_per_min(pairs.reference) * (1.0 + _ROUNDING)
    within = np.abs(pairs.differences) <= allowed
    sums = np.stack([np.ones(pairs.n_pairs), within.astype(np.float64)])
    details: dict[str, float] = {}
    edges = statistics.band_edges
    if edges and pairs.n_pairs:
        bands = band_of(pairs.reference, edges)
        for number in np.unique(bands):
            name = f"within_from_{edges[number]:g}_to_{edges[number + 1]:g}_percent"
            details[name] = 100.0 * float(within[bands == number].mean())
    return estimated(pairs, statistics, sums, lambda t: 100.0 * t[1] / t[0], scale="percent", details=details)


def largest_error(study: PairedStudy, statistics: Statistics) -> Estimate:
    """Return the largest difference without its sign, in beats per minute, with the pair it is of."""
    pairs = usable_by(study.of(_QUANTITY), statistics)
    if not pairs.n_pairs:
        return Estimate(math.nan, 0, method="largest of all single differences, without sign")
    worst = int(np.argmax(np.abs(pairs.differences)))
    details = {"reference": float(pairs.reference[worst]), "test": float(pairs.test[worst])}
    value = float(np.abs(pairs.differences[worst]))
    return Estimate(
        value, pairs.n_pairs, method="largest of all single differences, without sign", details=details
    )


def participant_mape(study: PairedStudy, statistics: Statistics) -> Estimate:
    """Return the mean of the participants' mean absolute percentage errors; details by condition, if labelled.

    References are above 0 (`PLAUSIBLE`). The interval is by participant.
    """
    pairs = usable_by(study.of(_QUANTITY), statistics)
    errors = 100.0 * np.abs(pairs.differences) / pairs.reference
    found = mean_of_subjects(errors, pairs.subjects, level=statistics.confidence_level, scale="log")
    labels = pairs.labels.get("condition")
    of_conditions = (
        {}
        if labels is None
        else {
            f"{condition}_percent": mean_of_subjects(
                errors[chosen], pairs.subjects[chosen], level=statistics.confidence_level
            ).value
            for condition in np.unique(labels)
            if condition and (chosen := labels == condition).any()
        }
    )
    method = f"absolute differences in percent of the reference, {found.method}"
    n_subjects = int(found.details.get("subjects", 0))
    return replace(found, n=n_subjects, method=method, details=of_conditions)


STUDY: Final = Study(
    {
        **readings_metrics("heart_rate", _QUANTITY),
        "heart_rate_within_tolerance": Metric(
            "heart_rate", "%", within_tolerance, (_QUANTITY,), f"{_METER}: within max(10 %, 5/min)"
        ),
        "heart_rate_largest_error": Metric("heart_rate", "/min", largest_error, (_QUANTITY,), _METER),
        "heart_rate_participant_mape": Metric(
            "heart_rate", "%", participant_mape, (_QUANTITY,), "CTA-2065, every participant of equal weight"
        ),
    },
    facts_of(_QUANTITY),
    lambda study, statistics: paired_facts(study, _QUANTITY, statistics),
    PairedStudy.empty(),
)
"""What the measurand `heart_rate` can be asked."""
