"""A study as a table of pairs, device under test against reference.

Every pair knows its subject, session and moment, so that each figure leads back to the second of signal it came
from. What may not decide anything is excluded for a stated reason and listed, never silently. Moments at which
the device showed nothing are no pairs, but make its read rate: accuracy is conditional on a value being shown.

The figures of agreement that it gives are in `paired_metrics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.metric import Fact
from protocols.clinical.criteria import Statistics
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import SignalError

_Floats: TypeAlias = NDArray[np.float64]
_Strings: TypeAlias = NDArray[np.str_]

PLAUSIBLE: Final[Mapping[str, tuple[float, float, str]]] = MappingProxyType(
    {
        "spo2": (0.0, 100.0, "%"),
        "sbp": (30.0, 320.0, "mm[Hg]"),
        "dbp": (10.0, 250.0, "mm[Hg]"),
        "map": (15.0, 280.0, "mm[Hg]"),
        "heart_rate": (10.0, 350.0, "/min"),
        "respiratory_rate": (0.0, 150.0, "/min"),
        "temperature": (20.0, 46.0, "Cel"),
        "glucose": (1.0, 2000.0, "mg/dL"),
        "steps": (0.0, 1e7, "1"),
        "sleep_duration": (0.0, 1440.0, "min"),
        "sleep_efficiency": (0.0, 100.0, "%"),
        "sleep_onset_latency": (0.0, 1440.0, "min"),
        "wake_after_sleep_onset": (0.0, 1440.0, "min"),
        "light_sleep": (0.0, 1440.0, "min"),
        "deep_sleep": (0.0, 1440.0, "min"),
        "rem_sleep": (0.0, 1440.0, "min"),
    }
)
"""Quantity -> smallest and largest value that a living person can have, inclusive, and its UCUM unit.

Set by the lab, and wide: a value outside is an error of entry or transmission and decides nothing."""

SIGNAL_LABEL: Final = "test_signal"
POOR_SIGNAL: Final = "poor"
"""Label of pairs, and its word where the device itself reported a poor signal: these decide nothing."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """A moment that makes no pair, and why."""

    subject: str
    session: str
    time_ns: int
    quantity: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class PairedStudy:
    """Pairs of a study.

    Parameters
    ----------
    quantities
        What each pair is of, such as `sbp`; shape (n,).
    subjects, sessions
        Pseudonym, and session or document that it comes from; shape (n,).
    times_ns
        UTC of each pair, shape (n,): where in the recording it can be looked up.
    reference, test
        Values in the quantity's unit (`PLAUSIBLE`), shape (n,); the device under test is NaN where it showed
        nothing.
    columns
        Further numbers of each pair by name, shape (n,) each; NaN where not known.
    labels
        Further words of each pair by name, shape (n,) each; empty where not known.
    facts
        What is known of the subjects.
    excluded
        What made no pair.
    """

    quantities: _Strings
    subjects: _Strings
    sessions: _Strings
    times_ns: NDArray[np.int64]
    reference: _Floats
    test: _Floats
    columns: Mapping[str, _Floats] = field(default_factory=lambda: MappingProxyType({}))
    labels: Mapping[str, _Strings] = field(default_factory=lambda: MappingProxyType({}))
    facts: SubjectFacts = field(default_factory=lambda: MappingProxyType({}))
    excluded: tuple[Excluded, ...] = ()

    def __post_init__(self) -> None:
        shapes = {array.shape for array in self._arrays()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise SignalError(f"pairs of shapes {sorted(shapes)}, expected one shape (n,) for all columns")
        for name in ("reference", "test"):
            if np.isinf(getattr(self, name)).any():
                raise SignalError(f"{name} holds infinite values, expected finite ones (NaN where missing)")

    @classmethod
    def empty(cls) -> PairedStudy:
        """Return a study without pairs."""
        none = np.empty(0, dtype=np.str_)
        return cls(none, none, none, np.empty(0, dtype=np.int64), np.empty(0), np.empty(0))

    @classmethod
    def of_pairs(
        cls, quantity: str, subject: str, session: str, times_ns: Any, reference: Any, test: Any
    ) -> PairedStudy:
        """Return the pairs of one quantity in one session."""
        n = np.asarray(times_ns).size
        return cls(
            np.full(n, quantity),
            np.full(n, subject),
            np.full(n, session),
            np.asarray(times_ns, dtype=np.int64),
            np.asarray(reference, dtype=np.float64),
            np.asarray(test, dtype=np.float64),
        )

    @classmethod
    def gather(cls, parts: Iterable[PairedStudy], facts: SubjectFacts = MappingProxyType({})) -> PairedStudy:
        """Return the pairs of several parts in their order; what a part does not know is NaN or empty."""
        parts = [part for part in parts if part.n_pairs or part.excluded]
        if not parts:
            return replace(cls.empty(), facts=facts)
        columns = dict.fromkeys(name for part in parts for name in part.columns)
        labels = dict.fromkeys(name for part in parts for name in part.labels)
        return cls(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _ALWAYS},
            columns={
                name: np.concatenate([p.columns.get(name, np.full(p.n_pairs, np.nan)) for p in parts])
                for name in columns
            },
            labels={
                name: np.concatenate([p.labels.get(name, np.full(p.n_pairs, "", dtype=np.str_)) for p in parts])
                for name in labels
            },
            facts=facts or {s: known for part in parts for s, known in part.facts.items()},
            excluded=tuple(excluded for part in parts for excluded in part.excluded),
        )

    @property
    def n_pairs(self) -> int:
        """Pairs, those without a value of the device included."""
        return self.times_ns.size

    @property
    def n_subjects(self) -> int:
        """Subjects with at least one pair."""
        return np.unique(self.subjects).size

    @property
    def differences(self) -> _Floats:
        """Test minus reference, shape (n,)."""
        return self.test - self.reference

    def chosen(self, which: NDArray[np.bool_]) -> PairedStudy:
        """Return the pairs at which `which`, shape (n,), is true."""
        return replace(
            self,
            **{name: getattr(self, name)[which] for name in _ALWAYS},
            columns={name: column[which] for name, column in self.columns.items()},
            labels={name: label[which] for name, label in self.labels.items()},
        )

    def of(self, quantity: str) -> PairedStudy:
        """Return the pairs of one quantity, with what was excluded of it."""
        chosen = self.chosen(self.quantities == quantity)
        return replace(chosen, excluded=tuple(e for e in self.excluded if e.quantity == quantity))

    def without(self, which: NDArray[np.bool_], reason: str) -> PairedStudy:
        """Return the study without the pairs at which `which` is true, each listed with the reason."""
        left_out = tuple(
            Excluded(str(subject), str(session), int(time_ns), str(quantity), reason)
            for subject, session, time_ns, quantity in zip(
                self.subjects[which],
                self.sessions[which],
                self.times_ns[which],
                self.quantities[which],
                strict=True,
            )
        )
        return replace(self.chosen(~which), excluded=(*self.excluded, *left_out))

    def fact(self, name: str, *, missing: float | str = np.nan) -> NDArray[Any]:
        """Return what is known of each pair's subject, shape (n,)."""
        known = {subject: facts.get(name, missing) for subject, facts in self.facts.items()}
        return np.array([known.get(str(subject), missing) for subject in self.subjects])

    def _arrays(self) -> list[NDArray[Any]]:
        return [getattr(self, name) for name in _ALWAYS] + [*self.columns.values(), *self.labels.values()]


_ALWAYS: Final = ("quantities", "subjects", "sessions", "times_ns", "reference", "test")


def usable(study: PairedStudy, *, low: float = -np.inf, high: float = np.inf) -> PairedStudy:
    """Return the pairs that decide, the others listed as excluded: each under the first reason that holds.

    Parameters
    ----------
    study
        All pairs.
    low, high
        Range of the reference that the protocol asks for, inclusive.
    """
    known = {name: limits for name, limits in PLAUSIBLE.items() if (study.quantities == name).any()}
    rules: list[tuple[str, Callable[[PairedStudy], NDArray[np.bool_]]]] = [
        ("the reference has no value", lambda s: np.isnan(s.reference)),
        ("the reference is impossible", lambda s: _impossible(s.quantities, s.reference, known)),
        ("the reference is out of the protocol's range", lambda s: (s.reference < low) | (s.reference > high)),
        ("the device reported a poor signal", _of_poor_signal),
        ("the device showed no value", lambda s: np.isnan(s.test)),
        ("the device's value is impossible", lambda s: _impossible(s.quantities, s.test, known)),
        ("the pair is there twice with other values", _contradicted),
        ("the pair is there twice", _repeated),
    ]
    for reason, excluded in rules:
        study = study.without(excluded(study), reason)
    return study


def usable_by(study: PairedStudy, statistics: Statistics) -> PairedStudy:
    """Return the pairs that decide under a protocol's statistics: those in the range of its bands."""
    edges = statistics.band_edges
    return usable(study, low=edges[0], high=edges[-1]) if edges else usable(study)


def read_rate_percent(study: PairedStudy, statistics: Statistics) -> float:
    """Return the share of the moments with a usable reference at which the device showed a value, or NaN."""
    counts = Counter(excluded.reason for excluded in usable_by(study, statistics).excluded)
    shown = usable_by(study, statistics).n_pairs + counts["the device's value is impossible"]
    moments = shown + counts["the device showed no value"] + counts["the device reported a poor signal"]
    return 100.0 * shown / moments if moments else float("nan")


PAIRED_FACTS: Final[Mapping[str, Fact]] = MappingProxyType(
    {
        "subjects": Fact("subjects with pairs", title_fr="sujets avec des paires"),
        "pairs": Fact("pairs", title_fr="paires"),
        "fewest_pairs_per_subject": Fact(
            "pairs of the subject that has fewest", title_fr="paires du sujet qui en a le moins"
        ),
        "most_pairs_per_subject": Fact(
            "pairs of the subject that has most", title_fr="paires du sujet qui en a le plus"
        ),
        "excluded": Fact("moments that make no pair", title_fr="moments qui ne forment pas de paire"),
        "read_rate_percent": Fact(
            "moments with a value of the device", "%", title_fr="moments avec une valeur du dispositif"
        ),
        "reference_smallest": Fact("smallest reference", title_fr="plus petite référence"),
        "reference_largest": Fact("largest reference", title_fr="plus grande référence"),
        "smallest_band_share_percent": Fact(
            "share of the pairs in the band that has fewest",
            "%",
            "pairs",
            title_fr="part des paires dans la tranche qui en a le moins",
        ),
        "female_subjects": Fact("female subjects", title_fr="sujets féminins"),
        "male_subjects": Fact("male subjects", title_fr="sujets masculins"),
        "sexes": Fact("sexes among the subjects", title_fr="sexes parmi les sujets"),
        "smaller_sex_share_percent": Fact(
            "share of the subjects of the rarer sex",
            "%",
            "subjects",
            title_fr="part des sujets du sexe le plus rare",
        ),
        "age_span_years": Fact(
            "years between the youngest and the oldest subject",
            "a",
            title_fr="années entre le plus jeune et le plus âgé",
        ),
        "youngest_years": Fact("age of the youngest subject", "a", title_fr="âge du plus jeune sujet"),
        "oldest_years": Fact("age of the oldest subject", "a", title_fr="âge du plus âgé"),
        "darkly_pigmented_subjects": Fact("darkly pigmented subjects", title_fr="sujets à peau foncée"),
        "darkly_pigmented_share_percent": Fact(
            "share of darkly pigmented subjects", "%", "subjects", title_fr="part des sujets à peau foncée"
        ),
    }
)
"""What `paired_facts` may know of a sample."""


def facts_of(quantity: str) -> Mapping[str, Fact]:
    """Return `PAIRED_FACTS` with the references' in the quantity's unit."""
    unit = PLAUSIBLE[quantity][2]
    extremes = {
        name: replace(PAIRED_FACTS[name], unit=unit) for name in ("reference_smallest", "reference_largest")
    }
    return MappingProxyType({**PAIRED_FACTS, **extremes})


def paired_facts(study: PairedStudy, quantity: str, statistics: Statistics) -> dict[str, float]:
    """Return what a study's sample of one quantity is like: numbers, spread, exclusions, subjects."""
    chosen = study.of(quantity)
    pairs = usable_by(chosen, statistics)
    per_subject = np.unique(pairs.subjects, return_counts=True)[1]
    facts = {
        "subjects": float(pairs.n_subjects),
        "pairs": float(pairs.n_pairs),
        "fewest_pairs_per_subject": float(per_subject.min()) if per_subject.size else 0.0,
        "most_pairs_per_subject": float(per_subject.max()) if per_subject.size else 0.0,
        "excluded": float(len(pairs.excluded)),
        "read_rate_percent": read_rate_percent(chosen, statistics),
    }
    if pairs.n_pairs:
        facts |= {
            "reference_smallest": float(pairs.reference.min()),
            "reference_largest": float(pairs.reference.max()),
        }
    if statistics.band_edges and pairs.n_pairs:
        in_band = np.bincount(
            band_of(pairs.reference, statistics.band_edges), minlength=len(statistics.band_edges) - 1
        )
        facts["smallest_band_share_percent"] = 100.0 * float(in_band.min() / in_band.sum())
    return facts | subject_facts(pairs)


def subject_facts(pairs: PairedStudy) -> dict[str, float]:
    """Return what the subjects of pairs are like, as far as it is known of every one of them."""
    subjects = np.unique(pairs.subjects).tolist()
    known: dict[str, list[float | str]] = {}
    for name in dict.fromkeys(name for facts in pairs.facts.values() for name in facts):
        values = [pairs.facts.get(subject, {}).get(name) for subject in subjects]
        known[name] = [value for value in values if value is not None]
    whole = {name: values for name, values in known.items() if len(values) == len(subjects) > 0}
    facts: dict[str, float] = {}
    if "sex" in whole:
        facts |= {f"{sex}_subjects": float(whole["sex"].count(sex)) for sex in ("female", "male")}
        facts["sexes"] = float(len(set(whole["sex"])))
        facts["smaller_sex_share_percent"] = (
            100.0 * min(facts["female_subjects"], facts["male_subjects"]) / len(subjects)
        )
    if "age_years" in whole:
        ages = [float(age) for age in whole["age_years"]]
        facts |= {
            "age_span_years": max(ages) - min(ages),
            "youngest_years": min(ages),
            "oldest_years": max(ages),
        }
    if "darkly_pigmented" in whole:
        dark = float(whole["darkly_pigmented"].count("yes"))
        facts["darkly_pigmented_subjects"] = dark
        facts["darkly_pigmented_share_percent"] = 100.0 * dark / len(subjects)
    return facts


def band_of(reference: _Floats, edges: Sequence[float]) -> NDArray[np.intp]:
    """Return the number of each value's band, -1 outside; half-open, but the last has its upper edge."""
    bounds = np.asarray(edges, dtype=np.float64)
    bands = np.searchsorted(bounds, reference, side="right") - 1
    bands[reference == bounds[-1]] = bounds.size - 2
    bands[~((reference >= bounds[0]) & (reference <= bounds[-1]))] = -1
    return np.asarray(bands)


def _of_poor_signal(study: PairedStudy) -> NDArray[np.bool_]:
    label = study.labels.get(SIGNAL_LABEL)
    return np.zeros(study.n_pairs, dtype=bool) if label is None else np.asarray(label == POOR_SIGNAL)


def _impossible(
    quantities: _Strings, values: _Floats, known: Mapping[str, tuple[float, float, str]]
) -> NDArray[np.bool_]:
    outside = np.zeros(values.size, dtype=bool)
    for name, (low, high, _) in known.items():
        outside |= (quantities == name) & ((values < low) | (values > high))
    return outside


def _contradicted(study: PairedStudy) -> NDArray[np.bool_]:
    """Return which pairs stand for a moment of which another pair says something else."""
    moments = _numbers_of(study)
    contradicted = np.zeros(study.n_pairs, dtype=bool)
    for values in (study.reference, study.test):
        order = np.lexsort((values, moments))
        differs = (np.diff(moments[order]) == 0) & (np.diff(values[order]) != 0)
        contradicted |= np.isin(moments, moments[order][1:][differs])
    return contradicted


def _repeated(study: PairedStudy) -> NDArray[np.bool_]:
    """Return which pairs stand for the same moment of the same session and quantity as an earlier one."""
    repeated = np.ones(study.n_pairs, dtype=bool)
    repeated[np.unique(_numbers_of(study), return_index=True)[1]] = False
    return repeated


def _numbers_of(study: PairedStudy) -> NDArray[np.intp]:
    """Return a number for each pair's moment: equal for equal quantity, subject, session and time."""
    columns = (study.quantities, study.subjects, study.sessions, study.times_ns)
    numbers = np.stack([np.unique(column, return_inverse=True)[1] for column in columns])
    return np.unique(numbers, axis=1, return_inverse=True)[1].reshape(-1)
