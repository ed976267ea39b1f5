"""Where an acceleration walks, at which step frequency, and where each step lies: what `steps` counts by.

Everything works on the norm of the acceleration at 25 Hz, second by second; `steps` tells the theory. Where a
sensor is worn decides how regular walking must be: on the trunk, which does not gesture, it need not repeat.

Where no source is named below, a round figure was taken after a look at neighbouring values on 26 walks (mean
error 1.5 %): NEARLY_AS_MUCH 0.3 to 0.6 gives 1.4 to 2.0, LEAST_SHARE 0.25 to 0.35 gives 1.4 to 1.7, SURE_SHARE
0.4 to 0.6 gives 1.4 to 1.6 and 0.65 loses walks, LEAST_REPEAT 0.2 to 0.4 with SURE_REPEAT 0.5 to 0.6 gives 1.4
to 1.7 and 0.7 loses walks, LEAST_MOVEMENT_MPS2 0.2 to 0.6 and LEAST_AT_STEP 0.03 to 0.08 give 1.3 to 1.6.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Worn: TypeAlias = Literal["anywhere", "trunk"]

GRID_HZ = 25  # three times the highest frequency looked at (8 Hz), and a whole number of samples a second
SMOOTH_S = 0.12  # against aliasing on the grid; a heel strike lasts about as long
WINDOW_S = 6  # five strides of usual walking; Brajdic & Harle search windows of 1 to 10 s
STEP_HZ = (1.0, 3.2)  # from slow walking of patients to running
GRAVITY_MPS2 = 9.80665
LEAST_MOVEMENT_MPS2 = 0.4  # a phone in the hand of a slow walker has twice that
LEAST_SHARE = 0.3  # of the power above chance in the stride's harmonics
SURE_SHARE = 0.5  # and half of it somewhere near
LEAST_REPEAT = 0.3  # correlation of the movement with itself a stride later
SURE_REPEAT = 0.5
SURE_WITHIN_S = 8
LEAST_AT_STEP = 0.05  # of the power at the step frequency itself: shaking at 4 Hz has none at 2 Hz
NEARLY_AS_MUCH = 0.5  # of the power explained: then the strongest frequency decides

_FREQUENCIES_HZ = np.arange(0.4, 8.01, 0.1)
_CANDIDATES = np.flatnonzero((STEP_HZ[0] - 0.05 < _FREQUENCIES_HZ) & (STEP_HZ[1] + 0.05 > _FREQUENCIES_HZ))
# harmonics of the stride, for each candidate: nearer than 0.2 Hz, half the tapered line's width
_HARMONICS = [
    np.abs(_FREQUENCIES_HZ - np.maximum(1, np.rint(2 * _FREQUENCIES_HZ / hz)) * hz / 2) <= 0.2
    for hz in _FREQUENCIES_HZ[_CANDIDATES]
]
_AT = [np.abs(_FREQUENCIES_HZ - hz) <= 0.2 for hz in _FREQUENCIES_HZ[_CANDIDATES]]
_BY_CHANCE = np.array([of.mean() for of in _HARMONICS])  # what they hold of a flat spectrum
_SUMS = np.array([*_HARMONICS, *_AT], dtype=np.float64).T.copy()
_BANK_HZ = 1.0 * 1.1 ** np.arange(13)  # wavelets 10 % apart: 97 % of the gain half way between two


def whole_seconds(n_samples: int, rate_hz: float) -> int:
    """Return how many seconds, begun ones included, so many samples take."""
    return int(np.ceil(n_samples / rate_hz))


def on_grid(norm: NDArray[np.float64], first: int, start: int, rate_hz: float) -> NDArray[np.float64]:
    """Return the smoothed norm less gravity at 25 Hz, whole seconds from `start`; NaN where missing."""
    half = round(SMOOTH_S * rate_hz / 2)
    kernel = np.hanning(2 * half + 3)[1:-1]
    kernel /= kernel.sum()
    valid = np.isfinite(norm)
    smooth = ndimage.correlate1d(np.where(valid, norm - GRAVITY_MPS2, 0.0), kernel, mode="nearest")
    if not valid.all():
        weight = ndimage.correlate1d(valid.astype(np.float64), kernel, mode="nearest")
        with np.errstate(invalid="ignore", divide="ignore"):
            smooth = np.where(weight >= 0.5, smooth / weight, np.nan)
    n_seconds = max(1, whole_seconds(first + norm.size, rate_hz) - start)
    place = (np.arange(n_seconds * GRID_HZ) + GRID_HZ * start) * (rate_hz / GRID_HZ)
    left = np.floor(place).astype(np.int64)
    part = place - left
    left -= first
    a = smooth[np.clip(left, 0, norm.size - 1)]
    b = smooth[np.clip(left + 1, 0, norm.size - 1)]
    return np.asarray(a + (b - a) * part)


def step_frequency(
    grid: NDArray[np.float64], worn: Worn, *, everywhere: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the step frequency of each second, and whether it is strong and regular enough for walking.

    Only seconds that move enough are looked at, or all of them `everywhere`.
    """
    width = WINDOW_S * GRID_HZ
    before = (width - GRID_HZ) // 2
    padded = np.pad(grid, (before, width - GRID_HZ - before), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)[::GRID_HZ]
    windows = windows - windows.mean(axis=1, keepdims=True)
    second = windows[:, before : before + GRID_HZ]
    rms, rms_now = (np.sqrt((part * part).mean(axis=1)) for part in (windows, second))
    walking = np.minimum(rms, rms_now) >= LEAST_MOVEMENT_MPS2
    walking = np.ones_like(walking) if everywhere else walking
    at = np.flatnonzero(walking)
    step_hz, share, repeats = np.ones(walking.size), np.zeros(walking.size), np.zeros(walking.size)
    power = _power(windows[at])
    # one product per window, here and in `_power`: a product of all rounds differently with their number
    parts = np.matmul(power[:, None, :], _SUMS)[:, 0] / np.maximum(power.sum(axis=1, keepdims=True), 1e-30)
    explained, at_step = np.split(parts, 2, axis=1)
    explained = (explained - _BY_CHANCE) / (1 - _BY_CHANCE)
    likely = explained >= NEARLY_AS_MUCH * explained.max(axis=1, keepdims=True)
    best = np.argmax(power[:, _CANDIDATES] * likely, axis=1)[:, None]
    step_hz[at] = _FREQUENCIES_HZ[_CANDIDATES][best[:, 0]]
    steady = np.take_along_axis(at_step, best, axis=1) >= LEAST_AT_STEP
    share[at] = (np.take_along_axis(explained, best, axis=1) * steady)[:, 0]
    repeats[at] = 1.0 if worn == "trunk" else _repeats(windows[at], step_hz[at])
    sure = walking & (share >= SURE_SHARE) & (repeats >= SURE_REPEAT)
    near = ndimage.binary_dilation(sure, np.ones(2 * SURE_WITHIN_S + 1))
    return step_hz, walking & (share >= LEAST_SHARE) & (repeats >= LEAST_REPEAT) & near


def _repeats(windows: NDArray[np.float64], step_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the highest correlation of each window with itself a stride later, within a tenth of a second."""
    highest = np.full(len(windows), -1.0)
    strides = np.rint(2 * GRID_HZ / step_hz).astype(np.int64)
    for stride in np.unique(strides):  # at most fifty
        rows = np.flatnonzero(strides == stride)
        some = windows[rows]
        power = np.cumsum(some * some, axis=1)
        for lag in range(stride - 2, stride + 3):
            together = np.einsum("ij,ij->i", some[:, lag:], some[:, :-lag])
            scale = np.sqrt(np.maximum((power[:, -1] - power[:, lag - 1]) * power[:, -lag - 1], 1e-30))
            highest[rows] = np.maximum(highest[rows], together / scale)
    return highest


def _power(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the power of each window at `_FREQUENCIES_HZ`, tapered."""
    half = windows.shape[1] // 2
    taper = np.hanning(2 * half + 2)[1:-1]
    late, early = windows[:, half:], windows[:, half - 1 :: -1]
    angle = 2 * np.pi * np.outer((np.arange(half) + 0.5) / GRID_HZ, _FREQUENCIES_HZ)
    scale = taper[half:, None] * (2 / taper.sum())
    even = np.matmul((late + early)[:, None, :], scale * np.cos(angle))[:, 0]
    odd = np.matmul((late - early)[:, None, :], scale * np.sin(angle))[:, 0]
    return np.asarray(even * even + odd * odd)


def at_step_frequency(
    grid: NDArray[np.float64], step_hz: NDArray[np.float64], walking: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the grid filtered around the step frequency of each walking second, 0 elsewhere."""
    longest = round(2 * GRID_HZ / _BANK_HZ[0])
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(grid, longest, mode="edge"), GRID_HZ + 2 * longest
    )[::GRID_HZ]
    chosen = np.argmin(np.abs(np.log(step_hz[:, None] / _BANK_HZ)), axis=1)
    filtered = np.zeros((walking.size, GRID_HZ))
    for k, centre_hz in enumerate(_BANK_HZ):  # thirteen filters, each over the seconds that asked for it
        rows = np.flatnonzero(walking & (chosen == k))
        if rows.size:
            half = int(2 * GRID_HZ / centre_hz)
            t_s = np.arange(-half, half + 1) / GRID_HZ
            taper = 1 + np.cos(np.pi * t_s * centre_hz / 2)
            wavelet = taper * np.cos(2 * np.pi * t_s * centre_hz) * (2 / taper.sum())
            wavelet -= taper * (wavelet.sum() / taper.sum())
            near = windows[rows, longest - half : longest + GRID_HZ + half]
            near = np.lib.stride_tricks.sliding_window_view(near, wavelet.size, axis=1)
            filtered[rows] = np.einsum("ijk,k->ij", near, wavelet)
    return filtered.ravel()


def peaks_of(filtered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the maxima above 0 that are highest within 0.2 s, between the points of the grid (parabola)."""
    highest = ndimage.maximum_filter1d(filtered, 2 * round(0.2 * GRID_HZ) + 1, mode="constant")
    inner = slice(1, -1)
    top = (filtered == highest) & (filtered > 0)
    top[inner] &= (filtered[inner] > filtered[:-2]) & (filtered[inner] >= filtered[2:])
    top[[0, -1]] = False
    at = np.flatnonzero(top)
    left, mid, right = filtered[at - 1], filtered[at], filtered[at + 1]
    return np.asarray(at + 0.5 * (left - right) / (left - 2 * mid + right))
