"""What routes work with: one `Lab` for each application; a route gets it by a parameter `lab: LabState`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from lab_api.recorder import Recorder
from lab_api.settings import Settings
from lab_api.store.session_store import SessionStore
from protocols.lab_clock import LabClock


@dataclass(frozen=True, slots=True)
class Lab:
    """The parts of a running lab server; `recorder` is None where nothing is recorded."""

    settings: Settings
    store: SessionStore
    clock: LabClock
    recorder: Recorder | None


def lab_of(request: Request) -> Lab:
    """Return the application's lab."""
    lab: Lab = request.app.state.lab
    return lab


LabState = Annotated[Lab, Depends(lab_of)]
