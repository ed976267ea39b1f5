"""What BLE device kinds share: full UUIDs, service tables and a decoder that goes by characteristic."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from protocols.devices.kind import Decoded, GattCharacteristic, GattService
from protocols.errors import DecodeError

Handler = Callable[[bytes], Decoded]
"""Decodes one value of one characteristic; may raise `DecodeError`."""


def uuid(assigned_number: int) -> str:
    """Return the full 128-bit UUID of a 16-bit number assigned by the Bluetooth SIG."""
    return f"{assigned_number:08x}-0000-1000-8000-00805f9b34fb"


def service(service_uuid: str, characteristics: Mapping[str, str]) -> GattService:
    """Return a service from its characteristics' UUIDs and their properties in words, `"read notify"`."""
    return GattService(
        service_uuid,
        tuple(GattCharacteristic(name, frozenset(words.split())) for name, words in characteristics.items()),
    )


class GattDecoder:
    """Hands every value to its characteristic's handler; what a handler cannot decode becomes an error."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    def feed(self, source: str, data: bytes) -> Decoded:
        """Return what the value `data` of characteristic `source` says."""
        handler = self._handlers.get(source)
        if handler is None:
            return Decoded(
                errors=(DecodeError(f"value of characteristic {source}, expected one of the device kind"),)
            )
        try:
            return handler(bytes(data))
        except DecodeError as error:
            return Decoded(errors=(error,))
