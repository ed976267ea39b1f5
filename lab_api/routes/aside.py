"""Records that never made sense."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from lab_api.problems import problem_responses
from lab_api.rejected import listed
from lab_api.state import LabState

router = APIRouter(tags=["health"])


class AsideModel(BaseModel):
    """A record that is set aside."""

    name: str = Field(examples=["lab.bench-1-7243-1071"], description="Of the file that keeps it")
    gateway: str = Field(examples=["bench-1"])
    device: str = Field(examples=["strap"])
    spool_seq: int = Field(examples=[1071], description="Its place in the gateway's spool")
    reason: str = Field(examples=["channels of ecg have [50, 49] samples, expected equal"])


class AsideList(BaseModel):
    """What is set aside; the lab is degraded until somebody has taken care of it."""

    aside: list[AsideModel]


@router.get("/aside", responses=problem_responses("store-unavailable"))
def list_aside(lab: LabState) -> AsideList:
    """List the records that made no sense however often they came."""
    return AsideList(
        aside=[AsideModel.model_validate(each, from_attributes=True) for each in listed(lab.store)]
    )
