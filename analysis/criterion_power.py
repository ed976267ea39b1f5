"""How often a criterion of a clinical protocol is met, by theory: figures, shares, differences between people.

Here is decided which criteria the theory covers, and said why not of the others.
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
from analysis.expectations import PARTS, SHARE, device_of, lacking, number_of, parted, stated
from analysis.normal_study import FIGURES, NormalDifferences, Studies, bound, boundless_study, studies
from analysis.oximetry_study import DISPARITY_RANGES
from analysis.share_power import share_power, share_trials
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import UNPAIRED, Criterion

_Bools: TypeAlias = NDArray[np.bool_]

_RANGES: Final = {"a": "low", "d": "low", "b": "middle", "e": "middle", "c": "high", "f": "high"}
_COMPARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "<=": np.less_equal,
    "<": np.less,
    ">=": np.greater_equal,
    ">": np.greater,
}
_CONTRAST = re.compile(r"(tone|ita)_difference_\d+_\d+")
_WITHIN = re.compile(r"within_(\d+(?:\.\d+)?)")
_WORST = re.compile(r"_worst_(\w+)$")


@dataclass(frozen=True, slots=True)
class Covered:
    """A criterion that the theory covers.

    Parameters
    ----------
    criterion, quantity
        Of the protocol; what it is of.
    power
        Of a number of subjects.
    device, passes
        Where it is a figure of normal differences: of what device, and which studies meet it; else None.
    can_pass
        Whether the true value is on the right side of the limit: else no number is enough.
    says
        What was compared, and how.
    trials
        Pairs that it needs for a power, where it is a share; else None.
    part
        Which fraction of all pairs it counts; None where that is not known.
    period
        Subjects over which its power may fall back, as counts are whole; 0 if it never does.
    """

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
    quantity, figure = parted(criterion)
    if SHARE.fullmatch(figure):
        return _covered_share(protocol, criterion, expected, m, assumptions)
    if contrast := _CONTRAST.fullmatch(figure):
        return _covered_contrast(protocol, criterion, contrast[1], expected, m, assumptions)
    if figure == "largest_error":
        return "not planned: the largest of more errors is never smaller, so more pairs pass less often"
    if figure not in FIGURES:
        return f"not planned: the theory here has no distribution of {criterion.metric}"
    if criterion.limit_metric is not None and _figure_of(criterion.limit_metric, quantity) not in FIGURES:
        return f"not planned: the theory here has no distribution of its limit {criterion.limit_metric}"
    device = device_of(expected, quantity, m, assumptions)
    if device is None:
        return f"not planned: {lacking(expected, quantity)} not stated"
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
        says += f", {criterion.judged} end of the {level:.0%} interval by theory (a verdict's is a jackknife)"
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
    quantity, figure = parted(criterion)
    if criterion.limit is None or not 0 < criterion.limit < 100:
        return "not planned: its limit is no share above 0 and below 100 %"
    device = device_of(expected, quantity, m, [])
    percent = expected.get(criterion.metric)
    alone = figure in ("read_rate", "icgm_j", "icgm_k")  # other shares than those within a tolerance
    if percent is None and not alone:
        percent = stated(expected, quantity, "within_share")
    how = "as stated"
    within = _WITHIN.fullmatch(figure)
    if percent is None and within and device is not None:
        percent, how = 100.0 * device.within(float(within[1])), "of normal differences"
    if percent is None:
        return f"not planned: the share {criterion.metric}{'' if alone else ' (or within_share)'} is not stated"
    part = _part(protocol, figure, expected, assumptions)
    of_subject = m * (part.fraction or 1.0)  # pairs of each that the criterion counts
    correlation = 0.0
    if of_subject > 1 and device is not None and stated(expected, quantity, "subject_sd") is not None:
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
    quantity, _ = parted(criterion)
    if criterion.judged != "high" or criterion.comparison[0] != "<" or criterion.limit is None:
        return "not planned: the theory here is of the upper end of the interval below a limit"
    needed = ["sd", "subject_sd", f"{of}_difference", *(["ita_sd"] if of == "ita" else [])]
    values = {name: stated(expected, quantity, name) for name in needed}
    known = {name: value for name, value in values.items() if value is not None}
    if len(known) < len(needed):
        return f"not planned: {', '.join(name for name in needed if name not in known)} not stated"
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
            why = f": {name}_share is not stated" if name else ""
            return _Part(None, 1, f"; only pairs in its range count, how many are is not known{why}")
        assumptions.append(f"{percent:g} % of the pairs are in the {name} range of the device, as stated.")
        return _Part(percent / 100.0)
    return _Part()


def _figure_of(metric: str | None, quantity: str) -> str:
    return (metric or "").removeprefix(f"{quantity}_")
