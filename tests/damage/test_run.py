"""A run that does not decode: an error that names it, where it is used; the other runs are as they were."""

from __future__ import annotations

import contextlib
import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from damage.calls import contents
from sessioncache import DamagedRunError, SessionCacheError, WorkflowRunOutput
from sessioncache.storage import codec, keys
from support.samples import a_message, a_run, a_run_of, a_session

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from support.subjects import Caches

GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "kind alone": lambda member: member[:1],
    "cut short": lambda member: member[:-1],
    "cut in half": lambda member: member[: len(member) // 2],
    "a byte more": lambda member: member + b"\xc0",
    "later format": lambda member: member.replace(codec.FORMAT, b"\x7f", 1),
    "another kind": lambda member: b"x" + member[1:],
    "no dict, no pair": lambda member: member[: member.index(codec.FORMAT)] + codec.pack([1], "v"),
    "text": lambda member: member[:1] + b":0:damaged",
    "no format": lambda member: member[:1] + b"\xff" * 100,
}
"""What becomes of a head, and of a body."""

BAD: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    **{f"head {name}": ("h", how) for name, how in GARBAGE.items()},
    **{f"body {name}": ("b", how) for name, how in GARBAGE.items()},
    "head without a run_id": ("h", lambda _: b"h:0:" + codec.pack({"content": 1}, "run")),
    "head of no attempt": ("h", lambda member: b"hx" + member[1:]),
    "body another run's": ("b", lambda _: b"b" + codec.pack_pair("r2", {"metadata": {}}, "run")),
}

USES: list[Callable[[Any], Any]] = [repr, copy.deepcopy, pickle.dumps, WorkflowRunOutput.to_dict]
LOADS: list[Callable[[Any], Any]] = [
    lambda cache: cache.get_session("s").runs[1],
    lambda cache: cache.get_sessions(["s"])[0].runs[1],
    lambda cache: cache.get_run("s", "r1"),
    lambda cache: cache.get_runs("s")[1],
    lambda cache: list(cache.iter_runs("s"))[1],
]


def four_runs() -> Any:
    return a_session("s", [a_run_of(f"r{n}", a_message(f"m{n}"), at=n + 1) for n in range(4)])


class Spoiler:
    """Exchanges the members of runs of session `s`, at their places."""

    def __init__(self, admin: redis.Redis, caches: Caches) -> None:
        self._admin, (_, self._key) = admin, keys.session_keys(caches.prefix, "s")

    def members(self) -> dict[bytes, float]:
        """Return all that is stored of the runs."""
        return dict(self._admin.zrange(self._key, 0, -1, withscores=True))

    def spoil(self, run_id: str, kind: str, how: Callable[[bytes], bytes]) -> None:
        """Put what `how` makes of a head or body in its place."""
        order = round((self._admin.zscore(self._key, f"i{run_id}") or 0) * 2**60)
        score = order if kind == "h" else -order
        (member,) = self._admin.zrange(self._key, score, score, byscore=True)
        self._admin.zrem(self._key, member)
        self._admin.zadd(self._key, {how(member): score})


@pytest.fixture
def spoiler(cache: Any, admin: redis.Redis, caches: Caches) -> Spoiler:
    """What spoils the four runs of a session, r0 to r3."""
    cache.upsert_session(four_runs())
    return Spoiler(admin, caches)


def used(run: Any, use: Callable[[Any], Any]) -> None:
    """Use a run of which a part does not decode."""
    with pytest.raises(DamagedRunError, match="'r1' of session 's'"):
        use(run)


@pytest.mark.parametrize("name", BAD)
def test_the_others_stay_readable(cache: Any, spoiler: Spoiler, name: str) -> None:
    kind, how = BAD[name]
    spoiler.spoil("r1", kind, how)

    runs = cache.get_session("s").runs

    used(runs[1], lambda run: run.step_executor_runs)
    del runs[1]
    assert [run.to_dict() for run in runs] == [
        run.to_dict() for run in four_runs().runs if run.run_id != "r1"
    ]
    assert cache.get_run("s", "r3").content == "out r3"


@pytest.mark.parametrize("name", BAD)
def test_history_needs_heads_alone(cache: Any, spoiler: Spoiler, name: str) -> None:
    kind, how = BAD[name]
    spoiler.spoil("r1", kind, how)

    if kind == "b":
        assert len(cache.get_chat_history("s")) == 4
        assert len(cache.get_session("s").get_chat_history()) == 4
    else:
        with pytest.raises(DamagedRunError):
            cache.get_session("s").get_chat_history()


@pytest.mark.parametrize("field", ["content", "status", "metadata"])
def test_a_bad_head_hides_every_field(cache: Any, spoiler: Spoiler, field: str) -> None:
    spoiler.spoil("r1", "h", GARBAGE["text"])

    used(cache.get_session("s").runs[1], lambda run: getattr(run, field))


@pytest.mark.parametrize("kind", ["h", "b"])
def test_any_use_names_the_run(cache: Any, spoiler: Spoiler, kind: str) -> None:
    spoiler.spoil("r1", kind, GARBAGE["text"])

    for load in LOADS:
        run = load(cache)
        assert run.run_id == "r1"
        for use in USES:
            used(run, use)


@pytest.mark.parametrize("kinds", ["h", "b", "hb"])
def test_saving_leaves_it_alone(cache: Any, spoiler: Spoiler, kinds: str) -> None:
    for kind in kinds:
        spoiler.spoil("r1", kind, lambda _, kind=kind: kind.encode() + b":0:damaged 1")  # type: ignore[misc]
        spoiler.spoil("r2", kind, lambda _, kind=kind: kind.encode() + b":0:damaged 2")  # type: ignore[misc]
    before = spoiler.members()
    session = cache.get_session("s")
    assert [session.runs[0].content, session.runs[3].content] == ["out r0", "out r3"]
    with pytest.raises(DamagedRunError, match="session 's'"):
        _ = session.runs[1].metadata
    session.metadata = {"k": 1}

    cache.upsert_session(session)
    cache.update_session("s", lambda loaded: loaded.metadata.update(k=2))

    assert spoiler.members() == before
    assert cache.get_session("s").metadata == {"k": 2}


def test_storing_it_again_repairs_it(cache: Any, spoiler: Spoiler) -> None:
    for kind in "hb":
        spoiler.spoil("r1", kind, GARBAGE["cut short"])

    cache.upsert_run("s", a_run("r1", content="repaired"))

    contents_now = [run.content for run in cache.get_session("s").runs]
    assert contents_now == ["out r0", "repaired", "out r2", "out r3"]


@given(data=st.data())
def test_flipped_bits(cache: Any, spoiler: Spoiler, data: st.DataObject) -> None:
    """Nobody can know which bits of a value were flipped; a run of another id is noticed."""
    cache.delete_session("s")
    cache.upsert_session(four_runs())
    cut, bit = data.draw(st.booleans()), data.draw(st.integers(0, 7))

    def how(member: bytes) -> bytes:
        at = data.draw(st.integers(1, len(member) - 1))
        return member[:at] + (b"" if cut else bytes([member[at] ^ (1 << bit)]) + member[at + 1 :])

    spoiler.spoil("r3", data.draw(st.sampled_from("hb")), how)

    session = None
    with contextlib.suppress(SessionCacheError):
        session = cache.get_session("s")
    for run in session.runs if session else ():
        with contextlib.suppress(SessionCacheError):
            run.to_dict()
    if session:
        assert contents(session.runs[:3]) == contents(four_runs().runs[:3])


# a later version's runs


def _with_a_field(head: bytes) -> bytes:
    start = head.index(codec.FORMAT)
    return head[:start] + codec.pack({**codec.unpack_dict(head[start:]), "from_the_future": [1]}, "v")


def test_fields_of_a_later_version_are_kept(cache: Any, spoiler: Spoiler) -> None:
    spoiler.spoil("r1", "h", _with_a_field)
    session = cache.get_session("s")

    session.runs[1].metadata = {"changed": True}
    cache.upsert_session(session)

    loaded = cache.get_run("s", "r1")
    assert loaded.to_dict()["from_the_future"] == [1]
    assert loaded.metadata == {"changed": True}


def test_unchanged_runs_of_it_are_not_written(cache: Any, spoiler: Spoiler) -> None:
    """Else it would undo what another worker made of the run meanwhile."""
    spoiler.spoil("r1", "h", _with_a_field)
    session = cache.get_session("s")
    cache.upsert_run("s", a_run("r1", content="of another worker"))

    session.metadata["k"] = 1
    cache.upsert_session(session)

    assert cache.get_run("s", "r1").content == "of another worker"
