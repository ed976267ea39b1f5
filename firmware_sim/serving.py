"""Serves all devices of a scenario, each on its link, for as long as a context lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_sim.device import SimulatedDevice
from firmware_sim.pacing import power_on
from firmware_sim.scenario import Scenario
from protocols.errors import TransportError
from protocols.lab_clock import LabClock

if TYPE_CHECKING:
    from firmware_sim.links.virtual_ble import VirtualRadio


@dataclass(frozen=True, slots=True)
class Placed:
    """A device and its link: `pty`, `rfc2217` (on TCP port `port`, 0 for any free one) or `ble`."""

    device: SimulatedDevice
    link: str
    port: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """A device and how a gateway reaches it.

    Parameters
    ----------
    device
        Itself.
    link
        `pty`, `rfc2217` or `ble`.
    address
        Path, URL or Bluetooth address.
    radio
        The air it is in, for BLE: tells of failures, and makes links fail.
    """

    device: SimulatedDevice
    link: str
    address: str
    radio: VirtualRadio | None = None

    @property
    def adapter(self) -> str:
        """The gateway's adapter spec, for BLE; otherwise empty."""
        return self.radio.adapter if self.radio else ""


@asynccontextmanager
async def serve_scenario(
    scenario: Scenario, clock: LabClock, *, start: asyncio.Event | None = None
) -> AsyncIterator[tuple[Served, ...]]:
    """Serve the scenario's devices and yield how they are reached, in order.

    All are powered on together, so that subjects' time begins at once, unless `start` is given: then when it is
    set and each is first listened to.

    Raises
    ------
    DefinitionError, StoreError, DecodeError
        If a device cannot be made.
    TransportError
        If a port cannot be listened on.
    """
    devices = scenario.make_devices()
    if start is None:
        power_on(devices, clock)
    placed = [
        Placed(device, settings.link, settings.port)
        for settings, device in zip(scenario.devices, devices, strict=True)
    ]
    async with serve_devices(placed, clock, hci_port=scenario.hci_port, start=start) as served:
        yield served


@asynccontextmanager
async def serve_devices(
    placed: Sequence[Placed], clock: LabClock, *, hci_port: int = 0, start: asyncio.Event | None = None
) -> AsyncIterator[tuple[Served, ...]]:
    """Serve devices, each on its link, and yield how they are reached, in order.

    Parameters
    ----------
    placed
        Devices with different names, and their links.
    hci_port
        Where gateways reach the BLE devices; 0 for any free one.
    start
        As for `drive`.

    Raises
    ------
    TransportError
        If a port cannot be listened on.
    """
    async with AsyncExitStack() as stack:
        addresses: dict[str, str] = {}
        radio: VirtualRadio | None = None
        for each in placed:
            if each.link == "pty":
                from firmware_sim.links.pty import serve_pty

                port = serve_pty(each.device, clock, start=start)
                addresses[each.device.name] = await stack.enter_async_context(port)
            elif each.link == "rfc2217":
                from firmware_sim.links.rfc2217 import serve_rfc2217

                server = serve_rfc2217(each.device, clock, port=each.port, start=start)
                addresses[each.device.name] = await stack.enter_async_context(server)
        in_the_air = [each.device for each in placed if each.link == "ble"]
        if in_the_air:
            radio = await _serve_ble(stack, in_the_air, clock, hci_port, start)
            addresses |= radio.addresses
        yield tuple(
            Served(each.device, each.link, addresses[each.device.name], radio if each.link == "ble" else None)
            for each in placed
        )


async def _serve_ble(
    stack: AsyncExitStack,
    devices: Sequence[SimulatedDevice],
    clock: LabClock,
    port: int,
    start: asyncio.Event | None,
) -> VirtualRadio:
    """Put devices into the air."""
    from firmware_sim.links.virtual_ble import serve_ble

    try:
        return await stack.enter_async_context(serve_ble(devices, clock, port=port, start=start))
    except OSError as error:
        raise TransportError(f"HCI port {port} cannot be listened on: {error}") from error
