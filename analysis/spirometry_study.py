"""Spirometry of a study: whether its sessions of forced expirations are acceptable and repeat; their grades.

FEV1 and FVC are judged apart, each session by the limits of its subject's age, after the ATS/ERS standard of
2019 as `analysis.spirometry` has it. Too few acceptable manoeuvres say that a session cannot tell whether its
values repeat: that is a fact about the sample. Whether the two best values agree is the criterion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from analysis.counted_share import counted_share
from analysis.estimates import Estimate
from analysis.metric import Fact, Metric, Study
from analysis.paired_study import Excluded
from analysis.spirometry import (
    PRESCHOOL_YEARS,
    Expiration,
    SpirometryGrades,
    acceptable,
    grade_spirometry,
    repeatability_l,
)
from analysis.study_subjects import SUBJECT_FACTS, known_of
from analysis.subject_means import mean_of_subjects
from protocols.clinical.criteria import Statistics
from protocols.clinical.subjects import SubjectFacts

GRADES: Final = ("A", "B", "C", "D", "E", "U", "F")
"""The best first; U: usable values only, F: none."""
CAPACITIES: Final = ("fev1", "fvc")
LARGEST_L: Final = 12.0
"""Vital capacity that no living person has; set by the lab."""
_ATS_ERS: Final = "ATS/ERS 2019, doi:10.1164/rccm.201908-1590ST"


@dataclass(frozen=True, slots=True)
class Manoeuvre:
    """One forced expiration; `usable` is what the operator says of it, True where nothing was said."""

    name: str
    expiration: Expiration
    usable: bool = True


@dataclass(frozen=True, slots=True)
class Spirogram:
    """The manoeuvres of one session of a subject, all before or all after a bronchodilator.

    `age_years` is NaN where it is not known with the session.
    """

    subject: str
    session: str
    manoeuvres: tuple[Manoeuvre, ...]
    age_years: float = float("nan")


@dataclass(frozen=True, slots=True)
class GradedSession:
    """What one session came to: its grades, and which of its manoeuvres are acceptable."""

    spirogram: Spirogram
    grades: SpirometryGrades
    acceptable_fev1: tuple[bool, ...]
    acceptable_fvc: tuple[bool, ...]

    def grade(self, capacity: str) -> str:
        """Return the grade of `fev1` or `fvc`."""
        return str(getattr(self.grades, capacity))

    def best_l(self, capacity: str) -> float:
        """Return the best value in L; NaN without any."""
        return float(getattr(self.grades, f"{capacity}_l"))

    def difference_l(self, capacity: str) -> float:
        """Return the difference of the two best acceptable values in L; NaN below two."""
        return float(getattr(self.grades, f"{capacity}_difference_l"))

    def allowed_l(self, capacity: str) -> float:
        """Return how large that difference may be at the subject's age, in L."""
        return repeatability_l(self.best_l(capacity), age_years=self.spirogram.age_years)


@dataclass(frozen=True, slots=True)
class SpirometryStudy:
    """Graded sessions of a study, what is known of the subjects, and what was left out.

    `n_poor` counts manoeuvres whose signal gave no values.
    """

    sessions: tuple[GradedSession, ...] = ()
    facts: SubjectFacts = field(default_factory=lambda: MappingProxyType({}))
    excluded: tuple[Excluded, ...] = ()
    n_poor: int = 0

    @classmethod
    def of_sessions(
        cls,
        spirograms: Iterable[Spirogram],
        facts: SubjectFacts = MappingProxyType({}),
        excluded: Iterable[Excluded] = (),
    ) -> SpirometryStudy:
        """Return the study of sessions, each subject's age taken from the facts where the session has none.

        Parameters
        ----------
        excluded
            What never came into a session.
        """
        left_out, graded, n_poor = list(excluded), [], 0
        for spirogram in spirograms:
            age_years = spirogram.age_years
            if not np.isfinite(age_years):
                age_years = float(facts.get(spirogram.subject, {}).get("age_years", np.nan))
            reasons = [_fault(manoeuvre.expiration) for manoeuvre in spirogram.manoeuvres]
            n_poor += reasons.count(_NO_VALUE)
            left_out += [
                _left_out(spirogram, number, reason) for number, reason in enumerate(reasons, start=1) if reason
            ]
            if not age_years > 0.0:
                left_out.append(_left_out(spirogram, 0, "the subject's age is not known"))
                continue
            kept = tuple(m for m, why in zip(spirogram.manoeuvres, reasons, strict=True) if not why)
            graded.append(_graded(Spirogram(spirogram.subject, spirogram.session, kept, age_years)))
        return cls(tuple(graded), facts, tuple(left_out), n_poor)


def worst_grade(capacity: str) -> Callable[[SpirometryStudy, Statistics], Estimate]:
    """Return the metric of the worst grade among the sessions, as its place in `GRADES` from 1."""

    def metric(study: SpirometryStudy, statistics: Statistics) -> Estimate:  # noqa: ARG001
        places = [GRADES.index(session.grade(capacity)) + 1 for session in study.sessions]
        counts = {f"grade_{grade}": float(places.count(n)) for n, grade in enumerate(GRADES, start=1)}
        details = {name: count for name, count in counts.items() if count}
        worst = float(max(places)) if places else float("nan")
        return Estimate(
            worst, len(places), method="worst grade of the sessions", details=details, n_poor=study.n_poor
        )

    return metric


def difference(capacity: str, *, allowed: bool = False) -> Callable[[SpirometryStudy, Statistics], Estimate]:
    """Return the metric of the difference of the two best values, or of what is `allowed` at that age, in L.

    Of several sessions it is the one whose difference is the largest part of what is allowed. A session without
    two acceptable manoeuvres has none: while all others agree well enough, nothing is known of the worst.
    """

    def metric(study: SpirometryStudy, statistics: Statistics) -> Estimate:  # noqa: ARG001
        known = [s for s in study.sessions if np.isfinite(s.difference_l(capacity))]
        lacking = len(study.sessions) - len(known)
        if not known:
            method = "no session has two acceptable manoeuvres"
            return Estimate(float("nan"), 0, method=method, n_poor=lacking)
        worst = max(known, key=lambda s: s.difference_l(capacity) / s.allowed_l(capacity))
        value = worst.allowed_l(capacity) if allowed else worst.difference_l(capacity)
        if lacking and not allowed and value <= worst.allowed_l(capacity):
            method = f"{lacking} of {len(study.sessions)} sessions have no two acceptable manoeuvres"
            return Estimate(float("nan"), len(known), method=method, n_poor=lacking)
        method = (
            "between the two best acceptable values, of the session where it is the largest part of what is "
            "allowed at the subject's age"
        )
        details = {"age_years": worst.spirogram.age_years, "best_l": worst.best_l(capacity)}
        return Estimate(value, len(known), method=method, details=details, n_poor=lacking)

    return metric


def repeatable_share(capacity: str) -> Callable[[SpirometryStudy, Statistics], Estimate]:
    """Return the metric of the percentage of sessions whose two best acceptable values agree well enough."""

    def metric(study: SpirometryStudy, statistics: Statistics) -> Estimate:
        agree = [
            s.difference_l(capacity) <= s.allowed_l(capacity) + 1e-9
            for s in study.sessions
            if np.isfinite(s.difference_l(capacity))
        ]
        n = len(study.sessions)
        if not n:
            return Estimate(float("nan"), 0, method="no session was graded", n_poor=study.n_poor)
        level = statistics.confidence_level
        share = counted_share(sum(agree), n, level=level)
        method = "sessions with two acceptable values that agree, of all graded; Clopper-Pearson, by session"
        details = {"sessions_with_two_acceptable": float(len(agree))}
        return Estimate(
            share.percent, n, share.low_percent, share.high_percent, level, method, details, study.n_poor
        )

    return metric


def best(capacity: str) -> Callable[[SpirometryStudy, Statistics], Estimate]:
    """Return the metric of the best value: the mean over subjects of their sessions' means, in L."""

    def metric(study: SpirometryStudy, statistics: Statistics) -> Estimate:
        known = [s for s in study.sessions if np.isfinite(s.best_l(capacity))]
        if not known:
            return Estimate(float("nan"), 0, method="no session has a usable value", n_poor=study.n_poor)
        found = mean_of_subjects(
            [s.best_l(capacity) for s in known],
            [s.spirogram.subject for s in known],
            level=statistics.confidence_level,
            scale="log",
        )
        return replace(found, n_poor=study.n_poor)

    return metric


def design_facts(study: SpirometryStudy, statistics: Statistics) -> dict[str, float]:  # noqa: ARG001
    """Return what the sample of sessions is like."""
    subjects = [session.spirogram.subject for session in study.sessions]
    ages = [session.spirogram.age_years for session in study.sessions]
    sizes = [len(session.spirogram.manoeuvres) for session in study.sessions]
    facts = {
        "subjects": float(len(set(subjects))),
        "sessions": float(len(subjects)),
        "sessions_up_to_6_years": float(sum(age <= PRESCHOOL_YEARS for age in ages)),
        "sessions_over_6_years": float(sum(age > PRESCHOOL_YEARS for age in ages)),
        "manoeuvres": float(sum(sizes)),
        "manoeuvres_without_value": float(study.n_poor),
        "fewest_manoeuvres_per_session": float(min(sizes, default=0)),
        "most_manoeuvres_per_session": float(max(sizes, default=0)),
        "excluded": float(len(study.excluded)),
    }
    for capacity in CAPACITIES:
        counts = [sum(getattr(session, f"acceptable_{capacity}")) for session in study.sessions]
        facts[f"fewest_acceptable_{capacity}"] = float(min(counts, default=0))
    return facts | known_of(subjects, study.facts)


FACTS: Final[Mapping[str, Fact]] = MappingProxyType(
    {
        "subjects": Fact("subjects with a graded session", title_fr="sujets avec une séance notée"),
        "sessions": Fact("graded sessions", title_fr="séances notées"),
        "sessions_up_to_6_years": Fact(
            "graded sessions of subjects up to 6 years old", title_fr="séances notées de sujets jusqu'à 6 ans"
        ),
        "sessions_over_6_years": Fact(
            "graded sessions of older subjects", title_fr="séances notées de sujets plus âgés"
        ),
        "manoeuvres": Fact("manoeuvres with values", title_fr="manœuvres avec des valeurs"),
        "manoeuvres_without_value": Fact(
            "manoeuvres whose signal gave no values",
            title_fr="manœuvres dont le signal n'a pas donné de valeurs",
        ),
        "fewest_manoeuvres_per_session": Fact(
            "manoeuvres of the session that has fewest", title_fr="manœuvres de la séance qui en a le moins"
        ),
        "most_manoeuvres_per_session": Fact(
            "manoeuvres of the session that has most", title_fr="manœuvres de la séance qui en a le plus"
        ),
        "fewest_acceptable_fev1": Fact(
            "acceptable FEV1 manoeuvres of the session that has fewest",
            title_fr="manœuvres acceptables pour le VEMS dans la séance qui en a le moins",
        ),
        "fewest_acceptable_fvc": Fact(
            "acceptable FVC manoeuvres of the session that has fewest",
            title_fr="manœuvres acceptables pour la CVF dans la séance qui en a le moins",
        ),
        "excluded": Fact("manoeuvres and sessions left out", title_fr="manœuvres et séances écartées"),
        **SUBJECT_FACTS,
    }
)

_NO_VALUE: Final = "the manoeuvre has no values: its signal has a gap or no expiration"


def _fault(expiration: Expiration) -> str:
    """Return why a manoeuvre takes no part; empty if it does."""
    if not (np.isfinite(expiration.fvc_l) or np.isfinite(expiration.fev1_l)):
        return _NO_VALUE
    volumes = np.array([expiration.fvc_l, expiration.fev1_l, expiration.fivc_l])
    if (volumes <= 0.0).any() or (volumes > LARGEST_L).any():
        return f"a volume is impossible, expected above 0 and up to {LARGEST_L:g} L"
    if expiration.extrapolated_l < 0.0 or expiration.expiratory_s < 0.0:
        return "a volume or time is below 0"
    if expiration.fev1_l > expiration.fvc_l + 1e-9:
        return "FEV1 is larger than FVC"
    return ""


def _left_out(spirogram: Spirogram, number: int, reason: str) -> Excluded:
    """Return a manoeuvre by its number, or a whole session by number 0, as left out."""
    quantity = "manoeuvre" if number else "session"
    return Excluded(spirogram.subject, spirogram.session, number, quantity, reason)


def _graded(spirogram: Spirogram) -> GradedSession:
    expirations = [manoeuvre.expiration for manoeuvre in spirogram.manoeuvres]
    usable = [manoeuvre.usable for manoeuvre in spirogram.manoeuvres]
    age_years = spirogram.age_years
    for_fev1, for_fvc = acceptable(expirations, age_years=age_years, usable=usable)
    grades = grade_spirometry(expirations, age_years=age_years, usable=usable)
    return GradedSession(spirogram, grades, tuple(for_fev1), tuple(for_fvc))


def _metrics() -> dict[str, Metric]:
    metrics: dict[str, Metric] = {}
    for capacity in CAPACITIES:
        functions = {
            "worst_grade": ("1", worst_grade(capacity), GRADES),
            "difference": ("L", difference(capacity), ()),
            "difference_allowed": ("L", difference(capacity, allowed=True), ()),
            "repeatable_share": ("%", repeatable_share(capacity), ()),
            "best": ("L", best(capacity), ()),
        }
        metrics |= {
            f"spirometry_{capacity}_{name}": Metric("spirometry", unit, function, ("flow",), _ATS_ERS, grades)
            for name, (unit, function, grades) in functions.items()
        }
    return metrics


SPIROMETRY: Final = Study(_metrics(), FACTS, design_facts, SpirometryStudy())
"""What can be asked of sessions of forced expirations."""
