"""The words beside limits of agreement: conventions chosen, and what a reader must know of the data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.agreement_designs import Components


def conventions(design: str, scale: str, weighting: str, coverage: float) -> tuple[str, ...]:
    """Return what the field does in more than one way, and which was chosen."""
    z = special.ndtri(0.5 + 0.5 * coverage)
    told = [
        "differences are test - reference",
        f"limits are bias -+ {z:.4g} sd, by the normal quantile; divisors of variances are n - 1",
    ]
    if design == "repeated_constant":
        told.append("unlinked replicates, subjects' means count once each; divisors m are harmonic means")
    elif design == "repeated_varying" and weighting == "pairs":
        told.append("linked pairs, each counts once in the bias; components by analysis of variance")
    elif design == "repeated_varying":
        told.append("linked pairs, each subject counts once in the bias; harmonic mean of pairs (Zou 2013)")
    if scale != "difference":
        told.append(
            {
                "log": "natural logarithms of test and reference",
                "ratio": "test / reference; bias is the geometric mean ratio; sd in natural logarithms",
                "percent": "in percent of the mean of test and reference",
            }[scale]
        )
    return tuple(told)


def remarks(
    found: Components,
    n_excluded: NDArray[np.intp],
    n_duplicates: NDArray[np.intp],
    equal: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    design: str,
    weighting: str,
) -> tuple[str, ...]:
    """Return what a reader must know of the data: exclusions, truncation, why figures are NaN.

    Parameters
    ----------
    found
        Components of the design.
    n_excluded, n_duplicates
        Pairs left out, and pairs that repeat an earlier one.
    equal, truncated
        Where all differences are equal, and where the component between subjects is below 0.
    design, weighting
        Of the study.
    """
    many = f" in {{}} of {equal.size} samples" if equal.ndim else ""

    def where(these: Any) -> str:
        return many.format(int(np.count_nonzero(these)))

    told = []
    if np.any(n_excluded):
        told.append(f"{int(np.sum(n_excluded))} pairs left out: a value is missing")
    if np.any(n_duplicates):
        told.append(f"{int(np.sum(n_duplicates))} pairs repeat an earlier pair of the same subject")
    few = ~np.isfinite(found.variance)
    if design == "independent":
        if few.any():
            told.append(f"no limits: fewer than 2 pairs{where(few)}")
    else:
        alone = few & (found.n_subjects >= 2)
        if (few & ~alone).any():
            told.append(f"no limits: fewer than 2 subjects{where(few & ~alone)}")
        if alone.any():
            told.append(
                f"no limits: every subject has a single pair; as independent pairs they have{where(alone)}"
            )
    if equal.any():
        told.append(f"no intervals: all differences are equal{where(equal)}")
    if truncated.any():
        part = "variance between subjects came out below 0 and counts as 0"
        as_is = (
            "" if design == "repeated_varying" and weighting == "pairs" else "; sd is as the formula gives it"
        )
        told.append(f"{part}{where(truncated)}{as_is}")
    return tuple(told)
