"""Every error this library raises.

    SessionCacheError
     +-- InvalidArgumentError (ValueError)    an argument is wrong; nothing was sent
     |    +-- UnserializableError             a value cannot be packed; names its path and type
     |    +-- RunTooLargeError                a packed run is over `max_run_bytes`
     +-- SessionNotFoundError                 the session does not exist, or no longer
     +-- SessionOwnershipError                the session belongs to another user
     +-- SessionConflictError                 the session changed since the revision expected
     +-- StaleRunError                        the stored run comes from a later attempt
     +-- DamagedSessionError                  a session's metadata does not decode
     +-- DamagedRunError                      a run's bytes do not decode
     +-- ReplyMismatchError                   an answer that belongs to another question
     +-- UnavailableError                     Redis cannot be reached, or refuses
          +-- OutcomeUnknownError             a write was sent, its outcome is unknown

A call that raises anything but `OutcomeUnknownError` has stored nothing; of runs that are too many for one
script, the scripts before it.
"""

from __future__ import annotations


class SessionCacheError(Exception):
    """Base of every error of this library."""


class InvalidArgumentError(SessionCacheError, ValueError):
    """An argument is wrong: its name and the reason are in the message, and nothing was sent."""


class UnserializableError(InvalidArgumentError):
    """A value has no packed form: the message names the path to it and its type."""


class RunTooLargeError(InvalidArgumentError):
    """A run is larger, packed, than `max_run_bytes` allows."""


class SessionNotFoundError(SessionCacheError):
    """The session does not exist: never created, expired, or deleted by another worker."""


class SessionOwnershipError(SessionCacheError):
    """The session belongs to another user than the one who writes."""


class SessionConflictError(SessionCacheError):
    """The session was changed by another writer since the revision that was expected."""


class StaleRunError(SessionCacheError):
    """The stored run has a higher `queue_attempt`: a later attempt has taken the run over."""


class DamagedSessionError(SessionCacheError):
    """What is stored of a session does not decode."""


class DamagedRunError(SessionCacheError):
    """What is stored of one run does not decode; other runs of the session stay readable."""


class ReplyMismatchError(SessionCacheError):
    """Redis answered something that cannot be the answer to what was asked."""


class UnavailableError(SessionCacheError):
    """Redis cannot be reached or refuses to serve: down, loading, read-only, out of memory, denied."""


class OutcomeUnknownError(UnavailableError):
    """The connection was lost after a write was sent: it may or may not have been applied.

    Repeating the call is safe.
    """
