"""Pairs and subjects from CSV: what is taken, and mistakes by file, line and column."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lab_api.evaluation import clinical_protocol
from lab_api.evidence.sources import from_tables
from lab_api.evidence.tables import from_table, read_subjects
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Criterion, Pairing, Provenance
from protocols.errors import DefinitionError, StoreError

LAB = Provenance("the lab", "lab")


def protocol_for(measurand: str, metric: str, unit: str) -> ClinicalProtocol:
    return ClinicalProtocol(
        id="own",
        title="Own",
        edition="1",
        status="in_force",
        measurand=measurand,
        design=(),
        criteria=(Criterion("bias", "bias", metric, "report", unit, LAB),),
        pairing=Pairing(60.0, LAB, rule="nearest"),
    )


GLUCOSE = protocol_for("glucose", "glucose_bias", "mg/dL")
PRESSURE = protocol_for("blood_pressure", "sbp_bias", "mm[Hg]")


def written(folder: Path, text: str | bytes, name: str = "pairs.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_units_are_converted_times_read_and_further_columns_kept(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "subject,time,reference,test,unit,lot,delay_s\n"
        "S-1,2026-03-01T09:30:00+01:00,5.0,5.5,mmol/L,A,12\n"
        "S-2,1790000000000000000,100,,mg/dL,B,\n",
    )
    part = from_table(path, GLUCOSE)
    study = part.measured
    assert study.reference.tolist() == pytest.approx([5.0 * 18.0182, 100.0])
    assert np.isnan(study.test[1])
    assert study.times_ns.tolist() == [1_772_353_800_000_000_000, 1_790_000_000_000_000_000]
    assert study.labels["lot"].tolist() == ["A", "B"]
    assert study.columns["delay_s"][0] == 12
    assert part.items["test"][1] is None
    assert part.source.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()


def test_two_quantities_stand_in_one_table(tmp_path: Path) -> None:
    path = written(
        tmp_path, "subject,quantity,reference,test\nS-1,sbp,120,121\nS-1,dbp,80,82\nS-2,sbp,130,128\n"
    )
    study = from_tables([path], PRESSURE, {"S-1": {"sex": "female"}, "S-9": {"sex": "male"}}).measured
    assert study.of("sbp").differences.tolist() == [1.0, -2.0]
    assert study.of("dbp").differences.tolist() == [2.0]
    assert set(study.facts) == {"S-1"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "subject,reference\n",
            "pairs.csv, line 1: columns subject, reference, expected subject, ref",
        ),
        ("", "pairs.csv, line 1: columns none, expected subject"),
        ("subject;reference;test\nS-1;90,5;91\n", "line 1: columns subject;reference;test, expected commas"),
        ("subject\treference\ttest\nS-1\t90\t91\n", "expected commas between them, not tabs, and points"),
        ("subject,reference,test\nS-1,1_0,91\n", "line 2: reference = '1_0', expected a number"),
        ('subject,reference,test\nS-1,"90,5",91\n', "reference = '90,5', expected a number such as 97.5"),
        ("subject,reference,test\nS-1,1\n", "pairs.csv, line 2: 2 values, expected 3"),
        ("subject,reference,test\nS-1,high,1\n", "pairs.csv, line 2: reference = 'high', expected a number"),
        ("subject,reference,test\n,1,1\n", "pairs.csv, line 2: subject is empty, expected a pseudonym"),
        (
            "subject,reference,test,unit\nS-1,1,1,mL\n",
            "line 2: glucose in 'mL', expected one of mg/dL",
        ),
        ("subject,reference,test,quantity\nS-1,1,1,sbp\n", "line 2: quantity 'sbp', expected one of glucose"),
        ("subject,reference,test,time\nS-1,1,1,9:30\n", "line 2: time = '9:30', expected ISO 8601"),
        ("subject,reference,test,time\nS-1,1,1,2026-03-01T09:30\n", "expected ISO 8601 with its offset"),
        ("subject,reference,test\nS-1,inf,1\n", "line 2: reference = 'inf', expected a number"),
        ('subject,reference,test\nS-1,"1,1\n', "line 2: unexpected end of data"),
        (b"subject,reference,test\nS-\xff,1,1\n", "pairs.csv: byte 25 is no UTF-8"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_expectation(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        from_table(written(tmp_path, text), GLUCOSE)


def test_a_file_that_is_not_there_and_a_measurand_without_pairs_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        from_table(tmp_path / "none.csv", GLUCOSE)
    with pytest.raises(DefinitionError, match="ansi-aami-ec57 judges qrs, expected one of spo2"):
        from_table(tmp_path / "none.csv", clinical_protocol("ansi-aami-ec57"))


def test_subjects_are_read_and_mistakes_named(tmp_path: Path) -> None:
    assert read_subjects(written(tmp_path, "subject,sex,age_years\nS-1,female,34\nS-2,male,\n")) == {
        "S-1": {"sex": "female", "age_years": 34.0},
        "S-2": {"sex": "male"},
    }
    with pytest.raises(DefinitionError, match="line 3: subject 'S-1', expected each once"):
        read_subjects(written(tmp_path, "subject,sex\nS-1,female\nS-1,male\n"))
    with pytest.raises(DefinitionError, match="subject S-1: sex='f', expected one of"):
        read_subjects(written(tmp_path, "subject,sex\nS-1,f\n"))
