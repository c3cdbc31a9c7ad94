"""The demo: real sessions stored, looked up, appended to and expired, and every answer checked."""

from .play import play

__all__ = ["play"]
