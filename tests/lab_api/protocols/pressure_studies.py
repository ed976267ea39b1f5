"""Studies of blood pressure monitors with known errors, as tables, and what a protocol says of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lab_api.evaluation import Evaluation, evaluate
from lab_api.evidence.sources import from_tables
from lab_api.evidence.tables import read_subjects
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.library import shipped
from protocols.clinical.subjects import NOTHING_KNOWN

START_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000
PRESSURES = ("sbp", "dbp")
PROTOCOLS = shipped()
ADULTS = ("iso-81060-2-2018", "iso-81060-2-2018-simultaneous")
Row = dict[str, object]


def applied(protocol_id: str) -> ClinicalProtocol:
    return PROTOCOLS[protocol_id].applied()


class People:
    """Simulated subjects whose pressures, limbs, sexes and ages meet what protocols for adults ask for."""

    def __init__(
        self, n: int, *, sbp: tuple[float, float] = (84.0, 190.0), dbp: tuple[float, float] = (50.0, 118.0)
    ):
        self.names = [f"S-{number:03d}" for number in range(n)]
        shares = np.linspace(0.0, 1.0, n)
        self.pressure = {"sbp": np.interp(shares, (0, 1), sbp), "dbp": np.interp(shares, (0, 1), dbp)}
        self.facts = [
            {
                "subject": name,
                "sex": ("female", "male")[number % 2],
                "age_years": 30 + number % 40,
                "arm_circumference_cm": round(22.0 + 20.0 * ((7 * number) % n) / max(1, n - 1), 2),
            }
            for number, name in enumerate(self.names)
        ]

    def pairs(
        self, *, bias: float = 0.0, subject_sd: float = 2.0, sd: float = 3.0, each: int = 3, seed: int = 7
    ) -> list[Row]:
        """Return three pairs of each pressure of each subject, with an error of known components."""
        rng = np.random.default_rng(seed)
        rows: list[Row] = []
        for quantity in PRESSURES:
            for name, pressure in zip(self.names, self.pressure[quantity], strict=True):
                own = bias + rng.normal(0.0, subject_sd)
                for _ in range(each):
                    reference = round(float(pressure + rng.normal(0.0, 1.0)))
                    test = round(float(reference + own + rng.normal(0.0, sd)))
                    rows.append({"subject": name, "quantity": quantity, "reference": reference, "test": test})
        return rows


def table(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write rows as CSV; a row without some column has nothing there."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), restval="")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue())
    return path


def judged(
    folder: Path,
    protocol_id: str,
    rows: Sequence[Mapping[str, object]],
    facts: Sequence[Mapping[str, object]] = (),
    parameters: Mapping[str, float] | None = None,
) -> Evaluation:
    protocol = PROTOCOLS[protocol_id].applied(None, parameters or {})
    few = replace(protocol.statistics, bootstrap_replicates=50)  # no test here is of the intervals
    protocol = replace(protocol, statistics=few)
    subjects = read_subjects(table(folder / "subjects.csv", facts)) if facts else NOTHING_KNOWN
    return evaluate(from_tables([table(folder / "pairs.csv", rows)], protocol, subjects), protocol)


def criterion(evaluation: Evaluation, name: str) -> dict[str, Any]:
    (found,) = [c for c in evaluation.document["verdict"]["criteria"] if c["id"] == name]
    return dict(found)


def unmet(evaluation: Evaluation) -> list[str]:
    return [d["id"] for d in evaluation.document["verdict"]["design"] if not d["met"]]


def sequential(rows: Sequence[Row], change: float = 2.0) -> list[Row]:
    return [
        {
            **row,
            "reference_before": float(str(row["reference"])) - change / 2,
            "reference_after": float(str(row["reference"])) + change / 2,
        }
        for row in rows
    ]
