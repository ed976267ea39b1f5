"""Tables of pairs of known truth, for tests that judge a study as a startup would: from its CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab_api.evaluation import Evaluation, clinical_protocol, evaluate
from lab_api.evidence.sources import from_tables
from lab_api.evidence.tables import read_subjects


def table(
    folder: Path,
    *,
    n_subjects: int,
    references: Sequence[float] | NDArray[np.float64],
    bias: float = 0.0,
    sd: float = 1.0,
    between: float = 0.0,
    seed: int = 1,
    extra: str = "",
) -> Path:
    """Write pairs: every subject at every reference, with a subject's own offset and scatter."""
    rng = np.random.default_rng(seed)
    lines = ["subject,session,time,reference,test" + ("," + extra.partition("=")[0] if extra else "")]
    for subject in range(n_subjects):
        offset = bias + rng.normal(0, between)
        for k, reference in enumerate(references):
            time = f"2026-03-{1 + subject % 28:02}T{8 + subject // 28:02}:{k // 60:02}:{k % 60:02}+00:00"
            test = reference + offset + rng.normal(0, sd)
            row = f"S-{subject:03},s-{subject:03},{time},{reference:.3f},{test:.3f}"
            lines.append(row + ("," + extra.partition("=")[2] if extra else ""))
    path = folder / "pairs.csv"
    path.write_text("\n".join(lines))
    return path


def judged(
    path: Path,
    protocol_id: str,
    *,
    variant: str | None = None,
    parameters: dict[str, float] | None = None,
    subjects: Path | None = None,
) -> Evaluation:
    """Return the evaluation of a table by a shipped protocol."""
    protocol = clinical_protocol(protocol_id, variant, parameters or {})
    facts = read_subjects(subjects) if subjects else {}
    return evaluate(from_tables([path], protocol, facts), protocol)
