"""`lab aside`: what never made sense and is set aside."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lab aside`."""
    parser = subparsers.add_parser(
        "aside",
        help="list records that never made sense and are set aside",
        description="List the records in sessions/aside of the data folder. The lab says that it is degraded "
        "until they are taken away from there. The exit code is 1 while there are any.",
    )
    parser.add_argument("--data", type=Path, help="folder of everything kept (LAB_DATA, else .lab)")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lab_api.rejected import listed
    from lab_api.settings import Settings, default_data_folder
    from lab_api.store.sqlite import SqliteSessionStore

    settings = Settings(data_folder=options.data or default_data_folder())
    with SqliteSessionStore(settings.sessions_folder) as store:
        kept = listed(store)
    if options.json:
        print(json.dumps([asdict(each) for each in kept]))
    else:
        for each in kept:
            print(f"{each.name}: {each.gateway}/{each.device}: {each.reason or 'no description'}")
        print(f"{len(kept)} set aside in {settings.sessions_folder / 'aside'}")
    return int(bool(kept))
