"""Connection URLs: every scheme, and every mistake by its name, without a word of the password."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessioncache import AsyncSessionCache, InvalidArgumentError, SessionCache
from sessioncache.transport.flow import Address
from sessioncache.transport.url import SCHEMES, WITHOUT_EFFECT, parse_url, without_ignored
from support.samples import a_session

SECRET = "hunter2"
NUMBER = "87654321"
SENTINEL_LOGIN = {"sentinel_password": SECRET}
BOTH_LOGINS = {"username": "u", "password": SECRET}


@pytest.mark.parametrize(
    ("url", "addresses", "service", "options"),
    [
        ("redis://", [("localhost", 6379)], None, {}),
        ("redis://h", [("h", 6379)], None, {}),
        ("redis://h/", [("h", 6379)], None, {}),
        ("REDIS://h", [("h", 6379)], None, {}),
        ("redis://h:7000/3", [("h", 7000)], None, {"db": 3}),
        ("redis://h?db=2", [("h", 6379)], None, {"db": 2}),
        ("redis://[::1]:7000", [("::1", 7000)], None, {}),
        ("redis://[::1]", [("::1", 6379)], None, {}),
        (f"redis://:{SECRET}@h", [("h", 6379)], None, {"password": SECRET}),
        (f"redis://u:{SECRET}%40%3A@h", [("h", 6379)], None, {"username": "u", "password": f"{SECRET}@:"}),
        (f"redis://u:p@{SECRET}@h", [("h", 6379)], None, {"username": "u", "password": f"p@{SECRET}"}),
        (
            "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=false", [("h", 6379)], None,
            {"ssl_cert_reqs": "none", "ssl_check_hostname": False},
        ),
        (
            "redis://h?socket_timeout=1.5&max_connections=4&socket_keepalive=yes&client_name=me",
            *([("h", 6379)], None),
            {"socket_timeout": 1.5, "max_connections": 4, "socket_keepalive": True, "client_name": "me"},
        ),
        ("unix:///tmp/r.sock", [("/tmp/r.sock", 0)], None, {}),
        ("unix:///tmp/r%20s.sock?db=1", [("/tmp/r s.sock", 0)], None, {"db": 1}),
        (f"unix://u:{SECRET}@/tmp/r.sock", [("/tmp/r.sock", 0)], None, BOTH_LOGINS),
        ("redis+cluster://a:1,b,c:3", [("a", 1), ("b", 6379), ("c", 3)], None, {}),
        (f"rediss+cluster://u:{SECRET}@a:1", [("a", 1)], None, BOTH_LOGINS),
        ("redis+sentinel://a,b:1/main", [("a", 26379), ("b", 1)], "main", {}),
        ("rediss+sentinel://a/main/2", [("a", 26379)], "main", {"db": 2}),
        (f"redis+sentinel://a/m?sentinel_password={SECRET}", [("a", 26379)], "m", SENTINEL_LOGIN),
        ("memory://", [("", 0)], None, {}),
        ("memory://name", [("name", 0)], None, {}),
    ],
)  # fmt: skip
def test_a_url_says_where_and_how(
    url: str, addresses: list[tuple[str, int]], service: str | None, options: dict[str, Any]
) -> None:
    parsed = parse_url(url)

    is_sentinel = parsed.topology == "sentinel"
    assert parsed.scheme == url.partition(":")[0].lower()
    assert list(parsed.addresses) == [Address(*address, is_sentinel) for address in addresses]
    assert (parsed.service, parsed.options) == (service, options)
    assert SECRET not in repr(parsed)


@pytest.mark.parametrize("scheme", ["http", "sentinel", "redis+tls", "", "rediscluster", "valkey"])
def test_an_unknown_scheme_is_named_with_those_known(scheme: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_url(f"{scheme}://:{SECRET}@host")

    message = str(caught.value)
    assert repr(scheme) in message
    assert [known for known in SCHEMES if known not in message] == []
    assert SECRET not in message


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+cluster", "redis+sentinel", "memory"])
@pytest.mark.parametrize("option", ["decode_response", "protocoll", "retry", "Db", "timeout"])
def test_an_unknown_option_is_named(scheme: str, option: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"unknown option '{option}'") as caught:
        parse_url(f"{scheme}://:{SECRET}@host/tmp/x?{option}=1")

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["redis://h", "rediss://h/1", "unix:///h", "redis+cluster://h", "redis+sentinel://h/main", "memory://h"],
)
@pytest.mark.parametrize("option", sorted(WITHOUT_EFFECT))
def test_what_redis_py_takes_and_means_nothing_here_is_taken(url: str, option: str) -> None:
    assert parse_url(f"{url}?{option}=1") == parse_url(url)
    assert without_ignored(f"{url}?a=1&{option}=1&b=%26") == f"{url}?a=1&b=%26"


MISTAKES: dict[str, list[str]] = {
    "db": ["h/x", "h/-1", "h?db=", "h?db=1.5", "h?db=²", "+cluster://h/1", "+cluster://h?db=1"],
    "db twice": ["h/1?db=2", "h?db=1&db=2", "+sentinel://h/main/1?db=1"],
    "path": ["h/1/2", "+sentinel://h/main/1/2"],
    "port": ["h:x", "h:0", "h:65536", "h:-1"],
    "several servers": ["a,b"],
    "fragment": ["h#x"],
    "service": ["+sentinel://h"],
    "path of a socket": ["unix://", "unix://relative/r.sock"],
    "socket_timeout": [f"h?socket_timeout={value}" for value in ("0", "-1", "nan", "inf", "soon")],
    "socket_keepalive": ["h?socket_keepalive=maybe"],
    "max_connections": ["h?max_connections=0"],
    "ssl_cert_reqs": ["h?ssl_cert_reqs=yes"],
    "username": ["h?username="],
    "rediss": ["h?ssl_ca_certs=/ca.pem"],
    "password twice": ["h?password=x", "unix:///r.sock?password=x"],
    "sentinel_username": ["h?sentinel_username=x"],
    "memory": ["memory://name?db=3", "memory://name"],
}
"""URLs to which a password is added, by words of the error; `redis` and `redis://` are left out."""


@pytest.mark.parametrize(("words", "url"), [(words, url) for words, urls in MISTAKES.items() for url in urls])
@pytest.mark.parametrize("cls", [SessionCache, AsyncSessionCache])
def test_a_mistake_is_named_without_the_password(cls: Any, url: str, words: str) -> None:
    whole = url if url.startswith(("unix", "memory")) else f"redis{'' if url[0] == '+' else '://'}{url}"

    with pytest.raises(InvalidArgumentError, match=words) as caught:
        cls.from_url(whole.replace("://", f"://:{SECRET}@", 1))

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
        pytest.param(f"redis://:half?{SECRET}@h/0", id="a question mark in the password"),
        pytest.param(f"redis://:half/{SECRET}@h", id="a slash in the password"),
        pytest.param(f"redis://alice:{SECRET}", id="the host left out"),
        pytest.param(f"redis://alice:{NUMBER}", id="the host left out beside a number"),
    ],
)
def test_a_password_that_is_not_encoded_is_not_repeated(url: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_url(url)

    assert SECRET not in str(caught.value)
    assert NUMBER not in str(caught.value)


@given(
    url=st.text(alphabet=st.characters(exclude_characters="[]", codec="ascii"), max_size=30)
    | st.builds("{}://{}".format, st.sampled_from(SCHEMES), st.text(alphabet="a:@/?&=%#,.0é ", max_size=20))
)
def test_any_text_is_a_url_or_an_error_of_ours(url: str) -> None:
    try:
        parse_url(url)
    except InvalidArgumentError:
        return


@pytest.mark.parametrize(("url", "is_shared"), [("memory://test-url-shared", True), ("memory://", False)])
def test_caches_in_memory_share_what_has_a_name(url: str, is_shared: bool) -> None:
    with SessionCache.from_url(url) as one, SessionCache.from_url(url) as two:
        one.upsert_session(a_session("s"))

        assert (two.get_session("s") is not None) == is_shared
