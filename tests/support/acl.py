"""The ACL user that the README describes, as it stands there: tests hold the README to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis

README = (Path(__file__).parents[2] / "README.md").read_text()
LOGIN = "app:PASSWORD@"
PREFIX = "sessioncache"

BASE = re.findall(r"^  (ACL SETUSER app .*)$", README, re.MULTILINE)
"""The commands that make the user."""

EXTRAS = dict(re.findall(r"^  - ([^\n]*): `(ACL SETUSER app [^`]*)`$", README, re.MULTILINE))
"""What gives more rights, by what it is for."""


def extra(word: str) -> str:
    """Return the command that gives what something needs, by a word of what it is for."""
    (command,) = (command for purpose, command in EXTRAS.items() if word in purpose)
    return command


def rights(*commands: str) -> list[str]:
    """Return the commands of Redis that commands which make a user permit."""
    return [word[1:] for command in commands for word in command.split() if word.startswith("+")]


def make_user(admin: redis.Redis, *commands: str) -> None:
    """Make the user `app` as the README says, and give it more."""
    for command in (*BASE, *commands):
        admin.execute_command(*command.split())
