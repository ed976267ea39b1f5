"""What a lab server can be told: where its data is, where it listens, which broker it records from."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.broker import is_loopback
from protocols.errors import DefinitionError

DATA_VARIABLE: Final = "LAB_DATA"
DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8710
DEFAULT_HOST_ID: Final = "lab"
DEFAULT_BROKER: Final = "mqtt://127.0.0.1:1883"


def default_data_folder() -> Path:
    """Return the folder that `LAB_DATA` names, or `.lab` in the current folder."""
    return Path(os.environ.get(DATA_VARIABLE) or ".lab")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one server.

    Parameters
    ----------
    data_folder
        Where everything is kept that outlives the process.
    allowed_hosts
        Names under which the API may be addressed; a page of another name in the same browser is thereby
        refused (DNS rebinding).
    max_json_values, max_binary_values
        Most raw values (samples times channels) in one answer of each form.
    max_body_bytes
        Largest request body.
    """

    data_folder: Path = field(default_factory=default_data_folder)
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]", "testserver")
    max_json_values: int = 100_000
    max_binary_values: int = 20_000_000
    max_body_bytes: int = 4_000_000

    @property
    def sessions_folder(self) -> Path:
        """Where the recorded sessions are."""
        return self.data_folder / "sessions"

    @property
    def broker_folder(self) -> Path:
        """Where the broker's configuration and logins are."""
        return self.data_folder / "broker"

    @property
    def evaluations_folder(self) -> Path:
        """Where the evaluations are."""
        return self.data_folder / "evaluations"


def check_loopback(host: str) -> None:
    """Raise `DefinitionError` unless `host` can only be reached from this machine.

    The API knows no users, so whoever reaches it may read everything.
    """
    if not is_loopback(host):
        raise DefinitionError(
            f"host {host!r}, expected 127.0.0.1, ::1 or localhost: the API has no access control and must "
            "not be reachable from other machines"
        )
