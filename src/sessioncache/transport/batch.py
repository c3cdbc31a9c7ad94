"""Many requests in one round trip for each server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from . import redis_errors
from .flow import Address, Flow, Send
from .redis_errors import REDIS_ERRORS, Action
from .request import Request
from .retry import (
    Call,
    check_permissions,
    final_error,
    note_failed,
    note_served,
    result_of,
    send,
    to_commands,
)
from .together import together

Group = dict[int, Request]
"""Requests for one server, by their place among all."""


def send_all(call: Call, requests: Sequence[Request]) -> Flow[list[Any]]:
    """Send requests, each an atomic unit, in one round trip for each server; return their results in order.

    All servers are asked at once. Of those requests that are not served so, one is sent by itself under the
    rules of `send`: that finds out where keys are now. Then the rest is sent together again.
    """
    results: dict[int, Any] = {}
    pending: Group = dict(enumerate(requests))
    while len(pending) > 1:
        groups = _by_server(call, pending)
        if groups:
            sendings = [_send_group(call, address, group) for address, group in groups.items()]
            for served in (yield from together(sendings)):
                results |= served
        pending = {index: request for index, request in pending.items() if index not in results}
        if pending:
            index = min(pending)
            results[index] = yield from _send_alone(call, pending.pop(index))
    for index, request in pending.items():
        results[index] = yield from _send_alone(call, request)
    return [results[index] for index in range(len(requests))]


def _send_alone(call: Call, request: Request) -> Flow[Any]:
    try:
        return (yield from send(call, request))
    except request.tolerates as exc:
        return exc


def _by_server(call: Call, requests: Group) -> dict[Address, Group]:
    groups: dict[Address, Group] = {}
    for index, request in requests.items():
        address = call.topology.locate(request.key)
        if address is not None:
            groups.setdefault(address, {})[index] = request
    return groups


def _send_group(call: Call, address: Address, group: Group) -> Flow[dict[int, Any]]:
    """Return the results of those requests of a group that were served."""
    commands = {index: to_commands(request) for index, request in group.items()}
    try:
        yield from check_permissions(call, address, group.values())
        replies = yield Send(address, [*chain.from_iterable(commands.values())], call.seconds_left())
    except REDIS_ERRORS as exc:
        _raise_unless_repeatable(call, address, exc, group.values())
        return {}
    results: dict[int, Any] = {}
    end = 0
    for index, request in group.items():
        start, end = end, end + len(commands[index])
        try:
            results[index] = result_of(request, replies[start:end])
        except REDIS_ERRORS as exc:
            action = redis_errors.action(exc, writes=request.writes)
            error = redis_errors.translate(exc, str(address), request.key, writes=request.writes)
            if action in (Action.RAISE, Action.RETRY) and isinstance(error, request.tolerates):
                results[index] = error
            else:
                _raise_unless_repeatable(call, address, exc, [request])
    if len(results) == len(group) and call.topology.outages.open:
        note_served(call, address)
    return results


def _raise_unless_repeatable(
    call: Call, address: Address, exc: BaseException, requests: Iterable[Request]
) -> None:
    write = next((request for request in requests if request.writes), None)
    action = redis_errors.action(exc, writes=write is not None)
    if action is Action.RAISE:
        raise final_error(call, address, exc, write or next(iter(requests))) from exc
    if action is Action.RETRY:
        call.topology.outages.begin(str(address))
        note_failed(call, str(address), exc)
