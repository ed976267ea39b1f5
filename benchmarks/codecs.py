"""Microseconds per frame of each codec, against `struct` and numpy code written by hand for the same frame.

The hand-written side is what one would write for this one frame and nothing else: same checks of length,
constants, ranges and checksums, same errors, same dict or bytes. Both sides run in turns in one process; a
figure is the median over many repeats, and so is the ratio. The limit is 1.5 for every codec and direction.
Decoding many frames at once must not take longer than one by one.

    python benchmarks/codecs.py
"""

from __future__ import annotations

import math
import statistics
import struct
import sys
import time
from binascii import crc_hqx
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import Report

from protocols.devices import battery, device_information, fablab, heart_rate, nonin, polar, pulse_oximeter
from protocols.devices.frame import Frame
from protocols.devices.framing import cobs_decode
from protocols.devices.medfloat import SFLOAT_CODES, SFLOATS
from protocols.devices.record import Record
from protocols.errors import DecodeError, DefinitionError

LIMIT = 1.5
REPEATS = 301
N_MANY = 1000
TARGET_S = 0.001

# Heart rate measurement

_U16 = struct.Struct("<H")
_HRM_WIDE = struct.Struct("<BH")


def hrm_decode(data: bytes) -> dict[str, Any]:
    size = len(data)
    try:
        flags = data[0]
        if flags & 1:
            (rate,) = _U16.unpack_from(data, 1)
            at = 3
        else:
            rate = data[1]
            at = 2
        values = {"sensor_contact": flags >> 1 & 3, "heart_rate": rate}
        if flags & 8:
            (values["energy"],) = _U16.unpack_from(data, at)
            at += 2
    except (struct.error, IndexError):
        raise DecodeError(f"{size} bytes are no heart rate measurement") from None
    if flags & 16:
        n_rr, rest = divmod(size - at, 2)
        if rest or n_rr < 1:
            raise DecodeError(f"{size} bytes are no heart rate measurement")
        values["rr"] = [raw / 1024 for raw in struct.unpack_from(f"<{n_rr}H", data, at)]
    elif at != size:
        values["trailing"] = data[at:]
    return values


def hrm_encode(values: dict[str, Any]) -> bytes:
    try:
        rate = values["heart_rate"]
        contact = values.get("sensor_contact", 0)
        if not 0 <= contact <= 3:
            raise DefinitionError(f"sensor_contact={contact}, expected 0 to 3")
        flags = contact << 1
        energy, rr = values.get("energy"), values.get("rr")
        if energy is not None:
            flags |= 8
        if rr:
            flags |= 16
        data = _HRM_WIDE.pack(flags | 1, rate) if rate > 255 else bytes((flags, rate))
        if energy is not None:
            data += _U16.pack(energy)
        if rr:
            data += struct.pack(f"<{len(rr)}H", *[round(interval * 1024) for interval in rr])
        return data
    except (struct.error, KeyError, TypeError, ValueError) as error:
        raise DefinitionError(f"{values}: {error}") from error


# Pulse oximetry

_PLX = struct.Struct("<BHH")
_TWO_SFLOATS = struct.Struct("<HH")


def plx_decode(data: bytes) -> dict[str, Any]:
    size = len(data)
    try:
        flags, spo2, pulse_rate = _PLX.unpack_from(data)
        values = {"spo2": SFLOATS[spo2], "pulse_rate": SFLOATS[pulse_rate]}
        at = 5
        if flags & 1:
            spo2, pulse_rate = _TWO_SFLOATS.unpack_from(data, at)
            values["spo2_fast"], values["pulse_rate_fast"] = SFLOATS[spo2], SFLOATS[pulse_rate]
            at += 4
        if flags & 2:
            spo2, pulse_rate = _TWO_SFLOATS.unpack_from(data, at)
            values["spo2_slow"], values["pulse_rate_slow"] = SFLOATS[spo2], SFLOATS[pulse_rate]
            at += 4
        if flags & 4:
            (values["measurement_status"],) = _U16.unpack_from(data, at)
            at += 2
        if flags & 8:
            values["device_status"] = int.from_bytes(data[at : at + 3], "little")
            at += 3
        if flags & 16:
            (index,) = _U16.unpack_from(data, at)
            values["pulse_amplitude_index"] = SFLOATS[index]
            at += 2
    except struct.error:
        raise DecodeError(f"{size} bytes are no PLX continuous measurement") from None
    if at != size:
        if at > size:
            raise DecodeError(f"{size} bytes are no PLX continuous measurement")
        values["trailing"] = data[at:]
    return values


def plx_encode(values: dict[str, Any]) -> bytes:
    try:
        flags, tail = 0, b""
        for bit, names in ((1, ("spo2_fast", "pulse_rate_fast")), (2, ("spo2_slow", "pulse_rate_slow"))):
            if names[0] in values:
                flags |= bit
                tail += _TWO_SFLOATS.pack(SFLOAT_CODES[values[names[0]]], SFLOAT_CODES[values[names[1]]])
        if "measurement_status" in values:
            flags |= 4
            tail += _U16.pack(values["measurement_status"])
        if "device_status" in values:
            flags |= 8
            tail += values["device_status"].to_bytes(3, "little")
        if "pulse_amplitude_index" in values:
            flags |= 16
            tail += _U16.pack(SFLOAT_CODES[values["pulse_amplitude_index"]])
        return _PLX.pack(flags, SFLOAT_CODES[values["spo2"]], SFLOAT_CODES[values["pulse_rate"]]) + tail
    except (struct.error, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DefinitionError(f"{values}: {error}") from error


# Battery level and device information


def battery_decode(data: bytes) -> dict[str, Any]:
    if not data:
        raise DecodeError("0 bytes are no battery level")
    level = data[0]
    if level > 100:
        raise DecodeError(f"level={level}, expected 0 to 100")
    values: dict[str, Any] = {"level": level}
    if len(data) > 1:
        values["trailing"] = data[1:]
    return values


def battery_encode(values: dict[str, Any]) -> bytes:
    try:
        level = values["level"]
        if not 0 <= level <= 100:
            raise DefinitionError(f"level={level}, expected 0 to 100")
        return bytes((level,))
    except (KeyError, TypeError, ValueError) as error:
        raise DefinitionError(f"{values}: {error}") from error


def string_decode(data: bytes) -> dict[str, Any]:
    try:
        return {"text": data.decode().rstrip("\0")}
    except UnicodeDecodeError as error:
        raise DecodeError(f"{data!r}, expected UTF-8") from error


def string_encode(values: dict[str, Any]) -> bytes:
    try:
        text: str = values["text"]
        return text.encode()
    except (KeyError, AttributeError, UnicodeEncodeError) as error:
        raise DefinitionError(f"{values}: {error}") from error


# Polar ECG

_PMD = struct.Struct("<BQB")


def ecg_decode(data: bytes) -> dict[str, Any]:
    n_samples, rest = divmod(len(data) - 10, 3)
    if rest or n_samples < 1:
        raise DecodeError(f"{len(data)} bytes are no ECG frame")
    kind, timestamp_ns, frame_type = _PMD.unpack_from(data)
    if kind != 0 or frame_type != 0:
        raise DecodeError(f"type {kind}, frame type {frame_type}, expected 0 and 0")
    ecg = np.ndarray(n_samples, "<i4", b"\0" + data[10:], 0, 3) >> 8
    return {"timestamp_ns": timestamp_ns, "ecg": ecg}


def ecg_encode(values: dict[str, Any]) -> bytes:
    try:
        ecg = np.asarray(values["ecg"])
        if ecg.ndim != 1 or ecg.dtype.kind not in "iu":
            raise DefinitionError(f"ecg of shape {ecg.shape}, expected (n_samples,)")
        if ecg.min() < -0x800000 or ecg.max() > 0x7FFFFF:
            raise DefinitionError("ecg, expected 24 bits")
        samples = ecg.astype("<i4").view("u1").reshape(-1, 4)[:, :3].tobytes()
        return _PMD.pack(0, values["timestamp_ns"], 0) + samples
    except (struct.error, KeyError, TypeError, ValueError) as error:
        raise DefinitionError(f"{values}: {error}") from error


# Nonin data format 7

_PLETH = struct.Struct(">25H")
_MARKS = bytes(octet & 0x81 for octet in range(256))
_FLAGS = bytes(octet & 0x7E | 0x80 for octet in range(256))
_SYNC = b"\x81" + b"\x80" * 24


def _rate(high: int, low: int) -> float:
    raw = (high & 3) << 7 | low & 127
    return math.nan if raw == 511 else raw


def _saturation(octet: int) -> float:
    raw = octet & 127
    return math.nan if raw == 127 else raw


def nonin_decode(data: bytes) -> dict[str, Any]:
    if len(data) != 125:
        raise DecodeError(f"{len(data)} bytes, expected 125")
    if data[0::5].translate(_MARKS) != _SYNC:
        raise DecodeError("no sync")
    octets = np.frombuffer(data, np.uint8).reshape(25, 5)
    if (octets[:, :4].sum(axis=1, dtype=np.uint8) != octets[:, 4]).any():
        raise DecodeError("wrong checksum")
    slow = data[3::5]
    return {
        "status": octets[:, 0].copy(),
        "pleth": np.ndarray(25, ">u2", data, 1, 5).astype(np.uint16),
        "pulse_rate": _rate(slow[0], slow[1]),
        "spo2": _saturation(slow[2]),
        "revision": slow[3] & 127,
        "timer": (slow[5] & 127) << 7 | slow[6] & 127,
        "smart_point": slow[7] >> 5 & 1,
        "low_battery": slow[7] & 1,
        "spo2_display": _saturation(slow[8]),
        "spo2_fast": _saturation(slow[9]),
        "spo2_beat_to_beat": _saturation(slow[10]),
        "pulse_rate_extended": _rate(slow[13], slow[14]),
        "spo2_extended": _saturation(slow[15]),
        "spo2_extended_display": _saturation(slow[16]),
        "pulse_rate_display": _rate(slow[19], slow[20]),
        "pulse_rate_extended_display": _rate(slow[21], slow[22]),
    }


def _number(values: dict[str, Any], name: str, high: int, missing: int) -> int:
    value = values.get(name)
    if value is None or value != value:
        return missing
    if not 0 <= value <= high:
        raise DefinitionError(f"{name}={value}, expected 0 to {high}")
    return value  # type: ignore[no-any-return]


def nonin_encode(values: dict[str, Any]) -> bytes:
    try:
        slow = bytearray(25)
        for frame, name in ((0, ""), (13, "_extended"), (19, "_display"), (21, "_extended_display")):
            raw = _number(values, f"pulse_rate{name}", 510, 511)
            slow[frame], slow[frame + 1] = raw >> 7, raw & 127
        slow[2] = _number(values, "spo2", 126, 127)
        slow[3] = _number(values, "revision", 127, 0)
        timer = _number(values, "timer", 16383, 0)
        slow[5], slow[6] = timer >> 7, timer & 127
        slow[7] = _number(values, "smart_point", 1, 0) << 5 | _number(values, "low_battery", 1, 0)
        slow[8] = _number(values, "spo2_display", 126, 127)
        slow[9] = _number(values, "spo2_fast", 126, 127)
        slow[10] = _number(values, "spo2_beat_to_beat", 126, 127)
        slow[15] = _number(values, "spo2_extended", 126, 127)
        slow[16] = _number(values, "spo2_extended_display", 126, 127)
        data = bytearray(125)
        data[0::5] = bytes(values["status"]).translate(_FLAGS)
        data[0] |= 1
        pleth = _PLETH.pack(*values["pleth"])
        data[1::5] = pleth[0::2]
        data[2::5] = pleth[1::2]
        data[3::5] = slow
        octets = np.frombuffer(data, np.uint8).reshape(25, 5)
        data[4::5] = octets[:, :4].sum(axis=1, dtype=np.uint8).tobytes()
        return bytes(data)
    except (struct.error, KeyError, TypeError, ValueError) as error:
        raise DefinitionError(f"{values}: {error}") from error


# Fab Lab frame, with COBS

_HEADER = struct.Struct("<BBHIIBB")


def fablab_decode(encoded: bytes) -> dict[str, Any]:
    pieces, at, end = [], 0, len(encoded)
    while at < end:
        distance = encoded[at]
        if distance == 0 or at + distance > end:
            raise DecodeError("COBS distance leads astray")
        pieces.append(encoded[at + 1 : at + distance])
        at += distance
        if distance < 255 and at < end:
            pieces.append(b"\0")
    data = b"".join(pieces)
    if len(data) < 16 or crc_hqx(data[:-2], 0xFFFF) != data[-2] | data[-1] << 8:
        raise DecodeError("wrong CRC")
    version, flags, boot, counter, device_us, n_channels, n_samples = _HEADER.unpack_from(data)
    if version != 1:
        raise DecodeError(f"version {version}, expected 1")
    size = 3 if flags & 1 else 2
    if not n_channels * n_samples or len(data) != 16 + n_channels * n_samples * size:
        raise DecodeError(f"{len(data)} bytes for {n_channels} times {n_samples} samples")
    if flags & 1:
        samples = np.ndarray((n_samples, n_channels), "<i4", b"\0" + data[14:-2], 0, (3 * n_channels, 3)) >> 8
    else:
        samples = np.ndarray((n_samples, n_channels), "<i2", data, 14)
    return {
        "int24": flags & 1,
        "boot": boot,
        "counter": counter,
        "device_us": device_us,
        "n_channels": n_channels,
        "n_samples": n_samples,
        "samples": samples.T,
    }


def fablab_encode(values: NDArray[Any], boot: int, counter: int, device_us: int, *, int24: bool) -> bytes:
    n_channels, n_samples = values.shape
    limit = 0x800000 if int24 else 0x8000
    if values.min() < -limit or values.max() >= limit:
        raise DefinitionError(f"values, expected within ±{limit}")
    if int24:
        samples = values.T.astype("<i4", order="C").view("u1").reshape(-1, 4)[:, :3].tobytes()
    else:
        samples = values.T.astype("<i2").tobytes()
    try:
        header = _HEADER.pack(
            1, int24, boot, counter & 0xFFFFFFFF, device_us & 0xFFFFFFFF, n_channels, n_samples
        )
    except struct.error as error:
        raise DefinitionError(str(error)) from error
    data = header + samples
    data += _U16.pack(crc_hqx(data, 0xFFFF))
    pieces = []
    blocks = data.split(b"\0")
    for block in blocks:
        while len(block) > 253:
            pieces.append(b"\xff" + block[:254])
            block = block[254:]
        pieces.append(bytes((len(block) + 1,)) + block)
    return b"".join(pieces) + b"\0"


# Measuring

Call = Callable[[], Any]


def medians(ours: Call, theirs: Call) -> tuple[float, float, float]:
    """Return the median us of both calls and the median of their ratio, measured in turns."""
    start = time.perf_counter()
    theirs()
    loops = max(1, round(TARGET_S / max(time.perf_counter() - start, 1e-7)))
    ours_us, theirs_us = [], []
    for _ in range(REPEATS):
        ours_us.append(one_us(ours, loops))
        theirs_us.append(one_us(theirs, loops))
    ratio = statistics.median(a / b for a, b in zip(ours_us, theirs_us, strict=True))
    return statistics.median(ours_us), statistics.median(theirs_us), ratio


def one_us(call: Call, loops: int) -> float:
    begin = time.perf_counter_ns()
    for _ in range(loops):
        call()
    return (time.perf_counter_ns() - begin) / loops / 1000


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, bytes):
        return bool(ours == theirs)
    return ours.keys() == theirs.keys() and all(
        np.array_equal(ours[name], theirs[name], equal_nan=name != "text") for name in ours
    )


def one_by_one(codec: Record | Frame, frames: list[bytes]) -> list[dict[str, Any]]:
    return [codec.decode(data) for data in frames]


def fablab_unstuff_and_decode(data: bytes) -> dict[str, Any]:
    return fablab.decode_frame(cobs_decode(data))


def single_cases() -> Iterator[tuple[str, Call, Call]]:
    """Yield title, our call and the hand-written one."""
    rng = np.random.default_rng(1)
    packet = {
        "status": [0] * 25,
        "pleth": rng.integers(0, 65536, 25).tolist(),
        "pulse_rate": 72,
        "spo2": 97,
        "spo2_display": 97,
        "spo2_fast": 96,
        "spo2_beat_to_beat": 98,
        "pulse_rate_extended": 71,
        "spo2_extended": 97,
        "timer": 4711,
        "pulse_rate_display": 72,
    }
    hrm = {"heart_rate": 60, "sensor_contact": 3, "rr": [1.0, 1000 / 1024]}
    ecg = {"timestamp_ns": 10**18, "ecg": rng.integers(-2000, 2000, 73, dtype=np.int32)}
    rows: list[tuple[str, Record | Frame, dict[str, Any], Callable[[bytes], Any], Callable[[Any], bytes]]] = [
        ("heart rate, 2 RR", heart_rate.MEASUREMENT, hrm, hrm_decode, hrm_encode),
        ("PLX", pulse_oximeter.CONTINUOUS, {"spo2": 98.0, "pulse_rate": 72.0}, plx_decode, plx_encode),
        ("battery", battery.LEVEL, {"level": 51}, battery_decode, battery_encode),
        ("DIS string", device_information.STRING, {"text": "Living Lab 1.0"}, string_decode, string_encode),
        ("PMD ECG, 73 samples", polar.ECG_FRAME, ecg, ecg_decode, ecg_encode),
        ("Nonin DF7 packet", nonin.PACKET, packet, nonin_decode, nonin_encode),
    ]
    for name, codec, values, decode, encode in rows:
        data = codec.encode(values)
        yield f"{name}: decode", partial(codec.decode, data), partial(decode, data)
        yield f"{name}: encode", partial(codec.encode, values), partial(encode, values)


def fablab_cases() -> Iterator[tuple[str, Call, Call]]:
    """Yield the same for whole Fab Lab frames, COBS included."""
    rng = np.random.default_rng(1)
    shapes: list[tuple[int, int, fablab.SampleType, int]] = [
        (8, 20, "int24", 1 << 20),
        (1, 50, "int16", 1 << 11),
    ]
    for n_channels, n_samples, sample_type, width in shapes:
        name = f"Fab Lab {n_channels} ch {sample_type}, {n_samples} samples"
        samples = rng.integers(-width, width, (n_channels, n_samples), dtype=np.int32)
        header = {"boot": 7, "counter": 4711, "device_us": 123456}
        encode = partial(fablab.encode_frame, samples, sample_type=sample_type, **header)
        data = encode()[:-1]
        yield (
            f"{name}: decode",
            partial(fablab_unstuff_and_decode, data),
            partial(fablab_decode, data),
        )
        yield f"{name}: encode", encode, partial(fablab_encode, samples, int24=sample_type == "int24", **header)


def many_cases() -> Iterator[tuple[str, Call, Call]]:
    """Yield title, our `decode_many` and a loop over our `decode`, for `N_MANY` frames."""
    rng = np.random.default_rng(1)
    numbers = range(N_MANY)
    frames: list[tuple[str, Record | Frame, list[dict[str, Any]]]] = [
        ("PLX", pulse_oximeter.CONTINUOUS, [{"spo2": 90.0 + k % 10, "pulse_rate": 60.0} for k in numbers]),
        (
            "heart rate, 0 to 2 RR",
            heart_rate.MEASUREMENT,
            [{"heart_rate": 9, "rr": [1.0] * (k % 3)} for k in numbers],
        ),
        ("PMD ECG", polar.ECG_FRAME, [{"timestamp_ns": k, "ecg": rng.integers(-9, 9, 73)} for k in numbers]),
        (
            "Nonin DF7 packet",
            nonin.PACKET,
            [{"status": [0] * 25, "pleth": [k] * 25, "spo2": 97} for k in numbers],
        ),
    ]
    for name, codec, rows in frames:
        data = [codec.encode(values) for values in rows]
        yield (
            f"{name}: decode_many",
            partial(codec.decode_many, data),
            partial(one_by_one, codec, data),
        )


def main() -> int:
    """Print one line for each codec and direction; return 1 if a limit is broken."""
    report = Report()
    for name, ours, theirs in (*single_cases(), *fablab_cases()):
        if not same(ours(), theirs()):
            raise AssertionError(f"{name}: hand-written code disagrees\n  {ours()}\n  {theirs()}")
        ours_us, theirs_us, ratio = medians(ours, theirs)
        peer = f"{theirs_us:.2f} by hand"
        report.figure(f"codecs: {name}", ours_us, "us", ratio=ratio, of=peer, at_most=LIMIT)
    for name, ours, theirs in many_cases():
        ours_us, theirs_us, ratio = medians(ours, theirs)
        peer = f"{theirs_us / N_MANY:.2f} one by one"
        report.figure(f"codecs: {name}", ours_us / N_MANY, "us/frame", ratio=ratio, of=peer, at_most=1.0)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
