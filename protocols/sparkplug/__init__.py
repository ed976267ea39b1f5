"""Sparkplug B 3.0 (ISO/IEC 20237) without I/O: payloads, topics, and the two ends of a session.

`edge_node` is what a gateway says and understands, `host` what the recorder does; both take and return values
and leave sockets and clocks to their callers. `blocks` carries a `SampleBlock` as Sparkplug metrics.
"""
