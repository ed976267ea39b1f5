"""A simulated device as a Bluetooth peripheral: its GATT table, its advertisement, and when it may send.

A device is told `connect()`, and thereby starts to stream, once somebody listens: connected and subscribed to
every characteristic that sends by itself. A client that wants only some of them is taken to be done half a
second after its last subscription, or as soon as it writes a command.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable

from bumble import att, core, hci
from bumble.device import Connection, Device, DeviceConfiguration
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.host import Host

from firmware_sim.device import AttError, SimulatedDevice
from firmware_sim.links.ble_air import Air, VirtualController
from firmware_sim.pacing import drive
from protocols.devices.kind import BleLink, GattCharacteristic
from protocols.errors import DefinitionError
from protocols.lab_clock import LabClock

_SUBSCRIBING_ENDS_S = 0.5
_ADVERTISEMENT_BYTES = 31
_NAME_BYTES = _ADVERTISEMENT_BYTES - 2
_SIG_UUID_END = "-0000-1000-8000-00805f9b34fb"
_PROPERTIES = {
    "read": Characteristic.Properties.READ,
    "write": Characteristic.Properties.WRITE,
    "write-without-response": Characteristic.Properties.WRITE_WITHOUT_RESPONSE,
    "notify": Characteristic.Properties.NOTIFY,
    "indicate": Characteristic.Properties.INDICATE,
}
_logger = logging.getLogger(__name__)


class Peripheral:
    """One simulated device in the air.

    Parameters
    ----------
    device
        Its kind's link must be a `BleLink`.
    air
        Where it is heard.
    address
        Static random address, or a public one followed by `/P`; None derives one from the name.
    advertising_interval_ms
        Real ms between advertisements.
    link_ready
        Awaited after each frame sent, so that a slow receiver slows the sender.

    Raises
    ------
    DefinitionError
        If the device cannot be a peripheral; says why.
    """

    def __init__(
        self,
        device: SimulatedDevice,
        air: Air,
        *,
        address: str | None,
        advertising_interval_ms: float,
        link_ready: Callable[[], Awaitable[None]],
    ) -> None:
        link = device.kind.link
        if not isinstance(link, BleLink):
            raise DefinitionError(
                f"device {device.name} of kind {device.kind.name}, expected a kind with a BLE link"
            )
        self.address = _address(device.name, address)
        self.controller = VirtualController(
            device.name, air, public_address=self.address if self.address.is_public else None
        )
        self._device = device
        self._link_ready = link_ready
        self._characteristics: dict[str, Characteristic[bytes]] = {}
        self._subscribed: set[str] = set()
        self._sending: set[str] = set()
        self._connection: Connection | None = None
        self._lost: asyncio.Future[None] | None = None
        self._listened = asyncio.Event()
        self._streaming = False
        self._soon: asyncio.TimerHandle | None = None
        self._replies: set[asyncio.Task[None]] = set()
        self._is_on = True
        self._radio = self._make_radio(link, advertising_interval_ms)

    async def power_on(self) -> None:
        """Start to advertise, now and whenever a connection has ended."""
        self.controller.link.add_controller(self.controller)
        self._is_on = True
        await self._radio.power_on()
        own = hci.OwnAddressType.PUBLIC if self.address.is_public else hci.OwnAddressType.RANDOM
        await self._radio.start_advertising(auto_restart=True, own_address_type=own)

    async def power_off(self) -> None:
        """Fall silent; a connection is lost."""
        if not self._is_on:
            return
        self._is_on = False
        self.controller.link.remove_controller(self.controller)
        await self._radio.stop_advertising()
        await self._radio.power_off()

    async def run(self, clock: LabClock, start: asyncio.Event | None) -> None:
        """Send what the device has to send, from the moment that somebody listens (and `start` is set)."""
        if start is not None:
            await start.wait()
        await drive(self._device, clock, self.send, start=self._listened)

    async def send(self, uuid: str, data: bytes) -> None:
        """Notify or indicate; what nobody is subscribed to is lost, as on a real device.

        Raises
        ------
        DefinitionError
            If the value does not fit into the negotiated MTU.
        """
        connection = self._connection
        if connection is None or uuid not in self._subscribed:
            return
        room = connection.att_mtu - 3
        if len(data) > room:
            raise DefinitionError(
                f"{self._device.name} sends {len(data)} bytes from {uuid}, "
                f"expected at most {room} (ATT MTU {connection.att_mtu})"
            )
        characteristic = self._characteristics[uuid]
        if characteristic.properties & Characteristic.Properties.NOTIFY:
            await self._radio.gatt_server.notify_subscriber(connection, characteristic, data)
        else:
            await self._indicate(characteristic, data)
        await self._link_ready()

    def _make_radio(self, link: BleLink, advertising_interval_ms: float) -> Device:
        host = Host(self.controller, self.controller)
        self.controller.set_packet_sink(host)
        config = DeviceConfiguration(
            name=self._device.name,
            address=hci.Address.ANY_RANDOM if self.address.is_public else self.address,
            advertising_interval_min=advertising_interval_ms,
            advertising_interval_max=advertising_interval_ms,
            advertising_data=_advertising_data(link),
            scan_response_data=_scan_response(self._device.name),
        )
        radio = Device(config=config, host=host)
        radio.gatt_server.max_mtu = link.mtu
        radio.add_services(
            Service(_uuid(service.uuid), [self._add(item) for item in service.characteristics])
            for service in link.services
        )
        radio.on(Device.EVENT_CONNECTION, self._on_connection)
        return radio

    def _add(self, described: GattCharacteristic) -> Characteristic[bytes]:
        """Return the characteristic, wired to the device."""
        uuid = described.uuid
        unknown = described.properties - _PROPERTIES.keys()
        if unknown:
            raise DefinitionError(
                f"properties {sorted(unknown)} of {uuid}, expected some of {sorted(_PROPERTIES)}"
            )

        def read(_connection: Connection) -> bytes:
            try:
                return self._device.read(uuid)
            except AttError as error:
                raise att.ATT_Error(error.code) from error

        def write(_connection: Connection, data: bytes) -> None:
            self._on_write(uuid, bytes(data))

        def on_subscription(_bearer: Connection, notify: bool, indicate: bool) -> None:
            self._on_subscription(uuid, on=notify or indicate)

        properties = Characteristic.Properties(0)
        for name in described.properties:
            properties |= _PROPERTIES[name]
        permissions = Characteristic.Permissions.READABLE | Characteristic.Permissions.WRITEABLE
        value = CharacteristicValue[bytes](read=read, write=write)
        characteristic = Characteristic[bytes](_uuid(uuid), properties, permissions, value)
        if described.properties & {"notify", "indicate"}:
            self._sending.add(uuid)
            characteristic.on(Characteristic.EVENT_SUBSCRIPTION, on_subscription)
        self._characteristics[uuid] = characteristic
        return characteristic

    def _on_connection(self, connection: Connection) -> None:
        self._connection = connection
        self._lost = asyncio.get_running_loop().create_future()
        connection.on(Connection.EVENT_DISCONNECTION, self._on_disconnection)

    def _on_disconnection(self, _reason: int) -> None:
        self._connection = None
        self._subscribed.clear()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        self._cancel_soon()
        if self._streaming:
            self._streaming = False
            self._device.disconnect()

    def _on_subscription(self, uuid: str, *, on: bool) -> None:
        self._subscribed.discard(uuid)
        if on:
            self._subscribed.add(uuid)
        self._cancel_soon()
        if self._subscribed == self._sending:
            self._stream()
        elif self._subscribed:
            self._soon = asyncio.get_running_loop().call_later(_SUBSCRIBING_ENDS_S, self._stream)

    def _on_write(self, uuid: str, data: bytes) -> None:
        """Hand a written value to the device; its answer is indicated after the write response."""
        self._stream()
        try:
            reply = self._device.write(uuid, data)
        except AttError as error:
            raise att.ATT_Error(error.code) from error
        if reply is not None:
            task = asyncio.get_running_loop().create_task(self._indicate(self._characteristics[uuid], reply))
            self._replies.add(task)
            task.add_done_callback(self._replies.discard)

    def _stream(self) -> None:
        """Tell the device that somebody listens."""
        self._cancel_soon()
        if self._connection is not None and not self._streaming:
            self._streaming = True
            self._device.connect()
            self._listened.set()

    def _cancel_soon(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    async def _indicate(self, characteristic: Characteristic[bytes], data: bytes) -> None:
        """Indicate and wait for the confirmation, or for the loss of the connection."""
        connection, lost = self._connection, self._lost
        if connection is None or lost is None:
            return
        server = self._radio.gatt_server
        confirmed = asyncio.ensure_future(server.indicate_subscriber(connection, characteristic, data))
        await asyncio.wait({confirmed, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not confirmed.done():
            confirmed.cancel()
        elif error := confirmed.exception():
            _logger.warning("%s: indication of %s: %s", self._device.name, characteristic.uuid, error)


def _address(name: str, given: str | None) -> hci.Address:
    """Return the given address, or a static random one (its two highest bits set) that belongs to the name."""
    if given is None:
        digest = bytearray(hashlib.sha256(name.encode()).digest()[:6])
        digest[5] |= 0xC0
        return hci.Address(bytes(digest), hci.Address.RANDOM_DEVICE_ADDRESS)
    try:
        return hci.Address(given)
    except (ValueError, core.BaseBumbleError) as error:
        raise DefinitionError(f"address {given!r} of {name}, expected like F0:F1:F2:F3:F4:F5 or …/P") from error


def _uuid(text: str) -> core.UUID:
    """Return the UUID, in its 16-bit form on the air if it is the Bluetooth SIG's."""
    return core.UUID(text[4:8] if text.startswith("0000") and text.endswith(_SIG_UUID_END) else text)


def _scan_response(name: str) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) <= _NAME_BYTES:
        raise DefinitionError(f"device name {name!r}, expected 1 to {_NAME_BYTES} bytes to be advertised")
    return bytes(core.AdvertisingData([(core.AdvertisingData.COMPLETE_LOCAL_NAME, encoded)]))


def _advertising_data(link: BleLink) -> bytes:
    """Return flags and as many service UUIDs as 31 bytes hold, short ones first."""
    kinds = core.AdvertisingData
    structures: list[tuple[int, bytes]] = [(kinds.FLAGS, b"\x06")]
    uuids = [_uuid(service.uuid).to_bytes() for service in link.services]
    room = _ADVERTISEMENT_BYTES - 3
    for width, kind in (
        (2, kinds.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS),
        (16, kinds.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS),
    ):
        fitting = [uuid for uuid in uuids if len(uuid) == width][: max(0, (room - 2) // width)]
        if fitting:
            structures.append((kind, b"".join(fitting)))
            room -= 2 + width * len(fitting)
    return bytes(kinds(structures))
