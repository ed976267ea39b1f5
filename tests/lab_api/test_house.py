"""The whole house in one process keeps its broker to itself."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from gateway.broker import Broker
from gateway.mqtt_connection import LoginError, MqttConnection
from lab_api.house import GATEWAY, running_house
from lab_api.store.session_store import AnnotationSet
from protocols.lab_clock import LabClock
from protocols.sparkplug.topics import Message
from tests.lab_api.direct_gateways import ecg_block


def test_nobody_else_enters_the_broker_of_a_house(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = LabClock(time.time_ns, time.monotonic_ns)
        async with running_house([], folder=tmp_path, clock=clock) as house:
            await house.connected()
            with pytest.raises(LoginError, match="Not authorized"):
                async with MqttConnection(Broker.from_url(house.broker), Message("will", b"")):
                    pass

    asyncio.run(scenario())


def test_annotations_of_a_boot_are_added_as_such(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = LabClock(time.time_ns, time.monotonic_ns)
        async with running_house([], folder=tmp_path, clock=clock) as house:
            session_id = await house.open_session("S-1", {"test": "strap"})
            block = ecg_block(clock.now_ns(), boot_id=3)
            house.store.write({session_id: [(GATEWAY, block)]})
            marks = AnnotationSet("a", GATEWAY, "strap", "ecg", 250.0, np.array([5]), ("N",), boot_id=3)
            await house.annotate(session_id, marks)
            (kept,) = house.store.annotations(session_id)
            assert kept.canonical() == marks.canonical()

    asyncio.run(scenario())
