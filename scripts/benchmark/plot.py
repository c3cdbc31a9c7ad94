"""The plot: cost against the length of a session, one line a system, as a small SVG."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from .lengths import TITLES, Point

COLORS: Final = {
    "sessioncache": "#c2185b",
    "near cache": "#8e24aa",
    "agno": "#1565c0",
    "openai-agents": "#2e7d32",
    "json": "#ef6c00",
    "redis-py": "#616161",
    "socket": "#9e9e9e",
}
LABELS: Final = {
    "near cache": "sessioncache, near cache",
    "agno": "agno RedisDb",
    "openai-agents": "openai-agents RedisSession",
    "json": "a JSON text per session",
    "redis-py": "limit: redis-py, same bytes",
    "socket": "limit: a socket, same bytes",
}

SIZE: Final = (12, 3.8)
"""Inches."""

RUNS: Final = {10: "10", 100: "100", 1_000: "1,000", 10_000: "10,000"}
TIMES: Final = {
    10: "10 µs",
    100: "100 µs",
    1_000: "1 ms",
    10_000: "10 ms",
    100_000: "100 ms",
    1_000_000: "1 s",
    10_000_000: "10 s",
}
"""Ticks of both axes; times in microseconds."""


def draw(points: Sequence[Point], path: Path) -> None:
    """Draw the lines into an SVG file that is the same for the same points."""
    mpl.use("svg")
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "sessioncache", "font.size": 9}
    figure, panels = plt.subplots(1, len(TITLES), figsize=SIZE, sharey=True, layout="constrained")
    for panel, title in zip(panels, TITLES, strict=True):
        _draw_panel(panel, title, [point for point in points if point.title == title])
    panels[0].set_ylabel("a call takes (median)")
    lines = {
        label: line
        for panel in panels
        for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    path.write_text(re.sub(r"\n\s+", "\n", path.read_text(encoding="utf-8")), encoding="utf-8")


def _draw_panel(panel: plt.Axes, title: str, points: Sequence[Point]) -> None:
    for system in dict.fromkeys(point.system for point in points):
        line = [point for point in points if point.system == system]
        panel.plot(
            [point.runs for point in line],
            [point.sample.median * 1e6 for point in line],
            color=COLORS[system],
            label=LABELS.get(system, system),
            marker="o",
            markersize=3,
            linewidth=2 if system in ("sessioncache", "near cache") else 1.2,
            linestyle="--" if LABELS.get(system, "").startswith("limit") else "-",
        )
    panel.set(xscale="log", yscale="log", title=title, xlabel="runs in the session")
    panel.set_xticks(list(RUNS), list(RUNS.values()))
    panel.set_yticks(list(TIMES), list(TIMES.values()))
    panel.minorticks_off()
    panel.grid(visible=True, which="major", linewidth=0.4, color="#dddddd")
    panel.spines[["top", "right"]].set_visible(False)
