"""`lab replay`: record a WFDB record through a simulated device, the gateway, broker, recorder and store."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocols.lab_clock import LabClock

if TYPE_CHECKING:
    from firmware_sim.recordings import Recording
    from lab_api.house import House

REFERENCE_BEATS = "atr"


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lab replay`."""
    parser = subparsers.add_parser(
        "replay",
        help="record a WFDB record through a simulated device and the whole chain",
        description="Play a WFDB record as a device, record what the device sends into a session, and add the "
        "record's reference annotations to it.",
    )
    parser.add_argument("record", type=Path, help="WFDB record (path without ending)")
    parser.add_argument("--as", dest="kind", default="fablab", help="fablab or polar-h10 (%(default)s)")
    parser.add_argument("--link", choices=("pty", "rfc2217"), default="pty", help="serial link (%(default)s)")
    parser.add_argument("--speed", type=float, default=1.0, help="lab seconds per second (%(default)s)")
    parser.add_argument("--subject", help="the session's subject (the record's name)")
    parser.add_argument("--broker", metavar="URL", help="an MQTT broker in place of the embedded one")
    parser.add_argument("--data", type=Path, help="folder of everything kept (LAB_DATA, else .lab)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from firmware_sim.recordings import read_wfdb
    from lab_api.settings import default_data_folder

    recording = read_wfdb(options.record)
    result = asyncio.run(
        replay(
            recording,
            options.kind,
            link=options.link,
            speed=options.speed,
            folder=options.data or default_data_folder(),
            subject=options.subject,
            broker_url=options.broker,
        )
    )
    if options.json:
        print(json.dumps(result))
    else:
        print(f"session {result['session']}: {result['samples']} samples of {result['stream']} ", end="")
        print(
            f"from {recording.name} as {options.kind}, {result['lost_samples']} lost, {result['real_s']:.1f} s"
        )
        print(f"judge it with: lab evaluate {result['session']} --protocol ansi-aami-ec57")
    return 0


async def replay(
    recording: Recording,
    kind: str,
    *,
    speed: float,
    folder: Path,
    link: str = "pty",
    subject: str | None = None,
    broker_url: str | None = None,
) -> dict[str, Any]:
    """Record a recording as a session, with its annotations; return what came of it.

    Raises
    ------
    DefinitionError
        If the kind cannot carry such a signal.
    TransportError
        If a part of the chain cannot be reached.
    """
    from firmware_sim.replay import replay_as
    from lab_api.house import Wiring, running_house
    from protocols.devices.kind import BleLink

    began_s = time.monotonic()
    device = replay_as(recording, kind)
    name = f"replay-{recording.name}"
    wiring = Wiring(device, "ble" if isinstance(device.kind.link, BleLink) else link, name)
    clock = LabClock(time.time_ns, time.monotonic_ns, speed, time.time_ns())
    async with running_house([wiring], folder=folder, clock=clock, broker_url=broker_url) as house:
        await house.connected()
        session_id = await house.open_session(
            subject or recording.name, {"test": name}, f"replay of {recording.name}"
        )
        house.start()
        await house.sent_everything()
        await house.close_session(session_id)
        stream = _waveform(await house.api.get(f"/sessions/{session_id}"))
        if recording.annotation_symbols:
            await _annotate(house, session_id, name, stream["name"], recording)
        health = house.gateway.health().device(name)
    return {
        "session": session_id,
        "stream": stream["name"],
        "samples": stream["n_samples"],
        "lost_samples": health.lost_samples,
        "decode_errors": health.decode_errors,
        "real_s": round(time.monotonic() - began_s, 3),
    }


def _waveform(session: dict[str, Any]) -> dict[str, Any]:
    """Return the stream of a session that has the highest rate."""
    return max(session["streams"], key=lambda stream: stream["rate_hz"] or 0.0)


async def _annotate(house: House, session_id: str, device: str, stream: str, recording: Recording) -> None:
    from lab_api.house import GATEWAY
    from lab_api.store.session_store import AnnotationSet

    annotations = AnnotationSet(
        name=REFERENCE_BEATS,
        gateway=GATEWAY,
        device=device,
        stream=stream,
        rate_hz=recording.rate_hz,
        sample_indices=recording.annotation_samples,
        symbols=recording.annotation_symbols,
    )
    await house.annotate(session_id, annotations)
