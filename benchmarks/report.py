"""How a benchmark says what it measured: one line for each figure, and whether its limit holds.

::

    chain: device to durable store    5,197 blocks/s    0.248 of 20347 of bare paho    at least 0.15    ok
    name                              figure and unit   ratio to what                  limit of it      or OVER
"""

from __future__ import annotations


class Report:
    """Prints figures as they come; `exit_code` is 1 once a limit was broken."""

    def __init__(self) -> None:
        self.exit_code = 0

    def figure(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        ratio: float,
        of: str,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Print a figure with its ratio to `of`, a peer or limit of the same run; the limit is on the ratio."""
        holds = (at_most is None or ratio <= at_most) and (at_least is None or ratio >= at_least)
        limit = f"at most {at_most:g}" if at_most is not None else f"at least {at_least:g}"
        self.exit_code |= not holds
        what = f"{ratio:.3f} of {of}"
        verdict = "ok" if holds else "OVER"
        figure = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
        print(f"{name:48} {figure:>7} {unit:11}  {what:54} {limit:14} {verdict}", flush=True)

    def skip(self, name: str, reason: str) -> None:
        """Say that a figure was not measured, and why."""
        print(f"{name:48} SKIPPED: {reason}", flush=True)
