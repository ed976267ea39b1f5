"""QRS detection: time against one filter pass in the same run, and accuracy on real records.

Prints one line for each figure: `name value unit (limit)`. Records are looked for under LAB_SHARED.
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
from scipy import signal

from analysis.detection import average, compare_beats, gross, read_annotations
from analysis.heartbeats import detect_qrs

RATE_HZ = 360.0
PACED = {"102", "104", "107", "217"}
ROUNDS = 15


def main() -> int:
    records = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data/ecg/mitdb"
    paths = [path for path in sorted(records.glob("*.hea")) if path.stem not in PACED]
    if not paths:
        print(f"qrs: no records at {records}; set LAB_SHARED", file=sys.stderr)
        return 1
    leads, comparisons = [], []
    for path in paths:
        lead, samples, symbols = read(path)
        leads.append(lead)
        reference = read_annotations(samples, symbols)
        beats = detect_qrs(lead, rate_hz=RATE_HZ)
        comparisons.append(compare_beats(reference.samples, beats, rate_hz=RATE_HZ, flutter=reference.flutter))
    pooled, mean = gross(comparisons), average(comparisons)
    print(f"qrs records {len(paths)} (MIT-BIH, unpaced, first lead, after 5 min, 150 ms inclusive)")
    print(f"qrs sensitivity gross {pooled.sensitivity_percent:.2f} % (best peer here 99.90)")
    print(
        f"qrs positive predictivity gross {pooled.positive_predictivity_percent:.2f} % (best peer here 99.80)"
    )
    print(f"qrs sensitivity average {mean.sensitivity_percent:.2f} %")
    print(f"qrs +P average {mean.positive_predictivity_percent:.2f} %")
    offsets_ms = [1000 * comparison.median_offset_s for comparison in comparisons]
    jitters_ms = [1000 * comparison.jitter_s for comparison in comparisons]
    print(f"qrs offset {statistics.median(offsets_ms):.1f} ms (median of records)")
    print(f"qrs jitter {statistics.median(jitters_ms):.1f} ms (median of records)")
    ratios, detection_ms = zip(*(time_ratio(lead) for lead in leads), strict=True)
    print(f"qrs time {statistics.median(detection_ms):.1f} ms for 30 min at 360 Hz")
    print(f"qrs time / filter pass {statistics.median(ratios):.2f} (limit 1.5)")
    return 0


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
