"""An environment of its own for another Sparkplug implementation, and a broker between it and ours."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
TIMEOUT_S = 20.0


def _skip_or_fail(reason: str) -> None:
    """Skip where a user may do without; CI may not."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def peer_python() -> Path:
    """The interpreter of `.venv-interop`, built once and again when the requirements change."""
    folder = HERE.parents[1] / ".venv-interop"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not (ready.is_file() and ready.read_text() == REQUIREMENTS.read_text()):
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        steps = [[sys.executable, "-m", "venv", "--clear", str(folder)], [*install, "-r", str(REQUIREMENTS)]]
        for step in steps:
            try:
                subprocess.run(step, capture_output=True, text=True, timeout=90, check=True)
            except (OSError, subprocess.SubprocessError) as error:
                why = getattr(error, "stderr", "") or error
                _skip_or_fail(f"the environment of the interoperability tests cannot be built: {why}")
        (folder / ".gitignore").write_text("*\n")
        ready.write_text(REQUIREMENTS.read_text())
    return python


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where a Mosquitto listens."""
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        _skip_or_fail("no mosquitto binary on the PATH")
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    config = tmp_path_factory.mktemp("mosquitto") / "mosquitto.conf"
    config.write_text(f"listener {number} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen(
        [str(binary), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", number), 0.2):
            break
        assert time.monotonic() < deadline_s, "mosquitto does not listen"
        time.sleep(0.02)
    yield number
    process.kill()
    process.wait()


class TheirSide:
    """A `peer.py` process: `do` sends it a command, `wait_for` looks for what it tells."""

    def __init__(self, python: Path, role: str, port: int) -> None:
        self.heard: list[dict[str, Any]] = []
        self._told: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [str(python), str(HERE / "peer.py"), role, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.wait_for(lambda told: "ready" in told)

    def do(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first new thing told that is wanted; it must not fail before."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while True:
            told = self._told.get(timeout=max(0.01, deadline_s - time.monotonic()))
            assert told is not None, f"the peer ended; it told {self.heard}"
            self.heard.append(told)
            assert "failed" not in told, told
            if wanted(told):
                return told

    def message(self, kind: str, topic_end: str = "") -> dict[str, Any]:
        """Return the next message of a kind."""
        return self.wait_for(lambda told: told.get("kind") == kind and told["topic"].endswith(topic_end))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._told.put(json.loads(line))
        self._told.put(None)


@pytest.fixture
def their_side(peer_python: Path, port: int) -> Iterator[Callable[[str], TheirSide]]:
    """Start the other implementation as `host` or as `edge`."""
    started: list[TheirSide] = []

    def start(role: str) -> TheirSide:
        started.append(TheirSide(peer_python, role, port))
        return started[-1]

    yield start
    for side in started:
        side.close()
