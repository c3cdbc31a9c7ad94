"""Sessions of workflows, their runs and messages: plain dataclasses, and all filtering."""

from .message import Message
from .runs import RunOutput, TeamRunOutput, WorkflowRunOutput
from .session import WorkflowChatInteraction, WorkflowSession
from .status import RunStatus

__all__ = [
    "Message",
    "RunOutput",
    "RunStatus",
    "TeamRunOutput",
    "WorkflowChatInteraction",
    "WorkflowRunOutput",
    "WorkflowSession",
]
