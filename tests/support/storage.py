"""What is stored, looked at from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis


def partial_sessions(admin: redis.Redis) -> list[bytes]:
    """Return the metas of the sessions whose two keys do not fit each other."""
    return [meta for meta in admin.scan_iter("*:meta", count=1000) if not _is_whole(admin, meta)]


def _is_whole(admin: redis.Redis, meta: bytes) -> bool:
    count = admin.hget(meta, "count")
    members: int = admin.zcard(meta.replace(b"}:meta", b"}:runs"))
    return count is not None and members == 3 * int(count)
