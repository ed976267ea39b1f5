"""Heart rate under motion: error on the recordings of the IEEE cup 2015 against published results, and time.

The error of a recording is the mean absolute difference from the rate of the ECG over all of its windows of 8 s
every 2 s, as in the publications: no window is left out, whatever its quality. The lines "kept" leave out those
that the quality rules out. Recordings are looked for under LAB_SHARED.

    python benchmarks/motion.py
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
from costs import peak_bytes, shortest_in_turns_s
from numpy.typing import NDArray
from report import Report
from scipy import io, signal

from analysis.motion import heart_rate
from analysis.motion_stream import MotionStream

Floats = NDArray[np.float64]
Recording = tuple[Floats, Floats, Floats]

FOLDER = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data/ppg/spc2015"
RATE_HZ = 125.0
JOSS_PER_MIN = 1.28  # Zhang 2015, mean of the 12 training recordings
WFPV_PER_MIN, WFPV_OFFLINE_PER_MIN = 1.97, 1.37  # Temko 2017, mean of 23 recordings, online and offline
ROUNDS = 5


def main() -> int:
    report = Report()
    if not FOLDER.is_dir():
        report.skip("motion", f"no recordings at {FOLDER}; set LAB_SHARED to the folder that holds data/")
        return report.exit_code
    training, testing = recordings("DATA_??_TYPE0?.mat"), recordings("TEST_*.mat")
    for lookahead_s, name in ((None, "whole"), (4.0, "4 s ahead"), (0.0, "causal")):
        errors, kept, share = errors_of(training, lookahead_s)
        of = f"{JOSS_PER_MIN}, JOSS (twelve recordings)"
        line(report, f"motion: training, {len(training)}, {name}", errors, JOSS_PER_MIN, of, at_most=1.0)
        of = f"{JOSS_PER_MIN}, JOSS; {100 * share:.0f} % of windows"
        line(report, f"motion: training, kept, {name}", kept, JOSS_PER_MIN, of, at_most=1.0)
        errors, kept, share = errors_of(testing, lookahead_s)
        limit = WFPV_OFFLINE_PER_MIN if lookahead_s is None else WFPV_PER_MIN
        of = f"{limit}, WFPV (all 23); each {', '.join(f'{error:.2f}' for error in errors)}"
        line(report, f"motion: test, {len(testing)}, {name}", errors, limit, of, at_most=3.0)
        of = f"{limit}, WFPV (all 23); {100 * share:.0f} % of windows"
        line(report, f"motion: test, kept, {name}", kept, limit, of, at_most=2.0)
    light, accel, _ = next(iter(training.values()))
    speed_and_memory(report, light, accel)
    return report.exit_code


def line(report: Report, name: str, errors: list[float], limit: float, of: str, *, at_most: float) -> None:
    mean = float(np.mean(errors))
    report.figure(name, mean, "1/min", ratio=mean / limit, of=of, at_most=at_most)


def errors_of(
    records: dict[str, Recording], lookahead_s: float | None
) -> tuple[list[float], list[float], float]:
    """Return the error of each recording over all windows, over those kept, and the share of these."""
    errors, kept, shares = [], [], []
    for light, accel, truth in records.values():
        found = heart_rate(light, accel, rate_hz=RATE_HZ, lookahead_s=lookahead_s)
        n = min(truth.size, found.quality.size)
        error = np.abs(found.tracked_per_min[:n] - truth[:n])
        good = np.isfinite(found.rate_per_min[:n])
        errors.append(float(error.mean()))
        kept.append(float(error[good].mean()))
        shares.append(float(good.mean()))
    return errors, kept, float(np.mean(shares))


def speed_and_memory(report: Report, light: Floats, accel: Floats) -> None:
    sections = signal.butter(2, [0.5, 8.0], "bandpass", fs=RATE_HZ, output="sos")
    rows = np.concatenate([light, accel])

    def filter_passes() -> None:
        for row in rows:
            signal.find_peaks(signal.sosfiltfilt(sections, row), distance=31)

    def tracking() -> None:
        heart_rate(light, accel, rate_hz=RATE_HZ)

    times_s = shortest_in_turns_s({"passes": filter_passes, "tracking": tracking}, rounds=ROUNDS)
    ratio = times_s["tracking"] / times_s["passes"]
    of = "a filter pass with peak search over each channel"
    report.figure(
        "motion: 5 min, 5 channels", 1000 * times_s["tracking"], "ms", ratio=ratio, of=of, at_most=40.0
    )
    peak = peak_bytes(tracking)
    name = "motion: peak memory"
    report.figure(name, peak / 1e6, "MB", ratio=peak / rows.nbytes, of="the input", at_most=8.0)
    stream = MotionStream(RATE_HZ, lookahead_s=4.0)
    start_s = time.perf_counter()
    parts = [
        stream.push(light[:, k : k + 63], accel[:, k : k + 63])  # about half a second each
        for k in range(0, light.shape[1], 63)
    ]
    parts.append(stream.flush())
    busy_s = time.perf_counter() - start_s
    batch = heart_rate(light, accel, rate_hz=RATE_HZ, lookahead_s=4.0).tracked_per_min
    same = np.allclose(np.concatenate([part.tracked_per_min for part in parts]), batch, atol=1e-9)
    report.figure("motion: stream equals batch", float(same), "", ratio=float(same), of="1", at_least=1.0)
    lasting_s = light.shape[1] / RATE_HZ
    of = "the time it takes to record"
    report.figure("motion: stream", 1000 * busy_s, "ms", ratio=busy_s / lasting_s, of=of, at_most=0.01)


def recordings(pattern: str) -> dict[str, Recording]:
    """Return light (two channels), acceleration and the ECG's rate of each window."""
    found = {}
    for path in sorted(FOLDER.glob(pattern)):
        rows = np.asarray(io.loadmat(path)["sig"], dtype=np.float64)
        if path.name.startswith("DATA"):
            rows = rows[1:]  # the ECG comes first
            truth = io.loadmat(path.with_name(f"{path.stem}_BPMtrace.mat"))["BPM0"]
        else:
            truth = io.loadmat(path.with_name(path.name.replace("TEST", "True")))["BPM0"]
        found[path.stem] = rows[:2], rows[2:5], truth.ravel()
    return found


if __name__ == "__main__":
    sys.exit(main())
