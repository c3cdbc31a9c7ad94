"""Fixtures: caches of both kinds on any URL."""

from faults.reaching import connect

__all__ = ["connect"]
