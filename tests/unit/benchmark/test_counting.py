# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark counts, and how it judges."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.tests.benchmark.counting import (
    Measurement,
    Row,
    Trip,
    most,
    parse_trips,
    table,
    verdicts,
)
from ansible_collections.pyfleet.runtime.tests.benchmark.recorder import Recorder

TEMPORARY = "/root/.ansible/tmp/ansible-tmp-1.2-3-4"


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("/bin/sh -c '/usr/bin/python3 && sleep 0'", True),
        (
            "/bin/sh -c 'sudo -H -S -n  -u root /bin/sh -c '\"'\"'echo BECOME-SUCCESS-x ; /usr/bin/python3.11'\"'\"' && sleep 0'",
            True,
        ),
        (f"/bin/sh -c '/usr/bin/python3 {TEMPORARY}/AnsiballZ_release.py && sleep 0'", True),
        ("/bin/sh -c 'echo ~root && sleep 0'", False),
        (f"/bin/sh -c 'rm -f -r {TEMPORARY}/ > /dev/null 2>&1 && sleep 0'", False),
        (f"/bin/sh -c 'chmod u+rwx {TEMPORARY}/ {TEMPORARY}/AnsiballZ_release.py && sleep 0'", False),
        ("uv sync --locked", False),
    ],
)
def test_a_module_execution_is_a_python_that_ansible_starts(command: str, module: bool) -> None:
    assert Trip("ssh", "10.0.0.1", command).module is module


def test_questions_to_ssh_itself_are_no_trips() -> None:
    recorded = "ssh\0-o\0ControlPersist\0ssh\x0010.0.0.1\0true\0"
    assert parse_trips(recorded) == [Trip("ssh", "10.0.0.1", "true")]


def test_transfers_count_as_commands_of_their_host() -> None:
    recorded = "sftp\0-b\0[10.0.0.1]\0scp\0/tmp/x\0[10.0.0.2]:/tmp/x\0scp\0[10.0.0.3]:/x\0/tmp/x\0"
    assert [trip.host for trip in parse_trips(recorded)] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_the_host_that_needs_most_decides() -> None:
    module = "/bin/sh -c '/usr/bin/python3 && sleep 0'"
    trips = [Trip("ssh", "a", module), Trip("ssh", "b", module), Trip("ssh", "b", module), Trip("ssh", "b", "true")]
    assert most(trips) == (2, 3)
    assert most([]) == (0, 0)


def test_the_recorder_counts_what_runs_and_hands_everything_on(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "recorder")
    real = tmp_path / "real"
    real.mkdir()
    (real / "ssh").write_text("#!/bin/sh\nprintf '%s|' \"$@\"\ncat\n")
    (real / "ssh").chmod(0o755)
    done = subprocess.run(
        [recorder.ssh, "-o", "X=1", "10.0.0.1", "echo 'a  b' && python3"],
        input="stdin",
        capture_output=True,
        text=True,
        env={**os.environ, **recorder.environment, "PATH": f"{real}:{os.environ['PATH']}"},
        check=True,
    )
    assert done.stdout == "-o|X=1|10.0.0.1|echo 'a  b' && python3|stdin"
    assert recorder.trips() == [Trip("ssh", "10.0.0.1", "echo 'a  b' && python3")]


def row(scenario: str, ours: float, modules: int) -> Row:
    mine = [Measurement(ours, modules, 5), Measurement(ours * 3, 1, 1), Measurement(ours, 1, 1)]
    theirs = [Measurement(10.0, 20, 40), Measurement(30.0, 20, 40), Measurement(10.0, 20, 40)]
    return Row(scenario, 1, mine, theirs, [Measurement(1.0, 0, 1)] * 3)


def test_ratios_compare_what_ran_side_by_side() -> None:
    measured = row("none", 2.0, 6)
    assert measured.ratio("baseline") == pytest.approx(0.2), "a repetition in which everything was slower counts alike"
    assert (measured.seconds("ours"), measured.modules("ours"), measured.commands("baseline")) == (2.0, 6, 40)


def test_goals_are_missed_by_trips_and_by_time() -> None:
    assert [verdict.reached for verdict in verdicts([row("none", 2.0, 6), row("code", 3.3, 12)])] == [True] * 4
    assert [verdict.reached for verdict in verdicts([row("none", 2.1, 7), row("code", 3.4, 13)])] == [False] * 4
    assert verdicts([row("first", 99.0, 99)]) == [], "there is no goal for it"


def test_the_table_has_a_line_per_row() -> None:
    lines = table([row("none", 2.0, 6), row("code", 3.0, 12)])
    assert len(lines) == 4
    assert "| no change " in lines[2]
    assert "0.20" in lines[2]


def test_an_application_without_a_floor_has_no_ratio_to_it() -> None:
    measured = row("code", 2.0, 4)
    legacy = Row("code", 10, measured.ours, measured.baseline, (), application="legacy")
    line = table([legacy])[2]
    assert line.startswith("| legacy ")
    assert line.count("| – ") == 3
    assert [verdict.text.split(":")[0] for verdict in verdicts([legacy])] == ["legacy, code change, 10 hosts"] * 2
