"""How often a study shows that a share of its trials is large enough, by its value or by an exact lower bound.

Trials are independent here; where those of one subject resemble one another, a study is worth fewer trials than
it has, by its design effect 1 + (m - 1) correlation, m trials of each subject.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from analysis.estimates import as_share
from protocols.errors import SignalError

Floats = NDArray[np.float64]

MOST_TRIALS: Final = 200_000
"""Where a search gives up."""
JUDGED: Final = ("value", "low")


def successes_needed(
    trials: NDArray[np.int64], *, limit: float, judged: str, level: float = 0.95, strict: bool = False
) -> Floats:
    """Return the fewest successes of each number of trials that show a share of at least `limit`.

    Parameters
    ----------
    trials
        Shape (...).
    limit
        Share, above 0 and below 1, that is to be reached; with `strict`, exceeded.
    judged
        `value`: the share itself. `low`: the exact one-sided lower bound at `level` (Clopper & Pearson).
    level
        One-sided.

    Returns
    -------
    More than there are trials where no number is enough.
    """
    as_share(limit, name="limit")
    if judged not in JUDGED:
        raise SignalError(f"judged={judged!r}, expected one of {', '.join(JUDGED)}")
    n = np.asarray(trials, dtype=np.float64)
    if judged == "value":
        product = np.round(limit * n, 9)  # 0.95 of 20 is 19, not a hair more
        return np.asarray(np.floor(product) + 1 if strict else np.ceil(product))
    # the bound exceeds the limit where so many or more would be seen, at the limit, in 1 - level or less
    most = stats.binom.ppf(as_share(level, name="level"), n, limit)
    return np.asarray(most + 1)


def share_power(
    trials: NDArray[np.int64],
    *,
    share: float,
    limit: float,
    judged: str,
    level: float = 0.95,
    strict: bool = False,
) -> Floats:
    """Return how probably trials of a true `share` show one of at least `limit`; the rest as above."""
    needed = successes_needed(trials, limit=limit, judged=judged, level=level, strict=strict)
    n = np.asarray(trials, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        more = special.betainc(needed, n - needed + 1, share)  # P(X >= needed)
    return np.asarray(np.where((needed > n) | (n < 1), 0.0, more))


def share_trials(
    *,
    share: float,
    limit: float,
    power: float,
    judged: str,
    level: float = 0.95,
    strict: bool = False,
) -> int:
    """Return the number of trials from which on the wanted `share_power` is kept.

    Counts are whole, so that the power of a few trials more may be less: it is the number after the last that
    falls short.

    Raises
    ------
    SignalError
        If the true share is not beyond the limit, or more than 200,000 trials are needed.
    """
    as_share(power, name="power")
    if not as_share(limit, name="limit") < share <= 1:
        raise SignalError(f"share={share!r}, expected above the limit {limit:g}, and at most 1")
    # where the normal approximation has it, and well beyond
    z = special.ndtri(max(power, 0.5)) * math.sqrt(share * (1 - share))
    z += special.ndtri(level if judged == "low" else 0.5) * math.sqrt(limit * (1 - limit))
    most = int(2 * (z / (share - limit)) ** 2 + 20 / (share - limit) + 200)
    if most > MOST_TRIALS:
        raise SignalError(f"more than {MOST_TRIALS} trials needed, expected a study of at most so many")
    trials = np.arange(1, most + 1)
    enough = share_power(trials, share=share, limit=limit, judged=judged, level=level, strict=strict) >= power
    return int(trials[~enough].max(initial=0)) + 1
