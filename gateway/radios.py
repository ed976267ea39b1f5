"""The gateway's BLE radios, and which of them a device is reached by.

`DeviceConfig.adapter` names one adapter, or several in order of preference, with commas between them::

    adapter = "bluez:hci1, bluez:hci0"

One attempt to connect asks them in this order. An adapter that is missing or hears nothing, and one that failed
twice in a row for this device, rests for a while: it is passed over as long as another one is left. One that
goes on hearing nothing is switched off and on, unless a device streams over it all the same.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from gateway.config import DeviceConfig
from gateway.transport import Frame, LinkError, Transport, Trouble
from protocols.devices.kind import BleLink
from protocols.lab_clock import LabClock

if TYPE_CHECKING:
    from gateway.ble import BleRadio, BleTransport

ADAPTER_REST_S: Final = 10.0
"""How long an adapter rests that failed by itself, for all devices."""
DEVICE_REST_S: Final = 60.0
"""How long an adapter rests that failed repeatedly, for the device it failed for."""
FAILURES_BEFORE_REST: Final = 2
POWER_CYCLE_AFTER_S: Final = 30.0
"""How long an adapter must have failed by itself to be switched off and on."""
POWER_CYCLE_PAUSE_S: Final = 60.0
QUIET_S: Final = 5.0
"""A device that was heard within this time streams, and keeps its adapter from being switched off."""

_FIND_S: Final = 15.0
_FIND_BY_ONE_OF_MANY_S: Final = 5.0
_HOPELESS: Final = (Trouble.REFUSED, Trouble.PERMANENT)
"""What the device itself is the cause of; another adapter would meet the same."""
_SPEC_BEGINS: Final = re.compile(r",(?=\s*(?:bluez\b|[a-z][a-z0-9-]*:))")
"""A comma between two specs; those within one (`serial:/dev/ttyACM0,1000000`) are followed by no such thing."""

_logger = logging.getLogger(__name__)


def adapter_specs(adapter: str) -> tuple[str, ...]:
    """Return the adapters that a `DeviceConfig.adapter` names, the preferred one first."""
    return tuple(spec.strip() for spec in _SPEC_BEGINS.split(adapter))


class Radios:
    """All radios of a gateway, each opened when its first device wants it and shared from then on.

    Parameters
    ----------
    clock
        Stamps the frames.
    """

    def __init__(self, clock: LabClock) -> None:
        self._clock = clock
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._open: dict[str, BleRadio] = {}
        self._failures: Counter[tuple[str, str]] = Counter()
        self._failing_since_s: dict[str, float] = {}
        self._rests_until_s: dict[tuple[str, str], float] = {}
        self._last: dict[str, BleRadio] = {}
        self._links: dict[BleTransport, tuple[str, BleRadio]] = {}
        self._cycled_s: dict[str, float] = {}

    def connect(self, device: DeviceConfig, link: BleLink) -> Transport:
        """Return the transport of one attempt to reach the device over one of its adapters."""
        return _RadioTransport(self, device, link)

    async def power_cycle(self, device: DeviceConfig) -> bool:
        """Switch the adapter that the device used last off and on; return whether that was done.

        Refused while another device streams over that adapter, if it was done less than `POWER_CYCLE_PAUSE_S`
        ago, and where the platform has no means. Never raises.
        """
        radio = self._last.get(device.name)
        if radio is None or self._streams_for_others(radio, device.name):
            return False
        since_s = time.monotonic() - self._cycled_s.get(radio.spec, -math.inf)
        if since_s < POWER_CYCLE_PAUSE_S:
            return False
        try:
            done = await radio.power_cycle(lambda: not self._streams_for_others(radio, device.name))
        except LinkError as error:
            _logger.warning("BLE adapter %s cannot be switched off and on: %s", radio.spec, error)
            done = False
        if done:
            self._cycled_s[radio.spec] = time.monotonic()
            _logger.warning("BLE adapter %s was switched off and on for %s", radio.spec, device.name)
        return done

    async def close(self) -> None:
        """Close all."""
        await self._stack.aclose()

    async def open_link(self, device: DeviceConfig, link: BleLink) -> BleTransport:
        """Return a connection to the device over the best adapter that gets one.

        Raises
        ------
        LinkError
            If none does; says why of each.
        """
        specs = adapter_specs(device.adapter)
        failures: list[LinkError] = []
        for spec in self.in_turn(device.name, specs):
            try:
                transport = await self._open_link(device, link, spec, alone=len(specs) == 1)
            except LinkError as error:
                failures.append(error)
                if self._note_failure(device.name, spec, error):
                    await self.power_cycle(device)
                if error.trouble in _HOPELESS:
                    break
            else:
                self._failures.pop((device.name, spec), None)
                self._failing_since_s.pop(spec, None)
                return transport
        if len(failures) == 1:
            raise failures[0]
        raise LinkError("; ".join(map(str, failures)), failures[-1].trouble) from failures[-1]

    async def close_link(self, transport: BleTransport) -> None:
        """End a connection."""
        del self._links[transport]
        await transport.__aexit__(None, None, None)

    async def _open_link(self, device: DeviceConfig, link: BleLink, spec: str, *, alone: bool) -> BleTransport:
        from gateway.ble import BleTransport

        radio = self._last[device.name] = await self._radio(spec)
        find_timeout_s = _FIND_S if alone else _FIND_BY_ONE_OF_MANY_S
        transport = BleTransport(device.address or "", link, self._clock, radio, find_timeout_s=find_timeout_s)
        await transport.__aenter__()
        self._links[transport] = device.name, radio
        return transport

    async def _radio(self, spec: str) -> BleRadio:
        """Return the radio of an adapter; raises LinkError if there is none."""
        from gateway.ble_adapter import canonical  # a gateway of serial ports needs no BLE stack
        from gateway.ble_radio import open_radio

        async with self._opening:
            name = await canonical(spec)
            if name not in self._open:
                self._open[name] = await self._stack.enter_async_context(open_radio(name))
            return self._open[name]

    def in_turn(self, device: str, specs: tuple[str, ...]) -> list[str]:
        """Return the adapters to ask now: those that do not rest, or the one that has rested longest."""
        now_s = time.monotonic()
        until_s = {
            spec: max(self._rests_until_s.get((name, spec), 0.0) for name in (device, "")) for spec in specs
        }
        awake = [spec for spec in specs if until_s[spec] <= now_s]
        return awake or [min(specs, key=until_s.__getitem__)]

    def _note_failure(self, device: str, spec: str, error: LinkError) -> bool:
        """Let an adapter rest where that is due; return whether it needs to be switched off and on."""
        from gateway.ble_errors import AdapterError

        now_s = time.monotonic()
        if isinstance(error, AdapterError):
            self._rests_until_s["", spec] = now_s + ADAPTER_REST_S
            return now_s - self._failing_since_s.setdefault(spec, now_s) >= POWER_CYCLE_AFTER_S
        self._failures[device, spec] += 1
        if self._failures[device, spec] >= FAILURES_BEFORE_REST:
            self._rests_until_s[device, spec] = now_s + DEVICE_REST_S
        return False

    def _streams_for_others(self, radio: BleRadio, device: str) -> bool:
        """Return whether another device was heard over this radio within `QUIET_S`."""
        heard_since_s = time.monotonic() - QUIET_S
        return any(
            name != device and used is radio and link.last_arrival_s > heard_since_s
            for link, (name, used) in self._links.items()
        )


class _RadioTransport:
    """One attempt to connect a device over any of its adapters; fits `gateway.transport.Transport`."""

    def __init__(self, radios: Radios, device: DeviceConfig, link: BleLink) -> None:
        self._radios = radios
        self._device = device
        self._link = link

    async def __aenter__(self) -> Self:
        self._transport = await self._radios.open_link(self._device, self._link)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._radios.close_link(self._transport)

    def frames(self) -> AsyncIterator[Frame]:
        return self._transport.frames()

    async def revive(self) -> bool:
        return await self._transport.revive()
