"""A bleak backend on Bumble's Bluetooth host, for any controller that speaks HCI.

The platform's own Bluetooth stack is left aside: `tcp-client:127.0.0.1:9000` reaches the simulator's virtual
radio or an emulated controller, `usb:0` and `serial:/dev/ttyACM0,1000000` reach a dongle or a development kit.
bleak takes a backend as a class, so an adapter binds one client, one scanner and one adapter class to itself::

    async with await BumbleAdapter.open("tcp-client:127.0.0.1:9000") as adapter:
        device = await BleakScanner.find_device_by_name("H10", backend=adapter.scanner_class)
        async with BleakClient(device, backend=adapter.client_class) as client: ...

Bumble reports a lost link by cancelling the future somebody waits for, and lets a request that was queued for
that link wait for 30 s. Every operation here therefore runs in a task of its own and is raced with the loss of
its link, so that a caller sees `BleakError` at once and `CancelledError` only when it is itself cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from bleak.args import SizedBuffer
from bleak.assigned_numbers import gatt_char_props_to_strs
from bleak.backends.adapter import BaseBleakAdapter
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, AdvertisementDataCallback, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakDeviceNotFoundError, BleakError, BleakGATTProtocolError
from bumble import att, core, hci
from bumble.device import Advertisement, Connection, Device, DeviceConfiguration, Peer
from bumble.gatt_client import CharacteristicProxy, ServiceProxy
from bumble.transport import open_transport
from bumble.transport.common import Transport

from gateway.ble_advertising import merged, parse_advertising_data, uuid_text

T = TypeVar("T")

_PREFERRED_MTU = 517
"""The ATT MTU asked for, as BlueZ does: the largest that any attribute value needs."""
_OPEN_TIMEOUT_S = 10.0
_logger = logging.getLogger(__name__)


def _is_awaited(record: logging.LogRecord) -> bool:
    """Return False for what Bumble logs, with its stack, when an answer finds its request given up."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.InvalidStateError)


logging.getLogger("bumble.transport.common").addFilter(_is_awaited)


class BumbleAdapter:
    """One controller, and the backend classes bound to it.

    Parameters
    ----------
    device
        Bumble's host on that controller, powered on.
    transport
        The open HCI transport below it.
    """

    def __init__(self, device: Device, transport: Transport) -> None:
        class BumbleClient(BleakClientBumble):
            adapter = self

        class BumbleScanner(BleakScannerBumble):
            adapter = self

        class BumbleConnectedDevices(BleakAdapterBumble):
            adapter = self

        self.client_class: type[BaseBleakClient] = BumbleClient
        self.scanner_class: type[BaseBleakScanner] = BumbleScanner
        self.adapter_class: type[BaseBleakAdapter] = BumbleConnectedDevices
        self.device = device
        self.connecting = asyncio.Lock()
        self.clients: set[BleakClientBumble] = set()
        self.scanners: set[BleakScannerBumble] = set()
        self.addresses: dict[str, hci.Address] = {}
        self._transport = transport
        self.lost: asyncio.Future[None] = transport.source.terminated
        self.scanner_options: dict[str, Any] = {"backend": self.scanner_class}
        self.client_options: dict[str, Any] = {"backend": self.client_class}

    @classmethod
    async def open(cls, spec: str) -> Self:
        """Return an adapter on the controller at the Bumble transport `spec`.

        Raises
        ------
        BleakError
            If there is no controller there, or it does not answer.
        """
        try:
            transport = await open_transport(spec)
        except (core.BaseBumbleError, OSError, ValueError, ImportError) as error:
            raise BleakError(f"HCI transport {spec!r}: {_reason(error)}") from error
        config = DeviceConfiguration(name="gateway", address=hci.Address.generate_static_address())
        device = Device.from_config_with_hci(config, transport.source, transport.sink)
        adapter = cls(device, transport)
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                await unless_lost(device.power_on(), adapter.lost, "reset of the controller")
        except TimeoutError as error:
            await adapter.close()
            raise BleakError(f"HCI transport {spec!r}: no answer in {_OPEN_TIMEOUT_S} s") from error
        except BaseException:
            await adapter.close()
            raise
        return adapter

    async def power_cycle(self) -> bool:
        """Let go of the controller, which is reset when it is opened again; always possible."""
        await self.close()
        return True

    async def release(self, address_or_name: str) -> None:
        """Do nothing: a controller of our own has no links but ours."""

    async def forget(self, device: BLEDevice) -> bool:
        """Return False: services are discovered anew at every connection."""
        del device
        return False

    async def close(self) -> None:
        """Close the transport; connections that are still there are lost."""
        for client in tuple(self.clients):
            client.lose()
        await self._transport.close()
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(1.0):
                await asyncio.shield(self.lost)
        if not self.lost.done():  # not every transport of Bumble tells of its end
            self.lost.set_result(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class BleakScannerBumble(BaseBleakScanner):
    """Scans; several scanners share the controller's one scan."""

    adapter: ClassVar[BumbleAdapter]

    def __init__(
        self,
        detection_callback: AdvertisementDataCallback | None,
        service_uuids: list[str] | None,
        scanning_mode: str = "active",
        **_platform_options: Any,
    ) -> None:
        super().__init__(detection_callback, service_uuids)
        self._active = scanning_mode == "active"
        self._merged: dict[str, AdvertisementData] = {}

    async def start(self) -> None:
        """Start to report advertisements."""
        self.seen_devices = {}
        self._merged = {}
        self.adapter.scanners.add(self)
        device = self.adapter.device
        device.on(Device.EVENT_ADVERTISEMENT, self._on_advertisement)
        if not device.is_scanning:
            await unless_lost(device.start_scanning(active=self._active), self.adapter.lost, "start of a scan")

    async def stop(self) -> None:
        """Stop; the last scanner stops the controller's scan."""
        self.adapter.scanners.discard(self)
        device = self.adapter.device
        device.remove_listener(Device.EVENT_ADVERTISEMENT, self._on_advertisement)
        if not self.adapter.scanners and device.is_scanning:
            await unless_lost(device.stop_scanning(), self.adapter.lost, "stop of a scan")

    def _on_advertisement(self, advertisement: Advertisement) -> None:
        """Report the device, with advertising data and scan response as one, as the platforms do."""
        address = advertisement.address.to_string(with_type_qualifier=False)
        self.adapter.addresses[address] = advertisement.address
        data = parse_advertising_data(advertisement.data, rssi_dbm=advertisement.rssi)
        data = self._merged[address] = merged(self._merged.get(address), data)
        if self.is_allowed_uuid(data.service_uuids):
            device = self.create_or_update_device(
                address, address, data.local_name, advertisement.address, data
            )
            self.call_detection_callbacks(device, data)


class BleakClientBumble(BaseBleakClient):
    """One connection as central."""

    adapter: ClassVar[BumbleAdapter]

    def __init__(
        self, address_or_ble_device: BLEDevice | str, *, services: set[str] | None = None, **options: Any
    ) -> None:
        super().__init__(address_or_ble_device, **options)
        self._wanted_services = services
        self._target: hci.Address | None = None
        self._name: str | None = None
        if isinstance(address_or_ble_device, BLEDevice):
            self._target, self._name = address_or_ble_device.details, address_or_ble_device.name
        self._connection: Connection | None = None
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._subscribers: dict[int, Callable[[bytes], None]] = {}

    @property
    def name(self) -> str:
        """The advertised name, or the address where there is none."""
        return self._name or self.address.replace(":", "-")

    @property
    def mtu_size(self) -> int:
        """The negotiated ATT MTU."""
        return int(self._connection.att_mtu) if self._connection else att.ATT_DEFAULT_MTU

    @property
    def is_connected(self) -> bool:
        """Whether the link stands."""
        return self._connection is not None

    async def connect(self, pair: bool, **kwargs: Any) -> None:
        """Connect, negotiate the MTU and discover the services."""
        if self._connection is not None:
            return
        timeout_s = kwargs.get("timeout", self._timeout)
        target = self._target or self.adapter.addresses.get(self.address.upper())
        if target is None:
            raise BleakDeviceNotFoundError(self.address, f"device {self.address} was not seen in a scan")
        async with self.adapter.connecting:
            connection = await self._open_link(target, timeout_s)
        self._connection = connection
        self._lost = asyncio.get_running_loop().create_future()
        connection.on(Connection.EVENT_DISCONNECTION, self._on_disconnection)
        self.adapter.clients.add(self)
        try:
            if connection.handle not in self.adapter.device.connections:  # lost before anybody listened
                self._on_disconnection(0)
            if pair:
                await self.pair()
            peer = Peer(connection)
            await self._request(peer.request_mtu(_PREFERRED_MTU), "MTU exchange")
            self.services = await self._discover(peer)
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        """End the connection; an already lost one is no error."""
        if self._connection is not None:
            with suppress(BleakError):
                await self._request(self._connection.disconnect(), "disconnection")

    async def pair(self, *_args: Any, **_kwargs: Any) -> None:
        """Pair as Bumble's default delegate does: just works."""
        await self._request(self._established().pair(), "pairing")

    async def unpair(self) -> None:
        """Forget the peer's keys and disconnect."""
        keystore, target = self.adapter.device.keystore, self._target
        await self.disconnect()
        if keystore is not None and target is not None:
            with suppress(KeyError):
                await keystore.delete(str(target))

    async def read_gatt_char(
        self, characteristic: BleakGATTCharacteristic, *, use_cached: bool = False, **_kwargs: Any
    ) -> bytearray:
        """Return the characteristic's value; always read from the device."""
        del use_cached
        return bytearray(await self._request(characteristic.obj.read_value(), f"read of {characteristic.uuid}"))

    async def read_gatt_descriptor(
        self, descriptor: BleakGATTDescriptor, *, use_cached: bool = False, **_kwargs: Any
    ) -> bytearray:
        """Return the descriptor's value; always read from the device."""
        del use_cached
        return bytearray(await self._request(descriptor.obj.read_value(), f"read of {descriptor.uuid}"))

    async def write_gatt_char(
        self,
        characteristic: BleakGATTCharacteristic,
        data: SizedBuffer,
        response: bool,
    ) -> None:
        """Write to the characteristic."""
        write = characteristic.obj.write_value(bytes(data), with_response=response)
        await self._request(write, f"write to {characteristic.uuid}")

    async def write_gatt_descriptor(self, descriptor: BleakGATTDescriptor, data: SizedBuffer) -> None:
        """Write to the descriptor."""
        await self._request(
            descriptor.obj.write_value(bytes(data), with_response=True), f"write to {descriptor.uuid}"
        )

    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: Callable[[bytearray], None], **_kwargs: Any
    ) -> None:
        """Subscribe: to notifications where the characteristic has them, else to indications."""
        if characteristic.handle in self._subscribers:
            raise BleakError(f"{characteristic.uuid} is already subscribed to")

        def on_value(value: bytes) -> None:
            callback(bytearray(value))

        self._subscribers[characteristic.handle] = on_value
        try:
            await self._request(
                characteristic.obj.subscribe(on_value), f"subscription to {characteristic.uuid}"
            )
        except BaseException:
            self._subscribers.pop(characteristic.handle, None)
            raise

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        """End the subscription."""
        on_value = self._subscribers.pop(characteristic.handle, None)
        if on_value is not None:
            await self._request(characteristic.obj.unsubscribe(on_value), f"end of {characteristic.uuid}")

    async def _open_link(self, target: hci.Address, timeout_s: float) -> Connection:
        """Return the connection; leaves no attempt behind.

        Bumble would forget an attempt that is cancelled, and fail when the controller, which has not forgotten,
        comes up with the connection. So the controller's attempt is cancelled first, and its outcome awaited.
        """
        device, lost, what = self.adapter.device, self.adapter.lost, f"connection to {self.address}"
        attempt = asyncio.ensure_future(device.connect_le(target, timeout=timeout_s))
        try:
            return await unless_lost(asyncio.shield(attempt), lost, what)
        except asyncio.CancelledError:
            with suppress(BleakError, TimeoutError):
                cancel = device.send_sync_command(hci.HCI_LE_Create_Connection_Cancel_Command())
                await unless_lost(cancel, lost, what)
            with suppress(BleakError, TimeoutError):
                connection = await unless_lost(asyncio.shield(attempt), lost, what)
                await unless_lost(connection.disconnect(), lost, what)
            raise
        finally:
            attempt.cancel()

    async def _discover(self, peer: Peer) -> BleakGATTServiceCollection:
        """Return the wanted services with their characteristics and descriptors."""
        collection = BleakGATTServiceCollection()
        for service in await self._request(peer.discover_services(), "discovery of services"):
            uuid = uuid_text(service.uuid)
            if self._wanted_services and uuid not in self._wanted_services:
                continue
            bleak_service = BleakGATTService(service, service.handle, uuid)
            collection.add_service(bleak_service)
            await self._discover_characteristics(service, bleak_service, collection)
        return collection

    async def _discover_characteristics(
        self, service: ServiceProxy, bleak_service: BleakGATTService, collection: BleakGATTServiceCollection
    ) -> None:
        characteristics: list[CharacteristicProxy[bytes]] = await self._request(
            service.discover_characteristics(), f"discovery of characteristics of {bleak_service.uuid}"
        )
        for characteristic in characteristics:
            properties = list(gatt_char_props_to_strs(int(characteristic.properties)))
            bleak_characteristic = BleakGATTCharacteristic(
                characteristic,
                characteristic.handle,
                uuid_text(characteristic.uuid),
                properties,
                lambda: self.mtu_size - 3,
                bleak_service,
            )
            collection.add_characteristic(bleak_characteristic)
            descriptors = await self._request(characteristic.discover_descriptors(), "discovery of descriptors")
            characteristic.descriptors_discovered = True
            for descriptor in descriptors:
                collection.add_descriptor(
                    BleakGATTDescriptor(
                        descriptor, descriptor.handle, uuid_text(descriptor.type), bleak_characteristic
                    )
                )

    async def _request(self, operation: Coroutine[Any, Any, T], what: str) -> T:
        """Return the operation's result, unless the connection is lost meanwhile."""
        if self._connection is None:
            operation.close()
            raise BleakError(f"{what}: Disconnected")
        return await unless_lost(operation, self._lost, what)

    def _established(self) -> Connection:
        if self._connection is None:
            raise BleakError("not connected")
        return self._connection

    def lose(self) -> None:
        """Take the link for lost, whatever the controller says."""
        if self._connection is not None:
            self._connection.remove_listener(Connection.EVENT_DISCONNECTION, self._on_disconnection)
            self._on_disconnection(0)

    def _on_disconnection(self, reason: int) -> None:
        _logger.debug("%s: link lost, HCI reason 0x%02x", self.address, reason)
        self._connection = self.services = None
        self._subscribers.clear()
        self.adapter.clients.discard(self)
        if not self._lost.done():
            self._lost.set_result(None)
        if self._disconnected_callback is not None:
            self._disconnected_callback()


class BleakAdapterBumble(BaseBleakAdapter):
    """Says which devices the adapter is connected to."""

    adapter: ClassVar[BumbleAdapter]

    @classmethod
    async def get(cls, **_kwargs: Any) -> Self:
        """Return the one instance there needs to be."""
        return cls()

    async def get_connected_devices(self, service_uuids: frozenset[str]) -> list[BLEDevice]:
        """Return the connected devices that offer one of the services."""
        return [
            BLEDevice(client.address, client.name, self.adapter.addresses.get(client.address))
            for client in self.adapter.clients
            if client.services and any(service.uuid in service_uuids for service in client.services)
        ]


async def unless_lost(operation: Awaitable[T], lost: asyncio.Future[Any], what: str) -> T:
    """Return the operation's result.

    Raises
    ------
    BleakGATTProtocolError
        If the device answered with an ATT error.
    TimeoutError
        If Bumble gave up waiting.
    BleakError
        If it failed otherwise, or `lost` came about first.
    """
    task = asyncio.ensure_future(operation)
    try:
        await asyncio.wait({task, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() or task.cancelled():
            raise BleakError(f"{what}: Disconnected")
        return task.result()
    except att.ATT_Error as error:
        raise BleakGATTProtocolError(int(error.error_code)) from error
    except core.TimeoutError as error:
        raise TimeoutError(f"{what}: no answer") from error
    except core.BaseBumbleError as error:
        raise BleakError(f"{what}: {_reason(error)}") from error
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
