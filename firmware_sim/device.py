"""A simulated device: what it answers and which frames it sends when, without any link, clock or sleep.

A link (PTY, RFC 2217, virtual BLE) serves whatever has the shape of `SimulatedDevice`. *Run time* is lab time
in seconds since the device was powered on; `pacing.drive` hands it in. A device stamps its frames with a clock
of its own, which may drift against run time.

`FrameDevice` is the one implementation: a table of readable values, a control point, and frame sources that
each send at a steady period of the device's own clock::

    origin_s                 origin_s + period_s        origin_s + 2 period_s
       |---- frame 0 -----------|---- frame 1 -------------|            (device time)
                                ^ frame 0 is due           ^ frame 1 is due

A source runs on this grid for ever, whether or not somebody listens: what falls into a disconnection is lost,
and counters jump by it, as on a real device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from protocols.devices.kind import DeviceKind
from protocols.errors import DefinitionError, LivingLabError

ATT_READ_NOT_PERMITTED: Final = 0x02
ATT_WRITE_NOT_PERMITTED: Final = 0x03

Frame = tuple[str, bytes]
"""A characteristic's UUID or `SERIAL_SOURCE`, and the bytes sent from it."""


class AttError(LivingLabError):
    """The Attribute Protocol error a device answers with; `code` is the byte on the wire."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"ATT error {code:#04x}: {message}")
        self.code = code


class DeviceVanishedError(LivingLabError):
    """Raised by `advance` when the device was unplugged or lost power: the link is to break off."""


class SimulatedDevice(Protocol):
    """What a link serves.

    Attributes
    ----------
    name
        The advertised name, or the port's.
    powered_on_ns
        Lab time (UTC ns) of run time 0; None until the first `drive`, which sets it. Devices given the same one
        before share their subject's time line.
    on_change
        Called when something may have become due earlier than `next_due_s` said last; set by `drive`.
    """

    name: str
    powered_on_ns: int | None
    on_change: Callable[[], None]

    @property
    def kind(self) -> DeviceKind:
        """What it is."""

    @property
    def finished(self) -> bool:
        """Whether everything it has to send was handed out by `advance` (a replay at its end)."""

    def connect(self) -> None:
        """Take note that somebody listens now; streaming starts afresh, counters go on."""

    def disconnect(self) -> None:
        """Take note that nobody listens any more."""

    def read(self, uuid: str) -> bytes:
        """Return a characteristic's value; raises AttError."""

    def write(self, uuid: str, data: bytes) -> bytes | None:
        """Take a written value (`SERIAL_SOURCE` for a serial port); raises AttError.

        What is returned is to be indicated on the same characteristic, or sent back through the port.
        """

    def next_due_s(self) -> float:
        """Return the run time at which `advance` has something to do, inf for never as things stand."""

    def advance(self, until_s: float) -> list[Frame]:
        """Return the frames that became due up to and including run time `until_s`, oldest first.

        Raises DeviceVanishedError once the device is gone.
        """


@dataclass(frozen=True, slots=True)
class DeviceClock:
    """A device's own clock: it shows 0 at power-on and runs fast by `drift_ppm` against run time.

    Raises
    ------
    DefinitionError
        If `drift_ppm` is beyond what any oscillator does.
    """

    drift_ppm: float = 0.0

    def __post_init__(self) -> None:
        if not abs(self.drift_ppm) <= 10_000:
            raise DefinitionError(f"drift_ppm={self.drift_ppm!r}, expected -10000 to 10000")

    def device_s(self, run_s: float) -> float:
        """Return what the clock shows at run time `run_s`."""
        return run_s * (1 + self.drift_ppm * 1e-6)

    def run_s(self, device_s: float) -> float:
        """Return the run time at which the clock shows `device_s`."""
        return device_s / (1 + self.drift_ppm * 1e-6)


class FrameSource(Protocol):
    """Frames of one characteristic or port, at a steady period of the device's clock."""

    @property
    def uuid(self) -> str:
        """The characteristic's UUID or `SERIAL_SOURCE`."""

    @property
    def period_s(self) -> float:
        """Device seconds between frames."""

    @property
    def n_frames(self) -> int | None:
        """How many frames there are; None for no end."""

    def due_s(self, frame: int) -> float:
        """Return when the frame is complete, in device seconds after the origin."""

    def encode(self, frame: int, origin_s: float) -> bytes:
        """Return the bytes of frame number `frame`, with the source's origin at device time `origin_s`."""


@dataclass(slots=True)
class Outlet:
    """A source in a device, and where it stands.

    Parameters
    ----------
    source
        What is sent.
    on_connect
        Whether it sends as soon as somebody is connected; otherwise a command starts it.
    origin_s
        Device time of the source's origin; None: the moment it starts for the first time.
    """

    source: FrameSource
    on_connect: bool = True
    origin_s: float | None = None
    next_frame: int = 0
    running: bool = False
    starting: bool = False

    @property
    def exhausted(self) -> bool:
        """Whether the last frame has been handed out or missed."""
        return self.source.n_frames is not None and self.next_frame >= self.source.n_frames

    def request(self, *, on: bool) -> None:
        """Start at the next opportunity, or stop now."""
        self.starting, self.running = on, False

    def start(self, device_s: float) -> None:
        """Start with the first frame that begins at `device_s` or later."""
        if self.origin_s is None:
            self.origin_s = device_s
        frame = math.ceil((device_s - self.origin_s) / self.source.period_s - 1e-9)
        self.next_frame = max(self.next_frame, frame)
        self.starting, self.running = False, True

    def next_due_s(self) -> float:
        """Return the device time at which its next frame is due."""
        if not self.running or self.exhausted or self.origin_s is None:
            return math.inf
        return self.origin_s + self.source.due_s(self.next_frame)

    def take(self) -> Frame:
        """Return the next frame and step on."""
        frame = self.next_frame
        self.next_frame += 1
        return self.source.uuid, self.source.encode(frame, self.origin_s or 0.0)


Control = Callable[["FrameDevice", bytes], bytes | None]
"""Answers a write: may start and stop outlets of the device; raises AttError."""


class FrameDevice:
    """A simulated device made of frame sources.

    Parameters
    ----------
    kind, name
        As in `SimulatedDevice`.
    outlets
        What it sends.
    clock
        Its own clock.
    values
        Readable characteristics: a value, or a function of run time.
    controls
        What a write to a characteristic does.
    """

    def __init__(
        self,
        kind: DeviceKind,
        name: str,
        outlets: Sequence[Outlet],
        *,
        clock: DeviceClock | None = None,
        values: Mapping[str, bytes | Callable[[float], bytes]] | None = None,
        controls: Mapping[str, Control] | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.outlets = tuple(outlets)
        self.clock = clock or DeviceClock()
        self.powered_on_ns: int | None = None
        self.on_change: Callable[[], None] = _nobody_waits
        self._values = dict(values or {})
        self._controls = dict(controls or {})
        self._now_s = 0.0

    @property
    def finished(self) -> bool:
        """Whether every source has an end and has reached it."""
        return all(outlet.exhausted for outlet in self.outlets)

    def connect(self) -> None:
        """Start what runs by itself; what a command had started stays stopped."""
        for outlet in self.outlets:
            outlet.request(on=outlet.on_connect)
        self.on_change()

    def disconnect(self) -> None:
        """Stop sending."""
        for outlet in self.outlets:
            outlet.request(on=False)

    def start(self, uuid: str) -> None:
        """Start the outlet of a characteristic, as its control point was told; a running one goes on."""
        outlet = self.outlet(uuid)
        if not (outlet.running or outlet.starting):
            outlet.request(on=True)
            self.on_change()

    def stop(self, uuid: str) -> None:
        """Stop the outlet of a characteristic."""
        self.outlet(uuid).request(on=False)

    def outlet(self, uuid: str) -> Outlet:
        """Return the outlet of a characteristic; KeyError if there is none."""
        for outlet in self.outlets:
            if outlet.source.uuid == uuid:
                return outlet
        raise KeyError(f"outlet {uuid!r} of {self.name}")

    def read(self, uuid: str) -> bytes:
        """Return a characteristic's value; raises AttError where there is none to read."""
        value = self._values.get(uuid)
        if value is None:
            raise AttError(ATT_READ_NOT_PERMITTED, f"{self.name} has nothing to read at {uuid}")
        return value(self._now_s) if callable(value) else value

    def write(self, uuid: str, data: bytes) -> bytes | None:
        """Hand a written value to its control; raises AttError where there is none."""
        control = self._controls.get(uuid)
        if control is None:
            raise AttError(ATT_WRITE_NOT_PERMITTED, f"{self.name} takes no writes at {uuid}")
        return control(self, data)

    def next_due_s(self) -> float:
        """Return the run time of the next frame, or of now if a source waits to be started."""
        if any(outlet.starting for outlet in self.outlets):
            return self._now_s
        return self.clock.run_s(min((outlet.next_due_s() for outlet in self.outlets), default=math.inf))

    def advance(self, until_s: float) -> list[Frame]:
        """Return the frames due up to `until_s`; sources that wait to be started start then."""
        self._now_s = max(self._now_s, until_s)
        frames = []
        while True:
            due = min(self.outlets, key=Outlet.next_due_s, default=None)
            if due is None or self.clock.run_s(due.next_due_s()) > until_s:
                break
            frames.append(due.take())
        for outlet in self.outlets:
            if outlet.starting:
                outlet.start(self.clock.device_s(self._now_s))
        return frames


def _nobody_waits() -> None:
    """Stand in for `on_change` until somebody drives the device."""
