"""What a study would find of a device whose differences are normal: the figures of many such studies at once.

Every subject has an offset of its own, normal between subjects, and its pairs scatter about it, normal within.
With equally many pairs of each subject all that a study says of the differences follows from three independent
numbers: their mean (normal), the sums of squares between and within subjects (both chi-square). So it needs
no simulated pairs: a few thousand points of a Sobol sequence of the three stand for all studies, and the power
of any rule about them is known to tenths of a percent. The points are fixed: no seed is needed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from analysis.pressure_accuracy import SUBJECT_SD_LIMITS_MMHG
from analysis.rms_error import mean_square_interval
from analysis.variance_components import OneWay
from protocols.errors import SignalError

Floats = NDArray[np.float64]

_SOBOL_POINTS: Final = 4096


@dataclass(frozen=True, slots=True)
class NormalDifferences:
    """Test minus reference of a device, and how often each subject is measured.

    Parameters
    ----------
    bias
        Mean of the differences.
    between_sd, within_sd
        Standard deviation of the subjects' offsets, and of a subject's pairs about its own.
    pairs_per_subject
        Equal for all.
    """

    bias: float
    between_sd: float
    within_sd: float
    pairs_per_subject: int = 1

    def __post_init__(self) -> None:
        if not math.isfinite(self.bias):
            raise SignalError(f"bias={self.bias!r}, expected a finite number")
        for name in ("between_sd", "within_sd"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SignalError(f"{name}={value!r}, expected a finite number >= 0")
        if self.pairs_per_subject < 1:
            raise SignalError(f"pairs_per_subject={self.pairs_per_subject!r}, expected at least 1")

    @property
    def mean_square(self) -> float:
        """Expected mean square between subjects."""
        return self.pairs_per_subject * self.between_sd**2 + self.within_sd**2

    @property
    def correlation(self) -> float:
        """Correlation of two differences of one subject; 0 where nothing varies."""
        total = self.between_sd**2 + self.within_sd**2
        return self.between_sd**2 / total if total > 0 else 0.0

    def within(self, limit: float) -> float:
        """Return the share of differences of at most `limit`, 0 to 1."""
        sd = math.hypot(self.between_sd, self.within_sd)
        if sd == 0:
            return float(abs(self.bias) <= limit)
        return float(special.ndtr((limit - self.bias) / sd) - special.ndtr((-limit - self.bias) / sd))


@dataclass(frozen=True, slots=True, eq=False)
class Studies:
    """What many studies of one size found: mean, and mean squares between and within subjects, shape (n,).

    `within` is 0 with one pair of each subject.
    """

    n_subjects: int
    pairs_per_subject: int
    mean: Floats
    between: Floats
    within: Floats

    @property
    def n_pairs(self) -> int:
        """Pairs of each study."""
        return self.n_subjects * self.pairs_per_subject

    @property
    def sum_of_squares(self) -> Floats:
        """About the mean of all pairs."""
        free = self.n_pairs - self.n_subjects
        return (self.n_subjects - 1) * self.between + free * self.within

    @property
    def variance(self) -> Floats:
        """Between plus within subjects, a negative component counting as 0 (Bland & Altman 2007, section 3)."""
        if self.pairs_per_subject == 1:
            return self.between
        component = (self.between - self.within) / self.pairs_per_subject
        return np.asarray(np.maximum(component, 0.0) + self.within)

    def one_way(self) -> OneWay:
        """Return the same as an analysis of variance."""
        whole = np.full(self.mean.shape, float(self.n_pairs))
        m = float(self.pairs_per_subject)
        return OneWay(
            n_values=whole,
            n_subjects=whole / m,
            mean=self.mean,
            mean_of_means=self.mean,
            variance_of_means=self.between / m,
            between=self.between,
            within=self.within,
            size=np.full(self.mean.shape, m),
            mean_inverse_size=np.full(self.mean.shape, 1.0 / m),
            sum_squared_sizes=whole * m,
        )


@functools.lru_cache(maxsize=64)  # criteria of one plan ask for the same sizes again
def studies(device: NormalDifferences, n_subjects: int) -> Studies:
    """Return what studies of so many subjects find, at the points of a Sobol sequence of 4,096; read-only.

    Raises
    ------
    SignalError
        If there are fewer than 2 subjects: nothing is known of what varies between them.
    """
    if n_subjects < 2:
        raise SignalError(f"n_subjects={n_subjects}, expected at least 2")
    m = device.pairs_per_subject
    n, free = n_subjects * m, n_subjects * (m - 1)
    mean = device.bias + _QUANTILES * math.sqrt(device.mean_square / n)
    between = device.mean_square * special.chdtri(n_subjects - 1, _CHANCES[:, 1]) / (n_subjects - 1)
    within = (
        device.within_sd**2 * special.chdtri(free, _CHANCES[:, 2]) / free if free else np.zeros_like(between)
    )
    for values in (mean, between, within):
        values.setflags(write=False)
    return Studies(n_subjects, m, mean, between, within)


def boundless_study(device: NormalDifferences) -> Studies:
    """Return the one study of so many subjects that it finds the truth."""
    within = np.array([device.within_sd**2 if device.pairs_per_subject > 1 else 0.0])
    return Studies(
        10**9,
        device.pairs_per_subject,
        np.array([device.bias]),
        np.array([device.mean_square]),
        within,
    )


def _root_mean_square(found: Studies) -> Floats:
    return np.asarray(np.sqrt(found.mean**2 + found.sum_of_squares / found.n_pairs))


def _sd(found: Studies) -> Floats:
    return np.asarray(np.sqrt(found.sum_of_squares / (found.n_pairs - 1)))


def _limit_of_agreement(found: Studies, side: int) -> Floats:
    return np.asarray(found.mean + side * special.ndtri(0.975) * np.sqrt(found.variance))


def subject_sd_limits_mmhg(found: Studies) -> Floats:
    """Return what table 1 of ISO 81060-2 allows at each study's mean; NaN above 5.0."""
    tenths = np.floor(10.0 * np.abs(found.mean) + 0.5 + 1e-9).astype(np.int64)
    table = np.array([*SUBJECT_SD_LIMITS_MMHG, np.nan])
    return np.asarray(table[np.minimum(tenths, len(SUBJECT_SD_LIMITS_MMHG))])


FIGURES: Final[Mapping[str, Callable[[Studies], Floats]]] = MappingProxyType(
    {
        "bias": lambda found: found.mean,
        "abs_bias": lambda found: np.abs(found.mean),
        "rms": _root_mean_square,
        "arms": _root_mean_square,
        "sd": _sd,
        "precision": _sd,
        "subject_sd": lambda found: np.sqrt(found.between / found.pairs_per_subject),
        "subject_sd_limit": subject_sd_limits_mmhg,
        "s_corr": lambda found: np.sqrt(found.variance),
        "lower_limit_of_agreement": lambda found: _limit_of_agreement(found, -1),
        "upper_limit_of_agreement": lambda found: _limit_of_agreement(found, 1),
    }
)
"""Name of a metric without its quantity -> its values in studies, shape (n,)."""


def bound(found: Studies, figure: str, side: str, level: float) -> Floats | None:
    """Return the `low` or `high` end of a figure's interval in each study; None where theory has none here.

    The mean by t of the subjects' means; the root mean square by MOVER (`analysis.rms_error`).
    """
    if figure == "bias":
        t = float(special.stdtrit(found.n_subjects - 1, 0.5 + 0.5 * level))
        reach = t * np.sqrt(found.between / found.n_pairs)
        return np.asarray(found.mean + (reach if side == "high" else -reach))
    if figure in ("rms", "arms"):
        interval = mean_square_interval(found.one_way(), level)
        return np.asarray(np.sqrt(getattr(interval, side)))
    return None


_CHANCES: Final = stats.qmc.Sobol(3, scramble=False).random(_SOBOL_POINTS) + 0.5 / _SOBOL_POINTS
_QUANTILES: Final = special.ndtri(_CHANCES[:, 0])
