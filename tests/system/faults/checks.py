"""Whether a session is whole: compared with what the gateway committed, and with what the devices produced."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from firmware_sim.recordings import read_wfdb
from lab_api.store.session_store import Reading, SessionStore
from protocols.frames import FrameBlock
from protocols.gaps import Gap, GapReason
from protocols.records import Record
from protocols.samples import SampleBlock
from tests.system.faults.chain import GATEWAY, REPLAYED

Boots = dict[int, dict[int, bytes]]
"""The bytes of every sample by boot id and index."""


def check_session(
    store: SessionStore, session: str, committed: Sequence[Record], records: Path
) -> dict[str, object]:
    """Return figures of a session that holds everything; raise AssertionError naming what it does not."""
    readings = {
        (key.device, key.stream.name): store.read(session, GATEWAY, key.device, key.stream)
        for key in store.streams(session)
    }
    n_samples = _check_samples(readings, [r for r in committed if isinstance(r, SampleBlock)])
    gaps = _check_gaps(store, session, [r for r in committed if isinstance(r, Gap)])
    n_frames = _check_frames(store, session, [r for r in committed if isinstance(r, FrameBlock)])
    accounts = [_check_account(readings[f"record-{n}", "signal"], gaps, records / n, n) for n in REPLAYED]
    counted, uncounted, produced = (sum(column) for column in zip(*accounts, strict=True))
    return {
        "records": len(committed),
        "samples": n_samples,
        "frames": n_frames,
        "gaps": len(gaps),
        "replayed": {"produced": produced, "in counted gaps": counted, "in gaps of unknown count": uncounted},
    }


def check_part(store: SessionStore, whole: str, part: str) -> None:
    """A session opened and closed meanwhile holds exactly its part of the long one."""
    opened_ns, closed_ns = store.session(part).interval_ns()
    for key in store.streams(whole):
        expected = store.read(whole, GATEWAY, key.device, key.stream, start_ns=opened_ns, end_ns=closed_ns)
        if expected.n_samples:
            found = store.read(part, GATEWAY, key.device, key.stream)
            assert by_identity(found) == by_identity(expected), f"{part} {key.device} {key.stream.name}"


def by_identity(reading: Reading) -> Boots:
    """Return every sample of a reading; none may be there twice."""
    boots: Boots = defaultdict(dict)
    for segment in reading.segments:
        for i in range(segment.n_samples):
            assert segment.first_index + i not in boots[segment.boot_id], "doubled"
            boots[segment.boot_id][segment.first_index + i] = segment.values[:, i].tobytes()
    return boots


def _check_samples(readings: dict[tuple[str, str], Reading], committed: Sequence[SampleBlock]) -> int:
    stored = {name: by_identity(reading) for name, reading in readings.items()}
    n_committed = 0
    for block in committed:
        here = stored[block.device, block.stream.name][block.boot_id]
        for i in range(block.n_samples):
            value = here.get(block.first_index + i)
            assert value == block.values[:, i].tobytes(), f"{block.device} {block.first_index + i}: {value!r}"
        n_committed += block.n_samples
    n_stored = sum(len(boot) for boots in stored.values() for boot in boots.values())
    assert n_stored == n_committed, f"{n_stored} stored, {n_committed} committed"
    for name, reading in readings.items():
        boots = [segment.boot_id for segment in reading.segments]
        assert boots == sorted(boots), name
        for segment in reading.segments:
            forwards = np.diff(segment.times_ns)
            assert np.all(forwards > 0) if reading.stream.rate_hz else np.all(forwards >= 0), name
    return n_stored


def _check_gaps(store: SessionStore, session: str, committed: Sequence[Gap]) -> dict[tuple[object, ...], Gap]:
    """Return the session's gaps by identity: the longest-lasting of each that was declared, and no other."""
    found = {_identity(each.gap): each.gap for each in store.gaps(session)}
    undeclared = [gap for gap in found.values() if gap.reason is GapReason.UNDECLARED]
    assert not undeclared, undeclared
    opened_ns = store.session(session).opened_ns
    declared: dict[tuple[object, ...], Gap] = {}
    for gap in committed:
        known = declared.get(_identity(gap))
        if gap.end_ns > opened_ns and (known is None or gap.outlasts(known)):
            declared[_identity(gap)] = gap
    declared = {identity: gap for identity, gap in declared.items() if gap.n_samples != 0}
    assert not found.keys() - declared.keys(), [found[key] for key in found.keys() - declared.keys()]
    assert not declared.keys() - found.keys(), [declared[key] for key in declared.keys() - found.keys()]
    for identity, gap in declared.items():
        assert found[identity].end_ns == gap.end_ns, identity
    return found


def _identity(gap: Gap) -> tuple[object, ...]:
    return gap.device, gap.stream.name, gap.after_boot_id, gap.after_index


def _check_frames(store: SessionStore, session: str, committed: Sequence[FrameBlock]) -> int:
    """Every raw frame that was committed and arrived since the opening is there, byte for byte, once."""
    opened_ns = store.session(session).opened_ns
    expected = {
        (block.device, block.connection_id, block.first_frame + i): data
        for block in committed
        for i, data in enumerate(block.data)
        if block.arrival_ns[i] >= opened_ns
    }
    found: dict[tuple[str, int, int], bytes] = {}
    for device in {block.device for block in committed}:
        for block in store.frames(session, GATEWAY, device):
            for i, data in enumerate(block.data):
                identity = (device, block.connection_id, block.first_frame + i)
                assert identity not in found, f"frame {identity} doubled"
                found[identity] = data
    assert found == expected, f"{len(found)} frames stored, {len(expected)} committed"
    return len(found)


def _check_account(
    reading: Reading, gaps: dict[tuple[object, ...], Gap], record: Path, name: str
) -> tuple[int, int, int]:
    """Account for every sample that a replay produced, by its index in the record.

    Returns how many samples are in gaps that count them, in gaps that do not, and produced.
    """
    truth = read_wfdb(record).values
    counted = uncounted = 0
    last = None
    for segment in reading.segments:
        indices = np.arange(segment.first_index, segment.first_index + segment.n_samples)
        np.testing.assert_array_equal(segment.values, truth[:, indices], err_msg=name)
        if last is not None:
            n_missing = segment.first_index - last[1] - 1
            assert n_missing >= 0, f"{name}: an index came twice, or out of order"
            gap = gaps.get((f"record-{name}", "signal", *last))
            if n_missing:
                assert gap is not None, f"{name}: nobody declared that {n_missing} are missing after {last}"
                assert gap.n_samples in (n_missing, None), f"{name}: {n_missing} missing, declared {gap}"
                if gap.n_samples is None:
                    uncounted += n_missing
                    assert gap.end_ns - gap.start_ns >= 0
                else:
                    counted += n_missing
        last = (segment.boot_id, int(indices[-1]))
    assert last is not None, f"{name}: nothing stored"
    return counted, uncounted, last[1] + 1 - reading.segments[0].first_index
