"""The async client as if it were the blocking one, so that a test is written once."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


class LoopThread:
    """An event loop in a thread of its own; any thread can run something in it and wait."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="test-loop", daemon=True)
        self._thread.start()
        self._nested: LoopThread | None = None

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Await in the loop, and block until done.

        Called from within the loop (by a callback given to the client), it uses a second loop.
        """
        if threading.current_thread() is self._thread:
            self._nested = self._nested or LoopThread()
            return self._nested.run(awaitable)
        return asyncio.run_coroutine_threadsafe(_awaited(awaitable), self.loop).result()

    def close(self) -> None:
        """Cancel what still runs, and end the loop and its thread."""
        if self._nested:
            self._nested.close()
        self.run(_cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _bare(value: Any) -> Any:
    return value.wrapped if isinstance(value, BlockingFacade) else value


class BlockingFacade:
    """Wraps an object: what it would have awaited or iterated asynchronously, blocks or iterates.

    `wrapped` is the object itself; `loop_thread` runs it.
    """

    def __init__(self, wrapped: Any, loop_thread: LoopThread) -> None:
        self.wrapped = wrapped
        self.loop_thread = loop_thread

    def for_user(self, user_id: Any) -> BlockingFacade:
        """Return the view of a user as if it were blocking, too."""
        return BlockingFacade(self.wrapped.for_user(user_id), self.loop_thread)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.wrapped, name)
        return self._blocking(value) if callable(value) else value

    def __enter__(self) -> Self:
        self.loop_thread.run(self.wrapped.__aenter__())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.loop_thread.run(self.wrapped.__aexit__(*exc_info))

    def _blocking(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*map(_bare, args), **{name: _bare(each) for name, each in kwargs.items()})
            if hasattr(result, "__aenter__"):
                return BlockingFacade(result, self.loop_thread)
            if inspect.isawaitable(result):
                return self.loop_thread.run(result)
            return self._iterate(result) if hasattr(result, "__anext__") else result

        return call

    def _iterate(self, iterator: AsyncIterator[Any]) -> Iterator[Any]:
        done = object()
        while (item := self.loop_thread.run(anext(iterator, done))) is not done:
            yield item
