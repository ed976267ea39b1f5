"""QRS detection against its peers: accuracy on real records, time, memory; and the comparison of beats itself.

All detectors run here, on the same leads, and are compared by EC57: gross sensitivity and positive predictivity
on the unpaced MIT-BIH records at hand (first and second lead, after 5 min, 150 ms inclusive), and on the
noise-stress excerpts of record 118 (from the first sample). "The best peer" is the best of each column, so two
different peers as a rule; a peer that fails on a record is judged by the others. WFDB's xqrs, BioSPPy and
py-ecg-detectors take seconds a record and see every second record and, like gqrs, the first lead only. A ratio
is over the records that a peer saw; printed is the one with the peer that leaves the least of it. Times are
processor times, the shortest of several interleaved runs. Records are looked for under LAB_SHARED.

    python benchmarks/qrs.py
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from costs import peak_bytes, shortest_in_turns_s
from numpy.typing import NDArray
from report import Report
from scipy import signal

from analysis.detection import BeatComparison, ReferenceBeats, compare_beats, gross, read_annotations
from analysis.heartbeats import detect_qrs, detect_qrs_batch
from analysis.heartbeats_multilead import detect_qrs_multilead

RATE_HZ = 360.0
ADU_PER_MV = 200.0
PACED = {"102", "104", "107", "217"}
ROUNDS = 7
ACCURACY_LIMIT = 0.9995
SECOND_LEAD_LIMIT = 0.98
NOISE_LIMIT = 0.9
WINDOW_S = 0.150
WINDOW_LIMIT = 0.1
TIME_LIMIT = 1.5
MEMORY_LIMIT = 8.0
FASTER_LIMIT = 10.0

Detector = Callable[[NDArray[Any]], NDArray[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class Lead:
    """One lead of a record, in ADU, and its beats."""

    record: str
    ecg: NDArray[Any]
    reference: ReferenceBeats
    learning_s: float

    def compare(self, beats: NDArray[np.int64]) -> BeatComparison:
        """Return how detected beats compare with its own."""
        return compare_beats(
            self.reference.samples,
            beats,
            rate_hz=RATE_HZ,
            learning_s=self.learning_s,
            flutter=self.reference.flutter,
        )


def main() -> int:
    warnings.simplefilter("ignore")  # of the peers, about each other and pandas 3
    folder = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data/ecg"
    paths = [path for path in sorted((folder / "mitdb").glob("*.hea")) if path.stem not in PACED]
    report = Report()
    if not paths:
        report.skip("qrs", f"no records at {folder}; set LAB_SHARED to the folder that holds data/ecg")
        return report.exit_code
    first, second = zip(*(read(path) for path in paths), strict=True)
    fast, slow = fast_peers(), slow_peers()
    half = {name: detect for name, detect in slow.items() if name != "wfdb gqrs"}
    report_accuracy(report, "", list(first), fast | slow, half, ACCURACY_LIMIT)
    report_accuracy(report, "second lead, ", list(second), fast, {}, SECOND_LEAD_LIMIT)
    excerpts = [read_excerpt(path) for path in sorted((folder / "nstdb_heartpy").glob("118e??.csv"))]
    if excerpts:
        report_accuracy(report, "noise stress, ", excerpts, fast | slow, {}, NOISE_LIMIT)
    else:
        report.skip("qrs: noise stress", f"no excerpts at {folder}")
    report_marks(report, [lead.compare(detect_qrs(lead.ecg, rate_hz=RATE_HZ)) for lead in first])
    report_times(report, [lead.ecg for lead in first], fast)
    report_memory(report, first[0].ecg)
    report_day(report, np.stack([first[0].ecg, second[0].ecg]))
    report_comparison(report, list(first))
    return report.exit_code


def read(path: Path) -> tuple[Lead, Lead]:
    import wfdb

    record = str(path.with_suffix(""))
    annotation = wfdb.rdann(record, "atr")
    reference = read_annotations(annotation.sample, annotation.symbol)
    leads = wfdb.rdrecord(record, physical=False).d_signal.T.astype(np.int16)
    first, second = (Lead(path.stem, np.ascontiguousarray(lead), reference, 300.0) for lead in leads)
    return first, second


def read_excerpt(path: Path) -> Lead:
    """Return a noise-stress excerpt; its beats are those of the clean record."""
    beats = np.loadtxt(path.with_name(f"{path.stem}_ann.csv")).astype(int)
    return Lead(path.stem, ADU_PER_MV * np.loadtxt(path), read_annotations(beats, ["N"] * beats.size), 0.0)


def fast_peers() -> dict[str, Detector]:
    import neurokit2
    import sleepecg

    def cleaned(ecg: NDArray[Any]) -> NDArray[np.int64]:
        return neurokit(neurokit2.ecg_clean(ecg / ADU_PER_MV, sampling_rate=int(RATE_HZ)), "neurokit")

    def neurokit(ecg: NDArray[Any], method: str) -> NDArray[np.int64]:
        found = neurokit2.ecg_peaks(ecg, sampling_rate=int(RATE_HZ), method=method)[1]["ECG_R_Peaks"]
        return np.asarray(found).astype(np.int64)

    return {
        "sleepecg": lambda ecg: sleepecg.detect_heartbeats(ecg.astype(float), RATE_HZ),
        "neurokit2 default": cleaned,
        "neurokit2 manikandan2012": lambda ecg: neurokit(ecg / ADU_PER_MV, "manikandan2012"),
    }


def slow_peers() -> dict[str, Detector]:
    from ecgdetectors import Detectors
    from wfdb import processing

    def xqrs(ecg: NDArray[Any]) -> NDArray[np.int64]:
        detector = processing.XQRS(sig=ecg / ADU_PER_MV, fs=RATE_HZ)
        detector.detect(verbose=False)
        return np.asarray(detector.qrs_inds)

    detectors = Detectors(RATE_HZ)
    peers: dict[str, Detector] = {
        "wfdb gqrs": lambda ecg: processing.gqrs_detect(sig=ecg / ADU_PER_MV, fs=RATE_HZ),
        "wfdb xqrs": xqrs,
        "py-ecg-detectors pan_tompkins": lambda ecg: np.array(detectors.pan_tompkins_detector(ecg)),
        "py-ecg-detectors hamilton": lambda ecg: np.array(detectors.hamilton_detector(ecg)),
    }
    try:
        from biosppy.signals import ecg as biosppy_ecg
        from biosppy.signals import tools
    except ImportError as error:  # biosppy imports peakutils without asking for it
        print(f"biosppy left out: {error}")
        return peers

    def biosppy(ecg: NDArray[Any]) -> NDArray[np.int64]:
        order = int(0.3 * RATE_HZ)
        filtered = tools.filter_signal(
            signal=ecg.astype(float),
            ftype="FIR",
            band="bandpass",
            order=order + 1 - order % 2,
            frequency=[3, 45],
            sampling_rate=RATE_HZ,
        )["signal"]
        return np.asarray(biosppy_ecg.hamilton_segmenter(signal=filtered, sampling_rate=RATE_HZ)["rpeaks"])

    return peers | {"biosppy hamilton": biosppy}


def report_accuracy(
    report: Report,
    what: str,
    leads: list[Lead],
    peers: dict[str, Detector],
    half: dict[str, Detector],
    limit: float,
) -> None:
    """Report both columns against the best peer's; those of `half` see every second lead."""
    own = {lead.record: lead.compare(detect_qrs(lead.ecg, rate_hz=RATE_HZ)) for lead in leads}
    score = gross(list(own.values()))
    best: dict[str, tuple[float, str]] = {}
    for name, detect in peers.items():
        theirs = compared(detect, leads[::2] if name in half else leads)
        peer, same = gross(list(theirs.values())), gross([own[record] for record in theirs])
        print(
            f"    {what}{name}, {len(theirs)} leads: {peer.sensitivity_percent:.2f} / "
            f"{peer.positive_predictivity_percent:.2f}; here {same.sensitivity_percent:.2f} / "
            f"{same.positive_predictivity_percent:.2f}"
        )
        for column in ("sensitivity_percent", "positive_predictivity_percent"):
            ratio = getattr(same, column) / getattr(peer, column)
            best[column] = min(best.get(column, (np.inf, "")), (ratio, f"{getattr(peer, column):.2f}, {name}"))
    for column, value in (
        ("sensitivity_percent", score.sensitivity_percent),
        ("positive_predictivity_percent", score.positive_predictivity_percent),
    ):
        ratio, of = best[column]
        name = column.removesuffix("_percent").replace("_", " ")
        report.figure(f"qrs: {what}{name}", value, "%", ratio=ratio, of=of, at_least=limit)


def compared(detect: Detector, leads: list[Lead]) -> dict[str, BeatComparison]:
    """Return what a peer found in the leads on which it does not fail."""
    found = {}
    for lead in leads:
        try:
            beats = np.unique(np.asarray(detect(lead.ecg)).astype(np.int64))
        except Exception:  # noqa: BLE001, S112 - whatever a peer raises, it has no answer for this lead
            continue
        found[lead.record] = lead.compare(beats)
    return found


def report_marks(report: Report, comparisons: list[BeatComparison]) -> None:
    for name, times_s in (
        ("offset", [abs(comparison.median_offset_s) for comparison in comparisons]),
        ("jitter", [comparison.jitter_s for comparison in comparisons]),
    ):
        value_s = statistics.median(times_s)
        report.figure(
            f"qrs: {name}, median of records",
            1e3 * value_s,
            "ms",
            ratio=value_s / WINDOW_S,
            of=f"the window of {1e3 * WINDOW_S:g}",
            at_most=WINDOW_LIMIT,
        )


def report_times(report: Report, leads: list[NDArray[np.int16]], peers: dict[str, Detector]) -> None:
    """Report detection, alone and in a batch, and the fast peers, over one filter pass with peak search."""
    times_s: dict[str, list[float]] = {}
    for lead in leads[:8]:
        ecg = lead.astype(float)
        runs: dict[str, Callable[[], object]] = {
            "pass": lambda ecg=ecg: filter_pass(ecg),  # type: ignore[misc]
            "here": lambda ecg=ecg: detect_qrs(ecg, rate_hz=RATE_HZ),  # type: ignore[misc]
            "sleepecg": lambda ecg=ecg: peers["sleepecg"](ecg),  # type: ignore[misc]
        }
        for name, shortest in shortest_in_turns_s(runs, rounds=ROUNDS).items():
            times_s.setdefault(name, []).append(shortest)
    of, limit = "one filter pass with peak search", TIME_LIMIT
    pass_s = sum(times_s["pass"])
    here_s = sum(times_s["here"])
    n = len(times_s["here"])
    report.figure("qrs: 30 min at 360 Hz", 1e3 * here_s / n, "ms", ratio=here_s / pass_s, of=of, at_most=limit)
    report.figure(
        "qrs: 30 min, against sleepecg's C",
        1e3 * times_s["sleepecg"][0],
        "ms",
        ratio=here_s / sum(times_s["sleepecg"]),
        of="sleepecg",
        at_most=limit,
    )
    short = np.stack(
        [lead[k * 64_800 :][:64_800] for lead in leads for k in range(10)] * 5
    )  # 1,000 leads of 3 min
    batch = shortest_in_turns_s(
        {
            "pass": lambda: [filter_pass(lead.astype(float)) for lead in short[:200]],
            "here": lambda: detect_qrs_batch(short, rate_hz=RATE_HZ),
        },
        rounds=2,
    )
    report.figure(
        f"qrs: batch of {len(short):,}, 3 min each, per lead",
        1e3 * batch["here"] / len(short),
        "ms",
        ratio=batch["here"] / len(short) / (batch["pass"] / 200),
        of=of,
        at_most=limit,
    )


def report_memory(report: Report, lead: NDArray[np.int16]) -> None:
    for dtype in (np.float64, np.int16):
        ecg = lead.astype(dtype)
        peak = peak_bytes(lambda ecg=ecg: detect_qrs(ecg, rate_hz=RATE_HZ))  # type: ignore[misc]
        report.figure(
            f"qrs: peak memory, 30 min of {np.dtype(dtype).name}",
            peak / 1e6,
            "MB",
            ratio=peak / ecg.nbytes,
            of="the input",
            at_most=MEMORY_LIMIT,
        )


def report_day(report: Report, leads: NDArray[np.int16]) -> None:
    """Report 24 h of 8 leads at 500 Hz: memory, and time against its share of filter passes."""
    n = 24 * 3600 * 500
    day = np.empty((8, n), dtype=np.int16)
    for k in range(0, n, leads.shape[1]):
        part = leads[:, : min(leads.shape[1], n - k)]
        day[:, k : k + part.shape[1]] = np.tile(part, (4, 1))
    start_s = time.process_time()
    peak = peak_bytes(lambda: detect_qrs_multilead(day, rate_hz=500.0))
    report.figure(
        f"qrs: peak memory, 24 h x 8 x 500 Hz, {time.process_time() - start_s:.0f} s",
        peak / 1e6,
        "MB",
        ratio=peak / day.nbytes,
        of=f"the input of {day.nbytes / 1e6:.0f} MB",
        at_most=0.05,
    )


def report_comparison(report: Report, leads: list[Lead]) -> None:
    """Report EC57 over 48 half-hour records against wfdb's comparison of the same beats."""
    from wfdb import processing

    pairs = [(lead.reference.samples, detect_qrs(lead.ecg, rate_hz=RATE_HZ)) for lead in leads]
    pairs = [pairs[k % len(pairs)] for k in range(48)]
    window = int(WINDOW_S * RATE_HZ)
    times_s = shortest_in_turns_s(
        {
            "here": lambda: [compare_beats(reference, test, rate_hz=RATE_HZ) for reference, test in pairs],
            "wfdb": lambda: [
                processing.compare_annotations(reference, test, window) for reference, test in pairs
            ],
        },
        rounds=2,
    )
    report.figure(
        "qrs: EC57 over 48 half-hour records",
        1e3 * times_s["here"],
        "ms",
        ratio=times_s["wfdb"] / times_s["here"],
        of="wfdb's compare_annotations, times faster",
        at_least=FASTER_LIMIT,
    )


def filter_pass(ecg: NDArray[np.float64]) -> None:
    sections = signal.butter(2, [5.0, 15.0], "bandpass", fs=RATE_HZ, output="sos")  # 4th order
    signal.find_peaks(signal.sosfiltfilt(sections, ecg), distance=int(0.2 * RATE_HZ))


if __name__ == "__main__":
    sys.exit(main())
