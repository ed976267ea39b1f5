"""Glucose: published figures of iglu, lag of known sensors, time and memory of fourteen days.

No peer package is among the development dependencies; limits are digits of print, known truth, and one pass of
sorting the same readings. Recordings and answers are looked for under LAB_SHARED.

    python benchmarks/glucose.py
"""

from __future__ import annotations

import csv
import gzip
import os
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
from costs import peak_bytes, shortest_s
from numpy.typing import NDArray
from report import Report

from analysis import glucose, glucose_events, glucose_variability
from analysis.glucose_grid import daily_grid

Floats = NDArray[np.float64]

SHARED = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared"))
DIRECTIONS = {"plus": "plus", "minus": "minus", "avg": "average", "service": "service", "max": "max"}
MINUTE_NS = 60_000_000_000
ROUNDS = 9
N_SUBJECTS = 1000
TRUE_LAG_MIN = 8.0
NOISE_MGDL = 10.0
TRIALS = 50


def main() -> int:
    report = Report()
    if (SHARED / "data").is_dir():
        published_answers(report)
        published_mage(report)
    else:
        report.skip("glucose: published answers", f"no recordings at {SHARED}; set LAB_SHARED")
    lag(report)
    speed_and_memory(report)
    return report.exit_code


def published_answers(report: Report) -> None:
    readings = np.loadtxt(SHARED / "oracles/iglu_cgm_1_subject.csv", delimiter=",", skiprows=1, usecols=1)
    for name, figure, answer in (
        ("mean", glucose.mean_mgdl, 123.6655),
        ("SD", glucose.sd_mgdl, 33.2681),
        ("time in range", glucose.in_range_percent, 91.6638),
        ("GMI", glucose.gmi_percent, 6.2681),
        ("LBGI", glucose.lbgi, 0.4321),
        ("HBGI", glucose.hbgi, 1.8074),
        ("J index", glucose.j_index, 24.6282),
    ):
        found = float(figure(readings))
        off = abs(round(found, 4) - answer) * 1e4
        of = f"the last digit of {answer} away"
        report.figure(f"glucose: {name} of 14 days", found, "mg/dL, %, 1", ratio=off, of=of, at_most=0.5)


def published_mage(report: Report) -> None:
    folder = SHARED / "data/cgm/iglu"
    with gzip.open(folder / "example_5_subjects_1to3.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    times_ns = [int(datetime.fromisoformat(f"{row['time']}+00:00").timestamp()) * 10**9 for row in rows]
    times, values = np.array(times_ns), np.array([float(row["gl"]) for row in rows])
    with (folder / "manual_calculations.csv").open() as file:
        stretches = [row for row in csv.DictReader(file) if row["dataset"] == "JHU"]
    with (folder / "mage_ground_truth.csv").open() as file:
        answers = list(csv.DictReader(file))
    off, by_hand = [], []
    for stretch, answer in zip(stretches, answers, strict=True):
        chosen = slice(int(stretch["start"]) - 1, int(stretch["end"]))
        if chosen.stop > values.size:
            continue  # a subject that is not at hand
        grid = daily_grid(values[chosen], times_ns=times[chosen])
        for column, direction in DIRECTIONS.items():
            found = glucose_variability.mage_mgdl(grid, direction=direction)  # type: ignore[arg-type]
            off.append(abs(found / float(answer[f"mage_{column}"]) - 1.0))
        by_hand.append(abs(glucose_variability.mage_mgdl(grid) / float(stretch["manual"]) - 1.0))
    of = "1e-9, rounding (largest of five kinds each)"
    report.figure(
        f"glucose: MAGE of {len(by_hand)} traces, off iglu",
        max(off),
        "1",
        ratio=max(off) / 1e-9,
        of=of,
        at_most=1.0,
    )
    report.figure(
        f"glucose: MAGE of {len(by_hand)} traces, off by hand",
        100 * float(np.median(by_hand)),
        "%",
        ratio=float(np.median(by_hand)),
        of="the figure drawn by hand (median)",
        at_most=0.2,
    )


def lag(report: Report) -> None:
    generator = np.random.default_rng(20261130)
    sensor_min, reference_min = np.arange(0.0, 1440.0, 5.0), np.arange(60.0, 1380.0, 15.0)

    def blood(at_min: Floats) -> Floats:
        meals = ((480, 90), (780, 70), (1140, 110))
        return 100.0 + sum(size * np.exp(-(((at_min - at) / 50.0) ** 2)) for at, size in meals)

    found, stated = [], []
    for _ in range(TRIALS):
        noise = NOISE_MGDL * generator.normal(size=sensor_min.size)
        each = glucose_events.sensor_lag(
            0.8 * blood(sensor_min - TRUE_LAG_MIN) + 15.0 + noise,
            blood(reference_min),
            times_ns=(sensor_min * MINUTE_NS).astype(np.int64),
            reference_times_ns=(reference_min * MINUTE_NS).astype(np.int64),
        )
        found.append(each.lag_min)
        stated.append(each.standard_error_min)
    spread, error = float(np.std(found)), float(np.sqrt(np.mean(np.square(stated))))
    of = f"{TRUE_LAG_MIN:g} min, the true lag, noise {NOISE_MGDL:g} mg/dL"
    mean = float(np.mean(found))
    report.figure(
        "glucose: lag of a sensor, mean", mean, "min", ratio=mean / TRUE_LAG_MIN, of=of, at_least=0.95
    )
    of = f"{error:.2f} min, the error it states"
    report.figure("glucose: lag of a sensor, spread", spread, "min", ratio=spread / error, of=of, at_most=1.25)


def speed_and_memory(report: Report) -> None:
    generator = np.random.default_rng(20261130)
    cohort = generator.uniform(45.0, 320.0, (N_SUBJECTS, 14 * 288))
    figures = (
        glucose.mean_mgdl,
        glucose.sd_mgdl,
        glucose.in_range_percent,
        glucose.below_percent,
        glucose.above_percent,
        glucose.gri,
        glucose.lbgi,
        glucose.hbgi,
    )
    sorting_s = shortest_s(lambda: np.sort(cohort, axis=-1), rounds=ROUNDS)
    for figure in figures:
        taken_s = shortest_s(lambda figure=figure: figure(cohort), rounds=ROUNDS)
        report.figure(
            f"glucose: {figure.__name__} of {N_SUBJECTS} subjects, 14 d",
            1000 * taken_s,
            "ms",
            ratio=taken_s / sorting_s,
            of="sorting the readings once",
            at_most=5.0,
        )
    peak = peak_bytes(lambda: [figure(cohort) for figure in figures])
    report.figure(
        "glucose: peak memory", peak / 1e6, "MB", ratio=peak / cohort.nbytes, of="the input", at_most=8.0
    )
    times_ns = np.arange(14 * 288) * 5 * MINUTE_NS
    wave = 140.0 + 50.0 * np.sin(np.arange(14 * 288) / 11.0) + 5.0 * generator.normal(size=14 * 288)

    def by_time() -> None:
        grid = daily_grid(wave, times_ns=times_ns)
        glucose_variability.mage_mgdl(grid)
        glucose_variability.modd_mgdl(grid)
        glucose_variability.conga_mgdl(grid)
        glucose_variability.daily_sds(grid)
        glucose_variability.adrr(wave, times_ns=times_ns)
        glucose_events.episodes(grid, limit_mgdl=180.0, side="above")

    taken_s = shortest_s(by_time, rounds=ROUNDS)
    report.figure(
        "glucose: MAGE, MODD, CONGA, SDs, ADRR, episodes",
        1000 * taken_s,
        "ms",
        ratio=taken_s / 0.1,
        of="100 ms a subject, 14 d",
        at_most=1.0,
    )


if __name__ == "__main__":
    sys.exit(main())
