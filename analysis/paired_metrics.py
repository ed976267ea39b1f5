"""Figures of agreement of a study's pairs, as metrics a clinical protocol can ask for.

A metric of this module is made for one quantity. Most are functions of sums over pairs (a mean, a standard
deviation, a share), which are left out or resampled subject by subject without touching the pairs again: pairs
of one subject resemble one another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.agreement import bland_altman, percentile_interval, resampled_sums
from analysis.bootstrap import sums_without_each
from analysis.estimates import Estimate
from analysis.jackknife import jackknife_interval
from analysis.metric import Metric, Study
from analysis.paired_study import (
    PLAUSIBLE,
    PairedStudy,
    facts_of,
    paired_facts,
    read_rate_percent,
    usable_by,
)
from analysis.proportions import clopper_pearson
from protocols.clinical.criteria import Statistics

_Floats: TypeAlias = NDArray[np.float64]
_SAME: Final = 1e-12  # what sums of equal floats differ by
_BLAND_ALTMAN: Final = "Bland & Altman 2007, section 3, doi:10.1080/10543400701329422"

PairedMetric: TypeAlias = Callable[[PairedStudy, Statistics], Estimate]


def estimated(
    study: PairedStudy,
    statistics: Statistics,
    sums: _Floats,
    value: Callable[[_Floats], _Floats],
    *,
    scale: str | None = "linear",
    details: Mapping[str, float] | None = None,
) -> Estimate:
    """Return a figure that is a function of sums over pairs, with its interval by subject.

    The interval is that of `analysis.jackknife`, which covers better than a bootstrap where subjects are few;
    where it gives none, the percentiles of a bootstrap of subjects. Where all or no pairs have what a share
    counts, it is exact with the subjects as trials, as in `analysis.proportions`; where every subject says the
    same, there is none: an interval without width would claim to know what one more subject will show.

    Parameters
    ----------
    study
        Usable pairs.
    statistics
        Level; replicates and seed of the bootstrap.
    sums
        What is summed, shape (n_sums, n_pairs).
    value
        Takes sums, shape (n_sums, ...), and returns the figure, shape (...).
    scale
        `linear`; `log` of a figure above 0; `percent` of a share. None for the bootstrap in any case, as where
        the figure has a bend (the absolute value of a mean near 0).
    details
        Further figures.
    """
    details = dict(details or {})
    with np.errstate(divide="ignore", invalid="ignore"):
        figure = float(value(sums.sum(axis=1))) if study.n_pairs else float("nan")
        n_subjects, level = study.n_subjects, statistics.confidence_level
        if n_subjects < 2:
            return Estimate(figure, study.n_pairs, method="no interval: fewer than 2 subjects", details=details)
        if scale == "percent" and figure in (0.0, 100.0):
            low, high = (
                100.0 * float(end)
                for end in clopper_pearson(n_subjects * figure / 100.0, n_subjects, level=level)
            )
            method = f"exact, {n_subjects} subjects as trials: all pairs had the same result"
            return Estimate(figure, study.n_pairs, low, high, level, method, details=details)
        low = high = float("nan")
        method = f"jackknife of {n_subjects} subjects with all their pairs, {scale} scale"
        if scale is not None:
            of, each = (100.0, "logit") if scale == "percent" else (1.0, scale)
            without = value(sums_without_each(sums, study.subjects)) / of
            low, high = (
                of * float(end) for end in jackknife_interval(figure / of, without, level=level, scale=each)
            )
        if np.isnan(low):
            replicates, seed = statistics.bootstrap_replicates, statistics.seed
            drawn = value(resampled_sums(sums, study.subjects, replicates=replicates, seed=seed))
            low, high = percentile_interval(drawn, level)
            method = (
                f"percentile bootstrap of {n_subjects} subjects with all their pairs, "
                f"{replicates} replicates, seed {seed}"
            )
    if np.isclose(low, high, rtol=_SAME, atol=_SAME):
        return Estimate(figure, study.n_pairs, method="no interval: all subjects say the same", details=details)
    return Estimate(figure, study.n_pairs, low, high, level, method, details=details)


def mean_difference(quantity: str) -> PairedMetric:
    """Return the metric of the mean of test minus reference."""
    return _of_sums(quantity, lambda s: np.stack([_ones(s), s.differences]), lambda t: t[1] / t[0])


def sd_of_differences(quantity: str) -> PairedMetric:
    """Return the metric of the standard deviation (n - 1) of all differences."""

    def value(total: _Floats) -> _Floats:
        spread = np.maximum(total[2] - total[1] ** 2 / total[0], 0.0)
        return np.asarray(np.sqrt(spread / np.where(total[0] > 1, total[0] - 1, np.nan)))

    return _of_sums(
        quantity, lambda s: np.stack([_ones(s), s.differences, s.differences**2]), value, scale="log"
    )


def root_mean_square(quantity: str) -> PairedMetric:
    """Return the metric of the root mean square of the differences, which includes the bias."""
    return _of_sums(
        quantity,
        lambda s: np.stack([_ones(s), s.differences**2]),
        lambda t: np.sqrt(t[1] / t[0]),
        scale="log",
    )


def mean_absolute_difference(quantity: str) -> PairedMetric:
    """Return the metric of the mean absolute difference."""
    return _of_sums(
        quantity,
        lambda s: np.stack([_ones(s), np.abs(s.differences)]),
        lambda t: t[1] / t[0],
        scale="log",
    )


def mean_absolute_percentage(quantity: str) -> PairedMetric:
    """Return the metric of the mean absolute difference in percent of the reference, each pair of equal weight.

    A reference of 0 has no percentage: such a pair makes the figure NaN.
    """

    def sums(study: PairedStudy) -> _Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            share = 100.0 * np.abs(study.differences) / np.where(study.reference > 0, study.reference, np.nan)
        return np.stack([_ones(study), share])

    return _of_sums(quantity, sums, lambda t: t[1] / t[0], scale="log")


def share_within(quantity: str, limit: float) -> PairedMetric:
    """Return the metric of the percentage of differences of at most `limit`, inclusive."""

    def sums(study: PairedStudy) -> _Floats:
        within = np.abs(study.differences) <= limit * (1.0 + 1e-12)  # 0.1 + 0.2 is at most 0.3
        return np.stack([_ones(study), within.astype(np.float64)])

    return _of_sums(quantity, sums, lambda t: 100.0 * t[1] / t[0], scale="percent")


def limit_of_agreement(quantity: str, side: str) -> PairedMetric:
    """Return the metric of the `lower` or `upper` 95 % limit of agreement, several pairs of each subject."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = usable_by(study.of(quantity), statistics)
        several = pairs.n_pairs > pairs.n_subjects
        limits = bland_altman(
            pairs.test,
            pairs.reference,
            subject=pairs.subjects if several else None,
            design="repeated_varying" if several else "independent",
            level=statistics.confidence_level,
        )
        how = (
            f"several pairs of each of {limits.n_subjects} subjects; interval by MOVER"
            if several
            else "one pair a subject; exact interval"
        )
        value, method = float(getattr(limits, side)), f"Bland-Altman 2007, {how}"
        low, high = map(float, getattr(limits, f"{side}_interval"))
        if np.isnan(low) or np.isnan(high):  # nothing is known of the spread
            return Estimate(value, limits.n_pairs, method=f"{method.partition(';')[0]}; no interval")
        return Estimate(value, limits.n_pairs, low, high, statistics.confidence_level, method)

    return metric


def read_rate(quantity: str) -> PairedMetric:
    """Return the metric of the percentage of the moments at which the device showed a value."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        chosen = study.of(quantity)
        value = read_rate_percent(chosen, statistics)
        method = "moments with a value of the device among moments with a usable reference"
        return Estimate(value, chosen.n_pairs, method=method)

    return metric


def readings_metrics(measurand: str, quantity: str) -> dict[str, Metric]:
    """Return the metrics that every quantity has whose readings are compared pair by pair, by name."""
    unit = PLAUSIBLE[quantity][2]
    functions: dict[str, tuple[str, PairedMetric, str]] = {
        "bias": (unit, mean_difference(quantity), "mean of test minus reference"),
        "sd": (unit, sd_of_differences(quantity), "standard deviation, n - 1"),
        "rms": (unit, root_mean_square(quantity), "root mean square of the differences"),
        "mae": (unit, mean_absolute_difference(quantity), "mean absolute difference"),
        "mape": ("%", mean_absolute_percentage(quantity), "mean over pairs, of the reference"),
        "lower_limit_of_agreement": (unit, limit_of_agreement(quantity, "lower"), _BLAND_ALTMAN),
        "upper_limit_of_agreement": (unit, limit_of_agreement(quantity, "upper"), _BLAND_ALTMAN),
        "read_rate": ("%", read_rate(quantity), "share of moments with a value"),
    }
    return {
        f"{quantity}_{name}": Metric(measurand, metric_unit, function, (quantity,), source)
        for name, (metric_unit, function, source) in functions.items()
    }


def readings_study(measurand: str, quantity: str) -> Study:
    """Return what can be asked of a study of one quantity, without anything of its own."""
    return Study(
        readings_metrics(measurand, quantity),
        facts_of(quantity),
        lambda study, statistics: paired_facts(study, quantity, statistics),
        PairedStudy.empty(),
    )


def _of_sums(
    quantity: str,
    sums: Callable[[PairedStudy], _Floats],
    value: Callable[[_Floats], _Floats],
    *,
    scale: str = "linear",
) -> PairedMetric:
    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = usable_by(study.of(quantity), statistics)
        return estimated(pairs, statistics, sums(pairs), value, scale=scale)

    return metric


def _ones(study: PairedStudy) -> _Floats:
    return np.ones(study.n_pairs)
