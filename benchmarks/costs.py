"""What a call costs: processor time, which a busy machine does not show, and the most memory held at once."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Mapping


def shortest_s(run: Callable[[], object], *, rounds: int) -> float:
    """Return the shortest processor time of a call, in seconds."""
    return shortest_in_turns_s({"": run}, rounds=rounds)[""]


def shortest_in_turns_s(runs: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Return the shortest processor time of each, in seconds; in turns, so that all meet the same machine."""
    times_s = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start_s = time.process_time()
            run()
            times_s[name] = min(times_s[name], time.process_time() - start_s)
    return times_s


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most memory that a call holds at once, beyond what was held before it."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
