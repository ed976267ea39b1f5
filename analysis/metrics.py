"""What a clinical protocol can ask for: the table of metrics, and the one way from evidence to measurements.

Evidence is what the sessions of a study were turned into: `OximeterPairs` for the measurand `spo2`, a
`PairedStudy` for others that compare readings, a sequence of `RecordResult` for `qrs`, of `SignalFigures` for
`signal`. The figures of one recording are the
entries of `signal_metrics.SIGNAL_METRICS`; every one of them is a metric here, pooled over the subjects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from analysis import beat_detection, oximetry, paired_metrics, signal_study
from analysis.agreement import BlandAltman, Estimate
from analysis.beat_detection import RecordResult
from analysis.metric import Metric
from analysis.oximetry import OximeterPairs
from analysis.paired_metrics import PairedMetric
from analysis.paired_study import PLAUSIBLE, Excluded, PairedStudy, paired_facts, usable_by
from analysis.signal_metrics import SIGNAL_METRICS
from analysis.signal_study import mean_over_subjects
from protocols.clinical.criteria import ClinicalProtocol, Measurement, Statistics
from protocols.errors import SignalError

_EC57: Final = "ANSI/AAMI EC57, as bxb of the WFDB software does it"
_BLAND_ALTMAN: Final = "Bland & Altman 2007, section 3, doi:10.1080/10543400701329422"


def measure(protocol: ClinicalProtocol, evidence: Any) -> tuple[dict[str, float], list[Measurement]]:
    """Return the design facts of a study, and the measurements that a clinical protocol asks for.

    Parameters
    ----------
    protocol
        Any shipped protocol or a lab's own.
    evidence
        `OximeterPairs` for `spo2`, a sequence of `RecordResult` for `qrs`, of `SignalFigures` for `signal`.

    Raises
    ------
    SignalError
        If the protocol asks for a metric that does not exist, or that is not of its measurand.
    """
    measurements = []
    for name in dict.fromkeys(criterion.metric for criterion in protocol.criteria):
        metric = METRICS.get(name)
        if metric is None or metric.measurand != protocol.measurand:
            known = ", ".join(n for n, m in METRICS.items() if m.measurand == protocol.measurand)
            raise SignalError(
                f"metric {name!r} for {protocol.measurand} in {protocol.id}, expected one of {known}"
            )
        estimate = metric.function(evidence, protocol.statistics)
        measurements.append(
            Measurement(
                metric=name,
                value=estimate.value,
                unit=metric.unit,
                n=estimate.n,
                low=estimate.low,
                high=estimate.high,
                level=estimate.level,
                method=estimate.method,
                label=_grade(metric, estimate.value),
                n_poor=int(estimate.details.get("recordings_without_value", 0)),
                details=estimate.details,
            )
        )
    return DESIGN_FACTS[protocol.measurand](evidence, protocol.statistics), measurements


def excluded(protocol: ClinicalProtocol, evidence: Any) -> tuple[Excluded, ...]:
    """Return the moments that make no pair under a protocol, each with its reason; evidence as in `measure`."""
    if not isinstance(evidence, PairedStudy):
        return ()
    return usable_by(evidence, protocol.statistics).excluded


def _grade(metric: Metric, value: float) -> str:
    """Return what a value is called where it is a grade."""
    return metric.grades[int(value) - 1] if metric.grades and math.isfinite(value) else ""


def _readings(measurand: str, quantity: str) -> dict[str, Metric]:
    """Return the metrics that any quantity has whose readings are compared pair by pair."""
    unit = PLAUSIBLE[quantity][2]
    functions: dict[str, tuple[str, PairedMetric, str]] = {
        "bias": (unit, paired_metrics.mean_difference(quantity), "mean of test minus reference"),
        "sd": (unit, paired_metrics.sd_of_differences(quantity), "standard deviation, n - 1"),
        "rms": (unit, paired_metrics.root_mean_square(quantity), "root mean square of the differences"),
        "mae": (unit, paired_metrics.mean_absolute_difference(quantity), "mean absolute difference"),
        "mape": ("%", paired_metrics.mean_absolute_percentage(quantity), "mean over pairs, of the reference"),
        "lower_limit_of_agreement": (unit, paired_metrics.limit_of_agreement(quantity, "lower"), _BLAND_ALTMAN),
        "upper_limit_of_agreement": (unit, paired_metrics.limit_of_agreement(quantity, "upper"), _BLAND_ALTMAN),
        "read_rate": ("%", paired_metrics.read_rate(quantity), "share of moments with a value"),
    }
    return {
        f"{quantity}_{name}": Metric(measurand, metric_unit, function, (quantity,), source)
        for name, (metric_unit, function, source) in functions.items()
    }


def _of_agreement(choose: Callable[[BlandAltman], float]) -> Callable[[OximeterPairs, Statistics], Estimate]:
    def estimate(pairs: OximeterPairs, statistics: Statistics) -> Estimate:
        limits = oximetry.agreement(pairs, statistics)
        method = f"several pairs of each of {limits.n_subjects} subjects, true value varying"
        return Estimate(choose(limits), limits.n_pairs, method=method)

    return estimate


def _spo2(function: Callable[[OximeterPairs, Statistics], Estimate], source: str, unit: str = "%") -> Metric:
    return Metric("spo2", unit, function, ("spo2",), source)


def _qrs(
    function: Callable[[Sequence[RecordResult], Statistics], Estimate], source: str, unit: str = "%"
) -> Metric:
    return Metric("qrs", unit, function, ("ecg",), source)


METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        "spo2_arms": _spo2(oximetry.accuracy, "ISO 80601-2-61; FDA 2013"),
        "spo2_bias": _spo2(oximetry.bias, "FDA 2013"),
        "spo2_precision": _spo2(oximetry.precision, "standard deviation, n - 1"),
        "spo2_read_rate": _spo2(oximetry.read_rate, "share of moments with a value"),
        "spo2_between_subject_variance": _spo2(
            _of_agreement(lambda limits: limits.between_variance), _BLAND_ALTMAN, "%2"
        ),
        "spo2_within_subject_variance": _spo2(
            _of_agreement(lambda limits: limits.within_variance), _BLAND_ALTMAN, "%2"
        ),
        "spo2_lower_limit_of_agreement": _spo2(_of_agreement(lambda limits: limits.lower), _BLAND_ALTMAN),
        "spo2_upper_limit_of_agreement": _spo2(_of_agreement(lambda limits: limits.upper), _BLAND_ALTMAN),
        "qrs_sensitivity_gross": _qrs(beat_detection.gross_sensitivity, _EC57),
        "qrs_positive_predictivity_gross": _qrs(beat_detection.gross_positive_predictivity, _EC57),
        "qrs_sensitivity_average": _qrs(beat_detection.average_sensitivity, _EC57),
        "qrs_positive_predictivity_average": _qrs(beat_detection.average_positive_predictivity, _EC57),
        "qrs_offset_median": _qrs(beat_detection.median_offset, "detected minus reference", "ms"),
        "qrs_jitter": _qrs(beat_detection.jitter, "standard deviation within records", "ms"),
        **_readings("blood_pressure", "sbp"),
        **_readings("blood_pressure", "dbp"),
        **_readings("heart_rate", "heart_rate"),
        **_readings("respiratory_rate", "respiratory_rate"),
        **_readings("temperature", "temperature"),
        **_readings("glucose", "glucose"),
        **_readings("steps", "steps"),
        **{
            name: Metric("signal", metric.unit, mean_over_subjects(name), metric.channels, metric.source)
            for name, metric in SIGNAL_METRICS.items()
        },
    }
)
"""Name -> metric."""

DESIGN_FACTS: Final[Mapping[str, Callable[[Any, Statistics], dict[str, float]]]] = MappingProxyType(
    {
        "spo2": oximetry.design_facts,
        "blood_pressure": lambda study, statistics: paired_facts(study, "sbp", statistics),
        "heart_rate": lambda study, statistics: paired_facts(study, "heart_rate", statistics),
        "respiratory_rate": lambda study, statistics: paired_facts(study, "respiratory_rate", statistics),
        "temperature": lambda study, statistics: paired_facts(study, "temperature", statistics),
        "glucose": lambda study, statistics: paired_facts(study, "glucose", statistics),
        "steps": lambda study, statistics: paired_facts(study, "steps", statistics),
        "qrs": beat_detection.design_facts,
        "signal": signal_study.design_facts,
    }
)
"""Measurand -> what its evidence says of the sample."""
