"""Write and read in several processes while their server is hurt every second, and count what went wrong.

Each process writes sessions of its own and knows of each what was acknowledged and what may or may not be
stored, because its outcome is unknown. It reads them back, whole, and compares; and it reads the sessions of
the other processes, of which it knows how many runs were acknowledged at least. The server is a private
redis-server with its AOF on (fsync always); half of the processes reach it through a proxy.

    lost    an acknowledged write that is not there, or something older in its place: a stale answer, too
    wrong   any other answer that cannot be: of another session, out of order, never written, "no session",
            or an exception that is not of this library

The exit status is 1 where there is one of either.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from sessioncache import (
    NearCache,
    OutcomeUnknownError,
    SessionCache,
    UnavailableError,
    WorkflowRunOutput,
    WorkflowSession,
)
from support.servers import RedisServer
from support.storage import partial_sessions
from support.wire import FaultProxy
from support.workload import History, Register

SECONDS = 60
PROCESSES = 4
TIMEOUT = 2.0
"""Seconds for one call: shorter than some of the faults."""
LATE = 2.0
"""Seconds beyond its timeout after which a call that is still under way shows where it is."""
LIVE_SESSIONS = 3
"""Sessions that a process writes at the same time."""
RUNS = 150
"""Runs after which a session is compared for the last time but one, and another begun in its place."""
KEPT_SESSIONS = 20
"""Finished sessions of a process that are kept until the end and compared then; the oldest are deleted."""
NEAR_BYTES = 2**20
"""Memory of a near cache: too little for all sessions, so that some are dropped."""
FAULT_EVERY = 1.0
REPEATED = 0.5
"""Writes of unknown outcome that are repeated at once; the others stay unknown."""
PAYLOAD = "x" * 500
WIRE_FAULTS = (
    "reset_on_connect",
    "reset_before_send",
    "reset_after_send",
    "half_reply",
    "black_hole",
    "delay",
)


# the runs


def is_in_order(session_id: str, runs: list[WorkflowRunOutput]) -> bool:
    """Tell whether runs are of this session, of rising number, with their own bodies."""
    numbers = [int(str(run.run_id)) for run in runs]
    return numbers == sorted(set(numbers)) and all(
        str(run.content).startswith(f"{session_id} {run.run_id} ")
        and run.metadata == {"of": run.run_id, "payload": PAYLOAD}
        for run in runs
    )


# a worker


class SharedState:
    """What processes know of each other's sessions: which ones live, and how many runs each has at least."""

    def __init__(self, places: int) -> None:
        self._values = multiprocessing.get_context("spawn").Array("q", 2 * places)
        self.places = places

    def publish(self, place: int, generation: int, runs: int) -> None:
        """Say which session lives in a place."""
        with self._values.get_lock():
            self._values[2 * place : 2 * place + 2] = [generation, runs]

    def look(self, place: int) -> tuple[int, int]:
        """Return the generation in a place, 0 for none, and its runs."""
        with self._values.get_lock():
            generation, runs = self._values[2 * place : 2 * place + 2]
        return generation, runs


class Worker:
    """One process: writes its own sessions, reads its own and those of the others."""

    def __init__(self, url: str, number: int, shared: SharedState, near_cache: NearCache | None) -> None:
        self.cache = SessionCache.from_url(url, timeout=TIMEOUT, ttl=24 * 3600, near_cache=near_cache)
        self.number = number
        self.shared = shared
        self.counts: Counter[str] = Counter()
        self.longest = 0.0
        self.generation = 0
        self.live: dict[int, History] = {}
        self.finished: list[History] = []

    def work_until(self, end: float) -> None:
        """Do one thing after the other."""
        while time.time() < end:
            place = self.number * LIVE_SESSIONS + random.randrange(LIVE_SESSIONS)
            if place not in self.live:
                self.begin(place)
            else:
                actions = [self.append, self.replace, self.set_state, self.compare, self.look_at_another]
                random.choices(actions, weights=[10, 3, 3, 1, 5])[0](place)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, Any]:
        """Call the library; return what came of it, and its answer."""
        started = time.monotonic()
        outcome, answer = "answered", None
        faulthandler.dump_traceback_later(TIMEOUT + LATE)
        try:
            answer = function(*args, **kwargs)
        except OutcomeUnknownError:
            outcome = "unknown"
        except UnavailableError:
            outcome = "unavailable"
        except Exception as error:  # noqa: BLE001 - any other is a wrong answer, and told
            outcome = "wrong"
            print(f"wrong: {function.__name__} raised {error!r}", file=sys.stderr, flush=True)
        faulthandler.cancel_dump_traceback_later()
        self.longest = max(self.longest, time.monotonic() - started)
        self.counts["operations"] += 1
        self.counts[outcome] += 1
        return outcome, answer

    def write(self, register: Register, value: str, function: Callable[..., Any], *args: Any) -> None:
        """Write a value, once more or not where the outcome is unknown, and note what may be stored now."""
        outcome, _ = self.call(function, *args)
        while outcome == "unknown" and random.random() < REPEATED:
            register.unknown.add(value)
            outcome, _ = self.call(function, *args)
        if outcome == "answered":
            register.acknowledged = value
            self.counts["acknowledged"] += 1
        elif outcome == "unknown":
            register.unknown.add(value)

    def begin(self, place: int) -> None:
        """Create the next session of a place."""
        self.generation += 1
        history = History(session_name(place, self.generation), is_in_order)
        outcome, _ = self.call(self.cache.upsert_session, WorkflowSession(history.session_id, user_id="u"))
        if outcome == "answered":
            self.counts["acknowledged"] += 1
            self.live[place] = history
            self.shared.publish(place, self.generation, 0)

    def append(self, place: int) -> None:
        """Append a run; after enough of them, the session is finished."""
        history = self.live[place]
        if len(history.runs) >= RUNS:
            return self.finish(place)
        self._write_run(history, len(history.runs))
        generation, _ = self.shared.look(place)
        self.shared.publish(place, generation, history.acknowledged_runs)
        return None

    def replace(self, place: int) -> None:
        """Write a run of before anew."""
        history = self.live[place]
        if history.runs:
            self._write_run(history, random.choice(list(history.runs)))

    def _write_run(self, history: History, number: int) -> None:
        run_id = str(number)
        content = f"{history.session_id} {run_id} {random.random()}"
        metadata = {"of": run_id, "payload": PAYLOAD}
        run = WorkflowRunOutput(
            run_id=run_id, content=content, created_at=number + 1, status="COMPLETED", metadata=metadata
        )
        register = history.runs.setdefault(number, Register())
        self.write(register, content, self.cache.upsert_run, history.session_id, run)

    def set_state(self, place: int) -> None:
        """Set a key of the session's state, without loading it."""
        history = self.live[place]
        key, value = f"k{random.randrange(8)}", str(random.random())
        register = history.state.setdefault(key, Register())
        self.write(register, value, self.cache.update_session_state, history.session_id, {key: value})

    def compare(self, place: int) -> None:
        """Read a session of this process back."""
        self.compare_history(self.live[place])

    def compare_history(self, history: History) -> None:
        """Load a session, whole, and hold it against its history."""
        outcome, session = self.call(self.cache.get_session, history.session_id)
        if outcome == "answered":
            self.judge(history.session_id, history.verdicts(session))

    def look_at_another(self, _: int) -> None:
        """Read a session of any process, in one of several ways."""
        place = random.randrange(self.shared.places)
        generation, least = self.shared.look(place)
        if not generation:
            return None
        session_id = session_name(place, generation)
        last_n = random.choice([None, 5])
        outcome, session = self.call(self.cache.get_session, session_id, last_n_runs=last_n)
        if outcome != "answered":
            return None
        if session is None:
            return self.judge(session_id, Counter(wrong=self.shared.look(place)[0] == generation))
        expected = least if last_n is None else min(least, last_n)
        self.judge(session_id, Counter(lost=max(0, expected - len(session.runs))))
        return self.judge(session_id, Counter(wrong=not is_in_order(session_id, session.runs)))

    def finish(self, place: int) -> None:
        """Put a session aside, to be compared at the end; delete one that was put aside long ago."""
        history = self.live.pop(place)
        self.shared.publish(place, 0, 0)
        self.finished.append(history)
        if len(self.finished) > KEPT_SESSIONS:
            self.compare_history(self.finished[0])
            self.call(self.cache.delete_session, self.finished.pop(0).session_id)

    def compare_all(self) -> None:
        """Compare every session with its history, on a server that is left in peace."""
        for history in [*self.finished, *self.live.values()]:
            self.compare_history(history)
            self.counts["compared at the end"] += 1

    def judge(self, session_id: str, verdicts: Counter[str]) -> None:
        """Count what was found of a session."""
        for verdict in ("lost", "wrong"):
            if verdicts[verdict]:
                print(f"{verdict}: {verdicts[verdict]} in {session_id}", file=sys.stderr, flush=True)
            self.counts[verdict] += verdicts[verdict]


def session_name(place: int, generation: int) -> str:
    """Return the id of a session."""
    return f"p{place}-{generation}"


def run_worker(
    url: str,
    number: int,
    shared: SharedState,
    end: float,
    seed: int,
    near_cache: NearCache | None,
    pipe: Any,
) -> None:
    """Work until the end, wait for the server to be left in peace, compare, and report."""
    logging.getLogger("sessioncache").setLevel(logging.CRITICAL)
    random.seed(f"{seed} {number}")
    worker = Worker(url, number, shared, near_cache)
    with worker.cache:
        worker.work_until(end)
        pipe.send("done")
        pipe.recv()
        worker.compare_all()
        if (info := worker.cache.near_cache_info()) is not None:
            worker.counts.update({f"near cache: {name}": count for name, count in info._asdict().items()})
        pipe.send((worker.counts, worker.longest))


# faults


class Nemesis:
    """Hurts the server or the way to it, in a way chosen at random each time."""

    def __init__(self, server: RedisServer, proxy: FaultProxy) -> None:
        self.server = server
        self.proxy = proxy
        self.done: Counter[str] = Counter()
        self.ways: dict[str, Callable[[], None]] = {
            "kill -9, restart": self._kill,
            "SIGSTOP": self._pause,
            "CLIENT KILL": lambda: self._admin("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
            "SCRIPT FLUSH": lambda: self._admin("SCRIPT", "FLUSH"),
            "no replicas": lambda: self._config("min-replicas-to-write", "1", "0"),
            "out of memory": lambda: self._config("maxmemory", "1", "0"),
            "proxy fault": self._break_exchanges,
            "proxy reset": self.proxy.drop_connections,
            "proxy down": self._refuse,
        }

    def strike_until(self, end: float) -> None:
        """Strike once every second; leave everything whole."""
        while (left := end - time.time()) > 0:
            time.sleep(min(left, FAULT_EVERY))
            way = random.choice(list(self.ways))
            self.ways[way]()
            self.done[way] += 1
        self.proxy.disarm()

    def _kill(self) -> None:
        self.server.kill()
        time.sleep(random.uniform(0, 0.5))
        self.server.start()

    def _pause(self) -> None:
        self.server.pause()
        time.sleep(random.uniform(0.1, 1.5) * TIMEOUT)
        self.server.resume()

    def _config(self, name: str, bad: str, good: str) -> None:
        self._admin("CONFIG", "SET", name, bad)
        time.sleep(0.5)
        self._admin("CONFIG", "SET", name, good)

    def _break_exchanges(self) -> None:
        for _ in range(5):
            self.proxy.arm(random.choice(WIRE_FAULTS), times=random.randrange(1, 5))  # type: ignore[arg-type]
        time.sleep(0.2)
        self.proxy.disarm()

    def _refuse(self) -> None:
        with self.proxy.refusing():
            time.sleep(random.uniform(0.1, 1.5) * TIMEOUT)

    def _admin(self, *command: str) -> None:
        with contextlib.closing(self.server.client()) as client:
            client.execute_command(*command)


# the whole


def main() -> int:
    """Run the soak, print its table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"how long (default {SECONDS})")
    parser.add_argument("--processes", type=int, default=PROCESSES, help=f"default {PROCESSES}")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(2**32), help="what is drawn"
    )
    parser.add_argument(
        "--near-cache", action="store_true", help="let each process hold what it reads, in a small near cache"
    )
    options = parser.parse_args()
    print(
        f"seed {options.seed}: what is drawn is drawn again with --seed; what the machine does is not",
        flush=True,
    )
    random.seed(options.seed)
    config = {"appendonly": "yes", "appendfsync": "always"}
    with RedisServer(unix=False, config=config) as server, FaultProxy(server.socket_path) as proxy:
        nemesis = Nemesis(server, proxy)
        near_cache = NearCache(NEAR_BYTES) if options.near_cache else None
        counts, longest = soak(nemesis, options.seconds, options.processes, options.seed, near_cache)
        partial = len(partial_sessions(server.client()))
    print_table(options, nemesis.done, counts, longest, partial)
    return 1 if counts["lost"] or counts["wrong"] or partial else 0


def soak(
    nemesis: Nemesis, seconds: float, processes: int, seed: int, near_cache: NearCache | None
) -> tuple[Counter[str], float]:
    """Let processes work while the nemesis strikes; return their counts, and the longest call."""
    context = multiprocessing.get_context("spawn")
    shared = SharedState(processes * LIVE_SESSIONS)
    end = time.time() + seconds
    pipes = []
    for number in range(processes):
        url = nemesis.proxy.url if number % 2 else nemesis.server.url
        ours, theirs = context.Pipe()
        arguments = (url, number, shared, end, seed, near_cache, theirs)
        context.Process(target=run_worker, args=arguments, daemon=True).start()
        pipes.append(ours)
    nemesis.strike_until(end)
    for step in ("done", "reports"):
        reports = [pipe.recv() for pipe in pipes]
        if step == "done":
            for pipe in pipes:
                pipe.send("compare")
    return sum((counts for counts, _ in reports), Counter()), max(longest for _, longest in reports)


def print_table(
    options: argparse.Namespace, faults: Counter[str], counts: Counter[str], longest: float, partial: int
) -> None:
    """Print what was done to whom, and what came of it."""
    rows = {
        "seconds": f"{options.seconds:,.0f}",
        "processes": str(options.processes),
        "faults": f"{faults.total():,}",
        **{f"  {way}": f"{number:,}" for way, number in sorted(faults.items())},
        "operations": f"{counts['operations']:,}",
        "acknowledged writes": f"{counts['acknowledged']:,}",
        "unknown outcomes": f"{counts['unknown']:,}",
        "unavailable": f"{counts['unavailable']:,}",
        "compared at the end": f"{counts['compared at the end']:,}",
        "lost": f"{counts['lost']:,}",
        "wrong answers": f"{counts['wrong']:,}",
        **{name: f"{number:,}" for name, number in counts.items() if name.startswith("near cache")},
        "partial sessions": f"{partial:,}",
        "longest call": f"{longest:.2f} s, timeout {TIMEOUT:g} s",
    }
    for name, value in rows.items():
        print(f"{name:24}{value:>24}")


if __name__ == "__main__":
    sys.exit(main())
