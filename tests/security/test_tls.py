"""TLS, both sides showing a certificate, over a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from faults.reaching import a_run, run_ids, session, within
from sessioncache import UnavailableError
from support.servers import RedisServer, TLSMaterial, supports_tls, tls_material

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    tls_server: RedisServer, material: TLSMaterial, connect: Any
) -> None:
    cache = connect(_url(tls_server, material.client_options()))
    cache.upsert_session(session(runs=2))
    cache.upsert_run("s", a_run("big", created_at=9, content="x" * 300_000))

    assert run_ids(cache.get_session("s")) == ["r0", "r1", "big"]
    assert cache.get_run("s", "big").content == "x" * 300_000


@pytest.mark.parametrize("wrong", ["no certificate", "no authority", "another name"])
def test_a_certificate_that_does_not_fit_is_unavailable(
    tls_server: RedisServer, material: TLSMaterial, connect: Any, wrong: str
) -> None:
    """Neither side serves the other; a write is not sent at all, or its outcome is not known."""
    options = material.client_options()
    for name in {"no certificate": ["ssl_certfile", "ssl_keyfile"], "no authority": ["ssl_ca_certs"]}.get(
        wrong, []
    ):
        del options[name]
    host = "127.0.0.2" if wrong == "another name" else "localhost"
    cache = connect(_url(tls_server, options).replace("localhost", host), timeout=TIMEOUT)

    with within(TIMEOUT), pytest.raises(UnavailableError):
        cache.get_session("s")
    with within(TIMEOUT), pytest.raises(UnavailableError):
        cache.upsert_session(session("t"))
