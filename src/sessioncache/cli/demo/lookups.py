"""Parts of the demo that look things up."""

from __future__ import annotations

import json
from typing import Any

from .samples import session_of
from .scene import LONG_SESSION, Scene


def show_stored(scene: Scene) -> None:
    """Store what was recorded, load it again and compare."""
    for data in scene.recorded:
        scene.cache.upsert_session(session_of(data))
    columns = ("session", "user", "workflow", "runs#", "KB of JSON#")
    scene.report.table(columns, map(_summary, scene.recorded))
    equal = [_comes_back(scene, data) for data in scene.recorded]
    scene.report.check(f"{sum(equal)} of {len(equal)} come back equal, every run and message", all(equal))
    listed = {summary.session_id for summary in scene.cache.list_sessions().sessions}
    recorded = {data["session_id"] for data in scene.recorded}
    scene.report.check("list_sessions lists these, and no other", listed == recorded)


def _summary(data: dict[str, Any]) -> tuple[object, ...]:
    kilobytes = len(json.dumps(data)) / 1000
    return data["session_id"], data["user_id"], data["workflow_id"], len(data["runs"]), f"{kilobytes:.1f}"


def _comes_back(scene: Scene, data: dict[str, Any]) -> bool:
    """Compare all but `updated_at`, which is the server's to set."""
    loaded = scene.cache.load(data["session_id"]).to_dict()
    return loaded == {**session_of(data).to_dict(), "updated_at": loaded["updated_at"]}


def show_slices(scene: Scene) -> None:
    """Load the newest runs, and compare with the end of all of them."""
    everything = scene.cache.get_runs(LONG_SESSION)
    for count in (1, 5, 50):
        newest = scene.cache.load(LONG_SESSION, last_n_runs=count).runs
        claim = f"last_n_runs={count} of {len(everything)}: the newest, oldest of them first"
        scene.report.check(claim, newest == everything[-count:])
    metadata = scene.cache.load(LONG_SESSION, last_n_runs=0)
    scene.report.check("last_n_runs=0: the metadata alone", metadata.runs == [] and bool(metadata.user_id))


def show_chat(scene: Scene) -> None:
    """Show the newest inputs and outputs of a session."""
    data = scene.longest()
    history = scene.cache.get_chat_history(data["session_id"], last_n_runs=3)
    for interaction in history:
        scene.report.say(f"user:     {_as_line(interaction.input)}")
        scene.report.say(f"workflow: {_as_line(interaction.output)}")
    recorded = [(run["input"], run["content"]) for run in data["runs"][-3:]]
    claim = f"the {len(recorded)} newest interactions of {data['session_id']}, as they were recorded"
    scene.report.check(claim, [(item.input, item.output) for item in history] == recorded)


def _as_line(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def show_context(scene: Scene) -> None:
    """Show the newest completed runs of a session as a block of text."""
    data = scene.longest()
    context = scene.cache.get_workflow_history_context(data["session_id"], last_n_runs=2)
    scene.report.say(context or "")
    expected = session_of(data).get_workflow_history_context(2)
    scene.report.check("the same text as from the whole session", context == expected and bool(context))
