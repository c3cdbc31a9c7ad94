"""Which protocol a server speaks, if a connection opens and cannot be used: TLS, plain Redis, or HTTP."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Final

from .flow import Address

_TLS_RECORDS: Final = (b"\x15", b"\x16")
"""How an alert and a handshake begin."""

_REDIS_REPLIES: Final = (b"+", b"-")

_HTTP: Final = (b"HTTP/", b"<")


def misfit(address: Address, seconds: float, *, is_tls: bool) -> str | None:
    """Return what to change in a URL; None if the server keeps silent or closes.

    Neither side says so by itself: a Redis without TLS waits for more, one with TLS hangs up.
    """
    heard = b""
    with contextlib.suppress(OSError, UnicodeError):
        heard = _first_bytes(address, b"PING\r\n" if is_tls else _client_hello(), seconds)
    if is_tls and heard.startswith(_REDIS_REPLIES):
        return "it speaks no TLS: use redis in place of rediss"
    if not is_tls and heard.startswith(_TLS_RECORDS):
        return "it speaks TLS: use rediss in place of redis"
    return "it speaks HTTP, not Redis" if heard.startswith(_HTTP) else None


def _first_bytes(address: Address, words: bytes, seconds: float) -> bytes:
    """Return the first bytes of the reply to some words, over a connection of its own."""
    family, kind, protocol, _, place = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    )[0]
    with socket.socket(family, kind, protocol) as stranger:
        stranger.settimeout(seconds / 2)
        stranger.connect(place)
        stranger.sendall(words)
        return stranger.recv(len(b"HTTP/"))


def _client_hello() -> bytes:
    """Return how a client of TLS begins; nothing follows, so no certificate matters."""
    written = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.wrap_bio(ssl.MemoryBIO(), written, server_hostname="redis").do_handshake()
    return written.read()
