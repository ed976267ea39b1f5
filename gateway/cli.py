"""`lab gateway run`: a gateway as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from protocols.errors import DefinitionError, StoreError

if TYPE_CHECKING:
    from gateway.config import GatewayConfig
    from gateway.supervisor import Gateway, GatewayHealth

STATUS_INTERVAL_S: Final = 10.0
HEALTH_POLL_S: Final = 0.1


def add_commands(subparsers: Any) -> None:
    """Add `gateway` with its commands."""
    gateway = subparsers.add_parser("gateway", help="listen to devices and publish what they say")
    commands = gateway.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = commands.add_parser(
        "run",
        help="run a gateway until Ctrl-C or SIGTERM",
        description="Listen to a configuration's devices and publish what they say, until Ctrl-C or SIGTERM.",
    )
    run.add_argument("--config", type=Path, required=True, metavar="FILE", help="the gateway's TOML file")
    run.add_argument("--json", action="store_true", help="print the final summary as JSON")
    run.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from gateway.config import load_config

    try:
        config = load_config(options.config, os.environ)
        logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
        health = asyncio.run(_run_until_signal(config))
    except (DefinitionError, StoreError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 2 if isinstance(error, DefinitionError) else 1
    print(json.dumps(_summary(health)) if options.json else _status(health))
    return 0


async def _run_until_signal(config: GatewayConfig) -> GatewayHealth:
    from gateway.supervisor import run_gateway

    stop = asyncio.Event()
    reports: list[asyncio.Task[None]] = []

    def ready(gateway: Gateway) -> None:
        names = ", ".join(device.name for device in config.devices) or "no devices"
        print(f"gateway {config.node}: {names} -> {config.broker}; Ctrl-C stops it", file=sys.stderr)
        reports.append(asyncio.create_task(_report(gateway)))
        if config.health_port is not None:
            reports.append(asyncio.create_task(_tell_health_address(gateway)))

    _stop_on_signals(stop)
    try:
        return await run_gateway(config, ready=ready, stop=stop)
    finally:
        for report in reports:
            report.cancel()


def _stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at the first SIGINT or SIGTERM; a second one finds the default action, and ends at once."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop_cleanly() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        stop.set()

    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C interrupts
        for number in signals:
            loop.add_signal_handler(number, stop_cleanly)


async def _report(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(STATUS_INTERVAL_S)
        print(_status(gateway.health()), file=sys.stderr)


async def _tell_health_address(gateway: Gateway) -> None:
    """Print where the health is served, as soon as it is; that may be a port chosen by the system."""
    while (address := gateway.health_address) is None:
        await asyncio.sleep(HEALTH_POLL_S)
    print(f"health at {address}/health and {address}/metrics", file=sys.stderr)


def _status(health: GatewayHealth) -> str:
    """Return everything that matters in one line."""
    broker = "connected" if health.broker_connected else "no broker"
    recorder = "recorder online" if health.host_online else "recorder offline"
    backlog = f"{health.backlog_blocks} blocks, {health.backlog_bytes / 1e6:.1f} MB"
    parts = [f"{broker}, {recorder}, backlog {backlog}, oldest {health.oldest_unsent_s:.1f} s"]
    if health.spool_fault or health.refused_blocks:
        parts.append(f"SPOOL {health.spool_fault or 'full'}, {health.refused_blocks} blocks refused")
    if health.spool_damage:
        parts.append(f"SPOOL {health.spool_damage}")
    for device in health.devices:
        alarm = f", ALARM: {device.alarm}" if device.alarm else ""
        trouble = f", {device.decode_errors} bad frames" if device.decode_errors else ""
        lost = f", {device.lost_samples} lost" if device.lost_samples else ""
        parts.append(f"{device.name} {device.state} {device.samples} samples{lost}{trouble}{alarm}")
    return "; ".join(parts)


def _summary(health: GatewayHealth) -> dict[str, Any]:
    """Return the snapshot as plain values."""
    summary = _plain(health)
    summary["devices"] = [
        {**_plain(device), "streams": [_plain(stream) | {"name": stream.name} for stream in device.streams]}
        for device in health.devices
    ]
    return summary


def _plain(record: Any) -> dict[str, Any]:
    """Return the fields of a record that JSON can hold."""
    values = {name: getattr(record, name) for name in record.__slots__}
    return {name: value for name, value in values.items() if isinstance(value, str | int | float | dict)}
