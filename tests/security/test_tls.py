"""TLS, both sides showing a certificate, over a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from faults.reaching import a_run, run_ids, session, within
from sessioncache import InvalidArgumentError, UnavailableError
from support.servers import RedisServer, TLSMaterial, supports_tls, tls_material

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT = 1.0

pytestmark = pytest.mark.skipif(not supports_tls(), reason="this redis-server was built without TLS")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> TLSMaterial:
    return tls_material(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_server(material: TLSMaterial) -> Iterator[RedisServer]:
    with RedisServer(tls=material) as server:
        yield server


def _url(server: RedisServer, options: dict[str, Any]) -> str:
    return f"{server.tls_url}?{urlencode(options)}"


def test_a_client_with_a_certificate_is_served(
    tls_server: RedisServer, material: TLSMaterial, connect: Callable[..., Any]
) -> None:
    cache = connect(_url(tls_server, material.client_options()))
    cache.upsert_session(session(runs=2))
    cache.upsert_run("s", a_run("big", created_at=9, content="x" * 300_000))

    assert run_ids(cache.get_session("s")) == ["r0", "r1", "big"]
    assert cache.get_run("s", "big").content == "x" * 300_000


@pytest.mark.parametrize("without", ["ssl_certfile", "ssl_ca_certs"])
def test_a_certificate_that_is_missing_or_not_trusted_is_unavailable(
    tls_server: RedisServer, material: TLSMaterial, connect: Callable[..., Any], without: str
) -> None:
    """Neither side serves the other then; a write is not sent at all, or its outcome is not known."""
    options = material.client_options()
    for name in (without, "ssl_keyfile") if without == "ssl_certfile" else (without,):
        del options[name]
    cache = connect(_url(tls_server, options), timeout=TIMEOUT)

    with within(TIMEOUT), pytest.raises(UnavailableError):
        cache.get_session("s")
    with within(TIMEOUT), pytest.raises(UnavailableError):
        cache.upsert_session(session("t"))


def test_a_name_that_is_not_the_certificates_is_unavailable(
    tls_server: RedisServer, material: TLSMaterial, connect: Callable[..., Any]
) -> None:
    url = _url(tls_server, material.client_options()).replace("localhost", "127.0.0.2")
    cache = connect(url, timeout=TIMEOUT)

    with within(TIMEOUT), pytest.raises(UnavailableError):
        cache.get_session("s")


def test_a_server_that_does_not_speak_tls_is_unavailable(
    material: TLSMaterial, redis_server: RedisServer, connect: Callable[..., Any]
) -> None:
    with RedisServer(unix=False) as plain:
        url = f"rediss://localhost:{plain.port}?{urlencode(material.client_options())}"

        with within(TIMEOUT), pytest.raises(UnavailableError):
            connect(url, timeout=TIMEOUT).get_session("s")


def test_options_of_tls_on_an_open_connection_are_an_error_at_once(connect: Callable[..., Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="ssl_ca_certs"):
        connect("redis://localhost?ssl_ca_certs=/ca.pem")
