"""A worker that holds the lease of a session again and again, in a process of its own."""

from __future__ import annotations

import sys
import time

from sessioncache import LeaseHeldError, LeaseLostError, SessionCache, WorkflowRunOutput

TTL = 0.4
RUNS = 4
"""Runs that each holder writes, one after another."""


def work(url: str, seconds: float) -> None:
    """Write runs that tell under which lease; print how many were refused."""
    refused = 0
    ends = time.monotonic() + seconds
    with SessionCache.from_url(url) as cache:
        while time.monotonic() < ends:
            try:
                with cache.lease("s", ttl=TTL, wait=5) as lease:
                    for number in range(RUNS):
                        run_id = f"{lease.number}-{number}"
                        lease.upsert_run(WorkflowRunOutput(run_id=run_id, created_at=1, input="x"))
                        time.sleep(0.005)
            except LeaseLostError:
                refused += 1
            except LeaseHeldError:
                pass
    sys.stdout.write(f"refused {refused}\n")


if __name__ == "__main__":
    work(sys.argv[1], float(sys.argv[2]))
