"""What a clinical protocol can ask for: the table of metrics, and the one way from evidence to measurements.

Evidence is what the sessions of a study were turned into: a `PairedStudy` where readings are compared, a
sequence of `RecordResult` for `qrs`, of `SignalFigures` for `signal`. The figures of one recording are the
entries of `signal_metrics.SIGNAL_METRICS`; every one of them is a metric here, pooled over the subjects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from analysis import beat_study, glucose_study, heart_rate_study, signal_study, steps_study, temperature_study
from analysis.metric import Fact, Metric, Study
from analysis.oximetry_study import OXIMETRY
from analysis.paired_metrics import readings_study
from analysis.paired_study import Excluded, PairedStudy, usable_by
from analysis.pressure_study import PRESSURE_STUDY
from analysis.signal_metrics import SIGNAL_METRICS
from analysis.signal_study import mean_over_subjects
from analysis.sleep_study import SLEEP
from analysis.spirometry_study import SPIROMETRY
from analysis.usability_study import USABILITY
from analysis.use_error_study import USE_ERRORS
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.measurement import Measurement
from protocols.errors import SignalError

_NO_INTERVAL: Final = "no interval"
"""Said by a figure that has an interval, only not from these data: nobody knows then whether its ends meet a
limit. A figure that has none at all does not say so, and must not be judged by one."""


def measure(protocol: ClinicalProtocol, evidence: Any) -> tuple[dict[str, float], list[Measurement]]:
    """Return the design facts of a study, and the measurements that a clinical protocol asks for.

    Parameters
    ----------
    protocol
        Any shipped protocol or a lab's own.
    evidence
        `PairedStudy` where readings are compared, a sequence of `RecordResult` for `qrs`, of `SignalFigures`
        for `signal`.

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
        if estimate.low is None and _NO_INTERVAL in estimate.method:
            unknown, level = float("nan"), protocol.statistics.confidence_level
            estimate = replace(estimate, low=unknown, high=unknown, level=level)
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
        "shortest_recording_days": Fact(
            "days of the shortest recording", "d", title_fr="jours de l'enregistrement le plus court"
        ),
    },
    signal_study.design_facts,
    (),
)

STUDIES: Final[Mapping[str, Study]] = MappingProxyType(
    {
        "spo2": OXIMETRY,
        "blood_pressure": PRESSURE_STUDY,
        "heart_rate": heart_rate_study.STUDY,
        "respiratory_rate": readings_study("respiratory_rate", "respiratory_rate"),
        "temperature": temperature_study.STUDY,
        "glucose": glucose_study.STUDY,
        "steps": steps_study.STUDY,
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
