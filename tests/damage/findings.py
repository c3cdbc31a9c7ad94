"""What all calls made of a damaged session, against what is allowed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from damage.calls import CALLS, LISTINGS, READS, REPLACING, Stored
from sessioncache import InvalidArgumentError, SessionCacheError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


@dataclass
class Findings:
    """What was wrong with the calls that were made."""

    stored: Stored
    end_script: Callable[[], None]
    found: list[str] = field(default_factory=list)

    def ask_all(self, damage: str, allowed: Callable[[str], Collection[Any]], *, leaves_alone: bool) -> None:
        """Make every call; note what came of it if it is not allowed, or if it wrote where it must not."""
        before = self.stored.bytes()
        for call in CALLS:
            outcome = self._outcome(call)
            wrote = not self.stored.is_as_it_was(before) if leaves_alone else call not in READS
            if not _is_one_of(outcome, allowed(call)):
                self.found.append(f"{damage}: {call}: {outcome!r}")
            if leaves_alone and wrote and call not in REPLACING:
                self.found.append(f"{damage}: {call}: wrote to it")
            if wrote or call in LISTINGS or isinstance(outcome, UnavailableError):
                self.stored.store()
                before = self.stored.bytes()

    def check(self) -> None:
        """Fail if anything was found."""
        assert not self.found, "\n".join(self.found)

    def _outcome(self, call: str) -> Any:
        try:
            return CALLS[call].ask(self.stored)
        except UnavailableError as error:
            self.end_script()
            return error
        except Exception as error:  # noqa: BLE001 - a builtin error is a finding
            return error


def _is_one_of(outcome: Any, allowed: Collection[Any]) -> bool:
    """Tell whether a value or an error is allowed; the arguments were right, and the server is there."""
    if isinstance(outcome, InvalidArgumentError | UnavailableError):
        return False
    if isinstance(outcome, Exception) and not isinstance(outcome, SessionCacheError):
        return False
    return any(isinstance(outcome, one) if isinstance(one, type) else outcome == one for one in allowed)
