"""A system bus of our own for every test, so that the machine's Bluetooth is neither needed nor touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


@pytest.fixture(autouse=True)
def system_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a private bus that stands for the system's while the test lasts."""
    daemon = shutil.which("dbus-daemon")
    if daemon is None:
        message = "no dbus-daemon on the PATH"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    configuration = tmp_path / "bus.conf"
    configuration.write_text(_CONFIGURATION.format(socket=tmp_path / "bus"))
    command = [daemon, f"--config-file={configuration}", "--nofork", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield address
        process.kill()
