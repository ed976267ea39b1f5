"""A flood of one kind of message leaves one line a minute."""

from __future__ import annotations

import logging

import pytest

from lab_api.rare_log import INTERVAL_S, RareLog


def test_a_flood_leaves_one_line_for_each_kind_and_minute_with_its_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = 0.0
    log = RareLog(logging.getLogger("flood"), lambda: now_s)
    for i in range(1000):
        log.line(logging.WARNING, "conflicts", f"conflict {i}")
        log.line(logging.ERROR, "losses", f"loss {i}")
    now_s += INTERVAL_S
    log.line(logging.WARNING, "conflicts", "conflict 1000 with a % in it")

    assert [record.getMessage() for record in caplog.records] == [
        "conflict 0",
        "loss 0",
        "conflict 1000 with a % in it (and 999 more conflicts before)",
    ]
