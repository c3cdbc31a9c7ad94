"""Workflow sessions in Redis, looked up by many workers in one short round trip."""

from .client import SessionCache
from .errors import (
    DamagedRunError,
    DamagedSessionError,
    InvalidArgumentError,
    OutcomeUnknownError,
    ReplyMismatchError,
    RunTooLargeError,
    SessionCacheError,
    SessionConflictError,
    SessionNotFoundError,
    SessionOwnershipError,
    StaleRunError,
    UnavailableError,
    UnserializableError,
)
from .models import (
    Message,
    RunOutput,
    RunStatus,
    TeamRunOutput,
    WorkflowChatInteraction,
    WorkflowRunOutput,
    WorkflowSession,
)

__all__ = [
    "DamagedRunError",
    "DamagedSessionError",
    "InvalidArgumentError",
    "Message",
    "OutcomeUnknownError",
    "ReplyMismatchError",
    "RunOutput",
    "RunStatus",
    "RunTooLargeError",
    "SessionCache",
    "SessionCacheError",
    "SessionConflictError",
    "SessionNotFoundError",
    "SessionOwnershipError",
    "StaleRunError",
    "TeamRunOutput",
    "UnavailableError",
    "UnserializableError",
    "WorkflowChatInteraction",
    "WorkflowRunOutput",
    "WorkflowSession",
]
