"""Objects on a D-Bus: a tree that others list, watch, and call methods of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
PROPERTIES = "org.freedesktop.DBus.Properties"

Method = Callable[..., Awaitable[tuple[str, list[Any]] | None]]
"""Called with the message's body; returns signature and body of the answer."""


class MethodError(Exception):
    """What a method answers instead of a result: a D-Bus error name and a text."""

    def __init__(self, name: str, text: str = "") -> None:
        super().__init__(name, text)
        self.name, self.text = name, text


class ObjectTree:
    """A service's objects: path, interfaces, their properties and methods."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Variant]]] = {}
        self._methods: dict[tuple[str, str], Mapping[str, Method]] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._bus: MessageBus | None = None

    async def open(self, name: str) -> None:
        """Appear on the system bus under `name`."""
        self._bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
        self._bus.add_message_handler(self._on_message)
        await self._bus.request_name(name)

    async def close(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        if self._bus is not None:
            self._bus.disconnect()
            await self._bus.wait_for_disconnect()

    def add(
        self,
        path: str,
        interface: str,
        properties: dict[str, Variant],
        methods: Mapping[str, Method] | None = None,
    ) -> None:
        self.objects.setdefault(path, {})[interface] = properties
        self._methods[path, interface] = methods or {}
        self._signal("/", OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", path, {interface: properties})

    def remove(self, path: str) -> None:
        """Remove an object and all below it."""
        for below in sorted((p for p in self.objects if f"{p}/".startswith(f"{path}/")), reverse=True):
            interfaces = list(self.objects.pop(below))
            self._signal("/", OBJECT_MANAGER, "InterfacesRemoved", "oas", below, interfaces)

    def change(self, path: str, interface: str, properties: dict[str, Variant]) -> None:
        if path in self.objects:
            self.objects[path][interface].update(properties)
            self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", interface, properties, [])

    def _signal(self, path: str, interface: str, member: str, signature: str, *body: Any) -> None:
        if self._bus is not None and self._bus.connected:
            self._bus.send(
                Message(
                    message_type=MessageType.SIGNAL,
                    path=path,
                    interface=interface,
                    member=member,
                    signature=signature,
                    body=list(body),
                )
            )

    def _on_message(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL or message.interface == "org.freedesktop.DBus":
            return None
        if (message.interface, message.member) == (OBJECT_MANAGER, "GetManagedObjects"):
            return Message.new_method_return(message, "a{oa{sa{sv}}}", [self.objects])
        call = asyncio.get_running_loop().create_task(self._answer(message))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return True

    async def _answer(self, message: Message) -> None:
        assert self._bus is not None
        try:
            signature, body = await self._method(message)(*message.body) or ("", [])
            reply = Message.new_method_return(message, signature, body)
        except MethodError as error:
            reply = Message.new_error(message, error.name, error.text)
        if self._bus.connected:
            await self._bus.send(reply)

    def _method(self, message: Message) -> Method:
        path, interface, member = str(message.path), str(message.interface), str(message.member)
        if path not in self.objects:
            raise MethodError("org.freedesktop.DBus.Error.UnknownObject", f"no object {path}")
        if (interface, member) == (PROPERTIES, "Set"):
            interface, member = str(message.body[0]), f"Set{message.body[1]}"
        method = self._methods.get((path, interface), {}).get(member)
        if method is None:
            raise MethodError("org.freedesktop.DBus.Error.UnknownMethod", f"no {member} at {path}")
        return method
