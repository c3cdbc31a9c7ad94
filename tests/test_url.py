"""Connection URLs: every scheme, and every mistake by its name, without a word of the password."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessioncache import AsyncSessionCache, InvalidArgumentError, SessionCache, WorkflowSession
from sessioncache.transport.flow import Address
from sessioncache.transport.url import SCHEMES, parse_url

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "scheme", "addresses", "service", "options"),
    [
        ("redis://", "redis", [("localhost", 6379)], None, {}),
        ("redis://h", "redis", [("h", 6379)], None, {}),
        ("redis://h:7000/3", "redis", [("h", 7000)], None, {"db": 3}),
        ("redis://h/", "redis", [("h", 6379)], None, {}),
        ("redis://h?db=2", "redis", [("h", 6379)], None, {"db": 2}),
        ("redis://:pw@h", "redis", [("h", 6379)], None, {"password": "pw"}),
        ("redis://u:p%40%3A%2F@h", "redis", [("h", 6379)], None, {"username": "u", "password": "p@:/"}),
        ("redis://u:p@ss@h", "redis", [("h", 6379)], None, {"username": "u", "password": "p@ss"}),
        ("redis://[::1]:7000", "redis", [("::1", 7000)], None, {}),
        ("redis://[::1]", "redis", [("::1", 6379)], None, {}),
        ("REDIS://h", "redis", [("h", 6379)], None, {}),
        (
            "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=false",
            "rediss",
            [("h", 6379)],
            None,
            {"ssl_cert_reqs": "none", "ssl_check_hostname": False},
        ),
        ("unix:///tmp/r.sock", "unix", [("/tmp/r.sock", 0)], None, {}),
        ("unix:///tmp/r%20s.sock?db=1", "unix", [("/tmp/r s.sock", 0)], None, {"db": 1}),
        ("unix://u:pw@/tmp/r.sock", "unix", [("/tmp/r.sock", 0)], None, {"username": "u", "password": "pw"}),
        ("redis+cluster://a:1,b,c:3", "redis+cluster", [("a", 1), ("b", 6379), ("c", 3)], None, {}),
        ("rediss+cluster://a:1", "rediss+cluster", [("a", 1)], None, {}),
        ("redis+sentinel://a,b:1/main", "redis+sentinel", [("a", 26379), ("b", 1)], "main", {}),
        ("rediss+sentinel://a/main/2", "rediss+sentinel", [("a", 26379)], "main", {"db": 2}),
        ("memory://", "memory", [("", 0)], None, {}),
        ("memory://name", "memory", [("name", 0)], None, {}),
        (
            "redis://h?socket_timeout=1.5&max_connections=4&socket_keepalive=yes&client_name=me",
            "redis",
            [("h", 6379)],
            None,
            {"socket_timeout": 1.5, "max_connections": 4, "socket_keepalive": True, "client_name": "me"},
        ),
    ],
)
def test_a_url_says_where_and_how(
    url: str, scheme: str, addresses: list[tuple[str, int]], service: str | None, options: dict[str, Any]
) -> None:
    parsed = parse_url(url)

    is_sentinel = parsed.topology == "sentinel"
    assert parsed.scheme == scheme
    assert list(parsed.addresses) == [Address(*address, is_sentinel) for address in addresses]
    assert (parsed.service, parsed.options) == (service, options)


@pytest.mark.parametrize("scheme", ["http", "sentinel", "redis+tls", "", "rediscluster", "valkey"])
def test_an_unknown_scheme_is_named_with_those_that_are_known(scheme: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_url(f"{scheme}://:{SECRET}@host")

    message = str(caught.value)
    assert repr(scheme) in message
    assert [known for known in SCHEMES if known not in message] == []
    assert SECRET not in message


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+cluster", "redis+sentinel", "memory"])
@pytest.mark.parametrize("option", ["decode_responses", "protocol", "retry_on_timeout", "Db", "timeout"])
def test_an_unknown_option_is_named(scheme: str, option: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"unknown option '{option}'") as caught:
        parse_url(f"{scheme}://:{SECRET}@host/tmp/x?{option}=1")

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://h/x", "db"),
        ("redis://h/-1", "db"),
        ("redis://h/1/2", "path"),
        ("redis://h?db=", "db"),
        ("redis://h?db=1.5", "db"),
        ("redis://h?db=²", "db"),
        ("redis://h:x", "port"),
        ("redis://h:0", "port"),
        ("redis://h:65536", "port"),
        ("redis://h:-1", "port"),
        ("redis://a,b", "several servers"),
        ("redis://h#x", "fragment"),
        ("redis+cluster://h/1", "db"),
        ("redis+cluster://h?db=1", "db"),
        ("redis+sentinel://h", "service"),
        ("redis+sentinel://h/main/1/2", "path"),
        ("unix://", "path of a socket"),
        ("unix://relative/r.sock", "path of a socket"),
        ("redis://h?socket_timeout=0", "socket_timeout"),
        ("redis://h?socket_timeout=-1", "socket_timeout"),
        ("redis://h?socket_timeout=nan", "socket_timeout"),
        ("redis://h?socket_timeout=inf", "socket_timeout"),
        ("redis://h?socket_timeout=soon", "socket_timeout"),
        ("redis://h?socket_keepalive=maybe", "socket_keepalive"),
        ("redis://h?max_connections=0", "max_connections"),
        ("redis://h?ssl_cert_reqs=yes", "ssl_cert_reqs"),
        ("redis://h?username=", "username"),
        ("redis://h?ssl_ca_certs=/ca.pem", "rediss"),
        ("redis://h/1?db=2", "db twice"),
        ("redis://h?db=1&db=2", "db twice"),
        ("redis+sentinel://h/main/1?db=1", "db twice"),
        ("redis://h?password=x", "password twice"),
        ("unix:///r.sock?password=x", "password twice"),
    ],
)
@pytest.mark.parametrize("cls", [SessionCache, AsyncSessionCache])
def test_a_mistake_in_a_url_is_named_without_the_password(cls: Any, url: str, words: str) -> None:
    with_secret = url.replace("://", f"://:{SECRET}@", 1)

    with pytest.raises(InvalidArgumentError, match=words) as caught:
        cls.from_url(with_secret)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", [None, 5, b"redis://h", ["redis://h"], True])
def test_a_url_that_is_no_text_is_refused_by_name(url: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^url "):
        SessionCache.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"redis://:{SECRET}@[::1", id="a bracket that stays open"),
        pytest.param(f"redis://:{SECRET}[@h", id="a bracket in the password"),
        pytest.param(f"redis://:{SECRET}\u2100@h", id="a letter that normalizes to a slash"),
    ],
)
def test_a_url_that_cannot_be_taken_apart_is_an_error_of_ours(url: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_url(url)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"redis://:half?{SECRET}@h/0", id="a question mark in the password"),
        pytest.param("redis://alice:87654321", id="the host left out"),
    ],
)
def test_a_password_that_is_not_percent_encoded_is_not_repeated(url: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_url(url)

    assert SECRET not in str(caught.value)
    assert "87654321" not in str(caught.value)


def test_a_slash_in_a_password_is_an_error_that_does_not_repeat_it() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_url(f"redis://:half/{SECRET}@h")

    assert SECRET not in str(caught.value)


@given(
    url=st.text(alphabet=st.characters(exclude_characters="[]", codec="ascii"), max_size=30)
    | st.builds("{}://{}".format, st.sampled_from(SCHEMES), st.text(alphabet="a:@/?&=%#,.0é ", max_size=20))
)
def test_any_text_is_a_url_or_an_error_of_ours(url: str) -> None:
    try:
        parse_url(url)
    except InvalidArgumentError:
        return


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "memory"])
def test_no_password_is_in_the_repr_of_what_a_url_says(scheme: str) -> None:
    host = "" if scheme == "unix" else "host"
    path = "/main" if scheme == "unix" or "sentinel" in scheme else ""
    query = f"?sentinel_password={SECRET}" if "sentinel" in scheme else ""
    parsed = parse_url(f"{scheme}://u:{SECRET}@{host}{path}{query}")

    assert SECRET not in repr(parsed)


@pytest.mark.parametrize("url", ["memory://name?db=3", "memory://u:pw@name", "redis://h?sentinel_username=x"])
def test_an_option_that_has_no_use_for_a_scheme_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgumentError):
        SessionCache.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *("redis://h", "rediss://h", "unix:///r.sock", "redis+cluster://a,b", "rediss+cluster://a"),
        *("redis+sentinel://a/main", "rediss+sentinel://a,b/main/1", "memory://"),
    ],
)
@pytest.mark.parametrize("cls", [SessionCache, AsyncSessionCache])
def test_a_cache_is_made_of_every_scheme(cls: Any, url: str) -> None:
    assert cls.__name__ in repr(cls.from_url(url))


def test_two_caches_on_one_name_in_memory_see_the_same_sessions() -> None:
    url = "memory://test-url-shared"
    with (
        SessionCache.from_url(url) as one,
        SessionCache.from_url(url) as two,
    ):
        one.upsert_session(WorkflowSession("s"))

        assert two.get_session("s") is not None


def test_two_caches_without_a_name_in_memory_see_nothing_of_each_other() -> None:
    with SessionCache.from_url("memory://") as one, SessionCache.from_url("memory://") as two:
        one.upsert_session(WorkflowSession("s"))

        assert two.get_session("s") is None
