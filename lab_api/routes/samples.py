"""Samples of one stream of a session, as JSON or as a NumPy archive.

The binary form is NumPy's `.npz` (a zip of `.npy` arrays): types, shapes and byte order travel with the data,
values and 64-bit times stay exact, segments need no second request, and `numpy.load(..., allow_pickle=False)`
reads it without any code of ours. Its arrays: `values` (n_channels, n), `times_ns` (n,); for each segment
`segment_start` (position in these two), `boot_id`, `first_index` and `uncertainty_ns`; for each gap in the
range `gap_start_ns`, `gap_end_ns`, `gap_reason` and `gap_n_samples` (-1 where nobody knows); `stream` is the
stream's description as JSON. JSON is for looking at short ranges; in it, a float that is no number is null.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import BaseModel, Field

from lab_api.problems import ProblemError, problem_responses
from lab_api.routes.gaps import GapModel, gap_model
from lab_api.routes.session_id import SessionId
from lab_api.routes.sessions import StreamModel, stream_model
from lab_api.state import LabState
from lab_api.store.session_gaps import SessionGap
from lab_api.store.session_store import Reading, StreamKey, TooManySamplesError

NPZ = "application/x-npz"
JSON = "application/json"

router = APIRouter(tags=["samples"])


class SegmentModel(BaseModel):
    """Samples without a missing index between them."""

    boot_id: int
    first_index: int = Field(description="The device's index of the first sample, within the boot")
    start_ns: int = Field(examples=[1_790_000_000_000_000_000])
    uncertainty_ns: int = Field(examples=[300_000], description="Largest half width stated for any time")
    times_ns: list[int]
    values: list[list[float | int | None]] = Field(
        description="Raw values, one list for each channel", examples=[[[12, 14, 9]]]
    )


class Samples(BaseModel):
    """The samples of a stream in a range of time."""

    stream: StreamModel
    segments: list[SegmentModel]
    gaps: list[GapModel] = Field(description="What is missing in the range; none: nothing is")


@router.get(
    "/sessions/{session_id}/streams/{gateway}/{device}/{stream}/samples",
    response_model=Samples,
    responses={
        200: {"content": {NPZ: {"schema": {"type": "string", "format": "binary"}}}},
        **problem_responses(
            "ambiguous-stream",
            "invalid-request",
            "not-acceptable",
            "session-not-found",
            "store-unavailable",
            "stream-not-found",
            "too-many-samples",
        ),
    },
)
def read_samples(
    session_id: SessionId,
    gateway: Annotated[str, Path(examples=["bench-1"])],
    device: Annotated[str, Path(examples=["strap"])],
    stream: Annotated[str, Path(examples=["ecg"])],
    lab: LabState,
    start_ns: Annotated[int | None, Query(description="Earliest time; by default from the start")] = None,
    end_ns: Annotated[int | None, Query(description="Time before which samples end")] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> Response:
    """Return the samples with times in `[start_ns, end_ns)` and the gaps there, also while the session records.

    The `Accept` header chooses JSON or, for exact arrays and long ranges, a NumPy archive.
    """
    media_type = _negotiated(accept)
    max_values = lab.settings.max_json_values if media_type == JSON else lab.settings.max_binary_values
    keys = [key for key in lab.store.streams(session_id) if (key.gateway, key.device) == (gateway, device)]
    n_channels = max((len(key.stream.channels) for key in keys if key.stream.name == stream), default=1)
    try:
        reading = lab.store.read(
            session_id,
            gateway,
            device,
            stream,
            start_ns=start_ns,
            end_ns=end_ns,
            max_samples=max_values // n_channels,
        )
    except TooManySamplesError as error:
        raise ProblemError(
            "too-many-samples",
            f"{error}, expected at most {max_values} values in {media_type}: ask for a shorter range"
            + (f" or for {NPZ}" if media_type == JSON else ""),
        ) from error
    key = StreamKey(gateway, device, reading.stream)
    gaps = lab.store.gaps(session_id, key, start_ns=start_ns, end_ns=end_ns)
    if media_type == JSON:
        return Response(_samples(reading, gaps).model_dump_json(), media_type=JSON, headers={"Vary": "Accept"})
    name = f'attachment; filename="{stream}.npz"'
    return Response(
        _npz(reading, gaps), media_type=NPZ, headers={"Vary": "Accept", "Content-Disposition": name}
    )


def _negotiated(accept: str) -> str:
    """Return the media type to answer with; the first acceptable one, JSON where both are."""
    for wish in accept.split(","):
        kind, _, parameters = wish.strip().lower().partition(";")
        if re.search(r"\bq=0(\.0*)?\s*\Z", parameters):
            continue
        if kind.strip() in (NPZ, "application/octet-stream"):
            return NPZ
        if kind.strip() in (JSON, "application/*", "*/*", ""):
            return JSON
    raise ProblemError("not-acceptable", f"Accept: {accept[:80]}, expected {JSON} or {NPZ}")


def _samples(reading: Reading, gaps: Sequence[SessionGap]) -> Samples:
    segments = [
        SegmentModel.model_construct(
            boot_id=segment.boot_id,
            first_index=segment.first_index,
            start_ns=segment.start_ns,
            uncertainty_ns=segment.uncertainty_ns,
            times_ns=segment.times_ns.tolist(),
            values=segment.values.tolist(),
        )
        for segment in reading.segments
    ]
    return Samples.model_construct(
        stream=stream_model(reading.stream), segments=segments, gaps=[gap_model(gap) for gap in gaps]
    )


def _npz(reading: Reading, gaps: Sequence[SessionGap]) -> bytes:
    counts = [-1 if g.gap.n_samples is None else g.gap.n_samples for g in gaps]
    lengths = [segment.n_samples for segment in reading.segments]
    arrays: dict[str, Any] = {
        "values": reading.values(),
        "times_ns": reading.times_ns(),
        "segment_start": np.cumsum([0, *lengths], dtype=np.int64)[:-1],
        "boot_id": np.array([s.boot_id for s in reading.segments], dtype=np.int64),
        "first_index": np.array([s.first_index for s in reading.segments], dtype=np.int64),
        "uncertainty_ns": np.array([s.uncertainty_ns for s in reading.segments], dtype=np.int64),
        "gap_start_ns": np.array([g.gap.start_ns for g in gaps], dtype=np.int64),
        "gap_end_ns": np.array([g.gap.end_ns for g in gaps], dtype=np.int64),
        "gap_reason": np.array([g.gap.reason.value for g in gaps], dtype=np.str_),
        "gap_n_samples": np.array(counts, dtype=np.int64),
        "stream": np.array(reading.stream.to_json()),
    }
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    return archive.getvalue()
