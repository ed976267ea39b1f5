"""A broker that says only what a test tells it to, and shows every packet it gets."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from dataclasses import dataclass

from protocols.sparkplug.topics import Message

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 1, 2, 3, 4, 8, 9, 14
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Packet:
    kind: int
    flags: int
    body: bytes

    @property
    def topic(self) -> str:
        return self.body[2 : 2 + int.from_bytes(self.body[:2])].decode()

    @property
    def payload(self) -> bytes:
        """Of a PUBLISH."""
        start = 2 + len(self.topic.encode()) + (2 if self.flags & 0b110 else 0)
        return self.body[start:]


class ScriptedBroker:
    """Takes connections, hands over their packets and sends what it is told."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._links: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        self._link: socket.socket | None = None

    def next_connection(self) -> None:
        self._link = self._links.get(timeout=TIMEOUT_S)
        self._link.settimeout(TIMEOUT_S)

    def read(self, kind: int) -> Packet:
        """Return the next packet, which must be of this kind."""
        first = self._bytes(1)[0]
        length, shift = 0, 0
        while True:
            byte = self._bytes(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        packet = Packet(first >> 4, first & 15, self._bytes(length))
        assert packet.kind == kind, packet
        return packet

    def is_silent(self, for_s: float) -> bool:
        assert self._link is not None
        self._link.settimeout(for_s)
        try:
            return not self._link.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self._link.settimeout(TIMEOUT_S)

    def send(self, kind: int, body: bytes, flags: int = 0) -> None:
        assert self._link is not None
        length, size = b"", len(body)
        while True:
            size, low = size >> 7, size & 127
            length += bytes([low | (128 if size else 0)])
            if not size:
                break
        self._link.sendall(bytes([kind << 4 | flags]) + length + body)

    def publish(self, message: Message) -> None:
        topic = message.topic.encode()
        self.send(PUBLISH, len(topic).to_bytes(2) + topic + message.payload, int(message.retain))

    def accept_subscription(self, granted: int = 1) -> None:
        subscription = self.read(SUBSCRIBE)
        self.send(SUBACK, subscription.body[:2] + bytes([granted]))

    def take_state(self) -> tuple[Packet, dict[str, object]]:
        state = self.read(PUBLISH)
        self.send(PUBACK, state.body[2 + len(state.topic.encode()) :][:2])
        document: dict[str, object] = json.loads(state.payload)
        return state, document

    def cut(self) -> None:
        assert self._link is not None
        self._link.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        if self._link is not None:
            self._link.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._links.put(self._server.accept()[0])

    def _bytes(self, n: int) -> bytes:
        assert self._link is not None
        data = b""
        while len(data) < n:
            part = self._link.recv(n - len(data))
            assert part, "the connection was closed"
            data += part
        return data
