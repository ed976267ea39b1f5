"""What a study of a blood pressure monitor can be asked: accuracy, grades, stability and changes.

Figures are those of `pressure_accuracy`, `continuous_pressure` and `pressure_grades`, of systolic and diastolic
pressure each. Most are functions of sums over pairs, so that a bootstrap of subjects gives their interval
without touching the pairs again. Grades are of both pressures together: the worst decides.

A label `phase` of the pairs tells what they are for: `accuracy` (also without a phase), `stability` or
`change`. A change is from the same pair's columns `reference_baseline` and `test_baseline`. A label `category`
tells which category of pressure a pair is of; without it, the reference tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.continuous_pressure import CHANGE_THRESHOLDS_MMHG
from analysis.estimates import Estimate
from analysis.metric import Metric, Study
from analysis.paired_metrics import PairedMetric, estimated, readings_metrics, share_within
from analysis.paired_study import PLAUSIBLE, PairedStudy, usable_by
from analysis.pressure_accuracy import invasive_errors, subject_sd_limit_mmhg
from analysis.pressure_facts import PRESSURE_FACTS, PRESSURES, accuracy_pairs, independent_pairs, pressure_facts
from analysis.pressure_grades import (
    ESH_2010_TWO_OF,
    GRADES,
    WITHIN_MMHG,
    PressureGrades,
    pressure_grades,
    worst_grade,
)
from analysis.pressure_reference import nearer_errors
from protocols.clinical.criteria import Statistics

_Floats: TypeAlias = NDArray[np.float64]
_MMHG: Final = PLAUSIBLE["sbp"][2]
_ISO_2: Final = "ISO 81060-2:2018 (secondary)"
_ISO_3: Final = "ISO 81060-3:2022 (secondary)"
_ESH: Final = "ESH International Protocol 2010 (unconfirmed)"

CATEGORY_EDGES_MMHG: Final[Mapping[str, tuple[float, ...]]] = MappingProxyType(
    {"sbp": (120.0, 130.0, 140.0), "dbp": (80.0, 90.0)}
)
"""Where elevated pressure (systolic only) and hypertension of stages 1 and 2 begin.

ACC/AHA 2017, doi:10.1161/HYP.0000000000000065. That IEEE 1708-2025 takes these is not known to us (lab)."""


def of_accuracy(metric: PairedMetric) -> PairedMetric:
    """Return a metric of the pairs that tell of accuracy alone."""
    return lambda study, statistics: metric(accuracy_pairs(study), statistics)


def absolute_mean_error(quantity: str) -> PairedMetric:
    """Return the metric of the absolute mean error."""
    return _of_pairs(
        quantity,
        lambda p: (p, np.stack([_ones(p), p.differences])),
        lambda t: np.abs(t[1] / t[0]),
        scale=None,
    )


def sd_of_subject_means(quantity: str) -> PairedMetric:
    """Return the metric of the standard deviation of the subjects' mean errors about the mean of all pairs."""

    def value(total: _Floats) -> _Floats:
        n, error, subjects, means, squares = total
        mean = error / n
        spread = np.maximum(squares - 2.0 * mean * means + subjects * mean**2, 0.0)
        return np.asarray(np.sqrt(spread / np.where(subjects > 1, subjects - 1, np.nan)))

    def sums(pairs: PairedStudy) -> tuple[PairedStudy, _Floats]:
        sizes, means = _of_subjects(pairs)
        return pairs, np.stack([_ones(pairs), pairs.differences, 1.0 / sizes, means / sizes, means**2 / sizes])

    return _of_pairs(quantity, sums, value)


def limit_of_subject_means(quantity: str) -> PairedMetric:
    """Return the metric of what table 1 of ISO 81060-2 allows at the mean error; NaN above 5.0."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = _usable(study, quantity, statistics)
        mean = float(pairs.differences.mean()) if pairs.n_pairs else float("nan")
        method = "table 1 of ISO 81060-2 at the absolute mean error, rounded to 0.1 mmHg, halves up"
        return Estimate(subject_sd_limit_mmhg(mean), pairs.n_pairs, method=method)

    return metric


def invasive(quantity: str, value: Callable[[_Floats], _Floats]) -> PairedMetric:
    """Return a metric of errors against an arterial line, 0 within its mean +- SD; needs the SD of a pair."""

    def sums(pairs: PairedStudy) -> tuple[PairedStudy, _Floats]:
        sd = pairs.columns.get("reference_sd", np.full(pairs.n_pairs, np.nan))
        pairs, sd = pairs.chosen(sd >= 0.0), sd[sd >= 0.0]
        errors = invasive_errors(pairs.test, pairs.reference, sd)
        return pairs, np.stack([_ones(pairs), errors, errors**2])

    return _of_pairs(quantity, sums, value)


def corrected_sd(quantity: str, phase: str = "accuracy") -> PairedMetric:
    """Return the metric of s_corr, the root of the variance between plus within subjects, of one phase."""
    part = accuracy_pairs if phase == "accuracy" else lambda study: _of_phase(study, phase)

    def value(total: _Floats) -> _Floats:
        n, error, squares, of_means, subjects, sizes = total
        within = (squares - of_means) / np.where(n > subjects, n - subjects, np.nan)
        degrees = np.where(subjects > 1, subjects - 1, np.nan)
        size = (n - sizes / n) / degrees
        between = ((of_means - error**2 / n) / degrees - within) / size
        return np.asarray(np.sqrt(np.maximum(between, 0.0) + np.maximum(within, 0.0)))

    def sums(pairs: PairedStudy) -> tuple[PairedStudy, _Floats]:
        sizes, means = _of_subjects(pairs)
        error = pairs.differences
        return pairs, np.stack([_ones(pairs), error, error**2, means**2, 1.0 / sizes, sizes])

    return _of_pairs(quantity, sums, value, part)


def worth_of_pairs(quantity: str) -> PairedMetric:
    """Return the metric of the number of independent pairs."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = _usable(study, quantity, statistics)
        return Estimate(independent_pairs(pairs), pairs.n_pairs, method="k (1 + (1 - ICC) (r - 1))")

    return metric


def change_error(quantity: str, percentile: float) -> PairedMetric:
    """Return the metric of a percentile of each subject's errors of changes, the mean over subjects."""
    threshold = CHANGE_THRESHOLDS_MMHG[quantity]

    def sums(pairs: PairedStudy) -> tuple[PairedStudy, _Floats]:
        none = np.full(pairs.n_pairs, np.nan)
        changes = (
            values - pairs.columns.get(f"{which}_baseline", none)
            for which, values in (("test", pairs.test), ("reference", pairs.reference))
        )
        test, reference = changes
        large = np.abs(reference) >= threshold
        large &= ~np.isnan(test)
        pairs = pairs.chosen(large)
        errors = 100.0 * np.abs(test - reference)[large] / np.abs(reference)[large]
        numbers = np.unique(pairs.subjects, return_inverse=True)[1]
        # one percentile for each subject, of as many errors as the subject has
        figures = np.array([np.percentile(errors[numbers == k], percentile) for k in np.unique(numbers)])
        sizes = np.bincount(numbers)[numbers]
        return pairs, np.stack([1.0 / sizes, figures[numbers] / sizes if figures.size else sizes])

    def part(study: PairedStudy) -> PairedStudy:
        return study.chosen(_phases(study) != "stability")

    return _of_pairs(quantity, sums, lambda t: t[1] / t[0], part)


def grade(choose: Callable[[PressureGrades], str], *quantities: str) -> PairedMetric:
    """Return the metric of the worst grade of the quantities, 1 for A; NaN where one has no pairs."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        n, grades, details = 0, [], {}
        for quantity in quantities:
            pairs = _usable(study, quantity, statistics)
            found = pressure_grades(pairs.test, pairs.reference)
            n += pairs.n_pairs
            grades.append(choose(found))
            details[f"{quantity}_grade"] = _number(grades[-1])
        return Estimate(_number(worst_grade(grades)), n, method="the worst grade decides", details=details)

    return metric


def grade_of_categories(study: PairedStudy, statistics: Statistics) -> Estimate:
    """Return the worst grade of IEEE 1708-2025 among pressures and their categories; NaN if one has no pairs.

    The pairs of a pressure all together are graded as well. A category without pairs is not graded; how many
    pairs each has is among the details.
    """
    n, grades, details = 0, [], {}
    for quantity in PRESSURES:
        pairs = _usable(study, quantity, statistics)
        n += pairs.n_pairs
        cells = [("all", pairs)]
        categories = _categories(pairs, quantity)
        cells += [(name, pairs.chosen(categories == name)) for name in np.unique(categories).tolist()]
        for name, cell in cells:
            found = pressure_grades(cell.test, cell.reference)
            grades.append(found.ieee_2025)
            details[f"{quantity}_{name}_n"] = float(cell.n_pairs)
            details[f"{quantity}_{name}_mad"] = found.mad
            details[f"{quantity}_{name}_grade"] = _number(found.ieee_2025)
    return Estimate(_number(worst_grade(grades)), n, method="the worst cell decides", details=details)


def esh_count(quantity: str, count: Callable[[PairedStudy], float]) -> PairedMetric:
    """Return a count of the ESH International Protocol; NaN without pairs."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = _usable(study, quantity, statistics)
        value = count(pairs) if pairs.n_pairs else float("nan")
        method = "against the nearer of the readings before and after, where both are known"
        return Estimate(value, pairs.n_pairs, method=method)

    return metric


def within_count(limit: float) -> Callable[[PairedStudy], float]:
    """Return the number of pairs within `limit` mmHg, inclusive."""
    return lambda pairs: float(_near(pairs, limit).sum())


def two_of_reached(pairs: PairedStudy) -> float:
    """Return how many of the three counts of part 1 reach what two of them have to."""
    counts = (within_count(limit)(pairs) for limit in WITHIN_MMHG)
    return float(sum(count >= least for count, least in zip(counts, ESH_2010_TWO_OF, strict=True)))


def subjects_near(least: int, most: int) -> Callable[[PairedStudy], float]:
    """Return the number of subjects with `least` to `most` pairs within 5 mmHg."""

    def count(pairs: PairedStudy) -> float:
        numbers = np.unique(pairs.subjects, return_inverse=True)[1]
        near = np.bincount(numbers, weights=_near(pairs, WITHIN_MMHG[0]))
        return float(((near >= least) & (near <= most)).sum())

    return count


def _near(pairs: PairedStudy, limit: float) -> NDArray[np.bool_]:
    return np.asarray(np.abs(nearer_errors(pairs)) <= limit + 1e-9)


def _of_pairs(
    quantity: str,
    sums: Callable[[PairedStudy], tuple[PairedStudy, _Floats]],
    value: Callable[[_Floats], _Floats],
    part: Callable[[PairedStudy], PairedStudy] = accuracy_pairs,
    *,
    scale: str | None = "log",
) -> PairedMetric:
    """Return a metric that is a function of sums over the pairs that `sums` keeps of `part`."""

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs, summed = sums(usable_by(part(study).of(quantity), statistics))
        return estimated(pairs, statistics, summed, value, scale=scale)

    return metric


def _usable(study: PairedStudy, quantity: str, statistics: Statistics) -> PairedStudy:
    return usable_by(accuracy_pairs(study).of(quantity), statistics)


def _phases(study: PairedStudy) -> NDArray[np.str_]:
    return study.labels.get("phase", np.full(study.n_pairs, ""))


def _of_phase(study: PairedStudy, phase: str) -> PairedStudy:
    return study.chosen(_phases(study) == phase)


def _of_subjects(pairs: PairedStudy) -> tuple[_Floats, _Floats]:
    """Return for each pair how many its subject has, and the mean of the subject's errors."""
    numbers = np.unique(pairs.subjects, return_inverse=True)[1]
    sizes = np.bincount(numbers).astype(np.float64)
    return sizes[numbers], (np.bincount(numbers, weights=pairs.differences) / sizes)[numbers]


def _categories(pairs: PairedStudy, quantity: str) -> NDArray[np.str_]:
    stated = pairs.labels.get("category", np.full(pairs.n_pairs, ""))
    edges = CATEGORY_EDGES_MMHG[quantity]
    names = [f"below_{edges[0]:g}", *(f"from_{edge:g}" for edge in edges)]
    told = np.array(names)[np.searchsorted(np.array(edges), pairs.reference, side="right")]
    return np.where(stated == "", told, stated)


def _number(letter: str) -> float:
    return float(GRADES.index(letter) + 1) if letter else float("nan")


def _ones(pairs: PairedStudy) -> _Floats:
    return np.ones(pairs.n_pairs)


def _mean(total: _Floats) -> _Floats:
    return np.asarray(total[1] / total[0])


def _sd(total: _Floats) -> _Floats:
    spread = np.maximum(total[2] - total[1] ** 2 / total[0], 0.0)
    return np.asarray(np.sqrt(spread / np.where(total[0] > 1, total[0] - 1, np.nan)))


def _metrics() -> dict[str, Metric]:
    metrics: dict[str, Metric] = {}
    for quantity in PRESSURES:
        functions: dict[str, tuple[str, PairedMetric, str]] = {
            "abs_bias": (_MMHG, absolute_mean_error(quantity), f"{_ISO_2}, criterion 1"),
            "subject_sd": (_MMHG, sd_of_subject_means(quantity), f"{_ISO_2}, criterion 2"),
            "subject_sd_limit": (_MMHG, limit_of_subject_means(quantity), f"{_ISO_2}, table 1"),
            "invasive_bias": (_MMHG, invasive(quantity, _mean), _ISO_2),
            "invasive_abs_bias": (_MMHG, invasive(quantity, lambda t: np.abs(_mean(t))), _ISO_2),
            "invasive_sd": (_MMHG, invasive(quantity, _sd), _ISO_2),
            "s_corr": (_MMHG, corrected_sd(quantity), _ISO_3),
            "n_independent": ("1", worth_of_pairs(quantity), _ISO_3),
            "stability_s_corr": (_MMHG, corrected_sd(quantity, "stability"), _ISO_3),
            "change_error_median": ("%", change_error(quantity, 50.0), _ISO_3),
            "change_error_p85": ("%", change_error(quantity, 85.0), _ISO_3),
            "esh_two_of_reached": ("1", esh_count(quantity, two_of_reached), f"{_ESH}, part 1"),
            "esh_subjects_with_two": ("1", esh_count(quantity, subjects_near(2, 3)), f"{_ESH}, part 2"),
            "esh_subjects_with_none": ("1", esh_count(quantity, subjects_near(0, 0)), f"{_ESH}, part 2"),
        }
        for limit in WITHIN_MMHG:
            within = of_accuracy(share_within(quantity, limit))
            functions[f"within_{limit:g}"] = ("%", within, "share of differences, edge included")
            counted = esh_count(quantity, within_count(limit))
            functions[f"esh_within_{limit:g}"] = ("1", counted, f"{_ESH}, part 1")
        for name, metric in readings_metrics("blood_pressure", quantity).items():
            metrics[name] = Metric(
                "blood_pressure", metric.unit, of_accuracy(metric.function), metric.channels, metric.source
            )
        for name, (unit, function, source) in functions.items():
            metrics[f"{quantity}_{name}"] = Metric("blood_pressure", unit, function, (quantity,), source)
    for quantities in (("sbp",), ("dbp",), ("sbp", "dbp")):
        of = f"{quantities[0]}_" if len(quantities) == 1 else ""
        metrics[f"{of}bhs_grade"] = _graded(
            grade(lambda g: g.bhs, *quantities), "O'Brien et al. 1993", quantities
        )
        metrics[f"{of}ieee_1708_2014_grade"] = _graded(
            grade(lambda g: g.ieee_2014, *quantities), "IEEE 1708-2014", quantities
        )
    metrics["ieee_1708_2025_grade"] = _graded(grade_of_categories, "IEEE 1708-2025", tuple(PRESSURES))
    return metrics


def _graded(function: PairedMetric, source: str, quantities: tuple[str, ...]) -> Metric:
    return Metric("blood_pressure", "1", function, quantities, source, grades=GRADES)


PRESSURE_STUDY: Final = Study(_metrics(), PRESSURE_FACTS, pressure_facts, PairedStudy.empty())
"""What evidence of the measurand `blood_pressure` can be asked."""
