"""How often one criterion of a clinical protocol is met, by theory: figures of normal differences, and shares.

Here is said what may be expected of a device, which criteria the theory covers, and why not of the others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.disparity_power import group_contrast_power, slope_contrast_power
from analysis.normal_study import FIGURES, NormalDifferences, Studies, bound, boundless_study, studies
from analysis.oximetry_study import DISPARITY_RANGES
from analysis.paired_study import PLAUSIBLE
from analysis.share_power import share_power, share_trials
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import UNPAIRED, Criterion
from protocols.errors import DefinitionError

_Bools: TypeAlias = NDArray[np.bool_]

EXPECTED: Final[Mapping[str, tuple[float, float]]] = {
    "bias": (-math.inf, math.inf),
    "sd": (0.0, math.inf),
    "subject_sd": (0.0, math.inf),
    "within_share": (1.0, 100.0),
    "pairs_per_subject": (1.0, 10_000.0),
    "lots": (1.0, 1000.0),
    "sites": (1.0, 1000.0),
    "matrices": (1.0, 1000.0),
    "low_share": (0.1, 100.0),
    "middle_share": (0.1, 100.0),
    "high_share": (0.1, 100.0),
    "tone_difference": (0.0, math.inf),
    "ita_difference": (0.0, math.inf),
    "ita_sd": (0.1, 180.0),
}
"""What may be expected -> its range; shares in percent, so that 0.97 is refused, not taken for 0.97 %.

`low_share`, `middle_share` and `high_share` are of the pairs with a device below 70, of 70 to 180, and above
180 mg/dL, as 21 CFR 862.1355 parts them. `tone_difference` and `ita_difference` are the true ones that an
oximeter is held against, the latter for 100 degrees; `ita_sd` is of the subjects, in degrees."""
_OF_QUANTITY: Final = ("bias", "sd", "subject_sd", "within_share")
_WHOLE: Final = ("pairs_per_subject", "lots", "sites", "matrices")
PARTS: Final = {"lot": "lots", "site": "sites", "matrix": "matrices"}
_RANGES: Final = {"a": "low", "d": "low", "b": "middle", "e": "middle", "c": "high", "f": "high"}
_COMPARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "<=": np.less_equal,
    "<": np.less,
    ">=": np.greater_equal,
    ">": np.greater,
}
_SHARE = re.compile(r"within_\w+|(clarke|parkes_\d|dts)_ab?|icgm_[a-gjk]|read_rate")
_CONTRAST = re.compile(r"(tone|ita)_difference_\d+_\d+")
_WITHIN = re.compile(r"within_(\d+(?:\.\d+)?)")
_WORST = re.compile(r"_worst_(\w+)$")


@dataclass(frozen=True, slots=True)
class Covered:
    """A criterion that the theory covers: its power for a number of subjects, and how that was computed."""

    criterion: Criterion
    quantity: str
    power: Callable[[int], float]
    device: NormalDifferences | None
    passes: Callable[[Studies], _Bools] | None
    can_pass: bool
    says: str
    trials: Callable[[float], int] | None = None
    part: float | None = 1.0
    period: int = 0


def check_expected(protocol: ClinicalProtocol, expected: Mapping[str, float]) -> None:
    """Refuse an expectation that no criterion of a protocol could mean, or a value out of range.

    Raises
    ------
    DefinitionError
        Names it, and what is expected.
    """
    quantities = dict.fromkeys(q for q, _ in map(_parted, limited(protocol)) if q)
    meant = {name: name for name in EXPECTED}
    meant |= {f"{q}_{name}": name for q in quantities for name in _OF_QUANTITY}
    meant |= {c.metric: "within_share" for c in limited(protocol) if _SHARE.fullmatch(_parted(c)[1])}
    for name, value in expected.items():
        if name not in meant:
            raise DefinitionError(f"expectation {name}: unknown, expected one of {', '.join(meant)}")
        low, high = EXPECTED[meant[name]]
        if not (math.isfinite(value) and low <= value <= high):
            unit = " %" if meant[name].endswith("_share") else ""
            raise DefinitionError(
                f"expectation {name}={value!r}, expected a number of {low:g} to {high:g}{unit}"
            )
        if name in _WHOLE and value != round(value):
            raise DefinitionError(f"expectation {name}={value!r}, expected a whole number")
    for quantity in quantities or [""]:
        sd, of_subjects = (_value(expected, quantity, name) for name in ("sd", "subject_sd"))
        if sd is not None and of_subjects is not None and of_subjects > sd:
            raise DefinitionError(
                f"expectation subject_sd={of_subjects:g}, expected at most sd={sd:g}: it is part of it"
            )


def limited(protocol: ClinicalProtocol) -> list[Criterion]:
    """Return the criteria that have a limit, in their order."""
    return [criterion for criterion in protocol.criteria if criterion.comparison != "report"]


def _parted(criterion: Criterion) -> tuple[str, str]:
    """Return the quantity of a criterion's metric, and the rest of the metric's name."""
    for quantity in sorted(PLAUSIBLE, key=len, reverse=True):
        if criterion.metric.startswith(f"{quantity}_"):
            return quantity, criterion.metric[len(quantity) + 1 :]
    return "", criterion.metric


def _value(expected: Mapping[str, float], quantity: str, name: str) -> float | None:
    return expected.get(f"{quantity}_{name}", expected.get(name))


def covered(
    protocol: ClinicalProtocol,
    criterion: Criterion,
    expected: Mapping[str, float],
    m: int,
    assumptions: list[str],
) -> Covered | str:
    """Return a criterion as it can be planned, or why it cannot."""
    if protocol.measurand in UNPAIRED or protocol.measurand in ("qrs", "sleep"):
        return f"not planned: sample sizes are of paired readings, not of the measurand {protocol.measurand}"
    quantity, figure = _parted(criterion)
    if _SHARE.fullmatch(figure):
        return _covered_share(protocol, criterion, expected, m, assumptions)
    if contrast := _CONTRAST.fullmatch(figure):
        return _covered_contrast(protocol, criterion, contrast[1], expected, m, assumptions)
    if figure == "largest_error":
        return "not planned: the largest of more errors is never smaller, so more pairs pass less often"
    if figure not in FIGURES:
        return f"not planned: the theory here has no distribution of {criterion.metric}"
    if criterion.limit_metric is not None and _figure_of(criterion.limit_metric, quantity) not in FIGURES:
        return f"not planned: the theory here has no distribution of its limit {criterion.limit_metric}"
    device = _device(expected, quantity, m, assumptions)
    if device is None:
        return f"not planned: {_lacking(expected, quantity)} not stated"
    level = protocol.statistics.confidence_level
    if criterion.judged != "value" and bound(studies(device, 2), figure, criterion.judged, level) is None:
        return f"not planned: the theory here has no interval of {criterion.metric}"
    limited = _figure_of(criterion.limit_metric, quantity) if criterion.limit_metric else None
    compare = _COMPARE[criterion.comparison]

    def passes(found: Studies) -> _Bools:
        value = (
            FIGURES[figure](found)
            if criterion.judged == "value"
            else bound(found, figure, criterion.judged, level)
        )
        limit = FIGURES[limited](found) if limited else criterion.limit
        return np.asarray(compare(value, limit))

    truth = boundless_study(device)
    true_value = float(FIGURES[figure](truth)[0])
    limit = float(FIGURES[limited](truth)[0]) if limited else criterion.limit
    unit = "" if criterion.unit == "1" else f" {criterion.unit}"
    says = (
        f"expected {true_value:.4g}{unit} against {criterion.comparison} {limit:.4g}{unit}, normal differences"
    )
    if criterion.judged != "value":
        says += f", {criterion.judged} end of the {level:.0%} interval by theory (a verdict's is a bootstrap)"
    can_pass = bool(limit is not None and _COMPARE[criterion.comparison[0]](true_value, limit))
    return Covered(
        criterion,
        quantity,
        lambda k: float(passes(studies(device, k)).mean()),
        device,
        passes,
        can_pass,
        says,
    )


def _covered_share(
    protocol: ClinicalProtocol,
    criterion: Criterion,
    expected: Mapping[str, float],
    m: int,
    assumptions: list[str],
) -> Covered | str:
    quantity, figure = _parted(criterion)
    if criterion.limit is None or not 0 < criterion.limit < 100:
        return "not planned: its limit is no share above 0 and below 100 %"
    device = _device(expected, quantity, m, [])
    percent = expected.get(criterion.metric)
    alone = figure in ("read_rate", "icgm_j", "icgm_k")  # other shares than those within a tolerance
    if percent is None and not alone:
        percent = _value(expected, quantity, "within_share")
    how = "as stated"
    within = _WITHIN.fullmatch(figure)
    if percent is None and within and device is not None:
        percent, how = 100.0 * device.within(float(within[1])), "of normal differences"
    if percent is None:
        return f"not planned: the share {criterion.metric}{'' if alone else ' (or within_share)'} is not stated"
    part = _part(protocol, figure, expected, assumptions)
    of_subject = m * (part.fraction or 1.0)  # pairs of each that the criterion counts
    correlation = 0.0
    if of_subject > 1 and device is not None and _value(expected, quantity, "subject_sd") is not None:
        correlation = device.correlation
        assumptions.append(
            f"Whether a pair is within is taken to be as alike within subjects as the differences are "
            f"(correlation {correlation:.3g}), which is the most it can be for normal differences."
        )
    elif of_subject > 1:
        assumptions.append(
            "Shares: pairs of one subject are taken for independent, as bias, sd and subject_sd are not all "
            "stated; if they resemble one another, more subjects are needed."
        )
    effect = 1.0 + max(of_subject - 1.0, 0.0) * correlation
    at_least = criterion.comparison[0] == ">"
    share, limit = percent / 100.0, criterion.limit / 100.0
    if not at_least:
        share, limit = 1.0 - share, 1.0 - limit
    if criterion.judged == ("high" if at_least else "low"):
        return f"not planned: the {criterion.judged} end of the interval cannot show such a share"
    judged = "value" if criterion.judged == "value" else "low"
    level = protocol.statistics.confidence_level
    if not figure.startswith("icgm_"):
        level = 0.5 + 0.5 * level  # an end of a two-sided interval
    strict = len(criterion.comparison) == 1

    def of_trials(n: int) -> float:
        chance = share_power(np.array(n), share=share, limit=limit, judged=judged, level=level, strict=strict)
        return max(0.0, 1.0 - part.number * (1.0 - float(chance)))

    def trials(power: float) -> int:
        wanted = 1.0 - (1.0 - power) / part.number
        n = share_trials(share=share, limit=limit, power=wanted, judged=judged, level=level, strict=strict)
        return math.ceil(n * effect)

    says = f"expected {percent:.4g} % ({how}) against {criterion.comparison} {criterion.limit:g} %, binomial"
    if judged == "low":
        says += f", exact one-sided bound at {level:.4g}"
    if of_subject > 1:
        says += f", design effect {effect:.3g}"
    return Covered(
        criterion,
        quantity,
        lambda k: of_trials(math.floor(k * of_subject / effect + 1e-9)),
        None,
        None,
        share > limit,
        says + part.says,
        trials,
        part.fraction,
        math.ceil(1.5 / (1.0 - limit) * effect / of_subject),
    )


def _covered_contrast(
    protocol: ClinicalProtocol,
    criterion: Criterion,
    of: str,
    expected: Mapping[str, float],
    m: int,
    assumptions: list[str],
) -> Covered | str:
    quantity, _ = _parted(criterion)
    if criterion.judged != "high" or criterion.comparison[0] != "<" or criterion.limit is None:
        return "not planned: the theory here is of the upper end of the interval below a limit"
    needed = ["sd", "subject_sd", f"{of}_difference", *(["ita_sd"] if of == "ita" else [])]
    stated = {name: _value(expected, quantity, name) for name in needed}
    lacking = [name for name, value in stated.items() if value is None]
    if lacking:
        return f"not planned: {', '.join(lacking)} not stated"
    known = {name: value for name, value in stated.items() if value is not None}
    in_range = max(1.0, m / len(DISPARITY_RANGES))
    within = max(known["sd"] ** 2 - known["subject_sd"] ** 2, 0.0)
    of_means = math.sqrt(known["subject_sd"] ** 2 + within / in_range)
    difference, limit, level = known[f"{of}_difference"], criterion.limit, protocol.statistics.confidence_level
    assumptions.append(
        f"Each range of saturation has {in_range:g} pairs of each subject, whose means vary with a standard "
        f"deviation of {of_means:.3g} about the bias of their skin."
    )

    def power(k: int) -> float:
        if of == "tone":
            return group_contrast_power(
                k, largest_difference=difference, subject_sd=of_means, limit=limit, level=level
            )
        return slope_contrast_power(
            k,
            difference=difference,
            subject_sd=of_means,
            covariate_sd=known["ita_sd"],
            per=100.0,
            limit=limit,
            level=level,
        )

    if of == "tone":
        assumptions.append(
            "Subjects are even over the groups of skin tone; the middle group's bias is half way."
        )
    else:
        assumptions.append(
            f"ITA varies over subjects with a standard deviation of {known['ita_sd']:g} degrees."
        )
    says = (
        f"expected {difference:.4g} {criterion.unit} against {criterion.comparison} {limit:g} {criterion.unit}"
    )
    says += f", upper end of the {level:.0%} interval of the subjects' means"
    possible = difference < limit and of_means > 0
    return Covered(criterion, quantity, power, None, None, possible, says)


@dataclass(frozen=True, slots=True)
class _Part:
    """Which of all pairs a criterion counts: what fraction (None: not known), and of how many parts each."""

    fraction: float | None = 1.0
    number: int = 1
    says: str = ""


def _part(
    protocol: ClinicalProtocol, figure: str, expected: Mapping[str, float], assumptions: list[str]
) -> _Part:
    if worst := _WORST.search(figure):
        name = PARTS[worst[1]]
        number, how = number_of(protocol, name, expected)
        assumptions.append(f"Pairs spread evenly over {number} {name} ({how}).")
        says = f"; each of {number} {name} has to pass, chances to fail added" if number > 1 else ""
        return _Part(1.0 / number, number, says)
    if figure.startswith("icgm_") and figure != "icgm_g":
        name = _RANGES.get(figure[-1], "")
        percent = expected.get(f"{name}_share")
        if percent is None:
            lacking = f": {name}_share is not stated" if name else ""
            return _Part(None, 1, f"; only pairs in its range count, how many are is not known{lacking}")
        assumptions.append(f"{percent:g} % of the pairs are in the {name} range of the device, as stated.")
        return _Part(percent / 100.0)
    return _Part()


def number_of(protocol: ClinicalProtocol, name: str, expected: Mapping[str, float]) -> tuple[int, str]:
    """Return how many lots, sites or matrices there are to be, and who says so."""
    of_design = [r.limit for r in protocol.design if r.fact == name and r.limit is not None]
    if name in expected:
        return round(expected[name]), "as stated"
    return round(max(of_design, default=1.0)), "as the design asks" if of_design else f"{name} is not stated"


def _figure_of(metric: str | None, quantity: str) -> str:
    return (metric or "").removeprefix(f"{quantity}_")


def _device(
    expected: Mapping[str, float], quantity: str, m: int, assumptions: list[str]
) -> NormalDifferences | None:
    bias, sd, of_subjects = (_value(expected, quantity, name) for name in ("bias", "sd", "subject_sd"))
    if bias is None or sd is None:
        return None
    name = f" of {quantity}" if any(key.startswith(f"{quantity}_") for key in expected) else ""
    assumptions.append(
        f"Differences{name} are normal, with bias {bias:g} and standard deviation {sd:g}, as stated."
    )
    if of_subjects is None:
        of_subjects = 0.0
        if m > 1:
            assumptions.append(
                "Pairs of one subject are taken for independent, as subject_sd is not stated; if they resemble "
                "one another, more subjects are needed."
            )
    elif m > 1:
        effect = 1.0 + (m - 1) * (of_subjects / sd) ** 2 if sd > 0 else 1.0
        assumptions.append(
            f"Subjects{name} differ with a standard deviation of {of_subjects:g}, a part of {sd:g}: design "
            f"effect of the mean {effect:.3g}, so {m} pairs of a subject are worth {m / effect:.3g}."
        )
    else:
        of_subjects = sd  # one pair of each: all of it varies between subjects
    if m == 1:
        of_subjects = sd
    within = math.sqrt(max(sd**2 - of_subjects**2, 0.0))
    return NormalDifferences(bias, of_subjects, within, m)


def _lacking(expected: Mapping[str, float], quantity: str) -> str:
    lacking = [name for name in ("bias", "sd") if _value(expected, quantity, name) is None]
    return f"{' and '.join(lacking)} of {quantity} {'are' if len(lacking) > 1 else 'is'}"
