"""What is expected of a device and of a study: names that may be stated, and the device they describe."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from analysis.normal_study import NormalDifferences
from analysis.paired_study import PLAUSIBLE
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Criterion
from protocols.errors import DefinitionError

EXPECTED: Final[Mapping[str, tuple[float, float]]] = {
    "bias": (-1e6, 1e6),
    "sd": (0.0, 1e6),
    "subject_sd": (0.0, 1e6),
    "within_share": (1.0, 100.0),
    "pairs_per_subject": (1.0, 10_000.0),
    "lots": (1.0, 1000.0),
    "sites": (1.0, 1000.0),
    "matrices": (1.0, 1000.0),
    "low_share": (0.1, 100.0),
    "middle_share": (0.1, 100.0),
    "high_share": (0.1, 100.0),
    "tone_difference": (0.0, 100.0),
    "ita_difference": (0.0, 100.0),
    "ita_sd": (0.1, 180.0),
}
"""What may be expected -> its range; shares in percent, so that 0.97 is refused, not taken for 0.97 %.

`low_share`, `middle_share` and `high_share` are of the pairs with a device below 70, of 70 to 180, and above
180 mg/dL, as 21 CFR 862.1355 parts them. `tone_difference` and `ita_difference` are the true ones that an
oximeter is held against, the latter for 100 degrees; `ita_sd` is of the subjects, in degrees."""
_OF_QUANTITY: Final = ("bias", "sd", "subject_sd", "within_share")
_WHOLE: Final = ("pairs_per_subject", "lots", "sites", "matrices")
PARTS: Final = {"lot": "lots", "site": "sites", "matrix": "matrices"}
SHARE = re.compile(r"within_\w+|(clarke|parkes_\d|dts)_ab?|icgm_[a-gjk]|read_rate")
"""Metrics, without their quantity, that are shares of pairs."""
_ERRORS = re.compile(r"\w+_icgm_[jk]")
"""Metrics that are shares of errors: well below 1 %."""


def check_expected(protocol: ClinicalProtocol, expected: Mapping[str, float]) -> None:
    """Refuse an expectation that no criterion of a protocol could mean, or a value out of range.

    Raises
    ------
    DefinitionError
        Names it, and what is expected.
    """
    quantities = dict.fromkeys(q for q, _ in map(parted, limited(protocol)) if q)
    meant = {name: name for name in EXPECTED}
    meant |= {f"{q}_{name}": name for q in quantities for name in _OF_QUANTITY}
    meant |= {c.metric: "within_share" for c in limited(protocol) if SHARE.fullmatch(parted(c)[1])}
    for name, value in expected.items():
        if name not in meant:
            raise DefinitionError(f"expectation {name}: unknown, expected one of {', '.join(meant)}")
        low, high = (0.0, 100.0) if _ERRORS.fullmatch(name) else EXPECTED[meant[name]]
        if not (math.isfinite(value) and low <= value <= high):
            unit = " %" if meant[name].endswith("_share") else ""
            raise DefinitionError(
                f"expectation {name}={value!r}, expected a number of {low:g} to {high:g}{unit}"
            )
        if name in _WHOLE and value != round(value):
            raise DefinitionError(f"expectation {name}={value!r}, expected a whole number")
    for quantity in quantities or [""]:
        sd, of_subjects = (stated(expected, quantity, name) for name in ("sd", "subject_sd"))
        if sd is not None and of_subjects is not None and of_subjects > sd:
            raise DefinitionError(
                f"expectation subject_sd={of_subjects:g}, expected at most sd={sd:g}: it is part of it"
            )


def limited(protocol: ClinicalProtocol) -> list[Criterion]:
    """Return the criteria that have a limit, in their order."""
    return [criterion for criterion in protocol.criteria if criterion.comparison != "report"]


def parted(criterion: Criterion) -> tuple[str, str]:
    """Return the quantity of a criterion's metric (empty if none), and the rest of the metric's name."""
    for quantity in sorted(PLAUSIBLE, key=len, reverse=True):
        if criterion.metric.startswith(f"{quantity}_"):
            return quantity, criterion.metric[len(quantity) + 1 :]
    return "", criterion.metric


def stated(expected: Mapping[str, float], quantity: str, name: str) -> float | None:
    """Return what is stated for a quantity, else for all; None if nothing is."""
    return expected.get(f"{quantity}_{name}", expected.get(name))


def number_of(protocol: ClinicalProtocol, name: str, expected: Mapping[str, float]) -> tuple[int, str]:
    """Return how many lots, sites or matrices there are to be, and who says so."""
    of_design = [r.limit for r in protocol.design if r.fact == name and r.limit is not None]
    if name in expected:
        return round(expected[name]), "as stated"
    return round(max(of_design, default=1.0)), "as the design asks" if of_design else f"{name} is not stated"


def device_of(
    expected: Mapping[str, float], quantity: str, m: int, assumptions: list[str]
) -> NormalDifferences | None:
    """Return the device that is expected, None without bias or sd; adds what is assumed to `assumptions`."""
    bias, sd, of_subjects = (stated(expected, quantity, name) for name in ("bias", "sd", "subject_sd"))
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


def lacking(expected: Mapping[str, float], quantity: str) -> str:
    """Return which of bias and sd are not stated for a quantity, with the verb."""
    names = [name for name in ("bias", "sd") if stated(expected, quantity, name) is None]
    return f"{' and '.join(names)} of {quantity} {'are' if len(names) > 1 else 'is'}"
