"""What a study of thermometers can be asked: errors of single readings, bias, limits and repeatability.

Readings of the device on one subject in one session, at one reference, are replicates: their scatter is the
device's own and not the body's. Differences from replicate to replicate enter the repeatability after the
change of the reference between them has been taken out.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from analysis.estimates import Estimate
from analysis.metric import Fact, Metric, Study
from analysis.paired_metrics import readings_metrics
from analysis.paired_study import PairedStudy, facts_of, paired_facts, usable_by
from protocols.clinical.criteria import Statistics

_QUANTITY: Final = "temperature"
_STANDARD: Final = "ISO 80601-2-56"


def largest_error(study: PairedStudy, statistics: Statistics) -> Estimate:
    """Return the largest absolute difference of a single reading, in degrees Celsius."""
    pairs = usable_by(study.of(_QUANTITY), statistics)
    value = float(np.abs(pairs.differences).max()) if pairs.n_pairs else math.nan
    return Estimate(value, pairs.n_pairs, method="largest of all single differences, without sign")


def repeatability(study: PairedStudy, statistics: Statistics) -> Estimate:
    """Return the pooled standard deviation of replicates, in degrees Celsius; NaN without any.

    ISO 80601-2-56 calls it clinical repeatability: the square root of the mean variance of the differences
    within subject and session, weighted by degrees of freedom.
    """
    pairs = usable_by(study.of(_QUANTITY), statistics)
    keys = np.char.add(np.char.add(pairs.subjects, "\0"), pairs.sessions) if pairs.n_pairs else pairs.subjects
    numbers = np.unique(keys, return_inverse=True)[1]
    counts = np.bincount(numbers)
    degrees = int((counts - 1).sum())
    method = f"pooled over {int((counts > 1).sum())} sessions with replicates, {degrees} degrees of freedom"
    if degrees < 1:
        return Estimate(math.nan, 0, method=method)
    means = np.bincount(numbers, weights=pairs.differences) / counts
    squares = float(((pairs.differences - means[numbers]) ** 2).sum())
    sd = math.sqrt(squares / degrees)
    details = {"repeatability_coefficient": 1.96 * math.sqrt(2.0) * sd}
    return Estimate(sd, degrees + int((counts > 1).sum()), method=method, details=details)


def _facts(study: PairedStudy, statistics: Statistics) -> dict[str, float]:
    facts = paired_facts(study, _QUANTITY, statistics)
    pairs = usable_by(study.of(_QUANTITY), statistics)
    facts["sessions"] = float(len(set(zip(pairs.subjects.tolist(), pairs.sessions.tolist(), strict=True))))
    return facts


STUDY: Final = Study(
    {
        **readings_metrics("temperature", _QUANTITY),
        "temperature_largest_error": Metric(
            "temperature", "Cel", largest_error, (_QUANTITY,), f"{_STANDARD}, laboratory accuracy"
        ),
        "temperature_repeatability": Metric(
            "temperature", "Cel", repeatability, (_QUANTITY,), f"{_STANDARD}, clinical repeatability"
        ),
    },
    {**facts_of(_QUANTITY), "sessions": Fact("sessions with pairs", title_fr="sessions avec des paires")},
    _facts,
    PairedStudy.empty(),
)
