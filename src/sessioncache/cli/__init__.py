"""The command line (extra `cli`)."""

from .main import app

__all__ = ["app"]
