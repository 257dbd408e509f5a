# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet's figures as a table and a plot. No I/O."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Iterable, Mapping, Sequence

TITLES = {
    "provision": "provision plain hosts",
    "reprovision": "provision again, no change",
    "first": "first deployment",
    "code": "code change",
    "none": "no change",
    "canary": "code change, canary fails",
    "batch": "code change, a host of the third batch fails, rollback",
    "recovery": "the same code, repaired hosts",
}
#: What is measured on fleets of several sizes, in the order in which it happens.
GROWING = ("first", "code", "none")
COLOURS = {"provision": "#8250df", "first": "#0969da", "code": "#bc4c00", "none": "#1a7f37"}
_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 40, 46


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One run on so many hosts. Times in seconds, memory in MB, `modules` the most that one host needed."""

    scenario: str
    hosts: int
    seconds: float
    controller_cpu: float
    hosts_cpu: float
    memory: float
    main_memory: float
    connections: float
    modules: int
    load: float
    #: Play -> seconds.
    plays: Mapping[str, float] = dataclasses.field(default_factory=dict)


def plays(times: Iterable[tuple[str, float]], started: float) -> dict[str, float]:
    """How long each play took, out of the results' plays and times; the first one's time holds the start of ansible-playbook.

    A play that runs in batches, or again, is one.
    """
    spent: dict[str, float] = {}
    for play, now in times:
        spent[play] = spent.get(play, 0.0) + max(0.0, now - started)
        started = max(started, now)
    return {play: round(seconds, 2) for play, seconds in spent.items()}


def table(rows: Iterable[Measurement]) -> list[str]:
    """The table, as Markdown that can be read on a terminal."""
    head = [
        "what", "hosts", "s", "s per host", "controller CPU s", "hosts' CPU s", "controller MB", "main process MB", "SSH MB",
        "modules per host", "load before",
    ]  # fmt: skip
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    lines += [
        [
            TITLES[row.scenario],
            str(row.hosts),
            f"{row.seconds:.1f}",
            f"{row.seconds / row.hosts:.2f}",
            f"{row.controller_cpu:.1f}",
            f"{row.hosts_cpu:.1f}",
            f"{row.memory:.0f}",
            f"{row.main_memory:.0f}",
            f"{row.connections:.0f}",
            str(row.modules),
            f"{row.load:.1f}",
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]


def growth(rows: Sequence[Measurement], scenario: str) -> tuple[float, float]:
    """Seconds that any run takes, and seconds per host, by least squares over the sizes. Two sizes at least."""
    points = [(row.hosts, row.seconds) for row in rows if row.scenario == scenario]
    mean_x = sum(x for x, _y in points) / len(points)
    mean_y = sum(y for _x, y in points) / len(points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _y in points)
    return mean_y - slope * mean_x, slope


def plot(rows: Sequence[Measurement], subtitle: str) -> str:
    """Time and memory against the number of hosts, as an SVG."""
    scenarios = [name for name in GROWING if any(row.scenario == name for row in rows)]
    seconds = {name: sorted((row.hosts, row.seconds) for row in rows if row.scenario == name) for name in scenarios}
    memory = {name: sorted((row.hosts, row.memory) for row in rows if row.scenario == name) for name in scenarios}
    width, height = 2 * _WIDTH, _HEIGHT + 24
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="12" fill="#1f2328">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *_panel(seconds, "time, seconds", 0),
        *_panel(memory, "controller's memory, MB (ansible-playbook and its children)", _WIDTH),
        f'<text x="{_LEFT}" y="{height - 8}" fill="#59636e">{html.escape(subtitle)}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _panel(series: Mapping[str, Sequence[tuple[int, float]]], title: str, offset: int) -> list[str]:
    """One diagram: axes from zero, a line per scenario with its name at the last point's height."""
    points = [point for line in series.values() for point in line]
    if not points:
        return []
    right = max(x for x, _y in points)
    step = _step(max(y for _x, y in points))
    top = step * max(1, math.ceil(max(y for _x, y in points) / step))
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return offset + _LEFT + inner_width * x / right, _TOP + inner_height * (1 - y / top)

    lines = [f'<text x="{offset + _LEFT}" y="20" font-weight="bold">{html.escape(title)}</text>']
    value = 0.0
    while value <= top:
        x, y = at(0, value)
        lines.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x + inner_width:.1f}" y2="{y:.1f}" stroke="#d1d9e0"/>')
        lines.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        value += step
    for size in sorted({x for x, _y in points}):
        x, y = at(size, 0)
        if size != 1 or right <= 10:  # next to 5 there is no room for it
            lines.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{size}</text>')
    x, y = at(right / 2, 0)
    lines.append(f'<text x="{x:.1f}" y="{y + 36:.1f}" text-anchor="middle" fill="#59636e">hosts</text>')
    for number, (name, line) in enumerate(series.items()):
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in line))
        lines.append(f'<polyline points="{places}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        lines += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[name]}"/>'
            for x, y in (at(*point) for point in line)
        ]
        label = _TOP + 14 + 16 * number
        lines.append(f'<text x="{offset + _LEFT + 10}" y="{label}" fill="{COLOURS[name]}">{TITLES[name]}</text>')
    return lines


def _step(top: float) -> float:
    """A round distance between lines, for four to ten of them."""
    if top <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(top))
    return next(step for step in (size / 5, size / 2, size, size * 2) if top / step <= 8)
