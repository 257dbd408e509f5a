# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark of Request Flow reads, and how it compares."""

from __future__ import annotations

import pytest

from ansible_collections.pyfleet.runtime.tests.benchmark import flow
from ansible_collections.pyfleet.runtime.tests.benchmark.loading import Load, Row, memory, parse, table

REPORT = """Running 6s test @ http://10.0.0.1:8100/
  1 threads and 12 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     4.11ms    7.03ms  87.37ms   94.37%
    Req/Sec     2.71k     1.17k    5.68k    68.33%
  Latency Distribution
     50%  812.00us
     75%    3.67ms
     90%    6.72ms
     99%    1.04s
  32381 requests in 12.04s, 6.15MB read
Requests/sec:   2689.15
Transfer/sec:    522.60KB
""".replace("1.04s", "1.04s ")  # wrk fills the column


def test_a_report_is_read_in_milliseconds() -> None:
    assert parse(REPORT) == Load(2689.15, 0.812, 1040.0)


@pytest.mark.parametrize(
    "line",
    ["  Non-2xx or 3xx responses: 3\n", "  Socket errors: connect 0, read 1, write 0, timeout 0\n"],
)
def test_a_figure_of_refused_requests_is_none(line: str) -> None:
    with pytest.raises(ValueError, match="requests failed"):
        parse(REPORT.replace("Requests/sec", f"{line}Requests/sec"))


def test_another_text_is_no_report() -> None:
    with pytest.raises(ValueError, match="did not report"):
        parse("unable to connect to 10.0.0.1:8100 Connection refused\n")


def test_memory_is_the_sum_over_a_hops_processes() -> None:
    assert memory("varnish 1024\nvarnish 2048\ncustom 512\n") == {"varnish": 3.0, "custom": 0.5}
    assert memory("") == {}


def row(title: str, *rates: float, **hops: float) -> Row:
    loads = [Load(rate, 1.0, 9.0) for rate in rates]
    return Row(title, loads, [Load(1.0, 0.5, 0.75)] * len(rates), hops)


def test_a_share_compares_what_ran_side_by_side() -> None:
    assert row("x", 50.0, 200.0, 60.0).share(row("direct", 100.0, 400.0, 100.0)) == pytest.approx(0.5)


def test_the_table_has_a_line_per_way() -> None:
    lines = table([row("direct", 100.0), row("behind", 50.0, varnish=12.4, custom=5.0)])
    assert len(lines) == 4
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == ["direct", "100", "1.00", "9.0", "0.50", "0.75", "–"]  # fmt: skip
    assert [cell.strip() for cell in lines[3].strip("|").split("|")][2] == "0.50"
    assert "varnish 12, custom 5" in lines[3]


def test_applications_of_the_benchmark_have_ports_of_their_own() -> None:
    ports = [
        port
        for deployment in flow.DEPLOYMENTS
        for first in (deployment.port, deployment.port + 1000)
        for base in (first, first + 10000, first + 20000, first + 30000)
        for port in range(base, base + max(1, len(deployment.hops)))
    ]
    assert len(ports) == len(set(ports))
    assert {deployment.name for _, deployment, _ in flow.WAYS} == {deployment.name for deployment in flow.DEPLOYMENTS}
