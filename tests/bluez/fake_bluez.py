"""`org.bluez` on a private bus, so that bleak's own BlueZ backend is what the gateway runs on.

Behind each of its adapters is a Bumble central in the air of `firmware_sim.links.virtual_ble`::

    gateway ─ bleak (BlueZ) ─ D-Bus ─ FakeBluez ─ bleak (Bumble) ─ HCI ─ virtual radio ─ simulated devices

Like bluetoothd it remembers devices by adapter until `RemoveDevice`, lists services while a device is
connected, names characteristics by their declaration handle, and leaves a device connected when the program
that had it connected has died. What goes wrong at a real one can be made to go wrong at `FakeAdapter`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from bleak import BleakClient, BleakScanner
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakError, BleakGATTProtocolError
from dbus_fast import Variant

from gateway.bumble_backend import BumbleAdapter
from tests.bluez.dbus_objects import MethodError, ObjectTree

ADAPTER, DEVICE = "org.bluez.Adapter1", "org.bluez.Device1"
SERVICE, CHARACTERISTIC = "org.bluez.GattService1", "org.bluez.GattCharacteristic1"
IN_PROGRESS = "org.bluez.Error.InProgress"


class FakeBluez:
    """The service; made by `running_bluez`."""

    def __init__(self) -> None:
        self.tree = ObjectTree()
        self.adapters: dict[str, FakeAdapter] = {}

    async def plug_in(self, name: str, hci: str) -> FakeAdapter:
        """Add the adapter `name` (such as `hci0`), a controller at the HCI transport `hci`."""
        self.adapters[name] = adapter = FakeAdapter(name, self.tree, hci)
        await adapter.open()
        return adapter

    async def pull_out(self, name: str) -> None:
        await self.adapters.pop(name).close()


@asynccontextmanager
async def running_bluez(**adapters: str) -> AsyncIterator[FakeBluez]:
    """Run the service with an adapter for each name, at the HCI transport given."""
    service = FakeBluez()
    await service.tree.open("org.bluez")
    try:
        for name, hci in adapters.items():
            await service.plug_in(name, hci)
        yield service
    finally:
        for name in tuple(service.adapters):
            await service.pull_out(name)
        await service.tree.close()


class FakeAdapter:
    """One adapter, and what may go wrong with it.

    Attributes
    ----------
    busy_discoveries
        So many discoveries are refused as being in progress.
    deaf
        Discoveries find nobody.
    connect_errors
        What the next attempts to connect are answered, in order: D-Bus error and text.
    stuck
        Addresses to which a connection is in progress for ever, until they are removed.
    outdated
        By address, characteristics that are missing from what is remembered of the device until it is removed.
    max_links
        How many connections it has room for.
    log
        Which methods of Adapter1 and Device1 were called, in order.
    """

    def __init__(self, name: str, tree: ObjectTree, hci: str) -> None:
        number = int(name.removeprefix("hci"))
        self.name, self.path, self.address = name, f"/org/bluez/{name}", f"00:1A:7D:DA:71:{number:02X}"
        self.busy_discoveries = 0
        self.deaf = False
        self.connect_errors: list[tuple[str, str]] = []
        self.stuck: set[str] = set()
        self.outdated: dict[str, set[str]] = {}
        self.max_links = 100
        self.log: list[str] = []
        self.devices: dict[str, FakeDevice] = {}
        self.bumble: BumbleAdapter
        self._tree = tree
        self._hci = hci
        self._scanner: BleakScanner | None = None

    @property
    def calls(self) -> Counter[str]:
        """How often each method was called."""
        return Counter(self.log)

    async def open(self) -> None:
        self.bumble = await BumbleAdapter.open(self._hci)
        properties = {
            "Address": Variant("s", self.address),
            "Name": Variant("s", self.name),
            "Alias": Variant("s", self.name),
            "Powered": Variant("b", True),
            "Discovering": Variant("b", False),
            "Roles": Variant("as", ["central", "peripheral"]),
            "UUIDs": Variant("as", []),
        }
        methods = {
            "SetDiscoveryFilter": self._set_discovery_filter,
            "StartDiscovery": self._start_discovery,
            "StopDiscovery": self._stop_discovery,
            "RemoveDevice": self._remove_device,
            "SetPowered": self._set_powered,
        }
        self._tree.add(self.path, ADAPTER, properties, methods)

    async def close(self) -> None:
        await self._fall_silent()
        self._tree.remove(self.path)
        await self.bumble.close()

    def change(self, **properties: Variant) -> None:
        self._tree.change(self.path, ADAPTER, properties)

    async def _fall_silent(self) -> None:
        if self._scanner is not None:
            await self._scanner.stop()
            self._scanner = None
        for device in self.devices.values():
            await device.disconnect()

    async def _set_discovery_filter(self, *_filter: Any) -> None: ...

    async def _start_discovery(self) -> None:
        self.log.append("StartDiscovery")
        if self.busy_discoveries:
            self.busy_discoveries -= 1
            raise MethodError(IN_PROGRESS, "Operation already in progress")
        self._scanner = BleakScanner(self._on_advertisement, backend=self.bumble.scanner_class)
        await self._scanner.start()
        self.change(Discovering=Variant("b", True))

    async def _stop_discovery(self) -> None:
        if self._scanner is None:
            raise MethodError("org.bluez.Error.Failed", "No discovery started")
        await self._scanner.stop()
        self._scanner = None
        self.change(Discovering=Variant("b", False))

    async def _remove_device(self, path: str) -> None:
        self.log.append("RemoveDevice")
        for address, device in tuple(self.devices.items()):
            if device.path == path:
                await device.disconnect()
                self.stuck.discard(address)
                self.outdated.pop(address, None)
                del self.devices[address]
                self._tree.remove(path)

    async def _set_powered(self, _interface: str, _name: str, value: Variant) -> None:
        self.log.append("PowerOn" if value.value else "PowerOff")
        if not value.value:
            await self._fall_silent()
            self.deaf = False
            self.busy_discoveries = 0
        self.change(Powered=value)

    def _on_advertisement(self, found: BLEDevice, advertised: AdvertisementData) -> None:
        if self.deaf:
            return
        properties = {
            "RSSI": Variant("n", advertised.rssi),
            "UUIDs": Variant("as", advertised.service_uuids),
            "Alias": Variant("s", advertised.local_name or found.address.replace(":", "-")),
        }
        if advertised.local_name:
            properties["Name"] = Variant("s", advertised.local_name)
        if found.address in self.devices:
            self._tree.change(self.devices[found.address].path, DEVICE, properties)
        else:
            self.devices[found.address] = FakeDevice(self, self._tree, found, properties)


class FakeDevice:
    """What an adapter knows of a device, and its connection.

    Attributes
    ----------
    silent
        Whether notifications are swallowed although the link stands, until somebody subscribes again.
    """

    def __init__(
        self, adapter: FakeAdapter, tree: ObjectTree, found: BLEDevice, properties: dict[str, Variant]
    ) -> None:
        self.path = f"{adapter.path}/dev_{found.address.replace(':', '_')}"
        self.name = found.name
        self.silent = False
        self._adapter, self._tree, self._found = adapter, tree, found
        self._client: BleakClient | None = None
        states = dict.fromkeys(
            ("Paired", "Bonded", "Connected", "ServicesResolved", "Trusted", "Blocked"), False
        )
        identity = {
            "Address": Variant("s", found.address),
            "AddressType": Variant("s", "random"),
            "Adapter": Variant("o", adapter.path),
            **{name: Variant("b", value) for name, value in states.items()},
        }
        methods = {"Connect": self._on_connect, "Disconnect": self._on_disconnect}
        tree.add(self.path, DEVICE, identity | properties, methods)

    async def connect(self) -> None:
        """Connect, as for some program."""
        if self._client is None:
            client = BleakClient(
                self._found, lambda _: self._on_lost(), backend=self._adapter.bumble.client_class
            )
            try:
                await client.connect()
            except (BleakError, TimeoutError) as error:
                raise MethodError("org.bluez.Error.Failed", str(error) or "le-connection-timeout") from error
            self._client = client
        self.change(Connected=Variant("b", True))
        self.list_services()

    async def disconnect(self) -> None:
        if self._client is not None:
            with suppress(BleakError):
                await self._client.disconnect()

    def change(self, **properties: Variant) -> None:
        self._tree.change(self.path, DEVICE, properties)

    def list_services(self) -> None:
        assert self._client is not None
        hidden = self._adapter.outdated.get(self._found.address, set())
        for service in self._client.services:
            path = f"{self.path}/service{service.handle:04x}"
            properties = {"UUID": Variant("s", service.uuid), "Device": Variant("o", self.path)}
            self._tree.add(path, SERVICE, properties | {"Primary": Variant("b", True)})
            for characteristic in service.characteristics:
                if characteristic.uuid not in hidden:
                    self._list_characteristic(path, characteristic)
        self.change(ServicesResolved=Variant("b", True))

    def unlist_services(self) -> None:
        self.change(ServicesResolved=Variant("b", False))
        for path in [path for path in self._tree.objects if path.startswith(f"{self.path}/service")]:
            self._tree.remove(path)

    def _list_characteristic(self, service: str, characteristic: BleakGATTCharacteristic) -> None:
        assert self._client is not None
        path = f"{service}/char{characteristic.handle - 1:04x}"
        properties = {
            "UUID": Variant("s", characteristic.uuid),
            "Service": Variant("o", service),
            "Value": Variant("ay", b""),
            "Flags": Variant("as", list(characteristic.properties)),
            "MTU": Variant("q", self._client.mtu_size),
        }
        if {"notify", "indicate"} & set(characteristic.properties):
            properties |= {"Notifying": Variant("b", False), "NotifyAcquired": Variant("b", False)}
        endpoint = _Endpoint(self, self._tree, path, characteristic)
        self._tree.add(path, CHARACTERISTIC, properties, endpoint.methods)

    async def ask(self, request: Callable[[BleakClient], Awaitable[Any]]) -> Any:
        """Return what the device answers, errors as BlueZ words them."""
        if self._client is None:
            raise MethodError("org.bluez.Error.Failed", "Not connected")
        try:
            return await request(self._client)
        except BleakGATTProtocolError as error:
            text = f"Operation failed with ATT error: 0x{int(error.args[0]):02x}"
            raise MethodError("org.bluez.Error.Failed", text) from error
        except (BleakError, TimeoutError) as error:
            raise MethodError("org.bluez.Error.Failed", str(error)) from error

    async def _on_connect(self) -> None:
        self._adapter.log.append("Connect")
        if self._found.address in self._adapter.stuck:
            raise MethodError(IN_PROGRESS, "Operation already in progress")
        if self._adapter.connect_errors:
            raise MethodError(*self._adapter.connect_errors.pop(0))
        if len(self._adapter.bumble.clients) >= self._adapter.max_links:
            raise MethodError("org.bluez.Error.Failed", "le-connection-concurrent-connection-limit")
        await self.connect()

    async def _on_disconnect(self) -> None:
        self._adapter.log.append("Disconnect")
        if self._client is None:
            raise MethodError("org.bluez.Error.NotConnected", "Not Connected")
        await self.disconnect()

    def _on_lost(self) -> None:
        self._client = None
        self.silent = False
        self.unlist_services()
        self.change(Connected=Variant("b", False))


class _Endpoint:
    """The methods of one characteristic."""

    def __init__(
        self, device: FakeDevice, tree: ObjectTree, path: str, characteristic: BleakGATTCharacteristic
    ) -> None:
        self._device, self._tree, self._path, self._characteristic = device, tree, path, characteristic
        self.methods = {
            "ReadValue": self._read,
            "WriteValue": self._write,
            "StartNotify": self._start_notify,
            "StopNotify": self._stop_notify,
        }

    async def _read(self, _options: dict[str, Variant]) -> tuple[str, list[Any]]:
        value = bytes(await self._device.ask(lambda client: client.read_gatt_char(self._characteristic)))
        self._change(Value=Variant("ay", value))
        return "ay", [value]

    async def _write(self, value: bytes, options: dict[str, Variant]) -> None:
        response = options["type"].value == "request"
        await self._device.ask(
            lambda client: client.write_gatt_char(self._characteristic, bytes(value), response=response)
        )

    async def _start_notify(self) -> None:
        self._device.silent = False
        await self._device.ask(lambda client: client.start_notify(self._characteristic, self._on_value))
        self._change(Notifying=Variant("b", True))

    async def _stop_notify(self) -> None:
        await self._device.ask(lambda client: client.stop_notify(self._characteristic))
        self._change(Notifying=Variant("b", False))

    def _on_value(self, _characteristic: BleakGATTCharacteristic, value: bytearray) -> None:
        if not self._device.silent:
            self._change(Value=Variant("ay", bytes(value)))

    def _change(self, **properties: Variant) -> None:
        self._tree.change(self._path, CHARACTERISTIC, properties)
