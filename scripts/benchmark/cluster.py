"""What a cluster costs beside one server, at 1 ms a round trip; load of its nodes; a million sessions."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any, Final, NamedTuple

import redis
from rich.console import Console
from rich.table import Table

from sessioncache import RunStatus, SessionCache, SessionPage, WorkflowRunOutput, WorkflowSession
from sessioncache.storage import keys
from sessioncache.transport.flow import Command
from sessioncache.transport.retry import pack_commands
from support.cluster import RedisCluster
from support.servers import RedisServer

from .delay import Delay

NETWORK_SECONDS: Final = 0.001
"""What the proxy adds to each exchange: loopback hides what round trips cost."""

MASTERS: Final = (1, 3, 6)
SESSIONS: Final = 300
USERS: Final = 10
CALLS: Final = 300
LOAD_SESSIONS: Final = 10_000
LOAD_CALLS: Final = 20_000
WRITES: Final = 0.2
"""Share of the calls that write."""

PAGE: Final = 20
LISTED: Final = (10_000, 1_000_000)
PREFIX: Final = "sessioncache"


class Place(NamedTuple):
    """A server or a cluster, and a cache that reaches it over the network."""

    name: str
    cache: SessionCache
    nodes: Sequence[RedisServer]


@contextlib.contextmanager
def one_server(seconds: float) -> Iterator[Place]:
    """Give one server."""
    with RedisServer(unix=False) as server, Delay([server.port], seconds) as delay:
        port = delay.ports[server.port] if seconds else server.port
        with SessionCache.from_url(f"redis://127.0.0.1:{port}") as cache:
            yield Place("one server", cache, [server])


@contextlib.contextmanager
def cluster_of(masters: int, seconds: float) -> Iterator[Place]:
    """Give a cluster of so many masters."""
    config = {"cluster-require-full-coverage": "no"}
    cluster = RedisCluster(masters=masters, has_replicas=False, config=config)
    with cluster, Delay([node.port for node in cluster.nodes], seconds) as delay:
        remap = delay.remap if seconds else None
        with (
            cluster.client(address_remap=remap) as client,
            SessionCache(client) as cache,
        ):
            yield Place(f"{masters} masters", cache, cluster.nodes)


def a_run(run_id: str, user_id: str, workflow_id: str = "w") -> WorkflowRunOutput:
    """Return a run of a user in a workflow, as frameworks write them."""
    return WorkflowRunOutput(
        run_id=run_id,
        user_id=user_id,
        workflow_id=workflow_id,
        input="What is it?",
        content="It is this. " * 20,
        status=RunStatus.completed,
    )


def fill(cache: SessionCache, number: int, workflows: int = 3) -> list[WorkflowSession]:
    """Store sessions of ten runs, of ten users in some workflows; return them."""
    sessions = []
    for each in range(number):
        user_id, workflow_id = f"u{each % USERS}", f"w{each % workflows}"
        runs = [a_run(f"r{place}", user_id, workflow_id) for place in range(10)]
        session = WorkflowSession(f"s{each}", user_id=user_id, workflow_id=workflow_id, runs=runs)
        cache.upsert_session(session)
        sessions.append(session)
    return sessions


def calls_of(cache: SessionCache, sessions: Sequence[WorkflowSession]) -> dict[str, Callable[[], object]]:
    """Return the calls that are timed."""
    numbers = count()

    def upsert_run() -> None:
        session = random.choice(sessions)
        run = a_run(f"new{next(numbers) % 20}", session.user_id, session.workflow_id)
        cache.upsert_run(session.session_id, run)

    def get_session() -> None:
        cache.get_session(random.choice(sessions).session_id, last_n_runs=5)

    def get_sessions() -> None:
        cache.get_sessions([each.session_id for each in random.sample(sessions, 50)], last_n_runs=5)

    return {
        "upsert_run": upsert_run,
        "get_session(last_n_runs=5)": get_session,
        "get_sessions(50 ids, last_n_runs=5)": get_sessions,
        "list_sessions()": cache.list_sessions,
        "list_sessions(user_id)": lambda: cache.list_sessions(user_id="u1"),
    }


def latencies(places: Sequence[Place]) -> dict[str, list[float]]:
    """Return the median seconds of each call at each place, called in turn."""
    calls = [calls_of(place.cache, fill(place.cache, SESSIONS)) for place in places]
    found: dict[str, list[float]] = {}
    for name in calls[0]:
        for each in calls:
            for _ in range(10):
                each[name]()
        times: list[list[float]] = [[] for _ in places]
        for _ in range(CALLS):
            for each, taken in zip(calls, times, strict=True):
                taken.append(_seconds_of(each[name]))
        found[name] = [statistics.median(taken) for taken in times]
    return found


def busiest_share(place: Place) -> float:
    """Return the commands of the busiest node over its fair share: 80 % lookups, 20 % upserts."""
    sessions = fill(place.cache, LOAD_SESSIONS)
    calls = calls_of(place.cache, sessions)
    before = commands_of(place.nodes)
    for _ in range(LOAD_CALLS):
        calls["upsert_run" if random.random() < WRITES else "get_session(last_n_runs=5)"]()
    done = [after - was for after, was in zip(commands_of(place.nodes), before, strict=True)]
    return max(done) / (sum(done) / len(done))


def beside_a_silent_node(place: Place) -> tuple[float, float, float]:
    """Stop a node; return the time of a write of another's session before, at first, and from then on."""
    silent = place.nodes[0]
    client = silent.client()
    own = {slot for bounds in _slots_of(client) for slot in range(*bounds)}
    sessions = fill(place.cache, SESSIONS)
    others = [each for each in sessions if keys.slot_of(b"{%b}" % each.session_id.encode()) not in own]
    write = calls_of(place.cache, others)["upsert_run"]
    before = [_seconds_of(write) for _ in range(4 * CALLS)]
    silent.pause()
    time.sleep(1)  # all are due to be listed again
    first = max(_seconds_of(write) for _ in range(CALLS // 10))
    since = [_seconds_of(write) for _ in range(4 * CALLS)]
    silent.resume()
    return statistics.mean(before), first, statistics.mean(since)


def _seconds_of(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def commands_of(nodes: Iterable[RedisServer]) -> list[int]:
    """Return how many commands each node has processed."""
    return [int(node.client().info("stats")["total_commands_processed"]) for node in nodes]


class Listed(NamedTuple):
    """Sessions in bulk, and what it takes to list twenty of them."""

    sessions: int
    index_bytes: int
    seconds: float
    trips: int


def list_many(place: Place, number: int) -> Listed:
    """Store sessions without runs in bulk, and list twenty."""
    for node in place.nodes:
        node.client().flushall()
    bulk = Bulk(place, number)
    bulk.store()
    trips, page = trips_of(place.cache)
    assert len(page.sessions) == PAGE
    assert page.total == number
    seconds = [_seconds_of(place.cache.list_sessions) for _ in range(50)]
    return Listed(number, bulk.index_bytes(), statistics.median(seconds), trips)


def trips_of(cache: SessionCache) -> tuple[int, SessionPage]:
    """List sessions; return how many round trips it took in time, and the page."""
    transport: Any = cache.transport
    effects = []
    perform = transport._perform  # noqa: SLF001 - what goes out together is counted nowhere else

    def noted(effect: Any) -> Any:
        effects.append(effect)
        return perform(effect)

    vars(transport)["_perform"] = noted
    page = cache.list_sessions()
    del vars(transport)["_perform"]
    return len(effects), page


class Bulk:
    """Many sessions without runs, like one that the library stored."""

    def __init__(self, place: Place, number: int) -> None:
        self._number = number
        place.cache.upsert_session(WorkflowSession("s0", user_id="u0", workflow_id="w0"))
        clients = [node.client() for node in place.nodes]
        slots = [range(*bounds) for client in clients for bounds in _slots_of(client)]
        self._clients = list(zip(slots, clients, strict=True))
        self._indexes: dict[bytes, list[bytes]] = {}
        meta, _ = keys.session_keys(PREFIX, "s0")
        self._fields: dict[bytes, bytes] = self._client(meta).hgetall(meta)

    def _client(self, key: bytes) -> redis.Redis:
        slot = keys.slot_of(key)
        return next(client for slots, client in self._clients if slot in slots)

    def store(self) -> None:
        """Store all of them, their indexes last."""
        now = int(self._fields[b"updated_at"])
        commands: dict[redis.Redis, list[Command]] = {}
        for each in range(1, self._number):
            name, at = b"s%d" % each, b"%d" % (now - each // 10)
            user_id, workflow_id = f"u{each % 1000}", f"w{each % 3}"
            own = {b"session_id": name, b"updated_at": at, b"user_id": user_id.encode()}
            own[b"workflow_id"] = workflow_id.encode()
            fields = {**self._fields, **own}
            meta, _ = keys.session_keys(PREFIX, name.decode())
            commands.setdefault(self._client(meta), []).append((b"HSET", meta, *chain(*fields.items())))
            for index in keys.indexes(PREFIX, user_id, workflow_id):
                is_split = keys.is_split(PREFIX, index)
                key = keys.shard_of(PREFIX, index, name.decode()) if is_split else index
                self._indexes.setdefault(key, []).extend((at, name))
            if each % 20_000 == 0:
                _send_all(commands)
                commands.clear()
        for key, entries in self._indexes.items():
            for start in range(0, len(entries), 2000):
                commands.setdefault(self._client(key), []).append(
                    (b"ZADD", key, *entries[start : start + 2000])
                )
        _send_all(commands)

    def index_bytes(self) -> int:
        """Return the memory of all indexes."""
        return sum(self._client(key).memory_usage(key, samples=0) or 0 for key in self._indexes)


def _slots_of(client: redis.Redis) -> Iterator[tuple[int, int]]:
    own = client.execute_command("CLUSTER", "MYID")
    for first, last, (_, _, node_id, *_), *_ in _raw_slots(client):
        if node_id == own:
            yield first, last + 1


def _raw_slots(client: redis.Redis) -> Any:
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command("CLUSTER", "SLOTS")
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


def _send_all(commands: dict[redis.Redis, list[Command]]) -> None:
    """Send commands in a pipeline to each node, past redis-py's packing."""
    for client, batch in commands.items():
        connection = client.connection_pool.get_connection()
        for start in range(0, len(batch), 1000):
            part = batch[start : start + 1000]
            connection.send_packed_command([pack_commands(part)])
            for _ in part:
                connection.read_response()
        client.connection_pool.release(connection)


def main(console: Console) -> None:
    """Measure all, and print it."""
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(one_server(NETWORK_SECONDS))]
        places += [stack.enter_context(cluster_of(masters, NETWORK_SECONDS)) for masters in MASTERS]
        console.print(latency_table(places, latencies(places)))
    for masters in MASTERS[1:]:
        with cluster_of(masters, 0) as place:
            share = busiest_share(place)
        console.print(f"commands of the busiest of {masters} masters: {share:.2f} x its fair share")
    with cluster_of(3, NETWORK_SECONDS) as place:
        before, first, since = (taken * 1000 for taken in beside_a_silent_node(place))
    console.print(
        f"upsert_run of other nodes' sessions while one of 3 masters is stopped, on average: {since:.2f} ms"
    )
    console.print(f"    {before:.2f} ms before, {first:.0f} ms at first, at timeout=5")
    with cluster_of(3, NETWORK_SECONDS) as place:
        for number in LISTED:
            listed = list_many(place, number)
            size, taken = listed.index_bytes / 2**20, listed.seconds * 1000
            console.print(
                f"{listed.sessions:,} sessions: indexes {size:,.1f} MiB; list_sessions(): {taken:.2f} ms"
            )
            console.print(f"    in {listed.trips} round trips")


def latency_table(places: Sequence[Place], found: dict[str, list[float]]) -> Table:
    """Return the table of medians, and of their ratios to one server."""
    table = Table(title="Median time of a call, at 1 ms a round trip (and its ratio to one server)")
    table.add_column("call")
    for place in places:
        table.add_column(place.name, justify="right")
    for name, seconds in found.items():
        ratios = ["", *(f" ({taken / seconds[0]:.2f})" for taken in seconds[1:])]
        cells = [f"{taken * 1000:.2f} ms{ratio}" for taken, ratio in zip(seconds, ratios, strict=True)]
        table.add_row(name, *cells)
    return table
