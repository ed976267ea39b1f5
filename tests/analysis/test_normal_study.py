"""Figures of studies of normal differences: against studies simulated pair by pair, and the truth."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.agreement import bland_altman
from analysis.normal_study import FIGURES, NormalDifferences, bound, boundless_study, studies
from analysis.pressure_accuracy import pressure_errors, subject_sd_limit_mmhg
from analysis.rms_error import rms_error
from protocols.errors import SignalError

TRIALS = 4000
SHARES = np.array([0.05, 0.2, 0.5, 0.8, 0.95])
ERROR = 4.0 * np.sqrt(0.25 / TRIALS)
"""Four standard errors of a share of the simulated trials."""


def simulated(rng: np.random.Generator, device: NormalDifferences, n_subjects: int) -> np.ndarray:
    """Return differences of trials, shape (TRIALS, n_subjects, pairs_per_subject)."""
    offsets = rng.normal(0.0, device.between_sd, (TRIALS, n_subjects, 1))
    scatter = rng.normal(0.0, device.within_sd, (TRIALS, n_subjects, device.pairs_per_subject))
    return device.bias + offsets + scatter


def figures(differences: np.ndarray) -> dict[str, np.ndarray]:
    """Return the same figures by plain arithmetic on the pairs."""
    trials, _, m = differences.shape
    d = differences.reshape(trials, -1)
    found = {
        "bias": d.mean(1),
        "abs_bias": np.abs(d.mean(1)),
        "rms": np.sqrt((d**2).mean(1)),
        "sd": d.std(1, ddof=1),
        "subject_sd": differences.mean(2).std(1, ddof=1),
        "subject_sd_limit": np.array([subject_sd_limit_mmhg(mean) for mean in d.mean(1)]),
    }
    subject = np.repeat(np.arange(differences.shape[1]), m)
    design = {"subject": subject, "design": "repeated_varying"} if m > 1 else {}
    limits = bland_altman(d, np.zeros_like(d), **design)
    found["lower_limit_of_agreement"], found["upper_limit_of_agreement"] = limits.lower, limits.upper
    found["s_corr"] = np.asarray(limits.upper - limits.lower) / (2 * 1.959964)
    return found


@pytest.mark.parametrize(("n_subjects", "m"), [(10, 20), (85, 3), (12, 1)])
def test_every_figure_is_distributed_as_that_of_simulated_studies(
    rng: np.random.Generator, n_subjects: int, m: int
) -> None:
    device = NormalDifferences(1.0, 1.5, 0.0 if m == 1 else 2.5, m)
    seen, theory = figures(simulated(rng, device, n_subjects)), studies(device, n_subjects)
    for name, values in seen.items():
        if name == "subject_sd_limit":  # a table of few values: compare their mean
            assert FIGURES[name](theory).mean() == pytest.approx(values.mean(), abs=0.01)
            continue
        edges = np.quantile(values, SHARES)
        below = (FIGURES[name](theory)[:, None] <= edges).mean(0)
        assert below == pytest.approx(SHARES, abs=ERROR), name


def test_a_study_without_bounds_finds_the_truth() -> None:
    device = NormalDifferences(-1.0, 3.0, 4.0, 5)
    found = {name: float(figure(boundless_study(device))[0]) for name, figure in FIGURES.items()}
    assert found == pytest.approx(
        {
            "bias": -1.0,
            "abs_bias": 1.0,
            "rms": np.sqrt(26.0),
            "arms": np.sqrt(26.0),
            "sd": 5.0,
            "precision": 5.0,
            "subject_sd": np.sqrt(9.0 + 16.0 / 5.0),
            "subject_sd_limit": 6.87,
            "s_corr": 5.0,
            "lower_limit_of_agreement": -1.0 - 1.959964 * 5.0,
            "upper_limit_of_agreement": -1.0 + 1.959964 * 5.0,
        },
        rel=1e-6,
    )
    assert device.within(4.0) == pytest.approx(0.841345 - 0.274253, abs=1e-6)


def test_figures_are_those_that_the_metrics_compute(rng: np.random.Generator) -> None:
    device = NormalDifferences(1.0, 1.5, 2.5, 3)
    one = simulated(rng, device, 20)[0]
    subject = np.repeat(np.arange(20), 3)
    seen = figures(one[np.newaxis])
    errors = pressure_errors(one.ravel(), subject=subject)
    assert errors.mean == pytest.approx(seen["bias"][0])
    assert errors.sd == pytest.approx(seen["sd"][0])
    assert errors.subject_sd == pytest.approx(seen["subject_sd"][0])
    assert errors.subject_sd_limit == seen["subject_sd_limit"][0]
    arms = rms_error(one.ravel(), np.zeros(60), subject=subject)
    assert arms.value == pytest.approx(seen["rms"][0])


@pytest.mark.parametrize("figure", ["bias", "rms"])
def test_ends_of_intervals_leave_the_truth_out_as_often_as_they_say(figure: str) -> None:
    device = NormalDifferences(1.0, 1.5, 2.5, 20)
    found, truth = studies(device, 12), float(FIGURES[figure](boundless_study(device))[0])
    low, high = (bound(found, figure, side, 0.95) for side in ("low", "high"))
    assert low is not None
    assert high is not None
    # exact for the mean; MOVER covers a little more than it says
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(
        0.95, abs=0.002 if figure == "bias" else 0.02
    )
    assert bound(found, "sd", "high", 0.95) is None


def test_the_points_are_the_same_each_time() -> None:
    device = NormalDifferences(0.0, 1.0, 1.0, 4)
    assert np.array_equal(studies(device, 9).between, studies(device, 9).between)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: NormalDifferences(np.nan, 1.0, 1.0), "bias=nan"),
        (lambda: NormalDifferences(0.0, -1.0, 1.0), r"between_sd=-1\.0"),
        (lambda: NormalDifferences(0.0, 1.0, np.inf), "within_sd=inf"),
        (lambda: NormalDifferences(0.0, 1.0, 1.0, 0), "pairs_per_subject=0"),
        (lambda: studies(NormalDifferences(0.0, 1.0, 1.0), 1), "n_subjects=1"),
    ],
)
def test_what_cannot_be_is_refused(make, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SignalError, match=says):
        make()


def test_a_device_without_scatter_is_within_or_not() -> None:
    assert NormalDifferences(2.0, 0.0, 0.0).within(2.0) == 1.0
    assert NormalDifferences(2.1, 0.0, 0.0).within(2.0) == 0.0
    assert NormalDifferences(2.0, 0.0, 0.0).correlation == 0.0
