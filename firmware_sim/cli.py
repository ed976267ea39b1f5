"""`lab sim list` and `lab sim run`: simulated devices as a process of their own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import datetime
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocols.errors import DefinitionError
from protocols.lab_clock import LabClock, parse_origin_ns

if TYPE_CHECKING:
    from firmware_sim.scenario import Scenario
    from firmware_sim.serving import Served

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def add_commands(subparsers: Any) -> None:
    """Add `sim` with its commands."""
    sim = subparsers.add_parser("sim", help="simulated devices that speak real bytes")
    commands = sim.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="list the kinds of devices that can be simulated")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_list)
    _add_run(commands)


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="serve simulated devices until Ctrl-C or SIGTERM",
        description="Serve one device of a kind, or all of a scenario file, until Ctrl-C or SIGTERM. "
        "Prints how a gateway reaches each device; subjects' time begins at once, a replay when it is first "
        "listened to.",
    )
    run.add_argument("kind", nargs="?", help="device kind, as `lab sim list` names it")
    run.add_argument("--scenario", type=Path, metavar="FILE", help="serve the devices of this TOML file")
    run.add_argument("--link", choices=("ble", "pty", "rfc2217"), help="default: ble or rfc2217")
    run.add_argument("--port", type=int, default=0, metavar="N", help="TCP port of an RFC 2217 link")
    run.add_argument("--hci-port", type=int, metavar="N", help="TCP port where gateways reach BLE devices")
    run.add_argument("--name", default="", help="advertised name or port name")
    run.add_argument("--seed", type=int, default=0, metavar="N", help="of the subject and the device's errors")
    run.add_argument("--desaturation", action="store_true", help="put the subject through a desaturation study")
    run.add_argument("--oximeter", choices=("reference", "good", "poor"), default="good", help="how it errs")
    run.add_argument("--drift-ppm", type=float, default=0.0, metavar="X", help="how fast its clock runs")
    run.add_argument("--replay", type=Path, metavar="RECORD", help="send this WFDB record instead")
    run.add_argument("--speed", type=float, metavar="X", help="lab seconds per second")
    run.add_argument("--origin", metavar="UTC", help="UTC at which lab time equals UTC, default: now")
    run.add_argument("--json", action="store_true", help="print a line of JSON for each device")
    run.set_defaults(run=_run)


def _list(options: argparse.Namespace) -> int:
    from firmware_sim.catalogue import CATALOGUE, DEFAULT_OPTIONS
    from firmware_sim.replay import REPLAYABLE
    from protocols.devices.kind import BleLink
    from protocols.devices.registry import device_kind

    rows = []
    for name in CATALOGUE:
        kind = device_kind(name, DEFAULT_OPTIONS.get(name, {}))
        row: dict[str, Any] = {
            "kind": name,
            "title": kind.title,
            "links": ["ble"] if isinstance(kind.link, BleLink) else ["pty", "rfc2217"],
            "streams": [stream.name for stream in kind.streams],
            "replay": name in REPLAYABLE,
        }
        rows.append(row)
    if options.json:
        print(json.dumps(rows))
        return 0
    for row in rows:
        replay = ", replays WFDB records" if row["replay"] else ""
        links, streams = " or ".join(row["links"]), ", ".join(row["streams"])
        print(f"{row['kind']:18}{row['title']}: {streams} over {links}{replay}")
    return 0


def _run(options: argparse.Namespace) -> int:
    scenario = _scenario(options)
    now_ns = time.time_ns() // 1000 * 1000
    origin_ns = now_ns if options.origin is None else parse_origin_ns("--origin", options.origin)
    clock = LabClock(time.time_ns, time.monotonic_ns, speed=scenario.speed, origin_ns=origin_ns)
    asyncio.run(_serve(scenario, clock, as_json=options.json))
    return 0


def _scenario(options: argparse.Namespace) -> Scenario:
    """Return the scenario that the command line asks for."""
    from firmware_sim.scenario import DeviceSettings, Scenario, SubjectSettings, load_scenario
    from firmware_sim.signals.oximeter import MODELS

    if (options.kind is None) == (options.scenario is None):
        raise DefinitionError("expected either a device kind or --scenario FILE")
    if options.scenario is not None:
        scenario = load_scenario(options.scenario)
    else:
        subject = SubjectSettings("subject", options.seed, desaturation={} if options.desaturation else None)
        device = DeviceSettings(
            options.kind,
            name=options.name,
            link=options.link or "",
            port=options.port,
            subject=subject.name,
            seed=options.seed,
            oximeter=MODELS[options.oximeter],
            drift_ppm=options.drift_ppm,
            replay=options.replay,
        )
        scenario = Scenario((device,), (subject,))
    changes = {"speed": options.speed, "hci_port": options.hci_port}
    given = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(scenario, **given)


async def _serve(scenario: Scenario, clock: LabClock, *, as_json: bool) -> None:
    from firmware_sim.serving import serve_scenario

    stop = asyncio.Event()
    _stop_on_signals(stop)
    async with serve_scenario(scenario, clock) as served:
        for one in served:
            print(_json(one, clock) if as_json else _text(one), flush=True)
        print("serving; Ctrl-C stops", file=sys.stderr)
        await stop.wait()


def _stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at the first SIGINT or SIGTERM; a second one ends at once."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop_cleanly() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
        stop.set()

    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C interrupts
        for number in numbers:
            loop.add_signal_handler(number, stop_cleanly)


def _text(served: Served) -> str:
    adapter = f" through adapter {served.adapter}" if served.adapter else ""
    return f"{served.device.name}  {served.device.kind.name}  {served.address}{adapter}"


def _json(served: Served, clock: LabClock) -> str:
    """Return what a gateway's configuration needs to know of the device."""
    from firmware_sim.catalogue import gateway_options

    origin = _EPOCH + datetime.timedelta(microseconds=clock.origin_ns // 1000)
    place = (
        {"address": served.address, "adapter": served.adapter} if served.adapter else {"port": served.address}
    )
    facts = {
        "name": served.device.name,
        "kind": served.device.kind.name,
        "link": served.link,
        **place,
        "options": gateway_options(served.device.kind),
        "speed": clock.speed,
        "origin": origin.isoformat(),
    }
    return json.dumps(facts)
