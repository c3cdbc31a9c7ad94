"""The support case of the demo: what was said, and what the agent did between."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from sessioncache import Message, RunOutput, RunStatus, WorkflowRunOutput

CUSTOMER: Final = "maria"
WORKFLOW: Final = "support"
AGENT: Final = "support-agent"

INSTRUCTIONS: Final = """\
You are the support agent of Brewhaus, a shop for coffee machines. Answer in the customer's language, in at
most three sentences, and ask no more than one question at a time.

Rules
- Look up the order before you say anything about warranty, price or delivery. Never guess an order number.
- The warranty is 24 months from delivery. Under warranty, repair, courier and spare parts are free.
- For a leak, find out first when it leaks: while heating, while brewing, or always. Leaks while heating are a
  safety matter: ask the customer to unplug the machine, and hand over to a human.
- Offer the customer a choice between a spare part with a guide and a repair by us, if the fault allows both.
- A courier collects on working days, from 9 to 12 or from 13 to 17. A repair takes about six working days.
- A loan machine is free for customers whose machine is under repair, as long as there is one in stock.
- Do not promise a refund. If the customer asks for one, hand over to a human with a summary of the case.
- Personal data stays in this conversation: never repeat an address or a phone number in an answer.
"""


@dataclass(frozen=True)
class Turn:
    """A question, the tool the agent used, what that returned, and the answer."""

    question: str
    tool: str
    arguments: dict[str, Any]
    found: dict[str, Any]
    answer: str


TURNS: Final = (
    Turn(
        "Since yesterday my espresso machine leaks from the bottom. The order is 88-2041.",
        "get_order",
        {"order": "88-2041"},
        {
            "order": "88-2041",
            "status": "delivered",
            "delivered": "2024-11-18",
            "items": [
                {"sku": "BH-DUO-2", "name": "Duo espresso machine", "quantity": 1, "price": "449.00"},
                {"sku": "BH-FILT-6", "name": "Water filter, pack of six", "quantity": 2, "price": "24.90"},
            ],
            "warranty": {"months": 24, "until": "2026-11-18", "claims": []},
            "delivery": {"carrier": "parcel", "left_with": "customer", "damage_reported": False},
            "payment": {"method": "card", "total": "498.80", "currency": "EUR", "refunded": "0.00"},
        },
        "I'm sorry. Your Duo is under warranty. Does it leak while heating, or only while brewing?",
    ),
    Turn(
        "Only while brewing. A small puddle with every cup.",
        "search_manual",
        {"model": "BH-DUO-2", "symptom": "leak while brewing"},
        {
            "matches": [
                {
                    "title": "Water below the machine while brewing",
                    "cause": "The seal of the pump is worn or has slipped. Typical after 300 to 500 cups.",
                    "fix": "Replace the seal (part BH-SEAL-3): open the back, release two clips, swap it.",
                    "minutes": 20,
                    "customer_can_do_it": True,
                },
                {
                    "title": "Drip tray overflows",
                    "cause": "The tray is full, or sits askew after cleaning.",
                    "fix": "Empty the tray and push it in until it clicks.",
                    "minutes": 1,
                    "customer_can_do_it": True,
                },
            ]
        },
        "That is the seal of the pump. We can send you a new one, or repair it. Which do you prefer?",
    ),
    Turn(
        "I would rather not open it. Please repair it.",
        "book_courier",
        {"order": "88-2041", "sku": "BH-DUO-2", "reason": "pump seal"},
        {
            "booking": "C-77120",
            "window": {"day": "Thursday", "from": "09:00", "to": "12:00"},
            "label": "sent by e-mail",
            "repair": {"ticket": "R-5093", "estimate_days": 6, "cost": "0.00", "covered_by": "warranty"},
            "notes": ["empty the water tank", "keep the drip tray", "no original box needed"],
        },
        "Done. A courier collects it on Thursday from 9 to 12; the repair is free and takes about six days.",
    ),
    Turn(
        "Thursday is fine. Could I have a loan machine until then?",
        "reserve_loan",
        {"ticket": "R-5093"},
        {
            "reservation": "L-208",
            "model": "Brewhaus Solo",
            "in_stock": 3,
            "handover": "the courier brings it on collection and takes it back on return",
            "deposit": "0.00",
        },
        "Yes. The courier brings a Brewhaus Solo on Thursday, and takes it back when your Duo returns.",
    ),
)


def run_of(turn: Turn, run_id: str) -> WorkflowRunOutput:
    """Return the run of a turn, with all messages of its agent."""
    agent_run = RunOutput(
        run_id=f"{run_id}-agent",
        agent_id=AGENT,
        input=turn.question,
        content=turn.answer,
        messages=_messages(turn),
        metrics={"input_tokens": 1187, "output_tokens": 64, "total_tokens": 1251, "duration": 1.84},
        status=RunStatus.completed,
    )
    return WorkflowRunOutput(
        run_id=run_id,
        user_id=CUSTOMER,
        workflow_id=WORKFLOW,
        input=turn.question,
        content=turn.answer,
        step_executor_runs=[agent_run],
        status=RunStatus.completed,
    )


def _messages(turn: Turn) -> list[Message]:
    call = {"id": "call-1", "type": "function", "function": {"name": turn.tool, "arguments": turn.arguments}}
    return [
        Message(role="system", content=INSTRUCTIONS),
        Message(role="user", content=turn.question),
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", tool_call_id="call-1", tool_name=turn.tool, content=json.dumps(turn.found)),
        Message(role="assistant", content=turn.answer),
    ]


def runs_of(count: int, name: str = "run") -> list[WorkflowRunOutput]:
    """Return so many runs, the turns of the case over and over."""
    return [run_of(TURNS[number % len(TURNS)], f"{name}-{number}") for number in range(count)]
