"""Accuracy of SpO2 against a reference saturation: Arms, bias and precision of pairs.

A study of pairs with subjects, intervals and exclusions is `oximetry_study`.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_signal
from protocols.errors import SignalError

_Floats: TypeAlias = NDArray[np.float64]


def arms_percent(test_percent: ArrayLike, reference_percent: ArrayLike) -> _Floats:
    """Return the accuracy root mean square (Arms) of SpO2, in percent; it includes the bias.

    Parameters
    ----------
    test_percent, reference_percent
        Pairs, shape (..., n_pairs); a pair with a NaN is left out.

    Returns
    -------
    Shape (...); NaN without pairs.

    References
    ----------
    ISO 80601-2-61 and FDA 2013: the square root of the mean of the squared differences.
    """
    differences, count = _differences(test_percent, reference_percent)
    return np.asarray(np.sqrt(np.nansum(differences**2, axis=-1) / count))


def bias_percent(test_percent: ArrayLike, reference_percent: ArrayLike) -> _Floats:
    """Return the mean difference, in percent; shapes and NaN as `arms_percent`."""
    differences, count = _differences(test_percent, reference_percent)
    return np.asarray(np.nansum(differences, axis=-1) / count)


def precision_percent(test_percent: ArrayLike, reference_percent: ArrayLike) -> _Floats:
    """Return the standard deviation (n - 1) of the differences, in percent; NaN below two pairs."""
    differences, count = _differences(test_percent, reference_percent)
    mean = np.nansum(differences, axis=-1, keepdims=True) / count[..., np.newaxis]
    degrees = np.where(count > 1, count - 1, np.nan)
    return np.asarray(np.sqrt(np.nansum((differences - mean) ** 2, axis=-1) / degrees))


def _differences(test_percent: ArrayLike, reference_percent: ArrayLike) -> tuple[_Floats, _Floats]:
    """Return the differences, and how many of the last axis are no NaN (NaN for none)."""
    test, reference = as_signal(test_percent, name="test"), as_signal(reference_percent, name="reference")
    if test.shape[-1] != reference.shape[-1]:
        raise SignalError(f"test of shape {test.shape}, reference {reference.shape}, expected pairs")
    differences = np.subtract(test, reference, dtype=np.float64)
    count = np.isfinite(differences).sum(axis=-1)
    return differences, np.where(count > 0, count, np.nan)
