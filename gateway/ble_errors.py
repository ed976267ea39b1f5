"""What bleak, D-Bus and Bumble raise, told apart by what helps against it.

bleak says most of this in words only, so words are looked for, as bleak-retry-connector does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bleak.exc import BleakBluetoothNotAvailableError, BleakDeviceNotFoundError, BleakGATTProtocolError
from bleak_retry_connector import BLEAK_RETRY_EXCEPTIONS, BleakNotFoundError, BleakOutOfConnectionSlotsError

from gateway.transport import LinkError, Trouble

LINK_ERRORS: Final = (*BLEAK_RETRY_EXCEPTIONS, KeyError, OSError)
"""What bleak may raise: also errors of D-Bus, and AttributeError and KeyError where an object vanished."""

_TYPES: Final[tuple[tuple[Trouble, tuple[type[BaseException], ...]], ...]] = (
    (Trouble.BUSY, (BleakOutOfConnectionSlotsError,)),
    (Trouble.REFUSED, (BleakGATTProtocolError,)),
    (Trouble.NOT_FOUND, (BleakNotFoundError, BleakDeviceNotFoundError, BleakBluetoothNotAvailableError)),
)
_WORDS: Final = (
    (Trouble.BUSY, ("connection slot", "available connection", "connection-limit", "LIMIT_EXCEEDED")),
    (Trouble.REFUSED, (".Authentication", ".NotAuthorized", "ot paired", "key-missing", "KEY_MISSING")),
    (Trouble.NOT_FOUND, ("not found", ".UnknownObject")),
)


class AdapterError(LinkError):
    """The adapter itself is missing, switched off, or does not scan, whatever the device."""


def trouble_of(error: BaseException) -> Trouble:
    """Return what kind of trouble an error of a radio's software means."""
    chain = tuple(_causes(error))
    for trouble, types in _TYPES:
        if any(isinstance(cause, types) for cause in chain):
            return trouble
    said = " ".join(map(str, chain))
    for trouble, words in _WORDS:
        if any(word in said for word in words):
            return trouble
    return Trouble.TRANSIENT


def is_in_progress(error: BaseException) -> bool:
    """Whether BlueZ is still at, or stuck in, something that it was asked earlier."""
    return any("InProgress" in str(cause) for cause in _causes(error))


def has_lost_services(error: BaseException) -> bool:
    """Whether bleak stumbled over a service that BlueZ no longer lists."""
    return any(isinstance(cause, KeyError) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
