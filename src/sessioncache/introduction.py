"""What a connection says first: who it is and which db it wants; and what kind of server answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis import UsernamePasswordCredentialProvider
from redis.exceptions import ReadOnlyError, ResponseError

from .faults import MISCONFIGURED
from .flow import Command

OPTIONS: Final = ("username", "password", "credential_provider", "client_name", "db")
"""Options of redis-py's connections that are kept from them: they take a round trip for each."""

_OTHER_KIND: Final = {
    (b"standalone", b"cluster"): "it is a node of a cluster: use redis+cluster://",
    (b"standalone", b"sentinel"): "it is a Sentinel: use redis+sentinel://",
    (b"cluster", b"sentinel"): "it is a Sentinel: use redis+sentinel://",
    (b"sentinel", b"standalone"): "it is no Sentinel: use redis://",
    (b"sentinel", b"cluster"): "it is a node of a cluster: use redis+cluster://",
}
"""What to say of a server, by the mode that is wanted and its own."""


@dataclass(frozen=True)
class Introduction:
    """Login, kind, name and db, in one round trip.

    HELLO tells the kind, and no ACL can deny it, as it can ROLE. Who does not know it is taken as it is.
    """

    mode: bytes
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def credential_provider(self) -> Any:
        """Return what gives the credentials; None if there are none."""
        username, password = self.options.get("username"), self.options.get("password")
        given = self.options.get("credential_provider")
        if given is None and (username or password):
            return UsernamePasswordCredentialProvider(username, password)
        return given

    def commands(self, connection: Any, credentials: Sequence[Any]) -> list[Command]:
        """Return what to send over a new connection."""
        login = [("AUTH", *credentials)] if credentials else []
        name, db = self.options.get("client_name"), self.options.get("db")
        wishes: list[tuple[Any, ...]] = [("CLIENT", "SETNAME", name)] if name else []
        wishes += [("SELECT", db)] if db else []
        return [tuple(map(connection.encoder.encode, command)) for command in (*login, ("HELLO", 2), *wishes)]

    def check(self, commands: Iterable[Command], replies: Iterable[Any]) -> None:
        """Raise what is wrong with a server, by its replies to the commands."""
        for (name, *_), reply in zip(commands, replies, strict=True):
            if name == b"HELLO" and isinstance(reply, list):
                pairs = zip(reply[::2], reply[1::2], strict=False)
                self._check_kind(dict(pair for pair in pairs if _are_words(*pair)))
            elif name != b"HELLO" and isinstance(reply, Exception):
                raise reply

    def _check_kind(self, said: Mapping[bytes, bytes]) -> None:
        """Refuse another kind of server, and a replica: what it lacks need not be missing.

        A node of a cluster may be a replica: it knows where keys are, and gives none away.
        """
        if (problem := _OTHER_KIND.get((self.mode, said.get(b"mode", b"")))) is not None:
            raise ResponseError(problem, status_code=MISCONFIGURED)
        if self.mode == b"standalone" and said.get(b"role", b"master") != b"master":
            raise ReadOnlyError(
                "it is a replica, and may be behind: connect to its master", status_code="READONLY"
            )


def _are_words(*parts: Any) -> bool:
    return all(isinstance(part, bytes) for part in parts)
