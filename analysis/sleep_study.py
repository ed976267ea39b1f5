"""Sleep of a study: a device's hypnograms against a reference's, as measures of each night and epoch by epoch.

Follows Menghini et al. 2021, doi:10.1093/sleep/zsaa170. Measures of the nights (total sleep, latency, …) are
compared as Bland and Altman do, with the reference as size: where the slope of the differences on it, or that
of their spread, is other than 0 by its interval, the limits of agreement are those of the lines. Epochs are
compared subject by subject, one error matrix each, and the subjects' rates are averaged.

Only epochs that both hypnograms scored take part, in the measures of a night as well: a device that lost an
hour has not seen an hour less of sleep. How many are left is a fact about the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.agreement import BlandAltman, bland_altman
from analysis.agreement_trend import AgreementTrend, agreement_trend
from analysis.estimates import Estimate, Interval
from analysis.metric import Fact, Metric, Study
from analysis.paired_study import PLAUSIBLE, Excluded, PairedStudy, usable
from analysis.sleep import (
    NOT_SCORED,
    STAGES,
    EpochAgreement,
    as_stages,
    error_matrix,
    group_mean,
    sleep_measures,
    sleep_wake_agreement,
    stage_agreement,
    stages_kappa,
)
from analysis.study_subjects import SUBJECT_FACTS, known_of
from protocols.clinical.criteria import Statistics
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import SignalError

_Floats: TypeAlias = NDArray[np.float64]
_Stages: TypeAlias = NDArray[np.int8]

MEASURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sleep_duration": "total_sleep_min",
        "sleep_efficiency": "efficiency_percent",
        "sleep_onset_latency": "onset_latency_min",
        "wake_after_sleep_onset": "wake_after_onset_min",
        "light_sleep": "light_min",
        "deep_sleep": "deep_min",
        "rem_sleep": "rem_min",
    }
)
"""Quantity of a night -> the measure of `analysis.sleep.SleepMeasures` that it is."""
STAGED: Final = ("light_sleep", "deep_sleep", "rem_sleep")
"""Quantities that a device cannot have that tells only sleep from wake."""
_RATES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "accuracy": ("accuracy_percent", "%"),
        "sensitivity": ("sensitivity_percent", "%"),
        "specificity": ("specificity_percent", "%"),
        "positive_predictivity": ("positive_predictivity_percent", "%"),
        "negative_predictivity": ("negative_predictivity_percent", "%"),
        "kappa": ("kappa", "1"),
        "pabak": ("pabak", "1"),
    }
)
"""Figure of agreement -> field of `EpochAgreement`, and its unit."""
_MENGHINI: Final = "Menghini et al. 2021, doi:10.1093/sleep/zsaa170"


@dataclass(frozen=True, slots=True, eq=False)
class Night:
    """The two hypnograms of one night, epoch by epoch from lights off to lights on.

    Parameters
    ----------
    subject, session
        Whose night it is, and where it was recorded or written down.
    reference, test
        Stages of `analysis.sleep`, `NOT_SCORED` where there is none; shape (n_epochs,) each.
    epoch_s
        Length of an epoch.
    staged
        False if the device tells only sleep from wake: its sleep stands as `LIGHT`, and no stage is judged.
    """

    subject: str
    session: str
    reference: _Stages
    test: _Stages
    epoch_s: float
    staged: bool = True

    def __post_init__(self) -> None:
        if self.reference.ndim != 1 or self.reference.shape != self.test.shape:
            shapes = f"{self.reference.shape}, {self.test.shape}"
            raise SignalError(f"hypnograms of shapes {shapes}, expected (n_epochs,) for both")

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which epochs both hypnograms scored, shape (n_epochs,)."""
        return np.asarray((self.reference != NOT_SCORED) & (self.test != NOT_SCORED))

    def compared(self, hypnogram: ArrayLike) -> _Stages:
        """Return a hypnogram with `NOT_SCORED` where either has no stage, shape (n_epochs,)."""
        return np.where(self.scored, as_stages(hypnogram), np.int8(NOT_SCORED))


@dataclass(frozen=True, slots=True, eq=False)
class SleepStudy:
    """Nights of a study, and what they come to.

    Parameters
    ----------
    nights
        In their order.
    measures
        Device and reference of every measure of every night.
    rates
        Name of a figure of agreement -> its value for each subject, NaN where there is none.
    facts
        What is known of the subjects.
    excluded
        Epochs and measures that take no part, each with its reason.
    """

    nights: tuple[Night, ...] = ()
    measures: PairedStudy = field(default_factory=PairedStudy.empty)
    rates: Mapping[str, _Floats] = field(default_factory=lambda: MappingProxyType({}))
    facts: SubjectFacts = field(default_factory=lambda: MappingProxyType({}))
    excluded: tuple[Excluded, ...] = ()

    @classmethod
    def of_nights(
        cls,
        nights: Iterable[Night],
        facts: SubjectFacts = MappingProxyType({}),
        excluded: Iterable[Excluded] = (),
    ) -> SleepStudy:
        """Return the study of nights.

        Parameters
        ----------
        excluded
            Epochs that did not even come into a night.
        """
        nights = tuple(nights)
        measures = usable(measures_of(nights, facts))
        unscored = [epoch for night in nights for epoch in _unscored(night)]
        return cls(nights, measures, _rates(nights), facts, (*excluded, *unscored, *measures.excluded))

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects in the order of their first night, as the values of `rates` stand."""
        return tuple(dict.fromkeys(night.subject for night in self.nights))


def measures_of(nights: Sequence[Night], facts: SubjectFacts = MappingProxyType({})) -> PairedStudy:
    """Return the measures of nights as pairs; the time of a pair is the number of its night."""
    parts = []
    for number, night in enumerate(nights, start=1):
        reference, test = (
            sleep_measures(night.compared(hypnogram), epoch_s=night.epoch_s)
            for hypnogram in (night.reference, night.test)
        )
        for quantity, measure in MEASURES.items():
            known = night.staged or quantity not in STAGED
            parts.append(
                PairedStudy.of_pairs(
                    quantity,
                    night.subject,
                    night.session,
                    [number],
                    [float(getattr(reference, measure))],
                    [float(getattr(test, measure)) if known else np.nan],
                )
            )
    return PairedStudy.gather(parts, facts)


def bias(quantity: str) -> Callable[[SleepStudy, Statistics], Estimate]:
    """Return the metric of the mean of device minus reference, with the line of the bias in its details."""

    def metric(study: SleepStudy, statistics: Statistics) -> Estimate:
        pairs = study.measures.of(quantity)
        agreed, trend, several = _agreement(pairs, statistics)
        return _estimate(
            agreed.bias,
            agreed.bias_interval,
            pairs.n_pairs,
            statistics.confidence_level,
            f"mean of device minus reference, {several}",
            _lines(trend) if _follows(trend.bias.slope_interval) else {},
        )

    return metric


def limit(quantity: str, side: str) -> Callable[[SleepStudy, Statistics], Estimate]:
    """Return the metric of the `lower` or `upper` limit of agreement.

    Where bias or spread follow the reference, it is the limit at the mean reference, without an interval; those
    at the smallest and the largest reference are in the details.
    """

    def metric(study: SleepStudy, statistics: Statistics) -> Estimate:
        pairs = study.measures.of(quantity)
        agreed, trend, several = _agreement(pairs, statistics)
        wider = _follows(trend.spread.slope_interval)
        if not wider and not _follows(trend.bias.slope_interval):
            value, interval = getattr(agreed, side), getattr(agreed, f"{side}_interval")
            method = f"Bland-Altman, {several}"
            return _estimate(value, interval, pairs.n_pairs, statistics.confidence_level, method)
        sizes = pairs.reference.mean(), pairs.reference.min(), pairs.reference.max()
        at = trend.limits_at(sizes, constant_spread=not wider)[side == "upper"]
        return Estimate(
            float(at[0]),
            pairs.n_pairs,
            method=f"Bland-Altman 1999, limits that follow the reference, at its mean; {several}",
            details={"at_smallest_reference": float(at[1]), "at_largest_reference": float(at[2])},
        )

    return metric


def slope(quantity: str, of: str) -> Callable[[SleepStudy, Statistics], Estimate]:
    """Return the metric of the slope of the `bias` or of the `spread` on the reference."""

    def metric(study: SleepStudy, statistics: Statistics) -> Estimate:
        pairs = study.measures.of(quantity)
        _, trend, several = _agreement(pairs, statistics)
        line = getattr(trend, of)
        method = f"least squares on the reference, {several}"
        level = statistics.confidence_level
        n = pairs.n_pairs if np.isfinite(line.slope) else 0  # where all nights are alike there is no slope
        return _estimate(line.slope, line.slope_interval, n, level, method)

    return metric


def epoch_rate(name: str) -> Callable[[SleepStudy, Statistics], Estimate]:
    """Return the metric of the mean of a figure of agreement over the subjects."""

    def metric(study: SleepStudy, statistics: Statistics) -> Estimate:
        return group_mean(study.rates.get(name, np.empty(0)), level=statistics.confidence_level)

    return metric


def design_facts(study: SleepStudy, statistics: Statistics) -> dict[str, float]:  # noqa: ARG001
    """Return what the sample of nights is like."""
    scored = np.array([int(night.scored.sum()) for night in study.nights], dtype=np.int64)
    epochs = np.array([night.scored.size for night in study.nights], dtype=np.int64)
    facts = {
        "subjects": float(len({n.subject for n, s in zip(study.nights, scored, strict=True) if s})),
        "nights": float(np.count_nonzero(scored)),
        "nights_with_stages": float(sum(night.staged for night in study.nights)),
        "epochs": float(scored.sum()),
        "excluded": float(len(study.excluded)),
    }
    if epochs.sum():
        shares = 100.0 * scored[epochs > 0] / epochs[epochs > 0]
        facts |= {
            "epochs_of_shortest_night": float(scored.min()),
            "scored_share_percent": 100.0 * float(scored.sum() / epochs.sum()),
            "lowest_scored_share_percent": float(shares.min()),
        }
    return facts | known_of(study.subjects, study.facts)


FACTS: Final[Mapping[str, Fact]] = MappingProxyType(
    {
        "subjects": Fact(
            "subjects with epochs that both hypnograms scored",
            title_fr="sujets avec des époques cotées des deux côtés",
        ),
        "nights": Fact(
            "nights with epochs that both scored", title_fr="nuits avec des époques cotées des deux côtés"
        ),
        "nights_with_stages": Fact(
            "nights in which the device tells stages of sleep",
            title_fr="nuits où le dispositif distingue des stades de sommeil",
        ),
        "epochs": Fact("epochs that both hypnograms scored", title_fr="époques cotées des deux côtés"),
        "epochs_of_shortest_night": Fact(
            "epochs that both scored in the night that has fewest",
            title_fr="époques cotées des deux côtés dans la nuit qui en a le moins",
        ),
        "scored_share_percent": Fact(
            "share of the epochs that both scored", "%", title_fr="part des époques cotées des deux côtés"
        ),
        "lowest_scored_share_percent": Fact(
            "share of the epochs that both scored in the worst night",
            "%",
            title_fr="part des époques cotées des deux côtés dans la pire nuit",
        ),
        "excluded": Fact("epochs and measures that take no part", title_fr="époques et mesures écartées"),
        **SUBJECT_FACTS,
    }
)


def _metrics() -> dict[str, Metric]:
    metrics: dict[str, Metric] = {}
    for quantity in MEASURES:
        unit = PLAUSIBLE[quantity][2]
        functions = {
            "bias": (unit, bias(quantity)),
            "lower_limit_of_agreement": (unit, limit(quantity, "lower")),
            "upper_limit_of_agreement": (unit, limit(quantity, "upper")),
            "bias_slope": ("1", slope(quantity, "bias")),
            "spread_slope": ("1", slope(quantity, "spread")),
        }
        metrics |= {
            f"{quantity}_{name}": Metric("sleep", metric_unit, function, ("sleep_stage",), _MENGHINI)
            for name, (metric_unit, function) in functions.items()
        }
    units = {name: unit for name, (_, unit) in _RATES.items()}
    named = {f"{of}_epoch_{name}": unit for of in ("sleep", *STAGES[1:]) for name, unit in units.items()}
    named |= {"stages_epoch_accuracy": "%", "stages_epoch_kappa": "1"}
    return metrics | {
        name: Metric("sleep", unit, epoch_rate(name), ("sleep_stage",), _MENGHINI)
        for name, unit in named.items()
    }


def _agreement(pairs: PairedStudy, statistics: Statistics) -> tuple[BlandAltman, AgreementTrend, str]:
    several = pairs.n_pairs > pairs.n_subjects
    subject = pairs.subjects if several else None
    level = statistics.confidence_level
    agreed = bland_altman(pairs.test, pairs.reference, subject=subject, level=level)
    trend = agreement_trend(pairs.test, pairs.reference, subject=subject, size="reference", level=level)
    how = "several nights of a subject, true value varying" if several else "one night of each subject"
    return agreed, trend, how


def _estimate(
    value: float,
    interval: Interval,
    n: int,
    level: float,
    method: str,
    details: Mapping[str, float] | None = None,
) -> Estimate:
    """Return a figure with its interval, or without where nothing is known of it."""
    low, high = float(interval.low), float(interval.high)
    if not (np.isfinite(low) and np.isfinite(high)):
        return Estimate(float(value), n, method=f"{method}; no interval", details=details or {})
    return Estimate(float(value), n, low, high, level, method, details or {})


def _follows(interval: Interval) -> bool:
    """Return whether a slope is other than 0 by its interval."""
    return bool(interval.low > 0.0 or interval.high < 0.0)


def _lines(trend: AgreementTrend) -> dict[str, float]:
    return {"intercept": trend.bias.intercept, "slope_on_reference": trend.bias.slope}


def _rates(nights: Sequence[Night]) -> dict[str, _Floats]:
    """Return the figures of agreement of each subject, whose nights make one error matrix together."""
    rates: dict[str, list[float]] = {}
    for subject in dict.fromkeys(night.subject for night in nights):
        own = [night for night in nights if night.subject == subject]
        _collect(rates, "sleep", sleep_wake_agreement(*_joined(own)))
        staged = _joined([night for night in own if night.staged])
        for stage, name in enumerate(STAGES[1:], start=1):
            _collect(rates, name, stage_agreement(*staged, stage=stage))
        matrix = error_matrix(*staged)
        total = float(matrix.sum())
        agree = 100.0 * float(np.trace(matrix)) / total if total else np.nan
        rates.setdefault("stages_epoch_accuracy", []).append(agree)
        rates.setdefault("stages_epoch_kappa", []).append(float(stages_kappa(*staged)))
    return {name: np.array(values, dtype=np.float64) for name, values in rates.items()}


def _collect(rates: dict[str, list[float]], of: str, agreement: EpochAgreement) -> None:
    for name, (figure, _) in _RATES.items():
        rates.setdefault(f"{of}_epoch_{name}", []).append(float(getattr(agreement, figure)))


def _joined(nights: Sequence[Night]) -> tuple[_Stages, _Stages]:
    none = [np.empty(0, dtype=np.int8)]
    return (
        np.concatenate([night.test for night in nights] or none),
        np.concatenate([night.reference for night in nights] or none),
    )


def _unscored(night: Night) -> list[Excluded]:
    """Return the epochs of a night that take no part; their time is the number of the epoch."""
    reasons = {
        "neither hypnogram scored the epoch": (night.reference == NOT_SCORED) & (night.test == NOT_SCORED),
        "the reference did not score the epoch": (night.reference == NOT_SCORED) & (night.test != NOT_SCORED),
        "the device did not score the epoch": (night.reference != NOT_SCORED) & (night.test == NOT_SCORED),
    }
    return [
        Excluded(night.subject, night.session, int(epoch) + 1, "epoch", reason)
        for reason, which in reasons.items()
        for epoch in np.flatnonzero(which)
    ]


SLEEP: Final = Study(_metrics(), FACTS, design_facts, SleepStudy())
"""What can be asked of nights."""
