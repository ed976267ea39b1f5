"""Figures of one recording: the table of what its signals can be asked for.

A figure is one number for a recording, NaN where the signal is too poor for one. Waveforms of several channels
are brought to the clock of the fastest one first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.signal_study import Signal
from protocols.errors import SignalError

_LONGEST_BRIDGE_S: Final = 0.1
"""Missing samples of at most this much are interpolated when waveforms are brought to one clock."""


@dataclass(frozen=True, slots=True)
class SignalMetric:
    """One entry of the table.

    Parameters
    ----------
    unit
        UCUM code of the figure.
    channels
        Names of the channels it is computed from.
    function
        Computes it from these channels.
    source
        Where it is defined.
    """

    unit: str
    channels: tuple[str, ...]
    function: Callable[[Mapping[str, Signal]], float]
    source: str


def figure(metric: str, signals: Mapping[str, Signal]) -> float:
    """Return the figure of one recording, NaN where the signal allows none.

    Raises
    ------
    SignalError
        If there is no such metric, a channel it needs is not there, or the signal is of the wrong kind.
    """
    if metric not in SIGNAL_METRICS:
        raise SignalError(f"metric {metric!r}, expected one of {', '.join(SIGNAL_METRICS)}")
    needed = SIGNAL_METRICS[metric].channels
    lacking = [channel for channel in needed if channel not in signals]
    if lacking:
        raise SignalError(f"{metric} of channels {', '.join(signals)}: {', '.join(lacking)} expected as well")
    return float(SIGNAL_METRICS[metric].function({channel: signals[channel] for channel in needed}))


def _waveforms(function: Callable[..., float]) -> Callable[[Mapping[str, Signal]], float]:
    """Return a function of waveforms, one argument each, with `rate_hz`."""

    def of_signals(signals: Mapping[str, Signal]) -> float:
        values, rate_hz = _on_one_clock(list(signals.values()))
        return function(*values, rate_hz=rate_hz)

    return of_signals


def _stacked(function: Callable[..., float]) -> Callable[[Mapping[str, Signal]], float]:
    """Return a function of waveforms stacked as one array (n_channels, n), with `rate_hz`."""

    def of_signals(signals: Mapping[str, Signal]) -> float:
        values, rate_hz = _on_one_clock(list(signals.values()))
        return function(np.stack(values), rate_hz=rate_hz)

    return of_signals


def _readings(function: Callable[..., float]) -> Callable[[Mapping[str, Signal]], float]:
    """Return a function of the readings of one channel, with their `times_ns`."""

    def of_signals(signals: Mapping[str, Signal]) -> float:
        (only,) = signals.values()
        return function(only.values, times_ns=only.times_ns)

    return of_signals


def _on_one_clock(signals: list[Signal]) -> tuple[list[NDArray[np.float64]], float]:
    """Return waveforms sampled together, where all of them are there, and their rate."""
    first = max(signals, key=lambda signal: signal.rate_hz or 0.0)
    if any(signal.rate_hz is None for signal in signals) or first.rate_hz is None:
        raise SignalError("readings with times of their own, expected waveforms with a rate")
    return [signal.values for signal in signals], first.rate_hz


SIGNAL_METRICS: Final[Mapping[str, SignalMetric]] = MappingProxyType({})
"""Name -> metric."""
