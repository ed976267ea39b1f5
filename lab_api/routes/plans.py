"""Plans: what a trial still needs before a clinical protocol may conclude anything."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from lab_api.evaluation import clinical_protocol
from lab_api.evidence.sources import from_sessions, from_tables
from lab_api.planning import plan
from lab_api.problems import problem_responses
from lab_api.routes.protocol_question import MAX_SESSIONS, ProtocolQuestion
from lab_api.routes.table_upload import MAX_TABLES, TableModel, table_files
from lab_api.state import LabState
from protocols.clinical.subjects import check_subjects
from protocols.errors import DefinitionError

router = APIRouter(prefix="/plans", tags=["plans"])


class NewPlan(ProtocolQuestion):
    """A clinical protocol, and what the trial has so far."""

    sessions: list[str] = Field(
        default=[],
        max_length=MAX_SESSIONS,
        description="Of the trial so far; or else tables; neither if it has not begun",
        examples=[[]],
    )
    tables: list[TableModel] = Field(
        default=[],
        max_length=MAX_TABLES,
        description="Of the trial so far, not recorded here, as CSV",
        examples=[[]],
    )
    power: float | None = Field(
        default=None,
        description="How probably the device is to pass; without it no sample sizes",
        examples=[0.9],
    )
    expected: dict[str, float] = Field(
        default={},
        max_length=100,
        description="What is expected of the device and the study: bias, sd, subject_sd (a part of sd), "
        "within_share (percent), pairs_per_subject; with a quantity before it where two differ (sbp_bias)",
        examples=[{"bias": 0.5, "sd": 2.0, "subject_sd": 1.0}],
    )


class PlanModel(BaseModel):
    """What a trial needs, and how its figures stand so far. No verdict."""

    protocol: str
    title: str
    title_fr: str
    edition: str
    measurand: str
    begun: bool = Field(description="Whether sessions or tables were named")
    design: list[dict[str, Any]] = Field(
        description="Every requirement: what the trial has, what is wanted, how many more, where"
    )
    n_missing: int = Field(description="Requirements that are not met")
    excluded: dict[str, int] = Field(description="Moments that make no pair, by reason")
    read_rate_percent: float | None
    so_far: list[dict[str, Any]] = Field(
        description="Value and interval of every criterion so far, no verdict; empty before the trial has begun"
    )
    sample_size: dict[str, Any] | None = Field(
        description="Subjects and pairs for the wanted power, by criterion and together, with every assumption"
    )


@router.post(
    "",
    responses=problem_responses("invalid-request", "session-not-found", "store-unavailable", "unusable-signal"),
)
def make_plan(new: NewPlan, lab: LabState) -> PlanModel:
    """Say what a trial still needs. Nothing is kept, and nothing is a verdict."""
    protocol = clinical_protocol(new.protocol, new.variant, new.parameters)
    if new.expected and new.power is None:
        raise DefinitionError("expected without power, expected a wanted power such as 0.9")
    subjects = check_subjects(new.subjects)
    if new.sessions and new.tables:
        raise DefinitionError("sessions and tables, expected one of the two at most")
    evidence = None
    if new.tables:
        with table_files(new.tables) as paths:
            evidence = from_tables(paths, protocol, subjects)
    elif new.sessions:
        evidence = from_sessions(lab.store, new.sessions, protocol, subjects)
    return PlanModel.model_validate(plan(protocol, evidence, power=new.power, expected=new.expected))
