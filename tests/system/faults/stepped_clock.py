"""Runs `lab` with a wall clock that another process sets: `python -m tests.system.faults.stepped_clock FILE …`.

The first 8 bytes of the file say how many ns the clock is ahead; monotonic clocks are left alone, as by any
step of UTC.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path

_OFFSET = struct.Struct("<q")


def set_ahead(file: Path, offset_ns: int) -> None:
    """Set the clock of every process that runs by `file`."""
    with file.open("r+b" if file.exists() else "w+b") as opened:
        opened.write(_OFFSET.pack(offset_ns))


def _run_by(file: Path) -> None:
    true_ns = time.time_ns
    with file.open("rb") as opened:
        memory = mmap.mmap(opened.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)
    time.time_ns = lambda: true_ns() + int(_OFFSET.unpack_from(memory)[0])
    time.time = lambda: time.time_ns() / 1e9


if __name__ == "__main__":
    _run_by(Path(sys.argv[1]))
    from lab_api.cli import main

    sys.exit(main(sys.argv[2:]))
