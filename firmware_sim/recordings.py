"""A recorded signal with its reference annotations, read from a WFDB record.

A record is refused rather than repaired: a signal file that is shorter than its header promises, or whose
samples do not add up to the header's checksum, is named and nothing of it is used.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocols.errors import DecodeError, DefinitionError, StoreError

_BYTES_PER_SAMPLE: Final = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5}
"""Of the WFDB signal formats whose length follows from the header."""

_ANNOTATIONS_END: Final = b"\0\0"


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Signals as their converter delivered them: `(values - baseline) / gain` is the physical value.

    Parameters
    ----------
    name
        Of the record.
    rate_hz
        Of all channels.
    values
        Converter units, shape (n_channels, n_samples), int32. Kept read-only.
    gain
        Converter units per physical unit, of each channel.
    baseline
        Converter units of the physical 0, of each channel.
    units
        The record's name of the physical unit, of each channel.
    channel_names
        As in the record.
    annotation_samples
        Sample index of every reference annotation, shape (n_annotations,), int64, ascending. Kept read-only.
    annotation_symbols
        WFDB symbol of every annotation: beats, and marks of noise and others; where a rhythm begins, its text
        such as `(AFIB`. Empty without reference.

    Raises
    ------
    DefinitionError
        If the parts do not fit together.
    """

    name: str
    rate_hz: float
    values: NDArray[np.int32]
    gain: tuple[float, ...]
    baseline: tuple[int, ...]
    units: tuple[str, ...]
    channel_names: tuple[str, ...]
    annotation_samples: NDArray[np.int64]
    annotation_symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or 0 in self.values.shape or self.values.dtype != np.int32:
            shape = f"{self.values.shape} {self.values.dtype}"
            raise DefinitionError(f"values of {self.name}: {shape}, expected (n_channels, n_samples) of int32")
        for field in ("gain", "baseline", "units", "channel_names"):
            if len(getattr(self, field)) != self.n_channels:
                raise DefinitionError(f"{field} of {self.name}, expected one for each channel")
        if not (math.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise DefinitionError(f"rate_hz={self.rate_hz!r} of {self.name}, expected > 0")
        if not all(math.isfinite(gain) and gain != 0 for gain in self.gain):
            raise DefinitionError(f"gain={self.gain!r} of {self.name}, expected finite and not 0")
        if self.annotation_samples.shape != (len(self.annotation_symbols),):
            raise DefinitionError(f"annotations of {self.name}, expected one symbol for each sample index")
        self.values.flags.writeable = False
        self.annotation_samples.flags.writeable = False

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return int(self.values.shape[0])

    @property
    def n_samples(self) -> int:
        """Number of samples per channel."""
        return int(self.values.shape[1])

    @property
    def duration_s(self) -> float:
        """Length in s."""
        return self.n_samples / self.rate_hz

    def physical(self) -> NDArray[np.float64]:
        """Return the values in the record's units, shape (n_channels, n_samples)."""
        baseline = np.array(self.baseline, dtype=np.float64)[:, None]
        physical: NDArray[np.float64] = (self.values - baseline) / np.array(self.gain)[:, None]
        return physical


def read_wfdb(path: str | Path, *, annotator: str = "atr") -> Recording:
    """Return a WFDB record and, where there are any, its reference annotations.

    Parameters
    ----------
    path
        Of the record, with or without `.hea` or `.dat`.
    annotator
        Suffix of the annotation file; it may be missing.

    Raises
    ------
    StoreError
        If a file of the record is missing or cannot be read.
    DecodeError
        If a file does not say what its format or the header promises; names file and expectation.
    """
    base = Path(path)
    if base.suffix in (".hea", ".dat", ".atr"):
        base = base.with_suffix("")
    header_path = base.with_name(base.name + ".hea")
    header = _read(header_path, "a WFDB header", lambda wfdb: wfdb.rdheader(str(base)))
    _check_header(header, header_path)
    for file_name in dict.fromkeys(header.file_name):
        _check_length(header, base.parent / file_name)
    record = _read(
        base.parent / header.file_name[0],
        "a WFDB signal file",
        lambda wfdb: wfdb.rdrecord(str(base), physical=False),
    )
    _check_sums(record, header_path)
    samples, symbols = read_annotations(base, annotator, n_samples=record.sig_len)
    return Recording(
        name=base.name,
        rate_hz=float(record.fs),
        values=np.ascontiguousarray(record.d_signal.T, dtype=np.int32),
        gain=tuple(float(gain) for gain in record.adc_gain),
        baseline=tuple(int(baseline) for baseline in record.baseline),
        units=tuple(record.units),
        channel_names=tuple(record.sig_name),
        annotation_samples=samples,
        annotation_symbols=symbols,
    )


def _read(path: Path, what: str, read: Any) -> Any:
    """Return what `read(wfdb)` makes of an existing file."""
    if not path.is_file():
        raise StoreError(f"{path}: no such file, expected {what}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's own use of pandas, on import too
            import wfdb

            return read(wfdb)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    except Exception as error:
        raise DecodeError(f"{path}: {error}; expected {what}") from error


def _check_header(header: Any, path: Path) -> None:
    if not hasattr(header, "adc_gain"):
        raise DecodeError(f"{path}: a record of several segments, expected one of a single segment")
    if not header.n_sig or not header.sig_len:
        raise DecodeError(
            f"{path}: {header.n_sig} signals of {header.sig_len} samples, expected at least 1 of each"
        )
    incomplete = [
        name
        for name in ("fs", "file_name", "fmt", "adc_gain", "baseline", "units")
        if not getattr(header, name)
    ]
    if incomplete:
        raise DecodeError(f"{path}: no {', '.join(incomplete)}, expected a full signal description")
    if set(header.samps_per_frame) != {1}:
        raise DecodeError(f"{path}: samples per frame {header.samps_per_frame}, expected 1 for every signal")


def _check_length(header: Any, path: Path) -> None:
    """Raise unless the signal file holds what the header promises."""
    if not path.is_file():
        raise StoreError(f"{path}: no such file, expected the signal file that the header names")
    signals = [index for index, name in enumerate(header.file_name) if name == path.name]
    if any(header.fmt[index] not in _BYTES_PER_SAMPLE for index in signals):
        return
    sample_bytes = sum(_BYTES_PER_SAMPLE[header.fmt[index]] for index in signals)
    expected = (header.byte_offset[signals[0]] or 0) + math.ceil(header.sig_len * sample_bytes)
    actual = path.stat().st_size
    if actual < expected:
        raise DecodeError(
            f"{path}: cut short at {actual} bytes, expected {expected} for {header.sig_len} samples "
            f"of {len(signals)} signals"
        )


def _check_sums(record: Any, path: Path) -> None:
    """Raise unless every signal adds up to the header's 16-bit checksum, where there is one."""
    for name, stated, actual in zip(record.sig_name, record.checksum, record.calc_checksum(), strict=True):
        if stated is not None and (stated - actual) % 65536:
            raise DecodeError(
                f"{path}: the samples of signal {name} add up to {actual % 65536}, "
                f"expected the header's checksum {stated % 65536}"
            )


def read_annotations(
    record: str | Path, annotator: str, *, n_samples: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return sample index and symbol of every annotation beside a WFDB record, as `Recording` holds them.

    Parameters
    ----------
    record
        Path of the record without ending.
    annotator
        Suffix of the annotation file; where there is none, nothing is annotated.
    n_samples
        Length of the record.

    Raises
    ------
    StoreError, DecodeError
        As `read_wfdb`.
    """
    path = Path(f"{record}.{annotator}")
    if not path.exists():
        return np.empty(0, dtype=np.int64), ()
    annotation = _read(path, "a WFDB annotation file", lambda wfdb: wfdb.rdann(str(record), annotator))
    if not path.read_bytes().endswith(_ANNOTATIONS_END):
        raise DecodeError(f"{path}: cut short, expected the end mark of an annotation file")
    samples = np.asarray(annotation.sample, dtype=np.int64)
    if samples.size and not (np.all(np.diff(samples) >= 0) and samples[0] >= 0 and samples[-1] < n_samples):
        raise DecodeError(f"{path}: annotations out of order or beyond the record's {n_samples} samples")
    notes = (note.rstrip("\0") for note in annotation.aux_note)
    symbols = zip(annotation.symbol, notes, strict=True)
    return samples, tuple(note if note.startswith("(") else symbol for symbol, note in symbols)
