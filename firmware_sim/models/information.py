"""What every simulated Bluetooth device can be asked: who made it, which one it is, its battery."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from firmware_sim.device import Outlet
from protocols.devices import battery, device_information

Values = Mapping[str, bytes | Callable[[float], bytes]]

_BATTERY_PERIOD_S: Final = 60.0


def information(*, model: str, serial_number: str, battery_hours: float = 200.0) -> Values:
    """Return the readable values of Device Information and Battery Service.

    Parameters
    ----------
    model, serial_number
        At most 20 letters each, so that one read holds them.
    battery_hours
        How long a full battery lasts; it is full at power-on.
    """
    texts = {
        "manufacturer": "Living Lab",
        "model": model[:20],
        "serial_number": serial_number[-20:],
        "hardware_revision": "sim",
        "firmware_revision": "1.0.0",
        "software_revision": "1.0.0",
    }
    values: dict[str, bytes | Callable[[float], bytes]] = {
        uuid: device_information.STRING.encode({"text": texts[name]})
        for name, uuid in device_information.STRING_UUIDS.items()
    }
    values[device_information.SYSTEM_ID_UUID] = device_information.SYSTEM_ID.encode(
        {"manufacturer": 1, "oui": 0}
    )
    values[device_information.PNP_ID_UUID] = device_information.PNP_ID.encode(
        {"vendor_source": 1, "vendor": 0xFFFF, "product": 1, "version": 0x0100}
    )
    values[battery.LEVEL_UUID] = lambda run_s: _level(run_s, battery_hours)
    return values


def battery_outlet(battery_hours: float = 200.0) -> Outlet:
    """Return the outlet that tells the battery level once a minute."""
    return Outlet(_BatteryLevel(battery_hours), origin_s=0.0)


class _BatteryLevel:
    uuid = battery.LEVEL_UUID
    period_s = _BATTERY_PERIOD_S
    n_frames = None

    def __init__(self, battery_hours: float) -> None:
        self._battery_hours = battery_hours

    def due_s(self, frame: int) -> float:
        return (frame + 1) * self.period_s

    def encode(self, frame: int, origin_s: float) -> bytes:
        return _level(origin_s + self.due_s(frame), self._battery_hours)


def _level(run_s: float, battery_hours: float) -> bytes:
    return battery.LEVEL.encode({"level": max(0, round(100 * (1 - run_s / 3600 / battery_hours)))})
