"""Agents, teams and workflows on a scripted model, made of agno alone: they run on agno 2 and 3."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agno.agent import Agent
from agno.models.base import Model
from agno.models.response import ModelResponse
from agno.team import Team
from agno.workflow import Step, Workflow
from agno.workflow.types import StepInput, StepOutput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agno.run import RunContext


def questions_in(text: str) -> list[str]:
    """Return the questions that a text holds, each once, in order."""
    return list(dict.fromkeys(re.findall(r"q\d+-\d+", text)))


class Scripted(Model):
    """A model that answers with the questions it was shown, each once, and asks no network."""

    def __init__(self) -> None:
        super().__init__(id="scripted", name="scripted", provider="tests")

    def invoke(self, messages: list[Any], **_: Any) -> ModelResponse:
        shown = " ".join(str(message.content) for message in messages if message.role == "user")
        return ModelResponse(role="assistant", content=f"seen: {' | '.join(questions_in(shown))}")

    async def ainvoke(self, messages: list[Any], **_: Any) -> ModelResponse:
        return self.invoke(messages)

    def invoke_stream(self, messages: list[Any], **_: Any) -> Iterator[ModelResponse]:
        yield self.invoke(messages)

    async def ainvoke_stream(self, messages: list[Any], **_: Any) -> AsyncIterator[ModelResponse]:
        yield self.invoke(messages)

    def _parse_provider_response(self, response: Any, **_: Any) -> Any:
        return response

    def _parse_provider_response_delta(self, response: Any) -> Any:
        return response


def note(step_input: StepInput, run_context: RunContext) -> StepOutput:
    """Leave a key of this input's own in the session's state, and say what history the step was shown."""
    run_context.session_state[f"seen {step_input.input}"] = True
    shown = step_input.get_workflow_history() or []
    return StepOutput(content=f"{step_input.input} after {' '.join(question for question, _ in shown)}")


def workflow(db: Any) -> Workflow:
    agent = Agent(name="Ann", id="ann", model=Scripted(), telemetry=False)
    steps = [Step(name="note", executor=note), Step(name="ask", agent=agent)]
    return Workflow(
        name="Flow", id="flow", db=db, steps=steps, telemetry=False, add_workflow_history_to_steps=True
    )


def agent(db: Any) -> Agent:
    return Agent(
        name="Ann",
        id="ann",
        db=db,
        model=Scripted(),
        telemetry=False,
        add_history_to_context=True,
        num_history_runs=50,
    )


def team(db: Any) -> Team:
    members = [Agent(name="Bo", id="bo", role="helps", model=Scripted(), telemetry=False)]
    return Team(
        name="Crew",
        id="crew",
        members=members,
        db=db,
        model=Scripted(),
        telemetry=False,
        add_history_to_context=True,
        num_history_runs=50,
    )


MAKERS = {"workflow": workflow, "agent": agent, "team": team}
