"""Readings that people enter: by request, as a table, or by form."""

from __future__ import annotations

from html import escape
from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from lab_api.evidence.quantities import QUANTITIES
from lab_api.evidence.tables import parse_table, time_ns
from lab_api.manual_readings import GATEWAY, MAX_READINGS, ManualReading, enter
from lab_api.problems import problem_responses
from lab_api.report.phrases import Phrases
from lab_api.routes.forms import POLICY, STYLE, check_form
from lab_api.routes.session_id import SessionId
from lab_api.state import LabState
from protocols.errors import DefinitionError

router = APIRouter(prefix="/sessions/{session_id}/readings/{device}", tags=["readings"])

_SAY: Final = Phrases("en")
_PROBLEMS: Final = problem_responses("invalid-request", "session-not-found", "store-unavailable")

Device = Annotated[
    str,
    Path(
        description=f"The session's device at the gateway `{GATEWAY}`", examples=["observer-1"], max_length=100
    ),
]


class ReadingModel(BaseModel):
    """One value at one moment."""

    model_config = ConfigDict(extra="forbid")

    time: str = Field(
        max_length=40,
        description="ISO 8601 with its offset, or ns since 1970",
        examples=["2026-09-21T09:30:00+02:00"],
    )
    quantity: str = Field(max_length=40, examples=["sbp"])
    value: float = Field(examples=[124.0])
    unit: str = Field(
        default="",
        max_length=20,
        description="UCUM code; by default the quantity's own",
        examples=["mm[Hg]"],
    )


class NewReadings(BaseModel):
    """Readings of one device; all are kept or, if one has a mistake, none."""

    model_config = ConfigDict(extra="forbid")

    readings: list[ReadingModel] = Field(min_length=1, max_length=MAX_READINGS)


class EnteredModel(BaseModel):
    """How many readings were new, and how many were there already."""

    new: int = Field(examples=[2])
    known: int = Field(examples=[0])


@router.post("", responses=_PROBLEMS)
def enter_readings(session_id: SessionId, device: Device, new: NewReadings, lab: LabState) -> EnteredModel:
    """Keep readings that a person made. The same readings again change nothing."""
    readings = [
        ManualReading(
            _time_ns(reading.time, f"reading {number}"), reading.quantity, reading.value, reading.unit
        )
        for number, reading in enumerate(new.readings, start=1)
    ]
    entered = enter(lab.store, session_id, device, readings, now_ns=lab.clock.now_ns())
    return EnteredModel(new=entered.new, known=entered.known)


@router.post(
    "/csv",
    responses=_PROBLEMS,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": "time,quantity,value,unit\n2026-09-21T09:30:00+02:00,sbp,124,mm[Hg]\n",
                }
            },
        }
    },
)
async def enter_table(session_id: SessionId, device: Device, request: Request, lab: LabState) -> EnteredModel:
    """Keep the readings of a table with the columns time, quantity, value and, if wanted, unit."""
    rows = parse_table(await request.body(), ("time", "quantity", "value"), name="table")
    readings = []
    for line, row in enumerate(rows, start=2):
        where = f"table, line {line}"
        at_ns, value = _time_ns(row["time"], where), _number(row["value"], where)
        readings.append(ManualReading(at_ns, row["quantity"], value, row.get("unit", "")))
    entered = await run_in_threadpool(enter, lab.store, session_id, device, readings, now_ns=lab.clock.now_ns())
    return EnteredModel(new=entered.new, known=entered.known)


@router.get("/form", response_class=HTMLResponse, responses=_PROBLEMS)
def show_form(session_id: SessionId, device: Device, lab: LabState, said: str = "") -> HTMLResponse:
    """Return a form for one reading, for a browser."""
    session = lab.store.session(session_id)
    options = "".join(
        f'<option value="{quantity.name} {unit}">{quantity.name.replace("_", " ")} ({_SAY(unit)})</option>'
        for quantities in QUANTITIES.values()
        for quantity in quantities
        for unit in quantity.units
    )
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Enter a reading</title>'
        f"<style>{STYLE}</style></head><body><h1>Enter a reading</h1>"
        f"<p>Session {escape(session.id)}, subject {escape(session.subject)}, by {escape(device)}</p>"
        f'<p role="status">{escape(said[:200])}</p>'
        '<form method="post"><label for="quantity">Quantity</label>'
        f'<select id="quantity" name="quantity" required><option value="">choose</option>{options}</select>'
        '<label for="value">Value</label><input id="value" name="value" inputmode="decimal" required>'
        '<label for="time">Time (UTC; empty for now)</label><input id="time" name="time" '
        'placeholder="2026-09-21T09:30:00+00:00"><button>Keep</button></form></body></html>\n'
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})


@router.post("/form", include_in_schema=False)
async def keep_form(session_id: SessionId, device: Device, request: Request, lab: LabState) -> Response:
    """Keep the reading of a form and show the form again."""
    check_form(request)
    body = (await request.body()).decode("utf-8", "replace")
    fields = {name: values[0] for name, values in parse_qs(body).items()}
    quantity, _, unit = fields.get("quantity", "").partition(" ")
    value = _number(fields.get("value", "").replace(",", "."), "the reading")
    now_ns = lab.clock.now_ns()
    at_ns = _time_ns(fields["time"], "the reading") if fields.get("time") else now_ns
    readings = [ManualReading(at_ns, quantity, value, unit)]
    entered = await run_in_threadpool(enter, lab.store, session_id, device, readings, now_ns=now_ns)
    said = f"Kept: {quantity} {value:g} {unit}" if entered.new else "That reading was there already"
    form = request.url_for("show_form", session_id=session_id, device=device).include_query_params(said=said)
    return RedirectResponse(f"{form.path}?{form.query}", status_code=303)


def _time_ns(text: str, where: str) -> int:
    value = time_ns(text, where=where)
    if value is None:
        raise DefinitionError(f"{where}: time is empty, expected ISO 8601 with its offset, or ns since 1970")
    return value


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DefinitionError(f"{where}: value {text!r}, expected a number") from None
