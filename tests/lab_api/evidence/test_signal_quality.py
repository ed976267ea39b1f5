"""What devices report of their signal: which words of which device mean that a reading is none."""

from __future__ import annotations

import numpy as np
import pytest

from lab_api.evidence.signal_quality import reported_poor
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.devices import nonin, pulse_oximeter
from protocols.samples import SampleBlock

START_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000
DEVICE = SessionDevice("test", "gw", "oximeter")


def poor_at(
    store: SqliteSessionStore, block: SampleBlock, times_s: list[float], quantity: str = "spo2"
) -> list[bool]:
    opened = store.open_session(subject="S-1", devices=[DEVICE], opened_ns=START_NS)
    store.write({opened.id: [("gw", block)]})
    times_ns = START_NS + (np.array(times_s) * SECOND_NS).astype(np.int64)
    return reported_poor(store, opened, DEVICE, quantity, times_ns).tolist()


def pleth(status: int, *, device: str = "oximeter") -> SampleBlock:
    """Three seconds of a good signal, with a status in the middle one."""
    statuses = np.repeat([nonin.GREEN_PERFUSION, status, nonin.GREEN_PERFUSION], [75, 75, 75])
    values = np.stack([np.zeros(225), statuses]).astype(np.uint16)
    return SampleBlock(device, nonin.PLETH, 1, 0, START_NS, values, START_NS, 0, 0)


@pytest.mark.parametrize(
    ("status", "poor"),
    [
        (nonin.GREEN_PERFUSION, False),
        (nonin.GREEN_PERFUSION | nonin.RED_PERFUSION, False),  # yellow: marginal
        (nonin.ARTIFACT, False),
        (0, False),
        (nonin.RED_PERFUSION, True),
        (nonin.SENSOR_ALARM, True),
        (nonin.OUT_OF_TRACK | nonin.GREEN_PERFUSION, True),
    ],
)
def test_a_lost_signal_and_low_perfusion_of_a_nonin_are_poor(
    store: SqliteSessionStore, status: int, poor: bool
) -> None:
    assert poor_at(store, pleth(status), [1.5]) == [poor]


def test_a_report_holds_for_a_second_around_it(store: SqliteSessionStore) -> None:
    # the status lasts from 1 s up to its last sample, one before 2 s
    assert poor_at(store, pleth(nonin.SENSOR_ALARM), [-0.01, 0.0, 2.9, 3.0]) == [False, True, True, False]


def test_a_pulse_amplitude_of_0_is_poor_and_a_missing_one_says_nothing(store: SqliteSessionStore) -> None:
    index = np.array([0.2, np.nan, np.nan, 0.0])
    times_ns = START_NS + np.arange(0, 40, 10, dtype=np.int64) * SECOND_NS
    values = np.stack([np.full(4, 95.0), np.full(4, 60.0), index])
    block = SampleBlock(
        "oximeter", pulse_oximeter.OXIMETRY, 1, 0, START_NS, values, START_NS, 0, 0, None, times_ns
    )
    assert poor_at(store, block, [0.0, 10.0, 20.0, 30.0]) == [False, False, False, True]


def test_reports_of_another_device_or_on_another_quantity_do_not_count(store: SqliteSessionStore) -> None:
    assert poor_at(store, pleth(nonin.SENSOR_ALARM, device="other"), [1.5]) == [False]
    assert poor_at(store, pleth(nonin.SENSOR_ALARM), [1.5], quantity="temperature") == [False]
