"""Simulated trials: a device exactly at a limit passes as often as theory says.

A criterion that judges a value lets such a device pass in about half of the trials, one that judges a bound in
5 % at most. Trials are simulated pair by pair and judged by figures that are those of the metrics (last test);
theory is a closed form, or `normal_study`, which simulates no pairs.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis.glucose_accuracy import Tolerance, within
from analysis.metrics import METRICS
from analysis.normal_study import FIGURES, NormalDifferences, studies
from analysis.oximetry import arms_percent
from analysis.paired_study import PairedStudy
from analysis.pressure_accuracy import SUBJECT_SD_LIMITS_MMHG, subject_sd_limit_mmhg
from analysis.proportions import clopper_pearson
from analysis.rms_error import mean_square_interval
from analysis.share_power import share_power, successes_needed
from analysis.variance_components import one_way
from protocols.clinical.criteria import Statistics

TRIALS = 4000


def error(share: float) -> float:
    """Return four standard errors of a share that is seen in the trials."""
    return float(4.0 * np.sqrt(share * (1.0 - share) / TRIALS))


def differences(
    rng: np.random.Generator, device: NormalDifferences, n_subjects: int, trials: int = TRIALS
) -> NDArray[np.float64]:
    """Return differences of trials, shape (trials, n_pairs), the pairs of a subject side by side."""
    m = device.pairs_per_subject
    offsets = rng.normal(0.0, device.between_sd, (trials, n_subjects, 1))
    scatter = rng.normal(0.0, device.within_sd, (trials, n_subjects, m))
    return (device.bias + offsets + scatter).reshape(trials, -1)


def arms_device(bias: float, between: float, limit: float = 4.0) -> NormalDifferences:
    """Return a device whose true root mean square error is the limit."""
    return NormalDifferences(bias, between, float(np.sqrt(limit**2 - bias**2 - between**2)), 20)


def test_arms_of_independent_pairs_at_the_limit_passes_as_the_chi_square_says(rng: np.random.Generator) -> None:
    reference = np.full((TRIALS, 200), 85.0)
    test = reference + differences(rng, arms_device(0.0, 0.0), 10)
    passed = (arms_percent(test, reference) <= 4.0).mean()
    expected = float(stats.chi2.cdf(200, 200))
    assert expected == pytest.approx(0.513, abs=1e-3)
    assert passed == pytest.approx(expected, abs=error(expected))


@pytest.mark.parametrize(("bias", "between"), [(2.0, 0.0), (0.0, 2.0), (1.5, 1.5), (-3.0, 2.5)])
def test_arms_at_the_limit_passes_as_theory_says_whatever_the_error_is_made_of(
    rng: np.random.Generator, bias: float, between: float
) -> None:
    device = arms_device(bias, between)
    passed = (np.sqrt((differences(rng, device, 10) ** 2).mean(1)) <= 4.0).mean()
    expected = float((FIGURES["rms"](studies(device, 10)) <= 4.0).mean())
    # errors that subjects share are few and skewed: a device at the limit passes more often than in half
    assert 0.5 < expected < 0.65
    assert passed == pytest.approx(expected, abs=error(expected))


def test_an_upper_bound_of_arms_lets_a_device_at_the_limit_pass_in_a_fortieth_at_most(
    rng: np.random.Generator,
) -> None:
    subject = np.repeat(np.arange(24), 20)
    for bias, between in ((0.0, 0.0), (1.5, 1.5), (-3.0, 2.0)):
        found = one_way(differences(rng, arms_device(bias, between), 24), subject)
        passed = (mean_square_interval(found, 0.95).high < 16.0).mean()
        assert passed <= 0.025 + error(0.025)


@pytest.mark.parametrize(
    ("bias", "sd", "subject_sd"),
    [(5.0, 4.0, 2.0), (5.0, 8.0, 4.0), (0.0, 8.0, 0.0), (0.0, 8.0, 5.0), (3.0, 8.0, 4.0)],
)
def test_criterion_1_of_iso_81060_2_at_its_limits(
    rng: np.random.Generator, bias: float, sd: float, subject_sd: float
) -> None:
    device = NormalDifferences(bias, subject_sd, float(np.sqrt(sd**2 - subject_sd**2)), 3)
    d = differences(rng, device, 85)
    passed = ((np.abs(d.mean(1)) <= 5.0) & (d.std(1, ddof=1) <= 8.0)).mean()
    theory = studies(device, 85)
    allowed = (FIGURES["abs_bias"](theory) <= 5.0) & (FIGURES["sd"](theory) <= 8.0)
    assert passed == pytest.approx(allowed.mean(), abs=error(0.5))
    if (bias, sd) == (5.0, 4.0):  # only the mean decides: one half, but for the other side
        assert allowed.mean() == pytest.approx(0.5, abs=0.002)
    if (bias, sd) == (5.0, 8.0):  # mean and standard deviation are independent
        assert allowed.mean() == pytest.approx(0.5 * (FIGURES["sd"](theory) <= 8.0).mean(), abs=0.005)
    if subject_sd == 0.0:
        assert allowed.mean() == pytest.approx(float(stats.chi2.cdf(254, 254)), abs=0.002)


@pytest.mark.parametrize("tenths", [0, 20, 42])
def test_criterion_2_of_iso_81060_2_at_its_limit(rng: np.random.Generator, tenths: int) -> None:
    limit = SUBJECT_SD_LIMITS_MMHG[tenths]
    device = NormalDifferences(tenths / 10.0, float(np.sqrt(limit**2 - 3.0)), 3.0, 3)
    d = differences(rng, device, 85)
    allowed = np.array([subject_sd_limit_mmhg(mean) for mean in d.mean(1)])
    passed = (d.reshape(TRIALS, 85, 3).mean(2).std(1, ddof=1) <= allowed).mean()
    theory = studies(device, 85)
    expected = (FIGURES["subject_sd"](theory) <= FIGURES["subject_sd_limit"](theory)).mean()
    assert passed == pytest.approx(expected, abs=error(expected))
    assert 0.3 < expected < 0.6


def test_a_meter_with_95_percent_within_passes_iso_15197_as_the_binomial_says(rng: np.random.Generator) -> None:
    # 15 % of 150 mg/dL at the 97.5 % point of the errors: exactly 95 % of them are within
    reference = np.full((TRIALS, 600), 150.0)
    test = reference + rng.normal(0.0, 22.5 / 1.959963984540054, reference.shape)
    shares = within(reference, test, Tolerance(15.0, 15.0, 100.0)).mean(1)
    expected = float(stats.binom.sf(569, 600, 0.95))
    assert expected == pytest.approx(0.548, abs=1e-3)
    assert (shares >= 0.95).mean() == pytest.approx(expected, abs=error(expected))


@pytest.mark.parametrize(("limit", "n"), [(0.85, 120), (0.70, 400), (0.80, 300), (0.98, 500), (0.99, 800)])
def test_an_exact_lower_bound_lets_a_sensor_at_the_limit_pass_in_5_percent_at_most(
    rng: np.random.Generator, limit: float, n: int
) -> None:
    seen = rng.binomial(n, limit, TRIALS)
    passed = (clopper_pearson(seen, n, side="lower").low > limit).mean()
    needed = int(successes_needed(np.array(n), limit=limit, judged="low"))
    expected = float(stats.binom.sf(needed - 1, n, limit))
    assert expected <= 0.05
    # as near as whole numbers allow: one success fewer would pass too often
    assert stats.binom.sf(needed - 2, n, limit) > 0.05
    assert passed == pytest.approx(expected, abs=error(expected))
    assert expected == pytest.approx(float(share_power(np.array(n), share=limit, limit=limit, judged="low")))


def test_pairs_that_resemble_one_another_make_the_exact_bound_pass_too_often(rng: np.random.Generator) -> None:
    # 20 subjects of 20 pairs, whose own shares within scatter about the limit of 85 % (correlation 0.1)
    own = rng.beta(0.85 * 9, 0.15 * 9, (TRIALS, 20))
    seen = rng.binomial(20, own).sum(1)
    passed = (clopper_pearson(seen, 400, side="lower").low > 0.85).mean()
    assert passed > 0.10  # which is why the bound by subject stands beside it


@pytest.mark.parametrize("metric", ["spo2_arms", "sbp_sd", "sbp_abs_bias", "sbp_subject_sd", "sbp_within_10"])
def test_what_was_simulated_here_is_what_a_verdict_compares(rng: np.random.Generator, metric: str) -> None:
    quantity = metric.partition("_")[0]
    device = NormalDifferences(1.0, 3.0, 4.0, 6)
    reference = 85.0 if quantity == "spo2" else 130.0
    (d,) = differences(rng, replace_scale(device, 0.3 if quantity == "spo2" else 1.0), 15, trials=1)
    subject = np.repeat([f"S-{k:02}" for k in range(15)], 6)
    study = PairedStudy(
        np.full(90, quantity),
        subject,
        subject,
        np.arange(90, dtype=np.int64),
        np.full(90, reference),
        reference + d,
    )
    plainly = {
        "spo2_arms": np.sqrt((d**2).mean()),
        "sbp_sd": d.std(ddof=1),
        "sbp_abs_bias": abs(d.mean()),
        "sbp_subject_sd": d.reshape(15, 6).mean(1).std(ddof=1),
        "sbp_within_10": 100.0 * (np.abs(d) <= 10.0).mean(),
    }
    value = METRICS[metric].function(study, Statistics(bootstrap_replicates=10)).value
    assert value == pytest.approx(plainly[metric])


def replace_scale(device: NormalDifferences, scale: float) -> NormalDifferences:
    """Return a device with smaller errors, so that no saturation leaves what is possible."""
    return NormalDifferences(
        scale * device.bias, scale * device.between_sd, scale * device.within_sd, device.pairs_per_subject
    )
