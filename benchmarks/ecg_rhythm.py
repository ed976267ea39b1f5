"""ECG rhythm: classes of beats under EC57, atrial and ventricular fibrillation, speed and memory.

The unpaced records 100 to 124 of the MIT-BIH arrhythmia database (20 half hours), looked for under LAB_SHARED,
with their first five minutes left out; beats are those that `detect_qrs` finds, so a missed one counts. None of
these records has fibrillation of either kind: what is reported is false. Synthetic fibrillation of known place
stands for the other half.

    python benchmarks/ecg_rhythm.py
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np
from costs import peak_bytes, shortest_in_turns_s
from numpy.typing import NDArray
from report import Report
from scipy import signal

from analysis.beat_classes import classify_beats
from analysis.detection import ReferenceBeats, read_annotations
from analysis.detection_classes import compare_classes, gross_classes
from analysis.detection_episodes import compare_episodes, gross_episodes
from analysis.ecg_rhythm import ecg_rhythm
from analysis.heartbeats import detect_qrs
from analysis.intervals import total_length
from analysis.ventricular_fibrillation import ventricular_fibrillation_episodes

RECORDS = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data/ecg/mitdb"
UNPACED = (100, 101, 103, 105, 106, 108, 109, *range(111, 120), 121, 122, 123, 124)
RATE_HZ = 360.0
MEMORY_LIMIT = 8.0
ROUNDS = 3
LEAST_PERCENT = {"V": (95.0, 95.0), "S": (60.0, 60.0)}
"""Sensitivity and positive predictivity that a defect would fall below; no claim against another method."""


def main() -> int:
    report = Report()
    if RECORDS.is_dir():
        records = [read(record) for record in UNPACED]
        classes(report, records)
        false_fibrillation(report, records)
        speed(report, records[0][0][0])
    else:
        report.skip("rhythm: records", f"none at {RECORDS}; set LAB_SHARED to the folder of data/ecg/mitdb")
    synthetic_fibrillation(report)
    memory(report)
    return report.exit_code


def read(record: int) -> tuple[NDArray[np.int16], ReferenceBeats]:
    """Return both leads of a record and its beats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 uses a pandas argument that pandas 3 deprecates
        import wfdb

        leads = wfdb.rdrecord(str(RECORDS / str(record)), physical=False).d_signal.T.astype(np.int16)
        annotation = wfdb.rdann(str(RECORDS / str(record)), "atr")
    return leads, read_annotations(annotation.sample, annotation.symbol)


def classes(report: Report, records: list[tuple[NDArray[np.int16], ReferenceBeats]]) -> None:
    for name, chosen in (("first lead", slice(0, 1)), ("both leads", slice(0, 2))):
        compared = []
        for leads, reference in records:
            beats = detect_qrs(leads[0], rate_hz=RATE_HZ)
            found = classify_beats(leads[chosen], beats, rate_hz=RATE_HZ)
            compared.append(
                compare_classes(reference.samples, reference.classes, beats, found, rate_hz=RATE_HZ)
            )
        gross = gross_classes(compared)
        for letter, score in (("V", gross.veb), ("S", gross.sveb)):
            n = gross.count(letter, "NSVFQOX")
            for figure, percent, least in zip(
                ("sensitivity", "positive predictivity"),
                (score.sensitivity_percent, score.positive_predictivity_percent),
                LEAST_PERCENT[letter],
                strict=True,
            ):
                report.figure(
                    f"rhythm: {letter} {figure}, {name}",
                    percent,
                    "%",
                    ratio=percent / 100.0,
                    of=f"1, {n} beats of {gross.count('NSVFQ', 'NSVFQOX'):,}, gross",
                    at_least=least / 100.0,
                )
        falsely_fused = gross.count("NSV", "F")
        report.figure(
            f"rhythm: F of {gross.count('F', 'NSVFQOX')} found, {name}",
            gross.count("F", "F"),
            "beats",
            ratio=falsely_fused / gross.count("NSV", "NSVFQ"),
            of="all others called F",
            at_most=0.01,
        )


def false_fibrillation(report: Report, records: list[tuple[NDArray[np.int16], ReferenceBeats]]) -> None:
    atrial_s = ventricular_s = undetermined_s = all_s = 0.0
    for leads, _ in records:
        found = ecg_rhythm(leads[0], rate_hz=RATE_HZ)
        all_s += found.n_samples / RATE_HZ
        atrial_s += total_length(found.atrial_fibrillation) / RATE_HZ
        ventricular_s += total_length(found.ventricular_fibrillation) / RATE_HZ
        undetermined_s += total_length(found.undetermined) / RATE_HZ
    for name, seconds, limit in (
        ("false atrial fibrillation", atrial_s, 0.01),
        ("false ventricular fibrillation", ventricular_s, 0.001),
        ("undetermined", undetermined_s, 0.05),
    ):
        report.figure(
            f"rhythm: {name}", seconds, "s", ratio=seconds / all_s, of=f"{all_s:,.0f} s", at_most=limit
        )


def synthetic_fibrillation(report: Report) -> None:
    """Fibrillation of 60 s in narrow noise, in sinus rhythm, at falling ratios of its power to white noise."""
    rng = np.random.default_rng(20261130)
    rate_hz, n_records = 250.0, 20
    band = signal.butter(2, (3.5, 7.0), "bandpass", fs=rate_hz, output="sos")
    for snr_db in (20.0, 10.0, 5.0):
        compared = []
        for _ in range(n_records):
            n = int(240 * rate_hz)
            ecg = sinus_uv(n, rate_hz, rng)
            start, end = int(90 * rate_hz), int(150 * rate_hz)
            wave = signal.sosfiltfilt(band, rng.standard_normal(end - start))
            ecg[start:end] = 300.0 * wave / wave.std()
            ecg += 300.0 * 10 ** (-snr_db / 20) * rng.standard_normal(n)
            found = ventricular_fibrillation_episodes(ecg, rate_hz=rate_hz)
            compared.append(
                compare_episodes([[start, end]], found.episodes, rate_hz=rate_hz, n_samples=n, learning_s=0.0)
            )
        gross = gross_episodes(compared)
        for name, percent in (
            ("duration sensitivity", gross.duration_sensitivity_percent),
            ("duration predictivity", gross.duration_positive_predictivity_percent),
        ):
            report.figure(
                f"rhythm: synthetic VF at {snr_db:.0f} dB, {name}",
                percent,
                "%",
                ratio=percent / 100.0,
                of=f"1, {n_records} episodes of 60 s",
                at_least=0.9 if snr_db > 5.0 else 0.0,
            )


def sinus_uv(n: int, rate_hz: float, rng: np.random.Generator) -> NDArray[np.float64]:
    times_s = np.arange(n) / rate_hz
    beats_s = np.cumsum(0.8 * (1.0 + 0.03 * rng.standard_normal(int(n / rate_hz / 0.7))))
    since_s = times_s - beats_s[np.clip(np.searchsorted(beats_s, times_s + 0.3) - 1, 0, beats_s.size - 1)]
    waves = ((110.0, -0.16, 0.022), (1100.0, 0.0, 0.011), (-220.0, 0.034, 0.010), (280.0, 0.28, 0.045))
    ecg = sum(height * np.exp(-0.5 * ((since_s - at_s) / sd_s) ** 2) for height, at_s, sd_s in waves)
    return np.asarray(ecg, dtype=np.float64)


def speed(report: Report, lead: NDArray[np.int16]) -> None:
    beats = detect_qrs(lead, rate_hz=RATE_HZ)
    sections = signal.butter(2, [5.0, 15.0], "bandpass", fs=RATE_HZ, output="sos")

    def filter_pass() -> None:
        signal.find_peaks(signal.sosfiltfilt(sections, lead), distance=72)

    for name, limit, run in (
        ("classes of beats", 30.0, lambda: classify_beats(lead, beats, rate_hz=RATE_HZ)),
        ("ventricular fibrillation", 15.0, lambda: ventricular_fibrillation_episodes(lead, rate_hz=RATE_HZ)),
        ("all of `ecg_rhythm`", 80.0, lambda: ecg_rhythm(lead, rate_hz=RATE_HZ)),
    ):
        times_s = shortest_in_turns_s({"here": run, "pass": filter_pass}, rounds=ROUNDS)
        report.figure(
            f"rhythm: {name}, 30 min",
            1e3 * times_s["here"],
            "ms",
            ratio=times_s["here"] / times_s["pass"],
            of="one filter pass with peak search",
            at_most=limit,
        )


def memory(report: Report) -> None:
    rng = np.random.default_rng(1)
    lead = np.tile(sinus_uv(int(600 * 250.0), 250.0, rng) + rng.standard_normal(int(600 * 250.0)), 24)
    beats = detect_qrs(lead, rate_hz=250.0)
    for kind in (np.float64, np.int16):
        samples = lead.astype(kind)
        for name, run in (
            ("classes", lambda x: classify_beats(x, beats, rate_hz=250.0)),
            ("VF", lambda x: ventricular_fibrillation_episodes(x, rate_hz=250.0)),
            ("`ecg_rhythm`", lambda x: ecg_rhythm(x, beats, rate_hz=250.0)),
        ):
            peak = peak_bytes(lambda run=run, samples=samples: run(samples))  # type: ignore[misc]
            report.figure(
                f"rhythm: peak memory of {name}, 4 h of {kind.__name__}",
                peak / 1e6,
                "MB",
                ratio=peak / samples.nbytes,
                of="the input",
                at_most=MEMORY_LIMIT
                * (1.0 if kind is np.float64 or name == "VF" else 2.0),  # beats are float64
            )


if __name__ == "__main__":
    sys.exit(main())
