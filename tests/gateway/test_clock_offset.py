"""What a machine says of its own clock is read as it stands, or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import clock_offset
from gateway.clock_offset import (
    UNKNOWN,
    ClockOffset,
    Lead,
    ahead_of,
    parse_chrony,
    parse_kernel,
    parse_ntpq,
    parse_timesyncd,
    read_clock_offset,
)

CHRONY = """\
Reference ID    : A29FC801 (162.159.200.1)
Stratum         : 4
Ref time (UTC)  : Tue Nov 24 02:13:43 2026
System time     : 0.000354952 seconds slow of NTP time
Last offset     : -0.000120362 seconds
RMS offset      : 0.000764950 seconds
Frequency       : 46.082 ppm fast
Residual freq   : -2.609 ppm
Skew            : 39.195 ppm
Root delay      : 0.020000000 seconds
Root dispersion : 0.003000000 seconds
Update interval : 64.5 seconds
Leap status     : Normal
"""
NTPQ = """\
associd=0 status=0615 leap_none, sync_ntp, 1 event, clock_sync,
version="ntpd 4.2.8p15@1.3728-o", processor="x86_64", system="Linux/6.1",
leap=00, stratum=3, precision=-24, rootdelay=12.500, rootdisp=30.250,
refid=192.0.2.7, reftime=ec6f6d34.9f3b645a, clock=ec6f6e61.1c6f4a2b,
offset=-0.734, frequency=4.511, sys_jitter=0.210
"""
TIMESYNCD = """\
       Server: 192.0.2.9 (ntp.example.org)
Poll interval: 34min 8s (min: 32s; max 34min 8s)
         Leap: normal
      Version: 4
      Stratum: 2
    Reference: C0000209
    Precision: 1us (-25)
Root distance: 1.000ms (max: 5s)
       Offset: +3.500ms
        Delay: 24.000ms
       Jitter: 2.000ms
 Packet count: 22
    Frequency: -3.8ppm
"""


def test_chrony_tells_which_way_the_clock_is_off() -> None:
    slow = parse_chrony(CHRONY)
    assert slow == ClockOffset(-354_952, 13_000_000, "chrony", True)
    fast = parse_chrony(CHRONY.replace("slow of", "fast of"))
    assert fast == ClockOffset(354_952, 13_000_000, "chrony", True)


def test_chrony_without_a_server_knows_nothing() -> None:
    unsynchronised = CHRONY.replace("Normal", "Not synchronised")
    assert parse_chrony(unsynchronised) == ClockOffset(None, None, "chrony", False)


def test_ntpd_says_how_far_the_server_is_ahead() -> None:
    assert parse_ntpq(NTPQ) == ClockOffset(734_000, 36_500_000, "ntpd", True)
    alarm = NTPQ.replace("leap_none, sync_ntp", "leap_alarm, sync_unspec")
    assert parse_ntpq(alarm) == ClockOffset(None, None, "ntpd", False)


def test_timesyncd_may_have_corrected_a_part_of_its_offset() -> None:
    assert parse_timesyncd(TIMESYNCD) == ClockOffset(-3_500_000, 18_500_000, "timesyncd", True)
    long = parse_timesyncd(TIMESYNCD.replace("+3.500ms", "-1min 2.5s"))
    assert long is not None
    assert long.offset_ns == 62_500_000_000


def test_timesyncd_that_has_heard_nothing_says_nothing() -> None:
    assert parse_timesyncd("       Server: (null) (ntp.ubuntu.com)\nPoll interval: 0 (min: 32s)\n") is None


def test_the_kernel_knows_its_worst_error_once_somebody_keeps_its_clock() -> None:
    assert parse_kernel(0, status=0x2001, offset=1500, maxerror_us=250) == ClockOffset(
        -1500, 250_000, "kernel", True
    )
    assert parse_kernel(0, status=0x0001, offset=-2, maxerror_us=250).offset_ns == 2000
    for state, status in ((5, 0), (0, 0x40), (-1, 0)):
        unknown = parse_kernel(state, status=status, offset=0, maxerror_us=16_000_000)
        assert unknown == ClockOffset(None, None, "kernel", False)


@given(st.text(), st.sampled_from([CHRONY, NTPQ, TIMESYNCD]), st.integers(0, 600))
def test_no_text_is_too_odd_to_read(odd: str, text: str, at: int) -> None:
    for garbled in (odd, text[:at], text[:at] + odd + text[at:], text.replace("0", odd)):
        for parse in (parse_chrony, parse_ntpq, parse_timesyncd):
            found = parse(garbled)
            assert found is None or isinstance(found.synchronised, bool)


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_best_informed_that_answers_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    command(tmp_path, "chronyc", "echo '506 Cannot talk to daemon' >&2; exit 1")
    command(tmp_path, "ntpq", f"cat <<'END'\n{NTPQ}END")
    assert read_clock_offset().source == "ntpd"
    command(tmp_path, "chronyc", f"cat <<'END'\n{CHRONY}END")
    assert read_clock_offset().source == "chrony"


def test_a_command_that_hangs_or_raves_costs_a_moment_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_offset, "TIMEOUT_S", 0.2)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    command(tmp_path, "chronyc", "exec sleep 60")
    command(tmp_path, "ntpq", r"printf '\377\000offset=,,='")
    command(tmp_path, "timedatectl", "exit 3")
    assert read_clock_offset().source in ("kernel", "unknown")


def test_this_machine_answers_something() -> None:
    assert isinstance(read_clock_offset(), ClockOffset)


def test_two_gateways_line_up_through_utc() -> None:
    fast = ClockOffset(3_000_000, 500_000, "chrony", True)
    slow = ClockOffset(-1_000_000, 2_000_000, "ntpd", True)
    assert ahead_of(fast, slow) == Lead(4_000_000, 2_500_000)
    assert ahead_of(slow, fast) == Lead(-4_000_000, 2_500_000)
    assert ahead_of(fast, UNKNOWN) is None
    assert ahead_of(UNKNOWN, slow) is None
