"""Pulses of photoplethysmograms: accuracy on real recordings, time against one filter pass, memory.

F1 counts heartbeats of the ECG against pulses, one to one within 150 ms after the median delay of the recording
was taken out; the first and the last second count neither way, as beats there have their pulses outside. The
peers, where installed, are NeuroKit2's `elgendi` and `charlton` (MSPTDfast 2) and HeartPy, on the same
recordings in the same run, their input turned upright by hand; ours decides polarity itself. NeuroKit2's
`bishop` (MSPTD) takes time and memory with the square of the length and is left out. Of the cup recordings the
first 30 s count, before the running starts. Recordings are looked for under LAB_SHARED.

    python benchmarks/pulses.py
"""

from __future__ import annotations

import gzip
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from costs import peak_bytes, shortest_in_turns_s, shortest_s
from numpy.typing import NDArray
from report import Report
from scipy import io, signal

from analysis import hrv
from analysis.detection import compare_beats
from analysis.heartbeats import detect_qrs
from analysis.perfusion import median_perfusion_index_percent
from analysis.pulse_transit import median_pulse_arrival_time_ms
from analysis.pulses import detect_pulses, detect_pulses_batch
from analysis.pulses_intervals import mean_pulse_rate_per_min, pulse_intervals_ms, pulse_rate_rmssd_ms
from analysis.pulses_stream import PulseStream

Floats = NDArray[np.float64]
Detector = Callable[[Floats, float], NDArray[np.int64]]

DATA = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data"
ROUNDS = 9
BATCH = 1000
BATCHES = 40  # the quickest of them counts, as a busy machine slows some
TIME_LIMIT = 1.5
MEMORY_LIMIT = 8.0
REST_S = 30.0
CUP = (1, 3, 5, 7, 9, 11)
DELAYS_S = np.arange(-0.1, 0.9, 0.05)
WINDOW_S = 0.15
PHONE_WINDOW_S = 30
PHONE_ERROR_BPM = 3.0


def main() -> int:
    report = Report()
    if not DATA.is_dir():
        report.skip("pulses", f"no recordings at {DATA}; set LAB_SHARED to the folder that holds data/")
        return report.exit_code
    accuracy(report)
    phone_camera(report)
    figures(report)
    speed_and_memory(report)
    return report.exit_code


def accuracy(report: Report) -> None:
    """Mean F1 of each set against the best peer on it, and all beats pooled against the best peer on them."""
    detectors = {"ours": ours_of, **peers()}
    sets = {"ICU bidmc": [bidmc()], "ICU a103l": [a103l()], "wrist at rest": list(cup())}
    pooled = dict.fromkeys(detectors, np.zeros(3))
    for name, recordings in sets.items():
        scores = {}
        for detector, detect in detectors.items():
            counts = np.array([agreement(*recording, detect) for recording in recordings], dtype=np.float64)
            scores[detector] = float(f1(counts).mean())
            pooled[detector] = pooled[detector] + counts.sum(axis=0)
        compared(report, f"pulses: F1 against ECG, {name}, {len(recordings)}", scores, at_least=0.99)
    compared(
        report,
        "pulses: F1 against ECG, all beats",
        {detector: float(f1(counts)) for detector, counts in pooled.items()},
        at_least=1.0,
    )


def compared(report: Report, name: str, scores: dict[str, float], *, at_least: float) -> None:
    ours = 100 * scores.pop("ours")
    if not scores:
        report.skip(name, f"{ours:.2f} %, but no peer to compare with")
        return
    best = max(scores.values())
    of = ", ".join(f"{detector} {100 * score:.2f}" for detector, score in scores.items())
    report.figure(name, ours, "%", ratio=ours / best / 100, of=of, at_least=at_least)


def phone_camera(report: Report) -> None:
    """Pulse rate of 30 s of camera light, whose counts fall in systole, against the ECG's heart rate."""
    good = total = 0
    for path in sorted((DATA / "spo2/phonecam").glob("ppg_*.csv.gz")):
        frames = np.genfromtxt(path, delimiter=",", skip_header=1)
        truth = np.genfromtxt(path.parent / f"gt_{path.name[-13:]}", delimiter=",", skip_header=1)[:, 41]
        pulses_s = detect_pulses(frames[:, 0], rate_hz=30.0) / 30.0
        for start_s in range(0, truth.size - PHONE_WINDOW_S, PHONE_WINDOW_S):
            inside_s = pulses_s[(pulses_s >= start_s) & (pulses_s < start_s + PHONE_WINDOW_S)]
            if inside_s.size > 1:
                rate = 60.0 * (inside_s.size - 1) / (inside_s[-1] - inside_s[0])
                error = rate - np.nanmean(truth[start_s : start_s + PHONE_WINDOW_S])
                good += abs(error) <= PHONE_ERROR_BPM
            total += 1
    report.figure(
        "pulses: phone camera, windows within 3 /min",
        100 * good / total,
        "%",
        ratio=good / total,
        of=f"{total} windows of {PHONE_WINDOW_S} s, red light",
        at_least=0.85,
    )


def figures(report: Report) -> None:
    pleth, rate_hz, ecg = bidmc()
    beats_ms = pulse_intervals_ms(detect_qrs(ecg, rate_hz=rate_hz) / rate_hz)
    heart_rate = 60_000.0 / float(np.nanmean(beats_ms))
    rate = mean_pulse_rate_per_min(pleth, rate_hz=rate_hz)
    of = f"{heart_rate:.2f}, the ECG's heart rate"
    report.figure("pulse_rate, bidmc", rate, "1/min", ratio=rate / heart_rate, of=of, at_least=0.99)
    arrival_ms = median_pulse_arrival_time_ms(ecg, pleth, rate_hz=rate_hz)
    of = "600 ms, the longest taken for plausible"
    report.figure("pulse_arrival_time, bidmc", arrival_ms, "ms", ratio=arrival_ms / 600.0, of=of, at_most=1.0)
    rmssd_ms = float(hrv.rmssd_ms(beats_ms))
    found_ms = pulse_rate_rmssd_ms(pleth, rate_hz=rate_hz)
    of = f"{rmssd_ms:.1f} ms, RMSSD of the ECG"
    report.figure("pulse_rate_rmssd, bidmc", found_ms, "ms", ratio=found_ms / rmssd_ms, of=of, at_most=1.5)
    red = np.genfromtxt(DATA / "spo2/phonecam/ppg_Left_100003.csv.gz", delimiter=",", skip_header=1)[:, 0]
    percent = median_perfusion_index_percent(red, rate_hz=30.0)
    of = "20 %, the range of bedside monitors"
    report.figure("perfusion_index, phone camera", percent, "%", ratio=percent / 20.0, of=of, at_most=1.0)


def speed_and_memory(report: Report) -> None:
    pleth = bidmc()[0]
    for rate_hz, lead in ((125.0, np.resize(pleth, 225_000)), (250.0, np.resize(np.repeat(pleth, 2), 450_000))):
        sections = signal.butter(2, [0.5, 8.0], "bandpass", fs=rate_hz, output="sos")  # 4th order

        def filter_pass(
            lead: Floats = lead, sections: Floats = sections, distance: int = int(rate_hz / 4)
        ) -> None:
            signal.find_peaks(signal.sosfiltfilt(sections, lead), distance=distance)

        def detection(lead: Floats = lead, rate_hz: float = rate_hz) -> None:
            detect_pulses(lead, rate_hz=rate_hz)

        times_s = shortest_in_turns_s({"pass": filter_pass, "detection": detection}, rounds=ROUNDS)
        report.figure(
            f"pulses: detection in 30 min at {rate_hz:g} Hz",
            1000 * times_s["detection"],
            "ms",
            ratio=times_s["detection"] / times_s["pass"],
            of="one filter pass with peak search",
            at_most=TIME_LIMIT,
        )
        peak = peak_bytes(detection)
        report.figure(
            f"pulses: peak memory, 30 min at {rate_hz:g} Hz",
            peak / 1e6,
            "MB",
            ratio=peak / lead.nbytes,
            of="the input",
            at_most=MEMORY_LIMIT,
        )
    half_hour = np.resize(pleth, 30 * 60 * 125)
    batch = np.broadcast_to(half_hour, (BATCH // BATCHES, half_hour.size))
    one_s = shortest_s(lambda: detect_pulses(half_hour, rate_hz=125.0), rounds=ROUNDS)
    batch_s = shortest_s(lambda: detect_pulses_batch(batch, rate_hz=125.0), rounds=BATCHES)
    each_s = batch_s / (BATCH // BATCHES)
    of = "that of a single one"
    report.figure(
        f"pulses: batch of {BATCH}, each", 1000 * each_s, "ms", ratio=each_s / one_s, of=of, at_most=1.5
    )
    stream = PulseStream(125.0)
    start_s = time.perf_counter()
    found = [stream.push(chunk) for chunk in np.split(pleth[:60_000], 1000)]  # about half a second each
    found.append(stream.flush())
    busy_s = time.perf_counter() - start_s
    same = np.array_equal(np.concatenate(found), detect_pulses(pleth[:60_000], rate_hz=125.0))
    report.figure("pulses: stream equals batch", float(same), "", ratio=float(same), of="1", at_least=1.0)
    of = "the time it takes to record"
    report.figure("pulses: stream of 480 s", 1000 * busy_s, "ms", ratio=busy_s / 480.0, of=of, at_most=0.01)


def agreement(ppg: Floats, rate_hz: float, ecg: Floats, detect: Detector) -> tuple[int, int, int]:
    """Return heartbeats with a pulse, without one, and pulses without a heartbeat, after the median delay."""
    beats, pulses = detect_qrs(ecg, rate_hz=rate_hz), detect(ppg, rate_hz)

    def moved(delay: int) -> NDArray[np.int64]:
        return beats[(beats + delay >= 0) & (beats + delay < ppg.size)] + delay

    def whole(delay: int):  # type: ignore[no-untyped-def]
        return compare_beats(moved(delay), pulses, rate_hz=rate_hz, learning_s=0.0)

    rough = max((int(delay_s * rate_hz) for delay_s in DELAYS_S), key=lambda delay: whole(delay).true_positives)
    expected = moved(rough + round(whole(rough).median_offset_s * rate_hz))
    missed, invented = (
        sum(
            rate_hz <= mark < ppg.size - rate_hz
            and (others.size == 0 or np.abs(others - mark).min() > WINDOW_S * rate_hz)
            for mark in marks
        )
        for marks, others in ((expected, pulses), (pulses, expected))
    )
    inside = int(((expected >= rate_hz) & (expected < ppg.size - rate_hz)).sum())
    return inside - missed, missed, invented


def f1(counts: Floats) -> Floats:
    matched, missed, invented = np.moveaxis(counts, -1, 0)
    return np.asarray(2 * matched / (2 * matched + missed + invented))


def ours_of(ppg: Floats, rate_hz: float) -> NDArray[np.int64]:
    return detect_pulses(ppg, rate_hz=rate_hz)


def peers() -> dict[str, Detector]:
    """Return the peers that are installed."""
    found: dict[str, Detector] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import neurokit2
        except ImportError:
            pass
        else:
            for method in ("elgendi", "charlton"):
                found[method] = partial(by_neurokit, neurokit2, method)
        try:
            import heartpy
        except ImportError:
            pass
        else:
            found["heartpy"] = partial(by_heartpy, heartpy)
    return found


def by_neurokit(neurokit2: Any, method: str, ppg: Floats, rate_hz: float) -> NDArray[np.int64]:
    clean = neurokit2.ppg_clean(ppg, sampling_rate=int(rate_hz))
    peaks = neurokit2.ppg_findpeaks(clean, sampling_rate=int(rate_hz), method=method)["PPG_Peaks"]
    return np.asarray(peaks, dtype=np.int64)


def by_heartpy(heartpy: Any, ppg: Floats, rate_hz: float) -> NDArray[np.int64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clean = heartpy.filter_signal(ppg, [0.7, 3.5], rate_hz, order=2, filtertype="bandpass")
        working, _ = heartpy.process(clean, rate_hz)
    kept = np.asarray(working["binary_peaklist"], dtype=bool)
    return np.asarray(working["peaklist"], dtype=np.int64)[kept]


def bidmc() -> tuple[Floats, float, Floats]:
    with gzip.open(DATA / "resp/bidmc/bidmc_01_Signals.csv.gz", "rt") as file:
        names = [name.strip() for name in file.readline().split(",")]
        rows = np.loadtxt(file, delimiter=",", usecols=(names.index("PLETH"), names.index("II")))
    return rows[:, 0], 125.0, rows[:, 1]


def a103l() -> tuple[Floats, float, Floats]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import wfdb

        record = wfdb.rdrecord(str(DATA / "icu/a103l"))
    return record.p_signal[:, 2], float(record.fs), record.p_signal[:, 0]


def cup() -> Iterator[tuple[Floats, float, Floats]]:
    n_samples = int(REST_S * 125.0)
    for subject in CUP:
        (path,) = (DATA / "ppg/spc2015").glob(f"DATA_{subject:02d}_TYPE0?.mat")
        channels = np.asarray(io.loadmat(path)["sig"], dtype=np.float64)[:, :n_samples]
        for channel in (1, 2):
            yield channels[channel], 125.0, channels[0]


if __name__ == "__main__":
    sys.exit(main())
