"""Published data of blood pressure monitors come to the published figures."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from lab_api import cli
from protocols.clinical.verdict import Outcome
from tests.lab_api.protocols.pressure_studies import (
    People,
    Row,
    criterion,
    judged,
    table,
)


def ba1999(shared: Path, test: str, reference: Sequence[str]) -> Iterator[Row]:
    """Bland & Altman 1999: observers J and R and a machine S, three readings of each of 85 subjects."""
    with (shared / "oracles/ba1999_sbp.csv").open() as file:
        for row, k in itertools.product(csv.DictReader(file), (1, 2, 3)):
            mean = np.mean([float(row[f"{who}{k}"]) for who in reference])
            yield {"subject": row["subject"], "quantity": "sbp", "reference": mean, "test": row[f"{test}{k}"]}


@pytest.mark.shared_data
def test_the_machine_of_1999_is_far_from_its_observers(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "pairs.csv", list(ba1999(shared, "S", "JR")))
    assert cli.main(["evaluate", "--protocol", "iso-81060-2-2018", "--pairs", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    found = {c["id"]: c for c in document["verdict"]["criteria"]}
    assert found["sbp-bias"]["value"] == pytest.approx(15.663, abs=5e-4)
    assert found["sbp-mean-error"]["value"] == pytest.approx(15.663, abs=5e-4)
    assert found["sbp-sd"]["value"] == pytest.approx(20.255, abs=5e-4)
    assert found["sbp-subject-sd"]["value"] == pytest.approx(18.852, abs=5e-4)
    assert [found[f"sbp-{name}"]["meets_limit"] for name in ("mean-error", "sd")] == [False, False]
    # one pressure, and nothing known of the subjects: the study as a whole may not conclude
    assert document["verdict"]["outcome"] == "INCONCLUSIVE"


@pytest.mark.shared_data
def test_one_observer_of_1999_is_near_the_other(shared: Path, tmp_path: Path) -> None:
    evaluation = judged(tmp_path, "iso-81060-2-2018", list(ba1999(shared, "R", "J")))
    found = {name: criterion(evaluation, f"sbp-{name}") for name in ("bias", "mean-error", "sd", "subject-sd")}
    assert [found[name]["value"] for name in ("bias", "sd", "subject-sd")] == pytest.approx(
        [-0.086, 2.261, 1.336], abs=5e-4
    )
    assert found["subject-sd"]["limit"] == 6.95
    assert [found[name]["meets_limit"] for name in ("mean-error", "sd", "subject-sd")] == [True] * 3


@pytest.mark.shared_data
def test_the_same_data_under_the_other_protocols(shared: Path, tmp_path: Path) -> None:
    rows = list(ba1999(shared, "S", "JR"))
    continuous = judged(tmp_path, "iso-81060-3-2022", rows)
    assert criterion(continuous, "sbp-s-corr")["value"] == pytest.approx(20.319, abs=5e-4)
    assert criterion(continuous, "sbp-independent")["value"] == pytest.approx(120.49, abs=5e-3)
    bhs = judged(tmp_path, "bhs-1993", rows)
    assert criterion(bhs, "sbp-grade")["label"] == "D"
    assert [criterion(bhs, f"sbp-within-{k}")["value"] for k in (5, 10, 15)] == pytest.approx(
        [16.5, 38.4, 56.9], abs=0.05
    )


@pytest.mark.shared_data
def test_a_study_with_the_published_figures_of_2020_passes_with_the_published_limits(
    shared: Path, tmp_path: Path
) -> None:
    people = People(85)
    rows = people.pairs()
    limits = {"sbp": 6.51, "dbp": 6.73}
    with (shared / "oracles/iso81060_2_published_abps2020.csv").open() as file:
        published = {row["measurand"].lower(): row for row in csv.DictReader(file)}
    rng = np.random.default_rng(2020)
    for quantity, row in published.items():
        mean, sd, subject_sd = (float(row[k]) for k in ("mean_error", "sd_error", "sd_of_subject_means"))
        own = standardised(rng.normal(size=85)) * subject_sd
        within = rng.normal(size=(85, 3))
        within -= within.mean(axis=1, keepdims=True)
        # 254 SD^2 = 3 * 84 subject_sd^2 + the sum of squares within subjects
        within *= np.sqrt((254 * sd**2 - 3 * 84 * subject_sd**2) / (within**2).sum())
        errors = (mean + own[:, np.newaxis] + within).ravel()
        of_quantity = [r for r in rows if r["quantity"] == quantity]
        for pair, error in zip(of_quantity, errors, strict=True):
            pair["test"] = float(str(pair["reference"])) + error
    evaluation = judged(tmp_path, "iso-81060-2-2018", rows, people.facts)
    for quantity, row in published.items():
        assert criterion(evaluation, f"{quantity}-bias")["value"] == pytest.approx(float(row["mean_error"]))
        assert criterion(evaluation, f"{quantity}-sd")["value"] == pytest.approx(float(row["sd_error"]))
        found = criterion(evaluation, f"{quantity}-subject-sd")
        assert found["value"] == pytest.approx(float(row["sd_of_subject_means"]))
        assert found["limit"] == limits[quantity]
    assert evaluation.verdict.outcome is Outcome.PASS


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std(ddof=1)
