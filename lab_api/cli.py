"""The `lab` command: every room adds its own sub-commands, and every failure is one sentence."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from protocols.errors import DefinitionError, LivingLabError

ROOMS: Final = (
    "lab_api.demo",
    "lab_api.replay",
    "lab_api.evaluate",
    "lab_api.protocol",
    "lab_api.redecode",
    "lab_api.aside",
    "lab_api.serve",
    "lab_api.enrol",
    "gateway.cli",
    "firmware_sim.cli",
)
"""Modules with `add_commands(subparsers)`; each command sets `run`, which takes the parsed arguments."""

_EXTRA_OF: Final = {
    "amqtt": "lab",
    "bleak": "gateway",
    "bleak_retry_connector": "gateway",
    "bumble": "sim",
    "cryptography": "lab",
    "fastapi": "lab",
    "paho": "gateway",
    "reportlab": "lab",
    "scipy": "analysis",
    "serial": "gateway",
    "uvicorn": "lab",
    "wfdb": "wfdb",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (0 done, 1 failed, 2 wrongly asked, 130 interrupted)."""
    options = command_parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except ModuleNotFoundError as error:
        return _fail(_missing(error))
    except DefinitionError as error:
        return _fail(str(error), code=2)
    except LivingLabError as error:
        return _fail(str(error))
    except Exception as error:
        if os.environ.get("LAB_DEBUG"):
            raise
        return _fail(f"unexpected {type(error).__name__}: {error} (LAB_DEBUG=1 shows where)")


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="lab", description="From a device's bytes to a defensible verdict.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for room in ROOMS:
        importlib.import_module(room).add_commands(commands)
    return parser


def _missing(error: ModuleNotFoundError) -> str:
    package = (error.name or "").partition(".")[0]
    extra = _EXTRA_OF.get(package, "lab")
    return f"this command needs {package}, which is not installed: pip install 'living-lab[{extra}]'"


def _fail(sentence: str, *, code: int = 1) -> int:
    print(f"lab: {' '.join(sentence.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
