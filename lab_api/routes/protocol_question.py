"""What every question to a clinical protocol says: which protocol, as it is to be read, and of whom."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MAX_SESSIONS = 1000


class ProtocolQuestion(BaseModel):
    """A clinical protocol with what it leaves open, and the subjects."""

    model_config = ConfigDict(extra="forbid")

    protocol: str = Field(max_length=100, examples=["iso-80601-2-61-2017"])
    variant: str | None = Field(default=None, max_length=100, examples=[None])
    parameters: dict[str, float] = Field(
        default={},
        max_length=20,
        description="Numbers that the protocol leaves open, such as a maker's claim",
        examples=[{}],
    )
    subjects: dict[str, dict[str, str | float | None]] = Field(
        default={},
        max_length=MAX_SESSIONS,
        description="What is known of the subjects, as far as the protocol's design asks for it",
        examples=[{"S-001": {"sex": "female", "age_years": 34}}],
    )
