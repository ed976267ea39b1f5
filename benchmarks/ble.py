"""What 20 people's BLE devices cost the gateway: CPU share of one core and memory, against a bare bleak client.

Each person wears a `polar-h10` (heart rate and 130 Hz ECG) and a `pulse-oximeter`: 40 peripherals, 76
notifications a second. No simulated kind has all three signals, and a `heart-rate-strap` would only repeat what
the H10 sends.

Every part is a process of its own, as in production, and all are measured over the same seconds::

    lab sim run ── HCI over TCP ── lab gateway run ── broker ── lab serve, an open session
    lab sim run ── HCI over TCP ── bare client: bleak on the same backend, counts notifications, nothing else

Both simulators serve the same scenario. Measured once all 40 devices stream on both sides; what the store has
got meanwhile must be what the devices have sent. CPU is user and system time.

    python benchmarks/ble.py
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from report import Report

from gateway.bumble_backend import BumbleAdapter
from lab_api.broker import embedded_broker
from protocols.devices.kind import BleLink
from protocols.devices.registry import device_kind

CPU_LIMIT = 8.0
MEMORY_LIMIT = 2.0
PEOPLE = 20
KINDS = ("polar-h10", "pulse-oximeter")
WINDOW_S = 20.0
READY_TIMEOUT_S = 60.0
SIGNALS = ("ecg", "heart_rate", "oximetry")
ECG_RATE_HZ = 130
FRAMES_PER_S = ECG_RATE_HZ / 73 + 1 + 1
TOLERANCE = 0.05
GATEWAY = "gateway-1"
LAB = [sys.executable, "-m", "lab_api.cli"]

Device = dict[str, Any]
Process = subprocess.Popen[str]


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "--bare":
        asyncio.run(bare_client(json.loads(sys.argv[2])))
        return 0
    if not Path("/proc/self/stat").exists():
        Report().skip("ble: gateway, 40 peripherals", "CPU and memory of a process are read from /proc")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measure(Path(folder)))


async def measure(folder: Path) -> int:
    """Start everything, print both figures, and return the exit code."""
    (folder / "scenario.toml").write_text(scenario())
    async with embedded_broker() as broker:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(
                process(*LAB, "serve", "--port", "0", "--broker", broker, "--data", str(folder / "lab"))
            )
            api = read_line(server).split()[-1]
            devices, bare_devices = (simulated(stack, folder) for _ in range(2))
            (folder / "gateway.toml").write_text(gateway_config(broker, devices))
            gateway = stack.enter_context(
                process(*LAB, "gateway", "run", "--config", str(folder / "gateway.toml"))
            )
            bare = stack.enter_context(process(sys.executable, __file__, "--bare", json.dumps(bare_devices)))
            read_line(bare)
            session = open_session(api, devices)
            wait_for_streams(api, session)
            return report(Usage(gateway, bare, api, session))


def report(usage: Usage) -> int:
    """Print what the window showed; the figures count only if neither side missed anything."""
    expected = {
        "ecg": PEOPLE * ECG_RATE_HZ * usage.elapsed_s,
        "frames": PEOPLE * FRAMES_PER_S * usage.elapsed_s,
    }
    for what, found in (("ecg", usage.ecg_samples), ("frames", usage.bare_frames)):
        if abs(found / expected[what] - 1) > TOLERANCE:
            raise AssertionError(f"{found} {what} in {usage.elapsed_s:.1f} s, expected {expected[what]:.0f}")
    lines = Report()
    lines.figure(
        f"ble: gateway, {PEOPLE} people, {PEOPLE * len(KINDS)} peripherals",
        100 * usage.gateway_s / usage.elapsed_s,
        "% of a core",
        ratio=usage.gateway_s / usage.bare_s,
        of=f"{100 * usage.bare_s / usage.elapsed_s:.1f} % of a bare bleak client",
        at_most=CPU_LIMIT,
    )
    lines.figure(
        "ble: its resident memory",
        usage.gateway_mb,
        "MB",
        ratio=usage.gateway_mb / usage.bare_mb,
        of=f"{usage.bare_mb:.0f} MB of a bare bleak client",
        at_most=MEMORY_LIMIT,
    )
    return lines.exit_code


class Usage:
    """What gateway and bare client used over one window, and what each brought meanwhile."""

    def __init__(self, gateway: Process, bare: Process, api: str, session: str) -> None:
        started, before = time.monotonic(), (cpu_s(gateway), cpu_s(bare))
        frames, samples = count_frames(bare), ecg_samples(api, session)
        time.sleep(WINDOW_S)
        self.gateway_s, self.bare_s = cpu_s(gateway) - before[0], cpu_s(bare) - before[1]
        self.bare_frames = count_frames(bare) - frames
        self.elapsed_s = time.monotonic() - started
        self.ecg_samples = ecg_samples(api, session) - samples
        self.gateway_mb, self.bare_mb = resident_mb(gateway), resident_mb(bare)


def cpu_s(process: Process) -> float:
    """Return the user and system time of a process."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(process: Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6


def scenario() -> str:
    """Return a scenario in which every person wears one device of each kind."""
    lines = []
    for i in range(PEOPLE):
        lines += ["[[subject]]", f'name = "person-{i}"', f"seed = {i}"]
        for kind in KINDS:
            lines += ["[[device]]", f'kind = "{kind}"', f'name = "{kind}-{i}"', f'subject = "person-{i}"']
    return "\n".join(lines)


def simulated(stack: contextlib.ExitStack, folder: Path) -> list[Device]:
    """Run a simulator; return how to reach its devices."""
    scenario_file = str(folder / "scenario.toml")
    simulator = stack.enter_context(process(*LAB, "sim", "run", "--scenario", scenario_file, "--json"))
    return [json.loads(read_line(simulator)) for _ in range(PEOPLE * len(KINDS))]


def gateway_config(broker: str, devices: list[Device]) -> str:
    lines = ["[gateway]", 'group = "lab"', f'name = "{GATEWAY}"', f'broker = "{broker}"', 'data = "gateway"']
    for device in devices:
        lines += ["[[device]]", *(f'{key} = "{device[key]}"' for key in ("name", "kind", "address", "adapter"))]
    return "\n".join(lines)


def open_session(api: str, devices: list[Device]) -> str:
    """Open a session for all devices; return its id."""
    members = [{"role": "test", "gateway": GATEWAY, "device": device["name"]} for device in devices]
    session = request(f"{api}/sessions", {"subject": "S-001", "devices": members})
    return str(session["id"])


def wait_for_streams(api: str, session: str) -> None:
    """Wait until every person's ECG, heart rate and oximetry are in the store."""
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s:
        names = [stream["name"] for stream in request(f"{api}/sessions/{session}")["streams"]]
        if all(names.count(name) == PEOPLE for name in SIGNALS):
            return
        time.sleep(0.5)
    raise TimeoutError(f"streams {sorted(names)} after {READY_TIMEOUT_S} s, expected {SIGNALS} {PEOPLE} times")


def ecg_samples(api: str, session: str) -> int:
    """Return how many samples of ECG the store has."""
    streams = request(f"{api}/sessions/{session}")["streams"]
    return sum(stream["n_samples"] for stream in streams if stream["name"] == "ecg")


def request(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:  # noqa: S310
        document: dict[str, Any] = json.load(answer)
    return document


@contextlib.contextmanager
def process(*command: str) -> Iterator[Process]:
    """Run a command, spoken to over its standard input and output, and end it."""
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()


def read_line(child: Process) -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"{child.args!r} ended with code {child.wait()}, expected it to say something")
    return line


def count_frames(bare: Process) -> int:
    """Ask the bare client how many notifications it has had."""
    assert bare.stdin is not None
    bare.stdin.write("\n")
    bare.stdin.flush()
    return int(read_line(bare))


async def bare_client(devices: list[Device]) -> None:
    """Subscribe to every device as its kind says, and count; a line on standard input asks for the count."""
    n_frames = 0

    def count(*_: object) -> None:
        nonlocal n_frames
        n_frames += 1

    def tell() -> None:
        sys.stdin.readline()
        print(n_frames, flush=True)

    async with await BumbleAdapter.open(devices[0]["adapter"]) as adapter:
        found: dict[str, BLEDevice] = {}
        async with BleakScanner(lambda d, _: found.update({d.address: d}), backend=adapter.scanner_class):
            while not {device["address"] for device in devices} <= found.keys():
                await asyncio.sleep(0.1)
        for device in devices:
            link = device_kind(device["kind"]).link
            assert isinstance(link, BleLink)
            client = BleakClient(found[device["address"]], backend=adapter.client_class)
            await client.connect()
            for characteristic in (c for s in link.services for c in s.characteristics):
                if {"notify", "indicate"} & characteristic.properties:
                    await client.start_notify(characteristic.uuid, count)
            for write in link.startup:
                await client.write_gatt_char(write.characteristic, write.data, response=True)
        asyncio.get_running_loop().add_reader(sys.stdin, tell)
        print("streaming", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
