"""The first round trip of a connection: login, name and db; and which kind of server replies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis import UsernamePasswordCredentialProvider
from redis.exceptions import ReadOnlyError, ResponseError

from .flow import Command
from .redis_errors import MISCONFIGURED

OPTIONS: Final = ("username", "password", "credential_provider", "client_name", "db")
"""Options that are kept from redis-py's connections, which would take a round trip for each."""

_OTHER_KIND: Final = {
    (b"standalone", b"cluster"): "it is a node of a cluster: use redis+cluster://",
    (b"standalone", b"sentinel"): "it is a Sentinel: use redis+sentinel://",
    (b"cluster", b"sentinel"): "it is a Sentinel: use redis+sentinel://",
    (b"sentinel", b"standalone"): "it is no Sentinel: use redis://",
    (b"sentinel", b"cluster"): "it is a node of a cluster: use redis+cluster://",
}
"""What is wrong with a server, by the mode that is wanted and its own."""


@dataclass(frozen=True)
class Handshake:
    """AUTH, HELLO, CLIENT SETNAME and SELECT, as far as they are needed, in one round trip.

    HELLO tells the kind of the server, and no ACL can deny it, unlike ROLE. A server that does not know HELLO
    is taken as it is.
    """

    mode: bytes
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def credential_provider(self) -> Any:
        """Return the provider of the credentials; None if there are none."""
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
        """Raise an error if the replies to the commands show that the server is the wrong one."""
        for (name, *_), reply in zip(commands, replies, strict=True):
            if name == b"HELLO" and isinstance(reply, list):
                pairs = zip(reply[::2], reply[1::2], strict=False)
                self._check_kind(dict(pair for pair in pairs if _are_bytes(*pair)))
            elif name != b"HELLO" and isinstance(reply, Exception):
                raise reply

    def _check_kind(self, properties: Mapping[bytes, bytes]) -> None:
        """Refuse another kind of server, and a replica, which may lack what its master has.

        A node of a cluster may be a replica: it knows where keys are, and serves none of them.
        """
        if (problem := _OTHER_KIND.get((self.mode, properties.get(b"mode", b"")))) is not None:
            raise ResponseError(problem, status_code=MISCONFIGURED)
        if self.mode == b"standalone" and properties.get(b"role", b"master") != b"master":
            raise ReadOnlyError(
                "it is a replica, and may be behind: connect to its master", status_code="READONLY"
            )


def _are_bytes(*parts: Any) -> bool:
    return all(isinstance(part, bytes) for part in parts)
