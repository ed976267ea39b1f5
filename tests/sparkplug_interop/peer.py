"""An unrelated Sparkplug implementation, driven line by line: commands in, JSON out.

Runs in an environment of its own. `peer.py host PORT` subscribes to everything as a host application would;
`peer.py edge PORT` is an edge node `plant/press` with a device `motor`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pysparkplug as psp

NOW_MS = psp.get_current_timestamp


ONE_LINE_AT_A_TIME = threading.Lock()


def tell(**document: Any) -> None:
    with ONE_LINE_AT_A_TIME:
        print(json.dumps(document), flush=True)


def told(metric: psp.Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "datatype": metric.datatype.name,
        "value": metric.value,
        "alias": metric.alias,
        "timestamp": metric.timestamp,
        "is_historical": metric.is_historical,
        "is_null": metric.is_null,
    }


def heard(_: Any, message: psp.Message) -> None:
    payload = message.payload
    metrics = [payload.bd_seq_metric] if isinstance(payload, psp.NDeath) else getattr(payload, "metrics", ())
    tell(
        topic=str(message.topic),
        kind=type(payload).__name__,
        seq=getattr(payload, "seq", None),
        online=getattr(payload, "online", None),
        metrics=[told(metric) for metric in metrics],
    )


def metric(name: str, datatype: psp.DataType, value: Any, *, alias: int | None = None) -> psp.Metric:
    return psp.Metric(timestamp=NOW_MS(), name=name, datatype=datatype, value=value, alias=alias)


def host(port: int) -> dict[str, Callable[[Sequence[str]], None]]:
    client = psp.Client("their-host")
    hears_itself = threading.Event()

    def hear(source: Any, message: psp.Message) -> None:
        heard(source, message)
        if message.topic.sparkplug_host_id == "echo":
            hears_itself.set()

    client.subscribe(psp.Topic(group_id="#"), psp.QoS.AT_LEAST_ONCE, hear)

    def state(words: Sequence[str]) -> None:
        topic = psp.Topic(message_type=psp.MessageType.STATE, sparkplug_host_id=words[0])
        payload = psp.State(timestamp=NOW_MS(), online=words[1] == "online")
        client.publish(psp.Message(topic, payload, psp.QoS.AT_LEAST_ONCE, retain=words[0] != "echo"))

    client.connect("127.0.0.1", port=port, callback=lambda _: state(["echo", "online"]))
    hears_itself.wait(20)

    def rebirth(words: Sequence[str]) -> None:
        topic = psp.Topic(words[0], psp.MessageType.NCMD, words[1])
        command = psp.Metric(
            timestamp=None, name="Node Control/Rebirth", datatype=psp.DataType.BOOLEAN, value=True
        )
        payload = psp.NCmd(timestamp=NOW_MS(), metrics=(command,))
        client.publish(psp.Message(topic, payload, psp.QoS.AT_MOST_ONCE, retain=False))

    return {"state": state, "rebirth": rebirth}


def edge(port: int) -> dict[str, Callable[[Sequence[str]], None]]:
    scalars = [
        metric("Node Control/Rebirth", psp.DataType.BOOLEAN, False),
        metric("Force", psp.DataType.FLOAT, 1.5, alias=7),
        metric("Count", psp.DataType.INT16, -3, alias=8),
        metric("Big", psp.DataType.INT64, -(2**40)),
        metric("Name", psp.DataType.STRING, "Presse"),
        metric("Unknown", psp.DataType.DOUBLE, None),
    ]
    curve = metric("Curve", psp.DataType.INT16_ARRAY, (-1, 2, 300), alias=9)
    node = psp.EdgeNode("plant", "press", scalars, psp.Client("their-edge"), heard)
    node.register(psp.Device("motor", [curve]))

    def update(_: Sequence[str]) -> None:
        node.update([metric("Force", psp.DataType.FLOAT, 2.5, alias=7)])
        node.update_device("motor", [metric("Curve", psp.DataType.INT16_ARRAY, (4, 5), alias=9)])

    return {
        "connect": lambda _: node.connect("127.0.0.1", port=port),
        "update": update,
        "deregister": lambda _: node.deregister("motor"),
        "leave": lambda _: node.disconnect(),
        "die": lambda _: os._exit(0),
    }


def main() -> None:
    threading.excepthook = lambda failure: tell(failed=repr(failure.exc_value))
    commands = {"host": host, "edge": edge}[sys.argv[1]](int(sys.argv[2]))
    tell(ready=True)
    for line in sys.stdin:
        verb, *words = line.split()
        commands[verb](words)
        tell(done=verb)


if __name__ == "__main__":
    main()
