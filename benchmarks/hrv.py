"""Heart-rate variability: published answers, EC57 patterns, repair of real artefacts, time and memory of 24 h.

The peer, where installed, is NeuroKit2. Its non-linear figures take the square of the number of beats (some
14 s for 30 minutes), so a day of them is not run: its time for a day is bounded from below by its time and
frequency domains of the day and its non-linear figures of half an hour. Recordings and answers are looked for
under LAB_SHARED.

    python benchmarks/hrv.py
"""

from __future__ import annotations

import gzip
import os
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from costs import peak_bytes, shortest_s
from numpy.typing import NDArray
from report import Report

from analysis import hrv, hrv_nonlinear
from analysis.hrv_frequency import lomb_scargle_bands, welch_bands
from analysis.hrv_recordings import recording_rmssd_ms
from analysis.rr_artefacts import correct_rr, physiological

Floats = NDArray[np.float64]

SHARED = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared"))
ROUNDS = 7
PEER_ROUNDS = 3
SPEED_LIMIT = 50.0
MEMORY_LIMIT = 8.0
UNPACED = (100, 101, 103, 105, 106, 108, 109, *range(111, 120), 121, 122, 123, 124)
NORMAL, BEATS = set("NLRB"), set("NLRBAaJSVrFejnE/fQ")


def main() -> int:
    report = Report()
    warnings.simplefilter("ignore")
    if not (SHARED / "data").is_dir():
        report.skip("hrv", f"no recordings at {SHARED}; set LAB_SHARED to the folder that holds data/")
        return report.exit_code
    published_answers(report)
    test_patterns(report)
    artefacts(report)
    day_ms = day()
    speed(report, day_ms)
    memory(report, day_ms)
    return report.exit_code


def published_answers(report: Report) -> None:
    nn_ms = np.loadtxt(SHARED / "oracles/hrv_nn_intervals.csv", skiprows=1)
    of = hrv.hrv(nn_ms)
    for name, found, answer, digits in (
        ("mean NN", of.mean_nn_ms, 718.248, 3),
        ("SDNN", of.sdnn_ms, 43.113075, 6),
        ("RMSSD", of.rmssd_ms, 19.519401, 6),
        ("pNN50", of.pnn50_percent, 2.4024, 4),
        ("SD1", of.sd1_ms, 13.80919, 5),
        ("SD2", of.sd2_ms, 59.38670, 5),
        ("triangular index, 8 ms", hrv.triangular_index(nn_ms, bin_ms=8.0), 11.3636, 4),
        ("sample entropy", of.sample_entropy, 1.20467, 5),
    ):
        off = abs(round(float(found), digits) - answer) * 10**digits
        report.figure(
            f"hrv: {name} of 1000 NN",
            float(found),
            "ms, %, 1",
            ratio=off,
            of=f"the last digit of {answer} away",
            at_most=0.5,
        )


def test_patterns(report: Report) -> None:
    for pattern, band, answer in (("TP2", "hf_ms2", 612.5), ("TP4", "vlf_ms2", 39_200.0)):
        with gzip.open(SHARED / f"data/hrv/ec57_tp/HRV256_{pattern}.txt.gz", "rt") as file:
            rr_ms = 1000.0 * np.loadtxt(file, delimiter=",")[:, 1]
        for method, bands in (("Welch", welch_bands), ("Lomb", lomb_scargle_bands)):
            found = float(getattr(bands(rr_ms), band))
            report.figure(
                f"hrv: EC57 {pattern}, {method}",
                found,
                "ms2",
                ratio=1.0 - abs(found / answer - 1.0),
                of=f"{answer:g} in {band[:-4].upper()} (1 less the deviation)",
                at_least=0.985,
            )


def artefacts(report: Report) -> None:
    """Compare RMSSD of repaired series with that of the pairs of beats which cardiologists called normal."""
    import wfdb

    kubios = peer_repair()
    ours, theirs, left_out = [], [], 0
    for record in UNPACED:
        annotation = wfdb.rdann(str(SHARED / f"data/ecg/mitdb/{record}"), "atr")
        is_beat = np.array([symbol in BEATS for symbol in annotation.symbol])
        normal = np.array([symbol in NORMAL for symbol in annotation.symbol])[is_beat]
        times_s = annotation.sample[is_beat] / 360.0
        rr_ms = 1000.0 * np.diff(times_s)
        truth = float(hrv.rmssd_ms(np.where(normal[1:] & normal[:-1], rr_ms, np.nan)))
        found = recording_rmssd_ms(rr_ms, times_ns=(1e9 * times_s[1:]).astype(np.int64))
        if np.isnan(found):
            left_out += 1
            continue
        ours.append(abs(found / truth - 1.0))
        if kubios is not None:
            theirs.append(abs(float(hrv.rmssd_ms(kubios(annotation.sample[is_beat]))) / truth - 1.0))
    name = f"hrv: RMSSD repaired, {len(ours)} MIT-BIH records"
    value = 100 * statistics.median(ours)
    if kubios is None:
        report.skip(name, f"{value:.1f} % median deviation, but no neurokit2 to compare with")
    else:
        of = f"{100 * statistics.median(theirs):.1f} %, NeuroKit2's repair"
        report.figure(
            name, value, "% off NN", ratio=value / 100 / statistics.median(theirs), of=of, at_most=1.0
        )
    of = f"{len(UNPACED)} records have no RMSSD for want of rhythm"
    report.figure(
        "hrv: records without a figure", left_out, "", ratio=left_out / len(UNPACED), of=of, at_most=0.2
    )


def speed(report: Report, day_ms: Floats) -> None:
    ours_s = shortest_s(lambda: hrv.hrv(day_ms), rounds=ROUNDS)
    lomb_s = shortest_s(lambda: lomb_scargle_bands(day_ms), rounds=PEER_ROUNDS)
    of = "one full set by hrv()"
    report.figure("hrv: Lomb-Scargle of 24 h", 1000 * lomb_s, "ms", ratio=lomb_s / ours_s, of=of, at_most=10.0)
    try:
        import neurokit2
    except ImportError:
        report.skip("hrv: 24 h against neurokit2", f"{1000 * ours_s:.0f} ms, but no neurokit2 to compare with")
        return
    seconds = np.cumsum(np.nan_to_num(day_ms, nan=float(np.nanmedian(day_ms)))) / 1000.0
    peaks = np.unique(np.rint(1000.0 * seconds).astype(np.int64))

    def first(minutes: float) -> NDArray[np.int64]:
        return peaks[peaks < 60_000 * minutes]

    def parts_s(beats: NDArray[np.int64], beats_of_nonlinear: NDArray[np.int64]) -> list[float]:
        return [
            shortest_s(lambda: neurokit2.hrv_time(beats, sampling_rate=1000), rounds=1),
            shortest_s(lambda: neurokit2.hrv_frequency(beats, sampling_rate=1000), rounds=1),
            shortest_s(lambda: neurokit2.hrv_nonlinear(beats_of_nonlinear, sampling_rate=1000), rounds=1),
        ]

    neurokit2.hrv(first(2), sampling_rate=1000)  # loads what it needs
    for minutes in (5, 30):
        rr_ms = np.diff(first(minutes)).astype(np.float64)
        *fast_s, nonlinear_s = parts_s(first(minutes), first(minutes))
        nk_s = sum(fast_s) + nonlinear_s
        here_s = shortest_s(lambda rr_ms=rr_ms: hrv.hrv(rr_ms), rounds=ROUNDS)
        report.figure(
            f"hrv: full set of {minutes} min",
            1000 * here_s,
            "ms",
            ratio=nk_s / here_s,
            of=f"times faster than neurokit2.hrv, {nk_s:.2f} s",
            at_least=SPEED_LIMIT,
        )
    fast_s = parts_s(peaks, first(2))[:2]
    bound_s = sum(fast_s) + nonlinear_s
    report.figure(
        f"hrv: full set of 24 h, {day_ms.size} beats",
        1000 * ours_s,
        "ms",
        ratio=bound_s / ours_s,
        of=f"times faster than neurokit2, more than {bound_s:.1f} s",
        at_least=SPEED_LIMIT,
    )

    def ours_in_time() -> None:
        for figure in (
            hrv.sdnn_ms,
            hrv.sdann_ms,
            hrv.sdnn_index_ms,
            hrv.rmssd_ms,
            hrv.sdsd_ms,
            hrv.pnn_percent,
        ):
            figure(day_ms)
        for figure in (hrv.triangular_index, hrv.tinn_ms, hrv.mad_ms, welch_bands):
            figure(day_ms)

    same_s = shortest_s(ours_in_time, rounds=ROUNDS)
    report.figure(
        "hrv: time and frequency domains of 24 h",
        1000 * same_s,
        "ms",
        ratio=sum(fast_s) / same_s,
        of=f"times faster than neurokit2, {sum(fast_s):.1f} s",
        at_least=10.0,
    )


def memory(report: Report, day_ms: Floats) -> None:
    for name, run in (
        ("full set", lambda: hrv.hrv(day_ms)),
        ("Lomb-Scargle", lambda: lomb_scargle_bands(day_ms)),
        ("sample entropy", lambda: hrv_nonlinear.sample_entropy(day_ms)),
        ("artefact repair", lambda: correct_rr(day_ms)),
    ):
        run()
        peak = peak_bytes(run)
        report.figure(
            f"hrv: peak memory of 24 h, {name}",
            peak / 1e6,
            "MB",
            ratio=peak / day_ms.nbytes,
            of="the input",
            at_most=MEMORY_LIMIT,
        )


def peer_repair() -> Callable[[NDArray[np.int64]], Floats] | None:
    try:
        import neurokit2
    except ImportError:
        return None

    def repaired_ms(peaks: NDArray[np.int64]) -> Floats:
        _, found = neurokit2.signal_fixpeaks(peaks, sampling_rate=360, iterative=True, method="Kubios")
        return np.diff(np.asarray(found, dtype=np.float64)) / 0.36

    return repaired_ms


def day() -> Floats:
    """Return the intervals of a 24 h Holter recording, those out of 300 to 2,000 ms rejected."""
    import wfdb

    samples = wfdb.rdann(str(SHARED / "data/hrv/nsr2db/nsr001"), "ecg").sample
    return physiological(np.maximum(np.diff(samples) / 0.128, 1.0))


if __name__ == "__main__":
    sys.exit(main())
