"""Usability of a study: what people answered to SUS, UEQ and NASA-TLX, each person counting once.

A score is made of one person's answers (`analysis.usability`); the group's figure is the mean of the persons,
with its interval by Student's t. Questionnaires with an item left out or an answer that cannot be are excluded
and listed. None of these questionnaires has a limit to pass: a score is compared with those of other systems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.estimates import Estimate
from analysis.metric import Fact, Metric, Study
from analysis.paired_study import Excluded
from analysis.sleep import group_mean
from analysis.study_subjects import SUBJECT_FACTS, known_of
from analysis.usability import (
    SUS_GRADES,
    TLX_SCALES,
    UEQ_SCALES,
    sus_grade,
    sus_scores,
    tlx_raw,
    tlx_weighted,
    ueq_inconsistent_scales,
    ueq_scales,
)
from protocols.clinical.criteria import Statistics
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import SignalError

_Floats: TypeAlias = NDArray[np.float64]

ITEMS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "sus": tuple(f"item_{n}" for n in range(1, 11)),
        "ueq": tuple(f"item_{n}" for n in range(1, 27)),
        "nasa_tlx": TLX_SCALES,
    }
)
"""Questionnaire -> its items, in their order."""
TLX_WEIGHTS: Final = tuple(f"weight_{scale}" for scale in TLX_SCALES)
"""How often each scale was chosen in the 15 comparisons; where none were made, only the raw index is known."""
_INCONSISTENT: Final = 3  # scales, from which on answers look random (the UEQ handbook; unconfirmed)


@dataclass(frozen=True, slots=True, eq=False)
class Questionnaire:
    """One person's answers to one questionnaire.

    Parameters
    ----------
    name
        One of `ITEMS`.
    subject, session
        Who answered, and on which occasion.
    answers
        In the order of `ITEMS`, NaN where an item was left out.
    weights
        Of the scales of NASA-TLX, in their order; empty where no comparisons were made.
    """

    name: str
    subject: str
    session: str
    answers: _Floats
    weights: _Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if self.name not in ITEMS or self.answers.shape != (len(ITEMS[self.name]),):
            known = ", ".join(f"{name} with {len(items)} items" for name, items in ITEMS.items())
            raise SignalError(
                f"questionnaire {self.name!r} with {self.answers.shape} answers, expected {known}"
            )


@dataclass(frozen=True, slots=True)
class UsabilityStudy:
    """Scores of a study, what is known of the subjects, and which questionnaires were left out.

    `scores` holds one value for each person by name of the score, `answered` the persons of each questionnaire.
    """

    scores: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: MappingProxyType({}))
    answered: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    facts: SubjectFacts = field(default_factory=lambda: MappingProxyType({}))
    excluded: tuple[Excluded, ...] = ()

    @classmethod
    def of_questionnaires(
        cls,
        questionnaires: Iterable[Questionnaire],
        facts: SubjectFacts = MappingProxyType({}),
        excluded: Iterable[Excluded] = (),
    ) -> UsabilityStudy:
        """Return the study of questionnaires; a person's scores on several occasions are averaged.

        Parameters
        ----------
        excluded
            What never became a questionnaire.
        """
        left_out = list(excluded)
        seen: set[tuple[str, str, str]] = set()
        collected: dict[str, dict[str, list[float]]] = {}
        answered: dict[str, dict[str, None]] = {}
        for number, one in enumerate(questionnaires, start=1):
            key = (one.name, one.subject, one.session)
            scores: dict[str, float] = {}
            reason = "the person answered it on this occasion before" if key in seen else ""
            if not reason:
                try:
                    scores = scores_of(one)
                except SignalError as error:
                    reason = f"an answer is impossible: {error}"
                else:
                    reason = "" if scores else "an item was not answered"
            if reason:
                left_out.append(Excluded(one.subject, one.session, number, one.name, reason))
                continue
            seen.add(key)
            answered.setdefault(one.name, {})[one.subject] = None
            for name, score in scores.items():
                collected.setdefault(name, {}).setdefault(one.subject, []).append(score)
        means = {
            name: {subject: float(np.mean(values)) for subject, values in by_subject.items()}
            for name, by_subject in collected.items()
        }
        return cls(means, {name: tuple(who) for name, who in answered.items()}, facts, tuple(left_out))


def scores_of(questionnaire: Questionnaire) -> dict[str, float]:
    """Return the scores of one questionnaire by name; a score that lacks its items is left out.

    Raises
    ------
    SignalError
        If an answer is none that can be given.
    """
    answers = questionnaire.answers
    if questionnaire.name == "sus":
        found = {"sus": sus_scores(answers)}
    elif questionnaire.name == "ueq":
        found = {f"ueq_{name}": scale for name, scale in ueq_scales(answers).items()}
        if np.isfinite(list(found.values())).any():
            random = ueq_inconsistent_scales(answers) >= _INCONSISTENT
            found["ueq_inconsistent"] = np.asarray(random, dtype=np.float64)
    else:
        found = {"nasa_tlx_raw": tlx_raw(answers)}
        if np.isfinite(found["nasa_tlx_raw"]):
            found |= {f"nasa_tlx_{s}": np.asarray(a) for s, a in zip(TLX_SCALES, answers, strict=True)}
        if questionnaire.weights.size:
            found["nasa_tlx_weighted"] = tlx_weighted(answers, questionnaire.weights)
    return {name: float(score) for name, score in found.items() if np.isfinite(score)}


def mean_score(name: str, least: float, most: float) -> Callable[[UsabilityStudy, Statistics], Estimate]:
    """Return the metric of the mean of the persons' scores, its interval kept within `least` to `most`."""

    def metric(study: UsabilityStudy, statistics: Statistics) -> Estimate:
        found = _mean(study, name, statistics)
        if found.low is None or found.high is None:
            return found
        low, high = max(least, found.low), min(most, found.high)
        return Estimate(found.value, found.n, low, high, found.level, found.method, found.details)

    return metric


def sus_mean_grade(end: str) -> Callable[[UsabilityStudy, Statistics], Estimate]:
    """Return the metric of the grade of the mean (`value`) or of the `low` or `high` end of its interval."""

    def metric(study: UsabilityStudy, statistics: Statistics) -> Estimate:
        found = _mean(study, "sus", statistics)
        score = getattr(found, end)
        names = [grade for grade, _ in SUS_GRADES]
        if score is None or not np.isfinite(score):
            return Estimate(float("nan"), found.n, method=found.method)
        grade = sus_grade(min(100.0, max(0.0, float(score))))
        return Estimate(float(names.index(grade) + 1), found.n, method=f"grade of a score of {score:.4g}")

    return metric


def share_inconsistent(study: UsabilityStudy, statistics: Statistics) -> Estimate:  # noqa: ARG001
    """Return the percentage of persons whose answers to the UEQ look random."""
    found = np.array(list(study.scores.get("ueq_inconsistent", {}).values()))
    value = 100.0 * float((found > 0.0).mean()) if found.size else float("nan")
    method = f"persons with {_INCONSISTENT} or more scales whose answers differ by more than 3"
    return Estimate(value, found.size, method=method)


def design_facts(study: UsabilityStudy, statistics: Statistics) -> dict[str, float]:  # noqa: ARG001
    """Return what the sample of persons is like."""
    everyone = {subject for subjects in study.answered.values() for subject in subjects}
    facts = {"subjects": float(len(everyone)), "excluded": float(len(study.excluded))}
    facts |= {f"{name}_subjects": float(len(study.answered.get(name, ()))) for name in ITEMS}
    facts["nasa_tlx_weighted_subjects"] = float(len(study.scores.get("nasa_tlx_weighted", {})))
    return facts | known_of(everyone, study.facts)


FACTS: Final[Mapping[str, Fact]] = MappingProxyType(
    {
        "subjects": Fact("persons with a score", title_fr="personnes avec un score"),
        "sus_subjects": Fact("persons with a score of SUS", title_fr="personnes avec un score SUS"),
        "ueq_subjects": Fact("persons with a scale of UEQ", title_fr="personnes avec une échelle UEQ"),
        "nasa_tlx_subjects": Fact(
            "persons with a score of NASA-TLX", title_fr="personnes avec un score NASA-TLX"
        ),
        "nasa_tlx_weighted_subjects": Fact(
            "persons with a weighted score of NASA-TLX", title_fr="personnes avec un score NASA-TLX pondéré"
        ),
        "excluded": Fact("questionnaires left out", title_fr="questionnaires écartés"),
        **SUBJECT_FACTS,
    }
)


def _mean(study: UsabilityStudy, name: str, statistics: Statistics) -> Estimate:
    scores = np.array(list(study.scores.get(name, {}).values()), dtype=np.float64)
    return group_mean(scores, level=statistics.confidence_level)


def _metrics() -> dict[str, Metric]:
    def of(function: Callable[[UsabilityStudy, Statistics], Estimate], source: str, unit: str = "1") -> Metric:
        return Metric("usability", unit, function, ("answers",), source)

    grades = tuple(grade for grade, _ in SUS_GRADES)
    brooke = "Brooke 1996, SUS: A quick and dirty usability scale"
    laugwitz = "Laugwitz, Held & Schrepp 2008, doi:10.1007/978-3-540-89350-9_6"
    hart = "Hart & Staveland 1988, doi:10.1016/S0166-4115(08)62386-9"
    metrics = {"sus_mean": of(mean_score("sus", 0.0, 100.0), brooke)}
    for name, end in (("grade", "value"), ("grade_low", "low"), ("grade_high", "high")):
        metrics[f"sus_{name}"] = Metric(
            "usability", "1", sus_mean_grade(end), ("answers",), "Lewis & Sauro 2018", grades
        )
    metrics |= {
        f"ueq_{scale}_mean": of(mean_score(f"ueq_{scale}", -3.0, 3.0), laugwitz) for scale in UEQ_SCALES
    }
    metrics["ueq_inconsistent_share"] = of(share_inconsistent, "UEQ handbook", "%")
    for name in ("raw", "weighted", *TLX_SCALES):
        metrics[f"nasa_tlx_{name}_mean"] = of(mean_score(f"nasa_tlx_{name}", 0.0, 100.0), hart)
    return metrics


USABILITY: Final = Study(_metrics(), FACTS, design_facts, UsabilityStudy())
"""What can be asked of questionnaires."""
