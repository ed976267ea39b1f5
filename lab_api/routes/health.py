"""Whether the lab can record: the store, the broker, the gateways and what is waiting."""

from __future__ import annotations

import importlib.metadata
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from lab_api.recorder import RecorderStatus
from lab_api.state import LabState
from lab_api.store.session_store import SessionStore
from protocols.errors import StoreError

router = APIRouter(tags=["health"])


class GatewayHealth(BaseModel):
    """A gateway as the recorder knows it."""

    group: str = Field(examples=["lab"])
    name: str = Field(examples=["bench-1"])
    online: bool
    watermark: int = Field(examples=[1234], description="Every record up to this place in its spool is durable")
    lost_records: int = Field(description="Records that it takes to be stored, and that never arrived")
    id_shared: bool = Field(description="Whether another gateway goes by the same id")


class RecorderHealth(BaseModel):
    """The recorder; counts are since its start."""

    broker_connected: bool
    backlog_blocks: int = Field(description="Records received and not yet durable")
    oldest_s: float = Field(description="How long the oldest of them has been waiting")
    blocks: int
    new_samples: int
    duplicate_samples: int
    conflicts: int = Field(description="Runs of samples that contradict those stored before")
    unassigned_samples: int = Field(description="Samples that no session claimed")
    dropped_blocks: int
    set_aside_blocks: int = Field(description="Records kept undecoded because they made no sense")
    gaps: int = Field(description="Records of gaps that were stored")
    new_frames: int = Field(description="Raw frames that were stored")
    duplicate_frames: int
    rejected_payloads: int
    rebirth_requests: int = Field(description="How often a gateway was asked for its births")
    id_conflicts: int = Field(description="Births that show that two gateways go by one id")
    fault: str = Field(examples=[""], description="Empty if all is well")
    gateways: list[GatewayHealth]


class Health(BaseModel):
    """`ok` if everything works, else `degraded`."""

    status: Literal["ok", "degraded"]
    version: str = Field(examples=["0.1.0"])
    now_ns: int = Field(description="Lab time", examples=[1_790_000_000_000_000_000])
    store_writable: bool
    open_sessions: int | None = Field(description="Null if the store cannot be read")
    set_aside: int | None = Field(description="Records in the store's folder of what made no sense: see /aside")
    recorder: RecorderHealth | None = Field(description="Null where this server records nothing")


@router.get("/health")
def get_health(lab: LabState, response: Response) -> Health:
    """Return how the lab does right now."""
    response.headers["Cache-Control"] = "no-store"
    status = None if lab.recorder is None else lab.recorder.status()
    store_writable = lab.store.is_writable()
    recording = status is None or (status.connected and not status.fault)
    n_aside = _n_aside(lab.store)
    odd = status is not None and any(node.lost_blocks or node.id_shared for node in status.nodes)
    return Health(
        status="ok" if store_writable and recording and not n_aside and not odd else "degraded",
        version=importlib.metadata.version("living-lab"),
        now_ns=lab.clock.now_ns(),
        store_writable=store_writable,
        open_sessions=_open_sessions(lab.store),
        set_aside=n_aside,
        recorder=None if status is None else _recorder_health(status),
    )


def _open_sessions(store: SessionStore) -> int | None:
    try:
        return sum(session.closed_ns is None for session in store.sessions())
    except StoreError:
        return None


def _n_aside(store: SessionStore) -> int | None:
    try:
        return len(store.aside())
    except StoreError:
        return None


def _recorder_health(status: RecorderStatus) -> RecorderHealth:
    gateways = [
        GatewayHealth(
            group=n.node.group,
            name=n.node.name,
            online=n.online,
            watermark=n.watermark,
            lost_records=n.lost_blocks,
            id_shared=n.id_shared,
        )
        for n in status.nodes
    ]
    return RecorderHealth(
        broker_connected=status.connected,
        backlog_blocks=status.backlog_blocks,
        oldest_s=status.oldest_s,
        blocks=status.blocks,
        new_samples=status.new_samples,
        duplicate_samples=status.duplicate_samples,
        conflicts=status.conflicts,
        unassigned_samples=status.unassigned_samples,
        dropped_blocks=status.dropped_blocks,
        set_aside_blocks=status.set_aside_blocks,
        rejected_payloads=status.rejected_payloads,
        gaps=status.gaps,
        new_frames=status.new_frames,
        duplicate_frames=status.duplicate_frames,
        rebirth_requests=status.rebirth_requests,
        id_conflicts=status.id_conflicts,
        fault=status.fault,
        gateways=gateways,
    )
