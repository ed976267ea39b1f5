"""One channel of a stream, read piece by piece, is what was written."""

from __future__ import annotations

import numpy as np
import pytest

from lab_api.evidence import waveforms
from lab_api.evidence.waveforms import read_waveform
from lab_api.store.session_store import Session, SessionDevice, StreamKey
from lab_api.store.sqlite import SqliteSessionStore
from protocols.errors import DefinitionError
from protocols.samples import Channel, SampleBlock, Stream

START_NS = 1_790_000_000_000_000_000
ECG = Stream("ecg", (Channel("lead_1", "uV"), Channel("lead_2", "uV")), "int16", 250.0)


def recorded(
    store: SqliteSessionStore, values: np.ndarray, *, lose: slice = slice(0, 0), boots: int = 1
) -> tuple[Session, StreamKey]:
    session = store.open_session(
        subject="S-1", devices=[SessionDevice("test", "gw", "strap")], opened_ns=START_NS
    )
    for boot in range(boots):
        blocks = [
            SampleBlock(
                "strap", ECG, 1 + boot, 7 + i, START_NS + i * 4_000_000, values[:, i : i + 100], START_NS, 0, 0
            )
            for i in range(0, values.shape[1], 100)
            if not lose.start <= i < lose.stop
        ]
        store.write({session.id: [("gw", block) for block in blocks]})
    return session, store.streams(session.id)[0]


@pytest.fixture(params=[2_000_000, 2_600, 200])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waveforms, "_AT_ONCE", request.param)


@pytest.mark.usefixtures("_pieces")
def test_a_channel_is_whole_however_it_is_read(store: SqliteSessionStore, rng: np.random.Generator) -> None:
    values = rng.integers(-3000, 3000, (2, 12_000), dtype=np.int16)
    session, key = recorded(store, values)
    waveform = read_waveform(store, session, key, 1)
    assert waveform.values.dtype == np.int16
    np.testing.assert_array_equal(waveform.values, values[1])
    assert (waveform.first_index, waveform.start_ns, waveform.n_stored) == (7, START_NS, 12_000)
    assert waveform.times_ns(250.0)[-1] == START_NS + 11_999 * 4_000_000


@pytest.mark.usefixtures("_pieces")
def test_missing_samples_are_nan_in_their_place(store: SqliteSessionStore, rng: np.random.Generator) -> None:
    values = rng.integers(-3000, 3000, (2, 12_000), dtype=np.int16)
    session, key = recorded(store, values, lose=slice(3_000, 4_000))
    waveform = read_waveform(store, session, key, 0)
    expected = values[0].astype(float)
    expected[3_000:4_000] = np.nan
    np.testing.assert_array_equal(waveform.values, expected)
    assert waveform.n_stored == 11_000


def test_a_boot_is_chosen_or_asked_for(store: SqliteSessionStore) -> None:
    session, key = recorded(store, np.ones((2, 500), np.int16), boots=2)
    with pytest.raises(DefinitionError, match="2 boots of the device in session"):
        read_waveform(store, session, key, 0)
    with pytest.raises(DefinitionError, match="0 boots of the device with id 9"):
        read_waveform(store, session, key, 0, boot_id=9)
    assert read_waveform(store, session, key, 0, boot_id=2).values.size == 500
