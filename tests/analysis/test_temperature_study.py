"""Studies of thermometers: single errors and repeatability, by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.paired_study import PairedStudy
from analysis.temperature_study import STUDY, largest_error, repeatability
from protocols.clinical.criteria import Statistics

FEW = Statistics(bootstrap_replicates=100)


def session(subject: str, reference: list[float], test: list[float], name: str = "a") -> PairedStudy:
    times = np.arange(len(reference))
    return PairedStudy.of_pairs("temperature", subject, name, times, reference, test)


def test_repeatability_pools_the_scatter_within_sessions() -> None:
    study = PairedStudy.gather(
        [
            session("S-1", [37.0] * 3, [37.1, 37.3, 37.2]),
            session("S-2", [38.0, 38.1], [38.2, 38.1]),
            session("S-3", [36], [40]),
        ]
    )
    # within: 0.1, 0.3, 0.2 about 0.2 (squares 0.02), and 0.2, 0.0 about 0.1 (squares 0.02), over 2 + 1
    found = repeatability(study, FEW)
    assert found.value == pytest.approx(np.sqrt(0.04 / 3))
    assert (found.n, found.method) == (5, "pooled over 2 sessions with replicates, 3 degrees of freedom")
    assert found.details["repeatability_coefficient"] == pytest.approx(1.96 * np.sqrt(2) * found.value)


def test_a_drifting_body_is_no_scatter_of_the_device(rng: np.random.Generator) -> None:
    sessions = []
    for number in range(400):
        body = 37 + 0.3 * np.arange(3)
        sessions.append(
            session(f"S-{number}", body.tolist(), (body + rng.normal(0.1, 0) + rng.normal(0, 0.08, 3)).tolist())
        )
    # 800 degrees of freedom: the standard error of a standard deviation is 2.5 %
    assert repeatability(PairedStudy.gather(sessions), FEW).value == pytest.approx(0.08, rel=0.08)


def test_the_largest_error_has_no_sign_and_counts_only_what_can_be() -> None:
    study = session("S-1", [37.0, 38.0, 39.0], [37.1, 37.6, 85.0])
    assert largest_error(study, FEW).value == pytest.approx(0.4)
    assert np.isnan(largest_error(PairedStudy.empty(), FEW).value)
    assert np.isnan(repeatability(PairedStudy.empty(), FEW).value)


def test_one_name_of_a_session_in_two_subjects_is_two_sessions() -> None:
    study = PairedStudy.gather([session("S-1", [37, 37], [37, 37]), session("S-2", [37], [37])])
    assert STUDY.design_facts(study, FEW)["sessions"] == 2
