"""The part of a path that names a session."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

SessionId = Annotated[str, Path(description="The session's id", examples=["18d75b8423f3000082175eda0dff51d3"])]
