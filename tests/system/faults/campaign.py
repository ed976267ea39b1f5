"""Nothing lost, nothing doubled, while processes die, wires are cut, disks fill and clocks are set.

`python -m tests.system.faults.campaign --kills 200` runs campaigns until so many processes were killed. Each
prints its seed; `--seed N` runs that one again: the same harms in the same order, though never at the very same
moment of the processes' lives.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.system.faults.chain import Chain, mosquitto
from tests.system.faults.checks import check_part, check_session
from tests.system.faults.processes import until

MAX_KIB = 400 * 1024


def campaign(
    folder: Path, records: Path, *, seed: int, n_harms: int, broker: str = "mosquitto", forge: bool = False
) -> dict[str, object]:
    """Run the chain, hurt it, and check it; raises AssertionError for any violation."""
    chance = random.Random(seed)
    chain = Chain(folder, records, broker=broker)
    others = []
    try:
        with chain.witnessed():
            session = chain.start()
            time.sleep(2)
            for _ in range(n_harms):
                if forge:
                    chain.forge(chance)
                chain.hurt(chance)
                if chance.random() < 0.3:
                    other = _a_session_meanwhile(chain, chance)
                    if not chain.was_ahead:  # else its samples may have come before it
                        others.append(other)
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
        committed = chain.witness.records
        assert len(committed) == max(committed), "the witness missed records"
        with chain.store() as store:
            found = check_session(store, session, list(committed.values()), records)
            for other in others:
                check_part(store, session, other)
    except (AssertionError, httpx.HTTPError) as error:
        raise AssertionError(f"{error}; {chain.state()}; harms: {chain.actions}") from error
    finally:
        chain.abandon()
    peak_mib = {process.name: process.peak_kib // 1024 for process in chain.processes}
    return {
        "seed": seed,
        "kills": chain.kills,
        "drain_s": round(drain_s, 2),
        "peak_mib": peak_mib,
        **found,
        "harms": chain.actions,
    }


def _a_session_meanwhile(chain: Chain, chance: random.Random) -> str:
    def opened() -> str:
        try:
            return chain.open_session()
        except httpx.TransportError:
            return ""

    session = str(until(opened, what="a session opens"))
    time.sleep(chance.uniform(0.2, 1.5))
    chain.close_session(session)
    return session


def main(arguments: list[str]) -> int:
    """Run campaigns until enough processes were killed; what a failed one left behind is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="stop after so many kills")
    parser.add_argument("--seed", type=int, help="run only this one")
    parser.add_argument("--first-seed", type=int, default=1, metavar="N")
    parser.add_argument("--harms", type=int, default=12, metavar="N", help="in each campaign")
    parser.add_argument("--broker", choices=("mosquitto", "amqtt"), default="mosquitto")
    parser.add_argument("--forge", action="store_true", help="publish forged messages as well")
    options = parser.parse_args(arguments)
    records = Path(os.environ.get("LAB_SHARED", "../shared")) / "data/ecg/mitdb"
    if not records.is_dir():
        parser.error(f"{records}: no such folder, expected LAB_SHARED to name the shared recordings")
    if options.broker == "mosquitto" and mosquitto() is None:
        parser.error("no mosquitto on the PATH; on Debian or Ubuntu: apt-get install mosquitto")
    kills = failures = 0
    seed = options.first_seed if options.seed is None else options.seed
    while kills < options.kills:
        folder = Path(tempfile.mkdtemp(prefix=f"faults-{seed}-"))
        try:
            found = campaign(
                folder,
                records.resolve(),
                seed=seed,
                n_harms=options.harms,
                broker=options.broker,
                forge=options.forge,
            )
        except Exception as error:  # noqa: BLE001 - the next seed is to run all the same
            failures += 1
            print(f"seed {seed} FAILED, see {folder}: {error!r}"[:2000], flush=True)
            kills += 1
        else:
            print(json.dumps(found), flush=True)
            shutil.rmtree(folder)
            kills += int(str(found["kills"]))
        seed += 1
        if options.seed is not None:
            break
    print(f"{kills} kills, {failures} violations", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
