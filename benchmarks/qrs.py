"""QRS detection: time against one filter pass in the same run, and accuracy on real records.

Gross sensitivity and positive predictivity on the unpaced MIT-BIH records (first lead, after 5 min, 150 ms
inclusive), over the best that public detectors reached on them, known from before and not measured here. Offset
and jitter are medians over records, against the 150 ms window. Records are looked for under LAB_SHARED.

    python benchmarks/qrs.py
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from report import Report
from scipy import signal

from analysis.detection import compare_beats, gross, read_annotations
from analysis.heartbeats import detect_qrs

RATE_HZ = 360.0
PACED = {"102", "104", "107", "217"}
ROUNDS = 15
BEST_SENSITIVITY_PERCENT = 99.90
BEST_PREDICTIVITY_PERCENT = 99.80
ACCURACY_LIMIT = 0.999
WINDOW_S = 0.150
WINDOW_LIMIT = 0.1
TIME_LIMIT = 1.5


def main() -> int:
    records = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data/ecg/mitdb"
    paths = [path for path in sorted(records.glob("*.hea")) if path.stem not in PACED]
    report = Report()
    if not paths:
        report.skip("qrs", f"no records at {records}; set LAB_SHARED to the folder that holds data/ecg/mitdb")
        return report.exit_code
    leads, comparisons = [], []
    for path in paths:
        lead, samples, symbols = read(path)
        leads.append(lead)
        reference = read_annotations(samples, symbols)
        beats = detect_qrs(lead, rate_hz=RATE_HZ)
        comparisons.append(compare_beats(reference.samples, beats, rate_hz=RATE_HZ, flutter=reference.flutter))
    pooled = gross(comparisons)
    for name, percent, best_percent in (
        ("sensitivity", pooled.sensitivity_percent, BEST_SENSITIVITY_PERCENT),
        ("positive predictivity", pooled.positive_predictivity_percent, BEST_PREDICTIVITY_PERCENT),
    ):
        report.figure(
            f"qrs: {name}, {len(paths)} records",
            percent,
            "%",
            ratio=percent / best_percent,
            of=f"{best_percent:.2f}, the best peer's",
            at_least=ACCURACY_LIMIT,
        )
    for name, times_s in (
        ("offset", [abs(comparison.median_offset_s) for comparison in comparisons]),
        ("jitter", [comparison.jitter_s for comparison in comparisons]),
    ):
        value_s = statistics.median(times_s)
        report.figure(
            f"qrs: {name}",
            1e3 * value_s,
            "ms",
            ratio=value_s / WINDOW_S,
            of=f"the window of {1e3 * WINDOW_S:g}",
            at_most=WINDOW_LIMIT,
        )
    ratios, detection_ms = zip(*(time_ratio(lead) for lead in leads), strict=True)
    report.figure(
        "qrs: detection in 30 min at 360 Hz",
        statistics.median(detection_ms),
        "ms",
        ratio=statistics.median(ratios),
        of="one filter pass with peak search",
        at_most=TIME_LIMIT,
    )
    return report.exit_code


def read(path: Path) -> tuple[NDArray[np.int16], NDArray[np.int64], list[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 uses a pandas argument that pandas 3 deprecates
        import wfdb

        record = str(path.with_suffix(""))
        annotation = wfdb.rdann(record, "atr")
        lead = wfdb.rdrecord(record, physical=False, channels=[0]).d_signal[:, 0]
    return lead.astype(np.int16), annotation.sample, annotation.symbol


def time_ratio(lead: NDArray[np.int16]) -> tuple[float, float]:
    """Return detection time over that of one filter pass with peak search, and detection time in ms."""
    ecg = lead.astype(np.float64)
    sections = signal.butter(2, [5.0, 15.0], "bandpass", fs=RATE_HZ, output="sos")  # 4th order

    def filter_pass() -> None:
        signal.find_peaks(signal.sosfiltfilt(sections, ecg), distance=int(0.2 * RATE_HZ))

    filtering_s = shortest_s(filter_pass)
    detecting_s = shortest_s(lambda: detect_qrs(ecg, rate_hz=RATE_HZ))
    return detecting_s / filtering_s, 1000 * detecting_s


def shortest_s(run: Callable[[], object]) -> float:
    times_s = []
    for _ in range(ROUNDS):
        start_s = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - start_s)
    return min(times_s)


if __name__ == "__main__":
    sys.exit(main())
