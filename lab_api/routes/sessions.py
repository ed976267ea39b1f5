"""Sessions: open, close, list, look at, annotate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from lab_api.problems import problem_responses
from lab_api.routes.session_id import SessionId
from lab_api.state import LabState
from lab_api.store.session_gaps import SessionGap, completeness
from lab_api.store.session_store import MAX_TEXT, AnnotationSet, Session, SessionDevice, StreamKey
from protocols.samples import Stream

MAX_PAGE = 200
MAX_ANNOTATIONS = 200_000

router = APIRouter(prefix="/sessions", tags=["sessions"])


class DeviceModel(BaseModel):
    """A device at its gateway, and the part it plays in the session."""

    role: str = Field(examples=["test"], description="`reference`, `test`, …: unique names are up to the study")
    gateway: str = Field(examples=["bench-1"])
    device: str = Field(examples=["strap"])


class NewSession(BaseModel):
    """What is needed to open a session."""

    model_config = ConfigDict(extra="forbid")

    subject: str = Field(examples=["S-001"], description="A pseudonym: letters, digits, `_`, `.`, `-`")
    devices: list[DeviceModel] = Field(min_length=1, max_length=100)
    title: str = Field(default="", max_length=MAX_TEXT, examples=["Desaturation, run 1"])


class SessionModel(BaseModel):
    """A session; `closed_ns` is null while it records."""

    id: str = Field(examples=["18d75b8423f3000082175eda0dff51d3"])
    subject: str = Field(examples=["S-001"])
    title: str = Field(examples=["Desaturation, run 1"])
    devices: list[DeviceModel]
    opened_ns: int = Field(examples=[1_790_000_000_000_000_000])
    closed_ns: int | None = Field(examples=[1_790_000_600_000_000_000])
    software_version: str = Field(examples=["0.1.0"])


class ChannelModel(BaseModel):
    """One measured quantity: `raw * scale + offset` is its value in `unit`."""

    name: str = Field(examples=["lead_i"])
    unit: str = Field(examples=["uV"], description="UCUM code")
    mdc: int | None = Field(examples=[131329], description="IEEE 11073-10101 code")
    scale: float
    offset: float


class StreamModel(BaseModel):
    """Channels that a device samples together; a stream without rate has a time for every sample."""

    name: str = Field(examples=["ecg"])
    dtype: str = Field(examples=["int16"])
    rate_hz: float | None = Field(examples=[250.0])
    channels: list[ChannelModel]


class RecordedStream(StreamModel):
    """A stream, and how much of it the session holds."""

    gateway: str = Field(examples=["bench-1"])
    device: str = Field(examples=["strap"])
    n_samples: int = Field(examples=[150_000], description="Samples per channel")
    first_ns: int | None = Field(examples=[1_790_000_000_000_000_000])
    last_ns: int | None = Field(examples=[1_790_000_599_996_000_000])
    n_gaps: int = Field(examples=[1])
    missing_samples: int = Field(examples=[3125], description="Known to be missing in each channel")
    uncounted_gaps: int = Field(examples=[0], description="Gaps of which nobody knows the count")
    uncounted_ns: int = Field(examples=[0], description="How long these last together")
    completeness: float | None = Field(
        examples=[0.9796],
        description="Stored / (stored + missing), uncounted gaps taken at the nominal rate; null if unknown",
    )


class RecordedFrames(BaseModel):
    """How many raw frames of a device the session holds."""

    gateway: str = Field(examples=["bench-1"])
    device: str = Field(examples=["strap"])
    n_frames: int = Field(examples=[8204])


class SessionDetails(SessionModel):
    """A session, its streams and its raw frames."""

    streams: list[RecordedStream]
    frames: list[RecordedFrames]
    unheard: list[DeviceModel] = Field(
        description="Devices of which it has nothing, not even a gap: they or their gateway never reported"
    )


class SessionPage(BaseModel):
    """Sessions, newest first; the `Link` header leads to the next page."""

    sessions: list[SessionModel]


class AnnotationModel(BaseModel):
    """Marks on the samples of one stream."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(examples=["atr-1"], description="Unique in its session; a new version needs a new name")
    gateway: str = Field(examples=["bench-1"])
    device: str = Field(examples=["strap"])
    stream: str = Field(examples=["ecg"])
    rate_hz: float = Field(gt=0, allow_inf_nan=False, examples=[360.0], description="Rate of the count below")
    sample_indices: list[Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]] = Field(
        max_length=MAX_ANNOTATIONS, examples=[[77, 370, 662]]
    )
    symbols: list[str] = Field(max_length=MAX_ANNOTATIONS, examples=[["N", "N", "V"]])
    boot_id: int | None = Field(
        default=None,
        ge=0,
        lt=1 << 63,
        examples=[1_790_000_000_000],
        description="The boot whose samples are counted; null where the device has only one in the session",
    )


class AnnotationList(BaseModel):
    """The annotation sets of a session, by name."""

    annotations: list[AnnotationModel]


@router.post("", status_code=201, responses=problem_responses("invalid-request", "store-unavailable"))
def open_session(new: NewSession, lab: LabState, request: Request, response: Response) -> SessionModel:
    """Open a session: from now on, what its devices send is recorded."""
    session = lab.store.open_session(
        subject=new.subject,
        devices=[SessionDevice(**device.model_dump()) for device in new.devices],
        opened_ns=lab.clock.now_ns(),
        title=new.title,
    )
    response.headers["Location"] = request.url_for("get_session", session_id=session.id).path
    return _session_model(session)


@router.post("/{session_id}/close", responses=problem_responses("session-not-found", "store-unavailable"))
def close_session(session_id: SessionId, lab: LabState) -> SessionModel:
    """Close a session; one that is closed already stays as it is. Samples on their way still arrive."""
    closed_ns = max(lab.clock.now_ns(), lab.store.session(session_id).opened_ns)
    return _session_model(lab.store.close_session(session_id, closed_ns=closed_ns))


@router.get("", responses=problem_responses("invalid-request"))
def list_sessions(
    lab: LabState,
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most sessions on a page")] = 50,
    cursor: Annotated[str | None, Query(max_length=64, description="From a `Link` header")] = None,
) -> SessionPage:
    """List sessions, newest first."""
    sessions = lab.store.sessions(before=cursor, limit=limit + 1)
    if len(sessions) > limit:
        sessions.pop()
        following = request.url.include_query_params(limit=limit, cursor=sessions[-1].id)
        response.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    return SessionPage(sessions=[_session_model(session) for session in sessions])


@router.get("/{session_id}", responses=problem_responses("session-not-found", "store-unavailable"))
def get_session(session_id: SessionId, lab: LabState) -> SessionDetails:
    """Return a session and what streams it holds; also while it records."""
    session = lab.store.session(session_id)
    gaps = lab.store.gaps(session_id)
    streams = [_recorded_stream(lab, session_id, key, gaps) for key in lab.store.streams(session_id)]
    frames = [
        RecordedFrames(gateway=gateway, device=device, n_frames=n_frames)
        for (gateway, device), n_frames in lab.store.framed_devices(session_id).items()
    ]
    heard = {(s.gateway, s.device) for s in streams} | {(f.gateway, f.device) for f in frames}
    described = _session_model(session)
    unheard = [device for device in described.devices if (device.gateway, device.device) not in heard]
    return SessionDetails(**described.model_dump(), streams=streams, frames=frames, unheard=unheard)


@router.get(
    "/{session_id}/annotations",
    tags=["annotations"],
    responses=problem_responses("session-not-found", "store-unavailable"),
)
def list_annotations(session_id: SessionId, lab: LabState) -> AnnotationList:
    """Return a session's annotation sets."""
    sets = lab.store.annotations(session_id)
    return AnnotationList(annotations=[_annotation_model(annotations) for annotations in sets])


@router.post(
    "/{session_id}/annotations",
    tags=["annotations"],
    status_code=201,
    responses=problem_responses(
        "annotations-exist", "invalid-request", "session-not-found", "store-unavailable", "stream-not-found"
    ),
)
def annotate_session(session_id: SessionId, new: AnnotationModel, lab: LabState) -> AnnotationModel:
    """Add a set of annotations; adding the same set again changes nothing."""
    annotations = AnnotationSet(
        name=new.name,
        gateway=new.gateway,
        device=new.device,
        stream=new.stream,
        rate_hz=new.rate_hz,
        sample_indices=np.array(new.sample_indices, dtype=np.int64),
        symbols=tuple(new.symbols),
        boot_id=new.boot_id,
    )
    lab.store.annotate(session_id, annotations)
    return _annotation_model(annotations)


def stream_model(stream: Stream) -> StreamModel:
    """Return a stream's description."""
    channels = [
        ChannelModel(name=c.name, unit=c.unit, mdc=c.mdc, scale=c.scale, offset=c.offset)
        for c in stream.channels
    ]
    return StreamModel(name=stream.name, dtype=stream.dtype, rate_hz=stream.rate_hz, channels=channels)


def _session_model(session: Session) -> SessionModel:
    devices = [DeviceModel(role=d.role, gateway=d.gateway, device=d.device) for d in session.devices]
    return SessionModel(
        id=session.id,
        subject=session.subject,
        title=session.title,
        devices=devices,
        opened_ns=session.opened_ns,
        closed_ns=session.closed_ns,
        software_version=session.software_version,
    )


def _recorded_stream(
    lab: LabState, session_id: str, key: StreamKey, gaps: Sequence[SessionGap]
) -> RecordedStream:
    extent = lab.store.extent(session_id, key)
    own = [g for g in gaps if (g.gateway, g.gap.device, g.gap.stream) == (key.gateway, key.device, key.stream)]
    whole = completeness(key.stream, 0 if extent is None else extent.n_samples, own)
    return RecordedStream(
        gateway=key.gateway,
        device=key.device,
        n_samples=whole.n_samples,
        first_ns=None if extent is None else extent.first_ns,
        last_ns=None if extent is None else extent.last_ns,
        n_gaps=whole.n_gaps,
        missing_samples=whole.missing_samples,
        uncounted_gaps=whole.uncounted_gaps,
        uncounted_ns=whole.uncounted_ns,
        completeness=whole.fraction,
        **stream_model(key.stream).model_dump(),
    )


def _annotation_model(annotations: AnnotationSet) -> AnnotationModel:
    return AnnotationModel(
        name=annotations.name,
        gateway=annotations.gateway,
        device=annotations.device,
        stream=annotations.stream,
        rate_hz=annotations.rate_hz,
        sample_indices=annotations.sample_indices.tolist(),
        symbols=list(annotations.symbols),
        boot_id=annotations.boot_id,
    )
