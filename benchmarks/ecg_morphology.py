"""ECG morphology, filters and quality: accuracy on waves of known bounds, speed against a peer, memory.

Bounds of synthetic waves of finite length at 10 uV of white noise and 150 uV of wander: standard deviations
against the tolerances of CSE 1985 as Martinez 2004 lists them. Time against NeuroKit2's wavelet delineation of
the same two minutes, and against one filter pass. QRS duration of records against the limit that their labels
(bundle branch block or normal) stand for; quality on noise-stress and running recordings, all of them looked
for under LAB_SHARED.

    python benchmarks/ecg_morphology.py
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np
from costs import peak_bytes, shortest_s
from numpy.typing import NDArray
from report import Report
from scipy import io, signal

from analysis.ecg_morphology import delineate, median_qrs_ms
from analysis.filters import StreamingFilter, band_pass
from analysis.heart_rate import heart_rate_per_min
from analysis.heartbeats import detect_qrs
from analysis.quality import ecg_quality, ppg_quality

DATA = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data"
WAVES = (
    (-0.165, 0.045, 0.12),
    (-0.034, 0.016, -0.1),
    (0.0, 0.022, 1.1),
    (0.032, 0.016, -0.2),
    (0.29, 0.1, 0.3),
)
"""Centre after R in s, half width in s, height in mV, of waves (1 + cos) / 2 high."""
CSE_MS = {"p_onset": 10.2, "p_offset": 12.7, "qrs_onset": 6.5, "qrs_offset": 11.6, "t_end": 30.6}
TRUTH_S = {"p_onset": -0.21, "p_offset": -0.12, "qrs_onset": -0.05, "qrs_offset": 0.048, "t_end": 0.39}
BLOCKED, NORMAL = (109, 111, 118), (100, 101, 103, 113, 115)
"""Records whose beats are labelled bundle branch block, of 120 ms and more by definition, or normal."""
UNPACED = (100, 101, 103, 105, 106, 108, 109, *range(111, 120), 121, 122, 123, 124)
WIDE_MS = 120.0
WRONG_PER_MIN = 5.0
"""IEC 60601-2-27 asks of a heart rate 10 % or 5 per min, whichever is greater (unconfirmed)."""
MEMORY_LIMIT = 8.0
ROUNDS = 3


def main() -> int:
    report = Report()
    accuracy(report)
    lead = long_lead()
    speed(report, lead)
    memory(report, lead)
    on_records(report)
    return report.exit_code


def synthetic(rate_hz: float, duration_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(20261124)
    times_s = np.arange(int(duration_s * rate_hz)) / rate_hz
    beats_s = 0.6 + np.cumsum(np.clip(0.85 + 0.06 * rng.standard_normal(int(1.6 * duration_s)), 0.65, 1.05))
    ecg = 0.010 * rng.standard_normal(times_s.size) + 0.15 * np.sin(2 * np.pi * 0.25 * times_s)
    for beat_s in beats_s[beats_s < duration_s - 1]:
        near = slice(int((beat_s - 0.4) * rate_hz), int((beat_s + 0.8) * rate_hz))
        for at_s, half_s, height in WAVES:
            phase = np.clip((times_s[near] - beat_s - at_s) / half_s, -1.0, 1.0)
            ecg[near] += 0.5 * height * (1.0 + np.cos(np.pi * phase))
    return ecg, beats_s


def accuracy(report: Report) -> None:
    for rate_hz in (250.0, 500.0):
        ecg, beats_s = synthetic(rate_hz, 180.0)
        beats = detect_qrs(ecg, rate_hz=rate_hz)
        found = delineate(ecg, beats, rate_hz=rate_hz)
        nearest = np.abs(beats[:, np.newaxis] / rate_hz - beats_s).argmin(axis=1)
        for wave, tolerance_ms in CSE_MS.items():
            errors_ms = 1e3 * (getattr(found, wave) / rate_hz - beats_s[nearest] - TRUTH_S[wave])
            told = np.isfinite(errors_ms)
            mean_ms, sd_ms = errors_ms[told].mean(), errors_ms[told].std()
            report.figure(
                f"ecg: {wave} at {rate_hz:.0f} Hz (mean {mean_ms:+.1f} ms, {100 * told.mean():.0f} % told)",
                sd_ms,
                "ms sd",
                ratio=sd_ms / tolerance_ms,
                of=f"{tolerance_ms:g}, the tolerance of CSE",
                at_most=1.0,
            )


def long_lead() -> NDArray[np.float64]:
    return np.tile(synthetic(360.0, 180.0)[0], 10)


def speed(report: Report, lead: NDArray[np.float64]) -> None:
    beats = detect_qrs(lead, rate_hz=360.0)
    sections = signal.butter(2, [5.0, 15.0], "bandpass", fs=360.0, output="sos")

    def filter_pass() -> None:
        signal.find_peaks(signal.sosfiltfilt(sections, lead), distance=72)

    pass_s = shortest_s(filter_pass, rounds=ROUNDS)
    for name, limit, run in (
        ("delineation", 30.0, lambda: delineate(lead, beats, rate_hz=360.0)),
        ("quality", 20.0, lambda: ecg_quality(lead, beats, rate_hz=360.0)),
        ("band-pass 0.5-40 Hz", 5.0, lambda: band_pass(lead, rate_hz=360.0, passband_hz=(0.5, 40.0))),
    ):
        time_s = shortest_s(run, rounds=ROUNDS)
        report.figure(
            f"ecg: {name} of 30 min at 360 Hz",
            1e3 * time_s,
            "ms",
            ratio=time_s / pass_s,
            of="one filter pass with peak search",
            at_most=limit,
        )
    live = StreamingFilter(rate_hz=360.0, passband_hz=(0.5, 40.0), mains_hz=50.0)
    chunks = np.split(lead[: 360 * 60], 60 * 10)
    time_s = shortest_s(lambda: [live.push(chunk) for chunk in chunks], rounds=ROUNDS)
    report.figure(
        "ecg: streaming filter, 60 s in chunks of 0.1 s",
        1e3 * time_s,
        "ms",
        ratio=time_s / 60.0,
        of="the time the signal takes",
        at_most=0.01,
    )
    versus_neurokit(report, lead[: 360 * 120], beats[beats < 360 * 120 - 360])


def versus_neurokit(report: Report, lead: NDArray[np.float64], beats: NDArray[np.int64]) -> None:
    try:
        import neurokit2
    except ImportError:
        report.skip("ecg: delineation against NeuroKit2 dwt", "neurokit2 is not installed")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer_s = shortest_s(
            lambda: neurokit2.ecg_delineate(lead, beats, sampling_rate=360, method="dwt"), rounds=ROUNDS
        )
    own_s = shortest_s(lambda: delineate(lead, beats, rate_hz=360.0), rounds=ROUNDS)
    report.figure(
        "ecg: delineation of 2 min at 360 Hz",
        1e3 * own_s,
        "ms",
        ratio=own_s / peer_s,
        of=f"{1e3 * peer_s:.0f} of NeuroKit2 dwt",
        at_most=0.2,
    )


def memory(report: Report, lead: NDArray[np.float64]) -> None:
    lead = np.tile(lead, 8)  # 4 h: blocks of a fixed size weigh little
    beats = detect_qrs(lead, rate_hz=360.0)
    for kind in (np.float64, np.int16):
        samples = (lead * 200.0).astype(kind)
        for name, run in (
            ("delineation", lambda x: delineate(x, beats, rate_hz=360.0)),
            ("quality", lambda x: ecg_quality(x, beats, rate_hz=360.0)),
            ("band-pass", lambda x: band_pass(x, rate_hz=360.0, passband_hz=(0.05, 150.0))),
        ):
            peak = peak_bytes(lambda run=run, samples=samples: run(samples))  # type: ignore[misc]
            report.figure(
                f"ecg: peak memory of {name}, {kind.__name__}",
                peak / 1e6,
                "MB",
                ratio=peak / samples.nbytes,
                of="the input",
                at_most=MEMORY_LIMIT,
            )


def on_records(report: Report) -> None:
    records = DATA / "ecg/mitdb"
    if not records.is_dir():
        report.skip(
            "ecg: records", f"none at {records}; set LAB_SHARED to the folder that holds data/ecg/mitdb"
        )
        return
    for record in (*BLOCKED, *NORMAL):
        qrs_ms = median_qrs_ms(read(records / str(record))[: 300 * 360], rate_hz=360.0)
        blocked = record in BLOCKED
        report.figure(
            f"ecg: QRS of record {record}, {'bundle branch block' if blocked else 'normal'}",
            qrs_ms,
            "ms",
            ratio=qrs_ms / WIDE_MS,
            of=f"{WIDE_MS:g}, where a complex is wide",
            at_least=1.0 if blocked else None,
            at_most=None if blocked else 1.0,
        )
    shares = {record: ecg_quality(read(records / str(record)), rate_hz=360.0).good for record in UNPACED}
    pooled, worst = np.concatenate(list(shares.values())), min(shares, key=lambda r: shares[r].mean())
    report.figure(
        f"ecg: good windows of 20 records (worst {worst}: {100 * shares[worst].mean():.0f} %)",
        100 * pooled.mean(),
        "%",
        ratio=pooled.mean(),
        of=f"1, {pooled.size} windows of 10 s",
        at_least=0.95,
    )
    for excerpt in ("118e00", "118e12"):
        in_noise(report, excerpt)
    for path in sorted((DATA / "ppg/spc2015").glob("DATA_??_TYPE??.mat"))[:3]:
        rows = io.loadmat(path)["sig"]
        still, moving = ppg_quality(rows[1], rate_hz=125.0).quality, slice(4, 26)
        gated = ppg_quality(rows[1], rate_hz=125.0, accel_mps2=9.81 * rows[3:6]).good
        report.figure(
            f"ppg: median likeness while running, {path.stem}",
            float(np.median(still[moving])),
            "",
            ratio=float(gated[moving].mean()),
            of="windows good with acceleration",
            at_most=0.1,
        )


def in_noise(report: Report, excerpt: str) -> None:
    """Report windows called good after the clean 40 s, and how wrong the heart rate of these is."""
    lead = np.loadtxt(DATA / f"ecg/nstdb_heartpy/{excerpt}.csv")
    truth = np.unique(np.loadtxt(DATA / f"ecg/nstdb_heartpy/{excerpt}_ann.csv", delimiter=",").astype(np.int64))
    beats = detect_qrs(lead, rate_hz=360.0)
    good = ecg_quality(lead, beats, rate_hz=360.0).good[4:]
    report.figure(
        f"ecg: good windows in the noise of {excerpt}",
        100 * good.mean(),
        "%",
        ratio=float(good.mean()),
        of="1, the share in the clean part",
        at_most=0.5,
    )
    found, true = (
        heart_rate_per_min(marks, rate_hz=360.0, n_samples=lead.size).per_min[4:][good]
        for marks in (beats, truth)
    )
    wrong = np.abs(found - true) > WRONG_PER_MIN
    report.figure(
        f"ecg: good windows of {excerpt} with a wrong heart rate",
        float(wrong.sum()),
        "windows",
        ratio=wrong.sum() / good.size,
        of=f"{good.size} windows, more than {WRONG_PER_MIN:g} per min off",
        at_most=0.3,
    )


def read(path: Path) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 uses a pandas argument that pandas 3 deprecates
        import wfdb

        return np.asarray(wfdb.rdrecord(str(path), channels=[0]).p_signal[:, 0])


if __name__ == "__main__":
    sys.exit(main())
