"""What every analysis asks of the arrays it is given.

Time is the last axis. NaN means missing; infinity, numbers no quantity has, complex numbers and text are
misuse. Inputs are never altered.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.errors import SignalError

_LARGEST: Final = 1e30
"""No quantity or raw count comes near (64 bits end at 2e19), and the eighth power of it is still a number."""


def as_signal(values: ArrayLike, *, name: str = "signal") -> NDArray[Any]:
    """Return `values` as an array of real numbers, in the integer or float type they came in.

    Parameters
    ----------
    values
        Shape (..., n_samples).
    name
        How an error calls them.

    Raises
    ------
    SignalError
        If there is no time axis, if the values are not real numbers, or if any is infinite or
        beyond 1e30.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise SignalError(f"{name} is masked, expected NaN where a value is missing")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise SignalError(f"{name}: {error}") from error
    if array.ndim == 0:
        raise SignalError(f"{name} is a single {array.dtype} value, expected an array with a time axis")
    if array.dtype.kind not in "iuf":
        raise SignalError(f"{name} of dtype {array.dtype}, expected integers or real numbers")
    if array.dtype.kind == "f" and array.size:
        size = float(max(np.fmax.reduce(array, axis=None), -np.fmin.reduce(array, axis=None)))
        if math.isinf(size):
            raise SignalError(f"{name} holds infinite values, expected finite ones (NaN where missing)")
        if size > _LARGEST:
            raise SignalError(f"{name} holds values of {size:.3g}, expected at most {_LARGEST:g}")
    return array


def as_series(values: ArrayLike, *, name: str) -> NDArray[np.float64]:
    """Return `values` as one-dimensional float64, NaN where missing.

    Raises
    ------
    SignalError
        As `as_signal`, or if the shape is not (n,).
    """
    array = as_signal(values, name=name)
    if array.ndim != 1:
        raise SignalError(f"{name} of shape {array.shape}, expected one dimension")
    return np.asarray(array, dtype=np.float64)


def as_times_ns(values: ArrayLike, *, name: str) -> NDArray[np.int64]:
    """Return UTC times in ns as one-dimensional int64.

    Raises
    ------
    SignalError
        If they are not integers, not one-dimensional, or go back in time.
    """
    array = np.asarray(values)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise SignalError(f"{name} of shape {array.shape} and dtype {array.dtype}, expected integers (n,)")
    times_ns = array.astype(np.int64)
    if (np.diff(times_ns) < 0).any():
        raise SignalError(f"{name} go back in time, expected them in ascending order")
    return times_ns


def as_positive(value: float, *, name: str, unit: str) -> float:
    """Return `value` if it is a finite number above 0.

    Raises
    ------
    SignalError
        Otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise SignalError(f"{name}={value!r}, expected a number of {unit} > 0")
    if not (math.isfinite(value) and value > 0):
        raise SignalError(f"{name}={value!r}, expected a finite number of {unit} > 0")
    return float(value)
