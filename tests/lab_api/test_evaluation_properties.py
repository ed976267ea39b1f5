"""What must not change a verdict, and what must: order of rows, a change of unit, another process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab_api.evaluation import clinical_protocol, evaluate
from lab_api.evidence.sources import from_tables
from lab_api.evidence.tables import read_subjects
from lab_api.settings import Settings
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.samples import Channel, SampleBlock, Stream

HEADER = "subject,session,time,quantity,reference,test"
Row = tuple[str, str, str, str, float, float]
FIGURES = ("value", "low", "high")


def pressure_rows(*, n_subjects: int = 24, seed: int = 5) -> list[Row]:
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for s in range(n_subjects):
        for quantity, level, offset in (("sbp", 130.0, rng.normal(1, 4)), ("dbp", 80.0, rng.normal(-1, 3))):
            for k in range(3):
                reference = level + 2.0 * s - 20.0 + rng.normal(0, 3)
                test = reference + offset + rng.normal(0, 5)
                time = f"2026-03-{1 + s:02}T09:{k:02}:00+00:00"
                rows.append((f"S-{s:03}", f"s-{s:03}", time, quantity, reference, test))
    return rows


def oximetry_rows(*, n_subjects: int = 12, seed: int = 5) -> list[Row]:
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for s in range(n_subjects):
        offset = rng.normal(0.5, 1.0)
        for k in range(20):
            reference = rng.uniform(70, 99)
            time = f"2026-03-{1 + s:02}T09:{k:02}:00+00:00"
            rows.append(
                (f"S-{s:03}", f"s-{s:03}", time, "spo2", reference, reference + offset + rng.normal(0, 1) - 2.0)
            )
    return rows


def judged(folder: Path, rows: Sequence[Row], protocol_id: str, *, unit: str = "") -> dict[str, Any]:
    path = folder / "pairs.csv"
    header, end = (f"{HEADER},unit", f",{unit}") if unit else (HEADER, "")
    path.write_text("\n".join([header, *(",".join(map(str, row)) + end for row in rows)]))
    protocol = clinical_protocol(protocol_id)
    return evaluate(from_tables([path], protocol), protocol).document


def figures(document: dict[str, Any]) -> dict[str, Any]:
    """Return value and interval of every criterion that has one."""
    return {
        f"{criterion['id']} {name}": criterion[name]
        for criterion in document["verdict"]["criteria"]
        for name in FIGURES
        if criterion[name] is not None
    }


@pytest.mark.parametrize(
    ("protocol", "rows"), [("iso-81060-2-2018-special", pressure_rows), ("iso-80601-2-61-2017", oximetry_rows)]
)
def test_the_order_of_rows_moves_neither_values_nor_intervals(
    tmp_path: Path, protocol: str, rows: Callable[[], list[Row]]
) -> None:
    ordered = rows()
    shuffled = random.Random(3).sample(ordered, len(ordered))
    one, other = (judged(tmp_path, which, protocol) for which in (ordered, shuffled))
    # the same draws of the same subjects; only sums are rounded in another order
    assert figures(other) == pytest.approx(figures(one), rel=1e-9, abs=1e-9)
    assert other["facts"] == pytest.approx(one["facts"], rel=1e-9)
    assert other["verdict"]["outcome"] == one["verdict"]["outcome"]
    assert len(figures(one)) > 8


def test_another_order_of_subjects_names_moves_an_interval_only_by_the_bootstrap(tmp_path: Path) -> None:
    rows = oximetry_rows()
    renamed = [(f"S-{999 - int(row[0][2:]):03}", *row[1:]) for row in rows]
    one, other = (judged(tmp_path, which, "iso-80601-2-61-2017") for which in (rows, renamed))
    for criterion, same in zip(one["verdict"]["criteria"], other["verdict"]["criteria"], strict=True):
        assert same["value"] == pytest.approx(criterion["value"], rel=1e-12)
        if criterion["low"] is not None:
            # 10,000 replicates: an end is known to a few hundredths of the interval's length
            length = criterion["high"] - criterion["low"]
            assert same["low"] == pytest.approx(criterion["low"], abs=0.04 * length)
            assert same["high"] == pytest.approx(criterion["high"], abs=0.04 * length)


def changed(rows: Sequence[Row], change: Callable[[float], float]) -> list[Row]:
    return [(*row[:4], change(row[4]), change(row[5])) for row in rows]


def test_a_shift_of_both_columns_moves_no_figure_of_differences(tmp_path: Path) -> None:
    rows = pressure_rows()
    one, other = (
        judged(tmp_path, which, "iso-81060-2-2018-special")
        for which in (rows, changed(rows, lambda x: x + 16.0))
    )
    assert figures(other) == pytest.approx(figures(one), rel=1e-9, abs=1e-9)


def test_a_shift_of_the_device_alone_moves_the_bias_and_nothing_that_is_about_it(tmp_path: Path) -> None:
    rows = pressure_rows()
    shifted = [(*row[:5], row[5] + 2.0) for row in rows]
    one, other = (figures(judged(tmp_path, which, "iso-81060-2-2018-special")) for which in (rows, shifted))
    for name in one:
        moves = 2.0 if "bias" in name or "-limit " in name else 0.0
        if "mean-error" in name or "read-rate" in name:
            continue
        assert other[name] == pytest.approx(one[name] + moves, rel=1e-9, abs=1e-9), name


def test_a_scale_of_both_columns_scales_every_figure_in_their_unit(tmp_path: Path) -> None:
    rows = pressure_rows()
    one, other = (
        figures(judged(tmp_path, which, "iso-81060-2-2018-special"))
        for which in (rows, changed(rows, lambda x: 1.25 * x))
    )
    for name, value in one.items():
        scale = 1.0 if "read-rate" in name else 1.25
        assert other[name] == pytest.approx(scale * value, rel=1e-9, abs=1e-9), name


def test_a_table_in_another_unit_is_the_same_study(tmp_path: Path) -> None:
    rows = pressure_rows()
    kilopascal = changed(rows, lambda x: x * 0.133322387415)
    one = judged(tmp_path, rows, "iso-81060-2-2018-special")
    other = judged(tmp_path, kilopascal, "iso-81060-2-2018-special", unit="kPa")
    assert figures(other) == pytest.approx(figures(one), rel=1e-6)
    assert other["verdict"]["outcome"] == one["verdict"]["outcome"]


SCRIPT = """
import json, sys
from lab_api.cli import main
for arguments in json.loads(sys.argv[1]):
    if main(arguments) != 0:
        sys.exit(1)
"""
START_NS = 1_790_000_000_000_000_000
SPO2 = Stream("oximetry", (Channel("spo2", "%", 150456),), "float64", None)


def recorded(data: Path) -> list[str]:
    """Record three sessions of two oximeters; return their ids."""
    levels = np.repeat([98.0, 88.0, 78.0], 60)
    times_ns = START_NS + np.arange(levels.size, dtype=np.int64) * 1_000_000_000
    devices = [SessionDevice("reference", "gw", "nonin"), SessionDevice("test", "gw", "plx")]
    ids = []
    with SqliteSessionStore(Settings(data_folder=data).sessions_folder) as store:
        for number in range(3):
            noise = np.random.default_rng(number).normal(1, 1, levels.size)
            session = store.open_session(subject=f"S-{number}", devices=devices, opened_ns=START_NS)
            for device, percent in (("nonin", levels), ("plx", levels - np.abs(noise))):
                values = percent[np.newaxis]
                block = SampleBlock(device, SPO2, 1, 0, START_NS, values, START_NS, 0, 0, None, times_ns)
                store.write({session.id: [("gw", block)]})
            store.close_session(session.id, closed_ns=START_NS + levels.size * 1_000_000_000)
            ids.append(session.id)
    return ids


def test_fresh_processes_give_the_same_documents_and_reports_byte_for_byte(tmp_path: Path) -> None:
    table, subjects = tmp_path / "pairs.csv", tmp_path / "subjects.csv"
    table.write_text("\n".join([HEADER, *(",".join(map(str, row)) for row in oximetry_rows())]))
    facts = [f"S-{s:03},{('female', 'male')[s % 2]},{20 + s}" for s in range(12)]
    subjects.write_text("\n".join(["subject,sex,age_years", *facts]))
    sessions = recorded(tmp_path)
    outputs = []
    for seed in ("1", "12345"):
        folder = tmp_path / seed
        folder.mkdir()
        protocol = ["--protocol", "fda-pulse-oximeter-2013", "--variant", "ear_clip", "--json"]
        reports = ["--html", str(folder / "report.html"), "--pdf", str(folder / "report.pdf")]
        evaluations = [
            ["evaluate", *protocol, "--pairs", str(table), "--subjects", str(subjects), *reports],
            ["evaluate", *sessions, *protocol, "--data", str(tmp_path), "--jobs", "1"],
        ]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(evaluations)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        files = sorted(folder.iterdir())
        assert [file.name for file in files] == ["report.html", "report.pdf"]
        outputs.append((done.stdout, *(file.read_bytes() for file in files)))
    assert outputs[0] == outputs[1]
    # and the same as in this process
    applied = clinical_protocol("fda-pulse-oximeter-2013", "ear_clip")
    here = evaluate(from_tables([table], applied, read_subjects(subjects)), applied)
    assert outputs[0][0].decode().splitlines()[0] == here.to_json()
