"""Steps, initial contacts, speed and turns: accuracy on real recordings, time against a filter pass, memory.

Steps: six walks with a hand counter (phone at six places), 20 more counted by hand. Contacts: eight bouts of
one participant with INDIP foot sensors as reference, within 250 ms, bouts given; the first three are straight.
Recordings are looked for under LAB_SHARED.

    python benchmarks/gait.py
"""

from __future__ import annotations

import csv
import gzip
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from costs import peak_bytes, shortest_in_turns_s
from numpy.typing import NDArray
from report import Report
from scipy import io, optimize, signal

from analysis import gait
from analysis.steps import StepStream, count_steps, detect_steps
from analysis.turns import detect_turns

Floats = NDArray[np.float64]

DATA = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data"
RATE_HZ = 100.0
PHONE_PERCENT = 2.0  # the phones' own counters on such walks
TOLERANCE_S = 0.25  # one to one
DAY_S = 86_400
LEG_M = 0.964  # the participant's sensor height, from the recording
F1_LEAST = 0.9
STRAIGHT_SPEED_MPS = 0.10  # RMSE of Soltani et al. (2021) in slow and fast walkers
STRAIGHT_CADENCE_PER_MIN = 2.0
TIME_LIMIT = {"steps": 4.0, "initial contacts": 7.0}  # the day is all walking, the worst case
ROUNDS = 3
MEMORY_LIMIT = 8.0


def main() -> int:
    report = Report()
    if not DATA.is_dir():
        report.skip("gait", f"no recordings at {DATA}; set LAB_SHARED to the folder that holds data/")
        return report.exit_code
    walk = step_counts(report)
    contacts(report)
    second_implementation(report)
    speed_and_memory(report, walk)
    return report.exit_code


def rows(path: Path) -> Floats:
    with gzip.open(path) as text:
        return np.loadtxt(text, delimiter=",")


def error_percent(times_ns: Floats, accel: Floats, counted: int) -> float:
    times_s = (times_ns - times_ns[0]) / 1e9
    return 100 * abs(count_steps(accel, rate_hz=RATE_HZ, times_s=times_s) / counted - 1)


def step_counts(report: Report) -> Floats:
    """Report the error of step counts; return a walk laid out at 100 Hz."""
    errors = []
    for path in sorted((DATA / "steps/oxford_validation").glob("*.gz")):
        walk = rows(path)
        errors.append(error_percent(walk[:, 0], walk[:, 1:4].T, int(walk[-1, 5])))
    say_errors(report, "steps, six positions, hand counter", errors)
    others = []
    with (DATA / "steps/oxford_optimisation/stats.csv").open() as text:
        for row in csv.reader(text):
            path = DATA / "steps/oxford_optimisation" / row[0].strip() / "accelerometer.csv.gz"
            if path.is_file():
                walk = rows(path)
                others.append(error_percent(walk[:, 0], walk[:, 2:5].T, int(row[6])))
    say_errors(report, "steps, 20 walks counted by hand", others)
    last = rows(min((DATA / "steps/oxford_validation").glob("*hand*")))
    times_s = (last[:, 0] - last[0, 0]) / 1e9
    even_s = np.arange(0, times_s[-1], 1 / RATE_HZ)
    return np.stack([np.interp(even_s, times_s, axis) for axis in last[:, 1:4].T])


def say_errors(report: Report, name: str, errors: list[float]) -> None:
    mean, worst = float(np.mean(errors)), max(errors)
    of = f"{PHONE_PERCENT} % of the phones' own counters, worst {worst:.1f}"
    report.figure(name, mean, "% MAPE", ratio=mean / PHONE_PERCENT, of=of, at_most=1.0)


def contacts(report: Report) -> None:
    measure: Any = io.loadmat(DATA / "gait/mobgap/HA/001/data.mat", squeeze_me=True, struct_as_record=False)[
        "data"
    ]
    trials = measure.TimeMeasure1
    true = found = matched = 0
    offsets, cadences, speeds, sides, missed, turns = [], [], [], [], 0, 0
    for trial in (trials.Test5.Trial1, trials.Test5.Trial2, trials.Test11.Trial1):
        accel, gyro = trial.SU.LowerBack.Acc.T * 9.80665, trial.SU.LowerBack.Gyr.T
        periods = np.atleast_1d(trial.Standards.INDIP.ContinuousWalkingPeriod)
        bouts = [[round(RATE_HZ * (p.Start - 0.3)), round(RATE_HZ * (p.End + 0.3)) + 1] for p in periods]
        at = gait.initial_contacts(accel, rate_hz=RATE_HZ, bouts=bouts)
        lengths = gait.step_lengths_m(accel, rate_hz=RATE_HZ, contacts=at, leg_length_m=LEG_M)
        for period, (start, end) in zip(periods, bouts, strict=True):
            own = at[(at >= start) & (at < end)]
            reference = np.asarray(period.InitialContact_Event)
            apart = own[:, None] / RATE_HZ - reference
            late = apart[optimize.linear_sum_assignment(np.minimum(np.abs(apart), 4 * TOLERANCE_S))]
            late = late[np.abs(late) <= TOLERANCE_S]
            true, found, matched = true + reference.size, found + own.size, matched + late.size
            offsets.extend(late)
            cadences.append(gait.cadence_per_min(own, rate_hz=RATE_HZ) - period.Cadence)
            inside = (at[:-1] >= start) & (at[1:] < end) & np.isfinite(lengths)
            speeds.append(lengths[inside].sum() / (np.diff(at)[inside].sum() / RATE_HZ) - period.WalkingSpeed)
            truth = np.where(period.InitialContact_LeftRight == "Left", -1, 1)
            at_truth = np.rint(RATE_HZ * reference).astype(np.int64)
            sides.extend(gait.contact_sides(at_truth, gyro, accel, rate_hz=RATE_HZ) == truth)
        missed, turns = missed_turns(trial, detect_turns(gyro, accel, rate_hz=RATE_HZ).intervals, missed, turns)
    f1 = 2 * matched / (true + found)
    report.figure("initial contacts, F1 at 250 ms", f1, "", ratio=f1, of="1", at_least=F1_LEAST)
    jitter = float(np.std(offsets))
    of = f"250 ms, median {1000 * np.median(offsets):+.0f} ms"
    report.figure(
        "initial contacts, jitter", 1000 * jitter, "ms SD", ratio=jitter / TOLERANCE_S, of=of, at_most=0.3
    )
    for name, errors, limit, unit in (
        ("cadence", cadences, STRAIGHT_CADENCE_PER_MIN, "/min MAE"),
        ("walking speed", speeds, STRAIGHT_SPEED_MPS, "m/s MAE"),
    ):
        straight, every = float(np.mean(np.abs(errors[:3]))), float(np.nanmean(np.abs(errors)))
        of = f"{limit:g}; all {np.isfinite(errors).sum()} bouts with one {every:.2f}"
        report.figure(f"{name}, straight walks", straight, unit, ratio=straight / limit, of=of, at_most=1.0)
    right = float(np.mean(sides))
    report.figure("left and right", right, "", ratio=right, of="1", at_least=0.75)
    share = 1 - missed / turns
    report.figure("turns of 100 degrees and more", share, "", ratio=share, of=f"1, of {turns}", at_least=1.0)


def missed_turns(trial: Any, found: NDArray[np.int64], missed: int, turns: int) -> tuple[int, int]:
    for period in np.atleast_1d(trial.Standards.Stereophoto.ContinuousWalkingPeriod):
        for start_s, end_s, angle in zip(
            *map(np.atleast_1d, (period.Turn_Start, period.Turn_End, period.Turn_Angle)), strict=True
        ):
            if abs(angle) >= 100:
                turns += 1
                over = (found[:, 0] < RATE_HZ * end_s) & (found[:, 1] > RATE_HZ * start_s)
                missed += not over.any()
    return missed, turns


def second_implementation(report: Report) -> None:
    recording, peer = (np.load(DATA / f"gait/skdh/{name}.npz") for name in ("gait_input", "gait_results_apcwt"))
    accel, times_s = recording["accel"].T * 9.80665, recording["time"]
    rate_hz = (times_s.size - 1) / (times_s[-1] - times_s[0])
    at = gait.initial_contacts(accel, rate_hz=rate_hz)
    stride_s = float(np.nanmedian(gait.stride_times_s(at, rate_hz=rate_hz)))
    ratio = stride_s / float(np.nanmedian(peer["stride time"]))
    report.figure(
        "stride time, median", stride_s, "s", ratio=ratio, of="skdh's on its own recording", at_most=1.03
    )


def speed_and_memory(report: Report, walk: Floats) -> None:
    n = int(DAY_S * RATE_HZ)
    day = np.tile(walk, (1, n // walk.shape[1] + 1))[:, :n].copy()
    sos = signal.butter(4, [0.5, 3], "bandpass", fs=RATE_HZ, output="sos")
    peers = {
        "limit": lambda: signal.find_peaks(signal.sosfiltfilt(sos, np.sqrt((day * day).sum(axis=0)))),
        "steps": lambda: detect_steps(day, rate_hz=RATE_HZ),
        "initial contacts": lambda: gait.initial_contacts(day, rate_hz=RATE_HZ),
    }
    times_s = shortest_in_turns_s(peers, rounds=ROUNDS)
    limit_s = times_s["limit"]
    for name, detect in (("steps", detect_steps), ("initial contacts", gait.initial_contacts)):
        taken_s = times_s[name]
        of = "sosfiltfilt + find_peaks over the norm"
        report.figure(
            f"{name}, 24 h all walking", taken_s, "s", ratio=taken_s / limit_s, of=of, at_most=TIME_LIMIT[name]
        )
        peak = peak_bytes(lambda detect=detect: detect(day, rate_hz=RATE_HZ))  # type: ignore[misc]
        report.figure(
            f"{name}, memory",
            peak / 2**20,
            "MiB",
            ratio=peak / day.nbytes,
            of="the input",
            at_most=MEMORY_LIMIT,
        )
    hour = day[:, : n // 24]
    start = time.perf_counter()
    stream = StepStream(RATE_HZ)
    steps = [stream.push(hour[:, k : k + 100]) for k in range(0, hour.shape[1], 100)]
    taken_s = time.perf_counter() - start
    same = np.array_equal(np.concatenate([*steps, stream.flush()]), detect_steps(hour, rate_hz=RATE_HZ))
    report.figure(
        "stream, one hour second by second", taken_s, "s", ratio=taken_s / 3600, of="real time", at_most=0.02
    )
    report.figure("stream equals batch", float(same), "", ratio=float(same), of="1", at_least=1.0)


if __name__ == "__main__":
    sys.exit(main())
