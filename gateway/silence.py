"""The watch for devices that are connected and say nothing, and what is tried against it, step by step.

Silence is counted in ticks of the gateway, each of which counts for little, so that a machine that was paused
does not take its own absence for the device's. A connection that has brought nothing yet is given longer.

=====  ====================================================================================================
step   remedy; each is given the time after which a device counts as silent
=====  ====================================================================================================
1      revive: subscribe and start anew over the live connection
2      reconnect
3      power-cycle the adapter, where there is one and the whole device is silent
4      raise the alarm; a device that is silent as a whole is connected anew, again and again
=====  ====================================================================================================
"""

from __future__ import annotations

import enum
from typing import Final

from protocols.devices.kind import DeviceKind
from protocols.samples import Stream

SILENCE_S: Final = 3.0
FIRST_SILENCE_S: Final = 10.0
LONGEST_TICK_S: Final = 1.0

STEADY_KINDS: Final = frozenset({"heart-rate-strap", "pulse-oximeter"})
"""They notify about once a second as long as they are worn, although none of their streams has a rate."""

_SILENT_FRAMES: Final = 5
_SHORTEST_SILENCE_S: Final = 0.2


class StreamSilence:
    """For how long a stream has brought nothing, in real time in which this process was awake.

    Parameters
    ----------
    stream
        Which.
    silence_s
        Lab seconds after which it counts as silent; None: `SILENCE_S` real seconds, or longer for slow frames.
    speed
        Lab seconds per real second.

    Attributes
    ----------
    brought
        Whether the present connection has brought samples.
    ever_brought
        Whether the device has, since the gateway started.
    unheard_s, silent_s
        Real seconds without samples: since the last ones, and those of them over the present connection.
    """

    def __init__(self, stream: Stream, *, silence_s: float | None, speed: float) -> None:
        self.brought = self.ever_brought = False
        self.unheard_s = self.silent_s = 0.0
        self._rate_hz = stream.rate_hz
        self._silence_s = silence_s
        self._speed = speed
        self._frame_samples = 1

    @property
    def limit_s(self) -> float:
        """Real seconds without samples after which the stream counts as silent."""
        if self._silence_s is not None:
            return max(_SHORTEST_SILENCE_S, self._silence_s / self._speed)
        if self._rate_hz is None:
            return SILENCE_S
        return max(SILENCE_S, _SILENT_FRAMES * self._frame_samples / self._rate_hz / self._speed)

    @property
    def silent(self) -> bool:
        """Whether nothing has come over this connection for that long."""
        return self.silent_s >= self.limit_s

    @property
    def unheard(self) -> bool:
        """Whether nothing has come for that long."""
        return self.unheard_s >= self.limit_s

    def connected(self) -> None:
        """Begin anew with a connection."""
        self.brought = False
        self.silent_s = 0.0

    def heard(self, n_samples: int) -> None:
        """Take note of a frame's samples."""
        self.brought = self.ever_brought = True
        self.unheard_s = self.silent_s = 0.0
        self._frame_samples = max(self._frame_samples, n_samples)

    def tick(self, elapsed_s: float) -> None:
        """Take note that so much real time has passed."""
        awake_s = min(elapsed_s, LONGEST_TICK_S)
        self.unheard_s += awake_s
        self.silent_s += awake_s


def is_watched(kind: DeviceKind, silence_s: float | None) -> bool:
    """Return whether silence of the whole device means trouble; not for one that speaks when it is used."""
    rated = any(stream.rate_hz is not None for stream in kind.streams)
    return rated or silence_s is not None or kind.name in STEADY_KINDS


class Remedy(enum.Enum):
    """What to do against silence."""

    REVIVE = enum.auto()
    RECONNECT = enum.auto()
    POWER_CYCLE = enum.auto()


class Watchdog:
    """Says what to try next against a device's silence; one for all connections to it."""

    def __init__(self) -> None:
        self.alarm = False
        self._step = 0
        self._patience_s = 0.0

    def connected(self) -> None:
        """Take note that a new connection has its own time to bring something."""
        self._patience_s = 0.0

    def well(self) -> None:
        """Take note that all comes that should: the next silence begins with the first remedy."""
        self.alarm = False
        self._step = 0
        self._patience_s = 0.0

    def silent(self, elapsed_s: float, *, limit_s: float, whole: bool) -> Remedy | None:
        """Return the remedy whose time has come, if any.

        Parameters
        ----------
        elapsed_s
            Real time since the last call.
        limit_s
            How long a remedy is given.
        whole
            Whether the device brings nothing at all; while it brings something its link is spared.
        """
        self._patience_s -= min(elapsed_s, LONGEST_TICK_S)
        if self._patience_s > 0:
            return None
        self._step += 1
        self._patience_s = limit_s
        if self._step <= 2:
            return (Remedy.REVIVE, Remedy.RECONNECT)[self._step - 1]
        if self._step == 3 and whole:
            return Remedy.POWER_CYCLE
        self.alarm = True
        return Remedy.RECONNECT if whole else None
