"""Walks over all keys of a prefix: on each server, in bounded steps, all servers at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from sessioncache.storage import keys
from sessioncache.transport.flow import Address, Flow, Sleep
from sessioncache.transport.request import Request
from sessioncache.transport.retry import send
from sessioncache.transport.together import together

from .context import Context

SCAN_COUNT: Final = b"500"
"""Keys that the server looks at in one step: a millisecond at the most."""

REST: Final = 4.0
"""How long a walk that is in no hurry rests after each step, in times of what the step took."""

Handle = Callable[[Context, Sequence[bytes]], Flow[bool]]
"""Does something with keys, in a call of its own; returns False to end the walk."""


def scan(ctx: Context, handle: Handle, *, rests: bool = False) -> Flow[None]:
    """Have all keys of the prefix handled; a key may come twice."""
    index = keys.index_of_all(ctx.settings.prefix)
    yield from send(ctx, Request(index, ((b"EXISTS", index),)))  # finds out where keys are
    servers = ctx.topology.servers()
    yield from together([_scan_one(ctx, address, handle, rests=rests) for address in servers])


def _scan_one(ctx: Context, address: Address, handle: Handle, *, rests: bool) -> Flow[None]:
    pattern = keys.pattern_of_all(ctx.settings.prefix)
    cursor = b"0"
    while True:
        step = ctx.begun_anew()
        command = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", SCAN_COUNT)
        cursor, found = yield from send(step, Request(b"", (command,), address=address))
        goes_on = yield from handle(step, found)
        if cursor == b"0" or not goes_on:
            return
        if rests:
            yield Sleep((monotonic() - step.started) * REST)
