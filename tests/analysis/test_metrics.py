"""From evidence to measurements, and on to a verdict, for both measurands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.beat_detection import compare_record
from analysis.detection import read_annotations
from analysis.heartbeats import detect_qrs
from analysis.metrics import METRICS, measure
from analysis.paired_study import PairedStudy
from analysis.pairing import pair_readings
from protocols.clinical.library import shipped
from protocols.clinical.verdict import Outcome, judge_protocol
from protocols.errors import SignalError


def desaturation_study(rng: np.random.Generator, *, bias: float, n_subjects: int = 12) -> PairedStudy:
    protocol = shipped()["iso-80601-2-61-2017"]
    times_s = np.arange(0, 900, 1 / 3)
    levels = np.interp(times_s, np.arange(10) * 100.0, [98, 95, 91, 87, 84, 81, 78, 75, 72, 97])
    plateaus = levels[(times_s // 100 * 300).astype(int)]
    times_ns = (times_s * 1e9).astype(np.int64)
    recordings = []
    for subject in range(n_subjects):
        device = plateaus + bias + rng.normal(0, 0.5) + rng.normal(0, 1, times_s.size)
        pairs = pair_readings(
            times_ns,
            plateaus,
            times_ns[::3],
            np.minimum(device, 100.0)[::3],
            window_s=protocol.pairing.window_s,
            stable_s=protocol.pairing.stable_s,
            stable_range=protocol.pairing.stable_range,
        )
        name = f"subject-{subject}"
        recordings.append(PairedStudy.of_pairs("spo2", name, name, pairs.times_ns, pairs.reference, pairs.test))
    return PairedStudy.gather(recordings)


@pytest.mark.parametrize(("bias", "outcome"), [(1.0, Outcome.PASS), (5.0, Outcome.FAIL)])
def test_a_desaturation_study_is_judged(rng: np.random.Generator, bias: float, outcome: Outcome) -> None:
    protocol = shipped()["iso-80601-2-61-2017"]
    verdict = judge_protocol(protocol, *measure(protocol, desaturation_study(rng, bias=bias)))
    assert verdict.outcome is outcome
    assert verdict.design_sufficient


def test_too_few_subjects_are_inconclusive_however_bad_the_device(rng: np.random.Generator) -> None:
    protocol = shipped()["iso-80601-2-61-2017"]
    study = desaturation_study(rng, bias=9.0, n_subjects=5)
    assert judge_protocol(protocol, *measure(protocol, study)).outcome is Outcome.INCONCLUSIVE


def test_without_evidence_nothing_is_measured() -> None:
    for protocol, evidence in (
        (shipped()["iso-80601-2-61-2017"], PairedStudy.empty()),
        (shipped()["ansi-aami-ec57"], []),
    ):
        assert judge_protocol(protocol, *measure(protocol, evidence)).outcome is Outcome.NOT_MEASURED


@pytest.mark.shared_data
def test_a_real_record_is_judged_and_a_deaf_detector_fails(mit_bih) -> None:  # type: ignore[no-untyped-def]
    protocol = shipped()["ansi-aami-ec57"]
    lead, samples, symbols = mit_bih(100)
    reference = read_annotations(samples, symbols)
    beats = detect_qrs(lead, rate_hz=360.0)
    for test, outcome in ((beats, Outcome.PASS), (beats[::2], Outcome.FAIL)):
        record = compare_record("100", reference, test, rate_hz=360.0, pairing=protocol.pairing)
        assert judge_protocol(protocol, *measure(protocol, [record])).outcome is outcome


@pytest.mark.shared_data
def test_a_paced_record_is_inconclusive(mit_bih) -> None:  # type: ignore[no-untyped-def]
    protocol = shipped()["ansi-aami-ec57"]
    _, samples, symbols = mit_bih(104)
    reference = read_annotations(samples, symbols)
    record = compare_record("104", reference, reference.samples, rate_hz=360.0, pairing=protocol.pairing)
    assert judge_protocol(protocol, *measure(protocol, [record])).outcome is Outcome.INCONCLUSIVE


def test_the_same_evidence_gives_the_same_report(rng: np.random.Generator) -> None:
    protocol = shipped()["iso-80601-2-61-2017"]
    study = desaturation_study(rng, bias=1.0)
    first, second = (judge_protocol(protocol, *measure(protocol, study)) for _ in range(2))
    assert str(first) == str(second)
    assert first.as_dict() == second.as_dict()


@pytest.mark.parametrize("metric", ["spo2_nonsense", "qrs_jitter"])
def test_a_metric_that_is_not_of_the_measurand_is_refused(metric: str) -> None:
    protocol = shipped()["iso-80601-2-61-2017"]
    protocol = replace(protocol, criteria=(replace(protocol.criteria[0], metric=metric),))
    with pytest.raises(SignalError, match=f"metric '{metric}' for spo2"):
        measure(protocol, PairedStudy.empty())


def test_every_metric_says_where_it_is_defined() -> None:
    assert all(metric.source for metric in METRICS.values())
