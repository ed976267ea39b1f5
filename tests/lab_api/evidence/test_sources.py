"""Evidence is the same, in the same order, whoever takes it: this process, several, or a Dask scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lab_api.evaluation import clinical_protocol, evaluate
from lab_api.evidence import sources
from lab_api.evidence.sources import from_folder, from_record_files, from_sessions, workers
from lab_api.store.session_store import AnnotationSet, SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.errors import DefinitionError, SignalError, TransportError
from protocols.samples import Channel, SampleBlock, Stream

START_NS = 1_790_000_000_000_000_000
ECG = Stream("ecg", (Channel("ecg", "uV"),), "int32", 250.0)
EC57 = clinical_protocol("ansi-aami-ec57")


@pytest.fixture
def cohort(tmp_path: Path) -> tuple[Path, list[str]]:
    """A folder of four sessions that differ, and their ids."""
    with SqliteSessionStore(tmp_path) as store:
        return tmp_path, [_session(store, number, missed=number) for number in range(4)]


def _session(store: SqliteSessionStore, number: int, *, missed: int) -> str:
    ecg = np.zeros((1, 400 * 250), np.int32)
    beats = np.arange(125, ecg.size, 250)
    ecg[0, beats] = 1000
    ecg[0, beats[beats.size - missed :]] = 0
    session = store.open_session(
        subject=f"S-{number}", devices=[SessionDevice("test", "gw", "strap")], opened_ns=START_NS + number
    )
    store.write({session.id: [("gw", SampleBlock("strap", ECG, 1, 0, START_NS + number, ecg, START_NS, 0, 0))]})
    annotations = AnnotationSet("atr", "gw", "strap", "ecg", 250.0, beats.astype(np.int64), ("N",) * beats.size)
    store.annotate(session.id, annotations)
    return session.id


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address=None,
        host="127.0.0.1",
        protocol="tcp://",
    ) as cluster:
        yield cluster.scheduler_address


def test_several_processes_give_what_one_gives(cohort: tuple[Path, list[str]]) -> None:
    folder, ids = cohort
    with SqliteSessionStore(folder) as store:
        alone = evaluate(from_sessions(store, ids, EC57), EC57)
    with workers(jobs=2) as pool:
        together = evaluate(from_folder(folder, ids, EC57, workers=pool), EC57)
        with pytest.raises(DefinitionError, match="0 devices in the role 'reference'"):
            from_folder(folder, ids, clinical_protocol("iso-80601-2-61-2017"), workers=pool)
    assert together.to_json() == alone.to_json()
    assert [source["figures"]["false_negatives"] for source in together.document["sources"]] == [0, 1, 2, 3]


def test_a_dask_scheduler_gives_what_this_process_gives(cohort: tuple[Path, list[str]], scheduler: str) -> None:
    folder, ids = cohort
    with workers(jobs=1) as nobody, workers(jobs=1, dask=scheduler) as dask:
        alone, together = (from_folder(folder, ids, EC57, workers=pool) for pool in (nobody, dask))
    assert evaluate(together, EC57).to_json() == evaluate(alone, EC57).to_json()


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_DASK_TIMEOUT_S", 0.3)
    with (
        pytest.raises(TransportError, match=r"Dask scheduler tcp://127\.0\.0\.1:9"),
        workers(jobs=1, dask="tcp://127.0.0.1:9"),
    ):
        pass


@pytest.mark.shared_data
def test_records_are_compared_side_by_side(shared: Path) -> None:
    paths = [shared / "data/ecg/mitdb" / name for name in ("100", "103")]
    with workers(jobs=2) as pool:
        evidence = from_record_files(paths, EC57, workers=pool)
    assert [source.id for source in evidence.sources] == ["100", "103"]
    with pytest.raises((DefinitionError, SignalError), match="judges spo2"):
        from_record_files(paths, clinical_protocol("iso-80601-2-61-2017"), workers=None)
