"""Common clocks and alignment: errors against analytic truth and real recordings, time against scipy, numpy.

Resampling: sines at 0.3 of the rate that limits, 250 to 360 Hz, 360 to 100 Hz, and between clocks 40 ppm apart;
a sine at a twentieth of a rate whose samples jitter by up to a tenth of a period; what folds down from above
half of the new rate. Alignment: two leads of MIT-BIH records and their beats, one lead delayed by a known lag
and drift, as the change against the same leads not delayed; beats of ECG and PPG while running likewise.
Recordings are looked for under LAB_SHARED.

    python benchmarks/alignment.py
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from costs import peak_bytes, shortest_in_turns_s
from numpy.typing import NDArray
from report import Report
from scipy import io, signal

from analysis.alignment import Alignment, align_beats, estimate_alignment
from analysis.heartbeats import detect_qrs
from analysis.pulses import detect_pulses
from analysis.resampling import clock_times_ns, resample_to_clock

Floats = NDArray[np.float64]

DATA = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data"
START_NS = 1_790_000_000_000_000_000
N_SAMPLES = 1_000_000
ROUNDS = 7
ERROR_LIMIT = 2e-4  # 80 dB of the window, for the band and its image
TIME_LIMIT = {"np.interp": 40.0, "resample_poly": 20.0}  # the former is wrong by 0.4 and scipy knows no clocks
MEMORY_LIMIT = 8.0
LAG_S, DRIFT_PPM = 1.234, 80.0
RECORDS = (100, 103, 109, 112, 115, 117, 122, 123)  # of the 1xx, every one whose two leads correlate by 0.3
LAG_LIMIT_S = 0.005
SIMULATIONS = 100
HELD_LEAST = 0.9  # 95 % intervals over few recordings


def main() -> int:
    report = Report()
    errors(report)
    time_and_memory(report)
    coverage(report)
    if DATA.is_dir():
        leads(report)
        heart_and_pulse(report)
    else:
        report.skip("alignment", f"no recordings at {DATA}; set LAB_SHARED to the folder that holds data/")
    return report.exit_code


def worst(
    own_hz: float, new_hz: float, hz: float, *, jitter: float = 0.0, truth: float = 1.0
) -> tuple[float, float]:
    """Return the largest error of a sine on another clock, and that of the line between neighbours."""
    n = 20_000
    off = np.random.default_rng(1).uniform(-jitter, jitter, n)
    times_ns = START_NS + np.rint((np.arange(n) + off) * 1e9 / own_hz).astype(np.int64)
    clock = {"start_ns": START_NS + 10**8, "rate_hz": new_hz, "n_samples": int((n / own_hz - 0.3) * new_hz)}
    clock_ns = clock_times_ns(**clock)
    values, expected = (np.sin(2 * np.pi * hz * (at - START_NS) / 1e9) for at in (times_ns, clock_ns))
    inner = slice(round(new_hz), -round(new_hz))
    found = resample_to_clock(values, times_ns, longest_gap_s=1.0, **clock)
    line = np.interp(clock_ns - START_NS, times_ns - START_NS, values)
    return tuple(float(np.abs(y - truth * expected)[inner].max()) for y in (found, line))


def errors(report: Report) -> None:
    for name, own_hz, new_hz, hz in (
        ("250 to 360 Hz", 250.0, 360.0, 75.0),
        ("360 to 100 Hz", 360.0, 100.0, 30.0),
        ("250.01 to 250 Hz", 250.01, 250.0, 75.0),
    ):
        error, line = worst(own_hz, new_hz, hz)
        of = f"{ERROR_LIMIT:g}; line between neighbours {line:.2g}"
        report.figure(f"resampling, error, {name}", error, "", ratio=error / ERROR_LIMIT, of=of, at_most=1.0)
    error, line = worst(100.0, 100.0, 5.0, jitter=0.1)
    of = "the line between neighbours"
    report.figure("resampling, error, jitter", error, "", ratio=error / line, of=of, at_most=0.01)
    folded, _ = worst(250.0, 60.0, 31.0, truth=0.0)
    of = f"{ERROR_LIMIT:g}, 31 Hz on a clock of 60 Hz"
    report.figure("resampling, folded down", folded, "", ratio=folded / ERROR_LIMIT, of=of, at_most=1.0)


def time_and_memory(report: Report) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=N_SAMPLES)
    for name, own_hz, jitter in (("even", 250.0, 0.0), ("drift", 250.00731, 0.0), ("jitter", 250.0, 0.1)):
        off = rng.uniform(-jitter, jitter, N_SAMPLES)
        times_ns = START_NS + np.rint((np.arange(N_SAMPLES) + off) * 1e9 / own_hz).astype(np.int64)
        n = int(N_SAMPLES * 360 / 250.1)
        clock = {"start_ns": START_NS, "rate_hz": 360.0, "n_samples": n}
        since, at = times_ns - START_NS, clock_times_ns(**clock) - START_NS
        ours = partial(resample_to_clock, values, times_ns, longest_gap_s=1.0, **clock)
        peers: dict[str, Callable[[], Floats]] = {
            "np.interp": partial(np.interp, at, since, values),
            "resample_poly": partial(signal.resample_poly, values, 36, 25),
        }
        times_s = shortest_in_turns_s({"ours": ours, **peers}, rounds=ROUNDS)
        for peer in peers:
            ratio = times_s["ours"] / times_s[peer]
            report.figure(
                f"resampling, million samples, {name}",
                1e3 * times_s["ours"],
                "ms",
                ratio=ratio,
                of=peer,
                at_most=TIME_LIMIT[peer],
            )
        peak = peak_bytes(ours)
        ratio = peak / (values.nbytes + times_ns.nbytes)
        report.figure(
            f"resampling, memory, {name}",
            peak / 2**20,
            "MiB",
            ratio=ratio,
            of="the input",
            at_most=MEMORY_LIMIT,
        )


def coverage(report: Report) -> None:
    """Report how often 95 % intervals hold a known lag and drift of simulated beats."""
    for name, wander_s, at_least in (("a tenth missed", 0.0, 0.9), ("arrival that wanders", 0.02, 0.8)):
        held = []
        for seed in range(SIMULATIONS):
            rng = np.random.default_rng(seed)
            beats_s = np.cumsum(rng.normal(0.8, 0.05, 750))
            lag_s, drift_ppm = rng.uniform(-4, 4), rng.uniform(-200, 200)
            slow = np.convolve(
                rng.normal(size=beats_s.size), np.ones(40) / np.sqrt(40), "same"
            )  # half a minute
            test_s = (
                beats_s * (1 + 1e-6 * drift_ppm) + lag_s + rng.normal(0, 0.008, beats_s.size) + wander_s * slow
            )
            seen, noted = rng.random((2, beats_s.size)) > 0.1
            found = align_beats(np.sort(test_s[seen]), beats_s[noted], max_lag_s=5.0)
            true_s = lag_s + 1e-6 * drift_ppm * found.middle_s
            (low_s, high_s), (low_ppm, high_ppm) = found.lag_interval_s(), found.drift_interval_ppm()
            held.append((low_s <= true_s <= high_s, low_ppm <= drift_ppm <= high_ppm))
        for what, share in zip(("lag", "drift"), np.mean(held, axis=0), strict=True):
            of = f"1, of {SIMULATIONS} simulated"
            report.figure(f"alignment, {what} held, {name}", share, "", ratio=share, of=of, at_least=at_least)


def leads(report: Report) -> None:
    rate_hz, n = 360.0, 360 * 600
    at_s = np.arange(n) / rate_hz
    by_signal, by_beats = [], []
    for record in RECORDS:
        first, second = read(record)[:, :n]
        delayed = np.interp((at_s - LAG_S) / (1 + 1e-6 * DRIFT_PPM), at_s, second)
        plain, late = (estimate_alignment(x, first, rate_hz=rate_hz, max_lag_s=5.0) for x in (second, delayed))
        by_signal.append(change(plain, late))
        first_s, second_s, delayed_s = (
            detect_qrs(x, rate_hz=rate_hz) / rate_hz for x in (first, second, delayed)
        )
        by_beats.append(change(*(align_beats(x, first_s, max_lag_s=5.0) for x in (second_s, delayed_s))))
    say(report, "two leads, signals", by_signal)
    say(report, "two leads, beats", by_beats)


def heart_and_pulse(report: Report) -> None:
    changes = []
    for path in sorted((DATA / "ppg/spc2015").glob("DATA_*_TYPE??.mat")):
        recording = io.loadmat(path)["sig"]
        if recording.shape[0] != 6:
            continue  # no ECG in it
        beats_s = detect_qrs(recording[0], rate_hz=125.0) / 125.0
        pulses_s = detect_pulses(recording[1], rate_hz=125.0) / 125.0
        plain = align_beats(pulses_s, beats_s, max_lag_s=2.0)
        late = align_beats(pulses_s * (1 + 1e-6 * DRIFT_PPM) + LAG_S, beats_s, max_lag_s=5.0)
        changes.append(change(plain, late))
    say(report, "ECG and PPG, running", changes)


def change(plain: Alignment, late: Alignment) -> tuple[float, float, bool]:
    """Return the errors of lag in s and drift in ppm that were put in, and if the interval holds it."""
    lag_s = late.lag_at_s(plain.middle_s) - plain.lag_s - (LAG_S + 1e-6 * DRIFT_PPM * plain.middle_s)
    drift_ppm = late.drift_ppm - plain.drift_ppm - DRIFT_PPM
    reach_ppm = 1.96 * float(np.hypot(plain.drift_se_ppm, late.drift_se_ppm))
    return lag_s, drift_ppm, abs(drift_ppm) <= reach_ppm


def say(report: Report, name: str, changes: list[tuple[float, float, bool]]) -> None:
    told = [c for c in changes if np.isfinite(c[0])]
    if not told:
        report.skip(f"alignment, {name}", "no recording told its lag")
        return
    lag_s = float(np.median([abs(c[0]) for c in told]))
    worst_ms = 1e3 * max(abs(c[0]) for c in told)
    of = f"{1e3 * LAG_LIMIT_S:g} ms; {len(told)} of {len(changes)} told, worst {worst_ms:.1f}"
    report.figure(
        f"alignment, lag, {name}", 1e3 * lag_s, "ms median", ratio=lag_s / LAG_LIMIT_S, of=of, at_most=1.0
    )
    held = float(np.mean([c[2] for c in told]))
    of = f"1; median drift error {np.median([abs(c[1]) for c in told]):.1f} ppm"
    report.figure(f"alignment, drift within interval, {name}", held, "", ratio=held, of=of, at_least=HELD_LEAST)


def read(record: int) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 uses a pandas argument that pandas 3 deprecates
        import wfdb

        return np.asarray(wfdb.rdrecord(str(DATA / f"ecg/mitdb/{record}")).p_signal.T)


if __name__ == "__main__":
    sys.exit(main())
