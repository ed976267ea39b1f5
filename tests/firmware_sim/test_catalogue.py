from __future__ import annotations

import math

import numpy as np
import pytest

from firmware_sim.catalogue import CATALOGUE, PPG_OPTIONS, Setup, gateway_options, simulated_device
from firmware_sim.device import AttError, SimulatedDevice
from firmware_sim.models.polar import CLOCK_START_NS
from firmware_sim.signals.desaturation import Plateau, SaturationProfile, controlled_desaturation
from firmware_sim.signals.ecg import EcgLead
from firmware_sim.signals.oximeter import OximeterModel
from firmware_sim.signals.subject import Subject
from protocols.devices import polar
from protocols.devices.kind import BleLink, Samples
from protocols.devices.registry import KINDS, device_kind
from protocols.errors import DefinitionError

PERFECT = OximeterModel()


def listen(device: SimulatedDevice, start_s: float = 0.0) -> list[bytes | None]:
    """Connect and start as a gateway does; return the answers."""
    device.connect()
    answers: list[bytes | None] = []
    if isinstance(device.kind.link, BleLink):
        answers = [device.write(command.characteristic, command.data) for command in device.kind.link.startup]
    device.advance(start_s)
    return answers


def decoded(device: SimulatedDevice, until_s: float) -> dict[str, list[Samples]]:
    decoder = device.kind.new_decoder()
    streams: dict[str, list[Samples]] = {stream.name: [] for stream in device.kind.streams}
    for source, data in device.advance(until_s):
        result = decoder.feed(source, data)
        assert result.errors == ()
        for samples in result.samples:
            streams[samples.stream].append(samples)
    return streams


def joined(parts: list[Samples]) -> np.ndarray:
    return np.concatenate([part.values for part in parts], axis=1)


def test_every_kind_of_the_registry_can_be_simulated() -> None:
    assert set(CATALOGUE) == set(KINDS)


@pytest.mark.parametrize("kind_name", KINDS)
def test_every_kind_fills_all_its_streams_at_their_rate(kind_name: str) -> None:
    device = simulated_device(kind_name, Setup(Subject(1)))
    listen(device)
    streams = decoded(device, 120)
    for stream in device.kind.streams:
        n_samples = joined(streams[stream.name]).shape[1]
        assert n_samples > 0
        if stream.rate_hz is not None:
            assert n_samples == pytest.approx(120 * stream.rate_hz, abs=stream.rate_hz)


@pytest.mark.parametrize("kind_name", KINDS)
def test_everything_a_gateway_reads_can_be_read_and_decoded(kind_name: str) -> None:
    device = simulated_device(kind_name, Setup(Subject(1), seed=7))
    link = device.kind.link
    if not isinstance(link, BleLink):
        return
    decoder, properties = device.kind.new_decoder(), {}
    for uuid in link.reads:
        result = decoder.feed(uuid, device.read(uuid))
        assert result.errors == ()
        properties |= result.properties
    assert properties["serial_number"] == f"{kind_name}-7"[-20:]
    notified = {c.uuid for s in link.services for c in s.characteristics if "notify" in c.properties}
    with pytest.raises(AttError):
        device.read(min(notified - set(link.reads)))


@pytest.mark.parametrize("kind_name", KINDS)
def test_options_for_a_gateway_name_the_same_kind(kind_name: str) -> None:
    device = simulated_device(kind_name, Setup(Subject(1)))
    again = device_kind(kind_name, gateway_options(device.kind))
    assert again.streams == device.kind.streams
    assert again.counter_modulus == device.kind.counter_modulus


@pytest.mark.parametrize("kind_name", ["pulse-oximeter", "nonin-7"])
def test_an_oximeter_without_error_shows_the_subjects_saturation(kind_name: str) -> None:
    subject = Subject(4, controlled_desaturation(4))
    device = simulated_device(kind_name, Setup(subject, oximeter=PERFECT))
    listen(device)
    shown = joined(decoded(device, subject.saturation.end_s)["oximetry"])
    rate_hz = shown.shape[1] / subject.saturation.end_s
    for plateau in subject.saturation.plateaus:
        steady = slice(round((plateau.start_s + 6) * rate_hz), round((plateau.end_s - 1) * rate_hz))
        assert shown[0, steady] == pytest.approx(plateau.sao2_percent, abs=0.51)
        expected_bpm = subject.heart_rate_bpm(np.array([plateau.end_s]))[0]
        assert np.mean(shown[1, steady]) == pytest.approx(expected_bpm, rel=0.05)
    assert np.isnan(shown[:2, 0]).all()


def test_two_devices_on_one_subject_see_the_same_truth() -> None:
    subject = Subject(4, SaturationProfile((Plateau(0, 60, 97.0), Plateau(80, 200, 81.0))))
    nonin = simulated_device("nonin-7", Setup(subject, oximeter=PERFECT))
    plx = simulated_device("pulse-oximeter", Setup(subject, oximeter=PERFECT))
    listen(nonin)
    listen(plx)
    reference = joined(decoded(nonin, 150)["oximetry"])[0, 2::3]
    candidate = joined(decoded(plx, 150)["oximetry"])[0]
    assert np.array_equal(reference, candidate, equal_nan=True)


def test_rr_intervals_add_up_to_the_subjects_beats() -> None:
    subject = Subject(2)
    device = simulated_device("heart-rate-strap", Setup(subject))
    listen(device)
    streams = decoded(device, 600)
    rr_s = device.kind.stream("rr").physical(joined(streams["rr"]))[0]
    beats_s = subject.beats_s(0, 600)
    assert beats_s[-1] - np.cumsum(rr_s[::-1])[::-1] == pytest.approx(beats_s[:-1][-rr_s.size :], abs=0.001)
    assert rr_s.size >= beats_s.size - 1
    assert np.mean(joined(streams["heart_rate"])[0]) == pytest.approx(60 / np.mean(np.diff(beats_s)), rel=0.02)


def test_polar_ecg_is_the_subjects_and_stamped_at_its_last_sample() -> None:
    subject = Subject(2)
    device = simulated_device("polar-h10", Setup(subject, snr_db=math.inf))
    answers = listen(device, start_s=10.0)
    assert [answer and answer[3] for answer in answers] == [0, 0]
    ecg = decoded(device, 40.0)["ecg"]
    first_ns = ecg[0].device_ns
    assert first_ns is not None
    assert (first_ns - CLOCK_START_NS) / 1e9 == pytest.approx(10.0, abs=1e-6)
    run_s = 10 + np.arange(joined(ecg).shape[1]) / 130
    assert joined(ecg)[0] == pytest.approx(EcgLead(subject).clean_uv(run_s), abs=0.51)


def test_polar_ecg_stops_and_starts_as_told() -> None:
    device = simulated_device("polar-h10", Setup(Subject(2)))
    listen(device)
    assert decoded(device, 5)["ecg"]
    again = device.write(polar.CONTROL_UUID, polar.START_ECG)
    assert again is not None
    assert again[3] == polar.STATUS.index("already in state")
    device.write(polar.CONTROL_UUID, polar.STOP_ECG)
    assert not decoded(device, 10)["ecg"]
    device.write(polar.CONTROL_UUID, polar.START_ECG)
    device.advance(10)
    assert decoded(device, 15)["ecg"]
    device.disconnect()
    device.connect()
    assert not decoded(device, 20)["ecg"]


@pytest.mark.parametrize("drift_ppm", [0.0, 50.0])
def test_a_prototype_counts_samples_and_time_by_its_own_clock(drift_ppm: float) -> None:
    device = simulated_device("fablab", Setup(Subject(2), drift_ppm=drift_ppm, boot=9))
    listen(device)
    parts = decoded(device, 100)["ecg"]
    assert {part.boot for part in parts} == {9}
    assert joined(parts).shape[1] == pytest.approx(50_000 * (1 + drift_ppm * 1e-6), abs=25)
    last = parts[-1]
    assert last.counter == joined(parts).shape[1] - last.values.shape[1]
    assert last.device_ns == pytest.approx(last.counter / 500 * 1e9, abs=2e3)


def test_a_prototype_may_measure_light() -> None:
    device = simulated_device("fablab", Setup(Subject(2), options=PPG_OPTIONS))
    listen(device)
    red, infrared = joined(decoded(device, 10)["ppg"])
    assert red.max() == pytest.approx(100_000, rel=0.01)
    assert np.ptp(infrared) == pytest.approx(2000, rel=0.1)


def test_the_battery_runs_down() -> None:
    device = simulated_device("heart-rate-strap", Setup(Subject(2)))
    level = next(uuid for uuid in device.kind.link.reads if "2a19" in uuid)  # type: ignore[union-attr]
    assert device.read(level) == b"\x64"
    device.advance(100 * 3600)
    assert device.read(level) == b"\x32"


@pytest.mark.parametrize(
    ("kind_name", "options", "named"),
    [
        ("toaster", {}, "device kind 'toaster'"),
        ("fablab", {"options": {"channels": [{"name": "p", "unit": "kPa"}], "rate_hz": 10}}, "channels.*'p'"),
        ("nonin-7", {"boot": -1}, "boot=-1"),
        ("nonin-7", {"seed": -1}, "seed=-1"),
        ("nonin-7", {"drift_ppm": 1e9}, "drift_ppm"),
    ],
)
def test_a_device_that_cannot_be_is_refused_by_name(
    kind_name: str, options: dict[str, object], named: str
) -> None:
    with pytest.raises(DefinitionError, match=named):
        simulated_device(kind_name, Setup(Subject(1), **options))  # type: ignore[arg-type]
