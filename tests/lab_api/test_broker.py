"""The embedded broker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import pytest

from lab_api.broker import embedded_broker
from protocols.errors import TransportError

MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


@pytest.fixture(params=["amqtt", "mosquitto"])
def binary(request: pytest.FixtureRequest) -> str:
    """What `embedded_broker` is to run: both must serve the platform alike."""
    if request.param == "amqtt":
        return ""
    if MOSQUITTO is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no mosquitto binary on the PATH")
    return str(MOSQUITTO)


def client() -> mqtt.Client:
    return mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)


def exchange(url: str) -> tuple[list[bytes], bytes | None]:
    """Return what a subscriber got of 50 messages, and the Will it got when a client vanished."""
    port = urlsplit(url).port or 0
    got: list[bytes] = []
    wills: list[bytes] = []
    subscribed, done, will = threading.Event(), threading.Event(), threading.Event()
    subscriber, publisher, doomed = client(), client(), client()

    def on_message(_client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic == "will":
            wills.append(message.payload)
            will.set()
            return
        got.append(message.payload)
        if len(got) == 50:
            done.set()

    subscriber.on_message = on_message
    subscriber.on_subscribe = lambda *_: subscribed.set()
    subscriber.connect("127.0.0.1", port)
    subscriber.loop_start()
    subscriber.subscribe([("data/#", 0), ("will", 1)])
    assert subscribed.wait(5)
    publisher.connect("127.0.0.1", port)
    publisher.loop_start()
    for i in range(50):
        publisher.publish("data/x", b"%d" % i)
    assert done.wait(5)
    doomed.will_set("will", b"gone", qos=1)
    doomed.connect("127.0.0.1", port)
    doomed.loop_start()
    while not doomed.is_connected():
        time.sleep(0.01)
    doomed.loop_stop()
    doomed.socket().close()
    will.wait(5)
    for each in (publisher, subscriber):
        each.disconnect()
        each.loop_stop()
    return got, wills[0] if wills else None


def test_messages_arrive_in_order_and_a_vanished_client_leaves_its_will(binary: str) -> None:
    async def scenario() -> tuple[list[bytes], bytes | None]:
        async with embedded_broker(mosquitto=binary) as url:
            assert url.startswith("mqtt://127.0.0.1:")
            return await asyncio.to_thread(exchange, url)

    got, will = asyncio.run(scenario())
    assert got == [b"%d" % i for i in range(50)]
    assert will == b"gone"


def test_the_broker_ends_even_when_its_parent_is_killed(binary: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from lab_api.broker import embedded_broker\n"
        "async def main():\n"
        "    async with embedded_broker(mosquitto=sys.argv[1]) as url:\n"
        "        print(url, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, binary], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    port = urlsplit(parent.stdout.readline().strip()).port or 0
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            client().connect("127.0.0.1", port)
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail(f"the broker still listens on {port}")


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_passwords_are_in_nobodys_sight(binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def scenario() -> tuple[list[str], list[Path], list[int]]:
        async with embedded_broker({"lab": "hush-hush"}, mosquitto=binary):
            commands = []
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    commands.append(path.read_text())
            files = [path for path in tmp_path.rglob("*") if path.is_file()]
            assert files
            telling = [path for path in files if "hush-hush" in path.read_text()]
            return commands, telling, [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()]

    commands, telling, modes = asyncio.run(scenario())
    assert any("lab_api.broker" in command for command in commands)
    assert not any("hush-hush" in command or "$7$" in command for command in commands)
    assert telling == []
    assert modes == [0o700]
    assert list(tmp_path.iterdir()) == []


def test_a_binary_that_does_not_serve_is_a_transport_error() -> None:
    async def scenario() -> None:
        async with embedded_broker(mosquitto=shutil.which("false") or "false"):
            pass

    with pytest.raises(TransportError, match="does not listen"):
        asyncio.run(scenario())
