"""Workflow sessions in Redis, looked up by many workers in one short round trip."""

from .aio import AsyncSessionCache
from .client import SessionCache
from .errors import (
    ConfigurationError,
    DamagedRunError,
    DamagedSessionError,
    EncryptionError,
    InvalidArgumentError,
    LeaseHeldError,
    LeaseLostError,
    OutcomeUnknownError,
    ReplyMismatchError,
    RunTooLargeError,
    SessionCacheError,
    SessionConflictError,
    SessionNotFoundError,
    SessionOwnershipError,
    SessionVersionError,
    StaleRunError,
    UnavailableError,
    UnserializableError,
)
from .leases import AsyncLease, Lease
from .models import (
    Message,
    RunOutput,
    RunStatus,
    SessionPage,
    SessionSummary,
    TeamRunOutput,
    WorkflowChatInteraction,
    WorkflowRunOutput,
    WorkflowSession,
)
from .operations.near_cache import NearCacheInfo
from .operations.observed import CallRecord
from .operations.stats import SessionSize, StoreStats
from .options import NearCache
from .storage.checks import Problem, VerifyReport
from .storage.sealing import Keyring

__version__ = "0.1.0"

__all__ = [
    "AsyncLease",
    "AsyncSessionCache",
    "CallRecord",
    "ConfigurationError",
    "DamagedRunError",
    "DamagedSessionError",
    "EncryptionError",
    "InvalidArgumentError",
    "Keyring",
    "Lease",
    "LeaseHeldError",
    "LeaseLostError",
    "Message",
    "NearCache",
    "NearCacheInfo",
    "OutcomeUnknownError",
    "Problem",
    "ReplyMismatchError",
    "RunOutput",
    "RunStatus",
    "RunTooLargeError",
    "SessionCache",
    "SessionCacheError",
    "SessionConflictError",
    "SessionNotFoundError",
    "SessionOwnershipError",
    "SessionPage",
    "SessionSize",
    "SessionSummary",
    "SessionVersionError",
    "StaleRunError",
    "StoreStats",
    "TeamRunOutput",
    "UnavailableError",
    "UnserializableError",
    "VerifyReport",
    "WorkflowChatInteraction",
    "WorkflowRunOutput",
    "WorkflowSession",
]
