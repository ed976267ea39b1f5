"""What a study of a glucose meter or sensor can be asked: shares within tolerances, error grids, iCGM controls.

Shares are in percent of the pairs. Their interval is a bootstrap of subjects with all their pairs; the exact
(Clopper-Pearson) one, which takes pairs for independent, stands beside it in the details. For the special
controls of 21 CFR 862.1355, which name no method, it is the other way round: the exact one-sided lower bound is
the interval, the bound by subjects a detail.

Where a protocol holds for every lot, site or matrix (`glucose_facts`), the worst one decides; all are in the
details.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.counted_share import counted_share
from analysis.error_grids import clarke_zones, dts_zones, parkes_zones, zone_counts
from analysis.estimates import Estimate
from analysis.glucose_accuracy import (
    AGREEMENT_20_20,
    FDA_OTC_95,
    FDA_OTC_99,
    FDA_POC_95,
    FDA_POC_98,
    ISO_15197_2013,
    Tolerance,
    within,
)
from analysis.glucose_facts import GLUCOSE, GLUCOSE_FACTS, glucose_facts, rates_of, strata
from analysis.icgm import ICGM_CONTROLS, sensor_range
from analysis.metric import Metric, Study
from analysis.paired_metrics import PairedMetric, mean_absolute_percentage, readings_metrics
from analysis.paired_study import PairedStudy, usable_by
from analysis.proportions import share_by_subject
from protocols.clinical.criteria import Statistics

_Bools: TypeAlias = NDArray[np.bool_]
_CFR: Final = "21 CFR 862.1355(b)(1)(v)"
_GRIDS: Final[Mapping[str, tuple[Callable[..., NDArray[np.str_]], str]]] = {
    "clarke": (clarke_zones, "Clarke et al. 1987, doi:10.2337/diacare.10.5.622"),
    "parkes_1": (
        lambda reference, test: parkes_zones(reference, test, 1),
        "Parkes et al. 2000, type 1, vertices of Pfützner et al. 2013, doi:10.1177/193229681300700631",
    ),
    "parkes_2": (
        lambda reference, test: parkes_zones(reference, test, 2),
        "Parkes et al. 2000, type 2, vertices of Pfützner et al. 2013, doi:10.1177/193229681300700631",
    ),
    "dts": (dts_zones, "Klonoff et al. 2024, doi:10.1177/19322968241275701 (unconfirmed)"),
}
"""Error grid -> its zones, its source."""
_WITHIN: Final = {
    "within_iso_15197": (ISO_15197_2013, ("lot",)),
    "within_15_percent": (FDA_OTC_95, ("site",)),
    "within_20_percent": (FDA_OTC_99, ("site",)),
    "within_12_12": (FDA_POC_95, ("matrix",)),
    "within_15_15": (FDA_POC_98, ("matrix",)),
    "within_20_20": (AGREEMENT_20_20, ()),
}
"""Share within a tolerance -> the tolerance, labels of which the worst word decides in a further metric."""
_SAYS: Final = {
    "low_over_high": ("H", "device below 70 with a reference above 180 mg/dL"),
    "high_over_low": ("I", "device above 180 with a reference below 70 mg/dL"),
    "rising_while_falling": (
        "J",
        "device rises by more than 1 while the reference falls by more than 2 mg/dL/min",
    ),
    "falling_while_rising": (
        "K",
        "device falls by more than 1 while the reference rises by more than 2 mg/dL/min",
    ),
}


def share_within_tolerance(tolerance: Tolerance) -> PairedMetric:
    """Return the metric of the share of all pairs within a tolerance, edge included."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = usable_by(study.of(GLUCOSE), statistics)
        return _share(pairs, within(pairs.reference, pairs.test, tolerance), statistics)

    return metric


def worst_share_within(tolerance: Tolerance, label: str) -> PairedMetric:
    """Return the metric of the share within a tolerance of the lot, site or matrix that has the smallest."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = usable_by(study.of(GLUCOSE), statistics)
        good = within(pairs.reference, pairs.test, tolerance)
        parts = strata(pairs, label)
        if not parts:
            return _share(pairs, good, statistics)
        shares = {name: 100.0 * int(good[part].sum()) / int(part.sum()) for name, part in parts.items()}
        worst = min(shares, key=lambda name: (shares[name], -parts[name].sum()))
        details = {f"{label} {name}": share for name, share in shares.items()}
        found = _share(pairs.chosen(parts[worst]), good[parts[worst]], statistics, details)
        said = f"{label} {worst}, the worst of {len(parts)}: " if len(parts) > 1 else ""
        return Estimate(
            found.value, found.n, found.low, found.high, found.level, said + found.method, found.details
        )

    return metric


def share_in_zones(grid: str, zones: str) -> PairedMetric:
    """Return the metric of the share of the pairs in zones of an error grid, such as "AB"."""
    zones_of = _GRIDS[grid][0]

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = usable_by(study.of(GLUCOSE), statistics)
        found = zones_of(pairs.reference, pairs.test)
        counts = zone_counts(found)
        # for one metric of a grid is enough: a report lists the details of all
        details = {f"{grid}_{zone}": float(getattr(counts, zone.lower())) for zone in "ABCDE" if zones != "A"}
        return _share(pairs, np.isin(found, list(zones)), statistics, details, named="pairs_in_zones")

    return metric


def icgm_control(letter: str) -> PairedMetric:
    """Return the metric of one of the special controls A to G; `low` is its exact one-sided lower bound."""
    (edges, tolerance), *_ = [(edges, t) for name, edges, t, _ in ICGM_CONTROLS if name == letter]

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = usable_by(study.of(GLUCOSE), statistics)
        there = pairs.chosen(sensor_range(pairs.test, *edges))
        good = within(there.reference, there.test, tolerance)
        level = statistics.confidence_level
        share = counted_share(int(good.sum()), good.size, level=level)
        by_subject = share_by_subject(
            good,
            there.subjects,
            level=level,
            side="lower",
            replicates=statistics.bootstrap_replicates,
            seed=statistics.seed,
        )
        details = {"pairs_within": float(share.count), "subjects": float(there.n_subjects)}
        method = f"exact one-sided lower bound at {level:g} (Clopper-Pearson), pairs taken for independent"
        if by_subject.low is not None:
            details["lower_bound_by_subject"] = 100.0 * by_subject.low
            method += f"; beside it, lower bound by subject: {by_subject.method}"
        if not good.size:
            return Estimate(
                share.percent, 0, method="no interval: no device value in the range", details=details
            )
        return Estimate(share.percent, share.n, share.lower_bound_percent, 100.0, level, method, details)

    return metric


def icgm_contradiction(name: str) -> PairedMetric:
    """Return the metric of how many pairs control H or I forbids; NaN without a device value there."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = usable_by(study.of(GLUCOSE), statistics)
        there, forbidden = (
            (pairs.test < 70.0, pairs.reference > 180.0)
            if name == "low_over_high"
            else (pairs.test > 180.0, pairs.reference < 70.0)
        )
        n = int(there.sum())
        value = float((there & forbidden).sum()) if n else float("nan")
        return Estimate(value, n, method=f"pairs with the {_SAYS[name][1]}, of those with such a device value")

    return metric


def icgm_rate(name: str) -> PairedMetric:
    """Return the metric of control J or K: how often the device's rate says the opposite, in percent."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = usable_by(study.of(GLUCOSE), statistics)
        true, sensed = rates_of(pairs)
        known = np.isfinite(true) & np.isfinite(sensed)
        falling = name == "rising_while_falling"
        there = known & ((true < -2.0) if falling else (true > 2.0))
        opposite = (sensed > 1.0) if falling else (sensed < -1.0)
        details = {"pairs_without_rates": float((~known).sum())}
        return _share(pairs.chosen(there), opposite[there], statistics, details, named="opposite_rates")

    return metric


def _share(
    pairs: PairedStudy,
    hits: _Bools,
    statistics: Statistics,
    details: Mapping[str, float] | None = None,
    *,
    named: str = "pairs_within",
) -> Estimate:
    """Return a share in percent with its interval by subject; the exact one, and the count, as details."""
    found = share_by_subject(
        hits,
        pairs.subjects,
        level=statistics.confidence_level,
        replicates=statistics.bootstrap_replicates,
        seed=statistics.seed,
    )
    exact = counted_share(int(hits.sum()), hits.size, level=statistics.confidence_level)
    every = dict(details or {})
    if hits.size:
        every |= {named: float(exact.count)}
        every |= {"exact_low": exact.low_percent, "exact_high": exact.high_percent}
    low, high = (None if end is None else 100.0 * end for end in (found.low, found.high))
    # of the counts: 100 times a share may miss a limit by the last bit
    return Estimate(exact.percent, exact.n, low, high, found.level, found.method, every)


def _metrics() -> dict[str, Metric]:
    metrics = readings_metrics("glucose", GLUCOSE)
    functions: dict[str, tuple[str, PairedMetric, str]] = {
        "mard": ("%", mean_absolute_percentage(GLUCOSE), "mean absolute relative difference, of the reference")
    }
    for name, (tolerance, labels) in _WITHIN.items():
        functions[name] = ("%", share_within_tolerance(tolerance), tolerance.source)
        for label in labels:
            worst = f"{tolerance.source}; the worst {label}"
            functions[f"{name}_worst_{label}"] = ("%", worst_share_within(tolerance, label), worst)
    for grid, (_, source) in _GRIDS.items():
        for zones in ("A", "AB"):
            functions[f"{grid}_{zones.lower()}"] = ("%", share_in_zones(grid, zones), source)
    for letter, *_ in ICGM_CONTROLS:
        functions[f"icgm_{letter.lower()}"] = ("%", icgm_control(letter), f"{_CFR}({letter})")
    for name, (letter, _) in _SAYS.items():
        unit, function = ("1", icgm_contradiction(name)) if letter in "HI" else ("%", icgm_rate(name))
        functions[f"icgm_{letter.lower()}"] = (unit, function, f"{_CFR}({letter})")
    for name, (unit, function, source) in functions.items():
        metrics[f"{GLUCOSE}_{name}"] = Metric("glucose", unit, function, (GLUCOSE,), source)
    return metrics


STUDY: Final = Study(_metrics(), GLUCOSE_FACTS, glucose_facts, PairedStudy.empty())
"""What evidence of the measurand `glucose` can be asked."""
