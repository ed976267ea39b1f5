"""Nothing lost, nothing doubled, while processes die, connections are cut and messages are forged.

`python -m tests.system.test_faults FIRST_SEED N_SEEDS N_HARMS [amqtt] [forge]` runs a longer campaign.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import httpx
import numpy as np
import pytest

from firmware_sim.recordings import read_wfdb
from lab_api.store.session_store import Reading
from tests.system.faulty_chain import GATEWAY, Chain, until

RATE_HZ = 360


MAX_KIB = 400 * 1024


@pytest.mark.mosquitto
@pytest.mark.shared_data
@pytest.mark.parametrize(("seed", "forge"), [(4, False), (9, True)])
def test_whatever_happens_every_committed_sample_is_stored_once(
    shared: Path, tmp_path: Path, seed: int, forge: bool
) -> None:
    print(campaign(tmp_path, shared / "data/ecg/mitdb/100", seed=seed, n_harms=3, forge=forge))


def campaign(
    folder: Path, record: Path, *, seed: int, n_harms: int, broker: str = "mosquitto", forge: bool = False
) -> dict[str, object]:
    """Run the chain, hurt it, and check it; raises AssertionError for any violation."""
    chance = random.Random(seed)
    chain = Chain(folder, record, broker=broker)
    others = []
    try:
        with chain.witnessed():
            session = chain.start()
            time.sleep(2)
            for _ in range(n_harms):
                if forge:
                    chain.forge(chance)
                chain.hurt(chance)
                if chance.random() < 0.5:
                    others.append(a_session_meanwhile(chain, chance))
                time.sleep(chance.uniform(0, 2))
            drain_s = chain.drain()
            recorder = chain.recorder()
            assert (recorder["conflicts"], recorder["set_aside_blocks"], recorder["fault"]) == (0, 0, "")
            assert forge or not recorder["rejected_payloads"]
            codes = chain.end()
        assert set(codes.values()) == {0}, codes
        for process in chain.processes:
            said = process.said.read_text()
            assert not re.search("Traceback|defect", said), f"{process.name}: {said[-3000:]}"
            assert process.peak_kib < MAX_KIB, f"{process.name}: {process.peak_kib} KiB"
        found = check(chain, session, record)
        check_others(chain, session, others)
    finally:
        chain.abandon()
    peak_mib = {process.name: process.peak_kib // 1024 for process in chain.processes}
    return {"seed": seed, "drain_s": round(drain_s, 2), "peak_mib": peak_mib, **found, "harms": chain.actions}


def a_session_meanwhile(chain: Chain, chance: random.Random) -> str:
    def opened() -> str:
        try:
            return chain.open_session()
        except httpx.TransportError:
            return ""

    session = str(until(opened, what="a session opens"))
    time.sleep(chance.uniform(0.2, 1.5))
    chain.close_session(session)
    return session


def check(chain: Chain, session: str, record: Path) -> dict[str, object]:
    """Compare the session with what the gateway had committed, and with the record."""
    n_blocks = n_samples = 0
    found: dict[str, object] = {}
    with chain.store() as store:
        readings = {
            (key.device, key.stream.name): store.read(session, GATEWAY, key.device, key.stream)
            for key in store.streams(session)
        }
        stored = {name: _by_identity(reading) for name, reading in readings.items()}
        for seq, block in chain.witness.blocks.items():
            here = stored[block.device, block.stream.name][block.boot_id]
            for i in range(block.n_samples):
                value = here.get(block.first_index + i)
                assert value == block.values[:, i].tobytes(), (
                    f"block {seq} {block.device} sample {i}: {value!r}"
                )
            n_blocks += 1
            n_samples += block.n_samples
        assert n_blocks == max(chain.witness.blocks), "the witness missed blocks"
        total = sum(len(boot) for boots in stored.values() for boot in boots.values())
        assert total == n_samples, f"{total} stored, {n_samples} committed"
        for name, reading in readings.items():
            boots = [segment.boot_id for segment in reading.segments]
            assert boots == sorted(boots), name
            if name[0] != "strap":
                assert len(set(boots)) == len(boots), f"{name}: a hole within an uninterrupted connection"
        found["counted_missing"] = _check_record(readings["counted", "signal"], record)
    return found | {
        "blocks": n_blocks,
        "samples": n_samples,
        "boots": len({s.boot_id for s in readings["counted", "signal"].segments}),
    }


def _by_identity(reading: Reading) -> dict[int, dict[int, bytes]]:
    boots: dict[int, dict[int, bytes]] = defaultdict(dict)
    for segment in reading.segments:
        for i in range(segment.n_samples):
            assert segment.first_index + i not in boots[segment.boot_id], "doubled"
            boots[segment.boot_id][segment.first_index + i] = segment.values[:, i].tobytes()
    return boots


def _check_record(reading: Reading, record: Path) -> int:
    """Check every value by its index in the record; return how many the gateway did not hear."""
    truth = read_wfdb(record).values
    end = missing = 0
    for segment in reading.segments:
        indices = np.arange(segment.first_index, segment.first_index + segment.n_samples)
        np.testing.assert_array_equal(segment.values, truth[:, indices])
        assert segment.first_index >= end, "an index came twice, or out of order"
        missing += segment.first_index - end
        end = segment.first_index + segment.n_samples
        assert np.all(np.diff(segment.times_ns) > 0)
    return missing


def check_others(chain: Chain, session: str, others: list[str]) -> None:
    """A session opened and closed meanwhile holds exactly its part of the long one."""
    with chain.store() as store:
        for other in others:
            opened_ns, closed_ns = store.session(other).interval_ns()
            for key in store.streams(session):
                part = store.read(
                    session, GATEWAY, key.device, key.stream, start_ns=opened_ns, end_ns=closed_ns
                )
                if part.n_samples:
                    whole = store.read(other, GATEWAY, key.device, key.stream)
                    assert _by_identity(whole) == _by_identity(part), f"{other} {key.device} {key.stream.name}"


def main(first_seed: int, n_seeds: int, n_harms: int, *options: str) -> None:
    """Run a campaign for each seed; what a failed one left behind is kept."""
    record = Path(__file__).parents[3] / "shared/data/ecg/mitdb/100"
    broker = "amqtt" if "amqtt" in options else "mosquitto"
    for seed in range(first_seed, first_seed + n_seeds):
        folder = Path(tempfile.mkdtemp(prefix=f"faults-{seed}-"))
        try:
            found = campaign(
                folder, record, seed=seed, n_harms=n_harms, broker=broker, forge="forge" in options
            )
        except Exception as error:  # noqa: BLE001 - the next seed is to run all the same
            print(f"seed {seed} FAILED, see {folder}: {error!r}"[:2000], flush=True)
        else:
            print(json.dumps(found), flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), *sys.argv[4:])
