"""Real records through a simulated device, the gateway, broker, recorder and store come back as they were."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import resample_poly

from firmware_sim.recordings import Recording, read_wfdb
from lab_api.evaluation import Evaluation, clinical_protocol, evaluate
from lab_api.evidence.sources import from_recordings, from_sessions
from lab_api.house import GATEWAY
from lab_api.replay import replay
from lab_api.store.sqlite import SqliteSessionStore

EC57 = clinical_protocol("ansi-aami-ec57")
SPEED = 400.0


def beginning(recording: Recording, minutes: int) -> Recording:
    """Return the first minutes of a recording."""
    n_samples = min(recording.n_samples, round(60 * minutes * recording.rate_hz))
    n_marks = int(np.searchsorted(recording.annotation_samples, n_samples))
    return dataclasses.replace(
        recording,
        values=recording.values[:, :n_samples].copy(),
        annotation_samples=recording.annotation_samples[:n_marks].copy(),
        annotation_symbols=recording.annotation_symbols[:n_marks],
    )


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """Return all that an evaluation says, but for where it comes from."""
    document = evaluation.document
    sources = [source["figures"] | {"missing_samples": 0} for source in document["sources"]]
    return {"verdict": document["verdict"], "facts": document["facts"], "sources": sources}


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "link", "minutes", "speed"),
    [("100", "pty", 31, SPEED), ("114", "pty", 31, SPEED), ("119", "rfc2217", 6, 100.0)],
)
def test_a_record_replayed_as_a_prototype_is_in_the_session_sample_for_sample(
    shared: Path, tmp_path: Path, name: str, link: str, minutes: int, speed: float
) -> None:
    recording = beginning(read_wfdb(shared / "data/ecg/mitdb" / name), minutes)
    result = asyncio.run(replay(recording, "fablab", speed=speed, folder=tmp_path, link=link))
    with SqliteSessionStore(tmp_path / "sessions") as store:
        reading = store.read(result["session"], GATEWAY, f"replay-{name}", "signal")
        recorded = evaluate(from_sessions(store, [result["session"]], EC57), EC57)
    assert (result["lost_samples"], result["decode_errors"]) == (0, 0)
    (segment,) = reading.segments
    assert segment.first_index == 0
    assert reading.stream.rate_hz == recording.rate_hz
    np.testing.assert_array_equal(segment.values, recording.values)
    np.testing.assert_allclose(reading.physical(), recording.physical(), rtol=0, atol=1e-12)
    on_file = evaluate(from_recordings([recording], EC57), EC57)
    assert figures(recorded) == figures(on_file)
    assert on_file.document["sources"][0]["figures"]["true_positives"] > 50


@pytest.mark.shared_data
def test_a_record_replayed_as_a_chest_strap_is_its_first_lead_at_130_hz_in_microvolts(
    shared: Path, tmp_path: Path
) -> None:
    recording = read_wfdb(shared / "data/ecg/mitdb/103")
    result = asyncio.run(replay(recording, "polar-h10", speed=SPEED, folder=tmp_path))
    with SqliteSessionStore(tmp_path / "sessions") as store:
        reading = store.read(result["session"], GATEWAY, "replay-103", "ecg")
        recorded = evaluate(from_sessions(store, [result["session"]], EC57), EC57)
    microvolts = resample_poly(1000 * recording.physical()[0], 13, 36, padtype="line")
    (segment,) = reading.segments
    np.testing.assert_array_equal(segment.values[0], np.rint(microvolts))
    on_file = evaluate(from_recordings([recording], EC57), EC57)
    strap, file = (e.document["sources"][0]["figures"] for e in (recorded, on_file))
    n_beats = file["true_positives"] + file["false_negatives"]
    assert strap["true_positives"] + strap["false_negatives"] == n_beats
    assert strap["true_positives"] >= 0.99 * n_beats
    assert strap["false_positives"] <= 0.01 * n_beats
