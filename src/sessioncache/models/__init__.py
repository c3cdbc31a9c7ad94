"""What users hold: sessions of workflows, their runs and messages. Plain dataclasses, and all filtering."""

from .message import Message
from .runs import RunOutput, TeamRunOutput, WorkflowRunOutput
from .session import WorkflowChatInteraction, WorkflowSession
from .status import RunStatus
from .summary import SessionPage, SessionSummary

__all__ = [
    "Message",
    "RunOutput",
    "RunStatus",
    "SessionPage",
    "SessionSummary",
    "TeamRunOutput",
    "WorkflowChatInteraction",
    "WorkflowRunOutput",
    "WorkflowSession",
]
