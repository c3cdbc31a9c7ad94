"""One message of a conversation with a language model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from .record import Record, unix_now


def _new_id() -> str:
    return str(uuid4())


@dataclass(kw_only=True)
class Message(Record):
    """Hold what one party of a conversation said, called or answered.

    A message made new has an ``id`` and a ``created_at``; one read from a dict has those of the dict.
    """

    id: str | None = field(default_factory=_new_id)
    role: str
    content: str | list[Any] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[Any] | None = None
    tool_name: str | None = None
    tool_args: Any = None
    tool_call_error: bool | None = None
    from_history: bool | None = False
    stop_after_tool_call: bool | None = False
    created_at: int | None = field(default_factory=unix_now)
    metrics: dict[str, Any] | None = None
    references: Any = None
    citations: Any = None
    images: list[Any] | None = None
    videos: list[Any] | None = None
    audio: Any = None
    files: list[Any] | None = None
    provider_data: dict[str, Any] | None = None
    reasoning_content: str | None = None

    def get_content_string(self) -> str:
        """Return the content as text: of a list, the text of its first part, else all of it as JSON."""
        match self.content:
            case str(text):
                return text
            case [{"text": text}, *_]:
                return text
            case [_, *_] as parts:
                return json.dumps(parts, ensure_ascii=False)
        return ""
