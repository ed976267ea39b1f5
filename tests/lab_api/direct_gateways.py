"""Gateways that reach a recorder without a broker: real Sparkplug payloads, handed over directly."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from lab_api.host import HostCounts
from lab_api.recorder import Recorder
from protocols.frames import RAW, FrameBlock
from protocols.records import CLOCK, GATEWAY_DEVICE, Record
from protocols.samples import Channel, SampleBlock, Stream
from protocols.sparkplug.blocks import encode_record
from protocols.sparkplug.edge_node import DeviceBirth, EdgeNodeSession, Watermark
from protocols.sparkplug.host import Event, HostApplication, SendMessage
from protocols.sparkplug.topics import Message, NodeId

ECG = Stream("ecg", (Channel("lead_i", "uV", mdc=131329, scale=2.5),), "int16", 250.0)
INCARNATION = 77


class DirectHost:
    """A `Host` without a network: a gateway's messages go in, messages to gateways are kept.

    `receive` takes a message, `deliver` an event as if a message had meant it.
    """

    def __init__(self) -> None:
        self.connected = True
        self.counted = HostCounts()
        self.sent: list[Message] = []
        self._application = HostApplication("lab")
        self._deliver: Callable[[Event], None] | None = None

    def start(self, deliver: Callable[[Event], None]) -> None:
        self._deliver = deliver

    def stop(self) -> None:
        self._deliver = None

    def send_watermark(self, node: NodeId, incarnation: int, seq: int) -> None:
        self.sent.append(self._application.watermark(node, incarnation, seq, 0))

    def counts(self) -> HostCounts:
        return self.counted

    def deliver(self, event: Event) -> None:
        if self._deliver is not None:
            self._deliver(event)

    def receive(self, message: Message) -> None:
        for event in self._application.receive(message.topic, message.payload, 0):
            if isinstance(event, SendMessage):
                self.sent.append(event.message)
            else:
                self.deliver(event)


class DirectGateway:
    """A gateway with one device `strap`, and itself; `publish` sends records by their place in its spool."""

    def __init__(self, host: DirectHost, name: str = "gw-1", *, incarnation: int = INCARNATION) -> None:
        self.host = host
        self.incarnation = incarnation
        self._session = EdgeNodeSession(NodeId("lab", name), host_id="lab", incarnation=incarnation)
        self._session.connecting(0)
        self._session.device_birth("strap", DeviceBirth({1: ECG, 2: RAW}), 0)
        self._session.device_birth(GATEWAY_DEVICE, DeviceBirth({3: CLOCK}), 0)

    def be_born(self, oldest_seq: int = 1) -> None:
        for message in self._session.births(0, oldest_seq=oldest_seq):
            self.host.receive(message)

    def die(self) -> None:
        self.host.receive(self._session.death(0))

    def publish(self, seq: int, record: Record) -> None:
        number = 2 if isinstance(record, FrameBlock) else 3 if record.stream == CLOCK else 1
        body = encode_record(record, spool_seq=seq, stream_number=number)
        self.host.receive(self._session.data(record.device, body, 0))

    def publish_body(self, body: bytes) -> None:
        """Publish the metrics of a record, whatever they say."""
        self.host.receive(self._session.data("strap", body, 0))

    def publish_nonsense(self, seq: int) -> None:
        """Publish a block that cannot be: its first index is negative."""
        body = encode_record(ecg_block(0, first_index=7), spool_seq=seq, stream_number=1)
        wrong = body.replace((7).to_bytes(8, "little"), (-7).to_bytes(8, "little", signed=True))
        message = self._session.data("strap", wrong, 0)
        self.nonsense = message.payload
        self.host.receive(message)

    def watermarks(self) -> list[int]:
        """Return the watermarks received so far."""
        commands = [
            command
            for message in list(self.host.sent)
            for command in self._session.receive(message.topic, message.payload)
        ]
        return [c.seq for c in commands if isinstance(c, Watermark) and c.incarnation == self.incarnation]

    def watermark(self) -> int:
        return (self.watermarks() or [-1])[-1]


def ecg_block(start_ns: int, *, first_index: int = 0, n_samples: int = 50, boot_id: int = 3) -> SampleBlock:
    """Return a block whose values are their own sample indices."""
    values = np.arange(first_index, first_index + n_samples).astype(np.int16)[np.newaxis]
    return SampleBlock("strap", ECG, boot_id, first_index, start_ns, values, start_ns, 0, 1000, device_ns=5)


def frame_block(
    start_ns: int, *, first_frame: int = 0, n_frames: int = 5, connection_id: int = 9
) -> FrameBlock:
    """Return frames a hundredth of a second apart, of two sources, whose bytes tell their index."""
    indices = np.arange(first_frame, first_frame + n_frames)
    arrivals_ns = start_ns + (indices - first_frame) * 10_000_000
    return FrameBlock(
        device="strap",
        connection_id=connection_id,
        first_frame=first_frame,
        sources=tuple("pmd" if i % 3 else "battery" for i in indices),
        data=tuple(int(i).to_bytes(4, "big") * (1 + int(i) % 5) for i in indices),
        arrival_ns=arrivals_ns,
        arrival_monotonic_ns=arrivals_ns - start_ns + 77,
    )


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 5.0) -> None:
    """Wait for what another thread is to bring about."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen in time"
        time.sleep(0.005)


def settled(recorder: Recorder, blocks: int) -> Callable[[], bool]:
    return lambda: recorder.status().blocks >= blocks and recorder.status().backlog_blocks == 0
