"""Power spectra of values at uneven times: the periodogram of Lomb and Scargle by fast Fourier transform.

Theory of operation
-------------------
The periodogram needs, for each frequency, the sums over all values of the value times sine and cosine, and
those of sine and cosine of twice the frequency. Each value is spread over the 12 cells around its time of an
even grid, in the shape of a kernel; the transform of the grid, divided by that of the kernel, holds the sums at
all frequencies at once.

References
----------
Lomb 1976, doi:10.1007/BF00648343; Scargle 1982, doi:10.1086/160554. Press & Rybicki 1989, doi:10.1086/167197,
for the use of a grid; the kernel is that of Barnett, Magland & af Klinteberg 2019, doi:10.1137/18M120885X.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from analysis.arrays import as_positive, as_series
from protocols.errors import SignalError

_BLOCK_VALUES: Final = 8192  # spread at once
_KERNEL_CELLS: Final = 12  # a value is spread over; error about 1e-11, Barnett et al. 2019
_FINE: Final = 2  # grid cells per frequency, Barnett et al. 2019

_Floats: TypeAlias = NDArray[np.float64]


def lomb_scargle_psd(times_s: ArrayLike, values: ArrayLike, *, step_hz: float, n_frequencies: int) -> _Floats:
    """Return the one-sided power spectral density of values at uneven times, in their unit squared per Hz.

    Parameters
    ----------
    times_s, values
        Shape (n,), without NaN; take the mean out of `values` before.
    step_hz, n_frequencies
        The frequencies are `step_hz`, 2 `step_hz` ... `n_frequencies` of them.

    Returns
    -------
    Shape (n_frequencies,): 2 / n times the duration of n mean intervals times the periodogram of Lomb 1976,
    whose direct sums it equals to 1e-9 of the largest.

    Raises
    ------
    SignalError
        If the shapes differ, there are fewer than two values or a NaN, or the step is not above 0.
    """
    times_s, values = as_series(times_s, name="times_s"), as_series(values, name="values")
    step_hz = as_positive(step_hz, name="step_hz", unit="Hz")
    if times_s.size != values.size or times_s.size < 2 or np.isnan(times_s).any() or np.isnan(values).any():
        raise SignalError(f"{times_s.size} times, {values.size} values, expected as many, at least 2, no NaN")
    if n_frequencies < 1:
        raise SignalError(f"n_frequencies={n_frequencies}, expected at least 1")
    cycles = times_s - times_s[0]
    span_s = float(cycles[-1])
    if not span_s > 0.0:
        raise SignalError(f"times_s from {times_s[0]} to {times_s[-1]}, expected them in ascending order")
    cycles *= step_hz
    density = _density(cycles, values, n_frequencies)
    density *= span_s
    return density


def _density(cycles: _Floats, values: _Floats, n: int) -> _Floats:
    """Return the density of Lomb 1976 for 1 to `n` times the unit of `cycles`, for a span of 1 s."""
    twice = _trigonometric_sums(cycles, None, 2 * n)[2::2].copy()
    sums = _trigonometric_sums(cycles, values, n)[1:]
    sums *= np.exp(-0.5j * np.angle(twice))  # to the phase at which sine and cosine are orthogonal
    of_double = np.abs(twice)
    least = cycles.size * 1e-9  # a sine that is 0 at every time has no power
    sine = (cycles.size - of_double) / 2.0
    density = np.where(sine > least, sums.imag**2 / np.maximum(sine, least), 0.0)
    density += sums.real**2 / ((cycles.size + of_double) / 2.0)
    density /= cycles.size - 1
    return np.asarray(density)


def _trigonometric_sums(cycles: _Floats, values: _Floats | None, n: int) -> NDArray[np.complex128]:
    """Return the sums of values (1 for None) * exp(2 pi i k cycles), for k from 0 to `n` inclusive.

    Values are spread on a grid of twice as many cells as there are frequencies, transformed, and the transform
    of the kernel divided out.
    """
    n_cells = fft.next_fast_len(max(2 * _FINE * (n + 1), 2 * _KERNEL_CELLS), real=True)
    grid = np.zeros(n_cells)
    for start in range(0, cycles.size, _BLOCK_VALUES):  # bounds the memory
        places = np.mod(cycles[start : start + _BLOCK_VALUES], 1.0) * n_cells
        first = np.ceil(places - _KERNEL_CELLS / 2.0).astype(np.int64)
        places -= first  # distance to the first cell, from 0 to half a kernel
        for k in range(_KERNEL_CELLS):  # the cells of the kernel, not the values
            weights = _kernel(places - k)
            if values is not None:
                weights *= values[start : start + _BLOCK_VALUES]
            np.add.at(grid, np.mod(first + k, n_cells), weights)
    sums = fft.rfft(grid)[: n + 1]
    del grid
    np.conj(sums, out=sums)
    sums /= _kernel_transform(n, n_cells)
    return np.asarray(sums)


@lru_cache(maxsize=8)  # windows of one length share it
def _kernel_transform(n: int, n_cells: int) -> _Floats:
    """Return the transform of the kernel at 0 to `n` cycles over all cells."""
    half = _KERNEL_CELLS / 2.0
    of_kernel = np.zeros(n + 1)
    frequencies = np.arange(n + 1) * (2.0 * np.pi * half / n_cells)
    for node, weight in zip(*np.polynomial.legendre.leggauss(4 * _KERNEL_CELLS), strict=True):
        if node > 0.0:  # the kernel is even
            of_kernel += (
                2.0 * weight * half * float(_kernel(np.array(node * half))) * np.cos(frequencies * node)
            )
    of_kernel.flags.writeable = False
    return of_kernel


def _kernel(distance: _Floats) -> _Floats:
    """Return the exponential of a semicircle, Barnett et al. 2019, for distances in cells."""
    inside = 1.0 - (distance * (2.0 / _KERNEL_CELLS)) ** 2
    return np.asarray(np.exp(2.30 * _KERNEL_CELLS * (np.sqrt(np.maximum(inside, 0.0)) - 1.0)))
