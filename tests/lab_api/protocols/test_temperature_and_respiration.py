"""Studies of thermometers and of respiratory rate, judged from their tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protocols.clinical.verdict import Outcome
from tests.lab_api.simulated_studies import judged, table

BATHS = np.repeat(np.arange(34.0, 43.0, 0.5), 2)
BREATHS = np.array([8.0, 10.0, 14.0, 18.0, 24.0, 28.0, 34.0, 40.0])


@pytest.mark.parametrize(("sd", "outcome"), [(0.05, Outcome.PASS), (0.3, Outcome.FAIL)])
def test_a_thermometer_in_the_laboratory(tmp_path: Path, sd: float, outcome: Outcome) -> None:
    path = table(tmp_path, n_subjects=1, references=BATHS, sd=sd)
    found = judged(path, "iso-80601-2-56-2017", variant="laboratory", parameters={"subjects": 1})
    assert found.verdict.outcome is outcome


def test_a_clinical_study_of_thermometers_is_reported_and_a_small_one_says_so(tmp_path: Path) -> None:
    path = table(tmp_path, n_subjects=110, references=[37.0, 37.1, 37.0], bias=0.2, sd=0.1, between=0.1)
    whole = judged(path, "iso-80601-2-56-2017", variant="clinical")
    assert whole.verdict.outcome is Outcome.REPORTED
    values = {c.criterion.id: c.measurement.value for c in whole.verdict.criteria}
    # 110 subjects: the standard error of the bias is 0.011, of the repeatability 5 %
    assert values["bias"] == pytest.approx(0.2, abs=0.03)
    assert values["repeatability"] == pytest.approx(0.1, rel=0.15)
    assert values["lower-limit-of-agreement"] < 0.2 < values["upper-limit-of-agreement"]
    small = table(tmp_path, n_subjects=20, references=[37.0])
    assert judged(small, "iso-80601-2-56-2017", variant="clinical").verdict.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("claim", "outcome"), [(3.0, Outcome.PASS), (1.0, Outcome.FAIL)], ids=["as claimed", "worse than claimed"]
)
def test_respiratory_rate_is_held_against_the_claim(tmp_path: Path, claim: float, outcome: Outcome) -> None:
    path = table(tmp_path, n_subjects=24, references=BREATHS, sd=1.5)
    found = judged(path, "respiratory-rate-claim", parameters={"claimed_error": claim})
    assert found.verdict.outcome is outcome
    assert f"{claim:g} /min, stated for this evaluation" in str(found.verdict)


def test_without_slow_breathing_nothing_is_concluded(tmp_path: Path) -> None:
    path = table(tmp_path, n_subjects=24, references=BREATHS[3:], sd=9.0)
    found = judged(path, "respiratory-rate-claim", parameters={"claimed_error": 2.0})
    assert found.verdict.outcome is Outcome.INCONCLUSIVE
