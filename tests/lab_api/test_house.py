"""The whole house in one process keeps its broker to itself."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.broker import Broker
from gateway.mqtt_connection import LoginError, MqttConnection
from lab_api.house import running_house
from protocols.lab_clock import LabClock
from protocols.sparkplug.topics import Message


def test_nobody_else_enters_the_broker_of_a_house(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = LabClock(time.time_ns, time.monotonic_ns)
        async with running_house([], folder=tmp_path, clock=clock) as house:
            await house.connected()
            with pytest.raises(LoginError, match="Not authorized"):
                async with MqttConnection(Broker.from_url(house.broker), Message("will", b"")):
                    pass

    asyncio.run(scenario())
