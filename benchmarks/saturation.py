"""Saturation from red and infrared light: cross-validated errors on real recordings, and time.

Errors are root mean squares (Arms) of recordings that the calibration curve was not fitted to. The textbook
curve 110 - 25 R is what they are compared with. Recordings are looked for under LAB_SHARED.

    python benchmarks/saturation.py
"""

from __future__ import annotations

import io
import os
import re
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from report import Report
from scipy import signal

from analysis.oximetry import arms_percent
from analysis.saturation import median_ratio_of_ratios, ratio_of_ratios
from analysis.saturation_curve import SaturationCurve, fit_curve

Floats = NDArray[np.float64]

DATA = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data"
TEXTBOOK = SaturationCurve("textbook", (110.0, -25.0), 0.0, 4.0)
PHONE_SUBJECTS = ("100001", "100003", "100005")
OXIMETERS = (1, 2, 4, 5)  # the third stores a raw signal
PHONE_BANDS_S = 30
ROUNDS = 7


def main() -> int:
    report = Report()
    if not (DATA / "spo2").is_dir():
        report.skip("saturation", f"no recordings at {DATA}; set LAB_SHARED to the folder that holds data/")
        return report.exit_code
    finger(report)
    ear(report)
    wrist(report)
    phone_camera(report)
    speed(report)
    return report.exit_code


def finger(report: Report) -> None:
    """29 recordings of 3 to 7 s of one subject at 70 to 98 %, MAXM86161 at the finger."""
    ratios, truth, names = [], [], []
    for path in sorted((DATA / "spo2/oxiwear/proto1").glob("*.csv")):
        red, infrared = finger_recording(path)
        ratios.append(median_ratio_of_ratios(red, infrared, rate_hz=64.0))
        truth.append(float(path.name.split("-")[1]))
        names.append(path.name)
    textbook = float(arms_percent(TEXTBOOK.spo2_percent(ratios), truth))
    report.figure(
        "saturation: finger, recordings with a ratio",
        float(np.isfinite(ratios).sum()),
        "",
        ratio=float(np.isfinite(ratios).mean()),
        of=f"{len(ratios)} recordings",
        at_least=0.9,
    )
    for degree in (1, 2):
        fit = fit_curve(ratios, truth, recording=names, device="MAXM86161", degree=degree)
        arms = fit.cross_validated_arms_percent
        of = f"{textbook:.2f} %, the textbook's 110 - 25 R"
        name = f"saturation: finger, Arms, degree {degree}"
        report.figure(name, arms, "%", ratio=arms / textbook, of=of, at_most=0.6)


def ear(report: Report) -> None:
    """Seven recordings of a prototype at the ear, 95 and 96 % all of them, one of them unattached."""
    shares = []
    for path in sorted((DATA / "spo2/oxiwear/proto2").glob("*.csv")):
        rows = np.genfromtxt(path, delimiter=",", skip_header=1)
        found = ratio_of_ratios(rows[:, 2], rows[:, 0], rate_hz=24.995, window_s=4.0, step_s=1.0)
        shares.append(0.0 if found.ratio.size == 0 else float(np.isfinite(found.ratio).mean()))
        if "unattached" in path.name:
            of = "windows of the unattached device"
            report.figure("saturation: ear, unattached", shares[-1], "", ratio=shares[-1], of=of, at_most=0.0)
    good = sum(share >= 0.5 for share in shares)
    of = "7 recordings, one of them unattached"
    report.figure("saturation: ear, recordings with ratios", good, "", ratio=good / 7, of=of, at_least=0.7)


def wrist(report: Report) -> None:
    """EmotiBit, sit, stand, sit at 94 to 99 %: whether the ratio stays where the saturation does."""
    columns: dict[str, list[str]] = {"PR": [], "PI": []}
    archive = next((DATA / "spo2/emotibit").glob("*.zip"))
    with zipfile.ZipFile(archive) as files, files.open("EmotiBit.csv") as raw:
        for line in io.TextIOWrapper(raw):
            fields = line.rstrip().split(",")
            if len(fields) > 6 and fields[3] in columns:
                columns[fields[3]] += fields[6:]
    red, infrared = (np.asarray(columns[key], dtype=np.float64) for key in ("PR", "PI"))
    found = ratio_of_ratios(red, infrared, rate_hz=25.0).ratio
    low, middle, high = np.nanpercentile(found, [5.0, 50.0, 95.0])
    of = f"its median {middle:.2f}, {100 * np.isfinite(found).mean():.0f} % of windows"
    report.figure(
        "saturation: EmotiBit, spread of R (5 to 95 %)",
        high - low,
        "",
        ratio=(high - low) / middle,
        of=of,
        at_most=0.4,
    )


def phone_camera(report: Report) -> None:
    """Three subjects at 60 to 100 %: red over blue of a camera, 30 s each, by the other two subjects' curve."""
    ratios, truth, names = [], [], []
    for subject in PHONE_SUBJECTS:
        table = np.genfromtxt(DATA / f"spo2/phonecam/gt_{subject}.csv.gz", delimiter=",", skip_header=1)
        readings = np.where(table[:, OXIMETERS] > 30.0, table[:, OXIMETERS], np.nan)
        for hand in ("Left", "Right"):
            path = DATA / f"spo2/phonecam/ppg_{hand}_{subject}.csv.gz"
            frames = np.genfromtxt(path, delimiter=",", skip_header=1)
            found = ratio_of_ratios(frames[:, 0], frames[:, 2], rate_hz=30.0)
            for start_s in range(0, min(len(table), len(frames) // 30) - PHONE_BANDS_S, PHONE_BANDS_S):
                inside = (found.intervals[:, 0] >= 30 * start_s) & (
                    found.intervals[:, 1] <= 30 * (start_s + PHONE_BANDS_S)
                )
                known = found.ratio[inside][np.isfinite(found.ratio[inside])]
                ratios.append(np.median(known) if 2 * known.size >= inside.sum() else np.nan)
                truth.append(np.nanmedian(readings[start_s : start_s + PHONE_BANDS_S]))
                names.append(subject)
    share = float(np.isfinite(ratios).mean())
    fit = fit_curve(ratios, truth, recording=names, device="phone camera")
    spread = float(np.nanstd(np.asarray(truth)[np.isfinite(ratios)]))
    arms = fit.cross_validated_arms_percent
    of = f"{spread:.1f} %, the spread of the truth; {100 * share:.0f} % of windows"
    report.figure("saturation: phone camera, Arms", arms, "%", ratio=arms / spread, of=of, at_most=2.0)


def speed(report: Report) -> None:
    rng = np.random.default_rng(1)
    time_s = np.arange(225_000) / 125.0
    wave = np.sin(2 * np.pi * 1.2 * time_s)
    red, infrared = (1e5 * np.exp(0.01 * k * wave) + rng.standard_normal(wave.size) for k in (0.6, 1.0))
    sections = signal.butter(2, [0.5, 8.0], "bandpass", fs=125.0, output="sos")
    limits_s, busy_s = [], []
    for _ in range(ROUNDS):  # in turns, so that a busy machine slows both
        limits_s.append(
            2 * time_of(lambda: signal.find_peaks(signal.sosfiltfilt(sections, infrared), distance=31))
        )
        busy_s.append(time_of(lambda: ratio_of_ratios(red, infrared, rate_hz=125.0)))
    of = "a filter pass with peak search over each light"
    name = "saturation: 30 min at 125 Hz"
    report.figure(name, 1000 * min(busy_s), "ms", ratio=min(busy_s) / min(limits_s), of=of, at_most=15.0)


def finger_recording(path: Path) -> tuple[Floats, Floats]:
    """Return red and infrared of a recording, the samples of lamps that still settle included."""
    lines = [line.split(",") for line in path.read_text().splitlines() if re.match(r"\d{13}", line)]
    rows = np.array([[float(fields[6]), float(fields[5])] for fields in lines])
    return rows[:, 0], rows[:, 1]


def time_of(run: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    run()
    return time.perf_counter() - start_s


if __name__ == "__main__":
    sys.exit(main())
