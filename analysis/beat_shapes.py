"""The shapes of heartbeats: QRS complexes of one or several leads, compared as one vector at their best lag.

At about 120 samples a second and without baseline, beats are cut out around their marks with room to shift. A
shape is the median of beats that correlate; the first is taken where most beats lie close together, and each
takes its beats away from the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from analysis.filters import bridged
from analysis.heartbeats import averaged, averaging_factor

SAME: Final = 0.90
"""Correlation from which two QRS complexes have one shape."""

_HALF_QRS_S: Final = 0.15  # a ventricular beat lasts up to 0.2 s, and its mark may be at any of its peaks
_LAG_S: Final = 0.06  # how far the marks of two beats may differ: half of 120 ms, the longest normal QRS
_BASELINE_S: Final = 0.8  # one heart cycle at 75 beats/min: a mean over it follows breath, not the QRS
_MAX_SHAPES: Final = 16
_SAMPLE: Final = 256  # beats compared with each other to find where they are densest
_QUIET_WINDOW_S: Final = 0.1
_QUIET_SEARCH_S: Final = 1.0
_TINY: Final = 1e-12

_Floats: TypeAlias = NDArray[np.float64]
_Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Complexes:
    """The leads around every beat: (n_beats, n_leads, width + 2 lags), in units of each lead's noise.

    `present` (n_beats, n_leads) tells where no sample is missing, `restless` (n_beats,) how loud the quietest
    moment nearby is relative to the beat.
    """

    pieces: _Floats
    present: _Flags
    restless: _Floats
    lags: int

    @property
    def width(self) -> int:
        """Samples of a beat at its own lag."""
        return int(self.pieces.shape[2]) - 2 * self.lags


def cut_complexes(leads: NDArray[Any], samples: NDArray[np.int64], *, rate_hz: float) -> Complexes:
    """Return the leads, shape (n_leads, n_samples), around every beat; see `Complexes`."""
    factor = averaging_factor(rate_hz)
    rate_hz = rate_hz / factor
    half, lags = round(_HALF_QRS_S * rate_hz), round(_LAG_S * rate_hz)
    offsets = np.arange(-half - lags, half + lags + 1)
    pieces = np.zeros((samples.size, leads.shape[0], offsets.size))
    present = np.zeros((samples.size, leads.shape[0]), dtype=bool)
    restless = np.full(samples.size, np.inf)
    for k, lead in enumerate(leads):
        slow = averaged(lead, factor)
        missing = np.isnan(slow)
        if slow.size == 0 or missing.all():
            continue
        slow = bridged(slow)
        slow -= slow[0]
        slow -= ndimage.uniform_filter1d(slow, round(_BASELINE_S * rate_hz) | 1)
        at = np.clip(samples[:, np.newaxis] // factor + offsets, 0, slow.size - 1)
        present[:, k] = ~missing[at[:, lags:-lags]].any(axis=1)
        pieces[:, k] = slow[at] * present[:, k, np.newaxis]
        np.minimum(restless, _restlessness(slow, at, rate_hz), out=restless, where=present[:, k])
        pieces[:, k] /= max(_spread(pieces[:, k], present[:, k]), _TINY)
    return Complexes(pieces, present, restless, lags)


def _restlessness(lead: _Floats, at: NDArray[np.int64], rate_hz: float) -> _Floats:
    """Return the slope in the quietest moment around every beat, relative to the steepest of the beat."""
    slopes = np.diff(lead, prepend=lead[:1])
    slopes *= slopes
    energy = np.maximum(ndimage.uniform_filter1d(slopes, max(1, round(_QUIET_WINDOW_S * rate_hz))), 0.0)
    quiet = ndimage.minimum_filter1d(energy, round(_QUIET_SEARCH_S * rate_hz))
    loudest = np.maximum(energy[at].max(axis=1), np.finfo(np.float64).tiny)
    return np.asarray(np.sqrt(quiet[at[:, at.shape[1] // 2]] / loudest))


def _spread(pieces: _Floats, present: _Flags) -> float:
    """Return how much the beats of a lead differ from their median: the size of its noise."""
    if not present.any():
        return 0.0
    deviations = pieces[present] - np.median(pieces[present], axis=0)
    return float(np.sqrt(np.median(deviations**2, axis=0).mean()))


def find_shapes(complexes: Complexes) -> tuple[list[_Floats], NDArray[np.intp]]:
    """Return the shapes that occur at least twice, and the number of every beat's shape, -1 for none."""
    members = np.full(complexes.restless.size, -1)
    shapes: list[_Floats] = []
    for _ in range(_MAX_SHAPES):  # each takes its beats away from the next
        left = np.flatnonzero((members < 0) & complexes.present.any(axis=1))
        if left.size < 2:
            break
        shape = _densest(complexes, left)
        for _ in range(2):  # the second time around the median of all beats alike
            similar, lags, _sizes = compare(complexes, shape, left)
            alike = similar > SAME
            if not alike.any():
                break
            shape = _centred(np.median(aligned_beats(complexes, lags[alike], left[alike]), axis=0))
        if alike.sum() < 2:
            break
        members[left[alike]] = len(shapes)
        shapes.append(shape)
    return shapes, members


def _densest(complexes: Complexes, left: NDArray[np.intp]) -> _Floats:
    """Return the median of the beats like the one that most of a sample are like."""
    some = left[np.linspace(0, left.size - 1, min(left.size, _SAMPLE)).astype(np.intp)]
    aligned = aligned_beats(complexes, np.full(some.size, complexes.lags), some)
    flat = aligned.reshape(some.size, -1)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), _TINY)
    near = flat @ flat.T > SAME
    return _centred(np.median(aligned[near[np.argmax(near.sum(axis=1))]], axis=0)) if near.any() else aligned[0]


def _centred(shape: _Floats) -> _Floats:
    return np.asarray(shape - shape.mean(axis=-1, keepdims=True))


def compare(
    complexes: Complexes, shape: _Floats, which: NDArray[np.intp]
) -> tuple[_Floats, NDArray[np.intp], _Floats]:
    """Return the highest correlation of beats with a shape, at which lag, and their size over the shape's."""
    pieces, width = complexes.pieces[which], complexes.width
    n_lags = 2 * complexes.lags + 1
    products, energies = np.empty((2, pieces.shape[0], n_lags))
    for k in range(n_lags):  # some 15 lags
        cut = pieces[:, :, k : k + width]
        products[:, k] = np.einsum("nlw,lw->n", cut, shape)
        energies[:, k] = np.einsum("nlw,nlw->n", cut, cut) - width * (cut.mean(axis=2) ** 2).sum(axis=1)
    energies = np.maximum(energies, _TINY)
    expected = np.maximum(complexes.present[which] @ (shape**2).sum(axis=1), _TINY)
    correlations = products / np.sqrt(energies * expected[:, np.newaxis])
    best = correlations.argmax(axis=1)
    rows = np.arange(best.size)
    return correlations[rows, best], best, np.sqrt(energies[rows, best] / expected)


def aligned_beats(complexes: Complexes, lags: NDArray[np.intp], which: NDArray[np.intp]) -> _Floats:
    """Return the beats cut at their own lags, (n, n_leads, width), each lead without its mean."""
    pieces = complexes.pieces[which]
    at = lags[:, np.newaxis, np.newaxis] + np.arange(complexes.width)
    return _centred(
        np.take_along_axis(pieces, np.broadcast_to(at, (*pieces.shape[:2], complexes.width)), axis=2)
    )
