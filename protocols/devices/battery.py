"""Battery Service 1.0: the battery level."""

from __future__ import annotations

import numpy as np

from protocols.devices.gatt import Handler, service, uuid
from protocols.devices.kind import Decoded, Samples
from protocols.devices.record import Field, Record
from protocols.samples import Channel, Stream

LEVEL_UUID = uuid(0x2A19)
SERVICE = service(uuid(0x180F), {LEVEL_UUID: "read notify"})

LEVEL = Record("battery_level", (Field("level", "u8", unit="%", mdc=67996, limits=(0, 100)),))
"""Battery Level 2A19: `level`, 0 to 100 %; more is reserved and refused."""

STREAM = Stream("battery", (Channel("level", "%", mdc=67996),), "uint8", None)


def _handle(data: bytes) -> Decoded:
    level = np.array([[LEVEL.decode(data)["level"]]], np.uint8)
    return Decoded(samples=(Samples(STREAM.name, level),))


HANDLERS: dict[str, Handler] = {LEVEL_UUID: _handle}
