"""Breaths and respiratory rate: accuracy against peers, time against one filter pass, memory.

Rates are those of 32 s windows every 4 s, errors in breaths/min. On simulated breathing (steady and drifting
rates of 6 to 40 per min, with noise, heart and drift at stated strength) the truth is known, and every window
counts: where ours gives no rate, its share is said. On the recording bidmc 01 the rate of the impedance signal
stands for the truth of what is derived from ECG and photoplethysmogram. A peer's breaths become rates as 60
over their mean interval in the window; the best of its methods counts. Recordings are looked for under
LAB_SHARED.

    python benchmarks/respiration.py
"""

from __future__ import annotations

import gzip
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from costs import peak_bytes, shortest_in_turns_s
from numpy.typing import NDArray
from report import Report
from scipy import signal

from analysis.breaths import detect_breaths
from analysis.breaths_stream import BreathStream
from analysis.respiration import (
    breath_rmssd_s,
    mean_respiratory_rate_per_min,
    respiratory_rate_per_min,
    respiratory_rate_variability_percent,
)
from analysis.respiration_fusion import (
    derived_respiratory_rate_per_min,
    ecg_respiratory_rate_per_min,
    mean_ecg_respiratory_rate_per_min,
    mean_ppg_respiratory_rate_per_min,
    ppg_respiratory_rate_per_min,
)

Floats = NDArray[np.float64]
Breaths = Callable[[Floats, float], NDArray[np.int64]]

DATA = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared")) / "data"
ROUNDS = 7
WINDOW_S, STEP_S = 32.0, 4.0
MEMORY_LIMIT = 8.0
TIME_LIMIT = 1.5
AIM_PER_MIN = 1.5
SIMULATED = ((6.0, 0.0), (12.0, 0.1), (18.0, 0.2), (28.0, 0.1), (40.0, 0.05))  # rate and spread of the breaths
SIMULATED_HZ = 50.0
RSP_METHODS = ("khodadad2018", "biosppy", "scipy")
EDR_METHODS = ("vangent2019", "soni2019", "charlton2016", "sarkar2015")


def main() -> int:
    report = Report()
    simulated(report)
    if (DATA / "resp").is_dir():
        recorded(report)
    else:
        report.skip("respiration: bidmc", f"no recordings at {DATA}; set LAB_SHARED")
    speed_and_memory(report)
    return report.exit_code


def simulated(report: Report) -> None:
    rng = np.random.default_rng(5)
    ours, kept, theirs = [], [], {name: [] for name in peers()}  # type: ignore[var-annotated]
    for per_min, spread in SIMULATED:
        for snr_db in (20.0, 6.0):
            breathing, tops_s = simulate(per_min, spread, snr_db, rng)
            starts_s = np.arange(0.0, breathing.size / SIMULATED_HZ - WINDOW_S + 1e-9, STEP_S)
            truth = passed(tops_s, starts_s)
            result = respiratory_rate_per_min(breathing, rate_hz=SIMULATED_HZ, window_s=WINDOW_S, step_s=STEP_S)
            error = np.abs(result.rate_per_min - truth)
            kept.append(np.isfinite(error))
            ours.append(error[np.isfinite(error)])
            for name, detect in peers().items():
                found = mean_interval_rates(detect(breathing, SIMULATED_HZ) / SIMULATED_HZ, starts_s)
                theirs[name].append(np.abs(found - truth))
    error = float(np.concatenate(ours).mean())
    coverage = 100 * float(np.concatenate(kept).mean())
    if not theirs:
        report.skip("respiration: simulated breathing, MAE", f"{error:.3f} 1/min, but no peer is installed")
        return
    means = {name: float(np.nanmean(np.concatenate(errors))) for name, errors in theirs.items()}
    best = min(means, key=lambda name: means[name])
    report.figure(
        f"respiration: simulated, MAE, {coverage:.0f} % of windows",
        error,
        "1/min",
        ratio=error / means[best],
        of=f"{means[best]:.3f}, {best}",
        at_most=1.0,
    )
    for name, mean in means.items():
        print(f"    {name}: MAE {mean:.2f} 1/min")


def recorded(report: Report) -> None:
    respiration, pleth, ecg = bidmc()
    breaths = detect_breaths(respiration, rate_hz=125.0)
    of = "170 crossings of half the scale"
    ratio = min(breaths.size, 170) / max(breaths.size, 170)
    report.figure("respiration: breaths of bidmc", breaths.size, "", ratio=ratio, of=of, at_least=1.0)
    reference = respiratory_rate_per_min(respiration, rate_hz=125.0, step_s=STEP_S).rate_per_min
    peer = best_derived_peer(ecg, reference)
    for name, rates in (
        ("ECG II", ecg_respiratory_rate_per_min(ecg, rate_hz=125.0, step_s=STEP_S).rate_per_min),
        ("PPG", ppg_respiratory_rate_per_min(pleth, rate_hz=125.0, step_s=STEP_S).rate_per_min),
        ("both", derived_respiratory_rate_per_min(ecg, pleth, rate_hz=125.0, step_s=STEP_S).rate_per_min),
    ):
        kept = np.isfinite(rates)
        error = float(np.abs(rates - reference)[kept].mean())
        report.figure(
            f"respiration: MAE from {name}, {100 * kept.mean():.0f} % of windows",
            error,
            "1/min",
            ratio=error / AIM_PER_MIN,
            of=f"{AIM_PER_MIN} 1/min",
            at_most=1.0,
        )
        if peer and name == "ECG II":
            report.figure(
                "respiration: ... against the best peer",
                error,
                "1/min",
                ratio=error / peer[1],
                of=f"{peer[1]:.2f}, {peer[0]}, all windows",
                at_most=1.0,
            )
    lead, pulses = a103l()
    from_lead = ecg_respiratory_rate_per_min(lead, rate_hz=250.0, step_s=STEP_S).rate_per_min
    from_pulses = ppg_respiratory_rate_per_min(pulses, rate_hz=250.0, step_s=STEP_S).rate_per_min
    both = np.isfinite(from_lead) & np.isfinite(from_pulses)
    apart = float(np.abs(from_lead - from_pulses)[both].mean())
    report.figure(
        f"respiration: a103l, lead V from PPG, {100 * both.mean():.0f} %",
        apart,
        "1/min",
        ratio=apart / AIM_PER_MIN,
        of=f"{AIM_PER_MIN} 1/min; lead {100 * np.isfinite(from_lead).mean():.0f} %, PPG "
        f"{100 * np.isfinite(from_pulses).mean():.0f} % of windows",
        at_most=1.0,
    )
    rate = mean_respiratory_rate_per_min(respiration, rate_hz=125.0)
    counted = 60.0 * 169 / float(breaths[-1] - breaths[0]) * 125.0
    of = f"{counted:.2f}, 169 breaths over their time"
    report.figure("respiratory_rate, bidmc", rate, "1/min", ratio=rate / counted, of=of, at_least=0.98)
    for name, value in (
        ("respiratory_rate from ECG, bidmc", mean_ecg_respiratory_rate_per_min(ecg, rate_hz=125.0)),
        ("respiratory_rate from PPG, bidmc", mean_ppg_respiratory_rate_per_min(pleth, rate_hz=125.0)),
    ):
        of = f"{rate:.2f}, from impedance"
        report.figure(name, value, "1/min", ratio=value / rate, of=of, at_least=0.98)
    variability = respiratory_rate_variability_percent(respiration, rate_hz=125.0)
    of = "25 %, the most that has a rate"
    report.figure("breath variability, bidmc", variability, "%", ratio=variability / 25.0, of=of, at_most=1.0)
    rmssd_s = breath_rmssd_s(respiration, rate_hz=125.0)
    of = "2.8 s, a breath"
    report.figure("breath RMSSD, bidmc", rmssd_s, "s", ratio=rmssd_s / 2.8, of=of, at_most=0.25)


def speed_and_memory(report: Report) -> None:
    rng = np.random.default_rng(6)
    part, _ = simulate(16.0, 0.1, 20.0, rng)
    breathing = np.resize(np.repeat(part, 5)[::2], 225_000)  # 30 min at 125 Hz
    sections = signal.butter(2, [0.05, 1.0], "bandpass", fs=125.0, output="sos")

    def filter_pass() -> None:
        signal.find_peaks(signal.sosfiltfilt(sections, breathing), distance=100)

    runs: dict[str, Callable[[], object]] = {
        "breaths": lambda: detect_breaths(breathing, rate_hz=125.0),
        "rates, windows every 2 s": lambda: respiratory_rate_per_min(breathing, rate_hz=125.0),
    }
    runs |= {f"peer {name}": (lambda d=detect: d(breathing, 125.0)) for name, detect in peers().items()}  # type: ignore[misc]
    times_s = shortest_in_turns_s({"filter": filter_pass, **runs}, rounds=ROUNDS)
    for name in runs:
        ratio = times_s[name] / times_s["filter"]
        if name.startswith("peer"):
            print(f"    {name}: {1000 * times_s[name]:.1f} ms, {ratio:.1f} filter passes")
            continue
        of = "one filter pass with peak search"
        report.figure(
            f"respiration: {name}, 30 min at 125 Hz",
            1000 * times_s[name],
            "ms",
            ratio=ratio,
            of=of,
            at_most=TIME_LIMIT if name == "breaths" else 3 * TIME_LIMIT,
        )
    for name, run in list(runs.items())[:2]:
        peak = peak_bytes(run)
        report.figure(
            f"respiration: peak memory, {name}",
            peak / 1e6,
            "MB",
            ratio=peak / breathing.nbytes,
            of="the input",
            at_most=MEMORY_LIMIT,
        )
    derived_speed(report)
    stream = BreathStream(125.0)
    start_s = time.process_time()
    found = [stream.push(chunk) for chunk in np.array_split(breathing, 1800)]  # a second each
    found.append(stream.flush())
    busy_s = time.process_time() - start_s
    same = np.array_equal(np.concatenate(found), detect_breaths(breathing, rate_hz=125.0))
    report.figure("respiration: stream equals batch", float(same), "", ratio=float(same), of="1", at_least=1.0)
    of = "the time it takes to record"
    report.figure(
        "respiration: stream of 30 min", 1000 * busy_s, "ms", ratio=busy_s / 1800, of=of, at_most=0.01
    )


def derived_speed(report: Report) -> None:
    """Rates from ECG, which hold the detection of its beats, against the peer's beats and rates."""
    if not (DATA / "resp").is_dir():
        return
    _, pleth, ecg = (np.resize(channel, 225_000) for channel in bidmc())
    sections = signal.butter(2, [5.0, 20.0], "bandpass", fs=125.0, output="sos")
    runs: dict[str, Callable[[], object]] = {
        "filter": lambda: signal.find_peaks(signal.sosfiltfilt(sections, ecg), distance=30),
        "ECG": lambda: ecg_respiratory_rate_per_min(ecg, rate_hz=125.0, step_s=STEP_S),
        "PPG": lambda: ppg_respiratory_rate_per_min(pleth, rate_hz=125.0, step_s=STEP_S),
    }
    times_s = shortest_in_turns_s(runs, rounds=ROUNDS)
    peer_s = derived_peer_s(ecg)
    for name in ("ECG", "PPG"):
        passes = times_s[name] / times_s["filter"]
        if peer_s is None:
            report.skip(f"respiration: rates from {name}, 30 min", f"{passes:.1f} filter passes, but no peer")
            continue
        report.figure(
            f"respiration: rates from {name}, {passes:.1f} filter passes",
            1000 * times_s[name],
            "ms",
            ratio=times_s[name] / peer_s,
            of=f"{1000 * peer_s:.0f} ms, NeuroKit2 beats, EDR and breaths",
            at_most=1.0,
        )
    peak = peak_bytes(runs["ECG"])
    report.figure(
        "respiration: peak memory, rates from ECG",
        peak / 1e6,
        "MB",
        ratio=peak / ecg.nbytes,
        of="the input",
        at_most=MEMORY_LIMIT,
    )


def simulate(
    per_min: float, spread: float, snr_db: float, rng: np.random.Generator, duration_s: float = 300.0
) -> tuple[Floats, Floats]:
    """Return breathing with noise, and when the true breaths are on top.

    Breaths last `spread` (standard deviation) longer or shorter, rise for two fifths of their time, and differ
    in depth by 20 %. Added are white noise at `snr_db`, a heart of a tenth of the amplitude at 75 per min, and
    a drift of two amplitudes with a period of 90 s.
    """
    n_breaths = int(duration_s * per_min / 60 * 1.5) + 5
    durations_s = 60 / per_min * np.clip(1 + spread * rng.normal(size=n_breaths), 0.5, 1.5)
    starts_s = np.concatenate([[0.0], np.cumsum(durations_s)])
    depth = 1 + 0.2 * np.clip(rng.normal(size=n_breaths), -2, 2)
    times_s = np.arange(int(duration_s * SIMULATED_HZ)) / SIMULATED_HZ
    k = np.searchsorted(starts_s, times_s, side="right") - 1
    phase = (times_s - starts_s[k]) / durations_s[k]
    warped = np.where(phase < 0.4, phase / 0.8, 0.5 + (phase - 0.4) / 1.2)
    clean = depth[k] * (1 - np.cos(2 * np.pi * warped)) / 2
    drift = np.sin(2 * np.pi * times_s / 90.0)
    heart = 0.05 * np.sin(2 * np.pi * 1.25 * times_s)
    noise = rng.normal(size=times_s.size) * clean.std() * 10 ** (-snr_db / 20)
    return clean + drift + heart + noise, starts_s[:-1] + 0.4 * durations_s


def passed(tops_s: Floats, starts_s: Floats) -> Floats:
    """Return the breaths that pass in each window, parts included, per minute."""
    counts = [np.interp(edges_s, tops_s, np.arange(tops_s.size)) for edges_s in (starts_s, starts_s + WINDOW_S)]
    return np.asarray((counts[1] - counts[0]) * 60.0 / WINDOW_S)


def mean_interval_rates(tops_s: Floats, starts_s: Floats) -> Floats:
    """Return 60 over the mean interval of the breaths in each window, NaN below two."""
    rates = np.full(starts_s.size, np.nan)
    for k, start_s in enumerate(starts_s):
        inside_s = tops_s[(tops_s >= start_s) & (tops_s < start_s + WINDOW_S)]
        if inside_s.size > 1:
            rates[k] = 60.0 * (inside_s.size - 1) / (inside_s[-1] - inside_s[0])
    return rates


@cache
def peers() -> dict[str, Breaths]:
    found: dict[str, Breaths] = {}
    try:
        import neurokit2
    except ImportError:
        pass
    else:
        for method in RSP_METHODS:

            def detect(breathing: Floats, rate_hz: float, method: str = method) -> NDArray[np.int64]:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    cleaning = "biosppy" if method == "biosppy" else "khodadad2018"
                    clean = neurokit2.rsp_clean(breathing, sampling_rate=int(rate_hz), method=cleaning)
                    peaks = neurokit2.rsp_findpeaks(clean, sampling_rate=int(rate_hz), method=method)
                return np.asarray(peaks["RSP_Peaks"], dtype=np.int64)

            found[f"NeuroKit2 {method}"] = detect
    try:
        from biosppy.signals import resp
    except ImportError as error:  # biosppy imports peakutils without asking for it
        print(f"biosppy left out: {error}")
    else:

        def biosppy(breathing: Floats, rate_hz: float) -> NDArray[np.int64]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                crossings = resp.resp(signal=breathing, sampling_rate=rate_hz, show=False)["zeros"]
            return np.asarray(crossings[::2], dtype=np.int64)

        found["BioSPPy"] = biosppy
    return found


def best_derived_peer(ecg: Floats, reference: Floats) -> tuple[str, float] | None:
    """Return which ECG-derived respiration of NeuroKit2 comes closest to the reference, and its mean error."""
    try:
        import neurokit2
    except ImportError:
        return None
    starts_s = np.arange(reference.size) * STEP_S
    errors = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, info = neurokit2.ecg_peaks(neurokit2.ecg_clean(ecg, sampling_rate=125), sampling_rate=125)
        rate = neurokit2.ecg_rate(info, sampling_rate=125, desired_length=ecg.size)
        for method in EDR_METHODS:
            derived = neurokit2.ecg_rsp(rate, sampling_rate=125, method=method)
            peaks = neurokit2.rsp_findpeaks(derived, sampling_rate=125, method="scipy")["RSP_Peaks"]
            found = mean_interval_rates(np.asarray(peaks) / 125.0, starts_s)
            errors[method] = float(np.nanmean(np.abs(found - reference)))
    best = min(errors, key=lambda method: errors[method])
    return f"NeuroKit2 {best}", errors[best]


def derived_peer_s(ecg: Floats) -> float | None:
    try:
        import neurokit2
    except ImportError:
        return None
    start_s = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, info = neurokit2.ecg_peaks(neurokit2.ecg_clean(ecg, sampling_rate=125), sampling_rate=125)
        rate = neurokit2.ecg_rate(info, sampling_rate=125, desired_length=ecg.size)
        derived = neurokit2.ecg_rsp(rate, sampling_rate=125)
        neurokit2.rsp_findpeaks(derived, sampling_rate=125, method="scipy")
    return time.process_time() - start_s


def bidmc() -> tuple[Floats, Floats, Floats]:
    with gzip.open(DATA / "resp/bidmc/bidmc_01_Signals.csv.gz", "rt") as file:
        names = [name.strip() for name in file.readline().split(",")]
        columns = tuple(names.index(name) for name in ("RESP", "PLETH", "II"))
        respiration, pleth, ecg = np.loadtxt(file, delimiter=",", usecols=columns).T.copy()
    return respiration, pleth, ecg


def a103l() -> tuple[Floats, Floats]:
    """Return ECG lead V and finger pleth of an alarm with artefacts, 5.5 min at 250 Hz; no respiration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import wfdb

        record = wfdb.rdrecord(str(DATA / "icu/a103l"))
    return record.p_signal[:, 1], record.p_signal[:, 2]


if __name__ == "__main__":
    sys.exit(main())
