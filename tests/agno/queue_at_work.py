"""A process of AgentOS with the durable queue: it accepts runs of an agent, and works on all that wait."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import redis
from agno.agent import Agent
from agno.db.schemas.jobs import QueuedJob
from agno.job_queue import QueueConfig
from agno.models.response import ModelResponse
from agno.os import AgentOS
from agno.os.job_queue import (
    aenqueue_ticket,
    aprepare_accepted_or_abort,
    queue_lifespan,
    wake_queue_worker,
)
from agno.run.concurrency import get_worker_ownership
from agno.utils.log import logger
from tests.agno.components import Scripted

from sessioncache.integrations.agno import AsyncSessionCacheDb, SessionCacheDb
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable

AT_ONCE: Final = 2
"""Runs that one process works on at the same time."""

SESSIONS: Final = 10
PATIENCE: Final = 300.0
"""Seconds after which a process gives up waiting, lest it outlive a test that failed."""

CONFIG: Final = QueueConfig(
    durable=True,
    max_concurrency=AT_ONCE,
    max_attempts=9,
    max_queue_depth=0,
    retry_delay_seconds=0,
    lock_grace_seconds=3,
    stop_timeout_seconds=2,
    poll_interval=0.1,
)


class Whiteboard:
    """What the processes and the test tell each other, in the same Redis under keys of its own."""

    def __init__(self, url: str) -> None:
        self.client: Any = redis.Redis.from_url(url, decode_responses=True)

    def note(self, *names: object, value: object = 1) -> None:
        self.client.rpush(":".join(("board", *map(str, names))), str(value))

    def notes(self, *names: object) -> list[str]:
        noted: list[str] = self.client.lrange(":".join(("board", *map(str, names))), 0, -1)
        return noted

    def wait(self, *names: object, count: int = 1) -> None:
        wait_for(lambda: len(self.notes(*names)) >= count, f"{count} of {names}", seconds=PATIENCE)


class Held(Scripted):
    """A model that says which attempt asks, and answers when its process is let go."""

    def __init__(self, board: Whiteboard, worker: int) -> None:
        super().__init__()
        self.board = board
        self.worker = worker

    async def ainvoke(self, messages: list[Any], run_response: Any = None, **_: Any) -> ModelResponse:
        attempt = get_worker_ownership(run_response.run_id).attempt
        self.board.note("attempts", run_response.run_id, value=attempt)
        self.board.note("asked", self.worker, value=run_response.run_id)
        await asyncio.to_thread(self.board.wait, "let go", self.worker)
        return ModelResponse(role="assistant", content=f"{messages[-1].content} by {attempt}")


class Warnings(logging.Handler):
    """Notes what agno warns of."""

    def __init__(self, board: Whiteboard, worker: int) -> None:
        super().__init__(logging.WARNING)
        self.board = board
        self.worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        topic = "refused" if "Dropped fenced-out run save" in record.getMessage() else "warned"
        self.board.note(topic, self.worker, value=record.getMessage())


def work(db_class: type, url: str, worker: int, run_ids: Iterable[str]) -> None:
    """Be a process of AgentOS, until the test says that all is done."""
    asyncio.run(_work(db_class, url, worker, run_ids))


async def _work(db_class: type, url: str, worker: int, run_ids: Iterable[str]) -> None:
    board = Whiteboard(url)
    logger.addHandler(Warnings(board, worker))
    db = db_class(db_url=url, ttl=3600)
    agent = Agent(name="Ann", id="ann", db=db, model=Held(board, worker), telemetry=False)
    system = AgentOS(agents=[agent], db=db, queue=CONFIG, telemetry=False)
    app = SimpleNamespace(state=SimpleNamespace())
    await asyncio.to_thread(board.wait, "begin", worker)
    async with queue_lifespan(app, system):
        for number, run_id in enumerate(run_ids):
            await _accept(app.state.queue_worker, agent, run_id, f"s{number % SESSIONS}")
        board.note("accepted", worker)
        await asyncio.to_thread(board.wait, "done")
    await _close(db)


async def _accept(queue: Any, agent: Agent, run_id: str, session_id: str) -> None:
    """Accept a background run as AgentOS' route does."""
    where = {"session_id": session_id, "user_id": "alice"}
    payload = {"input": f"ask {run_id}"}
    job = QueuedJob(run_id, "agent", "ann", **where, payload=payload, max_attempts=CONFIG.max_attempts)
    result = await aenqueue_ticket(queue, job.to_dict(), agent)
    assert result["accepted"]
    await aprepare_accepted_or_abort(queue, agent, "agent", run_id=run_id, **where, input=payload["input"])
    wake_queue_worker(queue)


async def _close(db: SessionCacheDb | AsyncSessionCacheDb) -> None:
    closing = db.close()
    if closing is not None:
        await closing
