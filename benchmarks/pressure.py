"""Arterial and cuff pressure: accuracy on lines and deflations of known truth, agreement, time, memory.

Simulated lines hold 300 beats of known pressures with noise of 1 mmHg, two flushes of 2 s and a minute of
damping. The peer, where installed, is BioSPPy's onset detection after Zong 2003; it finds next to none of the
simulated beats and half of the recorded ones, so that its time is compared alone. Deflations are those of a
model in which the ratios of Geddes 1982 are exact, with noise and movements. No recording of a cuff is at hand.
Recordings are looked for under LAB_SHARED.

    python benchmarks/pressure.py
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from costs import peak_bytes, shortest_in_turns_s
from numpy.typing import NDArray
from report import Report
from scipy import signal

from analysis.detection import compare_beats
from analysis.oscillometry import read_cuff
from analysis.pressure import (
    PULMONARY,
    mean_arterial_pressure_mmhg,
    mean_diastolic_mmhg,
    mean_pulse_pressure_mmhg,
    mean_systolic_mmhg,
    pressure_beats,
    systolic_arv_mmhg,
    systolic_sd_mmhg,
)

Floats = NDArray[np.float64]

DATA = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data"
ROUNDS = 7
RATE_HZ = 125.0
TIME_LIMIT = 4.0
MEMORY_LIMIT = 8.0
N_DEFLATIONS = 100
ISO_MMHG = 5.0
WRONG_MMHG = 10.0


def main() -> int:
    report = Report()
    simulated_lines(report)
    if (DATA / "icu").is_dir():
        recorded(report)
    else:
        report.skip("pressure: TestICU", f"no recordings at {DATA}; set LAB_SHARED")
    deflations(report)
    speed_and_memory(report)
    return report.exit_code


def simulated_lines(report: Report) -> None:
    rng = np.random.default_rng(7)
    errors: dict[str, list[Floats]] = {"systolic": [], "diastolic": [], "mean": []}
    f1s: list[float] = []
    n_good = n_clean = n_wrong = 0
    for rr_s in (0.5, 0.8, 1.2):
        pressure, truth, onsets, clean = line(300, rr_s, rng)
        beats = pressure_beats(pressure, rate_hz=RATE_HZ)
        f1s.append(f1(onsets[clean], beats.starts[beats.plausible]))
        good = np.flatnonzero(beats.plausible)
        nearest = np.abs(beats.starts[good, np.newaxis] - onsets).argmin(axis=1)
        off = np.abs(beats.systolic_mmhg[good] - truth[0, nearest]) > WRONG_MMHG
        off |= np.abs(beats.diastolic_mmhg[good] - truth[1, nearest]) > WRONG_MMHG
        n_wrong += int(off.sum())
        n_good += int(clean[nearest].sum())
        n_clean += int(clean.sum())
        kept = clean[nearest]
        for k, (name, found) in enumerate(
            (
                ("systolic", beats.systolic_mmhg),
                ("diastolic", beats.diastolic_mmhg),
                ("mean", beats.mean_mmhg),
            )
        ):
            errors[name].append(found[good[kept]] - truth[k, nearest[kept]])
    for name, parts in errors.items():
        error = np.concatenate(parts)
        report.figure(
            f"pressure: {name}, bias {error.mean():+.2f}, MAE",
            float(np.abs(error).mean()),
            "mmHg",
            ratio=float(np.abs(error).mean()) / ISO_MMHG,
            of="5 mmHg, the mean error ISO 81060-2 allows",
            at_most=0.4,
        )
    of = f"{n_clean} beats out of artefacts"
    report.figure("pressure: beats with figures", n_good, "", ratio=n_good / n_clean, of=of, at_least=0.97)
    of = f"{n_good} good ones"
    report.figure(
        "pressure: beats let pass, wrong by 10 mmHg", n_wrong, "", ratio=n_wrong / n_good, of=of, at_most=0.01
    )
    ours = float(np.mean(f1s))
    report.figure("pressure: F1 of beats", 100 * ours, "%", ratio=ours, of="all found", at_least=0.98)


def recorded(report: Report) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import wfdb

        channels = wfdb.rdrecord(str(DATA / "icu/TestICU")).p_signal
    systemic, pulmonary = channels[:, 2], channels[:, 3]
    first = pressure_beats(systemic, rate_hz=RATE_HZ)
    second = pressure_beats(pulmonary, rate_hz=RATE_HZ, limits=PULMONARY)
    peer = zong(systemic)
    if peer is not None:
        print(f"    BioSPPy finds {peer.size} of them")
    of = f"{second.starts.size} of the pulmonary line"
    ratio = min(first.starts.size, second.starts.size) / max(first.starts.size, second.starts.size)
    report.figure(
        "pressure: beats of TestICU, systemic", first.starts.size, "", ratio=ratio, of=of, at_least=0.99
    )
    for name, beats in (("systemic", first), ("pulmonary", second)):
        share = float(beats.plausible.mean())
        report.figure(
            f"pressure: plausible beats, {name}", 100 * share, "%", ratio=share, of="all", at_least=0.98
        )
    mean = mean_arterial_pressure_mmhg(systemic, rate_hz=RATE_HZ)
    level = float(systemic.mean())
    of = f"{level:.1f} mmHg, the mean of the samples"
    report.figure("mean_arterial_pressure, TestICU", mean, "mmHg", ratio=mean / level, of=of, at_least=0.99)
    for name, value in (
        ("mean_systolic", mean_systolic_mmhg(systemic, rate_hz=RATE_HZ)),
        ("mean_diastolic", mean_diastolic_mmhg(systemic, rate_hz=RATE_HZ)),
        ("mean_pulse_pressure", mean_pulse_pressure_mmhg(systemic, rate_hz=RATE_HZ)),
        ("systolic_sd", systolic_sd_mmhg(systemic, rate_hz=RATE_HZ)),
        ("systolic_arv", systolic_arv_mmhg(systemic, rate_hz=RATE_HZ)),
    ):
        of = "112 mmHg, the highest sample"
        report.figure(f"{name}, TestICU", value, "mmHg", ratio=value / 112.0, of=of, at_most=1.0)


def deflations(report: Report) -> None:
    rng = np.random.default_rng(8)
    for name, noise_mmhg, n_movements in (
        ("clean", 0.0, 0),
        ("noise 0.1 mmHg", 0.1, 0),
        ("4 movements", 0.05, 4),
    ):
        errors = np.full((3, N_DEFLATIONS), np.nan)
        for k in range(N_DEFLATIONS):
            cuff, truth = deflation(rng, noise_mmhg=noise_mmhg, n_movements=n_movements)
            reading = read_cuff(cuff, rate_hz=100.0)
            errors[:, k] = np.subtract(
                (reading.systolic_mmhg, reading.diastolic_mmhg, reading.mean_mmhg), truth
            )
        read = np.isfinite(errors).all(axis=0)
        for which, error in zip(("systolic", "diastolic"), errors[:2, read], strict=True):
            report.figure(
                f"cuff: {which}, {name}, {100 * read.mean():.0f} % read, MAE",
                float(np.abs(error).mean()),
                "mmHg",
                ratio=float(np.abs(error).mean()) / ISO_MMHG,
                of=f"5 mmHg; bias {error.mean():+.2f}, SD {error.std(ddof=1):.2f}",
                at_most=0.5,
            )
    no_artery = sum(
        bool(
            np.isfinite(read_cuff(deflation(rng, noise_mmhg=noise, size_mmhg=0.0)[0], rate_hz=100.0).mean_mmhg)
        )
        for noise in np.linspace(0.01, 2.0, N_DEFLATIONS)
    )
    of = f"{N_DEFLATIONS} deflations without an artery"
    report.figure(
        "cuff: readings of noise alone", no_artery, "", ratio=no_artery / N_DEFLATIONS, of=of, at_most=0.02
    )


def speed_and_memory(report: Report) -> None:
    rng = np.random.default_rng(9)
    pressure = np.resize(line(300, 0.8, rng)[0], 225_000)  # 30 min
    sections = signal.butter(2, [0.5, 8.0], "bandpass", fs=RATE_HZ, output="sos")

    def filter_pass() -> None:
        signal.find_peaks(signal.sosfiltfilt(sections, pressure), distance=30)

    def figures() -> None:
        pressure_beats(pressure, rate_hz=RATE_HZ)

    runs: dict[str, Callable[[], object]] = {"filter": filter_pass, "ours": figures}
    if zong(pressure[:5000]) is not None:
        runs["peer"] = lambda: zong(pressure)
    times_s = shortest_in_turns_s(runs, rounds=ROUNDS)
    report.figure(
        "pressure: all figures of 30 min at 125 Hz",
        1000 * times_s["ours"],
        "ms",
        ratio=times_s["ours"] / times_s["filter"],
        of="one filter pass with peak search",
        at_most=TIME_LIMIT,
    )
    if "peer" in times_s:
        of = f"{1000 * times_s['peer']:.0f} ms, BioSPPy's onsets alone"
        ratio = times_s["ours"] / times_s["peer"]
        report.figure(
            "pressure: ... and the peer", 1000 * times_s["ours"], "ms", ratio=ratio, of=of, at_most=1.0
        )
    peak = peak_bytes(figures)
    report.figure(
        "pressure: peak memory",
        peak / 1e6,
        "MB",
        ratio=peak / pressure.nbytes,
        of="the input",
        at_most=MEMORY_LIMIT,
    )


def line(
    n_beats: int, rr_s: float, rng: np.random.Generator
) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.bool_]]:
    """Return a pressure line, systolic, diastolic and mean of its beats, their onsets, and which are clean."""
    durations_s = rr_s * (1 + 0.03 * rng.normal(size=n_beats))
    onsets_s = np.concatenate([[0.0], np.cumsum(durations_s)])
    breath = np.sin(2 * np.pi * onsets_s[:-1] / 4.0)
    systolic = 120.0 + 4.0 * breath + rng.normal(size=n_beats)
    diastolic = 72.0 + 2.0 * breath + 0.5 * rng.normal(size=n_beats)
    times_s = np.arange(int(onsets_s[-1] * RATE_HZ)) / RATE_HZ
    beat = np.searchsorted(onsets_s, times_s, side="right") - 1
    share = (times_s - onsets_s[beat]) / durations_s[beat]
    knots = np.array([0.0, 0.17, 0.4, 0.47, 1.0])  # of the beat: onset, systole, notch, dicrotic wave, end
    part = np.clip(np.searchsorted(knots, share, side="right") - 1, 0, 3)
    pulse = systolic - diastolic
    levels = np.stack(
        [diastolic, systolic, diastolic + 0.5 * pulse, diastolic + 0.58 * pulse, np.append(diastolic[1:], 72.0)]
    )
    along = np.clip((share - knots[part]) / (knots[part + 1] - knots[part]), 0, 1)
    pressure = levels[part, beat] + (levels[part + 1, beat] - levels[part, beat]) * 0.5 * (
        1 - np.cos(np.pi * along)
    )
    means = np.bincount(beat, pressure, minlength=n_beats) / np.maximum(np.bincount(beat, minlength=n_beats), 1)
    clean = np.ones(n_beats, dtype=bool)
    clean[[0, -1]] = False
    pressure += rng.normal(size=pressure.size)
    for start_s in (0.3 * onsets_s[-1], 0.7 * onsets_s[-1]):  # a flush
        pressure[int(start_s * RATE_HZ) : int((start_s + 2.0) * RATE_HZ)] = 290.0
        clean &= (onsets_s[1:] < start_s) | (onsets_s[:-1] > start_s + 2.0 + rr_s)
    damped = (times_s > 0.5 * onsets_s[-1]) & (times_s < 0.5 * onsets_s[-1] + 30.0)  # a clot
    pressure[damped] = 90.0 + 0.1 * (pressure[damped] - 90.0)
    clean &= (onsets_s[1:] < 0.5 * onsets_s[-1]) | (onsets_s[:-1] > 0.5 * onsets_s[-1] + 30.0)
    return pressure, np.stack([systolic, diastolic, means]), np.rint(onsets_s[:-1] * RATE_HZ).astype(int), clean


def deflation(
    rng: np.random.Generator, *, noise_mmhg: float, n_movements: int = 0, size_mmhg: float | None = None
) -> tuple[Floats, tuple[float, float, float]]:
    """Return a cuff pressure at 100 Hz and the systolic, diastolic and mean pressure of an ideal reading."""
    systolic = float(rng.uniform(95, 175))
    diastolic = float(systolic - rng.uniform(30, 65))
    mean = diastolic + 0.4 * (systolic - diastolic)
    high = (systolic - mean) / np.sqrt(2 * np.log(1 / 0.55))
    low = (mean - diastolic) / np.sqrt(2 * np.log(1 / 0.82))
    top, fall = systolic + 45.0, float(rng.uniform(2.0, 5.0))
    times_s = np.arange(0.0, (top - 15.0) / fall, 0.01)
    cuff = top - fall * times_s
    size = float(rng.uniform(1.0, 4.0)) if size_mmhg is None else size_mmhg
    heights = size * np.exp(-((cuff - mean) ** 2) / (2 * np.where(cuff > mean, high, low) ** 2))
    wave = np.zeros(times_s.size)
    beat_s, rr_s = 0.5, 60.0 / float(rng.uniform(50, 100))
    while beat_s < times_s[-1]:
        since_s = times_s - beat_s
        wave += np.exp(-(since_s**2) / (2 * 0.06**2)) + 0.35 * np.exp(-((since_s - 0.2) ** 2) / (2 * 0.08**2))
        beat_s += rr_s * (1 + 0.03 * float(rng.normal()))
    cuff = cuff + heights * wave + noise_mmhg * rng.normal(size=cuff.size)
    for start in rng.integers(0, cuff.size - 100, n_movements):
        cuff[start : start + 50] += 8.0 * np.hanning(50)
    return np.concatenate([np.linspace(0.0, top, 400), cuff, np.linspace(cuff[-1], 0.0, 50)]), (
        systolic,
        diastolic,
        mean,
    )


def f1(onsets: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Return F1 of onsets within 150 ms; those found where none is true count against it."""
    result = compare_beats(onsets, np.unique(found), rate_hz=RATE_HZ, learning_s=0.0)
    return (
        2
        * result.true_positives
        / (2 * result.true_positives + result.false_negatives + result.false_positives)
    )


def zong(pressure: Floats) -> NDArray[np.int64] | None:
    abp = biosppy_abp()
    if abp is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onsets = abp.find_onsets_zong2003(signal=pressure, sampling_rate=RATE_HZ)["onsets"]
    return np.asarray(onsets, dtype=np.int64)


@cache
def biosppy_abp() -> Any:
    try:
        from biosppy.signals import abp
    except ImportError as error:  # biosppy imports peakutils without asking for it
        print(f"biosppy left out: {error}")
        return None
    return abp


if __name__ == "__main__":
    sys.exit(main())
