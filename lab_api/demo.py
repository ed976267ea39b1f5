"""`lab demo`: the whole house in one process, from simulated devices to two verdicts.

A controlled desaturation study of twelve subjects, each with a reference oximeter (Nonin, serial) and a device
under test (PLX over BLE), and one ECG session (a chest strap over BLE) run at the same time, in lab time that
is a multiple of real time. The subject's true heart beats are the reference of the ECG session.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from protocols.lab_clock import LabClock

if TYPE_CHECKING:
    from firmware_sim.signals.subject import Subject
    from lab_api.house import House, Wiring

N_SUBJECTS: Final = 12
ECG_S: Final = 600.0
"""Twice what EC57 leaves out as learning time."""
SPEED: Final = 12.0
OXIMETRY_PROTOCOL: Final = "iso-80601-2-61-2017"
ECG_PROTOCOL: Final = "ansi-aami-ec57"

_ECG_SEED: Final = 100
_PLATEAU_S: Final = 60.0  # half of it passes before the protocol takes the reference for stable
_STRAP: Final = "strap"
_TRUTH: Final = "true-beats"
_TRUTH_RATE_HZ: Final = 1000.0
_PROGRESS_S: Final = 5.0
_LAST_SAMPLES_NS: Final = 100_000_000
_LAST_SAMPLES_S: Final = 15.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Study:
    """Devices on subjects, their roles in each subject's session, and how long the desaturation lasts."""

    wirings: tuple[Wiring, ...]
    oximetry: dict[str, dict[str, str]]
    desaturation_s: float
    ecg_subject: Subject


@dataclass(frozen=True, slots=True)
class Recorded:
    """The ids of the sessions that were recorded."""

    oximetry: tuple[str, ...]
    ecg: str


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lab demo`."""
    parser = subparsers.add_parser(
        "demo",
        help="the whole house in one process, from simulated devices to two verdicts",
        description="Run a 12-subject desaturation study and an ECG session through simulated devices, "
        "gateway, broker, recorder and store, judge both, and serve the API until interrupted.",
    )
    parser.add_argument("--once", action="store_true", help="exit after the verdicts")
    parser.add_argument("--speed", type=float, default=SPEED, help="lab seconds per second (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="of the API; 0 for any free one (%(default)s)")
    parser.add_argument("--broker", metavar="URL", help="an MQTT broker in place of the embedded one")
    parser.add_argument("--data", type=Path, help="folder of everything kept (LAB_DATA, else .lab)")
    parser.add_argument("--json", action="store_true", help="print the evaluations as JSON, and no progress")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    asyncio.run(_demo(options))
    return 0


async def _demo(options: argparse.Namespace) -> None:
    from lab_api.evaluate import described
    from lab_api.house import running_house
    from lab_api.settings import default_data_folder

    say: Callable[[str], None] = _silent if options.json else _say
    clock = LabClock(time.time_ns, time.monotonic_ns, options.speed, time.time_ns())
    study = make_study()
    say(f"{len(study.wirings)} simulated devices, {N_SUBJECTS + 1} sessions, {options.speed:g} times real time")
    folder = options.data or default_data_folder()
    house_ = running_house(
        study.wirings, folder=folder, clock=clock, broker_url=options.broker, port=options.port
    )
    with _stopped_by(signal.SIGTERM):
        async with house_ as house:
            say(f"broker {house.broker}, API {house.api.address}/v1")
            evaluations = await judge(house, await record(house, study, say=say))
            if options.json:
                print(json.dumps(evaluations))
            for evaluation in evaluations:
                say("\n" + "\n".join(described(evaluation)))
            if options.once:
                say(f"\nKept in {folder}: lab serve --data {folder} serves it.")
            else:
                say(f"\nThe API serves {house.api.address}/v1 (openapi.json describes it); Ctrl-C ends.")
                await _until_interrupted()


def make_study() -> Study:
    """Return the twelve subjects and the one with the chest strap, with their devices."""
    from firmware_sim.catalogue import Setup, simulated_device
    from firmware_sim.signals.desaturation import controlled_desaturation
    from firmware_sim.signals.oximeter import GOOD, REFERENCE
    from firmware_sim.signals.subject import Subject
    from lab_api.house import Wiring

    wirings: list[Wiring] = []
    sessions: dict[str, dict[str, str]] = {}
    desaturation_s = 0.0
    for number in range(1, N_SUBJECTS + 1):
        profile = controlled_desaturation(number, plateau_s=_PLATEAU_S)
        desaturation_s = max(desaturation_s, profile.end_s)
        subject = Subject(number, profile)
        reference, test = f"reference-{number:02}", f"oximeter-{number:02}"
        nonin = Setup(subject, name=reference, seed=number, oximeter=REFERENCE, options={"timer": True})
        plx = Setup(subject, name=test, seed=number, oximeter=GOOD)
        serial = "pty" if number % 2 else "rfc2217"
        wirings.append(Wiring(simulated_device("nonin-7", nonin), serial, reference))
        wirings.append(Wiring(simulated_device("pulse-oximeter", plx), "ble", test))
        sessions[f"S-{number:02}"] = {"reference": reference, "test": test}
    ecg_subject = Subject(_ECG_SEED)
    strap = simulated_device("polar-h10", Setup(ecg_subject, name=_STRAP, seed=_ECG_SEED))
    wirings.append(Wiring(strap, "ble", _STRAP))
    return Study(tuple(wirings), sessions, desaturation_s, ecg_subject)


async def record(house: House, study: Study, *, say: Callable[[str], None]) -> Recorded:
    """Record all sessions of a study, opened once every device brings samples: desaturation, then the ECG."""
    await house.connected()
    house.start()
    start_ns = house.clock.now_ns()
    await house.gateway.streaming()
    title = "controlled desaturation"
    oximetry = [await house.open_session(subject, roles, title) for subject, roles in study.oximetry.items()]
    ecg = await house.open_session("S-13", {"test": _STRAP}, "chest strap at rest")
    async with _progress(house, start_ns, say):
        await _sleep_until(house.clock, start_ns, study.desaturation_s)
        for session_id in oximetry:
            await house.close_session(session_id)
        await _sleep_until(house.clock, start_ns, ECG_S)
    await house.close_session(ecg)
    await _all_stored(house, ecg)
    await _annotate(house, study.ecg_subject, ecg)
    return Recorded(tuple(oximetry), ecg)


async def judge(house: House, recorded: Recorded) -> list[dict[str, Any]]:
    """Have the oximetry sessions and the ECG session evaluated; return the two evaluations."""
    return [
        await house.api.post("/evaluations", {"protocol": OXIMETRY_PROTOCOL, "sessions": recorded.oximetry}),
        await house.api.post("/evaluations", {"protocol": ECG_PROTOCOL, "sessions": [recorded.ecg]}),
    ]


async def _all_stored(house: House, session_id: str) -> None:
    """Wait until the ECG is stored up to the end of its session, or will not come any more."""
    from lab_api.house import GATEWAY

    closed_ns = house.store.session(session_id).closed_ns or 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_SAMPLES_S):
            while not house.store.read(
                session_id, GATEWAY, _STRAP, "ecg", start_ns=closed_ns - _LAST_SAMPLES_NS
            ).n_samples:
                await house.gateway.drained()
                await asyncio.sleep(_POLL_S)


async def _sleep_until(clock: LabClock, start_ns: int, lab_s: float) -> None:
    """Sleep until `lab_s` lab seconds after `start_ns`."""
    await asyncio.sleep(clock.real_s(lab_s - (clock.now_ns() - start_ns) / 1e9))


async def _annotate(house: House, subject: Subject, session_id: str) -> None:
    """Add the subject's true beats to the ECG session, counted from the strap's first sample to its last."""
    import numpy as np

    from firmware_sim.device import FrameDevice
    from lab_api.house import GATEWAY
    from lab_api.store.session_store import AnnotationSet
    from protocols.devices import polar

    strap = next(served.device for served in house.served if served.device.name == _STRAP)
    assert isinstance(strap, FrameDevice)
    start_s = strap.outlet(polar.DATA_UUID).origin_s or 0.0
    ecg = house.store.read(session_id, GATEWAY, _STRAP, "ecg")
    last = max((segment.first_index + segment.n_samples for segment in ecg.segments), default=0)
    beats_s = subject.beats_s(start_s, start_s + last / polar.ECG_RATE_HZ) - start_s
    annotations = AnnotationSet(
        name=_TRUTH,
        gateway=GATEWAY,
        device=_STRAP,
        stream="ecg",
        rate_hz=_TRUTH_RATE_HZ,
        sample_indices=np.rint(beats_s * _TRUTH_RATE_HZ).astype(np.int64),
        symbols=("N",) * beats_s.size,
    )
    await house.annotate(session_id, annotations)


@contextlib.asynccontextmanager
async def _progress(house: House, start_ns: int, say: Callable[[str], None]) -> AsyncIterator[None]:
    """Say every few seconds how far the recording is."""

    async def report() -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            lab_min = (house.clock.now_ns() - start_ns) / 60e9
            recorded = house.recorder.status()
            health = house.gateway.health()
            lost = sum(device.lost_samples for device in health.devices)
            say(
                f"  {lab_min:4.1f} of {ECG_S / 60:g} min: {recorded.new_samples:,} samples in "
                f"{recorded.blocks:,} blocks stored, {health.backlog_blocks} on their way, {lost} lost"
            )

    task = asyncio.create_task(report())
    try:
        yield
    finally:
        task.cancel()


@contextlib.contextmanager
def _stopped_by(number: signal.Signals) -> Iterator[None]:
    """Let a signal end the present task as Ctrl-C does."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(number)


async def _until_interrupted() -> None:
    """Return at SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


def _say(line: str) -> None:
    print(line, flush=True)


def _silent(_line: str) -> None:
    """Say nothing."""
