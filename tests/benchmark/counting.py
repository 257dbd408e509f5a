# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's arithmetic: what a remote round trip is, medians, ratios and goals. No I/O."""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Iterable, Sequence

#: With pipelining the module is on the interpreter's standard input; without, its file is the argument.
_MODULE = re.compile(r"""/python[0-9.]*(\s+\S*AnsiballZ_\w+\.py\S*)?['"]*(\s*&&\s*sleep 0)?['"\s]*\Z""")

_BRACKETED = re.compile(r"\[([^\]]+)\]")

#: Application -> what is done with it, in this order; `cold` comes before, once.
SCENARIOS = {"uv": ("first", "code", "dependency", "none"), "legacy": ("first", "code", "none")}
TITLES = {
    "cold": "first deployment, empty cache",
    "first": "first deployment",
    "code": "code change",
    "dependency": "dependency change",
    "none": "no change",
}
#: Scenario -> remote module executions per host at most, and share of the conventional playbook's time at most.
GOALS = {"none": (6, 1 / 5), "code": (12, 1 / 3)}


@dataclasses.dataclass(frozen=True)
class Trip:
    """One command over SSH: the program that ran (`ssh`, `scp`, `sftp`), the host, what it was asked to do there."""

    program: str
    host: str
    command: str

    @property
    def module(self) -> bool:
        """Whether it runs an Ansible module on the host."""
        return self.program == "ssh" and bool(_MODULE.search(self.command))


def parse_trips(recorded: str) -> list[Trip]:
    """The trips that `count_ssh.sh` wrote down; what ssh is asked about itself (`ssh -o ControlPersist`) is none."""
    fields = recorded.split("\0")[:-1]
    trips = []
    for program, before, last in zip(fields[0::3], fields[1::3], fields[2::3]):
        if program == "ssh":
            if before and not before.startswith("-"):
                trips.append(Trip(program, before, last))
            continue
        # sftp … [HOST]   scp … FILE [HOST]:FILE
        place = next((found.group(1) for found in map(_BRACKETED.search, (last, before)) if found), last)
        trips.append(Trip(program, place, ""))
    return trips


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One run of one contestant: seconds of wall time, and the most that any host needed of each kind of trip."""

    seconds: float
    modules: int
    commands: int


def most(trips: Iterable[Trip]) -> tuple[int, int]:
    """Module executions and SSH commands of the host that needed most of each; the sum would hide one that needs more."""
    modules: dict[str, int] = {}
    commands: dict[str, int] = {}
    for trip in trips:
        commands[trip.host] = commands.get(trip.host, 0) + 1
        modules[trip.host] = modules.get(trip.host, 0) + trip.module
    return max(modules.values(), default=0), max(commands.values(), default=0)


@dataclasses.dataclass(frozen=True)
class Row:
    """A scenario on so many hosts: what each contestant needed, in the order of the repetitions.

    `floor` is empty where nothing of the kind was run.
    """

    scenario: str
    hosts: int
    ours: Sequence[Measurement]
    baseline: Sequence[Measurement]
    floor: Sequence[Measurement]
    application: str = "uv"

    def of(self, whose: str) -> Sequence[Measurement]:
        """One contestant's measurements."""
        return {"ours": self.ours, "baseline": self.baseline, "floor": self.floor}[whose]

    def ratio(self, other: str) -> float:
        """Our time over the other's: the median of the repetitions' ratios, because those of one repetition ran side by side."""
        pairs = zip(self.ours, self.of(other), strict=True)
        return statistics.median(mine.seconds / theirs.seconds for mine, theirs in pairs)

    def seconds(self, whose: str) -> float:
        """The median of the wall time."""
        return statistics.median(measurement.seconds for measurement in self.of(whose))

    def modules(self, whose: str) -> int:
        """The most module executions that a host needed in any repetition."""
        return max(measurement.modules for measurement in self.of(whose))

    def commands(self, whose: str) -> int:
        """The most SSH commands that a host needed in any repetition."""
        return max(measurement.commands for measurement in self.of(whose))


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A goal and whether it was reached."""

    text: str
    reached: bool


def verdicts(rows: Iterable[Row]) -> list[Verdict]:
    """Every goal that the rows have something to say about."""
    found = []
    for row in rows:
        if row.scenario not in GOALS:
            continue
        executions, share = GOALS[row.scenario]
        where = f"{row.application}, {TITLES[row.scenario]}, {row.hosts} host{'s' if row.hosts != 1 else ''}"
        count, ratio = row.modules("ours"), row.ratio("baseline")
        found.append(Verdict(f"{where}: {count} remote module executions, at most {executions}", count <= executions))
        found.append(Verdict(f"{where}: {ratio:.2f} of the conventional time, at most {share:.2f}", ratio <= share))
    return found


def table(rows: Iterable[Row]) -> list[str]:
    """The table for a terminal (it is Markdown, too)."""
    head = [
        "application", "scenario", "hosts", "ours/conventional", "ours/floor", "modules ours", "modules conv.", "ssh ours", "ssh conv.",
        "ssh floor", "s ours", "s conv.", "s floor",
    ]  # fmt: skip
    lines = [head, ["---"] * 2 + ["---:"] * (len(head) - 2)]
    absent = "–"
    for row in rows:
        counts = [row.modules("ours"), row.modules("baseline"), row.commands("ours"), row.commands("baseline")]
        floor = (
            (f"{row.ratio('floor'):.1f}", str(row.commands("floor")), f"{row.seconds('floor'):.1f}")
            if row.floor
            else (absent,) * 3
        )
        lines.append(
            [
                *(row.application, TITLES[row.scenario], str(row.hosts), f"{row.ratio('baseline'):.2f}", floor[0]),
                *(str(count) for count in counts),
                *(floor[1], f"{row.seconds('ours'):.1f}", f"{row.seconds('baseline'):.1f}", floor[2]),
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
