"""Pairing of oximeters at plateaus, on simulated desaturations and real recordings, and errors of first kind.

How much of a device's lag gets into its Arms by the shipped rule, by plateaus found and used from their start
or from 20 s on, and by no rule at all. Recordings of several oximeters on one subject are looked for under
LAB_SHARED: there Arms at plateaus is held against Arms once the lag has been taken out.

    python benchmarks/oximetry_study.py
"""

from __future__ import annotations

import gzip
import itertools
import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from report import Report

from analysis.disparity import largest_group_difference
from analysis.pairing import PairedReadings, estimate_lag, pair_readings
from analysis.plateaus import find_plateaus
from firmware_sim.signals.desaturation import controlled_desaturation
from firmware_sim.signals.oximeter import REFERENCE, Oximeter, OximeterModel
from firmware_sim.signals.subject import Subject
from protocols.clinical.library import shipped

Floats = NDArray[np.float64]

DATA = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data/spo2/phonecam"
RULE = shipped()["iso-80601-2-61-2017"].pairing_rule
SUBJECTS = 8
LAG_S = 15.0
OXIMETERS = (1, 2, 4, 5)  # the third stores a raw signal
STUDIES = 4000


def main() -> int:
    report = Report()
    simulated(report)
    recorded(report)
    at_the_limit(report)
    return report.exit_code


def simulated(report: Report) -> None:
    """Report a device without any error but 15 s late; plateaus of 40 s, 20 s between them."""
    ways: dict[str, list[Floats]] = {"none": [], "rule": [], "plateaus": [], "settled plateaus": []}
    for number in range(SUBJECTS):
        subject = Subject(number, controlled_desaturation(number))
        end_s = subject.saturation.end_s
        reference = shown(Oximeter(subject, REFERENCE, 1), end_s)
        test = shown(Oximeter(subject, OximeterModel(delay_s=LAG_S), 2), end_s)
        ways["none"].append(differences(windows(reference, test, stable_s=0.0)))
        ways["rule"].append(differences(windows(reference, test, stable_s=RULE.stable_s)))
        found = find_plateaus(reference, rate_hz=1.0, shortest_s=RULE.stable_s, largest_range=RULE.stable_range)
        ways["plateaus"].append(within(found, reference, test, drop=0))
        ways["settled plateaus"].append(within(found, reference, test, drop=20))
    arms = {name: rms(np.concatenate(parts)) for name, parts in ways.items()}
    for name in ("rule", "plateaus", "settled plateaus"):
        n = sum(part.size for part in ways[name])
        report.figure(
            f"oximeters: 15 s late, Arms by {name}",
            arms[name],
            "%",
            ratio=arms[name] / arms["none"],
            of=f"{arms['none']:.2f} % at any time; {n} pairs",
            at_most=0.15 if name == "rule" else 1.0,
        )


def recorded(report: Report) -> None:
    """Report every two of four clinical oximeters on three subjects whose inspired oxygen was varied."""
    paths = sorted(DATA.glob("gt_*.csv.gz"))
    if not paths:
        report.skip("oximeters: real recordings", f"none at {DATA}; set LAB_SHARED")
        return
    found = []
    lags_s = []
    for path in paths:
        columns = readings(path)
        for one, other in itertools.combinations(columns, 2):
            times_ns = np.arange(one.size) * 1_000_000_000
            lag_s = estimate_lag(times_ns, one, times_ns, other, max_lag_s=60.0).lag_s
            lags_s.append(abs(lag_s))
            late = np.interp(np.arange(one.size) + lag_s, np.arange(one.size), other)
            found.append(
                [
                    rms(differences(windows(one, other, stable_s=0.0))),
                    rms(differences(windows(one, other, stable_s=RULE.stable_s))),
                    rms(differences(windows(one, late, stable_s=RULE.stable_s))),
                ]
            )
    anytime, plateaus, aligned = np.median(np.array(found), axis=0)
    report.figure(
        "oximeters: two on one subject, Arms by rule",
        plateaus,
        "%",
        ratio=plateaus / aligned,
        of=f"{aligned:.2f} % aligned; {anytime:.2f} % at any time; lags to {max(lags_s):.0f} s",
        at_most=1.25,
    )


def at_the_limit(report: Report) -> None:
    """Report how often a device passes whose bias differs by the limit: groups of 38, 38 and 74 subjects."""
    rng = np.random.default_rng(1)
    group = np.repeat(["a", "b", "c"], [38, 38, 74])
    bias = np.repeat([1.5, 0.7, 0.0], [38, 38, 74])
    passed = 0
    for values in bias + rng.normal(0.0, 1.0, (STUDIES, bias.size)):
        high = largest_group_difference(values, group, subject=np.arange(bias.size)).high
        passed += high is not None and high < 1.5
    share = 100.0 * passed / STUDIES
    of = f"2.5 % by theory; error {100 * np.sqrt(0.025 * 0.975 / STUDIES):.2f} %"
    report.figure("oximeters: bias at its limit, passes", share, "%", ratio=share / 2.5, of=of, at_most=1.3)


def shown(oximeter: Oximeter, end_s: float) -> Floats:
    values = [oximeter.spo2_percent(t) for t in np.arange(0.0, end_s)]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def windows(reference: Floats, test: Floats, *, stable_s: float) -> PairedReadings:
    """Return pairs of readings once a second."""
    times_ns = np.arange(reference.size) * 1_000_000_000
    return pair_readings(
        times_ns,
        reference,
        times_ns,
        test,
        window_s=RULE.window_s,
        stable_s=stable_s,
        stable_range=RULE.stable_range if stable_s else np.inf,
    )


def differences(pairs: PairedReadings) -> Floats:
    kept = np.isfinite(pairs.test) & (pairs.reference >= 70.0)
    return (pairs.test - pairs.reference)[kept]


def within(plateaus: NDArray[np.int64], reference: Floats, test: Floats, *, drop: int) -> Floats:
    """Return differences of 5 s means inside plateaus, their first `drop` seconds left out."""
    width = round(RULE.window_s)
    starts = [s for begin, end in plateaus for s in range(begin + drop, end - width + 1, width)]
    found = [test[s : s + width].mean() - reference[s : s + width].mean() for s in starts]
    return np.array([value for value in found if np.isfinite(value)])


def readings(path: Path) -> list[Floats]:
    """Return the saturations of each oximeter, once a second, NaN where it showed none."""
    with gzip.open(path, "rt") as file:
        lines = [line.split(",") for line in file.read().splitlines()[1:]]
    columns = []
    for place in OXIMETERS:
        values = np.array([number(line[place]) for line in lines])
        columns.append(np.where((values >= 50.0) & (values <= 100.0), values, np.nan))
    return columns


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


if __name__ == "__main__":
    sys.exit(main())
