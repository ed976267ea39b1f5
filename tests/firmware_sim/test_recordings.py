from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from firmware_sim.recordings import read_wfdb
from protocols.errors import DecodeError, StoreError


@pytest.fixture
def record_100(shared: Path, tmp_path: Path) -> Path:
    for suffix in ("hea", "dat", "atr"):
        shutil.copyfile(shared / f"data/ecg/mitdb/100.{suffix}", tmp_path / f"100.{suffix}")
    return tmp_path / "100"


@pytest.mark.shared_data
def test_a_record_is_read_as_its_converter_delivered_it(shared: Path) -> None:
    record = read_wfdb(shared / "data/ecg/mitdb/100")
    assert (record.name, record.rate_hz, record.values.shape) == ("100", 360.0, (2, 650_000))
    assert record.values[:, 0].tolist() == [995, 1011]
    assert (record.gain, record.baseline, record.units) == ((200.0,) * 2, (1024,) * 2, ("mV",) * 2)
    assert record.channel_names == ("MLII", "V5")
    assert record.physical()[0, 0] == pytest.approx(-0.145)
    assert record.duration_s == pytest.approx(1805.56, abs=0.01)


@pytest.mark.shared_data
def test_reference_annotations_are_read_with_their_rhythm_and_noise_marks(shared: Path) -> None:
    record = read_wfdb(shared / "data/ecg/mitdb/108")
    symbols = np.array(record.annotation_symbols)
    assert symbols[0] == "(N"
    assert {"N", "V", "~", "|", "x"} <= set(symbols)
    assert len(symbols) == record.annotation_samples.size == 1824
    assert np.all(np.diff(record.annotation_samples) >= 0)


@pytest.mark.shared_data
@pytest.mark.parametrize("suffix", ["", ".hea", ".dat", ".atr"])
def test_any_file_of_a_record_names_it(record_100: Path, suffix: str) -> None:
    assert read_wfdb(f"{record_100}{suffix}").n_samples == 650_000


@pytest.mark.shared_data
def test_a_record_without_annotations_is_read_all_the_same(record_100: Path) -> None:
    record_100.with_suffix(".atr").unlink()
    record = read_wfdb(record_100)
    assert record.annotation_symbols == ()
    assert record.annotation_samples.shape == (0,)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["a103l", "TestICU"])
def test_records_of_other_formats_are_read(shared: Path, name: str) -> None:
    record = read_wfdb(shared / "data/icu" / name)
    assert record.n_channels in (3, 6)


@pytest.mark.shared_data
@pytest.mark.parametrize("kept", [0, 1, 999_999, 1_000_000, 1_949_999])
def test_a_signal_file_cut_short_is_refused(record_100: Path, kept: int) -> None:
    path = record_100.with_suffix(".dat")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DecodeError, match=rf"100\.dat: cut short at {kept} bytes, expected 1950000 for 650000"):
        read_wfdb(record_100)


@pytest.mark.shared_data
def test_a_signal_file_with_one_changed_byte_is_refused(record_100: Path) -> None:
    path = record_100.with_suffix(".dat")
    data = bytearray(path.read_bytes())
    data[123_456] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=r"100\.hea: the samples of signal \w+ add up to \d+, expect"):
        read_wfdb(record_100)


@pytest.mark.shared_data
@pytest.mark.parametrize("lost", [1, 2, 3, 100, 101, 4558])
def test_an_annotation_file_cut_short_is_refused(record_100: Path, lost: int) -> None:
    path = record_100.with_suffix(".atr")
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(DecodeError, match=r"100\.atr"):
        read_wfdb(record_100)


@pytest.mark.shared_data
@pytest.mark.parametrize("suffix", ["hea", "dat"])
def test_a_missing_file_is_named(record_100: Path, suffix: str) -> None:
    record_100.with_suffix(f".{suffix}").unlink()
    with pytest.raises(StoreError, match=rf"100\.{suffix}: no such file"):
        read_wfdb(record_100)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "header",
    [
        "",
        "\n\n",
        "nonsense",
        "100 2 360 650000\n",
        "100 2 360 650000\n100.dat 212 200 11 1024 995 -22131 0 MLII\n",
        "100 0 360 0\n",
        "100/2 2 360 650000\na 100\nb 100\n",
        "100 2 0 650000\n100.dat 212 200 11 1024 995 -22131 0 MLII\n100.dat 212 200 11 1024 1011 20052 0 V5\n",
        "100 2 360 650000\n100.dat 999 200 11 1024 995 -22131 0 MLII\n100.dat 999 200 11 1024 1011 2 0 V5\n",
        "100 2 360 650000\n100.dat 212x2 200 11 1024 995 -22131 0 MLII\n100.dat 212 200 11 1024 1011 2 0 V5\n",
        "\x00\xff\x13" * 40,
    ],
)
def test_a_malformed_header_is_refused_by_name(record_100: Path, header: str) -> None:
    record_100.with_suffix(".hea").write_text(header, encoding="latin-1")
    with pytest.raises((DecodeError, StoreError), match=r"100\.hea|100\.dat"):
        read_wfdb(record_100)
