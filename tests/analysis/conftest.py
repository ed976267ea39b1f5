"""Real records for the analysis tests."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ReadRecord = Callable[[int], tuple[np.ndarray[Any, np.dtype[np.int16]], Any, list[str]]]


@pytest.fixture(scope="session")
def mit_bih(shared: Path) -> ReadRecord:
    """Read a record: first lead in ADU at 360 Hz, sample index and symbol of every annotation."""

    @cache
    def read(record: int) -> tuple[np.ndarray[Any, np.dtype[np.int16]], Any, list[str]]:
        path = str(shared / "data/ecg/mitdb" / str(record))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wfdb 4.3 uses a pandas argument that pandas 3 deprecates
            import wfdb

            lead = wfdb.rdrecord(path, physical=False, channels=[0]).d_signal[:, 0].astype(np.int16)
            annotation = wfdb.rdann(path, "atr")
        return lead, annotation.sample, annotation.symbol

    return read
