"""`lab redecode`: decode a session's raw frames again and compare with what was stored."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocols.errors import DefinitionError

if TYPE_CHECKING:
    from lab_api.redecoding import Redecoded
    from lab_api.store.session_store import SessionStore


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lab redecode`."""
    parser = subparsers.add_parser(
        "redecode",
        help="decode a session's raw frames again and compare with what was stored",
        description="Decode a session's raw frames with the decoders of this software and compare with the "
        "stored samples. The exit code is 0 if nothing differs, 1 otherwise.",
    )
    parser.add_argument("session", metavar="SESSION", help="id of a recorded session")
    parser.add_argument("--device", help="only this one")
    parser.add_argument("--kind", help="kind of device (the one with the recorded streams that agrees best)")
    parser.add_argument("--times", action="store_true", help="compute the times again, with hindsight, too")
    parser.add_argument("--speed", type=float, default=1.0, help="lab seconds per second (%(default)s)")
    parser.add_argument("--data", type=Path, help="folder of everything kept (LAB_DATA, else .lab)")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lab_api.settings import Settings, default_data_folder
    from lab_api.store.sqlite import SqliteSessionStore

    settings = Settings(data_folder=options.data or default_data_folder())
    with SqliteSessionStore(settings.sessions_folder) as store:
        results = _of_devices(store, options)
    if options.json:
        print(json.dumps([_document(result) for result in results]))
    else:
        for result in results:
            print("\n".join(_described(result)))
    return int(not all(comparison.agrees for result in results for comparison in result.streams))


def _of_devices(store: SessionStore, options: argparse.Namespace) -> list[Redecoded]:
    from lab_api.redecoding import best

    devices = [d for d in store.framed_devices(options.session) if options.device in (None, d[1])]
    if not devices:
        raise DefinitionError(
            f"session {options.session} has no raw frames of {options.device or 'any device'}"
        )
    return [
        best(store, options.session, *d, kind=options.kind, speed=options.speed, times=options.times)
        for d in devices
    ]


def _described(result: Redecoded) -> list[str]:
    errors = f", {result.n_errors} not understood" if result.n_errors else ""
    lines = [f"{result.gateway}/{result.device} as {result.kind.name}: {result.n_frames} frames{errors}"]
    for c in result.streams:
        lines.append(
            f"  {c.stream.name}: {c.identical} identical, {c.differing} differing, "
            f"{c.only_stored} only stored, {c.only_redecoded} only re-decoded"
            + (f", {c.in_gaps} in gaps" if c.in_gaps else "")
        )
        if c.times is not None:
            t = c.times
            lines.append(
                f"    times in hindsight differ by {t.median_ns / 1e6:.3f} ms (median), {t.p95_ns / 1e6:.3f} "
                f"ms (95 %), {t.largest_ns / 1e6:.3f} ms (most); {100 * t.covered:.1f} % within uncertainties"
            )
    return lines


def _document(result: Redecoded) -> dict[str, Any]:
    return {
        "gateway": result.gateway,
        "device": result.device,
        "kind": result.kind.name,
        "frames": result.n_frames,
        "errors": result.n_errors,
        "streams": [
            {
                "stream": c.stream.name,
                "identical": c.identical,
                "differing": c.differing,
                "only_stored": c.only_stored,
                "only_redecoded": c.only_redecoded,
                "in_gaps": c.in_gaps,
                "times": None if c.times is None else asdict(c.times),
            }
            for c in result.streams
        ],
    }
