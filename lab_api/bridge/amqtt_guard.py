"""amqtt under the same rules that Mosquitto reads from its password file and its permissions.

amqtt asks a plugin about every login, publication, subscription and delivery, but not about Wills, and it hands
retained messages to whoever connects. So a login is refused whose Will its owner may not publish, and nothing
is retained but the host's state, which every gateway may know. Sessions must be clean, because amqtt would let
a login take over the session that another one left.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action, BaseContext, BrokerConfig
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from lab_api.bridge.accounts import is_password, permissions
from protocols.sparkplug.topics import state_topic


class Guard(BaseAuthPlugin, BaseTopicPlugin):  # type: ignore[misc] # amqtt has no types
    """Decides who may log in, and what may pass."""

    @dataclass
    class Config:
        """Where the password file is, and the id of the host application."""

        password_file: str
        host: str

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        lines = Path(self.config.password_file).read_text(encoding="utf-8").splitlines()
        self._hashes = dict(line.split(":", 1) for line in lines)
        self._permissions = {identity: permissions(identity, self.config.host) for identity in self._hashes}

    async def authenticate(self, *, session: Session) -> bool:
        """Whether the password is right, the session clean, and the Will allowed."""
        kept = self._hashes.get(session.username or "")
        if kept is None or not session.clean_session or not is_password(session.password or "", kept):
            return False
        return not session.will_flag or self._allows(session, session.will_topic, Action.PUBLISH)

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        """Whether a session may publish, subscribe to, or receive a topic."""
        return self._allows(session, topic, action)

    def _allows(self, session: Session | None, topic: str | None, action: Action | None) -> bool:
        allowed = None if session is None else self._permissions.get(session.username or "")
        if allowed is None or not topic:
            return False
        return allowed.may_publish(topic) if action is Action.PUBLISH else allowed.may_receive(topic)


class GuardedBroker(Broker):  # type: ignore[misc] # amqtt has no types
    """amqtt's broker, guarded.

    Parameters
    ----------
    address
        Where it listens, as `127.0.0.1:1883`.
    password_file, host
        Who may log in, and which of them is the host application.
    """

    def __init__(self, address: str, *, password_file: Path, host: str) -> None:
        guard = {"password_file": str(password_file), "host": host}
        listener = {"type": "tcp", "bind": address}
        plugins = {f"{Guard.__module__}.{Guard.__qualname__}": guard}
        super().__init__(BrokerConfig.from_dict({"listeners": {"default": listener}, "plugins": plugins}))
        self._state_topic = state_topic(host)

    async def retain_message(self, source_session: Session | None, topic_name: str | None, *rest: Any) -> None:
        """Keep the host's state; nothing else is kept."""
        if topic_name == self._state_topic:
            await super().retain_message(source_session, topic_name, *rest)
