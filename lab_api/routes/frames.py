"""Raw frames: the bytes as they came from a device, as JSON lines.

One line for a frame, in the order of connection and index: `connection_id`, `frame` (its index), `source` (what
a decoder is fed it under), `arrival_ns`, `arrival_monotonic_ns`, and `data` in hexadecimal.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.responses import StreamingResponse

from lab_api.problems import ProblemError, problem_responses
from lab_api.routes.session_id import SessionId
from lab_api.state import LabState
from protocols.frames import FrameBlock

JSON_LINES = "application/jsonl"

router = APIRouter(tags=["frames"])


@router.get(
    "/sessions/{session_id}/frames/{gateway}/{device}",
    response_class=Response,
    responses={
        200: {"content": {JSON_LINES: {"schema": {"type": "string"}}}},
        **problem_responses("session-not-found", "store-unavailable", "stream-not-found"),
    },
)
def read_frames(
    session_id: SessionId,
    gateway: Annotated[str, Path(examples=["bench-1"])],
    device: Annotated[str, Path(examples=["strap"])],
    lab: LabState,
) -> StreamingResponse:
    """Return the raw frames of a device that arrived during the session, a JSON document on each line."""
    if (gateway, device) not in lab.store.framed_devices(session_id):
        raise ProblemError("stream-not-found", f"no raw frames of {gateway}/{device} in session {session_id}")
    blocks = lab.store.frames(session_id, gateway, device)
    first = list(itertools.islice(blocks, 1))  # what cannot be read at all is an error, not an empty answer
    return StreamingResponse(_lines(itertools.chain(first, blocks)), media_type=JSON_LINES)


def _lines(blocks: Iterator[FrameBlock]) -> Iterator[str]:
    for block in blocks:
        yield "".join(
            json.dumps(
                {
                    "connection_id": block.connection_id,
                    "frame": block.first_frame + i,
                    "source": block.sources[i],
                    "arrival_ns": int(block.arrival_ns[i]),
                    "arrival_monotonic_ns": int(block.arrival_monotonic_ns[i]),
                    "data": block.data[i].hex(),
                }
            )
            + "\n"
            for i in range(block.n_frames)
        )
