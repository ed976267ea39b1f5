"""A session's raw frames, decoded again, give the samples that were stored: through the real chain."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from firmware_sim.catalogue import CATALOGUE, Setup, simulated_device
from firmware_sim.signals.subject import Subject
from lab_api.cli import main
from lab_api.house import GATEWAY, Wiring, running_house
from lab_api.redecoding import best, candidates, redecode
from lab_api.store.session_store import StreamKey
from lab_api.store.sqlite import SqliteSessionStore
from protocols.devices.kind import BleLink, Decoded, DeviceKind
from protocols.errors import DefinitionError
from protocols.lab_clock import LabClock

SPEED = 2.0
SESSION_S = 12.0


@dataclasses.dataclass(frozen=True)
class Recorded:
    folder: Path
    session_id: str
    devices: tuple[str, ...]


async def record(folder: Path) -> Recorded:
    """Record every kind of simulated device in a session that opens and closes while they stream."""
    devices = {kind: simulated_device(kind, Setup(Subject(3), name=f"d-{kind}", seed=3)) for kind in CATALOGUE}
    wirings = [
        Wiring(device, "ble" if isinstance(device.kind.link, BleLink) else "pty", f"d-{kind}")
        for kind, device in devices.items()
    ]
    clock = LabClock(time.time_ns, time.monotonic_ns, SPEED, time.time_ns())
    async with running_house(wirings, folder=folder, clock=clock) as house:
        await house.connected()
        house.start()
        await asyncio.sleep(clock.real_s(5.0))
        roles = {f"role-{i}": wiring.name for i, wiring in enumerate(wirings)}
        session_id = await house.open_session("S-1", roles)
        await asyncio.sleep(clock.real_s(SESSION_S))
        await house.close_session(session_id)
        await asyncio.sleep(1.0)
        await house.gateway.drained()
    return Recorded(folder, session_id, tuple(wiring.name for wiring in wirings))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return asyncio.run(record(tmp_path_factory.mktemp("redecode")))


@pytest.fixture
def store(recorded: Recorded) -> Iterator[SqliteSessionStore]:
    with SqliteSessionStore(recorded.folder / "sessions") as store:
        yield store


def test_every_simulated_kind_decodes_to_the_same_bits(recorded: Recorded, store: SqliteSessionStore) -> None:
    assert set(store.framed_devices(recorded.session_id)) == {(GATEWAY, name) for name in recorded.devices}
    for name in recorded.devices:
        result = best(store, recorded.session_id, GATEWAY, name, speed=SPEED, times=True)
        assert sum(c.identical for c in result.streams) > 0, name
        for c in result.streams:
            key = StreamKey(GATEWAY, name, c.stream)
            extent = store.extent(recorded.session_id, key)
            stored = 0 if extent is None else extent.n_samples
            assert (c.differing, c.only_redecoded) == (0, 0), (name, c)
            assert c.identical + c.only_stored == stored, (name, c)
            if c.stream.rate_hz is not None and stored:
                assert c.identical > 0, (name, c)
                assert c.times is not None
                assert c.times.n_blocks > 0


def test_a_mended_decoder_shows_what_it_changes(recorded: Recorded, store: SqliteSessionStore) -> None:
    name = "d-fablab"
    kind = best(store, recorded.session_id, GATEWAY, name).kind
    before = redecode(store, recorded.session_id, GATEWAY, name, kind, speed=SPEED)
    mended = dataclasses.replace(kind, new_decoder=lambda: Mended(kind))
    after = redecode(store, recorded.session_id, GATEWAY, name, mended, speed=SPEED)

    (old,), (new,) = before.streams, after.streams
    assert new.differing >= 1
    assert new.identical + new.differing == old.identical
    assert new.differing == pytest.approx(old.identical / 10, rel=0.3)


class Mended:
    """Decodes every tenth sample of each frame otherwise."""

    def __init__(self, kind: DeviceKind) -> None:
        self._decoder = kind.new_decoder()
        self._n = 0

    def feed(self, source: str, data: bytes) -> Decoded:
        decoded = self._decoder.feed(source, data)
        samples = []
        for each in decoded.samples:
            values = each.values.copy()
            positions = np.arange(self._n, self._n + values.shape[1])
            values[0, positions % 10 == 0] += 1
            self._n += values.shape[1]
            samples.append(dataclasses.replace(each, values=values))
        return dataclasses.replace(decoded, samples=tuple(samples))


def test_the_command_says_what_it_found_and_exits_with_0_if_nothing_differs(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(recorded.folder), "--speed", str(SPEED)]
    assert main(["redecode", recorded.session_id, "--times", *data]) == 0
    said = capsys.readouterr().out
    assert "gateway-1/d-polar-h10 as polar-h10" in said
    assert "0 differing" in said
    assert "times in hindsight differ by" in said

    assert main(["redecode", recorded.session_id, "--device", "d-nonin-7", "--json", *data]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert {stream["stream"] for stream in document["streams"]} == {"pleth", "oximetry"}

    assert main(["redecode", recorded.session_id, "--kind", "polar-h10", "--device", "d-nonin-7", *data]) == 2
    assert main(["redecode", recorded.session_id, "--kind", "toaster", *data]) == 2
    assert main(["redecode", recorded.session_id, "--device", "nobody", *data]) == 2
    assert main(["redecode", "0" * 32, *data]) == 1


def test_streams_of_no_known_kind_are_named(recorded: Recorded, store: SqliteSessionStore) -> None:
    streams = [key.stream for key in store.streams(recorded.session_id)]
    with pytest.raises(DefinitionError, match="no kind of device has the recorded streams"):
        candidates(streams)
