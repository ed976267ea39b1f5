"""Device kinds by name, as a gateway's configuration or a simulator asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from protocols.devices.fablab import DEFAULT_BAUDRATE, fablab
from protocols.devices.heart_rate import heart_rate_strap
from protocols.devices.kind import DeviceKind
from protocols.devices.nonin import nonin_7
from protocols.devices.polar import polar_h10
from protocols.devices.pulse_oximeter import pulse_oximeter
from protocols.errors import DefinitionError
from protocols.samples import Channel

Options = Mapping[str, object]
Factory = Callable[[Options], DeviceKind]


def _heart_rate_strap(options: Options) -> DeviceKind:
    _allow("heart-rate-strap", options)
    return heart_rate_strap()


def _pulse_oximeter(options: Options) -> DeviceKind:
    _allow("pulse-oximeter", options)
    return pulse_oximeter()


def _polar_h10(options: Options) -> DeviceKind:
    _allow("polar-h10", options)
    return polar_h10()


def _nonin_7(options: Options) -> DeviceKind:
    _allow("nonin-7", options, "timer")
    return nonin_7(timer=_option("nonin-7", options, "timer", bool, False))


def _fablab(options: Options) -> DeviceKind:
    name = "fablab"
    _allow(name, options, "channels", "rate_hz", "sample_type", "baudrate", "stream")
    return fablab(
        channels=_channels(name, _option(name, options, "channels", list, None)),
        rate_hz=float(_option(name, options, "rate_hz", (int, float), None)),
        sample_type=_option(name, options, "sample_type", str, "int16"),
        baudrate=_option(name, options, "baudrate", int, DEFAULT_BAUDRATE),
        stream=_option(name, options, "stream", str, "signal"),
    )


KINDS: Mapping[str, Factory] = {
    "heart-rate-strap": _heart_rate_strap,
    "pulse-oximeter": _pulse_oximeter,
    "polar-h10": _polar_h10,
    "nonin-7": _nonin_7,
    "fablab": _fablab,
}
"""Name of every kind, and what makes it from its options."""


def device_kind(name: str, options: Options | None = None) -> DeviceKind:
    """Return the device kind called `name`, set up by `options`.

    Raises
    ------
    DefinitionError
        If there is no such kind, or an option is unknown, missing or has a bad value.
    """
    factory = KINDS.get(name)
    if factory is None:
        raise DefinitionError(f"device kind {name!r}, expected one of {sorted(KINDS)}")
    return factory(options or {})


def _allow(kind: str, options: Options, *names: str) -> None:
    for name in options:
        if name not in names:
            expected = f"one of {sorted(names)}" if names else "none"
            raise DefinitionError(f"option {name!r} of {kind}, expected {expected}")


def _option(kind: str, options: Options, name: str, types: type | tuple[type, ...], default: Any) -> Any:
    """Return an option's value; without a default it must be given."""
    value = options.get(name, default)
    wrong_bool = isinstance(value, bool) and types is not bool
    if wrong_bool or not isinstance(value, types):
        wanted = " or ".join(t.__name__ for t in (types if isinstance(types, tuple) else (types,)))
        found = f"{name}={value!r}" if name in options else f"no {name}"
        raise DefinitionError(f"{found} in the options of {kind}, expected {wanted}")
    return value


def _channels(kind: str, tables: list[object]) -> list[Channel]:
    channels = []
    for table in tables:
        if not isinstance(table, Mapping):
            raise DefinitionError(f"channel {table!r} of {kind}, expected a table with name and unit")
        try:
            channels.append(Channel(**table))
        except (TypeError, AttributeError) as error:
            expected = "name and unit, and of mdc, scale and offset what applies"
            raise DefinitionError(f"channel {dict(table)!r} of {kind}, expected {expected}") from error
    return channels
