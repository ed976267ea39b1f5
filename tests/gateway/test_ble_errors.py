"""What bleak and the software below it say is told apart by what helps against it."""

from __future__ import annotations

import pytest
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakDeviceNotFoundError,
    BleakError,
    BleakGATTProtocolError,
)
from bleak_retry_connector import (
    BleakAbortedError,
    BleakConnectionError,
    BleakNotFoundError,
    BleakOutOfConnectionSlotsError,
)

from gateway.ble_errors import has_lost_services, is_in_progress, trouble_of
from gateway.transport import Trouble

FAILED = "org.bluez.Error.Failed"


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (BleakError("Disconnected"), Trouble.TRANSIENT),
        (TimeoutError(), Trouble.TRANSIENT),
        (EOFError(), Trouble.TRANSIENT),
        (BrokenPipeError(32, "Broken pipe"), Trouble.TRANSIENT),
        (KeyError("org.bluez.GattService1"), Trouble.TRANSIENT),
        (BleakAbortedError("interference"), Trouble.TRANSIENT),
        (BleakDBusError("org.bluez.Error.InProgress", ["Operation already in progress"]), Trouble.TRANSIENT),
        (BleakDBusError(FAILED, ["le-connection-abort-by-local"]), Trouble.TRANSIENT),
        (BleakOutOfConnectionSlotsError("no more"), Trouble.BUSY),
        (BleakDBusError(FAILED, ["le-connection-concurrent-connection-limit"]), Trouble.BUSY),
        (BleakError("HCI: CONNECTION_LIMIT_EXCEEDED_ERROR"), Trouble.BUSY),
        (BleakNotFoundError("gone"), Trouble.NOT_FOUND),
        (BleakDeviceNotFoundError("F0:00:00:00:00:01", "gone"), Trouble.NOT_FOUND),
        (BleakError("adapter 'hci1' not found"), Trouble.NOT_FOUND),
        (BleakDBusError("org.freedesktop.DBus.Error.UnknownObject", ["no such object"]), Trouble.NOT_FOUND),
        (
            BleakBluetoothNotAvailableError("off", BleakBluetoothNotAvailableReason.POWERED_OFF),
            Trouble.NOT_FOUND,
        ),
        (BleakGATTProtocolError(0x05), Trouble.REFUSED),
        (BleakDBusError("org.bluez.Error.AuthenticationFailed", ["Authentication Failed"]), Trouble.REFUSED),
        (BleakDBusError("org.bluez.Error.NotPermitted", ["Not paired"]), Trouble.REFUSED),
        (BleakError("pairing: PIN_OR_KEY_MISSING"), Trouble.REFUSED),
    ],
)
def test_errors_are_told_apart_also_as_the_cause_of_another(error: BaseException, trouble: Trouble) -> None:
    assert trouble_of(error) is trouble
    wrapped = BleakConnectionError("strap: Failed to connect after 1 attempt(s)")
    wrapped.__cause__ = error
    assert trouble_of(wrapped) is trouble


def test_bluez_at_work_on_an_earlier_request_is_recognised() -> None:
    assert is_in_progress(BleakDBusError("org.bluez.Error.InProgress", []))
    assert not is_in_progress(BleakError("Disconnected"))


def test_services_that_bluez_no_longer_lists_are_recognised() -> None:
    error = BleakConnectionError("failed")
    error.__cause__ = KeyError("org.bluez.GattService1")
    assert has_lost_services(error)
    assert not has_lost_services(BleakError("Disconnected"))
