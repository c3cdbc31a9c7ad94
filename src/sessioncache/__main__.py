"""Runs the command line: `python -m sessioncache`."""

from .cli import app

if __name__ == "__main__":
    app()
