"""The errors of the platform, each named for what its reader can do about it.

::

    LivingLabError
    ├── DecodeError      (ValueError)   bytes that do not say what their format promises
    ├── DefinitionError  (ValueError)   a configuration, profile or protocol document to be mended
    ├── SignalError      (ValueError)   a signal that the asked-for analysis cannot use
    ├── StoreError       (OSError)      a session store that cannot be read or written
    └── TransportError   (ConnectionError)  a device or broker that cannot be reached

Every message names the value at fault and what was expected instead.
"""


class LivingLabError(Exception):
    """Anything this platform reports on purpose."""


class DecodeError(LivingLabError, ValueError):
    """Bytes do not say what their format promises; nothing but these bytes is affected."""


class DefinitionError(LivingLabError, ValueError):
    """A document written by a person (configuration, profile, clinical protocol) must be mended."""


class SignalError(LivingLabError, ValueError):
    """A signal or its description cannot be used for what was asked."""


class StoreError(LivingLabError, OSError):
    """A session store cannot be read or written as asked."""


class TransportError(LivingLabError, ConnectionError):
    """A device or a broker cannot be reached or was lost."""
