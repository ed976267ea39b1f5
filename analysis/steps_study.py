"""What a study of step counters can be asked: the error of bouts, condition by condition.

A pair is a bout: the steps that were counted by hand or from video, and those that the device counted in the
same span. Its label `condition` says how the subject moved. The error of a bout is in percent of its own steps,
so that a long bout weighs no more than a short one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.estimates import Estimate
from analysis.metric import Fact, Metric, Study
from analysis.paired_metrics import PairedMetric, estimated, readings_metrics
from analysis.paired_study import PairedStudy, facts_of, paired_facts, usable_by
from protocols.clinical.criteria import Statistics

CONDITIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"walking": ("walk", "walking"), "jogging": ("jog", "jogging"), "running": ("run", "running")}
)
"""Condition of CTA-2056 -> what a label may call it."""

_QUANTITY: Final = "steps"
_CTA: Final = "CTA-2056, mean over bouts, of the reference"


def condition_of(study: PairedStudy) -> NDArray[np.str_]:
    """Return the condition of every pair, one of `CONDITIONS`, empty where its label says none, shape (n,)."""
    labels = study.labels.get("condition", np.full(study.n_pairs, "", dtype="<U1"))
    conditions = np.full(study.n_pairs, "", dtype="<U16")
    for condition, words in CONDITIONS.items():
        conditions[np.isin(np.char.lower(labels), words)] = condition
    return conditions


def mape_in(condition: str) -> PairedMetric:
    """Return the metric of the mean absolute percentage error of the bouts in one condition.

    A bout without steps of the reference has no percentage and makes it NaN; `bouts_without_steps` counts them.
    """

    def metric(study: PairedStudy, statistics: Statistics) -> Estimate:
        pairs = usable_by(study.of(_QUANTITY), statistics)
        pairs = pairs.chosen(condition_of(pairs) == condition)
        reference = np.where(pairs.reference > 0, pairs.reference, np.nan)
        errors = 100.0 * pairs.differences / reference
        details = {}
        if pairs.n_pairs and np.isfinite(errors).all():
            details = {
                "mean_error_percent": float(errors.mean()),
                "largest_error_percent": float(errors[np.argmax(np.abs(errors))]),
                "fewest_steps": float(pairs.reference.min()),
            }
        sums = np.stack([np.ones(pairs.n_pairs), np.abs(errors)])
        return estimated(pairs, statistics, sums, _mean, scale="log", details=details)

    return metric


def steps_facts(study: PairedStudy, statistics: Statistics) -> dict[str, float]:
    """Return what a study's sample of bouts is like."""
    pairs = usable_by(study.of(_QUANTITY), statistics)
    conditions = condition_of(pairs)
    subjects = {
        condition: float(np.unique(pairs.subjects[conditions == condition]).size) for condition in CONDITIONS
    }
    return paired_facts(study, _QUANTITY, statistics) | {
        **{f"{condition}_subjects": n for condition, n in subjects.items()},
        "fewest_condition_subjects": min(subjects.values()),
        "unlabelled_bouts": float((conditions == "").sum()),
        "bouts_without_steps": float((pairs.reference == 0).sum()),
    }


def _mean(total: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(total[1] / total[0])


STUDY: Final = Study(
    {
        **readings_metrics("steps", _QUANTITY),
        **{
            f"steps_mape_{condition}": Metric("steps", "%", mape_in(condition), (_QUANTITY,), _CTA)
            for condition in CONDITIONS
        },
    },
    {
        **facts_of(_QUANTITY),
        "walking_subjects": Fact("subjects with a bout of walking", title_fr="sujets ayant marché"),
        "jogging_subjects": Fact("subjects with a bout of jogging", title_fr="sujets ayant trottiné"),
        "running_subjects": Fact("subjects with a bout of running", title_fr="sujets ayant couru"),
        "fewest_condition_subjects": Fact(
            "subjects in the condition that has fewest",
            title_fr="sujets dans la condition qui en a le moins",
        ),
        "unlabelled_bouts": Fact(
            "bouts that are neither walking, jogging nor running",
            title_fr="séquences qui ne sont ni marche, ni trot, ni course",
        ),
        "bouts_without_steps": Fact(
            "bouts in which the reference counted no step",
            title_fr="séquences où la référence n'a compté aucun pas",
        ),
    },
    steps_facts,
    PairedStudy.empty(),
)
"""What the measurand `steps` can be asked."""
