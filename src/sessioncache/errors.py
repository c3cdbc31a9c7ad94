"""Every error this library raises.

    SessionCacheError
     +-- InvalidArgumentError (ValueError)    an argument is wrong; nothing was sent
     |    +-- UnserializableError             a value cannot be packed; names its path and type
     |    +-- RunTooLargeError                a packed run is over `max_run_bytes`
     +-- SessionNotFoundError                 the session does not exist, or no longer
     +-- SessionOwnershipError                the session belongs to another user
     +-- SessionConflictError                 the session changed since the revision expected
     +-- LeaseLostError                       the lease of a session is not held any more
     +-- LeaseHeldError                       somebody else holds the lease of a session
     +-- StaleRunError                        the stored run comes from a later attempt
     +-- DamagedSessionError                  a session's metadata does not decode
     |    +-- EncryptionError                  a session is sealed with a key that is not there
     |    +-- SessionVersionError             a session is stored in a layout of another version
     +-- DamagedRunError                      a run's bytes do not decode
     +-- ReplyMismatchError                   an answer that belongs to another question
     +-- UnavailableError                     Redis cannot be reached, or refuses
          +-- ConfigurationError              a URL, login or permission is wrong; retrying does not help
          +-- OutcomeUnknownError             a write was sent, its outcome is unknown

If a call raises any error except `OutcomeUnknownError`, nothing was stored. Exception: an upsert split into
several scripts keeps the batches that had already succeeded.
"""

from __future__ import annotations

from typing import Literal


class SessionCacheError(Exception):
    """Base of every error of this library.

    Attributes:
        session_id: The session that the error is about, None if it is about none or several.
        run_id: The run that the error is about, None if it is about none or several.
    """

    def __init__(self, message: str, *, session_id: str | None = None, run_id: str | None = None) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.run_id = run_id


class InvalidArgumentError(SessionCacheError, ValueError):
    """An argument is wrong: its name and the reason are in the message, and nothing was sent."""


class UnserializableError(InvalidArgumentError):
    """A value has no packed form: the message names the path to it and its type."""


class RunTooLargeError(InvalidArgumentError):
    """A run is larger, packed, than `max_run_bytes` allows, or than 64 MiB, which no reader decodes.

    Attributes:
        size: Size of the packed run, in bytes.
        limit: Most bytes allowed.
    """

    def __init__(self, message: str, *, run_id: str | None = None, size: int = 0, limit: int = 0) -> None:
        super().__init__(message, run_id=run_id)
        self.size = size
        self.limit = limit


class SessionNotFoundError(SessionCacheError):
    """The session does not exist: never created, expired, or deleted by another worker.

    Attributes:
        reason: Why a session that was stored is gone, as far as a write could find out: "deleted" if a mark
            says so; "expired" if a loaded object was saved, sessions have a lifetime, deletions are marked
            (`mark_deletions`), and there is no mark. Else None.
    """

    reason: Literal["deleted", "expired"] | None = None


class SessionOwnershipError(SessionCacheError):
    """The session belongs to another user than the one who writes."""


class SessionConflictError(SessionCacheError):
    """The session was changed by another writer since the revision that was expected.

    Attributes:
        rev: The revision that is stored.
    """

    def __init__(self, message: str, *, session_id: str | None = None, rev: int | None = None) -> None:
        super().__init__(message, session_id=session_id)
        self.rev = rev


class StaleRunError(SessionCacheError):
    """The stored run has a higher `queue_attempt`: a later attempt has taken the run over."""


class LeaseLostError(SessionCacheError):
    """The lease is not held any more: it expired, was released, or its session deleted; nothing is stored."""


class LeaseHeldError(SessionCacheError):
    """Somebody else holds the lease of the session, and did not release it in time."""


class DamagedSessionError(SessionCacheError):
    """What is stored of a session does not decode."""


class SessionVersionError(DamagedSessionError):
    """The session is stored in a layout of another version of this library; nothing is wrong with it.

    It is left as it is: never repaired, deleted or taken off an index by this version.
    """


class EncryptionError(DamagedSessionError):
    """A session is sealed with a key that the keyring lacks; nothing is wrong with it.

    Attributes:
        key_name: The name of the key.
    """

    def __init__(self, key_name: str, session_id: str | None = None) -> None:
        whose = "it" if session_id is None else f"session {session_id!r}"
        super().__init__(
            f"{whose} is sealed with key {key_name!r}, which the keyring lacks", session_id=session_id
        )
        self.key_name = key_name


class DamagedRunError(SessionCacheError):
    """What is stored of one run does not decode; other runs of the session stay readable."""


class ReplyMismatchError(SessionCacheError):
    """Redis answered something that cannot be the answer to what was asked."""


class UnavailableError(SessionCacheError):
    """Redis cannot be reached or refuses to serve: down, loading, read-only, out of memory, denied."""


class ConfigurationError(UnavailableError):
    """Redis can be reached and will go on refusing: a URL, a login or a permission is wrong.

    Raised at once, without retries. The message says what to change.
    """


class OutcomeUnknownError(UnavailableError):
    """The connection was lost after a write was sent: it may or may not have been applied.

    Repeating the call is safe, but for `update_session`: its change may have been made already, and is then
    made once more. One that sets something, and does not count, may be repeated too.
    """
