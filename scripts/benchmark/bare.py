"""The limit: bare commands that move the same bytes, by redis-py and over a socket by hand."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, Final

import msgpack
import redis

from .fixture import Fixture, cache_keys

START_OF_HEAD: Final = b":\x01"
"""What stands right before msgpack's bytes in a head as it is stored."""

BODY_PREFIX: Final = len(b"b\x01")
"""Bytes of a body as it is stored that stand before msgpack's."""


def newest_heads(client: Any, runs_key: str, count: int) -> Any:
    """Read the newest heads, or have a pipeline do so."""
    return client.zrange(runs_key, "+inf", 1, byscore=True, desc=True, offset=0, num=count)


def newest_bodies(client: Any, runs_key: str, count: int) -> Any:
    """Read the newest bodies, or have a pipeline do so."""
    return client.zrange(runs_key, "-inf", -1, byscore=True, offset=0, num=count)


def fill_pipeline(pipeline: Any, session_id: str, count: int) -> None:
    """Put into a pipeline what a lookup reads."""
    meta_key, runs_key = cache_keys(session_id)
    pipeline.hgetall(meta_key)
    newest_heads(pipeline, runs_key, count)
    newest_bodies(pipeline, runs_key, count)


def fetch(client: redis.Redis, session_id: str, count: int) -> Any:
    """Read what a lookup reads, in one MULTI pipeline."""
    with client.pipeline(transaction=True) as pipeline:
        fill_pipeline(pipeline, session_id, count)
        return pipeline.execute()


def unpack_heads(members: Sequence[bytes]) -> list[Any]:
    """Unpack heads with msgpack alone."""
    return [msgpack.unpackb(member[member.index(START_OF_HEAD) + len(START_OF_HEAD) :]) for member in members]


def all_packed(fixture: Fixture, session_id: str) -> bytes:
    """Return every head and body of a session as one packed list."""
    _, runs_key = cache_keys(session_id)
    heads = unpack_heads(fixture.bare.zrange(runs_key, 1, "+inf", byscore=True))
    bodies = fixture.bare.zrange(runs_key, "-inf", -1, byscore=True)
    return msgpack.packb([*heads, *(msgpack.unpackb(body[BODY_PREFIX:]) for body in bodies)])


class RawSocket:
    """A socket that sends bytes made beforehand, and reads as many as the answer has."""

    def __init__(self, fixture: Fixture, database: str, *commands: Sequence[bytes | str]) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(fixture.server.socket_path)
        self._socket.settimeout(30)
        connection = fixture.client(database).connection_pool.make_connection()
        pack = connection.pack_command
        self._socket.sendall(b"".join(pack("SELECT", connection.db)))
        self._socket.recv(len(b"+OK\r\n"))
        self._request = b"".join(chunk for command in commands for chunk in pack(*command))
        self._answer = bytearray(self._measure())

    def _measure(self) -> int:
        """Return the length of the answer: what comes until nothing more does."""
        self._socket.sendall(self._request)
        length = len(self._socket.recv(2**20))
        self._socket.settimeout(0.2)
        try:
            while True:
                length += len(self._socket.recv(2**20))
        except TimeoutError:
            self._socket.settimeout(30)
        return length

    def exchange(self, _: Any = None) -> None:
        """Send the request and read the whole answer."""
        self._socket.sendall(self._request)
        rest = memoryview(self._answer)
        while rest:
            rest = rest[self._socket.recv_into(rest) :]


def lookup_commands(session_id: str, count: int) -> list[Sequence[str]]:
    """Return the commands that read what a lookup reads."""
    meta_key, runs_key = cache_keys(session_id)
    limit = ("LIMIT", "0", str(count))
    return [
        ("MULTI",),
        ("HGETALL", meta_key),
        ("ZRANGE", runs_key, "+inf", "1", "BYSCORE", "REV", *limit),
        ("ZRANGE", runs_key, "-inf", "-1", "BYSCORE", *limit),
        ("EXEC",),
    ]
