"""What a study of beats can be asked, as ANSI/AAMI EC57 and IEC 60601-2-47 report it: gross and average.

Gross figures are shares of all beats, episodes or seconds of all records together; average figures are means of
the records' own. Both matter: one record with many ectopic beats decides the gross figure alone. Intervals are
percentile bootstraps of subjects with all their records; where all counted alike, so that a bootstrap has
nothing to vary, the interval of a gross share is exact with the subjects as trials.

A figure of which the sample holds no case (no ventricular beat, no episode) has no value and n = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.beat_detection import RecordResult
from analysis.bootstrap import percentile_interval, resampled_sums
from analysis.detection_classes import CLASS_ROWS, ClassComparison, gross_classes
from analysis.detection_episodes import gross_episodes
from analysis.estimates import Estimate
from analysis.metric import Fact, Metric, Study
from analysis.proportions import clopper_pearson
from protocols.clinical.criteria import Statistics

_Records: TypeAlias = Sequence[RecordResult]
_Figure: TypeAlias = Callable[[_Records, Statistics], Estimate]
_Details: TypeAlias = Callable[[_Records], Mapping[str, float]]
Share: TypeAlias = Callable[[RecordResult], tuple[float, float] | None]
"""Part and whole of one record; None where it says nothing of the kind."""


def _no_details(records: _Records) -> Mapping[str, float]:  # noqa: ARG001
    return {}


def gross(share: Share, details: _Details = _no_details) -> _Figure:
    """Return the metric of a share of all records together, in percent, with its interval by subject."""

    def figure(records: _Records, statistics: Statistics) -> Estimate:
        counts, subjects = _counts(records, share)
        part, whole = counts.sum(axis=1)
        further = details(records)
        if not whole:
            return Estimate(math.nan, 0, method="nothing to count", details=further)
        value, n = 100.0 * float(part / whole), max(1, round(float(whole)))
        n_subjects = np.unique(subjects).size
        if n_subjects < 2:
            return Estimate(value, n, method="no interval: fewer than 2 records", details=further)
        level = statistics.confidence_level
        if part in (0.0, whole):
            successes = n_subjects if part else 0
            low, high = (100.0 * float(end) for end in clopper_pearson(successes, n_subjects, level=level))
            method = f"exact, {n_subjects} subjects as trials: all counted alike"
        else:
            low, high = _interval(counts, subjects, statistics)
            method = _method(n_subjects, len(subjects), statistics)
        return Estimate(value, n, low, high, level, method=method, details=further)

    return figure


def average(share: Share) -> _Figure:
    """Return the metric of the mean of the records' shares, in percent; records without the kind left out."""

    def of_scores(record: RecordResult) -> tuple[float, float] | None:
        counted = share(record)
        return (counted[0] / counted[1], 1.0) if counted and counted[1] else None

    return _mean_of(of_scores, "mean over records")


def median_offset(records: _Records, statistics: Statistics) -> Estimate:  # noqa: ARG001
    """Return the median of detected minus reference time, in ms, over all matched beats."""
    offsets_s = np.concatenate([np.empty(0), *(r.comparison.offsets_s for r in records)])
    value = 1000.0 * float(np.median(offsets_s)) if offsets_s.size else math.nan
    return Estimate(value, offsets_s.size, method="median over matched beats")


def jitter(records: _Records, statistics: Statistics) -> Estimate:  # noqa: ARG001
    """Return the standard deviation of detected minus reference time within records, in ms, pooled."""
    offsets_s = [r.comparison.offsets_s for r in records]
    degrees = sum(max(0, offsets.size - 1) for offsets in offsets_s)
    squares = sum(float(((offsets - offsets.mean()) ** 2).sum()) for offsets in offsets_s if offsets.size)
    value = 1000.0 * math.sqrt(squares / degrees) if degrees else math.nan
    return Estimate(value, degrees, method="pooled standard deviation within records")


def gross_heart_rate_error(records: _Records, statistics: Statistics) -> Estimate:  # noqa: ARG001
    """Return the root mean square of the normalised heart rate errors of all windows, in percent."""
    errors = np.concatenate([np.empty(0), *(r.heart_rates.normalised_percent for r in records)])
    value = float(np.sqrt(np.mean(errors**2))) if errors.size else math.nan
    method = "root mean square over windows of 10 s, each difference over its record's mean reference"
    return Estimate(value, errors.size, method=method)


def _rms(record: RecordResult) -> tuple[float, float] | None:
    value = record.heart_rates.rms_percent
    return None if math.isnan(value) else (value / 100.0, 1.0)


def _mean_of(score: Share, method: str) -> _Figure:
    def figure(records: _Records, statistics: Statistics) -> Estimate:
        counts, subjects = _counts(records, score)
        total, n = counts.sum(axis=1)
        if not n:
            return Estimate(math.nan, 0, method=method)
        value = 100.0 * float(total / n)
        n_subjects = np.unique(subjects).size
        if n_subjects < 2:
            return Estimate(value, int(n), method=f"{method}; no interval: fewer than 2 records")
        low, high = _interval(counts, subjects, statistics)
        said = f"{method}; {_method(n_subjects, len(subjects), statistics)}"
        return Estimate(value, int(n), low, high, statistics.confidence_level, method=said)

    return figure


def _counts(records: _Records, share: Share) -> tuple[NDArray[np.float64], list[str]]:
    """Return part and whole of the records that have any, shape (2, n), and whose they are."""
    counted = [(share(record), record.subject or f"\0{k}") for k, record in enumerate(records)]
    found = [(counts, subject) for counts, subject in counted if counts is not None and counts[1]]
    counts = np.array([counts for counts, _ in found], dtype=np.float64).reshape(-1, 2).T
    return counts, [subject for _, subject in found]


def _interval(
    counts: NDArray[np.float64], subjects: Sequence[str], statistics: Statistics
) -> tuple[float, float]:
    sums = resampled_sums(
        counts, np.array(subjects), replicates=statistics.bootstrap_replicates, seed=statistics.seed
    )
    return percentile_interval(100.0 * sums[0] / sums[1], statistics.confidence_level)


def _method(n_subjects: int, n_records: int, statistics: Statistics) -> str:
    of = f"{n_records} records" if n_subjects == n_records else f"{n_subjects} subjects with all their records"
    return f"percentile bootstrap of {of}, {statistics.bootstrap_replicates} replicates, seed {statistics.seed}"


def _found(record: RecordResult) -> tuple[float, float]:
    return record.comparison.true_positives, record.n_reference


def _right(record: RecordResult) -> tuple[float, float]:
    matched = record.comparison.true_positives
    return matched, matched + record.comparison.false_positives


def _of_class(letter: str, name: str) -> Share:
    return lambda record: None if record.classes is None else record.classes.shares(letter)[name]


def _of_episodes(kind: str, name: str) -> Share:
    def share(record: RecordResult) -> tuple[float, float] | None:
        compared = getattr(record, kind)
        return None if compared is None else compared.shares()[name]

    return share


def _with_rate(record: RecordResult) -> tuple[float, float]:
    rates = record.heart_rates
    return float(np.isfinite(rates.test_per_min).sum()), float(rates.n_windows)


def _totals(records: _Records) -> dict[str, float]:
    comparisons = [record.comparison for record in records]
    return {
        "true_positives": float(sum(c.true_positives for c in comparisons)),
        "false_negatives": float(sum(c.false_negatives for c in comparisons)),
        "false_positives": float(sum(c.false_positives for c in comparisons)),
    }


def class_table(comparison: ClassComparison) -> dict[str, float]:
    """Return the class matrix cell by cell: `Nv` are normal beats called ventricular, `Vo` missed ventricular.

    `On` are detections without a beat; columns and rows of what was switched off (x) only where there is any.
    """
    cells = {
        f"{row}{column.lower()}": float(comparison.count(row, column))
        for row in CLASS_ROWS
        for column in CLASS_ROWS
        if not (row in "OX" and column in "OX")
    }
    return {name: n for name, n in cells.items() if n or not {"X", "x"} & set(name)}


def _matrix(records: _Records) -> dict[str, float]:
    told = [record.classes for record in records if record.classes is not None]
    return class_table(gross_classes(told)) if told else {}


def _episode_totals(kind: str) -> _Details:
    def totals(records: _Records) -> dict[str, float]:
        compared = [c for record in records if (c := getattr(record, kind)) is not None]
        if not compared:
            return {}
        total = gross_episodes(compared)
        return {
            "reference_episodes": float(total.reference_episodes),
            "found_episodes": float(total.found_episodes),
            "test_episodes": float(total.test_episodes),
            "true_episodes": float(total.true_episodes),
            "reference_s": round(total.reference_s, 3),
            "test_s": round(total.test_s, 3),
            "overlap_s": round(total.overlap_s, 3),
        }

    return totals


_BXB: Final = "ANSI/AAMI EC57, as bxb of the WFDB software does it"
_EPICMP: Final = "ANSI/AAMI EC57, as epicmp of the WFDB software does it"
_MXM: Final = "ANSI/AAMI EC57, as mxm of the WFDB software norms it; windows of 10 s"
_LOST: Final = 0.75  # of the time: a contact that is lost for good, and not noise that comes and goes
_CLASSES: Final = {"veb": "V", "sveb": "S"}
_EPISODES: Final = {"af": "atrial_fibrillation", "vf": "ventricular_fibrillation"}
_OF_CLASSES: Final = ("sensitivity", "positive_predictivity", "false_positive_rate")
_OF_EPISODES: Final = (
    "episode_sensitivity",
    "episode_positive_predictivity",
    "duration_sensitivity",
    "duration_positive_predictivity",
)


def _both(name: str, share: Share, source: str, details: _Details = _no_details) -> dict[str, Metric]:
    """Return the metrics of a share, gross and average."""
    return {
        f"{name}_gross": Metric("qrs", "%", gross(share, details), ("ecg",), source),
        f"{name}_average": Metric("qrs", "%", average(share), ("ecg",), source),
    }


def _metrics() -> dict[str, Metric]:
    metrics: dict[str, Metric] = {
        **_both("qrs_sensitivity", _found, _BXB, _totals),
        **_both("qrs_positive_predictivity", _right, _BXB),
        "qrs_offset_median": Metric("qrs", "ms", median_offset, ("ecg",), "detected minus reference"),
        "qrs_jitter": Metric("qrs", "ms", jitter, ("ecg",), "standard deviation within records"),
    }
    for prefix, letter in _CLASSES.items():
        for name in _OF_CLASSES:
            details: _Details = _matrix if (prefix, name) == ("veb", "sensitivity") else _no_details
            metrics |= _both(f"{prefix}_{name}", _of_class(letter, name), _BXB, details)
    for prefix, kind in _EPISODES.items():
        for name in _OF_EPISODES:
            further: _Details = _episode_totals(kind) if name == "episode_sensitivity" else _no_details
            metrics |= _both(f"{prefix}_{name}", _of_episodes(kind, name), _EPICMP, further)
    return metrics | {
        "qrs_heart_rate_error_gross": Metric("qrs", "%", gross_heart_rate_error, ("ecg",), _MXM),
        "qrs_heart_rate_error_average": Metric(
            "qrs", "%", _mean_of(_rms, "mean of the records' root mean squares"), ("ecg",), _MXM
        ),
        "qrs_heart_rate_read_rate": Metric(
            "qrs", "%", gross(_with_rate), ("ecg",), "share of windows with a rate of the test's side"
        ),
    }


def _without_signal(record: RecordResult) -> bool:
    """Return whether the test's side found no beat where it had hardly any signal to find one in."""
    found = record.comparison.true_positives + record.comparison.false_positives
    return not found and 0 < _LOST * record.judged_s <= record.undetermined_s


def design_facts(records: _Records, statistics: Statistics) -> dict[str, float]:  # noqa: ARG001
    """Return what the sample of a study is like: records, beats and episodes of the reference, poor signal."""
    facts = {
        "records": float(sum(record.n_reference > 0 for record in records)),
        "subjects": float(len({record.subject or f"\0{k}" for k, record in enumerate(records)})),
        "records_without_beats": float(sum(record.n_reference == 0 for record in records)),
        "records_without_signal": float(sum(map(_without_signal, records))),
        "paced_records": float(sum(record.paced for record in records)),
        "reference_beats": float(sum(record.n_reference for record in records)),
    }
    told = [record.classes for record in records if record.classes is not None]
    if told:
        total = gross_classes(told)
        facts |= {
            "reference_ventricular_beats": float(total.count("V", "NSVFQOX")),
            "reference_supraventricular_beats": float(total.count("S", "NSVFQOX")),
        }
    for prefix, kind in _EPISODES.items():
        compared = [c for record in records if (c := getattr(record, kind)) is not None]
        if compared:
            facts[f"reference_{prefix}_episodes"] = float(sum(c.reference_episodes for c in compared))
    judged_s = sum(record.judged_s for record in records)
    undetermined_s = sum(record.undetermined_s for record in records)
    facts["undetermined_percent"] = 100.0 * undetermined_s / judged_s if judged_s else 0.0
    return facts


STUDY: Final = Study(
    _metrics(),
    {
        "records": Fact(
            "records with reference beats after the learning time",
            title_fr="enregistrements avec des battements de référence après l'apprentissage",
        ),
        "subjects": Fact("subjects, or records of which none is named", title_fr="sujets, ou enregistrements"),
        "records_without_beats": Fact(
            "records without reference beats after the learning time",
            title_fr="enregistrements sans battement de référence après l'apprentissage",
        ),
        "records_without_signal": Fact(
            "records in which nothing was found and the lead was missing or too poor",
            title_fr="enregistrements où rien n'a été détecté, dérivation manquante ou de qualité trop faible",
        ),
        "paced_records": Fact(
            "records with paced beats", title_fr="enregistrements avec des battements stimulés"
        ),
        "reference_beats": Fact("reference beats", title_fr="battements de référence"),
        "reference_ventricular_beats": Fact(
            "ventricular ectopic beats of the reference",
            title_fr="battements ectopiques ventriculaires de la référence",
        ),
        "reference_supraventricular_beats": Fact(
            "supraventricular ectopic beats of the reference",
            title_fr="battements ectopiques supraventriculaires de la référence",
        ),
        "reference_af_episodes": Fact(
            "episodes of atrial fibrillation of the reference",
            title_fr="épisodes de fibrillation atriale de la référence",
        ),
        "reference_vf_episodes": Fact(
            "episodes of ventricular fibrillation or flutter of the reference",
            title_fr="épisodes de fibrillation ou de flutter ventriculaires de la référence",
        ),
        "undetermined_percent": Fact(
            "time that was missing or too poor to judge",
            "%",
            title_fr="temps manquant ou de qualité trop faible",
        ),
    },
    design_facts,
    (),
)
"""What the measurand `qrs` can be asked."""
