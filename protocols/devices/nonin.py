"""Nonin serial data format 7: 75 Hz pleth with averaged values three times a second (OEM III, Xpod, 3150).

A packet is 25 frames of 5 bytes: status, pleth (most significant byte first), one byte of the slow values, and
the sum of these four modulo 256. Bit 7 of a status byte is always set, bit 0 only in a packet's first frame.
The slow values lie in the fourth bytes of fixed frames; 127 and 511 stand for "no value".

Values named `…_display` are held for 10 s after the finger has gone, the others go missing at once.

References
----------
Nonin, OEM III Module and Model 3150 Specification and Technical Information, serial data format 7.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from protocols.devices.frame import Bits, Frame, Lane, Sum8
from protocols.devices.framing import SyncFramer
from protocols.devices.kind import Decoded, DeviceKind, Samples, SerialLink
from protocols.samples import Channel, Stream

FRAMES = 25
FRAME_SIZE = 5
PACKET_RATE_HZ = 3
TIMER_MODULUS = 1 << 14

ARTIFACT = 0x20
OUT_OF_TRACK = 0x10
SENSOR_ALARM = 0x08
RED_PERFUSION = 0x04
GREEN_PERFUSION = 0x02
"""Status bits; red and green together are yellow: marginal pulse signal."""

_MDC_SPO2 = 150456
_MDC_PULSE_RATE = 149530
_MDC_PLETH = 150452


def _slow(frame: int) -> int:
    """Byte of the slow value of a frame, counted from 1 as Nonin does."""
    return FRAME_SIZE * (frame - 1) + 3


def _saturation(name: str, frame: int) -> Bits:
    return Bits(name, ((_slow(frame), 0, 7),), missing=127, unit="%", mdc=_MDC_SPO2)


def _rate(name: str, frame: int) -> Bits:
    slices = ((_slow(frame), 0, 2), (_slow(frame + 1), 0, 7))
    return Bits(name, slices, missing=511, unit="/min", mdc=_MDC_PULSE_RATE)


PACKET = Frame(
    "nonin_packet",
    FRAMES * FRAME_SIZE,
    (
        Lane("status", 0, FRAME_SIZE, FRAMES),
        Lane("pleth", 1, FRAME_SIZE, FRAMES, size=2, mdc=_MDC_PLETH),
        _rate("pulse_rate", 1),
        _saturation("spo2", 3),
        Bits("revision", ((_slow(4), 0, 7),)),
        Bits("timer", ((_slow(6), 0, 7), (_slow(7), 0, 7))),
        Bits("smart_point", ((_slow(8), 5, 1),)),
        Bits("low_battery", ((_slow(8), 0, 1),)),
        _saturation("spo2_display", 9),
        _saturation("spo2_fast", 10),
        _saturation("spo2_beat_to_beat", 11),
        _rate("pulse_rate_extended", 14),
        _saturation("spo2_extended", 16),
        _saturation("spo2_extended_display", 17),
        _rate("pulse_rate_display", 20),
        _rate("pulse_rate_extended_display", 22),
    ),
    sync=((0, 0x81, 0x81), *((FRAME_SIZE * k, 0x81, 0x80) for k in range(1, FRAMES))),
    check=Sum8(at=4, stride=FRAME_SIZE, count=FRAMES),
)
"""One packet: `status` and `pleth` (25 each), `pulse_rate` and `spo2` (averages of 4 beats), the same over
8 beats as `…_extended`, `spo2_fast`, `spo2_beat_to_beat`, each NaN where missing; `timer` (counts packets on
the 3150, otherwise reserved), `revision`, `smart_point` and `low_battery`. What `encode` is not given is sent
as missing, or as 0."""

PLETH = Stream(
    "pleth",
    (Channel("pleth", "1", mdc=_MDC_PLETH), Channel("status", "1")),
    "uint16",
    FRAMES * float(PACKET_RATE_HZ),
)
OXIMETRY = Stream(
    "oximetry",
    (
        Channel("spo2", "%", mdc=_MDC_SPO2),
        Channel("pulse_rate", "/min", mdc=_MDC_PULSE_RATE),
        Channel("spo2_fast", "%", mdc=_MDC_SPO2),
        Channel("spo2_beat_to_beat", "%", mdc=_MDC_SPO2),
        Channel("spo2_extended", "%", mdc=_MDC_SPO2),
        Channel("pulse_rate_extended", "/min", mdc=_MDC_PULSE_RATE),
    ),
    "float64",
    float(PACKET_RATE_HZ),
)


class NoninDecoder:
    """Decodes the packets of one connection.

    Parameters
    ----------
    timer
        Whether the device counts its packets in `timer`.
    """

    def __init__(self, *, timer: bool = False) -> None:
        self._framer = SyncFramer(PACKET)
        self._timer = timer
        self._properties: dict[str, str] = {}

    def feed(self, source: str, data: bytes) -> Decoded:  # noqa: ARG002 (a serial device has one source)
        """Return the packets that `data` completes."""
        packets, errors = self._framer.feed(data)
        samples = [part for packet in packets for part in self._samples(packet)]
        return Decoded(tuple(samples), self._news(packets), tuple(errors))

    def _samples(self, packet: dict[str, Any]) -> tuple[Samples, Samples]:
        waves = np.array([packet[channel.name] for channel in PLETH.channels], np.uint16)
        slow = np.array([[packet[channel.name]] for channel in OXIMETRY.channels], np.float64)
        timer = packet["timer"] if self._timer else None
        return (
            Samples(PLETH.name, waves, counter=None if timer is None else timer * FRAMES),
            Samples(OXIMETRY.name, slow, counter=timer),
        )

    def _news(self, packets: list[dict[str, Any]]) -> dict[str, str]:
        """Properties that are new or have changed."""
        news: dict[str, str] = {}
        for packet in packets:
            now = {
                "firmware_revision": str(packet["revision"]),
                "low_battery": "yes" if packet["low_battery"] else "no",
            }
            news |= {name: value for name, value in now.items() if self._properties.get(name) != value}
            self._properties = now
        return news


def nonin_7(*, timer: bool = False) -> DeviceKind:
    """Return the kind of Nonin oximeters set to data format 7.

    Parameters
    ----------
    timer
        Whether the device counts its packets (the 3150 does), so that lost ones can be told.
    """
    return DeviceKind(
        name="nonin-7",
        title="Nonin oximeter (serial data format 7)",
        link=SerialLink(baudrate=9600),
        streams=(PLETH, OXIMETRY),
        new_decoder=lambda: NoninDecoder(timer=timer),
        counter_modulus={PLETH.name: TIMER_MODULUS * FRAMES, OXIMETRY.name: TIMER_MODULUS} if timer else {},
    )
