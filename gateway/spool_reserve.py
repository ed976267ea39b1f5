"""Room kept on the disk, so that a full one does not keep the spool from making room."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 16 << 20
LOG_BYTES: Final = 8 << 20
TRANSACTION_BYTES: Final = 4 << 20
"""The log may grow that far, by one transaction of that size more, before it is brought into the file; the
reserve holds what the file then has to grow by, and the log of what is trimmed."""

_log = logging.getLogger(__name__)


class Reserve:
    """A file that is given up when the disk is full, and made again when it is not."""

    def __init__(self, path: Path, n_bytes: int = RESERVE_BYTES) -> None:
        self._path = path
        self._n_bytes = n_bytes

    @property
    def held(self) -> bool:
        """Whether it is there, in full."""
        try:
            return self._path.stat().st_size >= self._n_bytes
        except OSError:
            return False

    def hold(self) -> None:
        """Make it, unless the disk has no room for it and as much again."""
        if self.held:
            return
        try:
            if shutil.disk_usage(self._path.parent).free < 2 * self._n_bytes:
                return
            with self._path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self._n_bytes)
                else:
                    file.write(os.urandom(self._n_bytes))  # a file system that compresses must keep it too
                    file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            _log.debug("no reserve at %s: %s", self._path, error)
            self.release()

    def release(self) -> bool:
        """Give it up; return whether that made room."""
        held = self.held
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return False
        return held
