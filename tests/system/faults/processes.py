"""Processes that may be killed, paused, starved of disk and told a wrong time; wires that may be cut."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

HOST = "127.0.0.1"


def free_port() -> int:
    """Return a port below those that the system gives to connections, which could take it meanwhile."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            return port


def until(condition: Callable[[], Any], *, what: str, timeout_s: float = 30.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what}")


class Process:
    """A process that may be killed and started again; what it says goes to one file.

    Its words reach the file over a pipe, so that a disk which is full for the process takes them all the same.
    """

    def __init__(self, name: str, command: list[str], folder: Path, *, ready: Callable[[], bool]) -> None:
        self.name, self.command = name, command
        self.said = folder / f"{name}.log"
        self.said.touch()
        self.kills = 0
        self.peak_kib = 0
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        threading.Thread(target=self._listen, args=[self._process.stdout], daemon=True).start()
        if wait:
            until(self._ready, what=f"{self.name} is ready")

    def kill(self) -> None:
        self._note_memory()
        assert self.alive, (
            f"{self.name} ended by itself with {self._process and self._process.returncode}: "
            f"{self.said.read_text()[-2000:]}"
        )
        self.kills += 1
        self.put_down()

    def put_down(self) -> None:
        """Kill it if it lives."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()

    def pause(self, seconds: float) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGCONT)

    def fill_disk(self) -> None:
        """Let no file of the process grow beyond a few bytes: every write fails as on a disk without room."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))

    def free_disk(self) -> None:
        """Let the disk take everything again."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def end(self, *, timeout_s: float = 30.0) -> int:
        """Ask it to end; return its exit code, -9 if it does not."""
        assert self._process is not None
        self._note_memory()
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self.put_down()
        return int(self._process.returncode)

    def _listen(self, words: IO[bytes]) -> None:
        with words, self.said.open("ab", buffering=0) as said:
            while data := os.read(words.fileno(), 65536):
                said.write(data)

    def _note_memory(self) -> None:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
            peak = next(line for line in lines if line.startswith("VmHWM"))
            self.peak_kib = max(self.peak_kib, int(peak.split()[1]))


class Wire:
    """A TCP connection's way to the broker, which can be cut, or carry nothing while it looks alive."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._dead = threading.Event()
        self._links: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, self.port))
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def cut(self) -> None:
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            for end in link:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def go_dead(self) -> None:
        """Carry nothing any more, in either direction, and say nothing of it."""
        self._dead.set()

    def revive(self) -> None:
        """Carry on; what waited arrives, except on links cut meanwhile."""
        self._dead.clear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._dead.clear()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _run(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except ConnectionError:  # whoever connected was killed before it was its turn
                continue
            except OSError:
                return
            try:
                far = socket.create_connection((HOST, self._target_port), 2)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._links.append((near, far))
            for source, sink in ((near, far), (far, near)):
                self._run(self._carry, source, sink)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self._dead.is_set():
                    time.sleep(0.02)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()  # the other direction's thread closes the other end
