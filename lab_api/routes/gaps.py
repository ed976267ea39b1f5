"""Where a session is not whole."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from lab_api.problems import problem_responses
from lab_api.routes.session_id import SessionId
from lab_api.state import LabState
from lab_api.store.session_gaps import SessionGap
from protocols.gaps import GapReason

router = APIRouter(tags=["gaps"])


class GapModel(BaseModel):
    """Consecutive samples of a stream that are missing, and why."""

    gateway: str = Field(examples=["bench-1"])
    device: str = Field(examples=["strap"])
    stream: str = Field(examples=["ecg"], description="`raw` for raw frames")
    reason: GapReason = Field(examples=["disconnected"], description="`undeclared`: nobody said why")
    start_ns: int = Field(examples=[1_790_000_100_000_000_000])
    end_ns: int = Field(examples=[1_790_000_112_500_000_000])
    n_samples: int | None = Field(examples=[3125], description="Missing in each channel; null: nobody knows")
    is_part: bool = Field(description="Whether the gap reaches beyond what was asked for")
    after_boot_id: int = Field(description="The last sample before the gap")
    after_index: int = Field(examples=[24_999], description="-1 if no sample is known before it")


class GapList(BaseModel):
    """Gaps by stream and time; none means that everything is there of the devices that were ever heard."""

    gaps: list[GapModel]


@router.get(
    "/sessions/{session_id}/gaps", responses=problem_responses("session-not-found", "store-unavailable")
)
def list_gaps(session_id: SessionId, lab: LabState) -> GapList:
    """Return where a session is not whole, declared or not; also while it records."""
    return GapList(gaps=[gap_model(gap) for gap in lab.store.gaps(session_id)])


def gap_model(gap: SessionGap) -> GapModel:
    """Return a gap as the API tells it."""
    return GapModel(
        gateway=gap.gateway,
        device=gap.gap.device,
        stream=gap.gap.stream.name,
        reason=gap.gap.reason,
        start_ns=gap.gap.start_ns,
        end_ns=gap.gap.end_ns,
        n_samples=gap.gap.n_samples,
        is_part=gap.is_part,
        after_boot_id=gap.gap.after_boot_id,
        after_index=gap.gap.after_index,
    )
