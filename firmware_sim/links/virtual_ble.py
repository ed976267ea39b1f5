"""Virtual Bluetooth: simulated devices in the air, and radios for gateways, each at a TCP connection.

    devices ─ GATT ─ host ─ controller ─┐
                                       Air ─ controller ─ HCI over TCP ─ host ─ bleak ─ gateway
    devices ─ GATT ─ host ─ controller ─┘

Whoever connects to the port finds a Bluetooth controller of its own that speaks HCI (H4, as over a UART): this
project's gateway, in the same process or another, or any Bluetooth host, such as firmware in an emulator. When
it hangs up, its controller leaves the air and its connections are lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from bumble.transport.common import AsyncPacketReader

from firmware_sim.device import DeviceVanishedError, SimulatedDevice
from firmware_sim.links.ble_air import Air, VirtualController, quieten
from firmware_sim.links.ble_peripheral import Peripheral
from firmware_sim.links.port import LAST_BYTES_S
from protocols.errors import DefinitionError
from protocols.lab_clock import LabClock

_LEAST_ADVERTISING_INTERVAL_MS = 20.0
"""What Bluetooth allows (Core 5.4, Vol 6, Part B, 4.4.2.2), in real time."""

_logger = logging.getLogger(__name__)


@asynccontextmanager
async def serve_ble(
    devices: Sequence[SimulatedDevice],
    clock: LabClock,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    start: asyncio.Event | None = None,
    addresses: Mapping[str, str] | None = None,
    advertising_interval_ms: float = 100.0,
    connection_interval_s: float = 0.0,
    event_loss: float = 0.0,
    seed: int = 0,
) -> AsyncIterator[VirtualRadio]:
    """Put devices into the air, for as long as the context lasts.

    Parameters
    ----------
    devices
        With different names; each one's kind has a `BleLink`.
    clock
        Lab time, which all intervals here are in.
    host, port
        Where gateways connect; port 0 takes a free one.
    start
        If given, no device is powered on for streaming before it is set, however long it is connected.
    addresses
        Bluetooth address by device name, with `/P` at the end of a public one; others follow from the name.
    advertising_interval_ms
        How often an unconnected device shows itself.
    connection_interval_s, event_loss, seed
        Data move only every so often, and with this probability not even then, but one interval later.

    Raises
    ------
    DefinitionError
        If two devices have one name or one address, or a device cannot be a BLE peripheral; on leaving, if a
        device sent a value longer than its connection's MTU allows.
    OSError
        If the port is taken.
    """
    quieten()
    air = Air(connection_interval_s=clock.real_s(connection_interval_s), event_loss=event_loss, seed=seed)
    radio = VirtualRadio(air)
    interval_ms = max(_LEAST_ADVERTISING_INTERVAL_MS, clock.real_s(advertising_interval_ms))
    for device in devices:
        given = (addresses or {}).get(device.name)
        radio.add(device, address=given, advertising_interval_ms=interval_ms)
    server = await asyncio.start_server(radio.serve_gateway, host, port)
    radio.adapter = "tcp-client:{}:{}".format(*server.sockets[0].getsockname()[:2])
    try:
        await radio.power_on(clock, start)
        yield radio
    finally:
        server.close()
        await radio.power_off()
    radio.raise_failure()


class VirtualRadio:
    """The devices in the air, and what may happen to them. Made by `serve_ble`.

    Attributes
    ----------
    adapter
        The adapter spec with which a gateway reaches them.
    """

    def __init__(self, air: Air) -> None:
        self.adapter = ""
        self._air = air
        self._peripherals: dict[str, Peripheral] = {}
        self._streams: list[asyncio.Task[None]] = []
        self._gateways: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    @property
    def addresses(self) -> dict[str, str]:
        """Each device's Bluetooth address by its name."""
        return {
            name: peripheral.address.to_string(with_type_qualifier=False)
            for name, peripheral in self._peripherals.items()
        }

    def is_connected(self, device: SimulatedDevice) -> bool:
        """Whether a gateway is connected to the device."""
        return bool(self._controller(device).le_connections)

    def link_loss(self, device: SimulatedDevice) -> None:
        """Lose the device's connection: both ends notice at once, and the device advertises again."""
        self._air.lose_links(self._controller(device))

    def mute(self, device: SimulatedDevice) -> None:
        """Let nothing pass to or from the device, and nobody be told: connected, but silent."""
        self._air.mute(self._controller(device))

    def unmute(self, device: SimulatedDevice) -> None:
        """Let the device be heard again; what it sent meanwhile is lost."""
        self._air.unmute(self._controller(device))

    async def switch_off(self, device: SimulatedDevice) -> None:
        """Take the device out of the air: its connection is lost, and nobody finds it."""
        await self._peripherals[device.name].power_off()

    async def switch_on(self, device: SimulatedDevice) -> None:
        """Let a device that was switched off advertise again."""
        await self._peripherals[device.name].power_on()

    async def finished(self) -> None:
        """Wait until every device has sent all it has to send.

        Raises
        ------
        DefinitionError
            If a device sent a value longer than its connection's MTU allows.
        """
        if self._streams:
            await asyncio.wait(self._streams, return_when=asyncio.FIRST_EXCEPTION)
        self.raise_failure()

    def add(self, device: SimulatedDevice, *, address: str | None, advertising_interval_ms: float) -> None:
        """Add a device, still powered off."""
        peripheral = Peripheral(
            device,
            self._air,
            address=address,
            advertising_interval_ms=advertising_interval_ms,
            link_ready=self._drain,
        )
        for name, other in self._peripherals.items():
            if name == device.name or other.address == peripheral.address:
                raise DefinitionError(
                    f"devices {name} at {other.address} and {device.name} at {peripheral.address}, "
                    "expected different names and addresses"
                )
        self._peripherals[device.name] = peripheral

    async def power_on(self, clock: LabClock, start: asyncio.Event | None) -> None:
        """Let all devices advertise, and stream to whom they are connected with."""
        for name, peripheral in self._peripherals.items():
            await peripheral.power_on()
            stream = asyncio.create_task(_stream(peripheral, clock, start), name=f"stream of {name}")
            stream.add_done_callback(_log_failure)
            self._streams.append(stream)

    async def power_off(self) -> None:
        """Take all devices and gateways out of the air."""
        for stream in self._streams:
            stream.cancel()
        for peripheral in self._peripherals.values():
            await peripheral.power_off()
        for writer in tuple(self._gateways):
            writer.close()
        gateways = [task for task in self._gateways.values() if task is not None]
        await asyncio.gather(*self._streams, *gateways, return_exceptions=True)

    def raise_failure(self) -> None:
        """Raise what ended a device's stream before its time, if anything did."""
        for stream in self._streams:
            if stream.done() and not stream.cancelled() and (error := stream.exception()):
                raise error

    async def serve_gateway(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the Bluetooth controller of one gateway until it hangs up."""
        self._gateways[writer] = asyncio.current_task()
        central = VirtualController("gateway", self._air)
        central.set_packet_sink(_HciOverTcp(writer))
        packets = AsyncPacketReader(reader)
        try:
            while True:
                central.on_packet(await packets.next_packet())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception as error:  # noqa: BLE001 - Bumble's parser raises whatever the bytes make it stumble over
            _logger.warning("gateway at %s dropped: not HCI: %r", writer.get_extra_info("peername"), error)
        finally:
            self._air.remove_controller(central)
            del self._gateways[writer]
            writer.close()

    async def _drain(self) -> None:
        """Let the air move what was sent, and wait while a gateway is slow to take it."""
        await asyncio.sleep(0)
        for writer in tuple(self._gateways):
            with suppress(ConnectionError):
                await writer.drain()

    def _controller(self, device: SimulatedDevice) -> VirtualController:
        return self._peripherals[device.name].controller


class _HciOverTcp:
    """Where a controller's packets to its host go."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def on_packet(self, packet: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(packet)


async def _stream(peripheral: Peripheral, clock: LabClock, start: asyncio.Event | None) -> None:
    """Stream; a device that vanishes is out of the air for good."""
    try:
        await peripheral.run(clock, start)
    except DeviceVanishedError:
        await asyncio.sleep(LAST_BYTES_S)
        await peripheral.power_off()


def _log_failure(stream: asyncio.Task[None]) -> None:
    if not stream.cancelled() and (error := stream.exception()):
        _logger.error("%s: %s", stream.get_name(), error)
