"""Evaluations: judge sessions or tables by a clinical protocol, and read the verdicts again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from lab_api.evaluation import EvaluationFolder, clinical_protocol, evaluate
from lab_api.evidence.sources import from_sessions, from_tables
from lab_api.problems import problem_responses
from lab_api.report.page import html
from lab_api.report.paper import pdf
from lab_api.routes.protocol_question import MAX_SESSIONS, ProtocolQuestion
from lab_api.routes.table_upload import MAX_TABLES, TableModel, table_files
from lab_api.state import LabState
from protocols.clinical.subjects import check_subjects
from protocols.errors import DefinitionError

router = APIRouter(prefix="/evaluations", tags=["evaluations"])

_ID = "3f1c0a58e1f3c0b7a5d2f4c6e8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b"

EvaluationId = Annotated[str, Path(description="The evaluation's id", examples=[_ID])]
Language = Annotated[Literal["en", "fr"], Query(description="Of the report")]
PDF = "application/pdf"


class NewEvaluation(ProtocolQuestion):
    """What is to be judged by what."""

    about: dict[str, Annotated[str, Field(max_length=500)]] = Field(
        default={},
        max_length=20,
        description="What the report is to say besides; shown, not judged",
        examples=[{"firmware of the device under test": "1.4.2"}],
    )
    sessions: list[str] = Field(
        default=[],
        max_length=MAX_SESSIONS,
        description="Recorded here; or else tables",
        examples=[["18d75b8423f3000082175eda0dff51d3"]],
    )
    tables: list[TableModel] = Field(
        default=[],
        max_length=MAX_TABLES,
        description="Pairs, epochs, manoeuvres, answers or tasks that were not recorded here, as CSV",
        examples=[[]],
    )


class SourceModel(BaseModel):
    """A session that evidence was taken from, and what it contributed."""

    id: str
    subject: str
    content_hash: str = Field(description="SHA-256 of what the session says")
    figures: dict[str, float | None]
    notes: list[str]
    streams: list[dict[str, Any]] = Field(
        default=[],
        description="The streams that were used: samples stored and missing, completeness, every gap",
    )


class EvaluationModel(BaseModel):
    """A verdict and all that it depends on; its id is the hash of the rest."""

    id: str = Field(examples=[_ID])
    protocol: str
    measurand: str = Field(default="", description="What kind of evidence it judges")
    protocol_hash: str
    software_version: str
    sources: list[SourceModel]
    verdict: dict[str, Any] = Field(
        description="Design, criteria with value, interval, limit and source, outcome"
    )
    gaps: str = Field(default="", description="What is missing from the data, in a sentence")
    facts: dict[str, float | None] = Field(description="What the sample of the study is like")
    about: dict[str, str] = Field(default={}, description="What was stated besides")
    statistics: dict[str, Any] = Field(default={}, description="Level, replicates, seed, bands")
    pairing: dict[str, Any] | None = Field(default=None, description="How readings met")
    examples: list[dict[str, Any]] = Field(
        default=[], description="The largest differences, each with the readings around it"
    )
    excluded: list[dict[str, Any]] = Field(
        default=[], description="Moments that make no pair, each with its reason"
    )
    items: dict[str, list[Any]] = Field(description="The single pairs, as columns of equal length")


class EvaluationSummary(BaseModel):
    """An evaluation's outcome."""

    id: str = Field(examples=[_ID])
    protocol: str
    outcome: str = Field(examples=["PASS"])
    sessions: list[str]


class EvaluationList(BaseModel):
    """All evaluations, the latest kept first."""

    evaluations: list[EvaluationSummary]


@router.post(
    "",
    status_code=201,
    responses={
        200: {"model": EvaluationModel, "description": "It was evaluated before"},
        **problem_responses("invalid-request", "session-not-found", "store-unavailable", "unusable-signal"),
    },
)
def run_evaluation(new: NewEvaluation, lab: LabState, request: Request, response: Response) -> EvaluationModel:
    """Judge sessions or tables by a clinical protocol. The same ones give the same evaluation."""
    protocol = clinical_protocol(new.protocol, new.variant, new.parameters)
    subjects = check_subjects(new.subjects)
    if bool(new.sessions) == bool(new.tables):
        raise DefinitionError("sessions and tables, expected one of the two")
    if new.tables:
        with table_files(new.tables) as paths:
            evidence = from_tables(paths, protocol, subjects)
    else:
        evidence = from_sessions(lab.store, new.sessions, protocol, subjects)
    evaluation = evaluate(evidence, protocol, new.about)
    if not EvaluationFolder(lab.settings.evaluations_folder).keep(evaluation):
        response.status_code = 200
    response.headers["Location"] = request.url_for("get_evaluation", evaluation_id=evaluation.id).path
    return EvaluationModel.model_validate(evaluation.document)


@router.get("", responses=problem_responses("store-unavailable"))
def list_evaluations(lab: LabState) -> EvaluationList:
    """List evaluations, the latest kept first."""
    documents: Iterator[dict[str, Any]] = EvaluationFolder(lab.settings.evaluations_folder).documents()
    return EvaluationList(
        evaluations=[
            EvaluationSummary(
                id=document["id"],
                protocol=document["protocol"],
                outcome=document["verdict"]["outcome"],
                sessions=[source["id"] for source in document["sources"]],
            )
            for document in documents
        ]
    )


@router.get("/{evaluation_id}", responses=problem_responses("evaluation-not-found", "store-unavailable"))
def get_evaluation(evaluation_id: EvaluationId, lab: LabState) -> EvaluationModel:
    """Return an evaluation."""
    document = EvaluationFolder(lab.settings.evaluations_folder).find(evaluation_id)
    return EvaluationModel.model_validate(document)


@router.get(
    "/{evaluation_id}/report",
    response_class=HTMLResponse,
    responses=problem_responses("evaluation-not-found", "store-unavailable"),
)
def get_report(evaluation_id: EvaluationId, lab: LabState, language: Language = "en") -> HTMLResponse:
    """Return the evidence report of an evaluation as a page for people."""
    document = EvaluationFolder(lab.settings.evaluations_folder).find(evaluation_id)
    return HTMLResponse(html(document, language))


@router.get(
    "/{evaluation_id}/report.pdf",
    response_class=Response,
    responses={
        200: {"content": {PDF: {"schema": {"type": "string", "format": "binary"}}}},
        **problem_responses("evaluation-not-found", "store-unavailable"),
    },
)
def get_report_as_pdf(evaluation_id: EvaluationId, lab: LabState, language: Language = "en") -> Response:
    """Return the evidence report of an evaluation as a PDF document."""
    document = EvaluationFolder(lab.settings.evaluations_folder).find(evaluation_id)
    name = f'inline; filename="evaluation-{evaluation_id[:16]}-{language}.pdf"'
    return Response(pdf(document, language), media_type=PDF, headers={"Content-Disposition": name})
