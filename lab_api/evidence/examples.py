"""The largest differences of a study, each with the readings around it: where a reader looks first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analysis.paired_study import PairedStudy

MOST: Final = 3
"""Of each quantity."""
AROUND_S: Final = 60.0
"""Readings as far on either side are shown."""
_MOST_READINGS: Final = 600

Readings = tuple[NDArray[np.int64], NDArray[np.float64]]


def of_session(
    study: PairedStudy, readings: Mapping[str, Mapping[str, Readings]], *, around_s: float = AROUND_S
) -> tuple[Mapping[str, Any], ...]:
    """Return the largest differences of one session.

    Parameters
    ----------
    study
        Its pairs.
    readings
        Quantity -> role -> times (UTC in ns) and values of the readings that the pairs were made of.
    around_s
        How far to either side readings are shown.
    """
    examples: list[Mapping[str, Any]] = []
    for quantity, by_role in readings.items():
        pairs = study.of(quantity)
        differences = np.abs(pairs.differences)
        order = np.argsort(-differences, kind="stable")
        for place in order[: min(MOST, int(np.isfinite(differences).sum()))]:
            at_ns = int(pairs.times_ns[place])
            examples.append(
                {
                    "quantity": quantity,
                    "subject": str(pairs.subjects[place]),
                    "session": str(pairs.sessions[place]),
                    "time_ns": at_ns,
                    "reference": round(float(pairs.reference[place]), 6),
                    "test": round(float(pairs.test[place]), 6),
                    "series": [_series(role, at_ns, around_s, *there) for role, there in by_role.items()],
                }
            )
    return tuple(examples)


def largest(examples: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Return the largest differences of each quantity among those of several sessions."""
    ordered = sorted(examples, key=lambda example: -abs(example["test"] - example["reference"]))
    quantities = dict.fromkeys(example["quantity"] for example in ordered)
    return tuple(
        example
        for quantity in sorted(quantities)
        for example in [e for e in ordered if e["quantity"] == quantity][:MOST]
    )


def _series(
    role: str, at_ns: int, around_s: float, times_ns: NDArray[np.int64], values: NDArray[np.float64]
) -> dict[str, Any]:
    reach_ns = int(around_s * 1e9)
    first, end = np.searchsorted(times_ns, [at_ns - reach_ns, at_ns + reach_ns + 1])
    step = max(1, -(-int(end - first) // _MOST_READINGS))
    chosen = slice(int(first), int(end), step)
    return {
        "role": role,
        "times_s": [round(float(t), 3) for t in (times_ns[chosen] - at_ns) / 1e9],
        "values": [None if np.isnan(v) else round(float(v), 6) for v in values[chosen]],
    }
