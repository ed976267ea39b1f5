"""Fixtures every room uses."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published oracles and real recordings; CI must have it, a user may not."""
    folder = Path(os.environ.get("LAB_SHARED", Path(__file__).parents[2] / "shared"))
    if (folder / "data").is_dir() and (folder / "oracles").is_dir():
        return folder
    message = f"no recordings at {folder}; set LAB_SHARED to the folder that holds data/ and oracles/"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261123)
