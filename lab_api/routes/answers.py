"""Answers to questionnaires, by request or by form."""

from __future__ import annotations

from html import escape
from typing import Annotated, Final, Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from analysis.usability_study import ITEMS, TLX_WEIGHTS
from lab_api.manual_readings import ANSWERS, enter_answers
from lab_api.problems import problem_responses
from lab_api.routes.forms import POLICY, STYLE, check_form
from lab_api.routes.readings import Device, EnteredModel
from lab_api.routes.session_id import SessionId
from lab_api.state import LabState
from protocols.errors import DefinitionError

router = APIRouter(prefix="/sessions/{session_id}/answers/{device}/{questionnaire}", tags=["readings"])

_PROBLEMS: Final = problem_responses("invalid-request", "session-not-found", "store-unavailable")
_TITLES: Final = {
    "sus": "System Usability Scale",
    "ueq": "User Experience Questionnaire",
    "nasa_tlx": "NASA-TLX",
}

Questionnaire = Annotated[Literal["sus", "ueq", "nasa_tlx"], Path(description="Which one")]


class NewAnswers(BaseModel):
    """One person's answers; an item that is left out was not answered."""

    model_config = ConfigDict(extra="forbid")

    answers: dict[str, float] = Field(min_length=1, max_length=40, examples=[{"item_1": 4, "item_2": 2}])


@router.post("", responses=_PROBLEMS)
def keep_answers(
    session_id: SessionId, device: Device, questionnaire: Questionnaire, new: NewAnswers, lab: LabState
) -> EnteredModel:
    """Keep the answers that the session's subject gives now."""
    entered = enter_answers(
        lab.store, session_id, device, questionnaire, new.answers, now_ns=lab.clock.now_ns()
    )
    return EnteredModel(new=entered.new, known=entered.known)


@router.get("/form", response_class=HTMLResponse, responses=_PROBLEMS)
def show_answer_form(
    session_id: SessionId, device: Device, questionnaire: Questionnaire, lab: LabState, said: str = ""
) -> HTMLResponse:
    """Return a form for a questionnaire's answers, for a browser."""
    session = lab.store.session(session_id)
    low, high = ANSWERS[questionnaire]
    items = [(item, low, high) for item in ITEMS[questionnaire]]
    items += [(weight, 0.0, 5.0) for weight in (TLX_WEIGHTS if questionnaire == "nasa_tlx" else ())]
    fields = "".join(
        f'<label for="{item}">{item.replace("_", " ")} ({least:g} to {most:g})</label>'
        f'<input id="{item}" name="{item}" inputmode="decimal">'
        for item, least, most in items
    )
    title = _TITLES[questionnaire]
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>Session {escape(session.id)}, subject {escape(session.subject)}, by {escape(device)}. "
        "An item that is left empty was not answered.</p>"
        f'<p role="status">{escape(said[:200])}</p>'
        f'<form method="post">{fields}<button>Keep</button></form></body></html>\n'
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})


@router.post("/form", include_in_schema=False)
async def keep_answer_form(
    session_id: SessionId, device: Device, questionnaire: Questionnaire, request: Request, lab: LabState
) -> Response:
    """Keep the answers of a form and show the form again."""
    check_form(request)
    body = (await request.body()).decode("utf-8", "replace")
    answers = {item: _answer(item, values[0]) for item, values in parse_qs(body).items()}
    await run_in_threadpool(
        enter_answers, lab.store, session_id, device, questionnaire, answers, now_ns=lab.clock.now_ns()
    )
    said = f"Kept: {len(answers)} answers"
    form = request.url_for(
        "show_answer_form", session_id=session_id, device=device, questionnaire=questionnaire
    ).include_query_params(said=said)
    return RedirectResponse(f"{form.path}?{form.query}", status_code=303)


def _answer(item: str, text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise DefinitionError(f"{item} = {text[:40]!r}, expected a number") from None
