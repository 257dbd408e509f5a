# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the runs on a large fleet make of their measurements."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.pyfleet.runtime.tests.fleet import measuring, report
from ansible_collections.pyfleet.runtime.tests.fleet.run import batches
from ansible_collections.pyfleet.runtime.tests.hosts import hosts as testbed


def measurement(scenario: str, hosts: int, seconds: float) -> report.Measurement:
    """One with figures that can be told apart."""
    return report.Measurement(scenario, hosts, seconds, 1.5, 2.5, 100 + hosts, 60.0, hosts * 1.5, 4, 0.5)


def test_plays_take_the_time_since_the_result_before() -> None:
    times = [("check", 11.0), ("check", 12.0), ("switch", 13.0), ("switch", 17.0), ("finish", 17.5)]
    assert report.plays(times, 10.0) == {"check": 2.0, "switch": 5.0, "finish": 0.5}


def test_growth_is_the_line_through_the_points() -> None:
    rows = [measurement("code", hosts, 5 + 2 * hosts) for hosts in (1, 5, 10)]
    rows.append(measurement("none", 50, 1000.0))
    assert report.growth(rows, "code") == pytest.approx((5.0, 2.0))


def test_table_has_a_line_per_measurement_and_even_columns() -> None:
    lines = report.table([measurement("first", 1, 10.0), measurement("none", 50, 25.0)])
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert lines[3].split("|")[1:5] == [" no change        ", " 50    ", " 25.0 ", " 0.50       "]


def test_plot_is_well_formed_and_has_every_point_within_its_panel() -> None:
    rows = [measurement(name, hosts, 3.0 * hosts) for name in report.GROWING for hosts in (1, 5, 10, 25, 50)]
    drawn = ET.fromstring(report.plot(rows, "hosts & controller"))  # noqa: S314 - our own text
    circles = [element for element in drawn.iter() if element.tag.endswith("circle")]
    assert len(circles) == 2 * len(rows)
    width, height = float(drawn.attrib["width"]), float(drawn.attrib["height"])
    assert all(0 < float(item.attrib["cx"]) < width and 0 < float(item.attrib["cy"]) < height for item in circles)
    words = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert "hosts & controller" in words
    assert {"0", "140", "160"} <= set(words)  # the highest point is at 50 hosts, three seconds each
    assert words.count("50") >= 2


@pytest.mark.parametrize(
    ("hosts", "sizes"), [(50, [1, 10, 20, 19]), (10, [1, 2, 4, 3]), (5, [1, 1, 2, 1]), (1, [1]), (3, [1, 1, 1])]
)
def test_batches_are_those_of_ansible(hosts: int, sizes: list[int]) -> None:
    names = [f"host{number}" for number in range(hosts)]
    made = batches(names)
    assert [len(batch) for batch in made] == sizes
    assert [name for batch in made for name in batch] == names


def test_descendants_and_their_memory_are_found() -> None:
    script = "import subprocess, sys; data = bytearray(b'x' * 30_000_000); subprocess.run(['sleep', '30'])"
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        try:
            found: list[int] = []
            while len(found) < 2:
                assert process.poll() is None
                found = measuring.descendants(process.pid)
            assert found[0] == process.pid
            assert measuring.proportional(process.pid) > 28
            assert measuring.resident(process.pid) > 28
        finally:
            for pid in reversed(measuring.descendants(process.pid)):
                os.kill(pid, 9)
    assert measuring.proportional(process.pid) == 0.0


def test_numbered_hosts_of_a_run() -> None:
    wanted = testbed._wanted(["web[08:11]=trixie", "db1=bookworm"])
    assert wanted == {**{f"web{number}": "trixie" for number in ("08", "09", "10", "11")}, "db1": "bookworm"}
    with pytest.raises(testbed.TestBedError, match=r"web\[1-3\]=trixie"):
        testbed._wanted(["web[1-3]=trixie"])
