"""Gaussian noise addressed by sample index: the same sample is the same however a signal is cut into frames."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_BLOCK: Final = 1024


def white_noise(seed: tuple[int, ...], first: int, n_samples: int) -> NDArray[np.float64]:
    """Return samples `first` to `first + n_samples` of an endless standard normal sequence.

    Parameters
    ----------
    seed
        Names the sequence; non-negative integers.
    first
        At least 0.
    """
    blocks = range(first // _BLOCK, (first + n_samples - 1) // _BLOCK + 1)
    if n_samples == 0:
        return np.empty(0)
    noise = np.concatenate([_block(seed, block) for block in blocks])
    offset = first - blocks.start * _BLOCK
    return noise[offset : offset + n_samples]


@lru_cache(maxsize=256)
def _block(seed: tuple[int, ...], block: int) -> NDArray[np.float64]:
    noise = np.random.default_rng([*seed, block]).standard_normal(_BLOCK)
    noise.flags.writeable = False
    return noise
