"""What a clinical protocol can ask for: the table of metrics, and the one way from evidence to measurements.

Evidence is what the sessions of a study were turned into: a `PairedStudy` where readings are compared, a
sequence of `RecordResult` for `qrs`, of `SignalFigures` for `signal`. The figures of one recording are the
entries of `signal_metrics.SIGNAL_METRICS`; every one of them is a metric here, pooled over the subjects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from analysis import beat_study, oximetry, signal_study, temperature_study
from analysis.agreement import BlandAltman, Estimate
from analysis.metric import Fact, Metric, Study
from analysis.oximetry import OximeterPairs
from analysis.paired_metrics import readings_study
from analysis.paired_study import PAIRED_FACTS, Excluded, PairedStudy, usable_by
from analysis.pressure_study import PRESSURE_STUDY
from analysis.signal_metrics import SIGNAL_METRICS
from analysis.signal_study import mean_over_subjects
from analysis.sleep_study import SLEEP
from analysis.spirometry_study import SPIROMETRY
from analysis.usability_study import USABILITY
from analysis.use_error_study import USE_ERRORS
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Statistics
from protocols.clinical.measurement import Measurement
from protocols.errors import SignalError

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
    criteria = protocol.criteria
    limits = (criterion.limit_metric for criterion in criteria if criterion.limit_metric)
    for name in dict.fromkeys([*(criterion.metric for criterion in criteria), *limits]):
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
                n_poor=estimate.n_poor,
                details=estimate.details,
            )
        )
    return STUDIES[protocol.measurand].design_facts(evidence, protocol.statistics), measurements


def excluded(protocol: ClinicalProtocol, evidence: Any) -> tuple[Excluded, ...]:
    """Return what takes no part under a protocol, each with its reason; evidence as in `measure`."""
    if not isinstance(evidence, PairedStudy):
        return tuple(getattr(evidence, "excluded", ()))
    return usable_by(evidence, protocol.statistics).excluded


def _grade(metric: Metric, value: float) -> str:
    """Return what a value is called where it is a grade."""
    return metric.grades[int(value) - 1] if metric.grades and math.isfinite(value) else ""


def _of_agreement(choose: Callable[[BlandAltman], float]) -> Callable[[OximeterPairs, Statistics], Estimate]:
    def estimate(pairs: OximeterPairs, statistics: Statistics) -> Estimate:
        limits = oximetry.agreement(pairs, statistics)
        method = f"several pairs of each of {limits.n_subjects} subjects, true value varying"
        return Estimate(choose(limits), limits.n_pairs, method=method)

    return estimate


def _spo2(function: Callable[[OximeterPairs, Statistics], Estimate], source: str, unit: str = "%") -> Metric:
    return Metric("spo2", unit, function, ("spo2",), source)


_OXIMETRY: Final = Study(
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
    },
    {
        **PAIRED_FACTS,
        "excluded_reference_missing": Fact("moments without a reference", title_fr="moments sans référence"),
        "excluded_reference_out_of_range": Fact(
            "moments with a reference out of range", title_fr="moments dont la référence est hors plage"
        ),
        "excluded_test_missing": Fact(
            "moments at which the device showed nothing", title_fr="moments où le dispositif n'a rien affiché"
        ),
        "excluded_test_no_saturation": Fact(
            "moments at which the device showed no possible saturation",
            title_fr="moments où le dispositif a affiché une saturation impossible",
        ),
    },
    oximetry.design_facts,
    OximeterPairs.gather([]),
)

_SIGNALS: Final = Study(
    {
        name: Metric("signal", metric.unit, mean_over_subjects(name), metric.channels, metric.source)
        for name, metric in SIGNAL_METRICS.items()
    },
    {
        "subjects": Fact("subjects", title_fr="sujets"),
        "recordings": Fact("recordings", title_fr="enregistrements"),
        "recordings_without_value": Fact(
            "recordings whose signal allows no value for some metric",
            title_fr="enregistrements dont le signal ne permet pas toutes les valeurs",
        ),
        "valued_recordings": Fact(
            "recordings with all values", title_fr="enregistrements avec toutes les valeurs"
        ),
    },
    signal_study.design_facts,
    (),
)

STUDIES: Final[Mapping[str, Study]] = MappingProxyType(
    {
        "spo2": _OXIMETRY,
        "blood_pressure": PRESSURE_STUDY,
        "heart_rate": readings_study("heart_rate", "heart_rate"),
        "respiratory_rate": readings_study("respiratory_rate", "respiratory_rate"),
        "temperature": temperature_study.STUDY,
        "glucose": readings_study("glucose", "glucose"),
        "steps": readings_study("steps", "steps"),
        "qrs": beat_study.STUDY,
        "signal": _SIGNALS,
        "sleep": SLEEP,
        "spirometry": SPIROMETRY,
        "usability": USABILITY,
        "use_errors": USE_ERRORS,
    }
)
"""Measurand -> what its evidence can be asked; the one line to add for a new one."""

METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {name: metric for study in STUDIES.values() for name, metric in study.metrics.items()}
)
"""Name -> metric, of all measurands."""
